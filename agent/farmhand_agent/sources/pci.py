"""PCI cards as the kernel lists them: where one sits, whether it answers, how good its link is.

All of it works while the card's driver library hangs. What asks the card or its port itself says
so: such a question waits while the card is being reset, so it is not for the agent's own process.
A card that sleeps to save power is not asked at all, because a question would wake it.
"""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from farmhand_agent.reading import Value, clean
from farmhand_agent.sources.base import Fields
from farmhand_agent.sources.sysfs import number, text

_ADDRESS = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2}\.[0-7])")
_ROOT = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")

NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"
_ASLEEP = ("suspended", "suspending")

_GENERATIONS = {2.5: 1.0, 5.0: 2.0, 8.0: 3.0, 16.0: 4.0, 32.0: 5.0, 64.0: 6.0}
"""Generation by gigatransfers per second."""
_WIDTHS = frozenset((1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 32.0))

_COUNT = re.compile(r"^([A-Za-z0-9_]{1,64}) ([0-9]{1,20})$", re.MULTILINE)

ERROR_KINDS = ("correctable", "nonfatal", "fatal")


class Errors(NamedTuple):
    """PCIe errors since boot by kind and name, as the card and the port above it counted them.

    A kind is missing at an end that does not count it, and None where its counters cannot be read.
    """

    card: Mapping[str, Mapping[str, int] | None]
    port: Mapping[str, Mapping[str, int] | None]

    def totals(self) -> Fields:
        """Fields of `card`: both ends together; left out where neither counts, or one is mute."""
        fields: dict[str, Value] = {}
        for kind in ERROR_KINDS:
            ends = [end[kind] for end in (self.card, self.port) if kind in end]
            counted = [sum(counts.values()) for counts in ends if counts is not None]
            if counted and len(counted) == len(ends):
                fields[f"pcie_{kind}_total"] = float(sum(counted))
        return fields


def normal_address(written: str) -> str:
    """Address as the kernel writes it: `0000:0c:00.0` for a driver's `00000000:0C:00.0`.

    Raises:
        ValueError: it is no PCI address.
    """
    match = _ADDRESS.fullmatch(written.strip().lower())
    if match is None:
        raise ValueError(f"{written!r}, expected a PCI address such as 0000:0c:00.0")
    domain, bus, device = match.groups()
    return f"{int(domain, 16):04x}:{bus}:{device}"


def devices(sysfs: Path, vendor: str = NVIDIA, driver: str = "nvidia") -> list[str]:
    """Addresses of a vendor's graphics and compute functions that a driver holds, by address.

    This is the order in which the NVIDIA driver numbers them. Nothing is asked of the cards. An
    empty `driver` lists those that no driver holds.
    """
    found = [
        device.name
        for device in (sysfs / "bus/pci/devices").glob("*")
        if _ADDRESS.fullmatch(device.name)
        and text(device / "vendor") == vendor
        and (text(device / "class") or "").startswith(_DISPLAY_CLASS)
        and _driver(device) == driver
    ]
    return sorted(found, key=lambda address: (len(address), address))


def answers(address: str, sysfs: Path) -> bool | None:
    """Whether a card answers on the bus: one that fell off stays listed, but reads as all ones.

    None where it cannot be told: the card sleeps, or may not be asked. Asks the card.
    """
    device = sysfs / "bus/pci/devices" / address
    if not device.exists():
        return False
    if text(device / "power/runtime_status") in _ASLEEP:
        return None
    try:
        told = _vendor_on_the_bus(device)
    except OSError as error:
        return False if error.errno in (errno.EIO, errno.ENODEV, errno.ENXIO) else None
    return told == text(device / "vendor")


def link(address: str, sysfs: Path) -> Fields:
    """Fields `pcie_generation` and `pcie_width` of `card`, for when its library does not tell.

    Asks the card; empty where it does not answer.
    """
    if answers(address, sysfs) is not True:
        return {}
    device = sysfs / "bus/pci/devices" / address
    return _given(
        pcie_generation=_generation(device / "current_link_speed"),
        pcie_width=_width(device / "current_link_width"),
    )


def errors(address: str, sysfs: Path) -> Errors:
    """PCIe errors of a card and of the port above it; the kernel counts, nothing asks the card."""
    way = _way(address, sysfs)
    ends = [_errors(sysfs / "bus/pci/devices" / end) for end in reversed(way[-2:])]
    return Errors(*ends, *[{}] * (2 - len(ends)))


def facts(address: str, sysfs: Path) -> Fields:
    """Fields of `card_info` about the place of a card; what is not known is left out.

    Asks the port above the card for its limits, unless it sleeps.
    """
    way = _way(address, sysfs)
    fields: dict[str, Value] = {}
    label = _label(way, _slot_labels(sysfs))
    if label is not None:
        fields["slot_label"] = label[0]
    if len(way) > 1:
        fields["root_port"] = _below_root(address, sysfs)[0]
        fields |= _port_limits(sysfs / "bus/pci/devices" / way[-2])
    node = number(sysfs / "bus/pci/devices" / address / "numa_node")
    if node is not None and node >= 0:
        fields["numa_node"] = node
    return fields


