"""What happens to cards, told once: repeats gathered, two tellers made one, counters differenced.

Pure: no clock and no I/O. Times of what happened are wall-clock nanoseconds; `now` is a monotonic
time in seconds, by which something that was kept back is let go.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple, TypeVar

import msgspec

from farmhand_agent.sources.kernel.nvrm import ALONE, GONE, GONE_TOO, Part

REPEAT_NS = 10 * 10**9
"""The same again within this time after the first is counted, not told by itself."""
STORY_NS = 10 * 10**9
"""Within this time the lines about one mishap follow each other."""
SAME_SECONDS = 30
"""How far apart two tellers may date the same happening."""
HOLD_SECONDS = 5.0
"""How long the driver's own word waits for the kernel log, which says more."""
GRACE_SECONDS = 1.0
"""For records that are still on their way when the time for repeats is over."""
MAX_KEPT = 1000
"""Of anything that is kept: a log that goes wild costs this much memory."""

DRIVER_ONLY = "told by the driver only"
_DEVICE_GONE = "999"
_SECOND = 10**9

Tags = Mapping[str, str]
_K = TypeVar("_K", int, str)


class Event(msgspec.Struct, frozen=True):
    """One thing that happened to a card, or `count` times the same."""

    tags: dict[str, str]
    """Of the card: slot, card, vendor, model."""
    kind: str
    code: str
    text: str
    time_ns: int
    count: int = 1
    part: Part = ALONE

    @property
    def slot(self) -> str:
        """Where the card sits."""
        return self.tags.get("slot", "")


def driver_event(tags: Tags, code: str, time_ns: int) -> Event:
    """An XID as the driver's library tells it; the code for a card that is gone is none."""
    if code == _DEVICE_GONE:
        return Event(dict(tags), "off_bus", "", DRIVER_ONLY, time_ns, part=GONE_TOO)
    part = GONE if code == "79" else ALONE
    return Event(dict(tags), "xid", code, DRIVER_ONLY, time_ns, part=part)


class LogState(Enum):
    """What may still be expected of the kernel log."""

    UNREADABLE = auto()
    BEHIND = auto()
    """There are records that have not been read yet."""
    CAUGHT_UP = auto()


# --- one mishap, several lines -----------------------------------------------------------------


class Stories(msgspec.Struct):
    """Tells lines that only repeat in other words what an earlier line said of the same mishap."""

    told: dict[str, tuple[int, int]] = {}
    """Rank and time of the line that told it last, by slot and story."""

    def is_news(self, event: Event) -> bool:
        """Whether an event says something that was not said just before; takes note of it."""
        rank = event.part.rank
        keys = [f"{event.slot}\n{story}" for story in event.part.stories]
        if any(self._is_told(key, rank, event.time_ns) for key in keys):
            return False
        for key in keys:
            self.told.pop(key, None)
            self.told[key] = (rank, event.time_ns)
        _trim(self.told)
        return True

    def _is_told(self, key: str, rank: int, time_ns: int) -> bool:
        told_rank, told_ns = self.told.get(key, (rank, 0))
        return told_rank < rank and abs(time_ns - told_ns) <= STORY_NS


def _trim(kept: dict[_K, Any]) -> None:
    """Forget what was noted first, where too much is."""
    if len(kept) > MAX_KEPT:
        del kept[next(iter(kept))]


# --- two tellers -------------------------------------------------------------------------------


class Sightings(msgspec.Struct):
    """How often each thing was told by one teller, and not yet by the other, second by second."""

    counts: dict[str, dict[int, int]] = {}

    def add(self, key: str, time_ns: int) -> None:
        """Note one more; the oldest are forgotten when there are too many."""
        seconds = self.counts.setdefault(key, {})
        second = time_ns // _SECOND
        seconds[second] = seconds.get(second, 0) + 1
        _trim(seconds)
        _trim(self.counts)

    def take(self, key: str, time_ns: int) -> bool:
        """Use up the earliest that is the same; whether there was one."""
        seconds = self.counts.get(key, {})
        middle = time_ns // _SECOND
        for second in range(middle - SAME_SECONDS, middle + SAME_SECONDS + 1) if seconds else ():
            if second in seconds:
                seconds[second] -= 1
                if not seconds[second]:
                    del seconds[second]
                if not seconds:
                    del self.counts[key]
                return True
        return False


