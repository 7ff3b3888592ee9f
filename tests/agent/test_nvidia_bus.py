"""The NVIDIA source where the PCI bus says which cards there are."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farmhand_agent.reading import UNIDENTIFIED
from farmhand_agent.sources.base import Card, CardLost, CardUnreadable, SourceStale
from farmhand_agent.sources.nvidia.source import REOPEN_NS, NvidiaSource
from tests import standin
from tests.standin.bus import Bus
from tests.standin.captures import farm_state

Open = Callable[[], NvidiaSource]


@pytest.fixture
def farm(nvml_state: standin.State) -> standin.State:
    """Three captured cards."""
    state = farm_state(nvml_state.path, ["RTX 3090", "T4", "H100"])
    state.write()
    return state


@pytest.fixture
def bus(farm: standin.State, tmp_path: Path) -> Bus:
    return Bus.of(farm, tmp_path / "sys")


@pytest.fixture
def calls() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def source(bus: Bus, calls: list[tuple[str, str]]) -> Iterator[NvidiaSource]:
    source = NvidiaSource(lambda slot, call: calls.append((slot, call)), None, bus.sysfs)
    source.open()
    yield source
    source.close()


def everything(_slot: str) -> bool:
    return True


def cards(source: NvidiaSource) -> list[Card]:
    return source.cards(everything).cards


def test_every_call_about_a_card_names_its_slot(
    source: NvidiaSource, bus: Bus, calls: list[tuple[str, str]]
) -> None:
    """A card that hangs while it is opened is known by its place."""
    found = source.cards(everything)
    assert [card.slot for card in found.cards] == [bus.slot(number) for number in range(3)]
    assert {call for slot, call in calls if not slot} <= {
        "nvmlInit",
        "nvmlSystemGetDriverVersion",
        "nvmlDeviceGetCount",
        "nvmlEventSetCreate",
    }


def test_a_card_that_is_not_wanted_is_not_touched(
    source: NvidiaSource, bus: Bus, calls: list[tuple[str, str]]
) -> None:
    """The neighbours of a card that hangs at the first touch are read without it."""
    found = source.cards(lambda slot: slot != bus.slot(1))
    assert [card.slot for card in found.cards] == [bus.slot(0), bus.slot(2)]
    assert found.present == [bus.slot(number) for number in range(3)]
    assert bus.slot(1) not in {slot for slot, _ in calls}


def test_a_card_that_the_driver_withholds_is_unreadable(
    source: NvidiaSource, farm: standin.State
) -> None:
    """A card whose start-up failed is on the bus, though the driver does not list it."""
    farm.change(1, handle=standin.error(6))
    withheld = cards(source)[1]
    assert withheld.card == UNIDENTIFIED
    with pytest.raises(CardUnreadable, match="does not hand out the card"):
        source.sample(withheld)


def test_a_card_that_fell_off_the_bus_is_lost(
    source: NvidiaSource, farm: standin.State, bus: Bus
) -> None:
    """The kernel goes on listing it, but it reads as all ones."""
    farm.change(1, handle=standin.error(6))
    bus.fall_off(1)
    with pytest.raises(CardLost):
        source.sample(cards(source)[1])


def test_a_container_reads_the_cards_that_were_given_to_it(
    farm: standin.State, bus: Bus, tmp_path: Path
) -> None:
    """It sees the whole bus; the cards of others are not its own that are broken."""
    assert farm.cards
    granted = tmp_path / "gpus"
    (granted / bus.address(1)).mkdir(parents=True)
    source = NvidiaSource(lambda _slot, _call: None, None, bus.sysfs, granted=granted)
    source.open()
    try:
        found = source.cards(everything)
    finally:
        source.close()
    assert [card.slot for card in found.cards] == found.present == [bus.slot(1)]


def test_a_withheld_card_is_asked_for_again(source: NvidiaSource, farm: standin.State) -> None:
    """Once the driver hands it out, it reads like any other."""
    farm.change(1, handle=standin.error(6))
    assert cards(source)[1].card == UNIDENTIFIED
    farm.change(1, handle=0)
    assert source.sample(cards(source)[1])


def test_a_card_that_is_plugged_in_is_found(
    source: NvidiaSource, farm: standin.State, bus: Bus
) -> None:
    """Hot-plug: the others keep their places and handles."""
    bus.unplug(2)
    farm.change(2, absent=1)
    before = cards(source)
    bus.plug(2)
    farm.change(2, absent=0)
    after = cards(source)
    assert [card.slot for card in after] == [bus.slot(number) for number in range(3)]
    assert [card.card for card in after[:2]] == [card.card for card in before]


def test_a_renumbered_bus_leaves_slot_and_card(farm: standin.State, bus: Bus) -> None:
    """A neighbour that is gone at boot shifts bus numbers, not places."""
    bus.unplug(1)
    bus.unplug(2)
    bus.plug(2, bus=2)
    farm.change(1, absent=1)
    farm.change(2, pci_address="00000000:02:00.0")
    source = NvidiaSource(lambda _slot, _call: None, None, bus.sysfs)
    source.open()
    try:
        found = cards(source)
    finally:
        source.close()
    assert [(card.slot, card.card) for card in found] == [
        (bus.slot(number), str(farm.cards[number]["uuid"])) for number in (0, 2)
    ]


def test_a_card_that_was_reset_gets_another_handle(
    source: NvidiaSource, farm: standin.State, calls: list[tuple[str, str]], bus: Bus
) -> None:
    """The handle from before a reset may stay lost for ever; its neighbours keep theirs."""
    before = cards(source)
    farm.change(1, card=standin.LOST)
    with pytest.raises(CardLost):
        source.sample(before[1])
    farm.change(1, card=0)
    calls.clear()
    after = cards(source)
    opened = [slot for slot, call in calls if call == "nvmlDeviceGetHandleByPciBusId"]
    assert opened == [bus.slot(1)]
    assert source.sample(after[1])


def test_a_card_that_stays_lost_but_answers_on_the_bus_asks_for_a_new_start(
    farm: standin.State, bus: Bus
) -> None:
    """A fresh connection to the driver is the last resort, and not for one that is really gone."""
    now = [0]
    source = NvidiaSource(lambda _slot, _call: None, None, bus.sysfs, lambda: now[0])
    source.open()
    farm.change(1, clock_sm=standin.LOST)
    now[0] = REOPEN_NS + 1
    with pytest.raises(CardLost):
        source.sample(cards(source)[1])
    with pytest.raises(SourceStale):
        cards(source)
    with pytest.raises(CardLost):
        source.sample(cards(source)[1])
    bus.fall_off(1)
    assert len(cards(source)) == 3
    source.close()


def test_the_place_of_a_card_is_part_of_its_facts(source: NvidiaSource, bus: Bus) -> None:
    """The port above the card tells what the slot can do."""
    info = source.info(cards(source)[0])
    assert info["root_port"] == "0000:00:01.0"
    assert info["numa_node"] == 0.0
    assert bus.slot(0)
