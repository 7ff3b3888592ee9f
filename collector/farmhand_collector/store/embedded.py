"""The embedded store: day files of SQLite, one writing thread, commits shared by all who wait."""

import fcntl
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from itertools import accumulate, takewhile
from pathlib import Path

import apsw

from farmhand_agent.durable import flush_directory
from farmhand_agent.reading import Reading
from farmhand_collector.store.base import StoreBusyError, StoreError
from farmhand_collector.store.day_file import (
    DAMAGE,
    DAY_NS,
    EPOCH,
    DayFile,
    bytes_of,
    corrupt_files,
    day_of,
    day_path,
    days_in,
    set_aside,
    unlink,
)
from farmhand_collector.store.reader import EmbeddedReader
from farmhand_collector.store.tables import Shapes

RETENTION_DAYS = 30
MOST_BYTES = 50 * 2**30
MOST_QUEUED = 200_000
_MOST_OPEN = 4
_MOST_CORRUPT = 3
_GROUP_ROWS = 20_000
_RESERVE = 1_000_000
_CHECKED_BYTES = 256 * 2**20
"""Size up to which the newest file is read through at the start: well under a second."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Write:
    """Readings by day, and who waits for them."""

    days: dict[int, list[Reading]]
    rows: int
    done: "Future[None]" = field(default_factory=Future)


class EmbeddedStore(EmbeddedReader):
    """Readings in one SQLite file per UTC day of their time, under one directory."""

    def __init__(
        self,
        directory: Path,
        *,
        retention_days: int = RETENTION_DAYS,
        most_bytes: int = MOST_BYTES,
        most_queued: int = MOST_QUEUED,
    ) -> None:
        """Open the store, making the directory; a damaged file is set aside, never in the way.

        `most_bytes` is a cap on the files of all days; `most_queued` counts readings.

        Raises:
            StoreError: another store has the directory open, or it cannot be used.
        """
        _make_directory(directory)
        super().__init__(directory)
        self._retention_days = retention_days
        self._most_bytes = most_bytes
        self._most_queued = most_queued
        self._lock_descriptor = _lock(directory)
        self._files_lock = threading.RLock()
        self._files: dict[int, DayFile] = {}
        self._shapes = Shapes()
        self._passed_over: Counter[str] = Counter()
        self._top_by_day: dict[int, int] = {}
        days = days_in(directory)
        for day in days:
            self._top_by_day[day] = self._checked_top(day, whole=day == days[-1])
        self._tops = dict(self._top_by_day)
        self._positions = _Positions(directory, max(self._tops.values(), default=0))
        self._wake = threading.Condition()
        self._queue: list[_Write] = []
        self._queued = 0
        self._failing: set[int] = set()
        self._closing = False
        self._writer = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._writer.start()

    @property
    def passed_over(self) -> dict[str, int]:
        """Whole `readings` and single `values` that the contract does not know, since the start."""
        return dict(self._passed_over)

    @property
    def queued(self) -> int:
        """Readings that wait to be committed."""
        return self._queued

    def write(self, readings: Sequence[Reading]) -> None:
        """Keep readings; returns when they will survive a power cut.

        Raises:
            StoreBusyError: too much is waiting; nothing was kept.
            StoreError: the readings may not have been kept; sending them again does no harm.
        """
        write = _Write(_by_day(readings), len(readings))
        with self._wake:
            if self._closing:
                raise StoreError("the store is closed")
            if self._queued and self._queued + write.rows > self._most_queued:
                raise StoreBusyError(f"{self._queued} readings wait to be written")
            self._queue.append(write)
            self._queued += write.rows
            self._wake.notify()
        write.done.result()

    def close(self) -> None:
        """Write what is queued, then let go of the files."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._writer.join()
        super().close()
        with self._files_lock:
            while self._files:
                self._files.popitem()[1].close()
            if self._lock_descriptor >= 0:
                os.close(self._lock_descriptor)
                self._lock_descriptor = -1

    def expire(self, now_ns: int) -> None:
        """Remove days past the retention, then the oldest until the rest is under the cap.

        The newest day always stays.

        Raises:
            StoreError: a file could not be removed.
        """
        try:
            with self._files_lock:
                self._expire_old(day_of(now_ns) - self._retention_days)
                self._expire_large()
        except (OSError, apsw.Error) as error:
            raise StoreError(f"{self._directory}: {error}") from error

    # --- the writing thread

    def _run(self) -> None:
        while group := self._next_group():
            try:
                self._commit(group)
            except Exception as error:
                _log.exception("readings not written")
                _fail(group, error)
            with self._wake:
                self._queued -= sum(write.rows for write in group)

    def _next_group(self) -> list[_Write]:
        """What to commit together; nothing when the store closes and all is done."""
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._closing)
            totals = accumulate(write.rows for write in self._queue)
            count = 1 + sum(1 for _ in takewhile(lambda rows: rows < _GROUP_ROWS, totals))
            group, self._queue = self._queue[:count], self._queue[count:]
        return group

    def _commit(self, group: Sequence[_Write]) -> None:
        """Commit the days in order, the positions rising with them, then tell who waits.

        Whoever sees a position in any file may rely on all lower ones being in place.
        """
        merged: dict[int, list[Reading]] = {}
        for write in group:
            for day, readings in write.days.items():
                merged.setdefault(day, []).extend(readings)
        failed: dict[int, Exception] = {}
        with self._files_lock:
            for day in sorted(merged):
                try:
                    self._append(day, merged[day])
                except Exception as error:
                    failed[day] = error
            self._tops = dict(self._top_by_day)
        self._tell(failed, merged)
        for write in group:
            errors = [failed[day] for day in write.days if day in failed]
            if errors:
                write.done.set_exception(StoreError(f"not written: {errors[0]}"))
            else:
                write.done.set_result(None)

    def _tell(self, failed: Mapping[int, Exception], tried: Iterable[int]) -> None:
        """Log when a day begins to fail and when it is written again, not every time."""
        for day in tried:
            if day in failed and day not in self._failing:
                _log.error("%s: not written: %s", _day_name(day), failed[day])
                self._failing.add(day)
            elif day not in failed and day in self._failing:
                _log.warning("%s: written again", _day_name(day))
                self._failing.remove(day)

    def _append(self, day: int, readings: Sequence[Reading]) -> None:
        first = self._positions.take(len(readings))
        try:
            self._append_at(day, readings, first)
        except DAMAGE as error:
            self._set_aside(day, error)
            self._append_at(day, readings, first)
        self._top_by_day[day] = first + len(readings) - 1

    def _append_at(self, day: int, readings: Sequence[Reading], first: int) -> None:
        file = self._open(day)
        try:
            file.append(readings, first)
        except BaseException:
            self._close_file(day)
            raise

    def _open(self, day: int) -> DayFile:
        """The writing side of a day's file; the one not used for longest makes room."""
        file = self._files.pop(day, None)
        if file is None:
            file = DayFile(day_path(self._directory, day), self._shapes, self._passed_over)
        self._files[day] = file
        if len(self._files) > _MOST_OPEN:
            self._close_file(next(iter(self._files)))
        return file

    def _close_file(self, day: int) -> None:
        file = self._files.pop(day, None)
        if file is not None:
            with suppress(apsw.Error):
                file.close()

    # --- damage and age

    def _checked_top(self, day: int, whole: bool) -> int:
        """Position of a day's newest row; 0 when the file cannot be used."""
        path = day_path(self._directory, day)
        try:
            file = self._open(day)
            if whole and bytes_of(path) <= _CHECKED_BYTES:
                file.check()
            return file.top()
        except DAMAGE as error:
            self._set_aside(day, error)
        except apsw.Error as error:
            _log.error("%s: passed over: %s", path, error)
        return 0

    def _damaged(self, day: int, age: int, error: Exception) -> None:
        """Set a file aside, unless another thread has done so since it was opened."""
        with self._files_lock:
            if self._pool.age(day) == age:
                self._set_aside(day, error)

    def _set_aside(self, day: int, error: Exception) -> None:
        self._close_file(day)
        self._pool.forget(day)
        path = day_path(self._directory, day)
        if path.exists():
            kept = set_aside(path)
            _log.error("%s is damaged (%s); kept as %s, a new one is begun", path, error, kept)
        self._forget(day)
        for _, old in corrupt_files(self._directory)[:-_MOST_CORRUPT]:
            unlink(old)

    def _expire_old(self, first_kept: int) -> None:
        newest = max(self._days(), default=0)
        for day in self._days():
            if day < min(first_kept, newest):
                self._remove(day)
        for day, path in corrupt_files(self._directory):
            if day < first_kept:
                unlink(path)

    def _expire_large(self) -> None:
        corrupt = corrupt_files(self._directory)
        sizes = {path: bytes_of(path) for _, path in corrupt}
        days = {day: bytes_of(day_path(self._directory, day)) for day in self._days()}
        total = sum(sizes.values()) + sum(days.values())
        for _, path in corrupt:
            if total > self._most_bytes:
                unlink(path)
                total -= sizes[path]
        for day in list(days)[:-1]:
            if total > self._most_bytes:
                self._remove(day)
                total -= days[day]
        if total > self._most_bytes:
            _log.error(
                "%s: the newest day alone takes %d bytes, more than the %d allowed",
                self._directory,
                total,
                self._most_bytes,
            )

    def _remove(self, day: int) -> None:
        self._close_file(day)
        self._pool.forget(day)
        unlink(day_path(self._directory, day))
        self._forget(day)
        _log.info("%s: removed", day_path(self._directory, day))

    def _forget(self, day: int) -> None:
        self._top_by_day.pop(day, None)
        self._tops = dict(self._top_by_day)

    def _readable(self) -> dict[int, int]:
        return self._tops


