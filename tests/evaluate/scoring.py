"""Counting: shares with their intervals, and the episodes in which cards were flagged."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from farmhand_collector.capacity.detector import WATCH
from farmhand_collector.capacity.roster import CardKey

Z95 = 1.959964
"""Standard deviations of a normal distribution between which 95 % lie."""
DAY_NS = 86_400 * 10**9


class Share(NamedTuple):
    """So many of so many."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The share itself, NaN of nothing."""
        return self.hits / self.of if self.of else math.nan

    def interval(self) -> tuple[float, float]:
        """Wilson's score interval of 95 %; the whole range of nothing."""
        if not self.of:
            return 0.0, 1.0
        share, n, z = self.hits / self.of, self.of, Z95
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        low = 0.0 if self.hits == 0 else middle - reach
        high = 1.0 if self.hits == self.of else middle + reach
        return low, high

    def text(self) -> str:
        """For people: `9/10 (60-98 %)`."""
        if not self.of:
            return "-"
        low, high = self.interval()
        bounds = "–".join(f"{100 * bound:.{_digits(bound)}f}" for bound in (low, high))
        return f"{self.hits}/{self.of} ({bounds} %)"

    def per(self, amount: int) -> str:
        """The share as a rate for an amount, with its interval: `1.2 (0.3-4.4)`."""
        if not self.of:
            return "-"
        low, high = (amount * bound for bound in self.interval())
        return f"{amount * self.value:.1f} ({low:.1f}–{high:.1f})"


def _digits(share: float) -> int:
    return 0 if share in (0.0, 1.0) or 0.01 <= share <= 0.99 else 1


@dataclass
class Episode:
    """A time in which a card was flagged, without a break."""

    card: int
    begin_ns: int
    end_ns: int
    level: int
    """The worst that was said."""
    cause: str
    is_open: bool = True
    """Whether it still stood at the end."""
    reached_ns: dict[int, int] = field(default_factory=dict)
    """By level, when it was first reached."""
    finding: str = ""
    """The one that named the cause last."""


@dataclass
class WideEpisode:
    """A time in which something that carries cards was flagged."""

    scope: str
    name: str
    cards: tuple[int, ...]
    """Those listed last."""
    named: int | None
    """The card of a gang for which the others wait."""
    begin_ns: int
    end_ns: int
    level: int
    cause: str
    is_open: bool = True
    finding: str = ""

    @property
    def blamed(self) -> tuple[int, ...]:
        """Cards that it points at."""
        return self.cards if self.named is None else (self.named,)


@dataclass
class History:
    """All that was said of the cards of a recording."""

    roster: Sequence[CardKey]
    begin_ns: int
    end_ns: int
    episodes: list[Episode]
    wide: list[WideEpisode] = field(default_factory=list)
    judged: Share = field(default_factory=lambda: Share(0, 0))
    """Frames of cards with a reading in which the card was judged."""

    def flagged(self, least: int = WATCH, *, at_end: bool = False) -> set[int]:
        """Cards that were flagged at a level or worse, ever or at the end."""
        return {e.card for e in self.episodes if e.level >= least and (e.is_open or not at_end)}

    def pointed_at(self, healthy: set[int], *, at_end: bool = False) -> set[int]:
        """Cards that were flagged, or listed in a wider finding that lists no healthy card."""
        found = self.flagged(at_end=at_end)
        for wide in self.wide:
            if (wide.is_open or not at_end) and not healthy & set(wide.blamed):
                found |= set(wide.blamed)
        return found

    def first_pointed_ns(self, card: int, healthy: set[int], since_ns: int = 0) -> int | None:
        """When a card was first pointed at in an episode that ended after a time."""
        told = [
            max(e.begin_ns, since_ns)
            for e in self.episodes
            if e.card == card and (e.end_ns > since_ns or e.is_open)
        ]
        told += [
            max(w.begin_ns, since_ns)
            for w in self.wide
            if card in w.blamed
            and not healthy & set(w.blamed)
            and (w.end_ns > since_ns or w.is_open)
        ]
        return min(told, default=None)


def card_days(episodes: Iterable[Episode], end_ns: int) -> int:
    """Days (UTC) of cards on which they were flagged; a flag that stands counts each day."""
    days = set()
    for episode in episodes:
        last = end_ns if episode.is_open else episode.end_ns
        days |= {(episode.card, d) for d in range(episode.begin_ns // DAY_NS, last // DAY_NS + 1)}
    return len(days)


def middle(values: Sequence[float]) -> float:
    """Median, NaN of nothing."""
    return median(values) if values else math.nan


def minutes(seconds: float) -> str:
    """A delay for people."""
    if math.isnan(seconds):
        return "-"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86_400 else f"{seconds / 86_400:.1f} d"
