import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farmhand_agent.reading import fields_of
from farmhand_agent.sources.pci import (
    Errors,
    answers,
    devices,
    errors,
    facts,
    link,
    normal_address,
    slot_of,
)

ROOT, PORT, CARD = "0000:00", "0000:00:01.1", "0000:01:00.0"
SWITCH = (ROOT, "0000:00:03.1", "0000:21:00.0", "0000:22:08.0", "0000:23:00.0")

# As the kernel writes them on a card behind a worn riser.
CORRECTABLE = """RxErr 12
BadTLP 3
BadDLLP 40
Rollover 0
Timeout 7
NonFatalErr 0
CorrIntErr 0
HeaderOF 0
TOTAL_ERR_COR 62"""
NONFATAL = "Undefined 0\nDLP 0\nCmpltTO 2\nUnsupReq 1\nTOTAL_ERR_NONFATAL 3"
FATAL = "Undefined 0\nDLP 0\nSDES 0\nTOTAL_ERR_FATAL 0"
CLEAN = "RxErr 0\nBadTLP 0\nBadDLLP 0\nTOTAL_ERR_COR 0"


def add_device(sysfs: Path, *way: str, **files: str) -> Path:
    """Put a device into a sysfs tree, below the bridges of its way: root bus first."""
    root, *steps = way
    real = sysfs.joinpath(f"devices/pci{root}", *steps)
    real.mkdir(parents=True, exist_ok=True)
    links = sysfs / "bus/pci/devices"
    links.mkdir(parents=True, exist_ok=True)
    if not (links / steps[-1]).is_symlink():
        (links / steps[-1]).symlink_to(real)
    for name, text in files.items():
        (real / name).write_text(f"{text}\n")
    return real


def add_card(
    sysfs: Path, *way: str, driver: str = "nvidia", class_: str = "0x030000", vendor: str = "10de"
) -> Path:
    """A card that answers, held by a driver."""
    real = add_device(sysfs, *way, vendor=f"0x{vendor}", **{"class": class_})
    (real / "config").write_bytes(int(vendor, 16).to_bytes(2, "little") + bytes(62))
    if driver:
        module = sysfs / "bus/pci/drivers" / driver
        module.mkdir(parents=True, exist_ok=True)
        (real / "driver").symlink_to(module)
    return real


def add_slot(sysfs: Path, label: str, address: str) -> None:
    """Give a slot label to an address without its function, as the firmware does."""
    slot = sysfs / "bus/pci/slots" / label
    slot.mkdir(parents=True)
    (slot / "address").write_text(address + "\n")


def fall_off_the_bus(card: Path) -> None:
    """What is read of a card that is gone while the kernel still lists it."""
    (card / "config").write_bytes(b"\xff" * 64)


def sleep(device: Path, status: str = "suspended") -> None:
    (device / "power").mkdir()
    (device / "power/runtime_status").write_text(f"{status}\n")


# --- places --------------------------------------------------------------------------------------


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


def test_a_card_that_vanishes_while_it_is_looked_up_keeps_its_address(tmp_path: Path) -> None:
    """A link that leads nowhere any more names no place in the tree."""
    add_device(tmp_path, ROOT, PORT, CARD).rmdir()
    assert slot_of(CARD, tmp_path) == CARD


def test_a_label_of_strange_bytes_can_be_a_tag(tmp_path: Path) -> None:
    """Firmware writes what it likes: no control character and no half character is left."""
    add_device(tmp_path, ROOT, PORT, CARD)
    add_slot(tmp_path, os.fsdecode(b"PCIE\x1b4\xff"), "0000:01:00")
    assert slot_of(CARD, tmp_path) == "PCIE 4"
    assert slot_of(CARD, tmp_path).isprintable()


def test_a_label_that_cannot_be_read_names_nothing(tmp_path: Path) -> None:
    """A slot that is taken out of the tree meanwhile costs its label, not the card."""
    add_device(tmp_path, ROOT, PORT, CARD)
    (tmp_path / "bus/pci/slots/PCIE4/address").mkdir(parents=True)
    assert slot_of(CARD, tmp_path) == "0000:00/01.1/00.0"


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


# --- which cards there are -----------------------------------------------------------------------


