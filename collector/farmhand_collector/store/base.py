"""What every store of readings does."""

import heapq
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol, cast

from farmhand_agent.reading import LineError, Reading, to_line
from farmhand_collector.block import Block

READ_LIMIT = 50_000
"""Rows that one call of `Store.readings` gives at most, unless told otherwise."""

_log = logging.getLogger(__name__)


class StoreError(Exception):
    """Readings could not be written or read; the message says why in one line."""


class StoreBusyError(StoreError):
    """Too many readings wait to be written; the writer should come back later."""


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
