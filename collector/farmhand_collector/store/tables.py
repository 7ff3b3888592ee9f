"""SQL of a day file, derived from the contract of readings: tables, inserts, selections.

Values are always bound; names come from the contract alone. Each step of a statement lets go of
the interpreter's lock and, next to a busy thread, waits a switch interval (5 ms) to get it back.
So statements here move many rows in one step: inserts of many rows, and columns read as one JSON
array each, which SQLite writes with the 17 digits that give every float back exactly.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from farmhand_agent.reading import TAGS, Kind, Value, fields_of
from farmhand_collector.block import number_fields, text_fields
from farmhand_collector.store.base import StoreError

_STATEMENT_BYTES = 15_000
"""apsw keeps prepared statements of up to 16 KiB; preparing costs more than inserting."""
_MOST_ROWS = 256
_MOST_SHAPES = 1024

ARRIVAL, TIME, SERIES = "arrival", "time", "series"

SLICE_NS = 300 * 10**9
_KEY = f"time / {SLICE_NS}, series, time"
"""What makes a row one of its kind.

The slice of five minutes comes first, so that new rows touch a few pages at the end of the index.
Ordered by series and time alone, each new row would touch a page of its own once a series fills
one: ten times the bytes written and a sixth of the speed, measured after an hour of readings.
"""

SERIES_SQL = """
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY,
    measurement TEXT NOT NULL,
    tags TEXT NOT NULL,
    UNIQUE (measurement, tags)
) STRICT;
CREATE INDEX IF NOT EXISTS series_card ON series (measurement, tags ->> '$.card');
CREATE INDEX IF NOT EXISTS series_host ON series (measurement, tags ->> '$.host');
"""


def table_sql(measurement: str) -> str:
    """SQL that makes the table of one measurement where it is missing."""
    columns = "".join(
        f',\n    "{name}" {_type(measurement, name)}' for name in columns_of(measurement)
    )
    return f"""
