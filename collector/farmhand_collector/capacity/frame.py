"""Frames: all readings of one stretch of time, as columns over the roster of cards.

A frame closes when the farm's time has passed its end by the lag. Readings that come later are
history: they are kept by the store and no longer judged. The farm's time is that of the
collector's pulse once there is one, so that a node whose clock runs ahead makes nobody else late;
before that it is the newest time stamp seen. Since only time stamps and the order of arrival
count, replaying what a store received gives the frames that were judged live.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_agent.reading import Kind, fields_of
from farmhand_collector.block import Block
from farmhand_collector.capacity.roster import CardKey, Roster

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
_PULSE = "collector"


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
    heard. `read` is the state that the last reading told. `paced` says whether the collector's
    pulse tells the farm's time.
    """

    start_ns: int
    end_ns: int
    roster: Roster
    read: Codes
    values: Mapping[str, Floats]
    loaded: Mapping[str, Floats]
    loaded_share: Floats
    facts: Mapping[str, Floats]
    events: tuple[Event, ...]
    paced: bool = False

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
        watermark_ns: the farm's time from before.
        facts: numbers of `card_info` from before.
        paced: whether the collector's pulse was heard before.
    """

    def __init__(
        self,
        every_ns: int,
        lag_ns: int,
        roster: Sequence[CardKey] = (),
        watermark_ns: int = 0,
        facts: Mapping[str, Floats] | None = None,
        *,
        paced: bool = False,
    ) -> None:
        self._every_ns = every_ns
        self._lag_ns = lag_ns
        self._roster = list(roster)
        self._frozen = Roster(roster)
        self._index = {_known_texts(key): i for i, key in enumerate(self._roster)}
        self._places = {_identity(key): i for i, key in enumerate(self._roster)}
        self._watermark_ns = watermark_ns
        self._paced = paced
        self._open: dict[int, _Open] = {}
        self._facts = {name: column.copy() for name, column in (facts or {}).items()}
        self.late_rows = 0

    @property
    def watermark_ns(self) -> int:
        """The farm's time."""
        return self._watermark_ns

    def first_pending_arrival(self) -> int | None:
        """Arrival of the oldest row that waits in an open frame; None when none waits."""
        arrivals = [o.first_arrival for o in self._open.values() if o.first_arrival is not None]
        return min(arrivals, default=None)

    def push(self, blocks: Sequence[Block]) -> Iterator[Frame]:
        """Take rows in order of arrival; give the frames that they close, oldest first.

        Rows are taken as frames are asked for, so ask for all of them.
        """
        arrived = _merged(blocks)
        if not len(arrived.time_ns):
            return
        paced, newest = self._told_time(arrived)
        first_open = (newest - self._lag_ns) // self._every_ns
        known = self._known(blocks)
        # What is late and who is on the roster is decided row by row, by what had arrived before:
        # frames must not depend on how the rows were batched.
        for begin, end in _runs(first_open):
            self._paced, self._watermark_ns = bool(paced[begin]), int(newest[begin])
            yield from self._close(n for n in sorted(self._open) if n < first_open[begin])
            self._take(arrived.part(slice(begin, end)), int(first_open[begin]), known)
        self._paced, self._watermark_ns = bool(paced[-1]), int(newest[-1])

    def flush(self) -> Iterator[Frame]:
        """Close every open frame: no more rows will come."""
        yield from self._close(sorted(self._open))

    def _close(self, numbers: Iterable[int]) -> Iterator[Frame]:
        for number in numbers:
            yield self._frame(number, self._open.pop(number))

    def _told_time(self, arrived: "_Arrived") -> tuple[Bools, NDArray[np.int64]]:
        """At each row: whether a pulse has been heard, and the farm's time."""
        pulse = arrived.of(_PULSE)
        paced = np.logical_or.accumulate(pulse) | self._paced
        told_ns = np.where(pulse | ~paced, arrived.time_ns, self._watermark_ns)
        return paced, np.maximum.accumulate(np.maximum(told_ns, self._watermark_ns))

    def _known(self, blocks: Sequence[Block]) -> list[Index]:
        """For each block, the roster index of each of its series, -1 for a card not known."""
        return [
            np.array([self._index.get(_tag_texts(tags), -1) for tags in block.tags], np.intp)
            if block.measurement.startswith("card")
            else np.zeros(len(block.tags), np.intp)
            for block in blocks
        ]

    def _take(self, arrived: "_Arrived", first_open: int, known: Sequence[Index]) -> None:
        numbers = arrived.time_ns // self._every_ns
        # An event that comes late is still news: it enters the next frame with its own time.
        late_event = arrived.of("card_event") & (numbers < first_open)
        numbers[late_event] = first_open
        on_time = numbers >= first_open
        self.late_rows += int((~on_time).sum())
        arrived, numbers = arrived.part(on_time), numbers[on_time]
        cards = self._cards(arrived, known)
        for at, block in enumerate(arrived.blocks):
            mine = arrived.block == at
            for number in np.unique(numbers[mine]).tolist():
                chosen = mine & (numbers == number)
                self._fill(number, _Rows(block, arrived.row[chosen], cards[chosen]))

    def _cards(self, arrived: "_Arrived", known: Sequence[Index]) -> Index:
        """(rows,) roster index; cards not seen before join the roster as they arrive."""
        cards = np.zeros(len(arrived.row), np.intp)
        for at, block in enumerate(arrived.blocks):
            mine = arrived.block == at
            cards[mine] = known[at][block.series[arrived.row[mine]]]
        for row in np.flatnonzero(cards < 0).tolist():
            block = arrived.blocks[arrived.block[row]]
            cards[row] = self._card(block.tags[block.series[arrived.row[row]]])
        return cards

    def _card(self, tags: Mapping[str, str]) -> int:
        """Roster index of a card; it joins, or its rack or model is changed, where that is new."""
        texts = _tag_texts(tags)
        if texts in self._index:
            return self._index[texts]
        key = CardKey(*(text or "" for text in texts))
        index = self._places.setdefault(_identity(key), len(self._roster))
        if index < len(self._roster):
            self._index.pop(_known_texts(self._roster[index]), None)
        self._roster[index : index + 1] = [key]
        self._index[texts] = index
        self._frozen = Roster()
        return index

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

    def _frame(self, number: int, opened: _Open) -> Frame:
        self._fit_facts()
        self._apply_facts(opened.facts)
        if len(self._frozen) != len(self._roster):
            self._frozen = Roster(self._roster)
        start_ns = number * self._every_ns
        columns = _columns(opened.card, len(self._roster))
        return Frame(
            start_ns=start_ns,
            end_ns=start_ns + self._every_ns,
            roster=self._frozen,
            read=columns.read,
            values=columns.values,
            loaded=columns.loaded,
            loaded_share=columns.loaded_share,
            facts={name: column.copy() for name, column in self._facts.items()},
            events=tuple(sorted(opened.events, key=lambda event: event.time_ns)),
            paced=self._paced,
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


_TAGS = CardKey._fields


def _tag_texts(tags: Mapping[str, str]) -> tuple[str | None, ...]:
    """The values of a `CardKey`, None for those that are left out.

    This runs for each series of each block, so it makes nothing better than a plain tuple.
    """
    return tuple(map(tags.get, _TAGS))


def _known_texts(key: CardKey) -> tuple[str | None, ...]:
    return tuple(text or None for text in key)


def _identity(key: CardKey) -> tuple[str, ...]:
    return (key.site, key.host, key.slot, key.card)


class _Arrived(NamedTuple):
    """Rows of some blocks in order of arrival: their time, block and row within it."""

    blocks: Sequence[Block]
    time_ns: NDArray[np.int64]
    block: Index
    row: Index

    def part(self, rows: slice | Bools) -> "_Arrived":
        """Some of the rows, in the same order."""
        return _Arrived(self.blocks, self.time_ns[rows], self.block[rows], self.row[rows])

    def of(self, measurement: str) -> Bools:
        """(rows,) which rows are of a measurement."""
        named = np.array([block.measurement == measurement for block in self.blocks])
        chosen: Bools = named[self.block]
        return chosen


def _merged(blocks: Sequence[Block]) -> _Arrived:
    if not blocks:
        return _Arrived(blocks, np.empty(0, np.int64), np.empty(0, np.intp), np.empty(0, np.intp))
    arrival = np.concatenate([block.arrival for block in blocks])
    order = np.argsort(arrival, kind="stable")
    which = np.concatenate([np.full(len(block), at) for at, block in enumerate(blocks)])
    row = np.concatenate([np.arange(len(block)) for block in blocks])
    time_ns = np.concatenate([block.time_ns for block in blocks])
    return _Arrived(blocks, time_ns[order], which[order], row[order])


def _runs(numbers: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of equal numbers."""
    cuts = (np.flatnonzero(np.diff(numbers)) + 1).tolist()
    return zip([0, *cuts], [*cuts, len(numbers)], strict=True)


class _Columns(NamedTuple):
    read: Codes
    values: dict[str, Floats]
    loaded: dict[str, Floats]
    loaded_share: Floats


def _columns(parts: Sequence[_Rows], n: int) -> _Columns:
    """Columns over n cards from all rows of one frame."""
    if not parts:
        nothing = np.full(n, np.nan)
        gauges = dict.fromkeys(_GAUGES, nothing)
        rest = dict.fromkeys((*_PEAKS, *_COUNTERS), nothing)
        return _Columns(np.full(n, NO_READING, np.int8), gauges | rest, gauges, nothing)
    rows = _ByCard.of(parts, n)
    weight = np.maximum(np.nan_to_num(rows.column("window_seconds"), nan=1.0), 0.0)
    use = rows.column("utilization_ratio")
    loaded = np.where(use >= LOADED_RATIO, weight, 0.0)
    told = np.where(np.isnan(use), 0.0, weight)
    # Most cards lack most fields: what none of them gave is not worth sorting.
    values = dict.fromkeys((*_GAUGES, *_PEAKS, *_COUNTERS), rows.nothing)
    while_loaded = dict.fromkeys(_GAUGES, rows.nothing)
    for name in [name for name in values if rows.is_given(name)]:
        column = rows.column(name)
        if name in while_loaded:
            values[name] = rows.mean(column, weight)
            while_loaded[name] = rows.mean(column, loaded)
        else:
            values[name] = (rows.highest if name in _PEAKS else rows.last)(column)
    return _Columns(
        rows.read(),
        values,
        while_loaded,
        rows.spread(divided(rows.sums(loaded), rows.sums(told))),
    )


class _ByCard(NamedTuple):
    """All `card` rows of a frame, card by card, and those of a card by time."""

    parts: Sequence[_Rows]
    order: Index
    """Puts the rows, as the parts hold them one after another, in this order."""
    starts: Index
    """Where the rows of each card begin."""
    cards: Index
    """Which card that is."""
    nothing: Floats
    """(n,) the column of a field that no card gave."""

    @classmethod
    def of(cls, parts: Sequence[_Rows], n: int) -> "_ByCard":
        """All rows of these parts, over n cards."""
        cards = np.concatenate([part.cards for part in parts])
        times = np.concatenate([part.block.time_ns[part.rows] for part in parts])
        order = np.lexsort((times, cards))
        cards = cards[order]
        starts = np.flatnonzero(np.diff(cards, prepend=-1))
        return cls(parts, order, starts, cards[starts], np.full(n, np.nan))

    def is_given(self, name: str) -> bool:
        """Whether any row gives a field."""
        return any(not np.isnan(part.block.values[name]).all() for part in self.parts)

    def column(self, name: str) -> Floats:
        """(rows,) one field."""
        given: Floats = np.concatenate([part.block.values[name][part.rows] for part in self.parts])
        return given[self.order]

    def spread(self, of_cards: Floats) -> Floats:
        """(n,) what is known of the cards that have rows."""
        column = self.nothing.copy()
        column[self.cards] = of_cards
        return column

    def sums(self, column: Floats) -> Floats:
        """Sum over each card's rows."""
        sums: Floats = np.add.reduceat(column, self.starts)
        return sums

    def mean(self, column: Floats, weight: Floats) -> Floats:
        """(n,) weighted mean of what was given."""
        missing = np.isnan(column)
        if missing.all():
            return self.nothing
        weight = np.where(missing, 0.0, weight)
        sums = self.sums(np.where(missing, 0.0, column) * weight)
        return self.spread(divided(sums, self.sums(weight)))

    def highest(self, column: Floats) -> Floats:
        """(n,) highest value given."""
        return self.spread(np.fmax.reduceat(column, self.starts))

    def last(self, column: Floats) -> Floats:
        """(n,) last value given."""
        given = np.where(np.isnan(column), -1, np.arange(len(column)))
        row = np.maximum.reduceat(given, self.starts)
        return self.spread(np.where(row < 0, np.nan, column[row]))

    def read(self) -> Codes:
        """(n,) the state that each card's last row told."""
        states = np.concatenate([part.block.texts["state"][part.rows] for part in self.parts])
        ends = np.append(self.starts[1:], len(self.order)) - 1
        read = np.full(len(self.nothing), NO_READING, np.int8)
        told = states[self.order[ends]].tolist()
        read[self.cards] = [_READ_CODES.get(state, READ_OK) for state in told]
        return read


def divided(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    """(n,) quotients, NaN where there is nothing to divide by."""
    quotients: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return quotients