def slot_of(address: str, sysfs: Path) -> str:
    """Physical place of the card at `address`.

    The label that the firmware gives to the slot; below it the way through switches on a riser or
    board, where there are any. Without a label, the root bus and the device numbers from the root
    port down, such as `0000:00/01.0/00.0`: bus numbers below the root are handed out anew when a
    neighbour appears or vanishes, so none is part of the name. The address itself where the kernel
    does not list the card.
    """
    way = _way(address, sysfs)
    if not way:
        return address
    label = _label(way, _slot_labels(sysfs))
    if label is not None:
        name, depth = label
        return "/".join([name, *_numbers(way[depth:])])
    return "/".join([_root_bus(way[0]), *_numbers(way)])


# --- the way to a card ---------------------------------------------------------------------------


def _path(address: str, sysfs: Path) -> tuple[str, ...]:
    """Parts of the card's place in the tree of devices; empty where it is not listed."""
    try:
        return (sysfs / "bus/pci/devices" / address).resolve(strict=True).parts
    except (OSError, RuntimeError):
        return ()


def _way(address: str, sysfs: Path) -> list[str]:
    """Addresses from the root down to the card."""
    return [part for part in _path(address, sysfs) if _ADDRESS.fullmatch(part)]


def _below_root(address: str, sysfs: Path) -> list[str]:
    """Addresses from the root port down: the last root counts where one hangs on another."""
    way: list[str] = []
    for part in _path(address, sysfs):
        if _ROOT.fullmatch(part):
            way = []
        elif _ADDRESS.fullmatch(part):
            way.append(part)
    return way


def _label(way: list[str], labels: Mapping[str, str]) -> tuple[str, int] | None:
    """Label of the slot that the card is in, and how far down the way it is."""
    for depth in range(len(way), 0, -1):
        name = labels.get(_without_function(way[depth - 1]))
        if name:
            return name, depth
    return None


def _slot_labels(sysfs: Path) -> dict[str, str]:
    """Label by PCI address without the function."""
    labels: dict[str, str] = {}
    for slot in sorted((sysfs / "bus/pci/slots").glob("*/address")):
        labels.setdefault(text(slot) or "", clean(slot.parent.name))
    return labels


def _without_function(address: str) -> str:
    return address.rpartition(".")[0]


def _numbers(way: list[str]) -> list[str]:
    """Device and function of each step."""
    return [address.rpartition(":")[2] for address in way]


def _root_bus(address: str) -> str:
    return address.rpartition(":")[0]


# --- one function --------------------------------------------------------------------------------


def _driver(device: Path) -> str:
    try:
        return (device / "driver").readlink().name
    except OSError:
        return ""


def _vendor_on_the_bus(device: Path) -> str:
    """Vendor as the card itself says it now.

    Raises:
        OSError: it cannot be asked.
    """
    descriptor = os.open(device / "config", os.O_RDONLY)
    try:
        return f"0x{int.from_bytes(os.read(descriptor, 2), 'little'):04x}"
    finally:
        os.close(descriptor)


def _port_limits(port: Path) -> dict[str, Value]:
    if text(port / "power/runtime_status") in _ASLEEP:
        return {}
    return _given(
        pcie_generation_max_slot=_generation(port / "max_link_speed"),
        pcie_width_max_slot=_width(port / "max_link_width"),
    )


def _generation(path: Path) -> float | None:
    """Generation of a speed such as `16.0 GT/s PCIe`."""
    words = (text(path) or "").split()
    try:
        return _GENERATIONS.get(float(words[0])) if words[1:2] == ["GT/s"] else None
    except (IndexError, ValueError):
        return None


def _width(path: Path) -> float | None:
    """Lanes; 0 is no link, 63 and 255 are what cannot be told."""
    lanes = number(path)
    return lanes if lanes in _WIDTHS else None


def _given(**values: float | None) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None}


def _errors(device: Path) -> dict[str, dict[str, int] | None]:
    """Counts by kind of the kinds that a function counts; None where a file cannot be read."""
    found: dict[str, dict[str, int] | None] = {}
    for kind in ERROR_KINDS:
        path = device / f"aer_dev_{kind}"
        content = text(path)
        if content is not None:
            found[kind] = _counts(content)
        elif path.exists():
            found[kind] = None
    return found


def _counts(content: str) -> dict[str, int]:
    """Counts by name, without their total."""
    pairs = _COUNT.findall(content)
    return {name: int(count) for name, count in pairs if not name.startswith("TOTAL_")}