class _Positions:
    """The next free position: never one twice, even when files are removed or set aside.

    A small file holds a position that none has reached; it is moved on before that happens.
    """

    def __init__(self, directory: Path, top: int) -> None:
        self._path = directory / "positions"
        self._ceiling = self._read()
        self._next = max(self._ceiling, top) + 1

    def take(self, count: int) -> int:
        """The first of so many positions in a row.

        Raises:
            OSError: the ceiling could not be moved.
        """
        first = self._next
        if first + count > self._ceiling:
            self._write(first + count + _RESERVE)
        self._next += count
        return first

    def _read(self) -> int:
        try:
            return int(self._path.read_text())
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            _log.error("%s cannot be read (%s); going on from the newest row", self._path, error)
            return 0

    def _write(self, ceiling: int) -> None:
        new = self._path.with_suffix(".new")
        descriptor = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, str(ceiling).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.replace(self._path)
        flush_directory(self._path.parent)
        self._ceiling = ceiling


def _by_day(readings: Sequence[Reading]) -> dict[int, list[Reading]]:
    days: dict[int, list[Reading]] = {}
    for reading in readings:
        days.setdefault(reading.time_ns // DAY_NS, []).append(reading)
    return days


def _fail(group: Sequence[_Write], error: Exception) -> None:
    for write in group:
        if not write.done.done():
            write.done.set_exception(StoreError(f"not written: {error}"))


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise StoreError(
            f"{directory}: {error.strerror}, expected a directory of our own"
        ) from None


def _lock(directory: Path) -> int:
    try:
        descriptor = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{directory}: {error.strerror}, expected a writable directory") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StoreError(f"{directory} is in use by another collector") from None
    return descriptor


def _day_name(day: int) -> str:
    """The day for a message; a day that no calendar has must be told as well."""
    try:
        return date.fromordinal(EPOCH + day).isoformat()
    except (ValueError, OverflowError):
        return f"day {day}"
