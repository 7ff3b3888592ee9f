"""Captured `nvidia-smi` output of real cards, turned into states of the stand-in.

What a capture marks as not available is not supported; what it does not tell is not supported
either. A call that is newer than the capture's driver is missing.
"""

import csv
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.standin import DEPRECATED, MISSING, NOT_SUPPORTED, Counter, Entries, Entry, State

DIRECTORY = Path(__file__).parents[1] / "data" / "captures"

MODELS = {
    "GTX 1070 Ti": "gtx-1070-ti.xml",
    "RTX 2080 SUPER": "rtx-2080-super.txt",
    "RTX 3060": "rtx-3060.xml",
    "RTX 3080": "rtx-3080.xml",
    "RTX 3090": "rtx-3090.xml",
    "RTX 4080 SUPER": "rtx-4080-super.txt",
    "T4": "t4.xml",
    "A10G": "a10g.xml",
    "A100 MIG": "a100-mig.xml",
    "L40S": "l40s.txt",
    "H100": "h100.txt",
    "H100 MIG": "h100-mig.txt",
    "H200": "h200.txt",
}
"""Capture of each card model."""

_MIB = 1024.0 * 1024.0
_NOT_TOLD = re.compile(r"\[?(N/A|REDACTED|Unknown Error|)\]?")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


class Told(NamedTuple):
    """Where a capture tells the value of a key: paths in the XML, name in the CSV."""

    key: str
    paths: tuple[str, ...]
    column: str
    scale: float = 1.0


_TEXTS = (
    Told("name", ("product_name",), "name"),
    Told("uuid", ("uuid",), "uuid"),
    Told("serial", ("serial",), "serial"),
    Told("vbios", ("vbios_version",), "vbios_version"),
    Told("pci_address", ("pci/pci_bus_id",), "pci.bus_id"),
)
_POWER = ("gpu_power_readings", "power_readings")


def _power(*names: str) -> tuple[str, ...]:
    return tuple(f"{group}/{name}" for name in names for group in _POWER)


_NUMBERS = (
    Told("utilization", ("utilization/gpu_util",), "utilization.gpu [%]"),
    Told("memory_utilization", ("utilization/memory_util",), "utilization.memory [%]"),
    Told("clock_graphics", ("clocks/graphics_clock",), "clocks.current.graphics [MHz]"),
    Told("clock_sm", ("clocks/sm_clock",), "clocks.current.sm [MHz]"),
    Told("clock_memory", ("clocks/mem_clock",), "clocks.current.memory [MHz]"),
    Told("clock_max_graphics", ("max_clocks/graphics_clock",), "clocks.max.graphics [MHz]"),
    Told("clock_max_sm", ("max_clocks/sm_clock",), "clocks.max.sm [MHz]"),
    Told("clock_max_memory", ("max_clocks/mem_clock",), "clocks.max.memory [MHz]"),
    Told("power_usage", _power("average_power_draw", "power_draw"), "power.draw [W]", 1000.0),
    Told("field_186", _power("instant_power_draw"), "power.draw.instant [W]", 1000.0),
    Told(
        "power_limit_enforced",
        _power("enforced_power_limit", "current_power_limit"),
        "enforced.power.limit [W]",
        1000.0,
    ),
    Told("power_limit_default", _power("default_power_limit"), "power.default_limit [W]", 1000.0),
    Told("temperature", ("temperature/gpu_temp",), "temperature.gpu"),
    Told("field_82", ("temperature/memory_temp",), "temperature.memory"),
    Told("memory_total", ("fb_memory_usage/total",), "memory.total [MiB]", _MIB),
    Told("memory_used", ("fb_memory_usage/used",), "memory.used [MiB]", _MIB),
    Told("memory_reserved", ("fb_memory_usage/reserved",), "memory.reserved [MiB]", _MIB),
    Told("bar1_total", ("bar1_memory_usage/total",), "bar1.total", _MIB),
    Told("fan", ("fan_speed",), "fan.speed [%]"),
    Told(
        "pcie_generation",
        ("pci/pci_gpu_link_info/pcie_gen/current_link_gen",),
        "pcie.link.gen.current",
    ),
    Told(
        "pcie_generation_max",
        ("pci/pci_gpu_link_info/pcie_gen/max_link_gen",),
        "pcie.link.gen.max",
    ),
    Told(
        "pcie_width",
        ("pci/pci_gpu_link_info/link_widths/current_link_width",),
        "pcie.link.width.current",
    ),
    Told(
        "pcie_width_max",
        ("pci/pci_gpu_link_info/link_widths/max_link_width",),
        "pcie.link.width.max",
    ),
    Told("pcie_replay", ("pci/replay_counter",), "pcie.replay"),
    Told(
        "remapped_correctable",
        ("remapped_rows/remapped_row_corr",),
        "remapped_rows.correctable",
    ),
    Told(
        "remapped_uncorrectable",
        ("remapped_rows/remapped_row_unc",),
        "remapped_rows.uncorrectable",
    ),
    Told("remap_pending", ("remapped_rows/remapped_row_pending",), "remapped_rows.pending"),
    Told("remap_failed", ("remapped_rows/remapped_row_failure",), "remapped_rows.failure"),
    Told(
        "field_29",
        ("retired_pages/multiple_single_bit_retirement/retired_count",),
        "retired_pages.single_bit_ecc.count",
    ),
    Told(
        "field_30",
        ("retired_pages/double_bit_retirement/retired_count",),
        "retired_pages.double_bit.count",
    ),
)

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
_TIMES = {
    "field_74": ("sw_power_cap", "sw_power_cap"),
    "field_269": ("sw_therm_slowdown", "sw_thermal_slowdown"),
    "field_270": ("hw_therm_slowdown", "hw_thermal_slowdown"),
    "field_271": ("hw_power_brake", "hw_power_brake_slowdown"),
}
"""Time counters by the names that the XML and the CSV give them."""


