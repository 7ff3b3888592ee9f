"""Frames: all readings of one stretch of time, as columns over the roster of cards.

A frame closes when the farm's time has passed its end by the lag. Readings that come later are
history: they are kept by the store and no longer judged. The farm's time is that of the
collector's pulse once there is one, so that a node whose clock runs ahead makes nobody else late;
before that it is the newest time stamp seen. Since only time stamps and the order of arrival
count, replaying what a store received gives the frames that were judged live.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
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
LOADED = (
    "utilization_ratio",
    "core_clock_mhz",
    "memory_clock_mhz",
    "power_watts",
    "power_limit_watts",
    "throttle_power_ratio",
    "throttle_thermal_ratio",
    "throttle_hardware_ratio",
    "throttle_brake_ratio",
    "core_temperature_celsius",
    "hotspot_temperature_celsius",
    "memory_temperature_celsius",
    "fan_ratio",
    "pcie_generation",
    "pcie_width",
    "memory_bandwidth_bytes_per_second",
    "memory_utilization_ratio",
    "memory_total_bytes",
)
"""Gauges of which the mean while loaded is kept apart."""
MARKS = ("name", "serial", "vbios", "device_id", "subsystem_id", "module", "driver")
"""Texts of `card_info` that tell one board from another, or what runs it."""
HOST_FIELDS = (
    "inlet_temperature_celsius",
    "board_temperature_celsius",
    "fans_stopped",
    "cpu_ratio",
)
_PROBE = tuple(fields_of("probe"))
_PULSE = "collector"
_UNSEEN = -2
_MOST_TAGS_PER_CARD = 16
"""Tags of more series than a card has are of a store that makes them anew each time."""
_OF_CARDS = frozenset({"card", "card_info", "card_event", "work", "probe"})
_NEWS = ("card_event", "host_event")


@lru_cache(65536)
def code_of(text: str) -> int:
    """A number for a text, the same in every process, exact as a float; 0 for none."""
    if not text:
        return 0
    return 1 + int.from_bytes(blake2b(text.encode(), digest_size=6).digest())


class Event(NamedTuple):
    """A `card_event` of one card of the roster."""

    card: int
    time_ns: int
    kind: str
    code: str
    text: str


class Work(NamedTuple):
    """What the jobs of n cards told: of each card, the job that it told of most.

    `rate` is NaN where none was told. `job` stands for the job's name and unit, `gang` for the
    lock-step group, by `code_of`; 0 where there is none. `names` are those of the codes seen here.
    """

    rate: Floats
    job: NDArray[np.int64]
    gang: NDArray[np.int64]
    names: Mapping[int, str]

    @classmethod
    def none(cls, n: int) -> "Work":
        """Nothing was told."""
        return cls(np.full(n, np.nan), np.zeros(n, np.int64), np.zeros(n, np.int64), {})


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Means over a span for n cards; NaN where a card did not give a value for long enough.

    `loaded` are means while loaded, `idle` while at rest, `host` what the card's node measured,
    `rate` that of its main job. `latest` are the loaded means of the last span in which each card
    worked, this one where `fresh`, and when it ended (`end_ns`); also `rate`, `job`, `gang`,
    `rate_power_limit_watts`, `rate_core_clock_mhz` and `rate_utilization_ratio` of the last one in
    which its job told a rate (`rate_end_ns`), and `capped_mhz`, the clock to which a card's node is
    capped. `spread` is by how much clocks moved between frames that were loaded all
    the time: their standard deviation as a share of the mean; NaN where frames are long.
    """

    start_ns: int
    loaded: Mapping[str, Floats]
    idle: Mapping[str, Floats]
    host: Mapping[str, Floats]
    rate: Floats
    latest: Mapping[str, Floats]
    fresh: Bools
    spread: Mapping[str, Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One stretch of time over n cards; NaN where a card gave nothing.

    `values` holds gauges as means weighted by window length, peaks and flags as maxima, counters
    as their last value. `loaded` holds some gauges (`LOADED`) over loaded readings only, and
    `loaded_share` the share of a card's reported time that was loaded. `facts` holds the numbers
    of `card_info` last heard, and of some of its texts the `code_of`. `read` is the state that the
    last reading told. `host` holds what a card's node measured, `probe` what an active test of the
    card did. `booted` says whether the node was started in this frame, `late` how many readings of
    the card came too late to be judged since the frame before, and `late_until` the arrival of the
    last of all. `paced` says whether the collector's pulse tells the farm's time. `span` is there
    when one ends with this frame.
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
    work: Work
    host: Mapping[str, Floats]
    probe: Mapping[str, Floats]
    booted: Bools
    late: Floats
    late_until: int = 0
    paced: bool = False
    span: "Span | None" = None

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

    parts: dict[str, list[_Rows]] = field(default_factory=dict)
    first_arrival: int | None = None

    def add(self, part: _Rows) -> None:
        arrival = int(part.block.arrival[part.rows].min())
        if self.first_arrival is None or arrival < self.first_arrival:
            self.first_arrival = arrival
        self.parts.setdefault(part.block.measurement, []).append(part)

    def of(self, measurement: str) -> list[_Rows]:
        return self.parts.get(measurement, [])


class Framer:
    """Cuts readings into frames as they arrive.

    Args:
        every_ns: length of a frame; frames start at multiples of it.
        lag_ns: how long after its end a frame still waits for readings.
        roster: cards known from before.
        watermark_ns: the farm's time from before.
        facts: numbers of `card_info` from before.
        paced: whether the collector's pulse was heard before.
        late_until: arrival of the last late reading that was counted before.
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
        late_until: int = 0,
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
        self._by_tags: dict[int, int] = {}
        self._held: list[Mapping[str, str]] = []
        self._late: dict[tuple[str | None, ...], int] = {}
        self._late_arrivals: list[int] = []
        self._late_until = late_until
        self.late_rows = 0

    @property
    def watermark_ns(self) -> int:
        """The farm's time."""
        return self._watermark_ns

    def first_pending_arrival(self) -> int | None:
        """Arrival of the oldest row that waits in an open frame; None when none waits."""
        arrivals = [o.first_arrival for o in self._open.values() if o.first_arrival is not None]
        return min([*arrivals, *self._late_arrivals], default=None)

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
            np.array(self._cards_of(block.tags), np.intp)
            if block.measurement in _OF_CARDS
            else np.zeros(len(block.tags), np.intp)
            for block in blocks
        ]

    def _cards_of(self, series: Sequence[Mapping[str, str]]) -> list[int]:
        known = list(map(self._by_tags.get, map(id, series), repeat(_UNSEEN)))
        if _UNSEEN not in known:
            return known
        return [
            self._known_card(tags) if index == _UNSEEN else index
            for tags, index in zip(series, known, strict=True)
        ]

    def _known_card(self, tags: Mapping[str, str]) -> int:
        """Roster index of a series' card, -1 for one not known.

        A store gives the same tags again with each block of a series: what they say is kept, and
        they themselves, so that no others can have their number.
        """
        index = self._index.get(_tag_texts(tags), -1)
        if index >= 0:
            if len(self._by_tags) > _MOST_TAGS_PER_CARD * len(self._roster):
                self._by_tags.clear()
                self._held.clear()
            self._by_tags[id(tags)] = index
            self._held.append(tags)
        return index

    def _take(self, arrived: "_Arrived", first_open: int, known: Sequence[Index]) -> None:
        numbers = arrived.time_ns // self._every_ns
        # An event that comes late is still news: it enters the next frame with its own time.
        late_event = arrived.of(*_NEWS) & (numbers < first_open)
        numbers[late_event] = first_open
        on_time = numbers >= first_open
        self._note_late(arrived.part(~on_time))
        arrived, numbers = arrived.part(on_time), numbers[on_time]
        cards = self._cards(arrived, known)
        for at, block in enumerate(arrived.blocks):
            mine = arrived.block == at
            for number in np.unique(numbers[mine]).tolist():
                chosen = mine & (numbers == number)
                opened = self._open.setdefault(number, _Open())
                opened.add(_Rows(block, arrived.row[chosen], cards[chosen]))

    def _note_late(self, late: "_Arrived") -> None:
        self.late_rows += len(late.row)
        readings = late.part(late.of("card"))
        for at, row in zip(readings.block.tolist(), readings.row.tolist(), strict=True):
            block = readings.blocks[at]
            arrival = int(block.arrival[row])
            if arrival > self._late_until:
                texts = _tag_texts(block.tags[block.series[row]])
                self._late[texts] = self._late.get(texts, 0) + 1
                self._late_arrivals.append(arrival)

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
        self._by_tags.clear()
        self._held.clear()
        self._frozen = Roster()
        return index

    def _apply_facts(self, parts: Sequence[_Rows]) -> None:
        for block, rows, cards in parts:
            for name in _FACTS:
                given = block.values[name][rows]
                known = ~np.isnan(given)
                self._facts[name][cards[known]] = given[known]
            for name in MARKS:
                codes = np.array([code_of(text or "") for text in block.texts[name][rows]], float)
                self._facts[name][cards[codes > 0]] = codes[codes > 0]

    def _fit_facts(self) -> None:
        for name in (*_FACTS, *MARKS):
            self._facts[name] = fitted(self._facts.get(name), len(self._roster), np.nan)

    def _frame(self, number: int, opened: _Open) -> Frame:
        self._fit_facts()
        self._apply_facts(opened.of("card_info"))
        if len(self._frozen) != len(self._roster):
            self._frozen = Roster(self._roster)
        start_ns = number * self._every_ns
        n = len(self._roster)
        columns = _columns(opened.of("card"), n)
        events = [event for part in opened.of("card_event") for event in _events(part)]
        return Frame(
            start_ns=start_ns,
            end_ns=start_ns + self._every_ns,
            roster=self._frozen,
            read=columns.read,
            values=columns.values,
            loaded=columns.loaded,
            loaded_share=columns.loaded_share,
            facts={name: column.copy() for name, column in self._facts.items()},
            events=tuple(sorted(events, key=lambda event: event.time_ns)),
            work=_work(opened.of("work"), n),
            host=_of_hosts(opened.of("host"), self._frozen),
            probe=_probes(opened.of("probe"), n),
            booted=_booted(opened.of("host_event"), self._frozen),
            late=self._lateness(n),
            late_until=self._late_until,
            paced=self._paced,
        )

    def _lateness(self, n: int) -> Floats:
        late = np.zeros(n)
        for texts, count in self._late.items():
            if texts in self._index:
                late[self._index[texts]] += count
        self._late_until = max([self._late_until, *self._late_arrivals])
        self._late, self._late_arrivals = {}, []
        return late


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


