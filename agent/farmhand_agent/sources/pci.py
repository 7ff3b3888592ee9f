"""Where a PCI card sits, named so that the name survives a reboot and a neighbour's loss."""

import re
from pathlib import Path

_ADDRESS = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2}\.[0-7])")


def normal_address(text: str) -> str:
    """Address as the kernel writes it: `0000:0c:00.0` for a driver's `00000000:0C:00.0`.

    Raises:
        ValueError: it is no PCI address.
    """
    match = _ADDRESS.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r}, expected a PCI address such as 0000:0c:00.0")
    domain, bus, device = match.groups()
    return f"{int(domain, 16):04x}:{bus}:{device}"


def slot_of(address: str, sysfs: Path) -> str:
    """Physical place of the card at `address`.

    The label that the firmware gives to the slot; below it the way through switches on a riser or
    board, where there are any. Without a label, the root bus and the device numbers from the root
    port down, such as `0000:00/01.0/00.0`: bus numbers below the root are handed out anew when a
    neighbour appears or vanishes, so none is part of the name. The address itself where the kernel
    does not list the card.
    """
    device = sysfs / "bus/pci/devices" / address
    if not device.exists():
        return address
    way = [part for part in device.resolve().parts if _ADDRESS.fullmatch(part)]
    labels = _slot_labels(sysfs)
    for depth in range(len(way), 0, -1):
        label = labels.get(_without_function(way[depth - 1]))
        if label:
            return "/".join([label, *_numbers(way[depth:])])
    return "/".join([_root_bus(way[0]), *_numbers(way)])


def _slot_labels(sysfs: Path) -> dict[str, str]:
    """Label by PCI address without the function."""
    labels: dict[str, str] = {}
    for slot in sorted((sysfs / "bus/pci/slots").glob("*/address")):
        labels.setdefault(
            slot.read_text(encoding="ascii", errors="replace").strip(), slot.parent.name
        )
    return labels


def _without_function(address: str) -> str:
    return address.rpartition(".")[0]


def _numbers(way: list[str]) -> list[str]:
    """Device and function of each step."""
    return [address.rpartition(":")[2] for address in way]


def _root_bus(address: str) -> str:
    return address.rpartition(":")[0]
