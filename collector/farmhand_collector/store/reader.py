"""Reading day files: rows by arrival, by time, and the last of each series."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar, cast

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from farmhand_agent.reading import TAGS
from farmhand_collector.block import Block, join_blocks, number_fields, object_column, text_fields
from farmhand_collector.store.base import READ_LIMIT, StoreError
from farmhand_collector.store.day_file import (
    DAMAGE,
    DAY_NS,
    day_path,
    days_in,
    require_sqlite,
    table_columns,
    tags_text,
)
from farmhand_collector.store.tables import (
    SLICE_NS,
    Choice,
    columns_of,
    next_sql,
    select_sql,
    series_bindings,
    series_sql,
    slices_sql,
    top_sql,
)

_MOST_IDLE = 8
"""Reading connections kept open between calls."""
_BUSY_MILLISECONDS = 5000

_integers = msgspec.json.Decoder(list[int])
_numbers = msgspec.json.Decoder(list[float | None])
_texts = msgspec.json.Decoder(list[str | None])
_tags = msgspec.json.Decoder(dict[str, str])

Bindings = Mapping[str, str | int]
T = TypeVar("T")


class DayReader:
    """A read-only connection to a day's file. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            apsw.Error: the file is missing or damaged.
        """
        self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            self._connection.set_busy_timeout(_BUSY_MILLISECONDS)
            self.present = {name: table_columns(self._connection, name) for name in TAGS}
        except BaseException:
            self._connection.close()
            raise
        self._series: dict[int, str] = {}

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def top(self) -> int:
        """Position of the newest row; 0 when there is none."""
        names = self._tables()
        return cast(int, self._connection.execute(top_sql(names)).get) if names else 0

    def next_arrival(self, after: int) -> int | None:
        """The first position after another one; None when there is none."""
        names = self._tables()
        if not names:
            return None
        found = self._connection.execute(next_sql(names), {"after": after}).get
        return cast("int | None", found)

    def _tables(self) -> list[str]:
        return [name for name, columns in self.present.items() if columns]

    def block(
        self, measurement: str, columns: Sequence[str], choice: Choice, bindings: Bindings
    ) -> Block | None:
        """The chosen rows of one table; None when there are none.

        Raises:
            apsw.Error: the file is damaged or cannot be read; see `DAMAGE` for what else.
        """
        present = self.present.get(measurement)
        if not present:
            return None
        sql = select_sql(measurement, columns, present, choice)
        ((arrival, time_ns, series, *given),) = self._connection.execute(sql, bindings).fetchall()
        positions = np.array(_integers.decode(cast(str, arrival)), dtype=np.int64)
        if not len(positions):
            return None
        local, index = np.unique(
            np.array(_integers.decode(cast(str, series)), dtype=np.int64), return_inverse=True
        )
        arrays = dict(zip(columns, cast(list[str | None], given), strict=True))
        return Block(
            measurement,
            positions,
            np.array(_integers.decode(cast(str, time_ns)), dtype=np.int64),
            index.astype(np.int32),
            tuple(_parsed_tags(self._tags_text(number)) for number in local.tolist()),
            {
                name: _number_column(arrays[name], len(positions))
                for name in number_fields(measurement)
                if name in arrays
            },
            {
                name: _text_column(arrays[name], len(positions))
                for name in text_fields(measurement)
                if name in arrays
            },
        )

    def slices(self, measurement: str) -> range:
        """The slices from the first to the last that holds rows."""
        if not self.present.get(measurement):
            return range(0)
        ((first, last),) = self._connection.execute(slices_sql(measurement)).fetchall()
        return range(cast(int, first), cast(int, last) + 1) if first is not None else range(0)

    def series(self, measurement: str, tags: Mapping[str, str]) -> dict[int, str]:
        """Ids of the series with these tags, and the text of all their tags."""
        bindings = series_bindings(measurement, tags)
        found = self._connection.execute(series_sql(tags), bindings).get
        return {number: self._tags_text(number) for number in _integers.decode(cast(str, found))}

    def _tags_text(self, series: int) -> str:
        if series not in self._series:
            self._series |= self._series_after(max(self._series, default=0))
        try:
            return self._series[series]
        except KeyError:
            raise apsw.CorruptError(f"no series {series}") from None

    def _series_after(self, known: int) -> Iterator[tuple[int, str]]:
        sql = "SELECT json_group_array(id), json_group_array(tags) FROM series WHERE id > ?"
        ((ids, tags),) = self._connection.execute(sql, (known,)).fetchall()
        texts = _texts.decode(cast(str, tags))
        return zip(_integers.decode(cast(str, ids)), cast(list[str], texts), strict=True)


@lru_cache(maxsize=262_144)
def _parsed_tags(text: str) -> Mapping[str, str]:
    return MappingProxyType(_tags.decode(text))


def _number_column(array: str | None, rows: int) -> NDArray[np.float64]:
    if array is None:
        return np.full(rows, np.nan)
    try:
        numbers = _numbers.decode(array)
    except msgspec.ValidationError:
        # SQLite's way to write infinity, which no reading may hold but a table can.
        finite = array.replace("-9.0e+999", "null").replace("9.0e+999", "null")
        numbers = _numbers.decode(finite)
    return np.array(numbers, dtype=np.float64)


def _text_column(array: str | None, rows: int) -> NDArray[np.object_]:
    return object_column([None] * rows if array is None else _texts.decode(array))


class ReaderPool:
    """Reading connections by day: borrowed by one thread at a time, few kept open between."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._idle: list[tuple[int, DayReader]] = []
        self._forgotten: Counter[int] = Counter()

    @contextmanager
    def borrow(self, day: int) -> Iterator[DayReader]:
        """A reader of a day's file.

        Raises:
            apsw.Error: the file cannot be opened.
        """
        age, reader = self._take(day)
        try:
            yield reader
        except BaseException:
            reader.close()
            raise
        self._give_back(day, age, reader)

    def _take(self, day: int) -> tuple[int, DayReader]:
        with self._lock:
            age = self._forgotten[day]
            for place, (idle_day, reader) in enumerate(self._idle):
                if idle_day == day:
                    del self._idle[place]
                    return age, reader
        return age, DayReader(day_path(self._directory, day))

    def _give_back(self, day: int, age: int, reader: DayReader) -> None:
        surplus = []
        with self._lock:
            if age == self._forgotten[day] and any(reader.present.values()):
                self._idle.append((day, reader))
                surplus = self._idle[:-_MOST_IDLE]
                self._idle = self._idle[-_MOST_IDLE:]
            else:
                surplus = [(day, reader)]
        for _, old in surplus:
            old.close()

    def age(self, day: int) -> int:
        """How often a day's file was forgotten."""
        with self._lock:
            return self._forgotten[day]

    def forget(self, day: int) -> None:
        """Close what is open on a day's file, or will be when it is given back."""
        with self._lock:
            self._forgotten[day] += 1
            gone = [reader for idle_day, reader in self._idle if idle_day == day]
            self._idle = [entry for entry in self._idle if entry[0] != day]
        for reader in gone:
            reader.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, reader in idle:
            reader.close()


