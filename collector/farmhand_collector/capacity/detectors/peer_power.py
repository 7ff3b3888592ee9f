"""The card draws far less than its neighbours at the same work, more than its clock explains."""

import numpy as np

from farmhand_collector.capacity.detector import (
    DEGRADED,
    NO_MEMORY,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
    span_of,
)
from farmhand_collector.capacity.frame import Frame
from farmhand_collector.capacity.mig import is_divided
from farmhand_collector.capacity.peers import alike
from farmhand_collector.capacity.statistics import grouped, others_median

WATCH_SHORTFALL, DEGRADED_SHORTFALL = 0.25, 0.4
POWER_OF_CLOCK = 2.0
"""Dynamic power goes with clock times voltage squared; with leakage and memory, board power falls
with about the square of the clock. What lies below that is missing power, not a low clock."""
_FIELDS = ("power_watts", "core_clock_mhz")


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Mean power under load against the other cards of its kind in the same node.

    Only a node's own cards are known to do the same work.
    """
    del facts
    means = span_of(frame).loaded
    neighbours = grouped(alike(frame), frame.roster.nodes)
    power, clock = (means[name] for name in _FIELDS)
    usual_power, usual_clock = (others_median(column, neighbours) for column in (power, clock))
    explained = usual_power * np.fmin(clock / usual_clock, 1) ** POWER_OF_CLOCK
    # What runs in the instances of a divided card nobody tells.
    shortfall = np.where(is_divided(frame), np.nan, 1 - power / explained)
    level = levels(
        ~np.isnan(shortfall),
        (WATCH, shortfall >= WATCH_SHORTFALL),
        (DEGRADED, shortfall >= DEGRADED_SHORTFALL),
    )
    return Score(level, {"power_watts": power, "usual_watts": usual_power}), memory


DETECTOR = Detector(
    name="peer_power",
    cause="power",
    component="compute",
    action="check-power-cable",
    precedence=7,
    raise_after=3,
    clear_after=6,
    memory=NO_MEMORY,
    per_span=True,
    score=score,
    shared_by=frozenset({"node", "power_group"}),
)
