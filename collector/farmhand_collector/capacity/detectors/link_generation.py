"""The PCIe link runs at a lower generation under load than it did, or than card and slot can do.

At idle the generation falls to save power, so only cards that worked for most of a span are judged.
"""

import numpy as np

from farmhand_collector.capacity.detector import (
    DEGRADED,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
    span_of,
)
from farmhand_collector.capacity.frame import Floats, Frame

LOWER_BY = 0.5
"""Of a generation: in half of the loaded time the link must have run one lower. Own judgement: a
link that steps up as the work begins spends part of the first readings below."""
_GENERATIONS = np.arange(1.0, 8.0)
_LANE_GIGABITS = np.array([2.5 * 0.8, 5 * 0.8, 8, 16, 32, 64, 128])
"""What a lane carries; generations 1 and 2 spend a fifth on their line code."""
_LIMITS = ("pcie_generation_max", "pcie_generation_max_card", "pcie_generation_max_slot")

MEMORY = np.dtype([("highest", "f8")])
"""Highest generation seen under load."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Lower than before is a fault; lower than possible from the first day on is worth a look.

    What card and slot say they can do decides first: a generation that the keeper has set in the
    firmware is no fault, nor is a card that was made for the first one.
    """
    del facts
    generation = span_of(frame).loaded["pcie_generation"]
    memory = memory.copy()
    memory["highest"] = np.fmax(memory["highest"], np.nan_to_num(np.round(generation)))
    possible = _possible(frame)
    reached = np.fmin(memory["highest"], possible)
    dropped = generation <= reached - LOWER_BY
    expected = np.where(dropped | np.isnan(possible), reached, possible)
    low = generation <= expected - LOWER_BY
    level = levels(~np.isnan(generation), (WATCH, low), (DEGRADED, dropped))
    evidence = {"generation": generation, "expected_generation": expected}
    share = _lane_rate(generation) / _lane_rate(expected)
    return Score(level, evidence, np.fmin(share, 1.0)), memory


def _possible(frame: Frame) -> Floats:
    """(n,) highest generation that both card and slot can do, NaN where neither tells."""
    possible = np.full(len(frame), np.nan)
    for name in _LIMITS:
        possible = np.fmin(possible, np.where(frame.facts[name] > 0, frame.facts[name], np.nan))
    return possible


def _lane_rate(generation: Floats) -> Floats:
    rate: Floats = np.interp(generation, _GENERATIONS, _LANE_GIGABITS)
    return rate


DETECTOR = Detector(
    name="link_generation",
    cause="link",
    component="link",
    action="swap-riser",
    precedence=3,
    raise_after=3,
    clear_after=6,
    memory=MEMORY,
    per_span=True,
    score=score,
    shared_by=frozenset({"node"}),
)
