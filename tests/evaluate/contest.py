"""Holds baselines against farmhand: thresholds chosen on one half, flags counted on the other."""

import sys
from collections.abc import Iterator, Sequence
from subprocess import CalledProcessError
from typing import NamedTuple

import numpy as np

from tests.evaluate.baselines.baseline import (
    Baseline,
    Learned,
    Scores,
    flags,
    held,
    peaks,
    threshold,
)
from tests.evaluate.features import Table
from tests.evaluate.follow import Followed
from tests.evaluate.real.halves import Half
from tests.evaluate.scoring import History, Share
from tests.evaluate.truth import Truth, in_half


class Contender(NamedTuple):
    """One judge with the threshold at which it was run, and all that it said."""

    name: str
    least: float | None
    """None for farmhand, whose thresholds are those of its code."""
    history: History

    def label(self) -> str:
        """For a table."""
        return self.name if self.least is None else f"{self.name} ≥ {self.least:.3g}"


def scored(
    baseline: Baseline, tables: Sequence[Table], learned: Sequence[Learned]
) -> list[Scores] | None:
    """Held scores of a baseline, or None where it has nothing to learn from or cannot be had.

    Why it cannot be had goes to standard error.
    """
    if not any((one.fresh & cards).any() for one, cards in learned):
        return None
    try:
        told = baseline.scores(tables, learned)
    except (CalledProcessError, OSError) as error:
        sys.stderr.write(f"{baseline.name} was left out: {error}\n")
        return None
    return [held(baseline, table, one) for table, one in zip(tables, told, strict=True)]


def contenders(
    followed: Followed, truth: Truth, baselines: Sequence[Baseline]
) -> Iterator[Contender]:
    """Farmhand; then each baseline as it is used, and at farmhand's own rate of false alarms.

    The rate is that of healthy cards of the half to choose on that were ever flagged.
    """
    yield Contender("farmhand", None, followed.history)
    table = followed.table
    chosen = in_half(table.roster, truth.healthy, Half.CHOOSE)
    most = len(followed.history.flagged() & set(np.flatnonzero(chosen).tolist()))
    for baseline in baselines:
        told = scored(baseline, [table], [(table, chosen)])
        if told is None:
            continue
        (scores,) = told
        if baseline.usual is not None:
            yield Contender(baseline.name, baseline.usual, flags(table, scores, baseline.usual))
        least = threshold(peaks(scores, chosen), most)
        yield Contender(f"{baseline.name}, tuned", least, flags(table, scores, least))


def false_share(history: History, truth: Truth, half: Half | None, least: int) -> Share:
    """Healthy cards, of a half or of all, that were ever flagged at a level or worse."""
    cards = truth.healthy
    if half is not None:
        cards = set(np.flatnonzero(in_half(history.roster, cards, half)).tolist())
    return Share(len(history.flagged(least) & cards), len(cards))
