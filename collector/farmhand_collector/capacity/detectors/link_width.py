"""The PCIe link is narrower than it was, or than card and slot can do.

Width does not change with load, so it is judged always; generation falls at idle and is not
judged here.
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
)
from farmhand_collector.capacity.frame import Frame

SAME_WIDTH_RATIO = 0.99
"""The mean of equal widths may miss them by a rounding."""

MEMORY = np.dtype([("widest", "f8")])


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Narrower than before is a fault; narrower from the first day on is worth a look."""
    del facts
    width = frame.values["pcie_width"]
    memory = memory.copy()
    memory["widest"] = np.fmax(memory["widest"], np.nan_to_num(width))
    possible = np.fmax(np.nan_to_num(frame.facts["pcie_width_max"]), memory["widest"])
    share = np.divide(width, possible, out=np.full(len(frame), np.nan), where=possible > 0)
    # A mean over a frame in which the link retrained lies between two widths.
    narrow = share < SAME_WIDTH_RATIO
    dropped = narrow & (width < SAME_WIDTH_RATIO * memory["widest"])
    judged = ~np.isnan(share)
    level = levels(judged, (WATCH, narrow), (DEGRADED, dropped))
    evidence = {"width": width, "expected_width": possible}
    return Score(level, evidence, delivered=np.fmin(share, 1.0)), memory


DETECTOR = Detector(
    name="link_width",
    cause="link",
    component="link",
    action="swap-riser",
    precedence=3,
    raise_after=3,
    clear_after=6,
    memory=MEMORY,
    score=score,
)
