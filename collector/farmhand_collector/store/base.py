"""What every store of readings does, and the columnar block in which readings are handed on."""

import heapq
import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from farmhand_agent.reading import TAGS, Kind, LineError, Reading, Value, fields_of, to_line

READ_LIMIT = 50_000
"""Rows that one call of `Store.readings` gives at most, unless told otherwise."""

_log = logging.getLogger(__name__)


class StoreError(Exception):
    """Readings could not be written or read; the message says why in one line."""


class StoreBusyError(StoreError):
    """Too many readings wait to be written; the writer should come back later."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows of one measurement, in arrival order unless the giver says otherwise.

    `values` and `texts` hold every field that was asked for, given or not.
    """

    measurement: str
    arrival: NDArray[np.int64]
    """(rows,) position in the one order in which the store accepted all readings."""
    time_ns: NDArray[np.int64]
    """(rows,) wall clock."""
    series: NDArray[np.int32]
    """(rows,) index into `tags`."""
    tags: tuple[Mapping[str, str], ...]
    """Tags of each series of this block; empty tags are left out."""
    values: Mapping[str, NDArray[np.float64]]
    """(rows,) per numeric field, NaN where not given."""
    texts: Mapping[str, NDArray[np.object_]]
    """(rows,) per text field, None where not given."""

    def __len__(self) -> int:
        return len(self.arrival)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Block":
        """The chosen rows, by index or by mask; `tags` stays as it is."""
        return Block(
            self.measurement,
            self.arrival[rows],
            self.time_ns[rows],
            self.series[rows],
            self.tags,
            {name: column[rows] for name, column in self.values.items()},
            {name: column[rows] for name, column in self.texts.items()},
        )

    def readings(self) -> Iterator[Reading]:
        """The rows as readings; values that were not given are left out."""
        numbers = [(name, column.tolist()) for name, column in self.values.items()]
        texts = [(name, column.tolist()) for name, column in self.texts.items()]
        for row, (series, time_ns) in enumerate(
            zip(self.series.tolist(), self.time_ns.tolist(), strict=True)
        ):
            fields: dict[str, Value] = {
                name: column[row] for name, column in texts if column[row] is not None
            }
            fields |= {name: column[row] for name, column in numbers if not math.isnan(column[row])}
            yield Reading(self.measurement, self.tags[series], fields, time_ns)


class StoreReader(Protocol):
    """Where readings are read. All calls are safe from any thread and may block on the disk."""

    def readings(self, after: int, limit: int = READ_LIMIT) -> tuple[list[Block], int]:
        """Rows that arrived after a position, and the position from which to go on.

        At most `limit` rows over all measurements, in one total order; one block per measurement
        that has any. No block means that nothing newer is there.

        Raises:
            StoreError: the rows could not be read.
        """

    def between(
        self,
        measurement: str,
        since_ns: int,
        until_ns: int,
        tags: Mapping[str, str] | None = None,
        fields: Collection[str] | None = None,
    ) -> Block:
        """Rows of `since_ns` ≤ time < `until_ns` ordered by time, of the series with these tags.

        `fields` limits what is read. A time range over a whole farm is large: name tags.

        Raises:
            StoreError: the rows could not be read.
        """

    def latest(
        self,
        measurement: str,
        tags: Mapping[str, str] | None = None,
        fields: Collection[str] | None = None,
        since_ns: int = 0,
    ) -> Block:
        """The row with the latest time of each series with these tags, none older than `since_ns`.

        Raises:
            StoreError: the rows could not be read.
        """

    def last_arrival(self) -> int:
        """Position of the newest row; 0 when there has never been one."""

    def close(self) -> None:
        """Let go of the files; further calls fail."""


