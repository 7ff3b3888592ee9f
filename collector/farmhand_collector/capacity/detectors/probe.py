"""A probe found memory that is slow, or that gives back wrong words."""

import numpy as np

from farmhand_collector.capacity import probes
from farmhand_collector.capacity.detector import (
    ACTIONS,
    FAILING,
    NOT_JUDGED,
    OK,
    Detector,
    Facts,
    Memory,
    Score,
)
from farmhand_collector.capacity.frame import Floats, Frame
from farmhand_collector.capacity.peers import same_kind

TABLE_DEGRADED_SHARE, TABLE_FAILING_SHARE = 0.80, 0.65
"""Of what a real test of the model reaches (public benchmarks): that differs between architectures,
and so holds for Hopper's plain copies too."""
LEAST_BESIDE = 0.05
"""Below equal cards: work bound by memory differs by 0.1 % between them (PageRank on Longhorn)."""
LEAST_CLOCK_RATIO = 0.90
"""GeForce cards compute a step or two below their memory clock (the driver's P2); a clock that is
lower still is a fault and excuses nothing."""

MEMORY = np.dtype([("bandwidth", probes.FIELDS), ("errors", "f8"), ("clock_mhz", "f8")])
"""Results; wrong words in the last probe plus one, 0 where none looked;
the memory clock last seen under load."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """The last probe against the catalogue, equal cards and the first probe.

    A mining card that is locked has its full bandwidth, so it is judged like any other.
    """
    memory = memory.copy()
    clock, errors = frame.loaded["memory_clock_mhz"], frame.probe["memory_errors"]
    memory["clock_mhz"] = np.where(clock > 0, clock, memory["clock_mhz"])
    memory["errors"] = np.where(np.isnan(errors), memory["errors"], errors + 1)
    measured = frame.probe["memory_bandwidth_bytes_per_second"]
    bandwidth = memory["bandwidth"]
    if (measured > 0).any():
        probes.remember(bandwidth, measured)
        probes.compare(bandwidth, same_kind(frame), LEAST_BESIDE)
        expected = _expected(frame, facts) * _clock_ratio(frame, memory, facts)
        share = probes.last(bandwidth) / expected
        probes.lower(bandwidth, share, 0.0, TABLE_DEGRADED_SHARE, TABLE_FAILING_SHARE)
    probed = (measured > 0) | ~np.isnan(errors)
    looked, wrong = probed & (memory["errors"] > 0), probed & (memory["errors"] > 1)
    level = np.maximum(probes.level_of(bandwidth, probed), np.where(looked, OK, NOT_JUDGED))
    share = np.where(probed, probes.share_of(bandwidth), np.nan)
    usual = np.where(bandwidth["usual"] > 0, bandwidth["usual"], np.nan)
    evidence = {
        "share": share,
        "gigabytes_per_second": probes.last(bandwidth) / 1e9,
        "usual_gigabytes_per_second": usual / 1e9,
        "wrong_words": np.maximum(memory["errors"] - 1, 0.0),
    }
    action = np.where(wrong, ACTIONS.index("reball"), -1).astype(np.int8)
    level = np.where(wrong, FAILING, level).astype(np.int8)
    return Score(level, evidence, np.fmin(share, 1.0), action=action), memory


def _clock_ratio(frame: Frame, memory: Memory, facts: Facts) -> Floats:
    """(n,) share of the highest memory clock at which the card computes."""
    told = frame.facts["memory_clock_max_mhz"]
    most = np.where(np.isnan(told), facts.of_cards("memory_clock_mhz", len(frame)), told)
    ratio = np.where(memory["clock_mhz"] > 0, memory["clock_mhz"] / most, 1.0)
    clipped: Floats = np.clip(np.nan_to_num(ratio, nan=1.0), LEAST_CLOCK_RATIO, 1.0)
    return clipped


def _expected(frame: Frame, facts: Facts) -> Floats:
    """(n,) bandwidth that a real test of the model reaches."""
    n = len(frame)
    whole = facts.of_cards("memory_bandwidth_bytes_per_second", n)
    return whole * facts.of_cards("achievable_memory_bandwidth_ratio", n)


DETECTOR = Detector(
    name="probe",
    cause="memory",
    component="bandwidth",
    action="rerun-probe",
    precedence=5,
    # One probe is a whole test, and the next one clears what it found.
    raise_after=1,
    clear_after=1,
    memory=MEMORY,
    score=score,
)
