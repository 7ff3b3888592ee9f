"""The card does its job slower than other cards do the same job."""

import numpy as np

from farmhand_collector.capacity.detector import (
    DEGRADED,
    NO_MEMORY,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
    span_of,
)
from farmhand_collector.capacity.frame import Bools, Floats, Frame
from farmhand_collector.capacity.peers import LEAST_SIGMAS, alike, compared, limit_factor
from farmhand_collector.capacity.statistics import (
    Groups,
    grouped,
    others_median,
    pooled_sigma,
)

CARD_SHORTFALL = 0.10
"""Healthy cards differ by 8 % on average at the same work (Sinha et al., SC'22); uneven work in one
job makes ranks differ by 5 % (ByteDance's trace with uneven sequences)."""
NODE_SHORTFALL = 0.05
"""A whole node that is so much slower stands out: healthy ones differ by 3 % at most (Frontera)."""
LEAST_NODE_CARDS = 2


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Rate against the others at the same job, by card, and by node against other nodes.

    Cards of other models, or with other power limits, may take part in the job; only equals are
    compared.
    """
    del facts
    span = span_of(frame)
    rate, job = span.latest["rate"], np.nan_to_num(span.latest["job"])
    cohort = np.where(job > 0, grouped(alike(frame), job), -1)
    factor = limit_factor(span.latest["power_limit_watts"])
    scaled = np.where(rate > 0, rate, np.nan) / factor
    asked = _asked(span.latest["utilization_ratio"], cohort)
    fresh = span.rate > 0
    usual = others_median(scaled, cohort) * asked
    score = compared(scaled, cohort, fresh, least_shortfall=CARD_SHORTFALL, reference=usual)
    slow_node = _of_slow_node(frame, scaled, asked, cohort) & fresh
    level = levels((score.level >= 0) | slow_node, (DEGRADED, (score.level > 0) | slow_node))
    shown = {name: score.evidence[name] * factor for name in ("value", "usual")}
    return score._replace(level=level, evidence={**score.evidence, **shown}), memory


def _asked(utilization: Floats, cohort: Groups) -> Floats:
    """(n,) how much a card is asked for beside its equals, at most 1; 1 where it does not tell.

    One that is asked for less does less. A slow one is as busy as the others, or busier.
    """
    share = np.fmin(utilization / others_median(utilization, cohort), 1.0)
    return np.where(np.isnan(share), 1.0, share)


def _of_slow_node(frame: Frame, rate: Floats, asked: Floats, cohort: Groups) -> Bools:
    """(n,) whether a card's node as a whole is slower at its job than the other nodes."""
    groups = grouped(cohort, frame.roster.nodes)
    _, first, members = np.unique(groups, return_index=True, return_inverse=True)
    medians, counts = _medians(rate, members, len(first))
    able = (counts >= LEAST_NODE_CARDS) & (cohort[first] >= 0)
    usual = others_median(np.where(able, medians, np.nan), cohort[first])
    shown = np.where(able, _medians(rate / asked, members, len(first))[0], np.nan)
    deviation = np.log(shown / usual)
    slow = (1 - shown / usual >= NODE_SHORTFALL) & (
        deviation <= -LEAST_SIGMAS * pooled_sigma(deviation)
    )
    of_card: Bools = slow[members]
    return of_card


def _medians(values: Floats, groups: Groups, count: int) -> tuple[Floats, Floats]:
    """Median of each group's values that are given, and how many these are."""
    order = np.lexsort((values, groups))  # NaN comes last of its group
    order = order[~np.isnan(values[order])]
    sizes = np.bincount(groups[order], minlength=count)
    starts = np.cumsum(sizes) - sizes
    medians = np.full(count, np.nan)
    some = sizes > 0
    low = starts[some] + (sizes[some] - 1) // 2
    high = starts[some] + sizes[some] // 2
    medians[some] = (values[order[low]] + values[order[high]]) / 2
    return medians, sizes.astype(float)


DETECTOR = Detector(
    name="work_rate",
    cause="compute",
    component="compute",
    action="rerun-probe",
    precedence=20,
    raise_after=3,
    clear_after=6,
    memory=NO_MEMORY,
    per_span=True,
    score=score,
    shared_by=frozenset({"node", "job"}),
)
