"""One SQLite file of readings per UTC day: its name, its making, its one writer."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import cast

import apsw
import msgspec

from farmhand_agent.durable import flush_directory
from farmhand_agent.reading import TAGS, Reading, Value
from farmhand_collector.store.base import StoreError
from farmhand_collector.store.tables import (
    SERIES_SQL,
    Shape,
    Shapes,
    add_column_sql,
    columns_of,
    table_sql,
    top_sql,
)

DAY_NS = 86_400 * 10**9
LOWEST_SQLITE = (3, 51, 3)
"""Older ones may lose commits when several connections meet at a reset of the log."""
DAMAGE = (apsw.CorruptError, apsw.NotADBError, msgspec.DecodeError, UnicodeDecodeError)
"""What reading or writing a damaged file raises."""

EPOCH = date(1970, 1, 1).toordinal()
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})\.sqlite")
_CORRUPT_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})\.sqlite\.corrupt-(\d+)")
_COMPANIONS = ("-wal", "-shm")
_MOST_SERIES_KEPT = 1_000_000
_STATEMENTS = 256
_SETTINGS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -65536;
PRAGMA temp_store = MEMORY;
"""


def require_sqlite() -> None:
    """Check the SQLite that apsw brings.

    Raises:
        StoreError: it is too old.
    """
    found = apsw.sqlite_lib_version()
    if tuple(int(part) for part in found.split(".")) < LOWEST_SQLITE:
        expected = ".".join(str(part) for part in LOWEST_SQLITE)
        raise StoreError(f"SQLite {found} of apsw, expected {expected} or newer")


def day_of(time_ns: int) -> int:
    """Number of the UTC day since 1970."""
    return time_ns // DAY_NS


def day_path(directory: Path, day: int) -> Path:
    """The file of a day."""
    return directory / f"{date.fromordinal(EPOCH + day).isoformat()}.sqlite"


def days_in(directory: Path) -> list[int]:
    """Days that have a file, oldest first."""
    return sorted(day for path in directory.iterdir() for day, _ in _named(path, _NAME))


def corrupt_files(directory: Path) -> list[tuple[int, Path]]:
    """Files set aside as damaged and their days, in the order in which they were set aside."""
    found = [
        (int(match[2]), day, path)
        for path in directory.iterdir()
        for day, match in _named(path, _CORRUPT_NAME)
    ]
    return [(day, path) for _, day, path in sorted(found)]


def _named(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[int, re.Match[str]]]:
    """Day and match of a file whose name is of this kind; nothing for other files."""
    match = pattern.fullmatch(path.name)
    if match is not None:
        with suppress(ValueError):
            yield date.fromisoformat(match[1]).toordinal() - EPOCH, match


def bytes_of(path: Path) -> int:
    """Size of a file together with its write-ahead log."""
    total = 0
    for name in (path, *_companions(path)):
        with suppress(FileNotFoundError):
            total += name.stat().st_size
    return total


