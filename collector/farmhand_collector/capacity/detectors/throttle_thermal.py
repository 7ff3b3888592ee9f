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
from farmhand_collector.capacity.frame import Floats, Frame
from farmhand_collector.capacity.peers import alike, job_now
from farmhand_collector.capacity.statistics import grouped, others_median

WATCH_DUTY, DEGRADED_DUTY = 0.05, 0.15
"""Shares of loaded time."""
LEAST_SHORTFALL, ALONE_DUTY = 0.03, 0.5
"""At its target temperature a card gives a few steps of its clock and says all the time that heat
holds it: degraded is one that gives more than that beside its equals. A card without equals must be
held for half of the time (own judgement)."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Share of loaded time in which temperature held the clock down."""
    del facts
    means = span_of(frame).loaded
    duty = means["throttle_thermal_ratio"]
    share = means["core_clock_mhz"] / _usual_clock(frame)
    costs = np.where(np.isnan(share), duty >= ALONE_DUTY, share <= 1 - LEAST_SHORTFALL)
    judged = ~np.isnan(duty)
    level = levels(judged, (WATCH, duty >= WATCH_DUTY), (DEGRADED, (duty >= DEGRADED_DUTY) & costs))
    evidence = {
        "duty": duty,
        "temperature_celsius": means["core_temperature_celsius"],
        "fan_ratio": means["fan_ratio"],
        "power_watts": means["power_watts"],
    }
    return Score(level, evidence, np.fmin(share, 1.0)), memory


def _usual_clock(frame: Frame) -> Floats:
    """(n,) clock of the others of a kind: of those at its job where it tells one, else of all.

    Those of its node are no measure for a card without a job: the whole node may be hot.
    """
    clock, kinds = span_of(frame).latest["core_clock_mhz"], alike(frame)
    job = job_now(frame)
    same = others_median(clock, np.where(job > 0, grouped(kinds, job), -1))
    return np.where(np.isnan(same), others_median(clock, kinds), same)


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
