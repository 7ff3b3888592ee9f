"""Readings from one store into another: in pieces, resumable, and counted afterwards."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from farmhand_agent import durable
from farmhand_agent.reading import TAGS, Reading
from farmhand_collector.store.base import Store, StoreBusyError, StoreError, StoreReader

log = logging.getLogger(__name__)

PIECE_ROWS = 20_000
HOUR_NS = 3600 * 10**9
BUSY_SECONDS = 2.0
MOST_BUSY = 30
"""Tries while a server is busy, before it is given up."""


class Progress(NamedTuple):
    """How far it has come: positions of the source, and what this run did with readings.

    Those too old are past the target's retention, which would refuse them.
    """

    position: int
    last: int
    written: int
    too_old: int


class Difference(NamedTuple):
    """An hour in which the target holds fewer readings of a measurement than the source."""

    measurement: str
    begin_ns: int
    source: int
    target: int


def migrate(
    source: StoreReader,
    target: Store,
    memory: Path,
    *,
    oldest_ns: int = 0,
    told: Callable[[Progress], object] = bool,
    sleep: Callable[[float], object] = time.sleep,
) -> Progress:
    """Write all readings of a store into another, from where the last run stopped.

    Readings are the same by measurement, tags and time, so what is written twice changes nothing.

    Args:
        source: may go on taking readings; those that come meanwhile are written too.
        target: where they go.
        memory: file for the position up to which all is written.
        oldest_ns: time before which readings are passed over.
        told: called after each piece.
        sleep: how to wait while the target is busy.

    Raises:
        StoreError: readings could not be read or written; the next run goes on from there.
        OSError: the position could not be remembered.
    """
    now = Progress(_remembered(memory), source.last_arrival(), 0, 0)
    while True:
        blocks, after = source.readings(now.position, PIECE_ROWS)
        if not blocks:
            return now
        readings = [reading for block in blocks for reading in block.readings() if reading.fields]
        kept = [reading for reading in readings if reading.time_ns >= oldest_ns]
        _write(target, kept, sleep)
        too_old = now.too_old + len(readings) - len(kept)
        now = Progress(after, source.last_arrival(), now.written + len(kept), too_old)
        _remember(memory, now.position)
        told(now)


def _write(target: Store, readings: list[Reading], sleep: Callable[[float], object]) -> None:
    for attempt in range(MOST_BUSY):
        try:
            target.write(readings)
            return
        except StoreBusyError:
            if attempt == MOST_BUSY - 1:
                raise
            sleep(BUSY_SECONDS)


def differences(
    source: StoreReader, target: StoreReader, since_ns: int, until_ns: int
) -> Iterator[Difference]:
    """Hours in which readings are missing in the target.

    Raises:
        StoreError: readings could not be read.
    """
    for begin_ns in range(since_ns // HOUR_NS * HOUR_NS, until_ns, HOUR_NS):
        for measurement in TAGS:
            held = len(source.between(measurement, begin_ns, begin_ns + HOUR_NS))
            if not held:
                continue
            found = len(target.between(measurement, begin_ns, begin_ns + HOUR_NS))
            if found < held:
                yield Difference(measurement, begin_ns, held, found)


def _remembered(memory: Path) -> int:
    """The position up to which all is written.

    Raises:
        StoreError: the file is damaged; deleting it begins anew.
    """
    try:
        return int(json.loads(memory.read_text(encoding="utf-8"))["position"])
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{memory}: {error}; delete it to begin anew") from None


def _remember(memory: Path, position: int) -> None:
    durable.write(memory, json.dumps({"position": position}).encode())
