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
from farmhand_collector.capacity.mig import is_divided
from farmhand_collector.capacity.peers import (
    LEAST_SIGMAS,
    alike_at_work,
    compared,
    limit_factor,
    same_kind,
)
from farmhand_collector.capacity.statistics import (
    Groups,
    clustered,
    group_medians,
    grouped,
    lower_tail,
    others_median,
    pooled_sigma,
)

CARD_SHORTFALL = 0.10
"""Healthy cards differ by 8 % on average at the same work (Sinha et al., SC'22); uneven work in one
job makes ranks differ by 5 % (ByteDance's trace with uneven sequences)."""
STEADY_SHORTFALL, STEADY_SIGMAS, LEAST_STEADY_CARDS = 0.05, 8.0, 16
"""There is work at which cards differ by 0.1 % (PageRank on Longhorn): where all others agree so
well, half as much says as much. Uneven work reaches five of its own sigmas (ByteDance)."""
LEAST_STEADY_SIGMA = 0.004
NODE_SHORTFALL = 0.05
"""A whole node that is so much slower stands out: healthy ones differ by 3 % at most (Frontera)."""
LEAST_NODE_CARDS = 2
LOCK_RATIO = 4.0
"""A lock costs a mining card 15 to 30 times its rate; equal ones lie much closer together."""
LOCK_STEP_SPREAD = 0.02
"""Cards that wait for each other tell rates this equal; ranks that time themselves do not."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Rate against the others at the same job, by card, and by node against other nodes.

    Cards of other models, or with other power limits, may take part in the job; only equals are
    compared.
    """
    span = span_of(frame)
    rate, job = span.latest["rate"], np.nan_to_num(span.latest["job"])
    able = (job > 0) & ~is_divided(frame)
    cohort = np.where(able, grouped(alike_at_work(frame), job), -1)
    cohort = _by_lock(rate, cohort, facts.of_cards("locked", len(frame)) == 1)
    factor = limit_factor(span.latest["rate_power_limit_watts"])
    rate, factor = _at_gangs_pace(np.where(rate > 0, rate, np.nan), factor, frame)
    scaled = rate / factor
    asked = _asked(span.latest["rate_utilization_ratio"], cohort)
    fresh = span.rate > 0
    usual = others_median(scaled, cohort) * asked
    score = compared(scaled, cohort, fresh, least_shortfall=CARD_SHORTFALL, reference=usual)
    deviation = np.log(scaled / usual)
    sigmas = np.fmin(_of_slow_node(frame, scaled, asked, cohort), _beside_steady(deviation, cohort))
    sigmas = np.where(fresh, sigmas, np.nan)
    level = levels((score.level >= 0) | ~np.isnan(sigmas), (DEGRADED, score.level > 0))
    level = np.where(np.isnan(sigmas), level, DEGRADED).astype(np.int8)
    shown = {name: score.evidence[name] * factor for name in ("value", "usual")}
    assert score.p_value is not None
    p_value = np.fmin(score.p_value, lower_tail(sigmas))
    return Score(level, {**score.evidence, **shown}, score.delivered, p_value), memory


def _by_lock(rate: Floats, cohort: Groups, locked: Bools) -> Groups:
    """(n,) the cohort, mining cards split by whether they are locked: only their rate tells."""
    split = clustered(np.where(locked, np.nan_to_num(rate), 0.0), cohort, LOCK_RATIO)
    return np.where(locked & (cohort >= 0), split + cohort.max(initial=0) + 1, cohort)


def _at_gangs_pace(rate: Floats, factor: Floats, frame: Frame) -> tuple[Floats, Floats]:
    """(n,) rates and what limits let them be, one for all cards of a gang that go in lock step.

    All are slow or none; and where one of them has its limit lowered, all wait for it by choice.
    """
    gang = np.nan_to_num(span_of(frame).latest["gang"])
    groups = grouped(gang, same_kind(frame))
    count = int(groups.max(initial=-1)) + 1
    pace, _ = group_medians(rate, groups, count)
    in_step = (gang > 0) & (np.abs(rate / pace[groups] - 1) <= LOCK_STEP_SPREAD)
    least = np.full(count, np.inf)
    np.minimum.at(least, groups[in_step], factor[in_step])
    return (
        np.where(in_step, pace[groups], rate),
        np.where(in_step, least[groups], factor),
    )


def _beside_steady(deviation: Floats, cohort: Groups) -> Floats:
    """(n,) by how many of their sigmas a card lies below others that agree very well; else NaN."""
    groups = np.where(cohort >= 0, cohort, cohort.max(initial=0) + 1)
    spread, members = group_medians(np.abs(deviation), groups, int(groups.max(initial=-1)) + 1)
    sigmas = deviation / np.fmax(1.4826 * spread, LEAST_STEADY_SIGMA)[groups]
    able = (members >= LEAST_STEADY_CARDS)[groups] & (cohort >= 0)
    slow = able & (1 - np.exp(deviation) >= STEADY_SHORTFALL) & (sigmas <= -STEADY_SIGMAS)
    return np.where(slow, sigmas, np.nan)


def _asked(utilization: Floats, cohort: Groups) -> Floats:
    """(n,) how much a card is asked for beside its equals, at most 1; 1 where it does not tell.

    One that is asked for less does less. A slow one is as busy as the others, or busier.
    """
    share = np.fmin(utilization / others_median(utilization, cohort), 1.0)
    return np.where(np.isnan(share), 1.0, share)


def _of_slow_node(frame: Frame, rate: Floats, asked: Floats, cohort: Groups) -> Floats:
    """(n,) by how many sigmas a card's node is slower at its job than other nodes; else NaN."""
    groups = grouped(cohort, frame.roster.nodes)
    _, first, members = np.unique(groups, return_index=True, return_inverse=True)
    medians, counts = group_medians(rate, members, len(first))
    able = (counts >= LEAST_NODE_CARDS) & (cohort[first] >= 0)
    usual = others_median(np.where(able, medians, np.nan), cohort[first])
    shown = np.where(able, group_medians(rate / asked, members, len(first))[0], np.nan)
    deviation = np.log(shown / usual)
    sigmas = deviation / pooled_sigma(deviation)
    slow = (1 - shown / usual >= NODE_SHORTFALL) & (sigmas <= -LEAST_SIGMAS)
    return np.where(slow, sigmas, np.nan)[members]


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