class Store(StoreReader, Protocol):
    """Where readings are kept. All calls are safe from any thread and may block on the disk."""

    def write(self, readings: Sequence[Reading]) -> None:
        """Keep readings; returns when they will survive a power cut.

        Measurement, tags and time identify a reading: what is sent again changes nothing, what
        is sent with further fields adds those to the row, which keeps its place in the order.
        Measurements, fields and kinds of value that the contract does not know are passed over.

        Raises:
            StoreBusyError: too much is waiting; nothing was kept.
            StoreError: the readings may not have been kept; sending them again does no harm.
        """

    def expire(self, now_ns: int) -> None:
        """Forget what is older than the store was told to keep."""


def block_of(readings: Sequence[Reading], first_arrival: int) -> list[Block]:
    """Blocks of parsed readings, one per known measurement, as a store would give them.

    Each reading takes one position from `first_arrival` on, known or not. Unlike in a store, a
    reading that was sent twice stays two rows.
    """
    rows: dict[str, list[tuple[int, Reading]]] = {}
    for arrival, reading in enumerate(readings, first_arrival):
        if is_known(reading):
            rows.setdefault(reading.measurement, []).append((arrival, reading))
    return [_block(name, rows[name]) for name in TAGS if name in rows]


def is_known(reading: Reading) -> bool:
    """Whether the contract knows the measurement and at least one of the values."""
    known = fields_of(reading.measurement)
    return any(
        isinstance(value, str) == (known[name].kind is Kind.TEXT)
        for name, value in reading.fields.items()
        if name in known
    )


def number_fields(measurement: str) -> list[str]:
    """Names of the numeric fields of a measurement, in the contract's order."""
    known = fields_of(measurement)
    return [name for name, field in known.items() if field.kind is not Kind.TEXT]


def text_fields(measurement: str) -> list[str]:
    """Names of the text fields of a measurement, in the contract's order."""
    known = fields_of(measurement)
    return [name for name, field in known.items() if field.kind is Kind.TEXT]


def object_column(values: Sequence[str | None]) -> NDArray[np.object_]:
    """A text column; numpy would otherwise make fixed-width text of it."""
    column = np.empty(len(values), dtype=np.object_)
    column[:] = values
    return column


def _block(measurement: str, rows: Sequence[tuple[int, Reading]]) -> Block:
    interned: dict[tuple[tuple[str, str], ...], int] = {}
    series = [interned.setdefault(_series_key(reading.tags), len(interned)) for _, reading in rows]
    fields = [reading.fields for _, reading in rows]
    return Block(
        measurement,
        np.array([arrival for arrival, _ in rows], dtype=np.int64),
        np.array([reading.time_ns for _, reading in rows], dtype=np.int64),
        np.array(series, dtype=np.int32),
        tuple(dict(key) for key in interned),
        {name: _number_column(fields, name) for name in number_fields(measurement)},
        {name: _text_column(fields, name) for name in text_fields(measurement)},
    )


def _series_key(tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in tags.items() if value))


def _number_column(rows: Sequence[Mapping[str, Value]], name: str) -> NDArray[np.float64]:
    found = [row.get(name) for row in rows]
    column = np.array([None if isinstance(value, str) else value for value in found], np.float64)
    column[np.isinf(column)] = np.nan
    return column


def _text_column(rows: Sequence[Mapping[str, Value]], name: str) -> NDArray[np.object_]:
    found = [row.get(name) for row in rows]
    return object_column([value if isinstance(value, str) else None for value in found])


def export(store: StoreReader, after: int = 0) -> Iterator[str]:
    """Lines of line protocol, in arrival order, of all that arrived after a position.

    Raises:
        StoreError: the rows could not be read.
    """
    while True:
        blocks, position = store.readings(after)
        if not blocks:
            return
        after = position
        yield from _lines(blocks)


def _lines(blocks: Sequence[Block]) -> Iterator[str]:
    ordered = heapq.merge(
        *(zip(block.arrival.tolist(), block.readings(), strict=True) for block in blocks),
        key=lambda row: cast(int, row[0]),
    )
    for arrival, reading in ordered:
        try:
            yield to_line(reading)
        except LineError as error:
            _log.warning("row %d left out: %s", arrival, error)