def unlink(path: Path) -> None:
    """Remove a file; a log left without its file would be played into the next of that name."""
    for name in (path, *_companions(path)):
        name.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, log included, to `.corrupt-<n>`; returns the new name."""
    endings = (found.name.rpartition("-")[2] for found in path.parent.glob("*.corrupt-*"))
    numbers = [int(ending) for ending in endings if ending.isdecimal()]
    target = path.with_name(f"{path.name}.corrupt-{max(numbers, default=0) + 1}")
    path.rename(target)
    for old, new in zip(_companions(path), _companions(target), strict=True):
        with suppress(FileNotFoundError):
            old.rename(new)
    flush_directory(path.parent)
    return target


def _companions(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _COMPANIONS]


class DayFile:
    """The one writing connection to a day's file, and the series it knows. Not thread-safe."""

    def __init__(self, path: Path, shapes: Shapes, passed_over: Counter[str]) -> None:
        """Open the file, making it or what it lacks; counts go to `passed_over` by reason.

        Raises:
            apsw.Error: the file is damaged, or the disk refuses; see `DAMAGE`.
        """
        self._shapes = shapes
        self._passed_over = passed_over
        _create(path)
        self._connection = apsw.Connection(str(path), statementcachesize=_STATEMENTS)
        try:
            self._connection.set_busy_timeout(5000)
            self._connection.execute(_SETTINGS)
            self._make_tables()
            self._known = self._read_series()
        except BaseException:
            self._connection.close()
            raise
        self._series: dict[tuple[object, ...], int] = {}
        self._new_series: list[tuple[int, str, str]] = []

    def _make_tables(self) -> None:
        with self._connection:
            self._connection.execute(SERIES_SQL)
            for measurement in TAGS:
                self._connection.execute(table_sql(measurement))
                present = table_columns(self._connection, measurement)
                for name in columns_of(measurement):
                    if name not in present:
                        self._connection.execute(add_column_sql(measurement, name))

    def _read_series(self) -> dict[tuple[str, str], int]:
        rows = self._connection.execute(
            "SELECT json_group_array(json_array(id, measurement, tags)) FROM series"
        ).get
        known = msgspec.json.decode(cast(str, rows), type=list[tuple[int, str, str]])
        return {(measurement, tags): number for number, measurement, tags in known}

    def close(self) -> None:
        """Fold the log into the file and let go of it."""
        self._connection.close()

    def top(self) -> int:
        """Position of the newest row; 0 when there is none."""
        return cast(int, self._connection.execute(top_sql(TAGS)).get)

    def check(self) -> None:
        """Read the whole file and compare its parts.

        Raises:
            apsw.CorruptError: it is damaged.
        """
        found = self._connection.execute("PRAGMA quick_check(1)").get
        if found != "ok":
            raise apsw.CorruptError(" ".join(str(found).split()))

    def append(self, readings: Sequence[Reading], first_arrival: int) -> None:
        """Commit readings durably, each at its position; after an error the file must be closed.

        Raises:
            apsw.Error: nothing was kept.
        """
        with self._connection:
            repeated = self._insert_new(readings, first_arrival)
            self._insert(repeated)
            if self._new_series:
                self._insert_series()

    def _insert_new(
        self, readings: Sequence[Reading], first_arrival: int
    ) -> "dict[tuple[int, int], _Row]":
        """Insert the first reading of each series and time; returns later ones, folded.

        Rows are inserted grouped by shape. That would let an earlier value win over a later one
        of the same series and time, so those wait for their own turn.
        """
        rows: dict[Shape, list[object]] = {}
        seen: set[tuple[int, int]] = set()
        repeated: dict[tuple[int, int], _Row] = {}
        for arrival, (measurement, tags, fields, time_ns) in enumerate(readings, first_arrival):
            shape = self._shapes.of(measurement, fields)
            if shape is None:
                self._passed_over["readings"] += 1
                continue
            if shape.passed_over:
                self._passed_over["values"] += shape.passed_over
            series = self._series_id(measurement, tags)
            key = (series, time_ns)
            if key in seen:
                row = repeated.setdefault(key, _Row(measurement, arrival, {}))
                row.fold(shape, fields)
            else:
                seen.add(key)
                flat = rows.setdefault(shape, [])
                flat += (arrival, series, time_ns)
                flat += shape.pick(fields)
        self._execute(rows)
        return repeated

    def _insert(self, folded: "Mapping[tuple[int, int], _Row]") -> None:
        rows: dict[Shape, list[object]] = {}
        for (series, time_ns), row in folded.items():
            shape = self._shapes.of(row.measurement, row.fields)
            if shape is not None:
                flat = rows.setdefault(shape, [])
                flat += (row.arrival, series, time_ns, *shape.pick(row.fields))
        self._execute(rows)

    def _execute(self, rows: Mapping[Shape, list[object]]) -> None:
        for shape, flat in rows.items():
            for statement, bindings in _statements(shape, flat):
                self._connection.execute(statement, bindings)

    def _series_id(self, measurement: str, tags: Mapping[str, str]) -> int:
        key = (measurement, *tags.items())
        found = self._series.get(key)
        if found is None:
            if len(self._series) >= _MOST_SERIES_KEPT:
                self._series.clear()
            found = self._series[key] = self._intern(measurement, tags_text(tags))
        return found

    def _intern(self, measurement: str, tags: str) -> int:
        found = self._known.get((measurement, tags))
        if found is None:
            found = self._known[measurement, tags] = len(self._known) + 1
            self._new_series.append((found, measurement, tags))
        return found

    def _insert_series(self) -> None:
        self._connection.execute(
            "INSERT INTO series (id, measurement, tags) "
            "SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?)",
            (msgspec.json.encode(self._new_series).decode(),),
        )
        self._new_series.clear()


class _Row:
    """Readings of one series and time, the later values over the earlier."""

    def __init__(self, measurement: str, arrival: int, fields: dict[str, Value]) -> None:
        self.measurement = measurement
        self.arrival = arrival
        self.fields = fields

    def fold(self, shape: Shape, fields: Mapping[str, Value]) -> None:
        given = zip(shape.columns, shape.pick(fields), strict=True)
        self.fields |= {name: value for name, value in given if value == value}  # not NaN


def _statements(shape: Shape, flat: list[object]) -> Iterator[tuple[str, list[object]]]:
    """Statements of ever fewer rows and their bindings, until all rows are in one."""
    start, end = 0, len(flat)
    for size, statement in shape.inserts:
        step = size * shape.width
        while end - start >= step:
            yield statement, flat[start : start + step]
            start += step


def _create(path: Path) -> None:
    """Make an empty file that only its owner may read; SQLite's own files take its mode."""
    if path.exists():
        return
    unlink(path)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    flush_directory(path.parent)


def table_columns(connection: apsw.Connection, table: str) -> set[str]:
    """Names of a table's columns; none when there is no such table."""
    names = connection.execute(
        "SELECT json_group_array(name) FROM pragma_table_info(?)", (table,)
    ).get
    return set(msgspec.json.decode(cast(str, names), type=list[str]))


def tags_text(tags: Mapping[str, str]) -> str:
    """Tags as one canonical JSON object: sorted by key, empty ones left out."""
    kept = {key: tags[key] for key in sorted(tags) if tags[key]}
    return msgspec.json.encode(kept).decode()
