"""Frames: all readings of one stretch of time, as columns over the roster of cards.

A frame closes when the newest time stamp seen has passed its end by the lag. Readings that come
later are history: they are kept by the store and no longer judged. Since only time stamps and the
order of arrival count, replaying what a store received gives the frames that were judged live.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_agent.reading import Kind, fields_of
from farmhand_collector.block import Block

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.int8]
Index = NDArray[np.intp]

NO_READING, READ_OK, READ_UNREADABLE, READ_LOST = -1, 0, 1, 2
_READ_CODES = {"ok": READ_OK, "unreadable": READ_UNREADABLE, "lost": READ_LOST}

LOADED_RATIO = 0.8
"""A reading counts as loaded from this utilisation on: below it, clocks and power follow the work
offered and say little about the card."""

_CARD = fields_of("card")
_GAUGES = tuple(name for name, f in _CARD.items() if f.kind is Kind.GAUGE)
_PEAKS = tuple(name for name, f in _CARD.items() if f.kind in (Kind.PEAK, Kind.FLAG))
_COUNTERS = tuple(name for name, f in _CARD.items() if f.kind is Kind.COUNTER)
_FACTS = tuple(name for name, f in fields_of("card_info").items() if f.kind is not Kind.TEXT)


class CardKey(NamedTuple):
    """Who and where: a board in another slot is another row, another board in this slot too."""

    site: str
    rack: str
    host: str
    slot: str
    card: str
    vendor: str
    model: str


class Event(NamedTuple):
    """A `card_event` of one card of the roster."""

    card: int
    time_ns: int
    kind: str
    code: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One stretch of time over n cards; NaN where a card gave nothing.

    `values` holds gauges as means weighted by window length, peaks and flags as maxima, counters
    as their last value. `loaded` holds gauges over loaded readings only, and `loaded_share` the
    share of a card's reported time that was loaded. `facts` holds the numbers of `card_info` last
    heard. `read` is the state that the last reading told.
    """

    start_ns: int
    end_ns: int
    roster: tuple[CardKey, ...]
    read: Codes
    values: Mapping[str, Floats]
    loaded: Mapping[str, Floats]
    loaded_share: Floats
    facts: Mapping[str, Floats]
    events: tuple[Event, ...]

    def __len__(self) -> int:
        return len(self.roster)

    @property
    def present(self) -> Bools:
        """(n,) whether the card gave any reading in this frame."""
        present: Bools = self.read != NO_READING
        return present


class _Rows(NamedTuple):
    """Rows of one block that belong to one frame, with their cards."""

    block: Block
    rows: Index
    cards: Index


@dataclass(slots=True)
class _Open:
    """A frame that is still filling."""

    card: list[_Rows] = field(default_factory=list)
    facts: list[_Rows] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    first_arrival: int | None = None

    def note_arrival(self, arrival: int) -> None:
        if self.first_arrival is None or arrival < self.first_arrival:
            self.first_arrival = arrival


