"""Comparing like with like: which cards are equals, and how far one lies below the others."""

from collections.abc import Mapping

import numpy as np

from farmhand_collector.capacity.detector import DEGRADED, Score, levels
from farmhand_collector.capacity.frame import Bools, Floats, Frame
from farmhand_collector.capacity.statistics import (
    Groups,
    clustered,
    grouped,
    lower_tail,
    others_median,
    pooled_sigma,
)

LEAST_SIGMAS = 3.5
"""Deviation, in pooled standard deviations, below which a card is one of the many."""
AT_LIMIT_RATIO = 0.93
SAME_LIMIT_RATIO = 1.06
"""Partner boards of one model differ by a few percent in their limit, which moves the clock by a
third of that; a limit lowered on purpose lies further off."""
AT_LIMIT_DUTY = 0.3
"""A card is at its power limit when it draws this share of it, or is held by it this share of the
time. That is normal at full load."""


def same_kind(frame: Frame) -> Groups:
    """(n,) cards of equal model and memory form one group."""
    memory_gib = np.nan_to_num(frame.values["memory_total_bytes"] / 2**30).round()
    return grouped(frame.roster.kinds, memory_gib)


def alike(frame: Frame) -> Groups:
    """(n,) cards of equal model, memory and about equal power limit in force form one group."""
    limit_watts = np.nan_to_num(frame.values["power_limit_watts"])
    return clustered(limit_watts, same_kind(frame), SAME_LIMIT_RATIO)


def at_power_limit(means: Mapping[str, Floats]) -> Bools:
    """(n,) whether power holds the card, from its means over a span."""
    drawn = means["power_watts"] >= AT_LIMIT_RATIO * means["power_limit_watts"]
    return drawn | (means["throttle_power_ratio"] >= AT_LIMIT_DUTY)


def compared(
    values: Floats, groups: Groups, reference: Floats | None = None, *, least_shortfall: float
) -> Score:
    """Score values against a reference, by default the median of the others of the group.

    Args:
        values: (n,) positive, NaN where not given.
        groups: (n,) who is compared with whom.
        reference: (n,) what each card should show, NaN where unknown.
        least_shortfall: share below the reference from which on it matters.
    """
    usual = others_median(values, groups) if reference is None else reference
    deviation = np.log(values / usual)
    sigma = pooled_sigma(deviation)
    shortfall = 1 - values / usual
    stands_out = deviation <= -LEAST_SIGMAS * sigma
    level = levels(
        ~np.isnan(deviation),
        (DEGRADED, stands_out & (shortfall >= least_shortfall)),
    )
    evidence = {"value": values, "usual": usual, "shortfall": shortfall}
    return Score(level, evidence, np.fmin(1 - shortfall, 1.0), lower_tail(deviation / sigma))