class Capture(NamedTuple):
    """A captured card: the driver's version, empty where it is not told, and the entries."""

    driver: str
    entries: Entries


def read(name: str) -> Capture:
    """First card of the capture file `name`."""
    path = DIRECTORY / name
    text = path.read_text(encoding="utf-8")
    return _read_xml(text) if path.suffix == ".xml" else _read_sections(text)


def capture_state(path: Path, model: str) -> State:
    """State with the captured card of one model; `path` is where it will be written."""
    capture = read(MODELS[model])
    return State(path, capture.driver or NOT_SUPPORTED, cards=[dict(capture.entries)])


def farm_state(path: Path, cards: Sequence[str | tuple[str, Entries]]) -> State:
    """State of a working node: captured models, each with an identity and a place of its own.

    A card is a model of `MODELS`, or a model and the entries that differ. Energy and throttle time
    are counters that grow, so that a live agent sees them move. All share one driver.
    """
    state = State(path)
    for index, card in enumerate(cards):
        model, changes = (card, {}) if isinstance(card, str) else card
        state.cards.append(_place(dict(read(MODELS[model]).entries), index) | dict(changes))
    return state


def _place(entries: dict[str, Entry], index: int) -> dict[str, Entry]:
    """Entries of the card at `index` of a farm."""
    power = next((e for k in ("field_186", "power_usage") if isinstance(e := entries[k], int)), 0)
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"farmhand stand-in card {index}")
    return (
        entries
        | _newer_calls(580, entries)
        | {
            "uuid": f"GPU-{identity}",
            "pci_address": f"00000000:{index + 1:02X}:00.0",
            "event_reasons": 0,
            "field_83": Counter.growing(power),
            **{field: Counter.growing(0.0) for field in _TIMES},
        }
    )


# --- one value -----------------------------------------------------------------------------------


def _entry(text: str | None, scale: float = 1.0) -> Entry:
    """Entry for what a capture says, such as `27.23 W`, `16x`, `No` or `[N/A]`."""
    if text is None or _NOT_TOLD.fullmatch(text):
        return NOT_SUPPORTED
    if "deprecated" in text:
        return DEPRECATED
    if text in ("Yes", "No"):
        return int(text == "Yes")
    number = _NUMBER.match(text)
    assert number is not None, f"{text!r} is no value of a capture"
    return round(float(number.group()) * scale)


def _text_entry(text: str | None) -> Entry:
    return NOT_SUPPORTED if text is None or _NOT_TOLD.fullmatch(text) else text


def _id_entry(text: str | None) -> Entry:
    """PCI device and vendor; a capture may hide them."""
    word = 0 if text is None or "REDACTED" in text else int(text, 16)
    return word if word >> 16 else 0


def _newer_calls(branch: int, entries: Entries) -> dict[str, Entry]:
    """Answers of calls that drivers before some branch do not have."""
    reasons = entries["throttle_reasons"]
    return {
        "memory_v2": MISSING if branch < 510 else 0,
        "event_reasons": MISSING if branch < 535 else reasons,
        "temperature_v": MISSING if branch < 570 else entries["temperature"],
    }


def _branch(driver: str) -> int:
    return int(driver.partition(".")[0] or 0)


def _finished(driver: str, entries: dict[str, Entry]) -> Capture:
    fan = entries["fan"]
    if isinstance(fan, int):
        entries |= {"fans": 1, "fan_0": fan}
    return Capture(driver, entries | _newer_calls(_branch(driver), entries))


# --- XML -----------------------------------------------------------------------------------------


