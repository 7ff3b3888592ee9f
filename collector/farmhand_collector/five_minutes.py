"""Readings of five minutes made one, by the kind of each field; what is kept for a year.

Gauges become means weighted by the length of their windows, peaks and flags maxima, counters their
last value, and by how much they rose, texts the last one told. `samples` and `window_seconds` are
summed: they say how much a row stands for.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_agent.reading import Kind, fields_of
from farmhand_collector.block import Block, object_column

SLICE_NS = 300 * 10**9
ROLLED = ("card", "work", "host", "agent")
"""Measurements that come all the time. Events, facts and probes are few, and kept as they are."""
KEPT = ("card_info", "card_event", "probe", "host_event")
SUMMED = frozenset({"samples", "window_seconds"})

Floats = NDArray[np.float64]
Index = NDArray[np.intp]


class _Cells(NamedTuple):
    """Rows ordered by series and time, and where each cell of series and slice begins.

    `previous` is the row before each of the same series, -1 where there is none.
    """

    order: Index
    starts: Index
    slices: NDArray[np.int64]
    previous: Index


def rolled(block: Block) -> Block:
    """One row for each series and slice of five minutes, at the time at which the slice begins."""
    cells = _cells(block)
    weights = _weights(block)[cells.order]
    kinds = fields_of(block.measurement)
    values = {
        name: _of_cells(name, kinds[name].kind, column[cells.order], weights, cells.starts)
        for name, column in block.values.items()
    }
    texts = {
        name: _last_text(column[cells.order], cells.starts) for name, column in block.texts.items()
    }
    return _block(block.measurement, block, cells, values, texts)


def increases(block: Block) -> Block:
    """By how much the counters of cards rose in each slice, from the row before each row on.

    A counter that fell began anew: it rose by what it shows. Rows before which there is none add
    nothing, so a block should begin a slice early.
    """
    cells = _cells(block)
    known = fields_of(block.measurement)
    counters = [name for name in block.values if known[name].kind is Kind.COUNTER]
    values = {name: _risen(block.values[name][cells.order], cells) for name in counters}
    return _block("increase", block, cells, values, {})


def _cells(block: Block) -> _Cells:
    slices = block.time_ns // SLICE_NS
    order = np.lexsort((block.time_ns, block.series))
    series, ordered = block.series[order], slices[order]
    same = np.zeros(len(order), bool)
    same[1:] = series[1:] == series[:-1]
    begins = ~same
    begins[1:] |= ordered[1:] != ordered[:-1]
    previous = np.where(same, np.arange(len(order)) - 1, -1)
    return _Cells(order, np.flatnonzero(begins), ordered[begins], previous)


def _weights(block: Block) -> Floats:
    seconds = block.values.get("window_seconds")
    if seconds is None:
        return np.ones(len(block))
    return np.where(seconds > 0, seconds, 1.0)


def _of_cells(name: str, kind: Kind, column: Floats, weights: Floats, starts: Index) -> Floats:
    if not len(starts):
        return np.empty(0)
    if kind is Kind.GAUGE:
        given = ~np.isnan(column)
        weight = np.add.reduceat(np.where(given, weights, 0.0), starts)
        plain = name in SUMMED
        parts = np.where(given, column if plain else column * weights, 0.0)
        total = np.add.reduceat(parts, starts)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(weight > 0, total if plain else total / weight, np.nan)
    if kind is Kind.COUNTER:
        return _last(column, starts)
    return np.asarray(np.fmax.reduceat(column, starts))


def _last_rows(given: NDArray[np.bool_], starts: Index) -> Index:
    """The last row of each cell in which a value is given, -1 for none."""
    rows = np.where(given, np.arange(len(given)), -1)
    last = np.maximum.reduceat(rows, starts) if len(starts) else np.empty(0, np.intp)
    return np.where(last >= starts, last, -1)


def _last(column: Floats, starts: Index) -> Floats:
    last = _last_rows(~np.isnan(column), starts)
    return np.where(last >= 0, column[last], np.nan)


def _last_text(column: NDArray[np.object_], starts: Index) -> NDArray[np.object_]:
    last = _last_rows(np.array([text is not None for text in column], bool), starts)
    return object_column([column[row] if row >= 0 else None for row in last.tolist()])


def _risen(column: Floats, cells: _Cells) -> Floats:
    """Rise in each cell; NaN where nobody knows."""
    if not len(cells.starts):
        return np.empty(0)
    before = _before(column, cells.previous)
    rise = np.where(column >= before, column - before, column)
    rise = np.where(np.isnan(before), np.nan, rise)
    known = np.add.reduceat(~np.isnan(rise), cells.starts) > 0
    return np.where(known, np.add.reduceat(np.nan_to_num(rise), cells.starts), np.nan)


def _before(column: Floats, previous: Index) -> Floats:
    """The last value given before each row in the same series."""
    rows = np.arange(len(column))
    # Where each series begins, so that nothing is taken from the one before it.
    begin = np.maximum.accumulate(np.where(previous < 0, rows, 0))
    given = np.maximum.accumulate(np.where(~np.isnan(column), rows, -1))
    last = np.concatenate([[-1], given[:-1]])
    return np.where(last >= begin, column[last], np.nan)


def _block(
    measurement: str,
    block: Block,
    cells: _Cells,
    values: Mapping[str, Floats],
    texts: Mapping[str, NDArray[np.object_]],
) -> Block:
    time_ns = cells.slices * SLICE_NS
    series = block.series[cells.order][cells.starts]
    return Block(measurement, time_ns, time_ns, series, block.tags, values, texts)


def since(block: Block, begin_ns: int) -> Block:
    """The rows from a time on."""
    return block.take(block.time_ns >= begin_ns)
