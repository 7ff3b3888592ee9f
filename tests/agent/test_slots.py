"""The node's slots by the kernel's list, beside the inventory of its cards."""

from pathlib import Path

import pytest

from farmhand_agent.inventory import Inventory, Place
from farmhand_agent.reading import UNIDENTIFIED
from farmhand_agent.slots import ASKED_SECONDS, LISTED_SECONDS, Slots
from tests.standin import State
from tests.standin.bus import Bus
from tests.standin.captures import farm_state


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def farm(tmp_path: Path) -> State:
    return farm_state(tmp_path / "nvml.state", ["RTX 3090", "T4", "H100"])


@pytest.fixture
def bus(farm: State, tmp_path: Path) -> Bus:
    return Bus.of(farm, tmp_path / "sys")


@pytest.fixture
def inventory(bus: Bus, tmp_path: Path) -> Inventory:
    inventory = Inventory(tmp_path / "inventory.json")
    inventory.see(Place(bus.slot(n), f"GPU-{n}", "nvidia", "Model") for n in range(3))
    return inventory


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slots(inventory: Inventory, bus: Bus, clock: Clock) -> Slots:
    return Slots(inventory, ["nvidia"], bus.sysfs, clock)


def test_a_card_is_found_by_its_address(slots: Slots, bus: Bus) -> None:
    """The kernel log names cards by nothing else."""
    place = {"slot": bus.slot(1), "card": "GPU-1", "vendor": "nvidia", "model": "Model"}
    assert slots.locate(bus.address(1)) == place


def test_a_card_is_found_by_its_uuid(slots: Slots, bus: Bus) -> None:
    """The driver's messages sometimes tell it."""
    located = slots.locate("GPU-2")
    assert located is not None
    assert located["slot"] == bus.slot(2)


def test_an_unknown_address_is_no_card(slots: Slots) -> None:
    """Neither is the word for a card that shows no identity."""
    assert slots.locate("0000:77:00.0") is None
    assert slots.locate(UNIDENTIFIED) is None


def test_a_card_whose_bus_was_renumbered_is_found_soon(
    slots: Slots, bus: Bus, clock: Clock
) -> None:
    """An address that is not on the list makes us look at the bus again."""
    assert slots.locate(bus.address(0)) is not None
    bus.unplug(2)
    bus.plug(2, bus=9)
    clock.now += ASKED_SECONDS
    located = slots.locate("0000:09:00.0")
    assert located is not None
    assert located["slot"] == bus.slot(2)


def test_cards_have_the_numbers_that_the_driver_gives(slots: Slots, bus: Bus) -> None:
    """In the order of the bus, as its own tools count them."""
    cards = slots.cards()
    assert [(card.pci_address, card.number) for card in cards] == [
        (bus.address(number), number) for number in range(3)
    ]


def test_a_vanished_card_has_no_number(slots: Slots, bus: Bus, clock: Clock) -> None:
    """It is expected all the same; the others are counted without it."""
    bus.unplug(0)
    clock.now += LISTED_SECONDS
    assert [card.number for card in slots.cards()] == [None, 0, 1]


def test_errors_are_told_for_the_slot_and_by_the_end_of_the_link(slots: Slots, bus: Bus) -> None:
    """The reading sums both ends; the event says which one counted."""
    bus.count(bus.address(1), BadTLP=3, RxErr=1)
    bus.count("0000:00:02.0", BadTLP=2)
    totals = slots.count_errors()
    assert totals[bus.address(1)] == {"card": {"BadTLP": 3, "RxErr": 1}, "port": {"BadTLP": 2}}
    assert slots.errors(bus.slot(1))["pcie_correctable_total"] == 6.0
    assert slots.errors(bus.slot(0))["pcie_correctable_total"] == 0.0


def test_nothing_is_known_of_a_slot_that_is_not_there(slots: Slots) -> None:
    """A card that the bus does not list has no link to speak of."""
    slots.count_errors()
    assert slots.errors("elsewhere") == {}