def _read_xml(text: str) -> Capture:
    root = ElementTree.fromstring(text)  # noqa: S314, a file of this repository
    gpu = root.find("gpu")
    assert gpu is not None

    def first(paths: tuple[str, ...]) -> str | None:
        found = [gpu.findtext(path) for path in paths]
        return next((text.strip() for text in found if text), None)

    entries: dict[str, Entry] = {t.key: _text_entry(first(t.paths)) for t in _TEXTS}
    entries |= {t.key: _entry(first(t.paths), t.scale) for t in _NUMBERS}
    if entries["pci_address"] == NOT_SUPPORTED:
        entries["pci_address"] = gpu.attrib["id"]
    entries["pci_device_id"] = _id_entry(gpu.findtext("pci/pci_device_id"))
    entries["pci_subsystem_id"] = _id_entry(gpu.findtext("pci/pci_sub_system_id"))
    entries["throttle_reasons"] = _xml_reasons(gpu)
    entries |= _xml_times(gpu) | _xml_ecc(gpu) | _xml_mig(gpu)
    return _finished(root.findtext("driver_version", ""), entries)


def _xml_reasons(gpu: ElementTree.Element) -> Entry:
    for word in ("event", "throttle"):
        group = gpu.find(f"clocks_{word}_reasons")
        if group is not None:
            prefix = f"clocks_{word}_reason_"
            return sum(
                bit for name, bit in _REASONS.items() if group.findtext(prefix + name) == "Active"
            )
    return NOT_SUPPORTED


def _xml_times(gpu: ElementTree.Element) -> dict[str, Entry]:
    group = "clocks_event_reasons_counters"
    return {
        field: _entry(gpu.findtext(f"{group}/{group}_{name}"), 1000.0)
        for field, (name, _) in _TIMES.items()
    }


def _xml_ecc(gpu: ElementTree.Element) -> dict[str, Entry]:
    """Totals, which the XML does not give, as the sums of their parts."""
    sums: dict[str, Entry] = {}
    for life in ("volatile", "aggregate"):
        group = gpu.find(f"ecc_errors/{life}")
        for kind, word in (("corrected", "_correctable"), ("uncorrected", "_uncorrectable")):
            parts = [] if group is None else [_entry(e.text) for e in group if word in e.tag]
            numbers = [part for part in parts if isinstance(part, int)]
            sums[f"ecc_{kind}_{life}"] = sum(numbers) if numbers else NOT_SUPPORTED
    return sums


def _xml_mig(gpu: ElementTree.Element) -> dict[str, Entry]:
    return _mig(gpu.findtext("mig_mode/current_mig"), len(gpu.findall("mig_devices/mig_device")))


def _mig(mode: str | None, devices: int) -> dict[str, Entry]:
    if mode is None or _NOT_TOLD.fullmatch(mode):
        return {"mig_devices_max": NOT_SUPPORTED}
    return {"mig_devices_max": 7 if mode == "Enabled" else 0, "mig_devices": devices}


# --- text with sections --------------------------------------------------------------------------


def _read_sections(text: str) -> Capture:
    report = _section(text, "# load :: query (-q)")
    rows = list(
        csv.reader(_section(text, "# load :: query-gpu").splitlines(), skipinitialspace=True)
    )
    told = dict(zip(*rows, strict=True))
    told["bar1.total"] = _report_value(report, r"    BAR1 Memory Usage\n +Total")
    told["pcie.replay"] = _report_value(report, r"        Replays Since Reset")
    entries: dict[str, Entry] = {t.key: _text_entry(told[t.column]) for t in _TEXTS}
    entries |= {t.key: _entry(told[t.column], t.scale) for t in _NUMBERS}
    entries["pci_device_id"] = _id_entry(told["pci.device_id"])
    entries["pci_subsystem_id"] = _id_entry(told["pci.sub_device_id"])
    entries["throttle_reasons"] = int(told["clocks_event_reasons.active"], 16)
    for field, (_, name) in _TIMES.items():
        entries[field] = _entry(told[f"clocks_event_reasons_counters.{name} [us]"], 1000.0)
    for kind in ("corrected", "uncorrected"):
        for life in ("volatile", "aggregate"):
            entries[f"ecc_{kind}_{life}"] = _entry(told[f"ecc.errors.{kind}.{life}.total"])
    entries |= _mig(told["mig.mode.current"], report.count("\n    MIG Device\n"))
    return _finished(told["driver_version"], entries)


def _section(text: str, title: str) -> str:
    """Text under a title, up to the next."""
    parts = text.split("#" * 80 + "\n")
    place = next(index for index, part in enumerate(parts) if part.startswith(title))
    return parts[place + 1].strip()


def _report_value(report: str, label: str) -> str:
    match = re.search(label + r" +: (.*)", report)
    assert match is not None, f"the report does not tell {label!r}"
    return match.group(1).strip()
