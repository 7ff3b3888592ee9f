"""The card shows less memory than its name allows, or less than it showed before."""

import numpy as np

from farmhand_collector.capacity.detector import (
    DEGRADED,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
)
from farmhand_collector.capacity.frame import Floats, Frame

SAME_SIZE_RATIO = 0.97
"""Drivers report one size up to 3 % apart."""
ECC_RATIO = 15 / 16
"""ECC on boards with GDDR memory takes a sixteenth."""

MEMORY = np.dtype([("largest_bytes", "f8")])


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Expected is the largest size seen; before that, the smallest made one that would hold it.

    Memory that shrinks between boots is a strap, VBIOS or driver that was lost, or a dead chip.
    """
    size = frame.values["memory_total_bytes"]
    memory = memory.copy()
    seen = np.fmax(memory["largest_bytes"], np.nan_to_num(size))
    memory["largest_bytes"] = seen
    made = np.array([_made(frame.roster[i].model, seen[i], facts) for i in range(len(frame))])
    expected = np.fmax(made, seen)
    share = np.divide(size, expected, out=np.full(len(frame), np.nan), where=expected > 0)
    judged = ~np.isnan(share)
    level = levels(judged, (DEGRADED, share < SAME_SIZE_RATIO * ECC_RATIO))
    evidence: dict[str, Floats] = {"size_bytes": size, "expected_bytes": expected}
    return Score(level, evidence, delivered=np.fmin(share, 1.0)), memory


def _made(model: str, seen_bytes: float, facts: Facts) -> float:
    """The made size that the card should show; NaN for a name that is not known.

    A card that fits a made size is of that size: names are shared by several.
    """
    sizes = facts.memory_bytes.get(model)
    if not sizes or not seen_bytes:
        return np.nan
    if any(_fits(seen_bytes, size) for size in sizes):
        return seen_bytes
    return min((size for size in sizes if size > seen_bytes), default=seen_bytes)


def _fits(seen_bytes: float, size: float) -> bool:
    return size * SAME_SIZE_RATIO * ECC_RATIO <= seen_bytes <= size / SAME_SIZE_RATIO


DETECTOR = Detector(
    name="memory_size",
    cause="memory",
    component="memory",
    action="reflash-vbios",
    precedence=2,
    raise_after=2,
    clear_after=2,
    memory=MEMORY,
    score=score,
)
