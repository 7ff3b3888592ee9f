"""Readings to try a store with, and a naive twin that says what it must hold."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from farmhand_agent.reading import TAGS, Kind, Reading, Value, fields_of
from farmhand_collector.block import Block
from farmhand_collector.store.base import READ_LIMIT, StoreReader

DAY_NS = 86_400 * 10**9
NOON_NS = 20_781 * DAY_NS + DAY_NS // 2
"""2026-11-24 12:00 UTC."""
SECOND_NS = 10**9


def card_tags(slot: int = 0, host: str = "shelf-3") -> dict[str, str]:
    """Tags of one of the cards of a host."""
    return {
        "site": "barn",
        "rack": "a",
        "host": host,
        "slot": str(slot),
        "card": f"GPU-{host}-{slot}",
        "vendor": "nvidia",
        "model": "RTX 3090",
    }


def card(time_ns: int = NOON_NS, slot: int = 0, **fields: Value) -> Reading:
    """A reading of a card, with its power where no fields are given."""
    return Reading("card", card_tags(slot), fields or {"power_watts": 250.0}, time_ns)


class Row(NamedTuple):
    """A row as a plain value."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    time_ns: int
    fields: tuple[tuple[str, Value], ...]


def row_of(reading: Reading) -> Row:
    """A reading as a plain value, whatever the order of its fields and tags."""
    tags = tuple(sorted((key, text) for key, text in reading.tags.items() if text))
    return Row(reading.measurement, tags, reading.time_ns, tuple(sorted(reading.fields.items())))


def rows_of(blocks: Iterable[Block]) -> list[Row]:
    """Rows of blocks in arrival order."""
    placed = [
        (arrival, row_of(reading))
        for block in blocks
        for arrival, reading in zip(block.arrival.tolist(), block.readings(), strict=True)
    ]
    return [row for _, row in sorted(placed)]


def read_all(store: StoreReader, limit: int = READ_LIMIT) -> list[Row]:
    """All rows of a store, read in pieces."""
    found: list[Row] = []
    position = 0
    while True:
        blocks, position = store.readings(position, limit)
        if not blocks:
            return found
        piece = rows_of(blocks)
        assert 0 < len(piece) <= limit
        found += piece


class Twin:
    """What a store must hold, kept in a dictionary."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, tuple[tuple[str, str], ...], int], dict[str, Value]] = {}

    def write(self, readings: Sequence[Reading]) -> None:
        """Keep what the contract knows; days in order, else in the order given."""
        for reading in sorted(readings, key=lambda reading: reading.time_ns // DAY_NS):
            kept = _known(reading.measurement, reading.fields)
            if kept:
                row = row_of(reading)
                self._rows.setdefault((row.measurement, row.tags, row.time_ns), {}).update(kept)

    def rows(self) -> list[Row]:
        """All rows in the order in which they came first."""
        return [Row(*key, tuple(sorted(fields.items()))) for key, fields in self._rows.items()]


def _known(measurement: str, fields: Mapping[str, Value]) -> dict[str, Value]:
    if measurement not in TAGS:
        return {}
    contract = fields_of(measurement)
    return {
        name: value
        for name, value in fields.items()
        if name in contract and isinstance(value, str) == (contract[name].kind is Kind.TEXT)
    }