class EmbeddedReader:
    """The reading half of the embedded store; works beside a running store, in any process."""

    def __init__(self, directory: Path) -> None:
        """Read the day files of a directory.

        Raises:
            StoreError: the SQLite of apsw is too old.
        """
        require_sqlite()
        self._directory = directory
        self._pool = ReaderPool(directory)

    def close(self) -> None:
        """Let go of the files."""
        self._pool.close()

    def last_arrival(self) -> int:
        """Position of the newest row; 0 when there is none."""
        return max(self._readable().values(), default=0)

    def readings(self, after: int, limit: int = READ_LIMIT) -> tuple[list[Block], int]:
        """Rows that arrived after a position, and the position from which to go on.

        Raises:
            StoreError: the rows could not be read.
        """
        readable = {day: last for day, last in self._readable().items() if last > after}
        last = max(readable.values(), default=0)
        first = self._first(readable, after, last)
        if first is None:
            return [], max(after, last)
        # Positions are unique over all files, so a range of `limit` of them holds no more rows.
        until = min(first + limit - 1, last)
        blocks = (self._block_of_range(name, sorted(readable), after, until) for name in TAGS)
        return [block for block in blocks if block is not None], until

    def _readable(self) -> dict[int, int]:
        """By day, the position up to which its file may be read.

        A group of commits fills the days in order, positions rising with them. So all below the
        highest position seen is in place, also in files that were looked at before it was.
        """
        tops = [self._on_day(day, DayReader.top) or 0 for day in self._days()]
        return dict.fromkeys(self._days(), max(tops, default=0))

    def _first(self, days: Iterable[int], after: int, last: int) -> int | None:
        found = [self._on_day(day, lambda reader: reader.next_arrival(after)) for day in days]
        first = min((arrival for arrival in found if arrival is not None), default=None)
        return first if first is not None and first <= last else None

    def _block_of_range(
        self, measurement: str, days: Sequence[int], after: int, until: int
    ) -> Block | None:
        columns = columns_of(measurement)
        bindings = {"after": after, "until": until}
        parts = [
            self._on_day(
                day, lambda reader: reader.block(measurement, columns, Choice.IN_ARRIVAL, bindings)
            )
            for day in days
        ]
        found = [part for part in parts if part is not None]
        return _ordered(join_blocks(measurement, columns, found)) if found else None

    def between(
        self,
        measurement: str,
        since_ns: int,
        until_ns: int,
        tags: Mapping[str, str] | None = None,
        fields: Collection[str] | None = None,
    ) -> Block:
        """Rows of `since_ns` ≤ time < `until_ns` ordered by time, of the series with these tags.

        Raises:
            StoreError: the rows could not be read, or no measurement has such a tag.
        """
        columns = _chosen(measurement, fields)
        parts = []
        for day in self._days():
            since, until = max(since_ns, day * DAY_NS), min(until_ns, (day + 1) * DAY_NS)
            if since < until:
                read = partial(_read_between, measurement, columns, tags or {}, since, until)
                parts.append(self._on_day(day, read))
        block = join_blocks(measurement, columns, [part for part in parts if part is not None])
        return block.take(np.lexsort((block.arrival, block.time_ns)))

    def latest(
        self,
        measurement: str,
        tags: Mapping[str, str] | None = None,
        fields: Collection[str] | None = None,
        since_ns: int = 0,
    ) -> Block:
        """The row with the latest time of each series with these tags, none older than `since_ns`.

        Raises:
            StoreError: the rows could not be read, or no measurement has such a tag.
        """
        columns = _chosen(measurement, fields)
        seen: set[str] = set()
        parts = []
        for day in reversed(self._days()):
            since = max(since_ns, day * DAY_NS)
            if since < (day + 1) * DAY_NS:
                read = partial(_read_latest, measurement, columns, tags or {}, since, seen)
                parts.extend(self._on_day(day, read) or [])
        return _ordered(join_blocks(measurement, columns, parts))

    def _on_day(self, day: int, read: Callable[[DayReader], T | None]) -> T | None:
        """What a read of one day's file gives; None when the file has gone meanwhile."""
        path = day_path(self._directory, day)
        age = self._pool.age(day)
        try:
            with self._pool.borrow(day) as reader:
                return read(reader)
        except DAMAGE as error:
            self._damaged(day, age, error)
            return None
        except apsw.Error as error:
            if isinstance(error, apsw.CantOpenError) and not path.exists():
                return None
            raise StoreError(f"{path}: {error}") from error

    def _damaged(self, day: int, age: int, error: Exception) -> None:  # noqa: ARG002 - for the store
        path = day_path(self._directory, day)
        raise StoreError(f"{path} is damaged ({error}); the collector sets it aside") from error

    def _days(self) -> list[int]:
        return days_in(self._directory)


