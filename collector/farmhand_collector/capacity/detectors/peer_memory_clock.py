"""The memory clock under load is below that of equal cards: memory runs in a lower state."""

from farmhand_collector.capacity.detector import (
    NO_MEMORY,
    Detector,
    Facts,
    Memory,
    Score,
    span_of,
)
from farmhand_collector.capacity.frame import Frame
from farmhand_collector.capacity.peers import compared, same_kind

LEAST_SHORTFALL = 0.08
"""Below this lie the states in which healthy GeForce cards compute (P2 is 2–4 % under P0)."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Mean memory clock under load against the median of the other cards of its kind."""
    del facts
    span = span_of(frame)
    clock, kinds = span.latest["memory_clock_mhz"], same_kind(frame)
    return compared(clock, kinds, span.fresh, least_shortfall=LEAST_SHORTFALL), memory


DETECTOR = Detector(
    name="peer_memory_clock",
    cause="memory",
    component="bandwidth",
    action="repad",
    precedence=6,
    raise_after=3,
    clear_after=6,
    memory=NO_MEMORY,
    per_span=True,
    score=score,
)
