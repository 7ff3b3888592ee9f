"""Simulated farms straight into the core: what was planted is found, nothing else is."""

import pytest

from farmhand_collector.judging import Tick
from farmhand_collector.report import card_verdict, shown
from farmhand_collector.wire import CardVerdict
from tests.collector.farms import Place, Simulated, simulated, ticks

CAUSES = {
    "lost": {"unreachable"},
    "unreadable": {"driver"},
    "link_width": {"link"},
    "thermal": {"thermal"},
    "hardware_throttle": {"power"},
    "memory_shrunk": {"memory"},
    "memory_clock": {"memory"},
    "clock_stuck": {"compute"},
    # A supply that gives too little shows as a low clock at a power that fits it.
    "low_power": {"power", "compute"},
}


def said(tick: Tick) -> dict[Place, CardVerdict]:
    """What is said of each place after a tick."""
    roster, verdicts = tick.frame.roster, tick.verdicts
    told = [card_verdict(roster[row], row, verdicts) for row in shown(roster, verdicts)]
    return {(verdict.host, verdict.slot): verdict for verdict in told}


def flagged(farm: Simulated) -> dict[Place, CardVerdict]:
    """Cards with which something is wrong at the end."""
    *_, last = ticks(farm.readings)
    return {
        place: verdict
        for place, verdict in said(last).items()
        if verdict.state not in ("ok", "unknown")
    }


@pytest.mark.parametrize(("seed", "faults"), [(4, "all"), (21, "all"), (7, "some")])
def test_every_planted_fault_is_found_and_no_healthy_card_flagged(seed: int, faults: str) -> None:
    """After an hour, each with its cause."""
    farm = simulated(48, seed, faults)

    found = flagged(farm)

    assert found.keys() == farm.planted.keys()
    for place, verdict in found.items():
        assert verdict.cause in CAUSES[farm.planted[place].fault], place


@pytest.mark.parametrize("seed", [1, 2])
def test_a_healthy_farm_is_never_flagged(seed: int) -> None:
    """Not even for a moment in an hour; and most of it is judged, not unknown."""
    farm = simulated(48, seed, "none")

    for tick in ticks(farm.readings):
        states = [verdict.state for verdict in said(tick).values()]
        assert set(states) <= {"ok", "unknown"}
        assert tick.verdicts.wide == []
    assert states.count("ok") > 0.6 * len(states)


def test_a_lost_card_is_told_within_a_minute() -> None:
    """From its fall to the end of the frame that tells, and the wait for late readings."""
    farm = simulated(48, 4, "all")
    (fault,) = (fault for fault in farm.planted.values() if fault.fault == "lost")

    first = next(
        tick for tick in ticks(farm.readings) if "lost" in {v.state for v in said(tick).values()}
    )

    assert 0 < first.frame.end_ns / 1e9 - fault.since <= 45
