from collections import defaultdict

import numpy as np
import pytest

from farmhand_collector.simulator import Farm
from farmhand_collector.simulator.fleet import Card, Profile, draw_fleet
from farmhand_collector.simulator.models import OPTIONAL_FIELDS, CardModel
from farmhand_collector.simulator.physics import Demand, Effects, Hardware, Physics
from tests.collector.simulator.play import START, Played, play


@pytest.fixture(scope="module")
def sound() -> Played:
    """Half an hour of a large farm without faults."""
    return play(Farm(600, 21, "none", START), 1800.0)


def works(played: Played, card: Card) -> bool:
    """Whether a card carries a full load for most of the time, at its default limit."""
    node = played.farm.fleet.nodes[card.node]
    trains = node.profile is Profile.TRAINING and not (card.spare or card.odd)
    return trains and len(played.loaded(card, "core_clock_mhz")) > 60


def test_every_sound_card_stays_within_its_limits(sound: Played) -> None:
    """Temperature, clock, power and memory are what such a card can show."""
    for card in sound.farm.fleet.cards:
        model = card.model
        temperature = sound.values(card, "core_temperature_max_celsius")
        power = sound.values(card, "power_watts")
        assert temperature.min() > 18.0
        assert temperature.max() <= model.target_temperature_celsius + 1.0
        assert sound.values(card, "core_clock_mhz").max() <= model.core_clock_max_mhz
        assert sound.values(card, "memory_clock_mhz").max() <= model.memory_clock_max_mhz
        assert power.min() > 0.5 * model.idle_power_watts
        assert np.all(power <= 1.02 * sound.values(card, "power_limit_watts"))
        used = sound.values(card, "memory_used_bytes")
        assert np.all(used < sound.values(card, "memory_total_bytes"))


def test_no_sound_card_is_slowed_by_its_hardware(sound: Played) -> None:
    """Slowdown and brake are for faults alone."""
    for card in sound.farm.fleet.cards:
        assert sound.values(card, "throttle_hardware_ratio").max() == 0.0
        assert sound.values(card, "throttle_brake_ratio").max() == 0.0


def test_sound_cards_hardly_ever_throttle_by_heat(sound: Played) -> None:
    """A warm spell may do it for minutes; it is no state to be in."""
    shares = [sound.values(c, "throttle_thermal_ratio").mean() for c in sound.farm.fleet.cards]
    assert np.mean(shares) < 0.002
    assert max(shares) < 0.2


def test_clocks_of_equals_spread_as_in_measured_fleets(sound: Played) -> None:
    """Some two percent of sigma between equals, each card steady on its own level.

    V100s under a power cap: 1.6 to 2.2 % between cards, 0.1 to 0.2 % within one (PAL, SC'24);
    mixed makers add a little.
    """
    means: dict[CardModel, list[float]] = defaultdict(list)
    within: list[float] = []
    for card in sound.farm.fleet.cards:
        ordinary = sound.farm.fleet.nodes[card.node].limit_ratio == 1.0 and not card.slow_tail
        if ordinary and works(sound, card):
            clocks = sound.loaded(card, "core_clock_mhz")
            means[card.model].append(clocks.mean())
            within.append(np.subtract(*np.percentile(clocks, [84, 16])) / 2 / clocks.mean())
    spreads = [np.std(m) / np.mean(m) for m in means.values() if len(m) >= 12]
    assert len(spreads) > 5
    assert 0.015 < np.mean(spreads) < 0.035
    assert np.median(within) < 0.003


def test_a_full_load_runs_into_the_power_limit(sound: Played) -> None:
    """The software power cap at full load is the normal state of a trained card."""
    cards = [card for card in sound.farm.fleet.cards if works(sound, card)]
    capped = [np.mean(sound.loaded(card, "throttle_power_ratio")) for card in cards]
    assert np.mean(np.array(capped) > 0.5) > 0.9


def test_the_inner_slots_of_a_node_are_hotter(sound: Played) -> None:
    """A card between others breathes their air."""
    inner: list[float] = []
    outer: list[float] = []
    for card in sound.farm.fleet.cards:
        if works(sound, card):
            mean = float(sound.loaded(card, "core_temperature_celsius").mean())
            (inner if card.crowding > 0.9 else outer if card.crowding < 0.6 else []).append(mean)
    assert np.mean(inner) > np.mean(outer) + 1.0


def test_an_idle_gaming_card_rests_on_a_slow_link(sound: Played) -> None:
    """Generation, clocks and power fall at idle; the width stays."""
    spare = [c for c in sound.farm.fleet.cards if c.spare and c.model.model == "GeForce RTX 3090"]
    assert spare
    for card in spare:
        assert set(sound.values(card, "pcie_generation")) == {1.0}
        assert set(sound.values(card, "pcie_width")) == {float(card.pcie_width_max)}
        assert set(sound.values(card, "core_clock_mhz")) == {card.model.idle_clock_mhz}


def test_a_gaming_card_works_below_its_highest_memory_clock(sound: Played) -> None:
    """Compute runs in P2."""
    for card in sound.farm.fleet.cards:
        if card.model.model == "GeForce RTX 3090" and works(sound, card):
            assert np.median(sound.loaded(card, "memory_clock_mhz")) == 9501.0


def test_a_mining_card_never_idles() -> None:
    """A CMP 50HX stays at full clocks and 60 W without work."""
    fleet = draw_fleet(600, 1)
    mining = np.array([card.model.model == "CMP 50HX" for card in fleet.cards])
    nothing = np.zeros(600)
    demand = Demand(nothing, nothing, nothing, nothing, nothing)
    operation = Physics(Hardware(fleet, 1)).step(
        demand, np.full(600, 25.0), Effects.none(600), 10.0
    )
    assert operation.power[mining] == pytest.approx(63.0, rel=0.25)
    assert np.all(operation.core_clock[mining] > 1500.0)


def test_a_limit_lowered_by_choice_is_a_whole_nodes(sound: Played) -> None:
    """All cards of the node show it, and run slower without being faulty."""
    lowered = [node for node in sound.farm.fleet.nodes if node.limit_ratio < 1.0]
    assert lowered
    for node in lowered:
        for index in node.card_range:
            card = sound.farm.fleet.cards[index]
            limit = sound.values(card, "power_limit_watts")[0]
            assert limit < 0.9 * card.model.power_limit_watts


def test_heat_follows_load_with_a_lag() -> None:
    """When a full load begins the die warms for minutes, not in one window."""
    fleet = draw_fleet(24, 1)
    hardware = Hardware(fleet, 1)
    physics, effects = Physics(hardware), Effects.none(24)
    full = np.ones(24)
    demand = Demand(full, full, full, full, full)
    air = np.full(24, 25.0)
    die = [physics.step(demand, air, effects, 10.0).temperature for _ in range(60)]
    assert np.all(die[0] < die[5])
    assert np.all(die[3] - 25.0 < 0.85 * (die[-1] - 25.0))
    assert die[-1] == pytest.approx(die[-2], abs=0.3)


def test_cards_give_only_what_their_kind_gives(sound: Played) -> None:
    """A GeForce has no memory sensor and no error counters; an A100 has both and no fan."""
    given: dict[str, set[str]] = defaultdict(set)
    for reading in sound.of("card"):
        given[reading.tags["model"]] |= set(reading.fields) & OPTIONAL_FIELDS
    assert given["GeForce RTX 3090"] == {"fan_ratio", "energy_joules"}
    a100 = {name for model, names in given.items() if "A100" in model for name in names}
    assert {"memory_temperature_celsius", "ecc_corrected_total", "remap_failed"} <= a100
    assert "fan_ratio" not in a100
