"""Reads a card from a captured collection of `nvidia-smi` output, a text with sections."""

import csv
import re
from collections.abc import Mapping

from tests.standin import Entry
from tests.standin.told import TIMES, Told, entries, number, pci_ids, processes

_BAR = "#" * 80 + "\n"
_ECC_PLACES = {
    "l1": ("l1_cache",),
    "l2": ("l2_cache",),
    "dram": ("dram", "device_memory"),
    "registers": ("register_file",),
    "texture": ("texture_memory",),
    "cbu": ("cbu",),
    "sram": ("sram",),
}
_LINK = re.compile(r"^\s+Link (\d+): ([0-9.]+) GB/s$", re.MULTILINE)
_PROCESS = re.compile(r"Process ID +: (\d+)\n +Type +: (\S+)\n +Used GPU Memory +: (.*)")


def read(text: str) -> tuple[str, dict[str, Entry]]:
    """Driver's version and entries of the first card."""
    report_text = _section(text, "# load :: query (-q)")
    report = _report(report_text)
    table = _section(text, "# load :: query-gpu").splitlines()
    columns = dict(zip(*csv.reader(table, skipinitialspace=True), strict=True))

    def look(told: Told) -> str | None:
        found = [columns.get(told.column), *(report.get(path) for path in told.report)]
        return next((text for text in found if text is not None), None)

    card = entries(look)
    card["pci_device_id"] = pci_ids(columns["pci.device_id"])
    card["pci_subsystem_id"] = pci_ids(columns["pci.sub_device_id"])
    card["throttle_reasons"] = int(columns["clocks_event_reasons.active"], 16)
    card["mig_devices"] = report_text.count("\n    MIG Device\n")
    for field, (_, name) in TIMES.items():
        card[field] = number(columns[f"clocks_event_reasons_counters.{name} [us]"], 1000.0)
    card |= _ecc(columns) | _links(_section(text, "# capabilities :: nvlink -s"))
    return columns["driver_version"], card | processes(_processes(report, report_text))


def _section(text: str, title: str) -> str:
    """Text under a title, up to the next."""
    parts = text.split(_BAR)
    place = next(index for index, part in enumerate(parts) if part.startswith(title))
    return parts[place + 1].strip()


def _report(text: str) -> dict[str, str]:
    """Values of the indented report by their path, such as `Temperature/GPU Current Temp`."""
    values: dict[str, str] = {}
    path: list[str] = []
    for line in text.splitlines():
        label, colon, value = line.partition(" : ")
        # The card's own values are indented by one step.
        depth = (len(line) - len(line.lstrip())) // 4 - 1
        if not line.strip() or depth < 0:
            continue
        path = [*path[:depth], label.strip()]
        if colon:
            values.setdefault("/".join(path), value.strip())
    return values


def _ecc(columns: Mapping[str, str]) -> dict[str, Entry]:
    counts: dict[str, Entry] = {}
    for kind in ("corrected", "uncorrected"):
        for life in ("volatile", "aggregate"):
            prefix = f"ecc.errors.{kind}.{life}"
            counts[f"ecc_{kind}_{life}"] = number(columns[f"{prefix}.total"])
            for place, names in _ECC_PLACES.items():
                told = [number(columns.get(f"{prefix}.{name}")) for name in names]
                counts[f"ecc_{kind}_{life}_{place}"] = next(
                    (count for count in told if isinstance(count, int)), told[0]
                )
    return counts


def _links(told: str) -> dict[str, Entry]:
    """States and speeds of the links; a list is only given where some are up."""
    if "all links are inActive" in told:
        return {"nvlink_0": 0}
    links = {int(link): float(speed) for link, speed in _LINK.findall(told)}
    speeds: dict[str, Entry] = {f"field_164_{n}": round(links[n] * 1000) for n in links}
    up: dict[str, Entry] = {f"nvlink_{link}": 1 for link in links}
    return up | speeds | ({"field_91": len(links)} if links else {})


def _processes(report: Mapping[str, str], text: str) -> list[tuple[str, int, str | None]] | None:
    found = _PROCESS.findall(text)
    if not found and report.get("Processes") != "None":
        return None
    return [(kind, int(pid), used) for pid, kind, used in found]
