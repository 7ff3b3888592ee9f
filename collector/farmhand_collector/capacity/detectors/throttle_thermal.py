"""Heat holds the card back, for minutes, again and again."""

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

WATCH_DUTY, DEGRADED_DUTY = 0.05, 0.15
"""Shares of loaded time."""
_FIELDS = ("throttle_thermal_ratio", "core_temperature_celsius", "fan_ratio", "power_watts")


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Share of loaded time in which temperature held the clock down."""
    del facts
    means = span_of(frame).loaded
    duty = means["throttle_thermal_ratio"]
    judged = ~np.isnan(duty)
    level = levels(judged, (WATCH, duty >= WATCH_DUTY), (DEGRADED, duty >= DEGRADED_DUTY))
    evidence = {
        "duty": duty,
        "temperature_celsius": means["core_temperature_celsius"],
        "fan_ratio": means["fan_ratio"],
        "power_watts": means["power_watts"],
    }
    return Score(level, evidence), memory


DETECTOR = Detector(
    name="throttle_thermal",
    cause="thermal",
    component="compute",
    action="clean-fan",
    precedence=5,
    raise_after=2,
    clear_after=6,
    memory=NO_MEMORY,
    per_span=True,
    score=score,
    shared_by=frozenset({"node", "rack"}),
)
