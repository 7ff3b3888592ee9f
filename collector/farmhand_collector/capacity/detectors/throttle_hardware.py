"""The board slows itself down: a supply that cannot feed it, or the external power brake."""

import numpy as np

from farmhand_collector.capacity.detector import (
    DEGRADED,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    gather,
    levels,
    nothing_judged,
    span_memory,
)
from farmhand_collector.capacity.frame import Frame

WATCH_DUTY, DEGRADED_DUTY = 0.02, 0.1
"""Shares of loaded time. A hardware slowdown halves the clock or worse (NVML), and one sample of it
may show at a change of power state, so a span must hold more than that."""
_FIELDS = ("throttle_hardware_ratio", "throttle_brake_ratio", "throttle_thermal_ratio")


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Slowdown under load that heat does not explain; NVML counts a hot slowdown as both."""
    del facts
    memory, means = gather(frame, memory, {name: frame.loaded[name] for name in _FIELDS})
    if means is None:
        return nothing_judged(len(frame)), memory
    hardware, brake, thermal = (means[name] for name in _FIELDS)
    duty = np.fmax(brake, np.maximum(hardware - np.nan_to_num(thermal), 0))
    judged = ~np.isnan(duty)
    level = levels(judged, (WATCH, duty >= WATCH_DUTY), (DEGRADED, duty >= DEGRADED_DUTY))
    return Score(level, {"duty": duty, "brake_duty": brake}), memory


DETECTOR = Detector(
    name="throttle_hardware",
    cause="power",
    component="compute",
    action="check-power-cable",
    precedence=4,
    raise_after=2,
    clear_after=6,
    memory=span_memory(*_FIELDS),
    score=score,
)