class Framer:
    """Cuts readings into frames as they arrive.

    Args:
        every_ns: length of a frame; frames start at multiples of it.
        lag_ns: how long after its end a frame still waits for readings.
        roster: cards known from before.
        watermark_ns: newest time stamp seen before.
    """

    def __init__(
        self,
        every_ns: int,
        lag_ns: int,
        roster: Sequence[CardKey] = (),
        watermark_ns: int = 0,
        facts: Mapping[str, Floats] | None = None,
    ) -> None:
        self._every_ns = every_ns
        self._lag_ns = lag_ns
        self._roster = list(roster)
        self._index = {_identity(key): i for i, key in enumerate(self._roster)}
        self._watermark_ns = watermark_ns
        self._open: dict[int, _Open] = {}
        self._facts = {name: column.copy() for name, column in (facts or {}).items()}
        self.late_rows = 0

    @property
    def watermark_ns(self) -> int:
        """Newest time stamp seen."""
        return self._watermark_ns

    def first_pending_arrival(self) -> int | None:
        """Arrival of the oldest row that waits in an open frame; None when none waits."""
        arrivals = [o.first_arrival for o in self._open.values() if o.first_arrival is not None]
        return min(arrivals, default=None)

    def push(self, blocks: Sequence[Block]) -> Iterator[Frame]:
        """Take rows in order of arrival; give the frames that they close, oldest first."""
        order = _merged(blocks)
        if not len(order.time_ns):
            return
        newest = np.maximum.accumulate(np.maximum(order.time_ns, self._watermark_ns))
        # What is late is decided row by row by what had arrived before it, so that the answer
        # does not depend on how the rows were batched.
        first_open = (newest - self._lag_ns) // self._every_ns
        numbers = order.time_ns // self._every_ns
        for at, block in enumerate(blocks):
            mine = order.block == at
            self._take(block, order.row[mine], numbers[mine], first_open[mine])
        self._watermark_ns = int(newest[-1])
        yield from self._closed()

    def flush(self) -> Iterator[Frame]:
        """Close every open frame: no more rows will come."""
        yield from self._close(sorted(self._open))

    def _closed(self) -> Iterator[Frame]:
        limit = self._watermark_ns - self._lag_ns
        ready = [n for n in sorted(self._open) if (n + 1) * self._every_ns <= limit]
        yield from self._close(ready)

    def _close(self, numbers: Iterable[int]) -> Iterator[Frame]:
        for number in numbers:
            yield self._frame(number, self._open.pop(number))

    def _take(
        self, block: Block, rows: Index, numbers: NDArray[np.int64], first_open: NDArray[np.int64]
    ) -> None:
        if block.measurement == "card_event":
            # An event that comes late is still news: it enters the next frame with its own time.
            numbers = np.maximum(numbers, first_open)
        on_time = numbers >= first_open
        self.late_rows += int((~on_time).sum())
        rows, numbers = rows[on_time], numbers[on_time]
        cards = self._cards(block)[block.series[rows]]
        for number in np.unique(numbers).tolist():
            chosen = numbers == number
            self._fill(number, _Rows(block, rows[chosen], cards[chosen]))

    def _fill(self, number: int, part: _Rows) -> None:
        opened = self._open.setdefault(number, _Open())
        opened.note_arrival(int(part.block.arrival[part.rows].min()))
        if part.block.measurement == "card":
            opened.card.append(part)
        elif part.block.measurement == "card_info":
            opened.facts.append(part)
        elif part.block.measurement == "card_event":
            opened.events += _events(part)

    def _apply_facts(self, parts: Sequence[_Rows]) -> None:
        for block, rows, cards in parts:
            for name in _FACTS:
                given = block.values[name][rows]
                known = ~np.isnan(given)
                self._facts[name][cards[known]] = given[known]

    def _fit_facts(self) -> None:
        for name in _FACTS:
            self._facts[name] = fitted(self._facts.get(name), len(self._roster), np.nan)

    def _cards(self, block: Block) -> Index:
        """Roster index of each series of a block; cards not seen before join the roster."""
        if not block.measurement.startswith("card"):
            return np.zeros(len(block.tags), np.intp)
        return np.array([self._card(tags) for tags in block.tags], dtype=np.intp)

    def _card(self, tags: Mapping[str, str]) -> int:
        key = CardKey(*(tags.get(name, "") for name in CardKey._fields))
        known = self._index.get(_identity(key))
        if known is None:
            known = self._index[_identity(key)] = len(self._roster)
            self._roster.append(key)
        return known

    def _frame(self, number: int, opened: _Open) -> Frame:
        self._fit_facts()
        self._apply_facts(opened.facts)
        n = len(self._roster)
        start_ns = number * self._every_ns
        columns = _columns(opened.card, n)
        return Frame(
            start_ns=start_ns,
            end_ns=start_ns + self._every_ns,
            roster=tuple(self._roster),
            read=columns.read,
            values=columns.values,
            loaded=columns.loaded,
            loaded_share=columns.loaded_share,
            facts={name: column.copy() for name, column in self._facts.items()},
            events=tuple(sorted(opened.events, key=lambda event: event.time_ns)),
        )


def _events(part: _Rows) -> list[Event]:
    block, rows, cards = part
    texts = [
        [str(text or "") for text in block.texts[name][rows]] for name in ("kind", "code", "text")
    ]
    times = block.time_ns[rows].tolist()
    return [Event(*event) for event in zip(cards.tolist(), times, *texts, strict=True)]


