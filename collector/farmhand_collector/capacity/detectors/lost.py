"""The card is gone: the driver no longer lists it, or says that it fell off the bus."""

import numpy as np

from farmhand_collector.capacity.detector import (
    LOST,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
)
from farmhand_collector.capacity.frame import READ_LOST, READ_OK, Frame

OFF_THE_BUS = frozenset({("xid", "79"), ("xid", "167"), ("lost", "")})
"""Events after which no call reaches the card: kind and code. XIDs by NVIDIA's catalogue (79 has
fallen off the bus, 167 PCIe fatal timeout); `lost` is the agent's own word."""

MEMORY = np.dtype([("fell_ns", "i8"), ("good_ns", "i8")])
"""When the card last fell, and when the last window began of which a good reading was told."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """A reading says lost, or an event said so and no good reading came after it."""
    del facts
    memory = memory.copy()
    for event in frame.events:
        if (event.kind, event.code) in OFF_THE_BUS:
            memory["fell_ns"][event.card] = max(memory["fell_ns"][event.card], event.time_ns)
    memory["good_ns"][frame.read == READ_OK] = frame.start_ns
    # A window that was sampled partly before the fall may still be told as good. An event that
    # comes late, or again, changes nothing when the card was good since.
    fell = (memory["fell_ns"] > 0) & (memory["fell_ns"] >= memory["good_ns"])
    level = levels(frame.present | fell, (LOST, (frame.read == READ_LOST) | fell))
    return Score(level, {"fell": fell.astype(float)}, np.zeros(len(frame))), memory


DETECTOR = Detector(
    name="lost",
    cause="unreachable",
    component=None,
    action="reseat",
    precedence=0,
    raise_after=1,
    clear_after=2,
    memory=MEMORY,
    score=score,
)