def _read_between(
    measurement: str,
    columns: Sequence[str],
    tags: Mapping[str, str],
    since_ns: int,
    until_ns: int,
    reader: DayReader,
) -> Block | None:
    bindings: dict[str, str | int] = {"since": since_ns, "until": until_ns}
    if not tags:
        return reader.block(measurement, columns, Choice.IN_TIME, bindings)
    filled = reader.slices(measurement)
    if not filled:
        return None
    first = max(filled.start, since_ns // SLICE_NS)
    end = min(filled.stop, (until_ns - 1) // SLICE_NS + 1)
    bindings |= _listed(range(first, end), reader.series(measurement, tags))
    return reader.block(measurement, columns, Choice.OF_SERIES, bindings)


def _read_latest(
    measurement: str,
    columns: Sequence[str],
    tags: Mapping[str, str],
    since_ns: int,
    seen: set[str],
    reader: DayReader,
) -> list[Block]:
    """Last rows of one day, of series not `seen` on a later one, which are then seen.

    Nearly all series have a row near the end of the day, so ever more slices are looked at, from
    the last one back, for ever fewer series.
    """
    filled = reader.slices(measurement)
    found = reader.series(measurement, tags) if filled else {}
    wanted = {number: text for number, text in found.items() if text not in seen}
    seen.update(wanted.values())
    blocks = []
    first, end, count = max(filled.start, since_ns // SLICE_NS), filled.stop, 1
    while wanted and end > first:
        start = max(first, end - count)
        bindings = _listed(range(start, end), wanted)
        block = reader.block(measurement, columns, Choice.LAST_OF_SERIES, bindings)
        if block is not None:
            block = block.take(block.time_ns >= since_ns)
            blocks.append(block)
            done = {tags_text(block.tags[place]) for place in block.series.tolist()}
            wanted = {number: text for number, text in wanted.items() if text not in done}
        end, count = start, 2 * count
    return blocks


def _listed(slices: Iterable[int], ids: Iterable[int]) -> dict[str, str | int]:
    return {"slices": _json(slices), "ids": _json(ids)}


def _json(numbers: Iterable[int]) -> str:
    return msgspec.json.encode(list(numbers)).decode()


def _chosen(measurement: str, fields: Collection[str] | None) -> list[str]:
    return [name for name in columns_of(measurement) if fields is None or name in fields]


def _ordered(block: Block) -> Block:
    if np.all(block.arrival[1:] > block.arrival[:-1]):
        return block
    return block.take(np.argsort(block.arrival))