def fitted(column: Floats | None, length: int, fill: float) -> Floats:
    """A column of the given length; cards that joined since are filled."""
    if column is None:
        return np.full(length, fill)
    if len(column) == length:
        return column
    return np.concatenate([column, np.full(length - len(column), fill)])


def _identity(key: CardKey) -> tuple[str, ...]:
    return (key.site, key.host, key.slot, key.card)


class _Order(NamedTuple):
    """All rows of some blocks in order of arrival: their time, block and row within it."""

    time_ns: NDArray[np.int64]
    block: Index
    row: Index


def _merged(blocks: Sequence[Block]) -> _Order:
    if not blocks:
        return _Order(np.empty(0, np.int64), np.empty(0, np.intp), np.empty(0, np.intp))
    arrival = np.concatenate([block.arrival for block in blocks])
    order = np.argsort(arrival, kind="stable")
    which = np.concatenate([np.full(len(block), at) for at, block in enumerate(blocks)])
    row = np.concatenate([np.arange(len(block)) for block in blocks])
    time_ns = np.concatenate([block.time_ns for block in blocks])
    return _Order(time_ns[order], which[order], row[order])


class _Columns(NamedTuple):
    read: Codes
    values: dict[str, Floats]
    loaded: dict[str, Floats]
    loaded_share: Floats


def _columns(parts: Sequence[_Rows], n: int) -> _Columns:
    """Columns over n cards from all rows of one frame."""
    read = np.full(n, NO_READING, np.int8)
    if not parts:
        nothing = np.full(n, np.nan)
        gauges = dict.fromkeys(_GAUGES, nothing)
        rest = dict.fromkeys((*_PEAKS, *_COUNTERS), nothing)
        return _Columns(read, gauges | rest, gauges, nothing)
    cards = np.concatenate([part.cards for part in parts])
    times = np.concatenate([part.block.time_ns[part.rows] for part in parts])
    by_time = np.argsort(times, kind="stable")
    cards = cards[by_time]

    def column(name: str) -> Floats:
        return np.concatenate([part.block.values[name][part.rows] for part in parts])[by_time]

    states = np.concatenate([part.block.texts["state"][part.rows] for part in parts])[by_time]
    # Later rows overwrite earlier ones: the last state counts.
    read[cards] = [_READ_CODES.get(state, READ_OK) for state in states.tolist()]
    weight = np.nan_to_num(column("window_seconds"), nan=1.0)
    loaded = np.where(column("utilization_ratio") >= LOADED_RATIO, weight, 0.0)
    gauges = {name: column(name) for name in _GAUGES}
    values = {name: _mean(cards, gauge, weight, n) for name, gauge in gauges.items()}
    values |= {name: _maximum(cards, column(name), n) for name in _PEAKS}
    values |= {name: _last(cards, column(name), n) for name in _COUNTERS}
    told = ~np.isnan(gauges["utilization_ratio"])
    return _Columns(
        read,
        values,
        {name: _mean(cards, gauge, loaded, n) for name, gauge in gauges.items()},
        divided(np.bincount(cards, loaded, n), np.bincount(cards, np.where(told, weight, 0.0), n)),
    )


def _mean(cards: Index, column: Floats, weight: Floats, n: int) -> Floats:
    given = ~np.isnan(column) & (weight > 0)
    sums = np.bincount(cards[given], column[given] * weight[given], n)
    return divided(sums, np.bincount(cards[given], weight[given], n))


def divided(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    """(n,) quotients, NaN where there is nothing to divide by."""
    quotients: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return quotients


def _maximum(cards: Index, column: Floats, n: int) -> Floats:
    highest = np.full(n, -np.inf)
    given = ~np.isnan(column)
    np.maximum.at(highest, cards[given], column[given])
    return np.where(np.isinf(highest), np.nan, highest)


def _last(cards: Index, column: Floats, n: int) -> Floats:
    last = np.full(n, np.nan)
    given = ~np.isnan(column)
    last[cards[given]] = column[given]
    return last
