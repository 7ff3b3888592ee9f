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
from farmhand_collector.capacity.roster import Roster

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
    expected = np.fmax(_made(frame.roster, seen, facts), seen)
    share = np.divide(size, expected, out=np.full(len(frame), np.nan), where=expected > 0)
    judged = ~np.isnan(share)
    level = levels(judged, (DEGRADED, share < SAME_SIZE_RATIO * ECC_RATIO))
    evidence: dict[str, Floats] = {"size_bytes": size, "expected_bytes": expected}
    return Score(level, evidence, delivered=np.fmin(share, 1.0)), memory


def _made(roster: Roster, seen: Floats, facts: Facts) -> Floats:
    """(n,) the made size that each card should show; NaN where its name is not known.

    A card that fits a made size is of that size: names are shared by several.
    """
    made = np.full(len(roster), np.nan)
    for model, cards in roster.by_model.items():
        sizes = np.array(facts.memory_bytes.get(model, ()))
        shown = seen[cards, np.newaxis]
        fits = (sizes * SAME_SIZE_RATIO * ECC_RATIO <= shown) & (shown <= sizes / SAME_SIZE_RATIO)
        next_larger = np.append(sizes, np.nan)[np.searchsorted(sizes, seen[cards], side="right")]
        made[cards] = np.where(fits.any(axis=1), seen[cards], next_larger)
    return made


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
