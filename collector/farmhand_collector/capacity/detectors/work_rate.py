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
from farmhand_collector.capacity.pace import by_choice, gangs, usual
from farmhand_collector.capacity.peers import (
    LEAST_SIGMAS,
    alike_at_work,
    compared,
)
from farmhand_collector.capacity.statistics import (
    Groups,
    clustered,
    group_medians,
    grouped,
    lower_tail,
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


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Rate against the others at the same job, by card, and by node against other nodes.

    Cards of other models, or with other power limits, may take part in the job; only equals are
    compared. A gang in lock step is as slow as its slowest card.
    """
    span, step = span_of(frame), gangs(frame)
    job = np.nan_to_num(span.latest["job"])
    is_locked = facts.of_cards("locked", len(frame)) == 1
    alike = alike_at_work(frame)
    equals = _by_lock(span.latest["rate"], alike, is_locked)
    # Who waits for cards that are made to be slower says nothing of itself.
    able = (job > 0) & ~is_divided(frame) & ~step.is_mixed(equals)
    cohort = np.where(able, grouped(alike, job), -1)
    cohort = _by_lock(span.latest["rate"], cohort, is_locked)
    rate = np.where(span.latest["rate"] > 0, span.latest["rate"], np.nan)
    choice = by_choice(frame, cohort)
    even = np.where(step.in_step, step.rate, rate) / choice.factor
    busy = span.latest["rate_utilization_ratio"]
    expected, fresh = usual(even, busy, choice.is_capped, cohort), span.rate > 0
    score = compared(even, cohort, fresh, least_shortfall=CARD_SHORTFALL, reference=expected)
    # A node that goes in step with others is as slow as they.
    alone = np.where(step.is_wide, -1, cohort)
    slow_node = _of_slow_node(frame.roster.nodes, even, busy, choice.is_capped, alone)
    sigmas = np.fmin(slow_node, _beside_steady(np.log(even / expected), alone))
    sigmas = np.where(fresh, sigmas, np.nan)
    level = levels((score.level >= 0) | ~np.isnan(sigmas), (DEGRADED, score.level > 0))
    level = np.where(np.isnan(sigmas), level, DEGRADED).astype(np.int8)
    shown = {name: score.evidence[name] * choice.factor for name in ("value", "usual")}
    assert score.p_value is not None
    p_value = np.fmin(score.p_value, lower_tail(sigmas))
    return Score(level, {**score.evidence, **shown}, score.delivered, p_value), memory


def _by_lock(rate: Floats, cohort: Groups, locked: Bools) -> Groups:
    """(n,) the cohort, mining cards split by whether they are locked: only their rate tells."""
    split = clustered(np.where(locked, np.nan_to_num(rate), 0.0), cohort, LOCK_RATIO)
    return np.where(locked & (cohort >= 0), split + cohort.max(initial=0) + 1, cohort)


def _beside_steady(deviation: Floats, cohort: Groups) -> Floats:
    """(n,) by how many of their sigmas a card lies below others that agree very well; else NaN."""
    groups = np.where(cohort >= 0, cohort, cohort.max(initial=0) + 1)
    spread, members = group_medians(np.abs(deviation), groups, int(groups.max(initial=-1)) + 1)
    sigmas = deviation / np.fmax(1.4826 * spread, LEAST_STEADY_SIGMA)[groups]
    able = (members >= LEAST_STEADY_CARDS)[groups] & (cohort >= 0)
    slow = able & (1 - np.exp(deviation) >= STEADY_SHORTFALL) & (sigmas <= -STEADY_SIGMAS)
    return np.where(slow, sigmas, np.nan)


def _of_slow_node(
    nodes: Groups, even: Floats, busy: Floats, is_capped: Bools, cohort: Groups
) -> Floats:
    """(n,) by how many sigmas a card's node is slower at its job than other nodes; else NaN."""
    groups = grouped(cohort, nodes)
    _, first, members = np.unique(groups, return_index=True, return_inverse=True)
    rate, counts = group_medians(even, members, len(first))
    able = (counts >= LEAST_NODE_CARDS) & (cohort[first] >= 0)
    rate = np.where(able, rate, np.nan)
    middle_busy, _ = group_medians(busy, members, len(first))
    any_capped = np.bincount(members, weights=is_capped, minlength=len(first)) > 0
    deviation = np.log(rate / usual(rate, middle_busy, any_capped, cohort[first]))
    sigmas = deviation / pooled_sigma(deviation)
    slow = (1 - np.exp(deviation) >= NODE_SHORTFALL) & (sigmas <= -LEAST_SIGMAS)
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
