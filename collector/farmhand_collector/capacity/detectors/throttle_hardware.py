"""The board slows itself down: a supply that cannot feed it, or the external power brake."""

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

WATCH_DUTY, DEGRADED_DUTY = 0.02, 0.1
"""Shares of loaded time. A hardware slowdown halves the clock or worse (NVML), and one sample of it
may show at a change of power state, so a span must hold more than that."""
SLOWDOWN_COST = 0.5
"""Share of its clock that a card loses at least while it is slowed down (NVML)."""
_FIELDS = ("throttle_hardware_ratio", "throttle_brake_ratio", "throttle_thermal_ratio")


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Slowdown under load that neither heat nor the power brake explains.

    NVML counts a slowdown from either as both.
    """
    del facts
    means = span_of(frame).loaded
    hardware, brake, thermal = (means[name] for name in _FIELDS)
    duty = np.maximum(hardware - np.nan_to_num(thermal) - np.nan_to_num(brake), 0)
    judged = ~np.isnan(duty)
    level = levels(judged, (WATCH, duty >= WATCH_DUTY), (DEGRADED, duty >= DEGRADED_DUTY))
    return Score(level, {"duty": duty}, 1 - duty * SLOWDOWN_COST), memory


DETECTOR = Detector(
    name="throttle_hardware",
    cause="power",
    component="compute",
    action="check-power-cable",
    precedence=4,
    raise_after=2,
    clear_after=6,
    memory=NO_MEMORY,
    per_span=True,
    score=score,
    shared_by=frozenset({"node", "power_group", "rack"}),
)