CREATE TABLE IF NOT EXISTS "{measurement}" (
    arrival INTEGER PRIMARY KEY,
    series INTEGER NOT NULL,
    time INTEGER NOT NULL{columns}
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS "{measurement}_key" ON "{measurement}" ({_KEY});
"""


def add_column_sql(measurement: str, name: str) -> str:
    """SQL that adds a field to a table made under an older contract."""
    return f'ALTER TABLE "{measurement}" ADD COLUMN "{name}" {_type(measurement, name)}'


def columns_of(measurement: str) -> list[str]:
    """Columns that hold fields: numbers first, then texts."""
    return number_fields(measurement) + text_fields(measurement)


def _type(measurement: str, name: str) -> str:
    return "TEXT" if fields_of(measurement)[name].kind is Kind.TEXT else "REAL"


@dataclass(frozen=True, eq=False)
class Shape:
    """How readings with the same fields, in the same order, go into their table."""

    measurement: str
    columns: tuple[str, ...]
    positions: tuple[int, ...]
    """Where the columns' values lie among a reading's values."""
    passed_over: int
    """Fields that the contract does not know, or not with this kind of value."""

    @cached_property
    def width(self) -> int:
        """Bindings of one row."""
        return 3 + len(self.columns)

    def pick(self, fields: Mapping[str, Value]) -> Sequence[Value]:
        """The values to keep of one reading with this shape, in the order of the columns."""
        values = tuple(fields.values())
        return [values[place] for place in self.positions] if self.passed_over else values

    @cached_property
    def inserts(self) -> tuple[tuple[int, str], ...]:
        """Pairs of a number of rows and the statement that inserts so many, the largest first."""
        row = f"({','.join('?' * self.width)})"
        room = (_STATEMENT_BYTES - len(self._insert(row))) // (len(row) + 1)
        most = 1 << max(0, min(_MOST_ROWS, room).bit_length() - 1)
        sizes = [most >> shift for shift in range(most.bit_length())]
        return tuple((size, self._insert(",".join([row] * size))) for size in sizes)

    def _insert(self, rows: str) -> str:
        columns = "".join(f',"{name}"' for name in self.columns)
        kept = ",".join(f'"{name}"=coalesce(excluded."{name}","{name}")' for name in self.columns)
        return (
            f'INSERT INTO "{self.measurement}" (arrival,series,time{columns}) VALUES {rows} '  # noqa: S608 - names of the contract
            f"ON CONFLICT ({_KEY}) DO UPDATE SET {kept}"
        )


class Shapes:
    """The shapes that readings were found to have; one lookup per reading instead of a check."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], Shape | None] = {}

    def of(self, measurement: str, fields: Mapping[str, Value]) -> Shape | None:
        """The shape of a reading; None when there is nothing in it that the contract knows."""
        key = (measurement, *fields, *map(type, fields.values()))
        try:
            return self._found[key]
        except KeyError:
            if len(self._found) >= _MOST_SHAPES:
                self._found.clear()
            shape = self._found[key] = _shape(measurement, fields)
            return shape


def _shape(measurement: str, fields: Mapping[str, Value]) -> Shape | None:
    known = fields_of(measurement)
    kept = [
        (position, name)
        for position, (name, value) in enumerate(fields.items())
        if name in known and isinstance(value, str) == (known[name].kind is Kind.TEXT)
    ]
    if not kept:
        return None
    positions, names = zip(*kept, strict=True)
    return Shape(measurement, names, positions, len(fields) - len(kept))


# --- selections ----------------------------------------------------------------------------------


class Choice(StrEnum):
    """Rows to select, as what follows FROM; joins are done in the order in which they stand."""

    IN_ARRIVAL = "{table} AS r WHERE r.arrival > :after AND r.arrival <= :until"
    """Of a range of positions."""

    IN_TIME = (
        "{table} AS r "
        "WHERE r.time / {slice} BETWEEN :since / {slice} AND :until / {slice} "
        "AND r.time >= :since AND r.time < :until"
    )
    """Of a range of time."""

    OF_SERIES = (
        "json_each(:slices) AS slices CROSS JOIN json_each(:ids) AS ids CROSS JOIN {table} AS r "
        "ON r.time / {slice} = slices.value AND r.series = ids.value "
        "AND r.time >= :since AND r.time < :until"
    )
    """Of a range of time and some series: a look-up per slice and series."""

    LAST_OF_SERIES = (
        "(SELECT k.series AS series, max(k.time) AS time FROM json_each(:slices) AS slices "
        "CROSS JOIN json_each(:ids) AS ids CROSS JOIN {table} AS k "
        "ON k.time / {slice} = slices.value AND k.series = ids.value GROUP BY k.series) AS last "
        "CROSS JOIN {table} AS r "
        "ON r.time / {slice} = last.time / {slice} "
        "AND r.series = last.series AND r.time = last.time"
    )
    """The last one in some slices of each of some series."""


def select_sql(
    measurement: str, columns: Sequence[str], present: Collection[str], choice: Choice
) -> str:
    """SQL of one row: a JSON array per column over the chosen rows, NULL when all are NULL.

    Columns that are not `present` in the file, which may be older than the contract, come as
    NULL.
    """
    keys = [f"json_group_array({name})" for name in (ARRIVAL, TIME, SERIES)]
    arrays = [_array(name) if name in present else "NULL" for name in columns]
    inner = "".join(f', r."{name}"' for name in columns if name in present)
    rows = choice.format(table=f'"{measurement}"', slice=SLICE_NS)
    return (
        f"SELECT {', '.join(keys + arrays)} "  # noqa: S608 - names of the contract
        f"FROM (SELECT r.arrival, r.time, r.series{inner} FROM {rows})"
    )


def _array(name: str) -> str:
    return f'CASE WHEN count("{name}") > 0 THEN json_group_array("{name}") END'


def top_sql(measurements: Iterable[str]) -> str:
    """SQL of the highest position in the tables of these measurements; 0 when all are empty."""
    return f"SELECT coalesce(max(top), 0) FROM ({_each(measurements, 'max(arrival) AS top')})"  # noqa: S608 - names of the contract


def next_sql(measurements: Iterable[str]) -> str:
    """SQL of the lowest position after `:after` in the tables of these measurements, or NULL."""
    each = _each(measurements, "min(arrival) AS next", "WHERE arrival > :after")
    return f"SELECT min(next) FROM ({each})"  # noqa: S608 - names of the contract


def _each(measurements: Iterable[str], what: str, where: str = "") -> str:
    return " UNION ALL ".join(f'SELECT {what} FROM "{name}" {where}' for name in measurements)  # noqa: S608 - names of the contract


def slices_sql(measurement: str) -> str:
    """SQL of the first and the last slice with rows; NULL when there are none."""
    slice_of = f"time / {SLICE_NS}"
    first, last = (
        f'(SELECT {slice_of} FROM "{measurement}" ORDER BY {slice_of} {order} LIMIT 1)'  # noqa: S608 - names of the contract
        for order in ("ASC", "DESC")
    )
    return f"SELECT {first}, {last}"


def series_sql(tags: Mapping[str, str]) -> str:
    """SQL of the ids of the series with these tags, as a JSON array, from `series_bindings`.

    Raises:
        StoreError: no measurement has such a tag.
    """
    parts = ["measurement = :measurement"]
    for key in tags:
        if key not in _TAG_KEYS:
            expected = ", ".join(sorted(_TAG_KEYS))
            raise StoreError(f"tag {key!r}, expected one of {expected}")
        parts.append(f"tags ->> '$.{key}' = :tag_{key}")
    return f"SELECT json_group_array(id) FROM series WHERE {' AND '.join(parts)}"  # noqa: S608 - tag keys of the contract


def series_bindings(measurement: str, tags: Mapping[str, str]) -> dict[str, str]:
    """What `series_sql` binds."""
    return {"measurement": measurement} | {f"tag_{key}": value for key, value in tags.items()}


_TAG_KEYS = frozenset(key for keys in TAGS.values() for key in keys)
