"""The supply or the chassis pulls the external power brake."""

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
from farmhand_collector.capacity.detectors.throttle_hardware import SLOWDOWN_COST
from farmhand_collector.capacity.frame import Frame

WATCH_DUTY, DEGRADED_DUTY = 0.02, 0.1
"""Shares of loaded time. The brake halves the clock or worse (NVML), and slowdown bits may show on
one sample at a change of power state (NVML), so a span must hold more than
that; a tenth of the time costs what no healthy farm loses."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Share of loaded time under the external power brake."""
    del facts
    means = span_of(frame).loaded
    duty = means["throttle_brake_ratio"]
    level = levels(~np.isnan(duty), (WATCH, duty >= WATCH_DUTY), (DEGRADED, duty >= DEGRADED_DUTY))
    evidence = {"duty": duty, "power_watts": means["power_watts"]}
    return Score(level, evidence, 1 - duty * SLOWDOWN_COST), memory


DETECTOR = Detector(
    name="power_brake",
    cause="power",
    component="compute",
    action="check-power-cable",
    # It is what makes a hardware slowdown.
    precedence=3,
    raise_after=2,
    clear_after=6,
    memory=NO_MEMORY,
    per_span=True,
    score=score,
    shared_by=frozenset({"node", "power_group", "rack"}),
)
