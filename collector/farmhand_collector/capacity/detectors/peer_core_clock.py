"""The core clock under load is below that of equal cards at equal limits."""

import numpy as np

from farmhand_collector.capacity.detector import (
    Detector,
    Facts,
    Memory,
    Score,
    gather,
    nothing_judged,
    span_memory,
)
from farmhand_collector.capacity.frame import Frame
from farmhand_collector.capacity.peers import alike, at_power_limit, compared
from farmhand_collector.capacity.statistics import grouped, others_median

LEAST_SHORTFALL = 0.10
"""Identical healthy cards spread by 8 % on average (Sinha et al., SC'22); less than a tenth below
the others proves nothing without the card's own history."""
_FIELDS = ("core_clock_mhz", "power_watts", "power_limit_watts", "throttle_power_ratio")


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Mean clock under load against the others of its kind.

    A card at its power limit is compared with others at theirs: what they run decides the clock.
    A card that is not held back by power has no excuse, whatever the others run.
    """
    del facts
    memory, means = gather(frame, memory, {name: frame.loaded[name] for name in _FIELDS})
    if means is None:
        return nothing_judged(len(frame)), memory
    clock, kinds = means["core_clock_mhz"], alike(frame)
    limited = at_power_limit(means)
    equals = others_median(np.where(limited, clock, np.nan), grouped(kinds, limited))
    reference = np.where(limited, equals, others_median(clock, kinds))
    return compared(clock, kinds, reference, least_shortfall=LEAST_SHORTFALL), memory


DETECTOR = Detector(
    name="peer_core_clock",
    cause="compute",
    component="compute",
    action="rerun-probe",
    precedence=8,
    raise_after=3,
    clear_after=6,
    memory=span_memory(*_FIELDS),
    score=score,
)
