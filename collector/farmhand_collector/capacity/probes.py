"""Results of probes: what an active test of a card measured last, and the first time.

A probe runs rarely. Its frame alone is judged, and so what it found stays told until another one
finds better.
"""

import numpy as np

from farmhand_collector.capacity.detector import DEGRADED, FAILING, NOT_JUDGED, OK, WATCH, Memory
from farmhand_collector.capacity.frame import Bools, Codes, Floats
from farmhand_collector.capacity.peers import LEAST_SIGMAS
from farmhand_collector.capacity.statistics import Groups, others_median, pooled_sigma

FIELDS = [("first", "f8"), ("last", "f8"), ("usual", "f8"), ("share", "f8"), ("level", "i1")]
"""What is remembered of a quantity: first and last result, the median of the last ones of equal
cards, the share of the expected that the last one is, and how bad that is."""

WATCH_SHARE, DEGRADED_SHARE, FAILING_SHARE = 0.95, 0.90, 0.65
"""Against equal cards and the card's own first result: SuperBench's documented criterion is 5 %,
identical cards spread by 8 % (Sinha et al., SC'22), and no healthy one reaches less than 65 %."""


def remember(memory: Memory, measured: Floats) -> None:
    """Take results in; `memory` is changed in place."""
    told = measured > 0
    memory["last"] = np.where(told, measured, memory["last"])
    memory["first"] = np.where(told & (memory["first"] == 0), measured, memory["first"])


def last(memory: Memory) -> Floats:
    """(n,) last results, NaN where there is none."""
    return np.where(memory["last"] > 0, memory["last"], np.nan)


def compare(
    memory: Memory,
    equals: Groups,
    least_beside: float,
    repeats: Bools | None = None,
    degraded_share: float = DEGRADED_SHARE,
) -> None:
    """Judge all last results against equal cards and the first ones; `memory` is changed.

    Args:
        memory: (n,) with `FIELDS`.
        equals: (n,) who is compared with whom, negative for nobody.
        least_beside: share below equal cards from which on it matters.
        repeats: (n,) whose first result was measured under the same conditions; by default all.
        degraded_share: below it a card is degraded.
    """
    measured = last(memory)
    usual = others_median(measured, equals)
    deviation = np.log(measured / usual)
    sigma = pooled_sigma(deviation)
    stands_out = (deviation <= -LEAST_SIGMAS * sigma) & (measured <= (1 - least_beside) * usual)
    beside = np.where(stands_out, measured / usual, np.nan)
    first = memory["first"] if repeats is None else np.where(repeats, memory["first"], np.nan)
    share = np.fmin(beside, measured / first)
    memory["usual"], memory["share"] = np.nan_to_num(usual), np.nan_to_num(share)
    memory["level"] = NOT_JUDGED
    memory["level"][~np.isnan(measured)] = OK
    lower(memory, share, WATCH_SHARE, degraded_share, FAILING_SHARE)


def lower(memory: Memory, share: Floats, *least: float) -> None:
    """Take in a share of something expected, with what it must reach not to be watch and worse."""
    memory["share"] = np.where(
        memory["share"] > 0, np.fmin(memory["share"], share), np.nan_to_num(share)
    )
    for level, wanted in zip((WATCH, DEGRADED, FAILING), least, strict=True):
        worse = (share < wanted) & (memory["level"] < level)
        memory["level"] = np.where(worse, level, memory["level"])


def level_of(memory: Memory, probed: Bools) -> Codes:
    """(n,) level of the last result for cards that were probed now, by whatever test."""
    told = probed & (memory["last"] > 0)
    return np.where(told, memory["level"], NOT_JUDGED).astype(np.int8)


def share_of(memory: Memory) -> Floats:
    """(n,) share of the expected that the last result is, NaN where nothing was expected."""
    return np.where(memory["share"] > 0, memory["share"], np.nan)
