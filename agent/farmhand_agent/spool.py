"""Readings that the store has not accepted yet: on disk, bounded, the oldest given up first."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from farmhand_agent.clock import boot_id, boot_time_ns
from farmhand_agent.spool_boot import begins
from farmhand_agent.spool_disk import (
    MINIMUM_CAP_BYTES,
    TROUBLE,
    Disk,
    Tally,
    is_damage,
    is_full,
    rebuild,
)
from farmhand_agent.spool_row import MAX_ROW_BYTES, Ring, Row, Selection

log = logging.getLogger(__name__)

RING_BYTES = 4 * 2**20
RETRY_SECONDS = 60.0
_LAST_ID = 2**63 - 1

_T = TypeVar("_T")


class Batch(NamedTuple):
    """Readings put together, still to be accepted."""

    id: int
    points: int
    body: bytes
    """Line protocol, lines joined by newlines."""
    boot: str
    """Names the boot of the machine in which it was put; see `Spool.boot_began_ns`."""
    boot_time_ns: int
    """When that boot began by the wall clock of the moment of `put`; the clock was wrong by as
    much as this differs from the true time."""


class Spool:
    """A bounded queue on disk: what `put` wrote comes out until it is acknowledged.

    The file and its write-ahead log together never exceed the cap, nor half of what was free when
    they were made. When it is full the oldest readings are dropped and counted. A damaged file is
    renamed to `.corrupt-<n>` beside it, the three newest are kept, and what can still be read of it
    goes on. While the disk cannot be used readings wait in a bounded memory ring and `degraded`
    says why. Safe for use by several threads; no method raises for the state of the disk.

    Raises:
        ValueError: the cap is below `spool_disk.MINIMUM_CAP_BYTES`.

    """

    path: Path
    """The file."""
    degraded: str | None
    """Why readings are kept in memory only, in one line; None while they are on disk."""
    quarantined_total: int
    """Damaged files set aside since the start."""

    def __init__(
        self,
        path: Path,
        cap_bytes: int,
        *,
        boot: str | None = None,
        boot_time: Callable[[], int] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if cap_bytes < MINIMUM_CAP_BYTES:
            raise ValueError(f"spool cap {cap_bytes} B, expected at least {MINIMUM_CAP_BYTES} B")
        self.path = path
        self._cap_bytes = cap_bytes
        self._boot_time = boot_time or boot_time_ns
        self._monotonic = monotonic
        self._boot = boot or boot_id()
        self._boots: dict[str, int] = {}
        self._lock = threading.RLock()
        self._arrived = threading.Event()
        self._disk: Disk | None = None
        self._ring = Ring(min(cap_bytes, RING_BYTES))
        self._dropped_on_disk = 0
        self._dropped_unsaved = 0
        self._retry_at = 0.0
        self._next_id = 0
        self._closed = False
        self.degraded = None
        self.quarantined_total = 0
        self._open()
        # Without a file the last id is unknown; a time is above any that was counted up.
        self._next_id = self._next_id or time.time_ns()

    def put(self, lines: Sequence[str]) -> None:
        """Keep lines of line protocol; they are on disk when this returns, unless degraded."""
        with self._lock:
            for part in _parts(lines):
                self._ring.append(self._row(part))
            self._dropped_unsaved += sum(_is_oversized(line) for line in lines)
            self._to_disk()
            self._dropped_unsaved += self._ring.shrink()
        self._arrived.set()

    def batches(
        self,
        *,
        after: int = 0,
        upto: int | None = None,
        max_bytes: int = 1_000_000,
        max_points: int = 5_000,
    ) -> list[Batch]:
        """Oldest batches with `after` < id <= `upto`, within the limits but at least one."""
        last = _LAST_ID if upto is None else upto
        with self._lock:
            found = Selection(max_bytes, max_points)
            self._on_disk(lambda disk: disk.select(after, last, found))
            found.take(row for row in self._ring if after < row.id <= last)
            return [self._batch(row) for row in found.rows]

    def ack(self, ids: Sequence[int], refused_points: int = 0) -> None:
        """Forget batches; `refused_points` of them were refused for good and count as dropped."""
        with self._lock:
            removed = self._ring.remove(ids)
            removed += self._on_disk(lambda disk: disk.remove(ids)) or 0
            self._dropped_unsaved += min(refused_points, removed)
            self._save_dropped()

    def learn_boot(self, began_ns: int) -> None:
        """Note when this boot really began; it is kept for a later boot that ships its readings.

        Earlier boots of which it was never learned are judged by it, see `spool_boot`.
        """
        with self._lock:
            noted = self._disk.boots if self._disk else self._boots
            if noted.get(self._boot) == began_ns:
                return
            self._boots[self._boot] = began_ns
            rows = self._on_disk(lambda disk: disk.last_of_earlier_boots(self._boot)) or []
            self._boots |= begins(rows, self._boots, began_ns)
            self._on_disk(lambda disk: disk.learn(self._boots))

    def boot_began_ns(self, boot: str) -> int | None:
        """When a boot really began, as well as it is known; None before it was learned."""
        with self._lock:
            return self._boots.get(boot)

    @property
    def last_id(self) -> int:
        """Id of the newest batch that was ever put; ids only grow."""
        with self._lock:
            return self._next_id - 1

    @property
    def points(self) -> int:
        """Readings that wait."""
        with self._lock:
            return self._ring.points + (self._disk.points if self._disk else 0)

    @property
    def bytes(self) -> int:
        """Size of the readings that wait."""
        with self._lock:
            return self._ring.bytes + (self._disk.bytes if self._disk else 0)

    @property
    def dropped_points_total(self) -> int:
        """Readings dropped because the spool was full or damaged, or because they were refused."""
        with self._lock:
            return self._dropped_on_disk + self._dropped_unsaved

    def wait(self, timeout: float) -> bool:
        """Wait for a `put` or `wake` since the last wait; False when the time ran out."""
        came = self._arrived.wait(timeout)
        self._arrived.clear()
        return came

    def wake(self) -> None:
        """End a `wait` in another thread."""
        self._arrived.set()

    def close(self) -> None:
        """Write what is in memory if the disk allows, and let go of the file."""
        with self._lock:
            if self._closed:
                return
            self._retry_at = 0.0
            self._to_disk()
            self._closed = True
            self._drop_disk()
            if self._ring.points:
                log.warning("spool closed with %d readings in memory only", self._ring.points)

    def _row(self, lines: Sequence[str]) -> "Row":
        body = _encoded("\n".join(lines))
        row = Row(self._next_id, self._boot, self._boot_time(), len(lines), body)
        self._next_id += 1
        return row

    def _batch(self, row: "Row") -> Batch:
        return Batch(row.id, row.points, row.body, row.boot, row.boot_time_ns)

    def _to_disk(self) -> None:
        """Move what is in memory to disk, oldest first, as far as the disk allows."""
        if self.degraded is not None:
            if self._monotonic() < self._retry_at:
                return
            self._retry_at = self._monotonic() + RETRY_SECONDS
        if self._disk is None:
            self._open()
        while self._ring:
            if not self._insert(self._ring.first):
                return
            self._ring.popleft()
        if self._disk is not None:
            self._save_dropped()
            self._recovered()

    def _insert(self, row: "Row") -> bool:
        """Keep a row on disk; where the file turns out damaged, in the new one."""
        before = self.quarantined_total
        stored = self._on_disk(lambda disk: disk.insert(row))
        if stored is None and self.quarantined_total > before:
            stored = self._on_disk(lambda disk: disk.insert(row))
        return stored is not None

    def _recovered(self) -> None:
        if self.degraded is not None:
            log.info("spool is on disk again")
            self.degraded = None

    def _save_dropped(self) -> None:
        dropped = self._dropped_unsaved
        if dropped and self._on_disk(lambda disk: disk.add_dropped(dropped)):
            self._dropped_unsaved -= dropped
            self._count_dropped()

    def _count_dropped(self) -> None:
        if self._disk is not None:
            self._dropped_on_disk = self._disk.dropped

    def _on_disk(self, action: "Callable[[Disk], _T]") -> _T | None:
        """Do something with the file; None when it let us down, and why is dealt with."""
        if self._disk is None:
            return None
        try:
            result = action(self._disk)
        except TROUBLE as error:
            self._fail(error)
            return None
        self._count_dropped()
        return result

    def _open(self) -> None:
        if self._closed:
            return
        try:
            self._use(Disk(self.path, self._cap_bytes))
        except TROUBLE as error:
            self._fail(error)

    def _use(self, disk: "Disk") -> None:
        self._disk = disk
        self._boots = disk.boots | self._boots
        self._count_dropped()
        while self._ring and disk.holds(self._ring.first):
            # It was written, although the disk said that it was not.
            self._ring.popleft()
        if self._ring and self._ring.first.id <= disk.last_id:
            self._ring.renumber(disk.last_id + 1)
            self._next_id = 0
        self._next_id = max(self._next_id, disk.last_id + 1, self._ring.last_id + 1)

    def _fail(self, error: Exception) -> None:
        if is_damage(error):
            self._quarantine(error)
        else:
            self._degrade(error)

    def _degrade(self, error: Exception) -> None:
        if not is_full(error):
            self._drop_disk()
        if self.degraded is None:
            log.warning("spool cannot use the disk, readings wait in memory: %s", error)
            self._retry_at = self._monotonic() + RETRY_SECONDS
        self.degraded = f"{self.path}: {error}"

    def _drop_disk(self) -> None:
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def _quarantine(self, damage: Exception) -> None:
        """Set the damaged file aside and go on with a new one that holds what could be read."""
        known = Tally(self._disk.points if self._disk else 0, self._dropped_on_disk)
        self._drop_disk()
        try:
            aside, lost = rebuild(self.path, self._cap_bytes, known)
            self.quarantined_total += 1
            self._use(Disk(self.path, self._cap_bytes))
        except TROUBLE as error:
            self._degrade(error)
            return
        log.warning("spool damaged (%s): kept as %s, %d readings lost", damage, aside.name, lost)


def _parts(lines: Sequence[str]) -> Iterator[list[str]]:
    """Lines in groups whose text fits a row; a line that fits none is left out."""
    part: list[str] = []
    size = 0
    for line in lines:
        length = len(_encoded(line)) + 1
        if _is_oversized(line):
            continue
        if part and size + length > MAX_ROW_BYTES:
            yield part
            part, size = [], 0
        part.append(line)
        size += length
    if part:
        yield part


def _is_oversized(line: str) -> bool:
    return len(_encoded(line)) >= MAX_ROW_BYTES


def _encoded(text: str) -> bytes:
    # Text that a driver gave may hold what is no text; a reading is not lost for it.
    return text.encode(errors="replace")