class Held(msgspec.Struct):
    """An event that waits, and since when."""

    event: Event
    since: float


class Tellers(msgspec.Struct):
    """Makes one of what the kernel log and the driver's library tell of the same happening.

    The log has the text, so where it can be read its word counts: as many of the driver's events
    are dropped as the log tells of the same card and code at about that time. One that it does not
    tell is let through after a while, and then counts as told should the log come to it later.
    """

    logged: Sightings = msgspec.field(default_factory=Sightings)
    """Told by the log, for the driver that may tell them later."""
    let_through: Sightings = msgspec.field(default_factory=Sightings)
    """Told on the driver's word, for the log that may come to them later."""
    held: dict[str, list[Held]] = {}

    def kernel(self, event: Event) -> bool:
        """Take the log's word; False where the same was let through already."""
        key = _key(event)
        if self.let_through.take(key, event.time_ns):
            return False
        if not self._drop_held(key, event.time_ns):
            self.logged.add(key, event.time_ns)
        return True

    def driver(self, event: Event, now: float, log: LogState) -> list[Event]:
        """Take the driver's word; gives what is to be told at once."""
        key = _key(event)
        if self.logged.take(key, event.time_ns):
            return []
        waiting = self.held.setdefault(key, [])
        waiting.append(Held(event, now))
        told = self.release(now, log)
        if len(waiting) > MAX_KEPT:
            told.append(waiting.pop(0).event)
        return told

    def release(self, now: float, log: LogState) -> list[Event]:
        """Give what has been held for long enough."""
        if log is LogState.BEHIND:
            return []
        told = []
        for key, waiting in list(self.held.items()):
            while waiting and (
                log is LogState.UNREADABLE or waiting[0].since <= now - HOLD_SECONDS
            ):
                told.append(waiting.pop(0).event)
            if not waiting:
                del self.held[key]
        return told

    def let(self, event: Event) -> None:
        """Note that the driver's word was taken for it."""
        self.let_through.add(_key(event), event.time_ns)

    def due(self) -> float | None:
        """When `release` has something to give."""
        waiting = [held[0].since for held in self.held.values()]
        return min(waiting) + HOLD_SECONDS if waiting else None

    def _drop_held(self, key: str, time_ns: int) -> bool:
        waiting = self.held.get(key, [])
        for index, held in enumerate(waiting):
            if abs(held.event.time_ns - time_ns) // _SECOND <= SAME_SECONDS:
                del waiting[index]
                if not waiting:
                    del self.held[key]
                return True
        return False


def _key(event: Event) -> str:
    """Under which both tellers mean the same."""
    return f"{event.slot}\n{'gone' if 'gone' in event.part.stories else event.code}"


# --- repeats -----------------------------------------------------------------------------------


class Group(msgspec.Struct):
    """The first of its kind has been told; what repeats it is counted."""

    start_ns: int
    due: float
    count: int = 0
    last: Event | None = None

    def has_room(self, time_ns: int) -> bool:
        """Whether something at that time repeats it."""
        return abs(time_ns - self.start_ns) < REPEAT_NS

    def close(self) -> list[Event]:
        """The repeats as one event."""
        return [] if self.last is None else [msgspec.structs.replace(self.last, count=self.count)]


