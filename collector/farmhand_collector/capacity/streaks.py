"""Persistence: windows in a row that were bad, and what that raises and clears.

Only cards that have something are kept: on a farm that is well there is nothing to remember.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.detector import (
    LEVELS,
    NOT_JUDGED,
    OK,
    SPAN_NS,
    Detector,
    Score,
)
from farmhand_collector.capacity.frame import Bools, Codes, Frame, Index
from farmhand_collector.capacity.statistics import discoveries

FALSE_DISCOVERY_RATE = 0.01
"""Accepted share of false ones among the statistical deviations found in one frame."""

STREAK: np.dtype[Any] = np.dtype(
    [
        ("run", "i4", len(LEVELS)),
        ("raised", "?", len(LEVELS)),
        ("since_ns", "i8", len(LEVELS)),
        ("delivered", "f8"),
        ("confidence", "f8"),
        ("cause", "i1"),
        ("action", "i1"),
    ]
)
"""Per level: judged windows in a row that reached it, or as a negative number that did not;
whether it is raised, and since when it is reached. The rest is of the last bad window; `cause` and
`action` are -1 where the detector's declaration holds."""


@dataclass(slots=True)
class Streaks:
    """What is going on with the cards, by one detector's word.

    `cards` are those with something, ascending, `rows` theirs. `good` says of all n cards whether
    any window was good so far. `evidence` holds the values behind each card's last bad window.
    """

    cards: Index = field(default_factory=lambda: np.zeros(0, np.intp))
    rows: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, STREAK))
    good: Bools = field(default_factory=lambda: np.zeros(0, bool))
    evidence: dict[int, dict[str, float]] = field(default_factory=dict)

    def fitted(self, n: int) -> "Streaks":
        """With room for n cards."""
        if len(self.good) == n:
            return self
        good = np.concatenate([self.good, np.zeros(n - len(self.good), bool)])
        return Streaks(self.cards, self.rows, good, self.evidence)

    def worst_raised(self) -> tuple[Index, NDArray[np.intp]]:
        """Cards with a raised level, each with the place of its worst among the levels.

        A card that was never good has nothing to be patient for: it is watched at once.
        """
        at_first = (self.rows["run"][:, 0] > 0) & ~self.good[self.cards]
        raised = self.rows["raised"]
        shown = raised[:, 0] | at_first
        # Whatever reaches a level reaches those below it, so the raised ones are the first.
        return np.flatnonzero(shown), np.fmax(raised[shown].sum(axis=1) - 1, 0)


def persisted(before: Streaks, detector: Detector, score: Score, frame: Frame) -> Streaks:
    """Count judged windows in a row; raise and clear each level by the detector's patience."""
    level = _pooled(score)
    cards = np.union1d(before.cards, np.flatnonzero(level > OK)).astype(np.intp)
    good = before.good | (level == OK)
    if not len(cards):
        return Streaks(good=good)
    rows = np.zeros(len(cards), STREAK)
    rows[np.searchsorted(cards, before.cards)] = before.rows
    _count(rows, level[cards], _windows(frame, cards), detector, frame)
    _note(rows, level[cards], cards, score)
    kept = rows["raised"].any(axis=1) | (rows["run"] > 0).any(axis=1)
    told = {**before.evidence, **_evidence(score, cards[level[cards] > OK])}
    evidence = {card: told[card] for card in cards[kept].tolist() if card in told}
    return Streaks(cards[kept], rows[kept], good, evidence)


def _pooled(score: Score) -> Codes:
    """Levels that stand out over all cards that were tested together."""
    if score.p_value is None:
        return score.level
    found = discoveries(score.p_value, FALSE_DISCOVERY_RATE)
    return np.where((score.level > OK) & ~found, OK, score.level).astype(np.int8)


def _windows(frame: Frame, cards: Index) -> NDArray[np.int64]:
    """For how many windows a frame counts: a reading may be of a run that took long."""
    told_ns = np.nan_to_num(frame.values["window_seconds"][cards]) * 1e9
    long_ns = np.fmax(told_ns, frame.end_ns - frame.start_ns)
    windows: NDArray[np.int64] = np.fmax(long_ns // SPAN_NS, 1).astype(np.int64)
    return windows


def _count(
    rows: NDArray[np.void],
    level: Codes,
    windows: NDArray[np.int64],
    detector: Detector,
    frame: Frame,
) -> None:
    reached = level[:, np.newaxis] >= LEVELS
    run, raised, counts = rows["run"], rows["raised"], windows[:, np.newaxis]
    counted = np.where(reached, np.maximum(run, 0) + counts, np.minimum(run, 0) - counts)
    rows["since_ns"][reached & (run <= 0) & ~raised] = detector.window_start_ns(frame)
    run = np.where((level != NOT_JUDGED)[:, np.newaxis], counted, run)
    rows["raised"] = (run >= detector.raise_after) | (raised & (run > -detector.clear_after))
    rows["run"] = run


def _note(rows: NDArray[np.void], level: Codes, cards: Index, score: Score) -> None:
    """Keep what the last bad window said."""
    bad = level > OK
    at = cards[bad]
    rows["delivered"][bad] = np.nan if score.delivered is None else score.delivered[at]
    rows["confidence"][bad] = 1.0 if score.p_value is None else 1 - score.p_value[at]
    rows["cause"][bad] = -1 if score.cause is None else score.cause[at]
    rows["action"][bad] = -1 if score.action is None else score.action[at]


def _evidence(score: Score, bad: Index) -> dict[int, dict[str, float]]:
    columns = [column[bad].tolist() for column in score.evidence.values()]
    rows = zip(*columns, strict=True) if columns else [()] * len(bad)
    return {
        card: {
            name: value
            for name, value in zip(score.evidence, values, strict=True)
            if math.isfinite(value)
        }
        for card, values in zip(bad.tolist(), rows, strict=True)
    }
