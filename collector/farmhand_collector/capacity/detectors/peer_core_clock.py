"""The core clock under load is below that of equal cards at equal limits."""

import numpy as np

from farmhand_collector.capacity.detector import (
    ACTIONS,
    CAUSES,
    NO_MEMORY,
    Detector,
    Facts,
    Memory,
    Score,
    span_of,
)
from farmhand_collector.capacity.frame import Frame
from farmhand_collector.capacity.peers import alike, at_power_limit, compared, is_hot
from farmhand_collector.capacity.statistics import grouped, others_median

LIMITED_SHORTFALL, FREE_SHORTFALL = 0.10, 0.05
"""Identical healthy cards at their power limit spread by 8 % on average (Sinha et al., SC'22).
Those not held by power spread by 0.2 % (Longhorn V100s): there is no lottery to lose."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Mean clock under load against the others of its kind.

    A card at its power limit is compared with others at theirs: what they run decides the clock.
    A card that is not held back by power has no excuse, whatever the others run.
    """
    del facts
    span = span_of(frame)
    clock, kinds = span.latest["core_clock_mhz"], alike(frame)
    limited = at_power_limit(span.latest)
    equals = others_median(np.where(limited, clock, np.nan), grouped(kinds, limited))
    reference = np.where(limited, equals, others_median(clock, kinds))
    least = np.where(limited, LIMITED_SHORTFALL, FREE_SHORTFALL)
    score = compared(clock, kinds, span.fresh, least_shortfall=least, reference=reference)
    heat = np.where(is_hot(frame), CAUSES.index("thermal"), -1).astype(np.int8)
    cooling = np.where(is_hot(frame), ACTIONS.index("clean-fan"), -1).astype(np.int8)
    return score._replace(cause=heat, action=cooling), memory


DETECTOR = Detector(
    name="peer_core_clock",
    cause="compute",
    component="compute",
    action="rerun-probe",
    precedence=8,
    raise_after=3,
    clear_after=6,
    memory=NO_MEMORY,
    per_span=True,
    score=score,
    shared_by=frozenset({"node"}),
)
