"""Captured `nvidia-smi` output of real cards, turned into states of the stand-in.

What a capture marks as not available is not supported; what it does not tell is not supported
either. A call that is newer than the capture's driver is missing.
"""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.standin import MISSING, NOT_SUPPORTED, Counter, Entries, Entry, State, smi_text, smi_xml
from tests.standin.told import SAME, TIMES

DIRECTORY = Path(__file__).parents[1] / "data" / "captures"

MODELS = {
    "GTX 1070 Ti": "gtx-1070-ti.xml",
    "GTX 1660 Ti": "gtx-1660-ti.xml",
    "Quadro P400": "quadro-p400.xml",
    "Quadro P2000": "quadro-p2000.xml",
    "RTX 2080 SUPER": "rtx-2080-super.txt",
    "RTX 3060": "rtx-3060.xml",
    "RTX 3080": "rtx-3080.xml",
    "RTX 3090": "rtx-3090.xml",
    "RTX 4000 SFF Ada": "rtx-4000-sff-ada.xml",
    "RTX 4080 SUPER": "rtx-4080-super.txt",
    "T4": "t4.xml",
    "A10G": "a10g.xml",
    "A100 MIG": "a100-mig.xml",
    "L40S": "l40s.txt",
    "H100": "h100.txt",
    "H100 MIG": "h100-mig.txt",
    "H200": "h200.txt",
    "H200 MIG": "h200-mig.txt",
}
"""Capture of each card model."""

SINCE = {
    "memory_v2": 510,
    "compute_processes": 510,
    "graphics_processes": 510,
    "mps_processes": 510,
    "event_reasons": 535,
    "sram_threshold_exceeded": 550,
    "clock_offset_graphics": 555,
    "clock_offset_sm": 555,
    "clock_offset_memory": 555,
    "fan_rpm_0": 565,
    "temperature_v": 570,
    "temperature_margin": 570,
    "channel_repair_pending": 580,
    "memory_unrepairable": 590,
    "power_on_seconds": 595,
    "remapped_rows_v2": 595,
}
"""First branch of the driver whose library has the call behind a key."""

FIELD_SINCE = {
    **dict.fromkeys(("field_185", "field_186"), 535),
    **{f"field_{field}_{domain}": 535 for field in (185, 186) for domain in (1, 2)},
    **dict.fromkeys([f"field_{field}" for field in (*range(187, 191), *range(192, 197))], 535),
    "field_230": 565,
    "field_301": 580,
    "field_302": 580,
}
"""First branch whose library knows a field value."""

_GATES = {"memory_v2": 0, "remapped_rows_v2": 0}
_MIG_DEVICES_MAX = 7


class Capture(NamedTuple):
    """A captured card: the driver's version, empty where it is not told, and the entries.

    The entries are what is told of the card, whatever calls that driver has.
    """

    driver: str
    entries: Entries


def read(name: str) -> Capture:
    """First card of the capture file `name`."""
    path = DIRECTORY / name
    reader = smi_xml if path.suffix == ".xml" else smi_text
    driver, entries = reader.read(path.read_text(encoding="utf-8"))
    same = {key: entries.get(other, NOT_SUPPORTED) for key, other in SAME.items()}
    return Capture(driver, entries | same | _fans(entries) | _mig(entries) | _GATES)


def capture_state(path: Path, model: str) -> State:
    """State with the captured card of one model; `path` is where it will be written."""
    capture = read(MODELS[model])
    card = for_branch(_branch(capture.driver), capture.entries)
    return State(path, capture.driver or NOT_SUPPORTED, cards=[card])


def for_branch(branch: int, entries: Entries) -> dict[str, Entry]:
    """Entries as a driver of a branch answers them: what is newer than it is missing."""
    unknown = {key: NOT_SUPPORTED for key, since in FIELD_SINCE.items() if branch < since}
    missing = {key: MISSING for key, since in SINCE.items() if branch < since}
    return {**entries, **unknown, **missing}


def _branch(driver: str) -> int:
    return int(driver.partition(".")[0] or 0)


