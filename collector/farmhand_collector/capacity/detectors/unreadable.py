"""The card is there but does not answer."""

import numpy as np

from farmhand_collector.capacity.detector import (
    FAILING,
    NO_MEMORY,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
)
from farmhand_collector.capacity.frame import READ_UNREADABLE, Frame


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Every reading of the frame's end says that the card does not answer."""
    del facts
    level = levels(frame.present, (FAILING, frame.read == READ_UNREADABLE))
    # What cannot be asked cannot be given work either.
    evidence = {"read_seconds": frame.values["read_seconds"]}
    return Score(level, evidence, np.zeros(len(frame))), memory


DETECTOR = Detector(
    name="unreadable",
    cause="driver",
    component=None,
    action="look-at-node",
    precedence=1,
    # One late read under memory pressure is no failure; two frames in a row are.
    raise_after=2,
    clear_after=2,
    memory=NO_MEMORY,
    score=score,
)