def test_cards_are_the_graphics_functions_that_the_driver_holds(tmp_path: Path) -> None:
    """Not a card's sound, not other makers' cards, not one that is given to a guest."""
    add_card(tmp_path, ROOT, PORT, CARD)
    add_card(tmp_path, ROOT, PORT, "0000:01:00.1", class_="0x040300", driver="snd_hda_intel")
    add_card(tmp_path, ROOT, "0000:00:02.1", "0000:02:00.0", class_="0x030200")
    add_card(tmp_path, ROOT, "0000:00:03.1", "0000:03:00.0", driver="vfio-pci")
    add_card(tmp_path, ROOT, "0000:00:04.1", "0000:04:00.0", vendor="1002", driver="amdgpu")
    assert devices(tmp_path) == [CARD, "0000:02:00.0"]


def test_cards_that_no_driver_holds_can_be_listed(tmp_path: Path) -> None:
    """The driver refuses a card whose memory could not be placed: it shows nowhere else."""
    add_card(tmp_path, ROOT, PORT, CARD, driver="")
    assert devices(tmp_path) == []
    assert devices(tmp_path, driver="") == [CARD]


def test_cards_come_in_the_order_of_their_addresses(tmp_path: Path) -> None:
    """A domain of five digits comes after all of four."""
    ways = [("10000:00", "10000:00:01.0", "10000:01:00.0"), (ROOT, PORT, "0000:c1:00.0")]
    for way in (*ways, (ROOT, "0000:00:01.2", "0000:02:00.0")):
        add_card(tmp_path, *way)
    assert devices(tmp_path) == ["0000:02:00.0", "0000:c1:00.0", "10000:01:00.0"]


def test_a_machine_without_pci_has_no_cards(tmp_path: Path) -> None:
    """Nothing to list is no failure."""
    assert devices(tmp_path) == []


# --- does it answer ------------------------------------------------------------------------------


def test_a_card_that_says_its_vendor_answers(tmp_path: Path) -> None:
    """What the card itself says is what the kernel read at boot."""
    add_card(tmp_path, ROOT, PORT, CARD)
    assert answers(CARD, tmp_path) is True


def test_a_card_that_fell_off_the_bus_does_not_answer(tmp_path: Path) -> None:
    """It is listed still, held by its driver, and reads as all ones."""
    fall_off_the_bus(add_card(tmp_path, ROOT, PORT, CARD))
    assert devices(tmp_path) == [CARD]
    assert answers(CARD, tmp_path) is False


def test_a_card_that_is_not_listed_does_not_answer(tmp_path: Path) -> None:
    """It was taken off the bus in good order."""
    assert answers(CARD, tmp_path) is False


@pytest.mark.parametrize("status", ["suspended", "suspending"])
def test_a_sleeping_card_is_not_asked(tmp_path: Path, status: str) -> None:
    """A question would wake it; asleep in deepest sleep it looks like one that fell off."""
    card = add_card(tmp_path, ROOT, PORT, CARD)
    fall_off_the_bus(card)
    sleep(card, status)
    assert answers(CARD, tmp_path) is None


def test_a_card_whose_answer_is_an_error_does_not_answer(tmp_path: Path) -> None:
    """The kernel gives an input error for a device that it cannot reach."""
    card = add_card(tmp_path, ROOT, PORT, CARD)
    (card / "config").unlink()
    # Reading a process's memory at address 0 is an input error for everyone, root too.
    (card / "config").symlink_to("/proc/self/mem")
    assert answers(CARD, tmp_path) is False


def test_a_card_that_cannot_be_asked_may_answer_or_not(tmp_path: Path) -> None:
    """A missing file says nothing about the card."""
    card = add_card(tmp_path, ROOT, PORT, CARD)
    (card / "config").unlink()
    assert answers(CARD, tmp_path) is None


# --- the link ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speed", "generation"),
    [
        ("2.5 GT/s PCIe", 1.0),
        ("8.0 GT/s PCIe", 3.0),
        ("16 GT/s", 4.0),
        ("64.0 GT/s PCIe", 6.0),
    ],
)
def test_the_link_is_told_without_the_library(
    tmp_path: Path, speed: str, generation: float
) -> None:
    """Old kernels write speeds shorter."""
    card = add_card(tmp_path, ROOT, PORT, CARD)
    (card / "current_link_speed").write_text(f"{speed}\n")
    (card / "current_link_width").write_text("8\n")
    assert link(CARD, tmp_path) == {"pcie_generation": generation, "pcie_width": 8.0}
    assert link(CARD, tmp_path).keys() <= fields_of("card").keys()