def _fans(entries: Entries) -> dict[str, Entry]:
    fan = entries["fan"]
    return {"fans": 1, "fan_0": fan} if isinstance(fan, int) else {}


def _mig(entries: Entries) -> dict[str, Entry]:
    mode = entries["mig_mode"]
    if not isinstance(mode, int):
        return {"mig_devices_max": NOT_SUPPORTED, "mig_devices": NOT_SUPPORTED}
    return {"mig_devices_max": _MIG_DEVICES_MAX * mode}


# --- a farm --------------------------------------------------------------------------------------

FARM_DRIVER = "580.95.05"

_BUSY: Mapping[str, Entry] = {
    "gpm": 1,
    "gpm_2": 96,
    "gpm_3": 41,
    "gpm_5": 38,
    "gpm_10": 33,
    "gpm_12": 7,
    "gpm_13": 12,
    "gpm_20": 1200,
    "gpm_21": 850,
}
"""GPM metrics in percent; traffic over PCIe, 20 and 21, in MiB a second."""

_EVENTS = 0x1C
"""Events that every card tells: states, XIDs, clocks."""
_ECC_EVENTS = 0x3

_NOT_OVERCLOCKED: Mapping[str, Entry] = {
    **{f"clock_offset_{clock}": 0 for clock in ("graphics", "memory")},
    **{f"clock_offset_{clock}_min": -1000 for clock in ("graphics", "memory")},
    **{f"clock_offset_{clock}_max": 1000 for clock in ("graphics", "memory")},
}
_GEFORCE = 5
_HOPPER = 9
_PCIE_BYTES_PER_SECOND = 2.5e8
_PCIE_ERRORS = (169, *range(173, 184))
_LINK_ERRORS = (161, 162, 163)


def farm_state(
    path: Path, cards: Sequence[str | tuple[str, Entries]], driver: str = FARM_DRIVER
) -> State:
    """State of a working node: captured models, each with an identity and a place of its own.

    A card is a model of `MODELS`, or a model and the entries that differ. Counters of energy,
    throttle time and traffic grow, so that a live agent sees them move; cards that have them tell
    GPM metrics and error counts of their links. All share one driver.
    """
    state = State(path, driver)
    for index, card in enumerate(cards):
        model, changes = (card, {}) if isinstance(card, str) else card
        placed = _place(read(MODELS[model]).entries, index)
        state.cards.append(for_branch(_branch(driver), placed) | dict(changes))
    return state


def _place(entries: Entries, index: int) -> dict[str, Entry]:
    """Entries of the card at `index` of a farm."""
    power = next((e for k in ("field_186", "power_usage") if isinstance(e := entries[k], int)), 0)
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"farmhand stand-in card {index}")
    return {
        **entries,
        **_monitored(entries),
        "uuid": f"GPU-{identity}",
        "pci_address": f"00000000:{index + 1:02X}:00.0",
        "minor_number": index,
        "event_reasons": 0,
        "field_83": Counter.growing(power),
        "field_197": Counter.growing(_PCIE_BYTES_PER_SECOND),
        "field_198": Counter.growing(_PCIE_BYTES_PER_SECOND),
        **{field: Counter.growing(0.0) for field in TIMES},
    }


def _monitored(entries: Entries) -> Mapping[str, Entry]:
    """What a sound card tells in a farm beyond its capture."""
    has_ecc = entries["ecc_mode"] == 1
    is_whole_hopper = entries["architecture"] == _HOPPER and entries["mig_mode"] != 1
    links = [key.removeprefix("nvlink_") for key in entries if key.startswith("nvlink_")]
    return {
        "supported_events": _EVENTS | (_ECC_EVENTS if has_ecc else 0),
        **({f"field_{field}": 0 for field in _PCIE_ERRORS} if has_ecc else {}),
        **{f"field_{field}_{link}": 0 for field in _LINK_ERRORS for link in links},
        **(_BUSY if is_whole_hopper else {}),
        **(_NOT_OVERCLOCKED if entries["brand"] == _GEFORCE else {}),
    }
