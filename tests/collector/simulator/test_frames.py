"""The short way from a simulated farm to frames gives what the long way gives."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest

from farmhand_collector.block import block_of
from farmhand_collector.capacity.frame import Floats, Frame, Framer
from farmhand_collector.judging import EVERY_NS, LAG_NS
from farmhand_collector.simulator import Farm
from tests.collector.simulator.direct import frames
from tests.collector.simulator.play import START

SECONDS = 1000.0
PIECE_BATCHES = 7
FARMS = (
    ("none", "none"),
    ("lost,unreadable,off_and_on,link_width,ecc_uncorrected,memory_shrunk,slow_node", "none"),
    ("uuid_duplicate,fingerprint_changed,unlock_lost,clock_stuck", "limit_lowered_node"),
    ("mixed", "reboot,cards_moved,mig,sensors_refused,driver_upgrade"),
)
"""Faults and harmless events of farms that are framed both ways."""


def farm(faults: str = "every", harmless: str = "none") -> Farm:
    return Farm(
        96,
        5,
        faults,
        START,
        harmless=harmless,
        reports_share=0.7,
        probe_every_seconds=400.0,
        cards_per_fault=8,
    )


def by_readings(simulated: Farm) -> list[Frame]:
    """Frames of what agents would send, as the collector cuts them."""
    framer, found, arrival = Framer(EVERY_NS, LAG_NS), list[Frame](), 1
    batches = list(simulated.readings(START + SECONDS))
    for begin in range(0, len(batches), PIECE_BATCHES):
        piece = [r for batch in batches[begin : begin + PIECE_BATCHES] for r in batch.readings]
        found += framer.push(block_of(piece, arrival))
        arrival += len(piece)
    return found


def same(one: Mapping[str, Floats], other: Mapping[str, Floats]) -> None:
    assert one.keys() == other.keys()
    for name, column in one.items():
        np.testing.assert_allclose(column, other[name], rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.fixture(scope="module", params=range(len(FARMS)))
def both(request: pytest.FixtureRequest) -> list[tuple[Frame, Frame]]:
    """Frames both ways, side by side."""
    faults, harmless = FARMS[request.param]
    short = list(frames(farm(faults, harmless), START + SECONDS))
    return list(zip(short, by_readings(farm(faults, harmless)), strict=True))


def test_frames_follow_one_another(both: list[tuple[Frame, Frame]]) -> None:
    """The same stretches, none left out."""
    assert len(both) > 25
    for short, long in both:
        assert (short.start_ns, short.end_ns) == (long.start_ns, long.end_ns)
    for (before, _), (after, _) in pairwise(both):
        assert after.start_ns >= before.end_ns


def test_rosters_are_equal(both: list[tuple[Frame, Frame]]) -> None:
    """Cards join in the same order."""
    for short, long in both:
        assert short.roster == long.roster


def test_values_are_equal(both: list[tuple[Frame, Frame]]) -> None:
    """Means, peaks and counters, loaded means, states and identity."""
    for short, long in both:
        assert np.array_equal(short.read, long.read)
        same(short.values, long.values)
        same(short.loaded, long.loaded)
        np.testing.assert_allclose(short.loaded_share, long.loaded_share)
        same(short.facts, long.facts)


def test_work_is_equal(both: list[tuple[Frame, Frame]]) -> None:
    """Rates, jobs and gangs."""
    for short, long in both:
        np.testing.assert_allclose(short.work.rate, long.work.rate, rtol=1e-9)
        assert np.array_equal(short.work.job, long.work.job)
        assert np.array_equal(short.work.gang, long.work.gang)


def test_hosts_and_probes_are_equal(both: list[tuple[Frame, Frame]]) -> None:
    """What nodes measured and tests gave, and which nodes booted."""
    for short, long in both:
        same(short.host, long.host)
        same(short.probe, long.probe)
        assert np.array_equal(short.booted, long.booted)


def test_events_are_equal(both: list[tuple[Frame, Frame]]) -> None:
    """All are there, each once, in the frame of its time."""
    for short, long in both:
        assert sorted(short.events) == sorted(long.events)


def test_readings_that_come_late_are_counted_and_not_judged() -> None:
    """A node whose readings are late has none in time."""
    simulated = Farm(64, 5, "late_readings", START)
    (fault,) = simulated.faults
    host = simulated.planted[0].host
    last = list(frames(simulated, START + 2400.0))[-1]
    mine = np.array([key.host == host for key in last.roster])
    assert not last.present[mine].any()
    assert last.present[~mine].all()
    assert np.all(last.late[mine] > 0)
    assert np.all(last.late[~mine] == 0)
    assert fault.severity > LAG_NS / 1e9