@pytest.mark.parametrize(
    ("speed", "width"), [("Unknown", "0"), ("Unknown speed", "63"), ("", "255"), ("nan GT/s", "-1")]
)
def test_a_link_that_cannot_be_told_is_left_out(tmp_path: Path, speed: str, width: str) -> None:
    """All ones and words are no link."""
    card = add_card(tmp_path, ROOT, PORT, CARD)
    (card / "current_link_speed").write_text(f"{speed}\n")
    (card / "current_link_width").write_text(f"{width}\n")
    assert link(CARD, tmp_path) == {}


def test_the_link_of_a_card_that_does_not_answer_is_not_asked(tmp_path: Path) -> None:
    """What is read of it would be all ones."""
    card = add_card(tmp_path, ROOT, PORT, CARD)
    (card / "current_link_speed").write_text("16.0 GT/s PCIe\n")
    fall_off_the_bus(card)
    assert link(CARD, tmp_path) == {}


# --- facts of the place --------------------------------------------------------------------------


def test_facts_tell_where_a_card_sits_and_what_its_port_can_do(tmp_path: Path) -> None:
    """Root port, label, limits of the port above, memory node: all fields of the contract."""
    add_card(tmp_path, ROOT, PORT, CARD).joinpath("numa_node").write_text("1\n")
    add_device(tmp_path, ROOT, PORT, max_link_speed="16.0 GT/s PCIe", max_link_width="4")
    add_slot(tmp_path, "PCIE4", "0000:01:00")
    told = facts(CARD, tmp_path)
    assert told == {
        "slot_label": "PCIE4",
        "root_port": PORT,
        "pcie_generation_max_slot": 4.0,
        "pcie_width_max_slot": 4.0,
        "numa_node": 1.0,
    }
    assert told.keys() <= fields_of("card_info").keys()


def test_behind_a_switch_the_limits_are_those_of_the_port_next_to_the_card(tmp_path: Path) -> None:
    """The root port is the first of the way, the port that limits the card the last."""
    add_card(tmp_path, *SWITCH)
    add_device(tmp_path, *SWITCH[:2], max_link_speed="16.0 GT/s PCIe", max_link_width="16")
    add_device(tmp_path, *SWITCH[:-1], max_link_speed="5.0 GT/s PCIe", max_link_width="1")
    told = facts(SWITCH[-1], tmp_path)
    assert told["root_port"] == "0000:00:03.1"
    assert (told["pcie_generation_max_slot"], told["pcie_width_max_slot"]) == (2.0, 1.0)


def test_a_sleeping_port_is_not_asked_for_its_limits(tmp_path: Path) -> None:
    """The question would wake it."""
    add_card(tmp_path, ROOT, PORT, CARD)
    sleep(add_device(tmp_path, ROOT, PORT, max_link_speed="16.0 GT/s PCIe", max_link_width="16"))
    assert facts(CARD, tmp_path) == {"root_port": PORT}


def test_a_card_right_on_the_root_has_no_port(tmp_path: Path) -> None:
    """A virtual machine shows a card in a domain of its own without a port above it."""
    add_card(tmp_path, "e3a7:00", "e3a7:00:00.0").joinpath("numa_node").write_text("-1\n")
    assert facts("e3a7:00:00.0", tmp_path) == {}


def test_the_root_port_is_below_the_last_root(tmp_path: Path) -> None:
    """A storage controller may carry a whole tree of its own, whose root hangs below it."""
    way = (ROOT, "0000:00:0e.0", "pci10000:e0", "10000:e0:06.0", "10000:e1:00.0")
    add_card(tmp_path, *way)
    assert facts("10000:e1:00.0", tmp_path) == {"root_port": "10000:e0:06.0"}


def test_functions_beyond_eight_have_a_place_too(tmp_path: Path) -> None:
    """With ARI the device number counts functions on."""
    add_card(tmp_path, ROOT, PORT, "0000:01:01.7")
    assert slot_of("0000:01:01.7", tmp_path) == "0000:00/01.1/01.7"
    assert facts("0000:01:01.7", tmp_path) == {"root_port": PORT}


