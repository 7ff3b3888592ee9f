"""The memory clock under load is below that of equal cards: memory runs in a lower state."""

import numpy as np

from farmhand_collector.capacity.detector import (
    CAUSES,
    Detector,
    Facts,
    Memory,
    Score,
    span_of,
)
from farmhand_collector.capacity.frame import Frame
from farmhand_collector.capacity.peers import compared, moves, moving, same_kind

LEAST_SHORTFALL = 0.08
"""Below this lie the states in which healthy GeForce cards compute (P2 is 2–4 % under P0)."""

MEMORY = np.dtype([("memory_clock_mhz", "f8")])
"""Share of spans in which the clock moved."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Mean memory clock under load against the median of the other cards of its kind."""
    del facts
    span, memory = span_of(frame), memory.copy()
    clock, kinds = span.latest["memory_clock_mhz"], same_kind(frame)
    score = compared(clock, kinds, span.fresh, least_shortfall=LEAST_SHORTFALL)
    memory["memory_clock_mhz"] = moving(span, memory, "memory_clock_mhz")
    # Hot memory is slowed for a while at a time; many cards do not tell how hot it is.
    is_hot = moves(memory, "memory_clock_mhz")
    cause = np.where(is_hot, CAUSES.index("thermal"), -1).astype(np.int8)
    return score._replace(cause=cause), memory


DETECTOR = Detector(
    name="peer_memory_clock",
    cause="memory",
    component="bandwidth",
    action="repad",
    precedence=6,
    raise_after=3,
    clear_after=6,
    memory=MEMORY,
    per_span=True,
    score=score,
)
