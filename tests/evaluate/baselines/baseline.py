"""What a baseline is, and how its scores become flags at a rate of false alarms."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.detector import WATCH
from tests.evaluate.features import Table
from tests.evaluate.scoring import DAY_NS, Episode, History, Share

Scores = NDArray[np.float64]
"""(spans, cards) the higher the worse; NaN where a card is not judged."""
Learned = tuple[Table, NDArray[np.bool_]]
"""A table, and (cards,) those of its cards that may be learned from."""
PATIENCE = 3
"""Windows in a row for which a statistical score must hold, as for farmhand's own."""


class Baseline(Protocol):
    """A way to judge cards that is not ours."""

    name: str
    usual: float | None
    """The threshold in common use, None where there is none."""
    is_patient: bool
    """Whether a score must hold for `PATIENCE` windows before it counts."""

    def scores(self, tables: Sequence[Table], learned: Sequence[Learned]) -> list[Scores]:
        """Score all cards of all spans of each table, learning only from what is given for it."""


def held(baseline: Baseline, table: Table, scores: Scores) -> Scores:
    """Scores that were held for long enough."""
    return sustained(scores, table.windows) if baseline.is_patient else scores


def sustained(scores: Scores, windows: NDArray[np.int32], patience: int = PATIENCE) -> Scores:
    """The lowest score of the last windows of each card, as many as patience asks for.

    A card with fewer is given minus infinity; NaN stays where there is no score.
    """
    recent = np.full((patience, scores.shape[1]), -np.inf)
    result = np.full(scores.shape, np.nan)
    for row, score in enumerate(scores):
        judged = ~np.isnan(score)
        for turn in range(patience):
            moves = judged & (windows[row] > turn)
            recent[:, moves] = np.concatenate([recent[1:, moves], score[np.newaxis, moves]])
        result[row, judged] = recent[:, judged].min(axis=0)
    return result


def peaks(scores: Scores, cards: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(cards,) the worst score of each of some cards, minus infinity where there is none."""
    chosen = np.where(np.isnan(scores[:, cards]), -np.inf, scores[:, cards])
    worst: NDArray[np.float64] = chosen.max(axis=0, initial=-np.inf)
    return worst


def daily_peaks(scores: Scores, end_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """(card-days,) the worst score of each card on each day (UTC)."""
    days = (end_ns - 1) // DAY_NS
    chosen = np.where(np.isnan(scores), -np.inf, scores)
    found = [chosen[days == day].max(axis=0) for day in np.unique(days)]
    return np.concatenate(found) if found else np.empty(0)


def threshold(worst: NDArray[np.float64], most: int) -> float:
    """The lowest threshold that at most so many of these reach."""
    ranked = np.sort(worst[np.isfinite(worst)])[::-1]
    if len(ranked) <= most:
        return float(ranked[-1]) if len(ranked) else 0.0
    return float(np.nextafter(ranked[most], np.inf))


def flags(table: Table, scores: Scores, least: float) -> History:
    """Episodes in which a card's score was at or above a threshold; no score changes nothing."""
    episodes = []
    judged = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        bad = scores >= least
    for card in np.flatnonzero(bad.any(axis=0)).tolist():
        episodes += _episodes(card, table.end_ns[judged[:, card]], bad[judged[:, card], card])
    coverage = Share(int(judged.sum()), judged.size)
    return History(
        table.roster, int(table.end_ns[0]), int(table.end_ns[-1]), episodes, [], coverage
    )


def _episodes(card: int, end_ns: NDArray[np.int64], bad: NDArray[np.bool_]) -> list[Episode]:
    begins = np.flatnonzero(bad & ~np.concatenate([[False], bad[:-1]])).tolist()
    found = []
    for begin in begins:
        good = np.flatnonzero(~bad[begin:])
        end = begin + int(good[0]) if len(good) else len(bad) - 1
        began, ended = int(end_ns[begin]), int(end_ns[end])
        found.append(Episode(card, began, ended, WATCH, "", not len(good), {WATCH: began}))
    return found