def test_an_unlisted_card_has_no_facts(tmp_path: Path) -> None:
    """Nothing is made up."""
    assert facts(CARD, tmp_path) == {}


# --- errors --------------------------------------------------------------------------------------


def aer(correctable: str) -> dict[str, str]:
    return {
        "aer_dev_correctable": correctable,
        "aer_dev_nonfatal": NONFATAL,
        "aer_dev_fatal": FATAL,
    }


def test_errors_are_told_by_name_at_both_ends_of_the_link(tmp_path: Path) -> None:
    """A bad contact shows as damaged packets at the end that receives them."""
    add_card(tmp_path, ROOT, PORT, CARD)
    add_device(tmp_path, ROOT, PORT, CARD, **aer(CLEAN))
    add_device(tmp_path, ROOT, PORT, **aer(CORRECTABLE))
    told = errors(CARD, tmp_path)
    assert told.card["correctable"] == {"RxErr": 0, "BadTLP": 0, "BadDLLP": 0}
    port = told.port["correctable"]
    assert port is not None
    assert (port["BadDLLP"], port["Timeout"], len(port)) == (40, 7, 8)


def test_totals_are_counters_of_the_contract_over_both_ends(tmp_path: Path) -> None:
    """The line with the total is not counted again."""
    add_device(tmp_path, ROOT, PORT, CARD, **aer(CORRECTABLE))
    add_device(tmp_path, ROOT, PORT, **aer(CORRECTABLE))
    totals = errors(CARD, tmp_path).totals()
    assert totals == {
        "pcie_correctable_total": 124.0,
        "pcie_nonfatal_total": 6.0,
        "pcie_fatal_total": 0.0,
    }
    assert totals.keys() <= fields_of("card").keys()


def test_behind_a_switch_the_port_next_to_the_card_counts(tmp_path: Path) -> None:
    """Errors of the root port belong to the link above the switch."""
    add_device(tmp_path, *SWITCH, **aer(CLEAN))
    add_device(tmp_path, *SWITCH[:-1], **aer("RxErr 5"))
    add_device(tmp_path, *SWITCH[:2], **aer("RxErr 1000"))
    assert errors(SWITCH[-1], tmp_path).totals()["pcie_correctable_total"] == 5.0


def test_one_end_that_counts_is_enough(tmp_path: Path) -> None:
    """Consumer ports often do not count; then the card's own count is the total."""
    add_device(tmp_path, ROOT, PORT, CARD, **aer(CORRECTABLE))
    assert errors(CARD, tmp_path).port == {}
    assert errors(CARD, tmp_path).totals()["pcie_correctable_total"] == 62.0


def test_where_neither_end_counts_nothing_is_told(tmp_path: Path) -> None:
    """A kernel without error reporting is no link without errors."""
    add_device(tmp_path, ROOT, PORT, CARD)
    assert errors(CARD, tmp_path) == Errors({}, {})
    assert errors(CARD, tmp_path).totals() == {}
    assert errors("0000:99:00.0", tmp_path).totals() == {}


def test_half_a_total_is_left_out(tmp_path: Path) -> None:
    """While one end cannot be read the total would fall, as if counters had been reset."""
    add_device(tmp_path, ROOT, PORT, CARD, **aer(CORRECTABLE))
    port = add_device(tmp_path, ROOT, PORT, **aer(CORRECTABLE))
    (port / "aer_dev_correctable").unlink()
    (port / "aer_dev_correctable").symlink_to("/proc/self/mem")
    told = errors(CARD, tmp_path)
    assert told.port["correctable"] is None
    assert told.totals().keys() == {"pcie_nonfatal_total", "pcie_fatal_total"}


@given(st.binary(max_size=200) | st.text("aB_ 019\n").map(str.encode))
@example(b"RxErr " + b"9" * 5000)
def test_no_content_of_a_counter_file_is_too_strange(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Lines that are no name and count are passed over."""
    sysfs = tmp_path_factory.mktemp("sysfs")
    card = add_device(sysfs, ROOT, PORT, CARD)
    (card / "aer_dev_fatal").write_bytes(content)
    counts = errors(CARD, sysfs).card["fatal"]
    assert counts is not None
    assert all(
        name.isascii() and name.isprintable() and count >= 0 for name, count in counts.items()
    )
