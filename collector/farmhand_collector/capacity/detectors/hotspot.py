"""The hottest part of the die is far above its mean: the paste no longer covers it."""

from collections.abc import Mapping

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
from farmhand_collector.capacity.frame import Floats, Frame
from farmhand_collector.capacity.places import same_boards
from farmhand_collector.capacity.statistics import others_median

WATCH_CELSIUS, DEGRADED_CELSIUS = 25.0, 30.0
"""Hotspot above core under load: 10–15 °C is typical and up to 25 still normal, from 30 on the
paste is to be renewed (repair practice)."""
BEYOND_CELSIUS = 8.0
"""Some dies show a large difference by design, so it must lie above that of equal cards, by more
than their samples differ (own judgement: the typical range of 10–15 °C and as much again)."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Mean difference under load, by itself and against equal cards.

    A card without equals is at most to be watched: what is normal for its die is not known.
    """
    del facts
    span = span_of(frame)
    difference = _difference(span.loaded)
    usual = others_median(_difference(span.latest), same_boards(frame))
    alone = np.isnan(usual)
    stands_out = difference > usual + BEYOND_CELSIUS
    level = levels(
        ~np.isnan(difference),
        (WATCH, stands_out & (difference > WATCH_CELSIUS)),
        (WATCH, alone & (difference > DEGRADED_CELSIUS)),
        (DEGRADED, stands_out & (difference > DEGRADED_CELSIUS)),
    )
    evidence = {
        "difference_celsius": difference,
        "usual_celsius": usual,
        "hotspot_celsius": span.loaded["hotspot_temperature_celsius"],
    }
    return Score(level, evidence), memory


def _difference(means: Mapping[str, Floats]) -> Floats:
    return means["hotspot_temperature_celsius"] - means["core_temperature_celsius"]


DETECTOR = Detector(
    name="hotspot",
    cause="thermal",
    component="compute",
    action="repaste",
    # It says why a card's cooling is poor.
    precedence=4,
    raise_after=3,
    clear_after=6,
    memory=NO_MEMORY,
    per_span=True,
    score=score,
)
