"""Answers of InfluxDB as blocks."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from farmhand_agent.reading import TAGS
from farmhand_collector.block import Block, number_fields, object_column, text_fields
from farmhand_collector.store.base import StoreError

_NAME, _TIME = 0, 2
"""Columns of an answer that are always there; the second holds grouping tags, which are unused."""

Rows = list[list[str]]


def tables(answer: str) -> Iterator[tuple[list[str], Rows]]:
    """Header and rows of each table of an answer in CSV.

    Raises:
        StoreError: the answer is an error, or no such answer.
    """
    header: list[str] = []
    rows: Rows = []
    for row in csv.reader(io.StringIO(answer, newline="")):
        if row[:1] == ["name"] or row == ["error"]:
            if rows:
                yield header, rows
            header, rows = row, []
        elif row:
            rows.append(row)
    if header == ["error"]:
        raise StoreError(f"InfluxDB: {rows[0][0] if rows else 'unknown error'}")
    if rows:
        if header[_TIME : _TIME + 1] != ["time"]:
            raise StoreError(f"InfluxDB: an answer begins with {rows[0]!r}, expected a table")
        yield header, rows


def block_of_table(measurement: str, header: Sequence[str], rows: Rows) -> Block:
    """The rows of a measurement, in the order given; a time is also its row's arrival.

    Raises:
        StoreError: a row is no row of such a table.
    """
    try:
        columns = dict(zip(header, zip(*rows, strict=True), strict=True))
        time_ns = np.array(columns["time"], np.int64)
        numbers = {
            name: _numbers(columns.get(name), len(rows)) for name in number_fields(measurement)
        }
    except (KeyError, ValueError, OverflowError) as error:
        raise StoreError(f"InfluxDB: {measurement}: {error}, expected numbers") from None
    series, tags = _series(measurement, columns, len(rows))
    texts = {
        name: object_column([value or None for value in columns.get(name, [""] * len(rows))])
        for name in text_fields(measurement)
    }
    return Block(measurement, time_ns, time_ns, series, tags, numbers, texts)


def _numbers(told: Sequence[str] | None, count: int) -> NDArray[np.float64]:
    column = np.full(count, np.nan)
    if told is not None:
        given = np.array([value != "" for value in told], bool)
        column[given] = np.array(list(compress(told, given.tolist())), np.float64)
    return column


def _series(
    measurement: str, columns: dict[str, tuple[str, ...]], count: int
) -> tuple[NDArray[np.int32], tuple[dict[str, str], ...]]:
    names = sorted(TAGS[measurement])
    told = [columns.get(name, ("",) * count) for name in names]
    numbers: dict[tuple[str, ...], int] = {}
    series = [numbers.setdefault(values, len(numbers)) for values in zip(*told, strict=True)]
    tags = tuple(
        {name: value for name, value in zip(names, values, strict=True) if value}
        for values in numbers
    )
    return np.array(series, np.int32), tags


def empty(measurement: str, fields: Iterable[str] | None = None) -> Block:
    """A block without rows."""
    none = np.empty(0, np.int64)
    nothing = Block(
        measurement,
        none,
        none,
        np.empty(0, np.int32),
        (),
        {name: np.empty(0) for name in number_fields(measurement)},
        {name: object_column([]) for name in text_fields(measurement)},
    )
    return only(nothing, fields)


def only(block: Block, fields: Iterable[str] | None) -> Block:
    """The block with the fields that were asked for; all of them where none are named."""
    if fields is None:
        return block
    wanted = set(fields)
    return Block(
        block.measurement,
        block.arrival,
        block.time_ns,
        block.series,
        block.tags,
        {name: column for name, column in block.values.items() if name in wanted},
        {name: column for name, column in block.texts.items() if name in wanted},
    )
