import numpy as np
import pytest

from farmhand_collector.simulator import FAULT_KINDS, Farm
from farmhand_collector.simulator.effects import Array
from farmhand_collector.simulator.fleet import Card
from farmhand_collector.simulator.kinds import Fault
from farmhand_collector.simulator.planting import COMMON_KINDS
from tests.collector.simulator.play import START, play

SETTLED_SECONDS = 600.0
SEEDS = (31, 32)


class Twins:
    """A farm with faults and the same farm without, side by side."""

    def __init__(self, seed: int) -> None:
        self.faulty = play(Farm(96, seed, "all", START), 2400.0)
        self.sound = play(Farm(96, seed, "none", START), 2400.0)

    def fault(self, kind: str) -> Fault:
        return next(fault for fault in self.faulty.farm.faults if fault.kind == kind)

    def card(self, fault: Fault) -> Card:
        return self.faulty.farm.fleet.cards[fault.index]

    def loaded(self, kind: str, name: str) -> tuple[Array, Array]:
        """A field under load, of the faulty card and of its twin, once the fault has settled."""
        fault = self.fault(kind)
        card, since = self.card(fault), fault.since + SETTLED_SECONDS
        return self.faulty.loaded(card, name, since), self.sound.loaded(card, name, since)

    def ratio(self, kind: str, name: str) -> float:
        faulty, sound = self.loaded(kind, name)
        return float(faulty.mean() / sound.mean())

    def means(self, kind: str, name: str) -> tuple[float, float]:
        faulty, sound = self.loaded(kind, name)
        return float(faulty.mean()), float(sound.mean())


@pytest.fixture(scope="module", params=SEEDS)
def twins(request: pytest.FixtureRequest) -> Twins:
    return Twins(request.param)


def test_a_fault_touches_its_own_card_alone(twins: Twins) -> None:
    """All other cards are as they would be, and so is the faulty one before its fault."""
    begins = {twins.card(fault).card: fault.since for fault in twins.faulty.farm.faults}
    for card, points in twins.faulty.cards.items():
        before = begins.get(card, np.inf) * 1e9
        sound = twins.sound.cards[card]
        for faulty_point, sound_point in zip(points, sound, strict=True):
            if faulty_point.time_ns < before:
                assert faulty_point == sound_point


def test_a_lost_card_is_gone_from_its_time_on(twins: Twins) -> None:
    """Xid 79 tells of it once; then every point says lost, and no value with it."""
    fault = twins.fault("lost")
    card = twins.card(fault)
    events = [
        (reading.fields["kind"], reading.fields["code"], reading.time_ns)
        for reading in twins.faulty.of("card_event")
        if reading.tags["card"] == card.card and reading.fields["code"] != "43"
    ]
    assert events[0] == ("xid", "79", round(fault.since * 1e9))
    assert [kind for kind, _, _ in events] == ["xid", "lost"]
    for point in twins.faulty.cards[card.card]:
        gone = point.time_ns >= fault.since * 1e9
        assert point.fields["state"] == ("lost" if gone else "ok")
        assert ("power_watts" in point.fields) != gone


def test_an_unreadable_card_runs_into_the_deadline(twins: Twins) -> None:
    """It stays in its slot, with nothing to say but how long the read took."""
    fault = twins.fault("unreadable")
    points = twins.faulty.cards[twins.card(fault).card]
    silent = [point for point in points if point.time_ns >= fault.since * 1e9]
    assert silent
    for point in silent:
        assert point.fields["state"] == "unreadable"
        assert float(point.fields["read_seconds"]) >= 10.0
        assert "power_watts" not in point.fields


