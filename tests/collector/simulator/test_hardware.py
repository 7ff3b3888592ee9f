from collections import defaultdict

import numpy as np
import pytest

from farmhand_collector.simulator import Farm
from farmhand_collector.simulator.air import HOT_RACK_KELVIN, Air
from farmhand_collector.simulator.effects import Effects
from farmhand_collector.simulator.fleet import Card, Profile, draw_fleet
from farmhand_collector.simulator.models import OPTIONAL_FIELDS, CardModel
from farmhand_collector.simulator.physics import Demand, Hardware, Physics
from farmhand_collector.simulator.workload import JOB_KINDS
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


def test_the_innermost_slot_breathes_air_seven_to_eight_degrees_warmer() -> None:
    """As measured between neighbours in four-card nodes."""
    fleet = draw_fleet(600, 21)
    air = Air(fleet, 21).typical()
    for node in fleet.nodes:
        if node.size >= 4:
            slots = air[node.first : node.first + node.size]
            assert 6.9 < np.ptp(slots) <= 8.0
            assert slots.argmin() in (0, node.size - 1)


def test_one_cabinet_in_eight_is_six_degrees_warmer() -> None:
    """Some cabinets stand where no air moves; small farms have none."""
    fleet = draw_fleet(1200, 3)
    air = Air(fleet, 3)
    racks = sorted({node.rack for node in fleet.nodes})
    assert len(air.hot_racks) == len(racks) // 8 > 1
    inlet = air.inlet(np.zeros(len(fleet.nodes)), 0.0)
    floor = {node.rack: inlet[at] for at, node in enumerate(fleet.nodes) if node.height == 0.0}
    hot = np.mean([floor[rack] for rack in air.hot_racks])
    others = np.mean([floor[rack] for rack in racks if rack not in air.hot_racks])
    assert hot - others == pytest.approx(HOT_RACK_KELVIN, abs=2.5)
    assert Air(draw_fleet(60, 3), 3).hot_racks == ()


def test_nights_are_cooler_than_days() -> None:
    """The inlet swings by three degrees over a day."""
    fleet = draw_fleet(60, 3)
    air = Air(fleet, 3)
    hours = np.arange(24.0)
    inlet = [air.inlet(np.full(len(fleet.nodes), 3600.0 * hour), 0.0) for hour in hours]
    assert np.ptp(inlet, axis=0) == pytest.approx(3.0, abs=0.1)


def test_a_card_repeats_its_own_rate_within_a_tenth_of_a_percent() -> None:
    """Between equals the spread is many times as wide."""
    farm = Farm(300, 5, "none", START)
    windows = [next(farm.windows()) for _ in range(60)]
    rates = np.array([window.rates for window in windows])[20:]
    job = windows[0].assignment.job[[card.node for card in farm.fleet.cards]]
    trains = np.array([at >= 0 and JOB_KINDS[int(at)].trains for at in job])
    works = (rates > 0).all(axis=0) & trains
    changes = np.diff(rates[:, works], axis=0) / rates[1:, works]
    assert 0.0005 < np.median(np.abs(changes)) / np.sqrt(2) < 0.002


def test_slow_tails_draw_full_power_at_a_clock_three_to_four_percent_low() -> None:
    """The silicon lottery's slow end is no fault: full power, less clock."""
    fleet = draw_fleet(2000, 1)
    hardware = Hardware(fleet, 1)
    tail = np.array([card.slow_tail for card in fleet.cards])
    relative = hardware.full_clock() / hardware.sustained_clock
    share = hardware.power_limit / hardware.power_limit_default
    ordinary = (share == 1.0) & (hardware.full_clock() < hardware.boost_clock)
    loss = 1.0 - np.median(relative[tail & ordinary]) / np.median(relative[~tail & ordinary])
    assert 0.02 < loss < 0.05
    drawn = hardware.full_power(hardware.full_clock())[tail & ordinary]
    assert drawn == pytest.approx(hardware.power_limit[tail & ordinary])


def test_sensors_show_steps(sound: Played) -> None:
    """A steady clock is a multiple of 15 MHz, a window's highest temperature a whole degree."""
    for card in sound.farm.fleet.cards[::9]:
        free = sound.loaded(card, "throttle_power_ratio") == 0.0
        steady = free & (sound.loaded(card, "throttle_thermal_ratio") == 0.0)
        clocks = sound.loaded(card, "core_clock_mhz")[steady]
        assert np.all(clocks % 15.0 == 0.0)
        peaks = sound.values(card, "core_temperature_max_celsius")
        assert np.all(peaks == np.round(peaks))
        width = sound.values(card, "pcie_width")
        assert np.all(width == np.round(width))


def test_memory_of_an_a100_is_hotter_than_its_core_under_load(sound: Played) -> None:
    """A few degrees in training, hardly any at rest."""
    gaps = []
    for card in sound.farm.fleet.cards:
        if "A100" in card.model.name and works(sound, card):
            core = sound.loaded(card, "core_temperature_celsius")
            gaps.append(np.mean(sound.loaded(card, "memory_temperature_celsius") - core))
    assert gaps
    assert 2.0 < np.mean(gaps) < 12.0


def test_measured_traffic_follows_the_memory(sound: Played) -> None:
    """Kinds that measure it show at most their nominal bandwidth, and much of it in training."""
    cards = [c for c in sound.farm.fleet.cards if c.model.name == "NVIDIA H100 PCIe"]
    assert cards
    traffic = np.concatenate(
        [sound.loaded(card, "memory_bandwidth_bytes_per_second") for card in cards]
    )
    assert 0.3e12 < np.median(traffic) < 2.0e12
    assert traffic.max() <= 2.039e12


def test_an_idle_gaming_card_rests_on_a_slow_link(sound: Played) -> None:
    """Generation, clocks and power fall at idle; the width stays."""
    spare = [c for c in sound.farm.fleet.cards if c.spare and "GeForce RTX" in c.model.model]
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