class Repeats(msgspec.Struct):
    """Tells the first of a kind at once, and what repeats it within seconds as one event.

    That one has the time and the text of the last of them, so it is the same whenever it is told.
    """

    groups: dict[str, Group] = {}

    def add(self, event: Event, now: float) -> list[Event]:
        """Take an event; gives what is to be told now."""
        key = "\n".join((event.slot, event.kind, event.code))
        group = self.groups.get(key)
        if group is not None and group.has_room(event.time_ns):
            group.count += event.count
            group.last = event
            return []
        told = [*self._close([key] if group else []), event]
        self.groups[key] = Group(event.time_ns, now + REPEAT_NS / _SECOND + GRACE_SECONDS)
        if len(self.groups) > MAX_KEPT:
            told += self._close([next(iter(self.groups))])
        return told

    def release(self, now: float) -> list[Event]:
        """Give the repeats of what can be repeated no more."""
        return self._close([key for key, group in self.groups.items() if group.due <= now])

    def flush(self) -> list[Event]:
        """Give all repeats."""
        return self._close(list(self.groups))

    def due(self) -> float | None:
        """When `release` has something to give."""
        return min((group.due for group in self.groups.values()), default=None)

    def _close(self, keys: Sequence[str]) -> list[Event]:
        return [event for key in keys for event in self.groups.pop(key).close()]


# --- all of it ---------------------------------------------------------------------------------


class Fold(msgspec.Struct):
    """What is told of cards, each thing once; it can be saved and loaded at any time."""

    stories: Stories = msgspec.field(default_factory=Stories)
    tellers: Tellers = msgspec.field(default_factory=Tellers)
    repeats: Repeats = msgspec.field(default_factory=Repeats)

    def kernel(self, event: Event, now: float) -> list[Event]:
        """Take what the kernel log tells; gives what is to be told."""
        if self.stories.is_news(event) and self.tellers.kernel(event):
            return self.repeats.add(event, now)
        return []

    def driver(self, event: Event, now: float, log: LogState) -> list[Event]:
        """Take what the driver's library tells; gives what is to be told."""
        return self._told(self.tellers.driver(event, now, log), now)

    def release(self, now: float, log: LogState) -> list[Event]:
        """Give what was kept back and need not be any more."""
        told = self._told(self.tellers.release(now, log), now)
        return told if log is LogState.BEHIND else told + self.repeats.release(now)

    def flush(self, now: float) -> list[Event]:
        """Give all that is kept back."""
        told = self._told(self.tellers.release(now, LogState.UNREADABLE), now)
        return told + self.repeats.flush()

    def due(self) -> float | None:
        """When `release` has something to give, where the log has been read so far."""
        dues = [due for due in (self.tellers.due(), self.repeats.due()) if due is not None]
        return min(dues, default=None)

    def _told(self, events: Sequence[Event], now: float) -> list[Event]:
        """What is to be told of events that are taken on the driver's word."""
        told = []
        for event in events:
            if self.stories.is_news(event):
                self.tellers.let(event)
                told += self.repeats.add(event, now)
        return told


# --- counters ----------------------------------------------------------------------------------

Totals = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Errors since boot: PCI address of the card, end of its link (`card` or `port`), error, count."""


class Increase(NamedTuple):
    """So many more errors of one kind."""

    address: str
    end: str
    error: str
    more: int


class Tally(msgspec.Struct):
    """Errors that a link has counted; what is there at the first look is not told."""

    totals: dict[str, int] = {}

    def count(self, totals: Totals) -> list[Increase]:
        """Increases since the last look; a counter that went down has started again from zero."""
        found = []
        for address, end, error, total in _flat(totals):
            key = f"{address} {end} {error}"
            before = self.totals.get(key, total)
            self.totals[key] = total
            increase = total - before if total >= before else total
            if increase > 0:
                found.append(Increase(address, end, error, increase))
        return found


def _flat(totals: Totals) -> Iterator[tuple[str, str, str, int]]:
    for address, ends in totals.items():
        for end, errors in ends.items():
            for error, total in errors.items():
                yield address, end, error, total


def aer_event(tags: Tags, increase: Increase, time_ns: int) -> Event:
    """An increase of a link's errors, as an event of the card at its end."""
    text = f"counted at the {increase.end}'s end of the link"
    return Event(dict(tags), "aer", increase.error, text, time_ns, increase.more)