def test_a_bad_riser_leaves_a_quarter_of_the_lanes(twins: Twins) -> None:
    """The width falls below what card and slot can do, and packets are sent again."""
    fault = twins.fault("link_width")
    card = twins.card(fault)
    after = twins.faulty.values(card, "pcie_width", fault.since)
    assert set(after) == {card.pcie_width_max // 4}
    replays = twins.faulty.values(card, "pcie_replay_total", fault.since)
    assert replays[-1] - replays[0] > 50


def test_a_badly_cooled_card_is_hot_and_slow(twins: Twins) -> None:
    """It sits at its target temperature, below its power limit, and says why."""
    card = twins.card(twins.fault("thermal"))
    temperature, twin_temperature = twins.means("thermal", "core_temperature_celsius")
    assert twins.ratio("thermal", "core_clock_mhz") < 0.9
    assert temperature == pytest.approx(card.model.target_temperature_celsius, abs=1.5)
    assert temperature > twin_temperature + 5.0
    assert twins.means("thermal", "throttle_thermal_ratio")[0] > 0.9
    assert twins.ratio("thermal", "power_watts") < 0.9


def test_a_bad_power_cable_shows_as_hardware_slowdown(twins: Twins) -> None:
    """The share of time is told, clock and power fall with it."""
    fault = twins.fault("hardware_throttle")
    share = twins.means("hardware_throttle", "throttle_hardware_ratio")[0]
    assert share == pytest.approx(fault.severity, abs=0.02)
    assert twins.ratio("hardware_throttle", "core_clock_mhz") < 0.9
    assert twins.ratio("hardware_throttle", "power_watts") < 0.9


def test_missing_memory_is_told_by_every_reading(twins: Twins) -> None:
    """Half of it is gone from one window to the next, and the identity is told again."""
    fault = twins.fault("memory_shrunk")
    card = twins.card(fault)
    total = twins.faulty.values(card, "memory_total_bytes")
    assert total[0] == card.model.memory_mib * 2**20
    assert total[-1] == total[0] / 2
    infos = [
        reading.fields["memory_total_bytes"]
        for reading in twins.faulty.of("card_info")
        if reading.tags["card"] == card.card
    ]
    assert (infos[0], infos[-1]) == (total[0], total[-1])


def test_a_stuck_clock_gives_no_reason(twins: Twins) -> None:
    """The clock is far below its twin's; nothing throttles it."""
    fault = twins.fault("clock_stuck")
    lost = 1.0 - twins.ratio("clock_stuck", "core_clock_mhz")
    assert lost == pytest.approx(fault.severity, abs=0.04)
    for name in ("power", "thermal", "hardware", "brake"):
        assert twins.means("clock_stuck", f"throttle_{name}_ratio")[0] == 0.0


def test_a_stuck_memory_clock_is_a_lower_state(twins: Twins) -> None:
    """Under load the memory runs at a clock meant for less, and is busier for it."""
    card = twins.card(twins.fault("memory_clock"))
    faulty, _ = twins.loaded("memory_clock", "memory_clock_mhz")
    assert set(faulty) <= set(card.model.memory_mhz_lower)
    assert twins.ratio("memory_clock", "memory_utilization_ratio") > 1.2


def test_a_starved_card_draws_less_than_its_limit(twins: Twins) -> None:
    """Power ends far below the limit in force, clocks with it, and no throttle says why."""
    fault = twins.fault("low_power")
    lost = 1.0 - twins.ratio("low_power", "core_clock_mhz")
    assert lost == pytest.approx(fault.severity, abs=0.04)
    assert twins.ratio("low_power", "power_watts") < 0.85
    assert twins.ratio("low_power", "power_limit_watts") == 1.0
    assert twins.means("low_power", "throttle_power_ratio")[0] == 0.0


def test_every_performance_fault_costs_at_least_a_tenth(twins: Twins) -> None:
    """No planted fault is too small to be one."""
    for kind in COMMON_KINDS:
        if FAULT_KINDS[kind].needs_load:
            core = twins.ratio(kind, "core_clock_mhz")
            memory = twins.ratio(kind, "memory_clock_mhz")
            assert min(core, memory) < 0.9, kind
