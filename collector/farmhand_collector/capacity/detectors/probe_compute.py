"""A probe found that the card computes less than equal cards, or than in its first probe."""

import numpy as np

from farmhand_collector.capacity import probes
from farmhand_collector.capacity.boards import mining_cards
from farmhand_collector.capacity.detector import (
    NOT_JUDGED,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
)
from farmhand_collector.capacity.frame import Bools, Floats, Frame
from farmhand_collector.capacity.mig import is_divided
from farmhand_collector.capacity.peers import SAME_LIMIT_RATIO, same_kind
from farmhand_collector.capacity.statistics import Groups, clustered, grouped, others_median

_QUANTITIES = ("fp16_flops", "fp32_flops")
LEAST_BESIDE = 0.10
"""Below equal cards: healthy ones spread by 8 % on average (Sinha et al., SC'22)."""
DEGRADED_SHARE = 0.86
"""Of the first result or that of equal cards: at the power limit, warm air takes some more off a
card than the spread of healthy ones. Own judgement."""
LEAST_CLOCK_RATIO = 0.5
"""A clock below half of that of equal cards is no choice of a keeper. Own judgement."""
MEMORY = np.dtype(
    [*((name, probes.FIELDS) for name in _QUANTITIES), ("limit_watts", "f8"), ("clock_mhz", "f8")]
)
"""Results by precision, at the clock of equal cards; the power limit under which they were
measured; the core clock last seen under load."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """The last probe against those of equal cards at an equal power limit, and against the first.

    The catalogue is no measure here: a healthy card reaches between half and all of it, by its
    architecture. A mining card computes what its lock lets it, which is no fault, and a
    clock below that of equal cards is for others to tell: it may be set on purpose.
    """
    memory = memory.copy()
    is_mining = mining_cards(frame.roster) | (facts.of_cards("locked", len(frame)) == 1)
    able = ~is_mining & ~is_divided(frame)
    measured = {
        name: np.where(able & (frame.probe[name] > 0), frame.probe[name], np.nan)
        for name in _QUANTITIES
    }
    clock = frame.loaded["core_clock_mhz"]
    memory["clock_mhz"] = np.where(clock > 0, clock, memory["clock_mhz"])
    told = np.any([~np.isnan(column) for column in measured.values()], axis=0)
    if told.any():
        _forget_other_limits(frame, memory, told)
        equals = _equals(frame, memory)
        for name in _QUANTITIES:
            probes.remember(memory[name], measured[name] / _clock_ratio(memory, equals))
            repeats = memory["limit_watts"] > 0
            probes.compare(memory[name], equals, LEAST_BESIDE, repeats, DEGRADED_SHARE)
    levels = [probes.level_of(memory[name], told) for name in _QUANTITIES]
    level = np.maximum(*levels)
    shares = [probes.share_of(memory[name]) for name in _QUANTITIES]
    share = np.where(level == NOT_JUDGED, np.nan, np.fmin(*shares))
    # What all cards of a node lost alike was taken from them: a cap, a limit, a driver.
    alike = others_median(np.fmin(*shares), grouped(frame.roster.kinds, frame.roster.nodes))
    level = np.where((level > WATCH) & (alike < probes.WATCH_SHARE), WATCH, level)
    return Score(level.astype(np.int8), {"share": share, **measured}, np.fmin(share, 1.0)), memory


def _forget_other_limits(frame: Frame, memory: Memory, told: Bools) -> None:
    """What was measured under another power limit compares with nothing; `memory` is changed."""
    limit = np.nan_to_num(frame.values["power_limit_watts"])
    before = memory["limit_watts"]
    known = told & (limit > 0)
    ratio: Floats = np.fmax(limit / before, before / limit)
    changed = known & (before > 0) & (ratio > SAME_LIMIT_RATIO)
    for name in _QUANTITIES:
        memory[name]["first"][changed] = memory[name]["last"][changed] = 0
    memory["limit_watts"] = np.where(known & (changed | (before == 0)), limit, before)


def _clock_ratio(memory: Memory, equals: Groups) -> Floats:
    """(n,) share of the clock of equal cards under load that a card reaches, at most all of it."""
    clock = np.where(memory["clock_mhz"] > 0, memory["clock_mhz"], np.nan)
    ratio = np.nan_to_num(clock / others_median(clock, equals), nan=1.0)
    return np.clip(ratio, LEAST_CLOCK_RATIO, 1.0)


def _equals(frame: Frame, memory: Memory) -> Groups:
    """(n,) cards of one kind at one power limit; none that has not shown its clock under load."""
    shown = (memory["clock_mhz"] > 0) | np.isnan(frame.values["core_clock_mhz"])
    equals = clustered(memory["limit_watts"], same_kind(frame), SAME_LIMIT_RATIO)
    return np.where(shown, equals, -1)


DETECTOR = Detector(
    name="probe_compute",
    cause="compute",
    component="compute",
    action="rerun-probe",
    precedence=10,
    # Probes of one node come one after the other: the second tells whether all lost alike.
    raise_after=2,
    clear_after=1,
    memory=MEMORY,
    score=score,
    shared_by=frozenset({"node"}),
)
