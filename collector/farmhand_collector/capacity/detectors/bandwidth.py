"""The card moves less through its memory than equal cards at the same job.

Traffic that is measured says first what the work asks for, so only cards at one job are compared.
"""

import numpy as np

from farmhand_collector.capacity.detector import (
    NO_MEMORY,
    NOT_JUDGED,
    OK,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    span_of,
)
from farmhand_collector.capacity.frame import Floats, Frame
from farmhand_collector.capacity.mig import is_divided
from farmhand_collector.capacity.pace import by_choice, usual
from farmhand_collector.capacity.peers import alike_at_work, compared
from farmhand_collector.capacity.statistics import grouped

LEAST_SHORTFALL = 0.10
"""A shortfall counts from a tenth and 3.5 pooled standard deviations on (detection, conclusion 1).
One missing channel of twelve lies below it; a probe tells that."""
CHANNEL_BITS, STACK_BITS = 32, 1024
"""Width of a GDDR chip and of an HBM stack; a bus of at least one stack is HBM."""
SAME_STEP = 0.02
"""A missing channel shows as a clean step of (n - 1)/n."""
_FIELD = "memory_bandwidth_bytes_per_second"


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Mean traffic under load against the median of the other cards of its kind at its job.

    A card that is kept waiting moves less too, so this is never more than worth a look; a probe or
    the rate of the work says whether the memory gives less.
    """
    del facts
    span = span_of(frame)
    job = np.nan_to_num(span.latest["job"])
    cohort = np.where(job > 0, grouped(alike_at_work(frame), job), -1)
    moved = np.where(span.latest[_FIELD] > 0, span.latest[_FIELD], np.nan)
    # A card that told no rate may be at other work than it was last told to be.
    fresh = ~np.isnan(span.loaded[_FIELD]) & ~np.isnan(span.rate) & ~is_divided(frame)
    choice, busy = by_choice(frame, cohort), span.latest["rate_utilization_ratio"]
    expected, expected_rate = (
        usual(values / choice.factor, busy, choice.is_capped, cohort) * choice.factor
        for values in (moved, span.latest["rate"])
    )
    score = compared(moved, cohort, fresh, least_shortfall=LEAST_SHORTFALL, reference=expected)
    judged = score.level != NOT_JUDGED
    evidence = {
        "gigabytes_per_second": np.where(judged, moved / 1e9, np.nan),
        "usual_gigabytes_per_second": expected / 1e9,
        "shortfall": score.evidence["shortfall"],
        "channels_missing": np.where(judged, _channels_missing(frame, moved / expected), np.nan),
    }
    # Who gets as much done as the others with less traffic lacks none.
    slow = span.latest["rate"] < (1 - LEAST_SHORTFALL / 2) * expected_rate
    level = np.where(score.level > OK, np.where(slow, WATCH, OK), score.level).astype(np.int8)
    return score._replace(level=level, evidence=evidence, delivered=None), memory


def _channels_missing(frame: Frame, share: Floats) -> Floats:
    """(n,) how many channels would explain a share, NaN where none would or the bus is unknown."""
    bits = frame.facts["memory_bus_bits"]
    channels = bits / np.where(bits >= STACK_BITS, STACK_BITS, CHANNEL_BITS)
    missing = np.round((1 - share) * channels)
    explains = (missing >= 1) & (np.abs(1 - missing / channels - share) <= SAME_STEP)
    return np.where(explains, missing, np.nan)


DETECTOR = Detector(
    name="bandwidth",
    cause="memory",
    component="bandwidth",
    action="rerun-probe",
    precedence=9,
    raise_after=3,
    clear_after=6,
    memory=NO_MEMORY,
    per_span=True,
    score=score,
)
