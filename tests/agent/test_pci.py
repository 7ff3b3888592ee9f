from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.sources.pci import normal_address, slot_of


def add_device(sysfs: Path, *way: str) -> None:
    """Put a device into a sysfs tree, below the bridges of its way: root bus first."""
    root, *steps = way
    real = sysfs.joinpath(f"devices/pci{root}", *steps)
    real.mkdir(parents=True)
    links = sysfs / "bus/pci/devices"
    links.mkdir(parents=True, exist_ok=True)
    (links / steps[-1]).symlink_to(real)


def add_slot(sysfs: Path, label: str, address: str) -> None:
    """Give a slot label to an address without its function, as the firmware does."""
    slot = sysfs / "bus/pci/slots" / label
    slot.mkdir(parents=True)
    (slot / "address").write_text(address + "\n")


def test_the_firmwares_slot_label_names_the_place(tmp_path: Path) -> None:
    """A card in a labelled slot is named by the label alone."""
    add_device(tmp_path, "0000:00", "0000:00:01.0", "0000:0c:00.0")
    add_slot(tmp_path, "PCIE4", "0000:0c:00")
    assert slot_of("0000:0c:00.0", tmp_path) == "PCIE4"


def test_two_cards_behind_a_switch_in_one_slot_differ(tmp_path: Path) -> None:
    """Below a labelled slot the way through the switch tells cards apart."""
    switch = ("0000:00", "0000:00:03.1", "0000:21:00.0")
    add_device(tmp_path, *switch, "0000:22:08.0", "0000:23:00.0")
    add_device(tmp_path, *switch, "0000:22:10.0", "0000:24:00.0")
    add_slot(tmp_path, "3", "0000:21:00")
    assert slot_of("0000:23:00.0", tmp_path) == "3/08.0/00.0"
    assert slot_of("0000:24:00.0", tmp_path) == "3/10.0/00.0"


def test_without_a_label_the_bridge_chain_names_the_place(tmp_path: Path) -> None:
    """Root bus, root port and device numbers make the name."""
    add_device(tmp_path, "0000:40", "0000:40:01.1", "0000:41:00.0")
    assert slot_of("0000:41:00.0", tmp_path) == "0000:40/01.1/00.0"


def test_the_name_survives_new_bus_numbers(tmp_path: Path) -> None:
    """A card keeps its name when a neighbour vanishes and buses are numbered anew."""
    before, after = tmp_path / "before", tmp_path / "after"
    add_device(before, "0000:00", "0000:00:02.0", "0000:05:00.0")
    add_device(after, "0000:00", "0000:00:02.0", "0000:04:00.0")
    assert slot_of("0000:05:00.0", before) == slot_of("0000:04:00.0", after)


def test_same_port_numbers_under_two_root_buses_differ(tmp_path: Path) -> None:
    """Hosts with several root buses repeat port numbers under each."""
    add_device(tmp_path, "0000:00", "0000:00:01.1", "0000:01:00.0")
    add_device(tmp_path, "0000:80", "0000:80:01.1", "0000:81:00.0")
    assert slot_of("0000:01:00.0", tmp_path) != slot_of("0000:81:00.0", tmp_path)


def test_a_label_of_another_slot_names_nothing_else(tmp_path: Path) -> None:
    """A label is used only for what sits in its slot."""
    add_device(tmp_path, "0000:00", "0000:00:01.0", "0000:0c:00.0")
    add_slot(tmp_path, "PCIE5", "0000:0d:00")
    assert slot_of("0000:0c:00.0", tmp_path) == "0000:00/01.0/00.0"


def test_an_unlisted_card_is_named_by_its_address(tmp_path: Path) -> None:
    """Where the kernel lists nothing, the address is all there is."""
    assert slot_of("0000:0c:00.0", tmp_path) == "0000:0c:00.0"


@given(domain=st.integers(0, 0xFFFF_FFFF), bus=st.integers(0, 255), device=st.integers(0, 31))
def test_an_address_is_normal_after_one_pass(domain: int, bus: int, device: int) -> None:
    """Drivers write eight digits in capitals, the kernel four or more in small letters."""
    once = normal_address(f"{domain:08X}:{bus:02X}:{device:02X}.0")
    assert once == f"{domain:04x}:{bus:02x}:{device:02x}.0"
    assert normal_address(once) == once


@pytest.mark.parametrize("text", ["", "0c:00.0", "0000:0c:00", "0000:0c:00.9", "a:b:c:d"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Garbage from a driver does not become a place."""
    with pytest.raises(ValueError, match="expected a PCI address"):
        normal_address(text)