def fitted_codes(codes: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Codes of the given length; cards that joined since have none."""
    return np.concatenate([codes, np.zeros(length - len(codes), np.int64)])


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

    def of(self, *measurements: str) -> Bools:
        """(rows,) which rows are of one of these measurements."""
        named = np.array([block.measurement in measurements for block in self.blocks])
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
        unread = np.full(n, NO_READING, np.int8)
        every = dict.fromkeys((*_GAUGES, *_PEAKS, *_COUNTERS), nothing)
        return _Columns(unread, every, dict.fromkeys(LOADED, nothing), nothing)
    rows = _ByCard.of(parts, n)
    weight = np.maximum(np.nan_to_num(rows.column("window_seconds"), nan=1.0), 0.0)
    use = rows.column("utilization_ratio")
    loaded = np.where(use >= LOADED_RATIO, weight, 0.0)
    told = np.where(np.isnan(use), 0.0, weight)
    whole, at_work = rows.weighted(weight), rows.weighted(loaded)
    # Most cards lack most fields: what none of them gave is not worth sorting.
    values = dict.fromkeys((*_GAUGES, *_PEAKS, *_COUNTERS), rows.nothing)
    while_loaded = dict.fromkeys(LOADED, rows.nothing)
    for name in [name for name in values if rows.is_given(name)]:
        column = rows.column(name)
        if name in _COUNTERS:
            values[name] = rows.last(column)
        elif name in _PEAKS:
            values[name] = rows.highest(column)
        else:
            missing = np.isnan(column)
            values[name] = rows.mean(column, missing, whole)
            if name in while_loaded:
                while_loaded[name] = rows.mean(column, missing, at_work)
    return _Columns(
        rows.read(),
        values,
        while_loaded,
        rows.spread(divided(at_work.sums, rows.sums(told))),
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
        if len(self.starts) == len(column):
            return column
        sums: Floats = np.add.reduceat(column, self.starts)
        return sums

    def weighted(self, rows: Floats) -> "_Weight":
        """Weights of the rows, with their sums."""
        return _Weight(rows, self.sums(rows))

    def mean(self, column: Floats, missing: Bools, weight: "_Weight") -> Floats:
        """(n,) weighted mean of what was given."""
        if not missing.any():
            return self.spread(divided(self.sums(column * weight.rows), weight.sums))
        given = np.where(missing, 0.0, weight.rows)
        sums = self.sums(np.where(missing, 0.0, column) * given)
        return self.spread(divided(sums, self.sums(given)))

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
        codes = {state: _READ_CODES.get(state, READ_OK) for state in set(told)}
        read[self.cards] = _coded(told, codes)
        return read


class _Weight(NamedTuple):
    """(rows,) weights, and their sums by card."""

    rows: Floats
    sums: Floats


def divided(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    """(n,) quotients, NaN where there is nothing to divide by."""
    quotients: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return quotients


# --- what jobs, nodes and probes told ----------------------------------------------------------


def _work(parts: Sequence[_Rows], n: int) -> Work:
    """Mean rate of each card's main job; the lanes of one job add up."""
    work = Work.none(n)
    names: dict[int, str] = {}
    told = [_told_work(part, names) for part in parts]
    if not told:
        return work
    cards, lanes, jobs, gangs, rates = (
        np.concatenate(column) for column in zip(*told, strict=True)
    )
    given = ~np.isnan(rates)
    order = np.lexsort((lanes, jobs, cards))
    order = order[given[order]]
    cards, lanes, jobs, gangs, rates = (c[order] for c in (cards, lanes, jobs, gangs, rates))
    per_lane = _begins(cards, jobs, lanes)
    counts = np.diff(np.append(per_lane, len(cards)))
    means = divided(np.add.reduceat(rates, per_lane) if len(rates) else rates, counts)
    cards, jobs, gangs = cards[per_lane], jobs[per_lane], gangs[per_lane]
    per_job = _begins(cards, jobs)
    if not len(per_job):
        return work
    rate, count = np.add.reduceat(means, per_job), np.add.reduceat(counts, per_job)
    # The job told of most comes last of its card, and stays.
    last = np.lexsort((count, cards[per_job]))
    at, chosen = cards[per_job][last], per_job[last]
    work.rate[at], work.job[at], work.gang[at] = rate[last], jobs[chosen], gangs[chosen]
    return work._replace(names=names)


def _told_work(part: _Rows, names: dict[int, str]) -> tuple[NDArray[Any], ...]:
    """(rows,) card, lane, job, gang and rate."""
    block, rows, cards = part
    told_lanes = [tags.get("lane") for tags in block.tags]
    lanes = _coded(told_lanes, {lane: code_of(lane or "") for lane in set(told_lanes)})
    job, unit, gang = (block.texts[name][rows].tolist() for name in ("job", "unit", "gang"))
    jobs, gangs = _job_codes(job, unit, names), {name: code_of(name or "") for name in set(gang)}
    names |= {code: name or "" for name, code in gangs.items()}
    columns = (jobs, _coded(gang, gangs))
    return cards, lanes[block.series[rows]], *columns, block.values["rate"][rows]


def _coded(texts: list[str | None], codes: Mapping[str | None, int]) -> NDArray[np.int64]:
    """(rows,) the code of each text."""
    if len(codes) == 1:
        return np.full(len(texts), next(iter(codes.values())))
    return np.fromiter(map(codes.__getitem__, texts), np.int64, len(texts))


def _job_codes(
    jobs: list[str | None], units: list[str | None], names: dict[int, str]
) -> NDArray[np.int64]:
    """(rows,) a code for the job: the same one told in another unit is not to be compared."""
    codes: dict[str | None, dict[str | None, int]] = {unit: {} for unit in set(units)}
    for job, unit in set(zip(jobs, units, strict=True)):
        codes[unit][job] = code_of(f"{job}\n{unit or ''}") if job else 0
        names[codes[unit][job]] = job or ""
    if len(codes) == 1:
        return _coded(jobs, next(iter(codes.values())))
    return np.array([codes[unit][job] for job, unit in zip(jobs, units, strict=True)], np.int64)


def _begins(*columns: NDArray[Any]) -> Index:
    """Where each run of equal rows begins."""
    new = np.zeros(len(columns[0]), bool)
    new[:1] = True
    for column in columns:
        new[1:] |= np.diff(column) != 0
    return np.flatnonzero(new)


def _of_hosts(parts: Sequence[_Rows], roster: Roster) -> dict[str, Floats]:
    """Means over the frame of what each card's node measured."""
    sums = {name: np.zeros(len(roster.node_codes)) for name in HOST_FIELDS}
    counts = {name: np.zeros(len(roster.node_codes)) for name in HOST_FIELDS}
    for block, rows, _ in parts:
        nodes = _nodes(block, rows, roster)
        for name in HOST_FIELDS:
            column = block.values[name][rows]
            given = (nodes >= 0) & ~np.isnan(column)
            np.add.at(sums[name], nodes[given], column[given])
            np.add.at(counts[name], nodes[given], 1)
    return {name: divided(sums[name], counts[name])[roster.nodes] for name in HOST_FIELDS}


def _nodes(block: Block, rows: Index, roster: Roster) -> Index:
    """(rows,) the roster's code of each row's node, -1 for one without cards."""
    named = [(tags.get("site", ""), tags.get("host", "")) for tags in block.tags]
    codes = np.array([roster.node_codes.get(name, -1) for name in named], np.intp)
    found: Index = codes[block.series[rows]]
    return found


def _booted(parts: Sequence[_Rows], roster: Roster) -> Bools:
    started = np.zeros(len(roster.node_codes), bool)
    for block, rows, _ in parts:
        boots = np.array([kind == "boot" for kind in block.texts["kind"][rows]], bool)
        nodes = _nodes(block, rows, roster)[boots]
        started[nodes[nodes >= 0]] = True
    booted: Bools = started[roster.nodes]
    return booted


def _probes(parts: Sequence[_Rows], n: int) -> dict[str, Floats]:
    """Values of the last probe of each card."""
    probes = {name: np.full(n, np.nan) for name in _PROBE}
    for block, rows, cards in parts:
        for name in _PROBE:
            given = ~np.isnan(block.values[name][rows])
            probes[name][cards[given]] = block.values[name][rows][given]
    return probes
