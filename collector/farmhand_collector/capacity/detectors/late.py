"""Readings of the node come so late that they are no longer judged."""

import numpy as np

from farmhand_collector.capacity.detector import (
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
    nothing_judged,
)
from farmhand_collector.capacity.frame import Floats, Frame

LATE_SHARE = 0.1
LATE_FRAMES = 3
"""A span is bad when a tenth of its readings came late, or some in three of its frames. Own
judgement: the backlog of an outage arrives within minutes, and so makes one bad span or two."""
WINDOW_SECONDS = 10.0
"""Length of an agent's window where a card does not tell it."""

MEMORY = np.dtype([("late", "f8"), ("timely", "f8"), ("frames", "i4")])
"""Of the span in progress: readings that were late and that were not, and frames with late ones."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Count the readings of each node; judge its cards when a span ends."""
    del facts
    memory = memory.copy()
    late = _of_nodes(frame, frame.late)
    memory["late"] += late
    memory["frames"] += late > 0
    memory["timely"] += _of_nodes(frame, _timely(frame))
    if frame.span is None:
        return nothing_judged(len(frame)), memory
    told = memory["late"] + memory["timely"]
    share = np.where(told > 0, memory["late"] / told, np.nan)
    level = levels(
        ~np.isnan(share),
        (WATCH, (share >= LATE_SHARE) | (memory["frames"] >= LATE_FRAMES)),
    )
    return Score(level, {"share": share}), np.zeros_like(memory)


def _timely(frame: Frame) -> Floats:
    """(n,) about how many readings of each card came in time."""
    seconds = (frame.end_ns - frame.start_ns) / 1e9
    window = np.nan_to_num(frame.values["window_seconds"], nan=WINDOW_SECONDS)
    count = np.maximum(np.round(seconds / np.maximum(window, 0.1)), 1.0)
    return np.where(frame.present, count, 0.0)


def _of_nodes(frame: Frame, counts: Floats) -> Floats:
    """(n,) sum over the cards of each card's node."""
    sums = np.bincount(frame.roster.nodes, weights=counts, minlength=1).astype(float)
    return sums[frame.roster.nodes]


DETECTOR = Detector(
    name="late",
    cause="host",
    # It costs nothing that a card gives; only what reaches the collector is short.
    component=None,
    action="look-at-node",
    precedence=40,
    raise_after=3,
    clear_after=6,
    memory=MEMORY,
    of_silent=True,
    score=score,
    shared_by=frozenset({"node", "site"}),
)
