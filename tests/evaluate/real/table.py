"""Tables of the public data, as their authors wrote them."""

import csv
import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).parent.parent / "data"

Row = dict[str, str]


class Table(NamedTuple):
    """Rows that can be used, and how many could not."""

    rows: list[Row]
    dropped: int


def read(name: str, key: Sequence[str], time: str | None = None) -> Table:
    """Rows of a compressed CSV file below `DATA`.

    Args:
        name: of the file.
        key: columns that name a row; of rows with an equal key the first is used.
        time: column that must be above 0: a run without a time has no place in an order.
    """
    with gzip.open(DATA / name, "rt", encoding="utf-8", newline="") as file:
        return usable(csv.DictReader(file), key, time)


def usable(rows: Iterable[Row], key: Sequence[str], time: str | None = None) -> Table:
    """Rows without those that repeat a key or lack a time; see `read`."""
    kept: dict[tuple[str, ...], Row] = {}
    dropped = 0
    for row in rows:
        name = tuple(row[column] for column in key)
        if name in kept or (time is not None and float(row[time]) <= 0):
            dropped += 1
        else:
            kept[name] = row
    return Table(list(kept.values()), dropped)


def numbers(row: Row, columns: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Fields of a reading from (field, column) pairs; a column that the row lacks gives none."""
    return {field: float(row[column]) for field, column in columns if row.get(column)}
