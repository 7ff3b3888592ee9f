"""The columnar block: rows of one measurement, as stores and replays hand readings on."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farmhand_agent.reading import TAGS, Kind, Reading, Value, fields_of


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


def join_blocks(measurement: str, columns: Collection[str], blocks: Sequence[Block]) -> Block:
    """One block of several of the same measurement and columns, one after the other."""
    if len(blocks) == 1:
        return blocks[0]
    interned: dict[tuple[tuple[str, str], ...], int] = {}
    series = []
    for block in blocks:
        keys = [tuple(tags.items()) for tags in block.tags]
        places = [interned.setdefault(key, len(interned)) for key in keys]
        series.append(np.array(places, dtype=np.int32)[block.series])
    return Block(
        measurement,
        _joined([block.arrival for block in blocks], np.int64),
        _joined([block.time_ns for block in blocks], np.int64),
        _joined(series, np.int32),
        tuple(MappingProxyType(dict(key)) for key in interned),
        {
            name: _joined([block.values[name] for block in blocks], np.float64)
            for name in number_fields(measurement)
            if name in columns
        },
        {
            name: _joined([block.texts[name] for block in blocks], np.object_)
            for name in text_fields(measurement)
            if name in columns
        },
    )


def _joined(parts: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts])


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
