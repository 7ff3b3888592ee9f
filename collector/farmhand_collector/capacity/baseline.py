"""Frozen baselines: what a card gave when it was new here, and how well it repeats itself.

A baseline that slides along forgets a slow decline; this one is the mean of the first spans and
stays, until what it depends on is another.
"""

from typing import NamedTuple

import numpy as np

from farmhand_collector.capacity.detector import Memory
from farmhand_collector.capacity.frame import Bools, Floats

BASELINE_SPANS = 12
"""One hour under load; the first minutes, in which the card warms up, weigh little in it."""

FIELDS = [("count", "i4"), ("mean", "f8"), ("square", "f8")]
"""What is remembered of a baseline: spans seen, their mean, and the sum of squared deviations."""


class Baseline(NamedTuple):
    """(n,) mean, and standard deviation of one span as a share of it; NaN until it is frozen."""

    mean: Floats
    sigma: Floats


def learnt(memory: Memory, values: Floats, restart: Bools | None = None) -> Baseline:
    """Take the values of a span into baselines that are not frozen; `memory` is changed in place.

    Args:
        memory: (n,) with `FIELDS`.
        values: (n,) NaN where a card gave none.
        restart: (n,) whose baseline is of something else and begins anew with this span.

    Returns:
        The baselines as they were before this span.
    """
    if restart is not None:
        for name, _ in FIELDS:
            memory[name][restart] = 0
    before = _frozen(memory)
    learns = ~np.isnan(values) & (memory["count"] < BASELINE_SPANS)
    if not learns.any():
        return before
    memory["count"] += learns
    deviation = np.where(learns, values - memory["mean"], 0.0)
    memory["mean"] += deviation / np.maximum(memory["count"], 1)
    memory["square"] += deviation * np.where(learns, values - memory["mean"], 0.0)
    return before


def _frozen(memory: Memory) -> Baseline:
    is_frozen = memory["count"] >= BASELINE_SPANS
    mean = np.where(is_frozen, memory["mean"], np.nan)
    sigma = np.sqrt(memory["square"] / (BASELINE_SPANS - 1)) / np.abs(mean)
    return Baseline(mean, sigma)
