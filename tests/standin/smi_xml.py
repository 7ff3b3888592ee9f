"""Reads a card from captured `nvidia-smi -q -x`."""

import re
from xml.etree import ElementTree

from tests.standin import NOT_SUPPORTED, Entry
from tests.standin.told import TIMES, Told, entries, is_told, number, pci_ids, processes

_REASONS = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clocks_setting": 0x100,
}
_BOARD_PART = re.compile(r"\d{3}-\w{5}-\d{4}-\d{3}")


def read(text: str) -> tuple[str, dict[str, Entry]]:
    """Driver's version, empty where it is not told, and entries of the first card."""
    root = ElementTree.fromstring(text)  # noqa: S314, a file of this repository
    gpu = root.find("gpu")
    assert gpu is not None

    def look(told: Told) -> str | None:
        found = [gpu.findtext(path) for path in told.xml]
        return next((text.strip() for text in found if text and text.strip()), None)

    card = entries(look)
    if card["pci_address"] == NOT_SUPPORTED:
        card["pci_address"] = gpu.attrib["id"]
    card["pci_device_id"] = pci_ids(gpu.findtext("pci/pci_device_id"))
    card["pci_subsystem_id"] = pci_ids(gpu.findtext("pci/pci_sub_system_id"))
    card["throttle_reasons"] = _reasons(gpu)
    card["mig_devices"] = len(gpu.findall("mig_devices/mig_device"))
    card |= _old_part_number(gpu, card) | _times(gpu) | _ecc(gpu) | processes(_processes(gpu))
    return root.findtext("driver_version", ""), card


def _old_part_number(gpu: ElementTree.Element, card: dict[str, Entry]) -> dict[str, Entry]:
    """The board's part number, which older drivers told under the GPU's name."""
    told = gpu.findtext("gpu_part_number", "")
    is_boards = card["part_number"] == NOT_SUPPORTED and _BOARD_PART.fullmatch(told)
    return {"part_number": told} if is_boards else {}


def _reasons(gpu: ElementTree.Element) -> Entry:
    for word in ("event", "throttle"):
        group = gpu.find(f"clocks_{word}_reasons")
        if group is not None:
            prefix = f"clocks_{word}_reason_"
            return sum(
                bit for name, bit in _REASONS.items() if group.findtext(prefix + name) == "Active"
            )
    return NOT_SUPPORTED


def _times(gpu: ElementTree.Element) -> dict[str, Entry]:
    group = "clocks_event_reasons_counters"
    return {
        field: number(gpu.findtext(f"{group}/{group}_{name}"), 1000.0)
        for field, (name, _) in TIMES.items()
    }


def _ecc(gpu: ElementTree.Element) -> dict[str, Entry]:
    """Counts by place, and their totals, which the XML does not give."""
    counts: dict[str, Entry] = {}
    for life in ("volatile", "aggregate"):
        group = gpu.find(f"ecc_errors/{life}")
        told = [] if group is None else [(e.tag, e.text) for e in group if is_told(e.text)]
        for kind, word in (("corrected", "_correctable"), ("uncorrected", "_uncorrectable")):
            for place, ending in (("sram", "_sram"), ("dram", "_dram"), ("", "")):
                counts[f"ecc_{kind}_{life}{ending}"] = _sum(
                    [number(text) for tag, text in told if tag.startswith(place) and word in tag]
                )
    return counts


def _sum(parts: list[Entry]) -> Entry:
    numbers = [part for part in parts if isinstance(part, int)]
    return sum(numbers) if numbers else NOT_SUPPORTED


def _processes(gpu: ElementTree.Element) -> list[tuple[str, int, str | None]] | None:
    if gpu.find("processes") is None:
        return None
    return [
        (info.findtext("type", ""), int(info.findtext("pid", "0")), info.findtext("used_memory"))
        for info in gpu.findall("processes/process_info")
    ]
