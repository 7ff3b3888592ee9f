"""Readings that the store has not accepted yet: on disk, bounded, the oldest given up first."""

import contextlib
import logging
import os
import sqlite3
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

log = logging.getLogger(__name__)

MINIMUM_CAP_BYTES = 2**20
"""Smallest cap that leaves room for readings beside SQLite's write-ahead log."""

MAX_ROW_BYTES = 64 * 1024
RING_BYTES = 4 * 2**20
RETRY_SECONDS = 60.0
CORRUPT_FILES_KEPT = 3

_LOG_PAGES = 64
# The log is started over after the commit that takes it past 64 pages; none takes it this far.
_LOG_PAGES_LARGEST = 120
_LOG_BYTES = 512 * 1024
_ROWS_PER_TRANSACTION = 24
_FILLER_PAGES = 16
_LAST_ID = 2**63 - 1

_T = TypeVar("_T")


class Batch(NamedTuple):
    """Readings put together, still to be accepted."""

    id: int
    points: int
    body: bytes
    """Line protocol, lines joined by newlines."""
    boot_time_ns: int | None
    """When this machine booted, by the wall clock of the moment of `put`; the clock was wrong by
    as much as this differs from the true time. None when it was put in an earlier boot."""


class Spool:
    """A bounded queue on disk: what `put` wrote comes out until it is acknowledged.

    The file and its write-ahead log together never exceed the cap. When it is full the oldest
    readings are dropped and counted. A damaged file is renamed to `.corrupt-<n>` beside it, the
    three newest are kept, and what can still be read of it goes on. While the disk cannot be used
    readings wait in a bounded memory ring and `degraded` says why. Safe for use by several
    threads; no method raises for the state of the disk.

    Raises:
        ValueError: the cap is below `MINIMUM_CAP_BYTES`.

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
        boot_time: Callable[[], int] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if cap_bytes < MINIMUM_CAP_BYTES:
            raise ValueError(f"spool cap {cap_bytes} B, expected at least {MINIMUM_CAP_BYTES} B")
        self.path = path
        self._cap_bytes = cap_bytes
        self._boot_time = boot_time or boot_time_ns
        self._monotonic = monotonic
        self._boot = _boot_id()
        self._lock = threading.RLock()
        self._arrived = threading.Event()
        self._disk: _Disk | None = None
        self._ring = _Ring(min(cap_bytes, RING_BYTES))
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
            found = _Selection(max_bytes, max_points)
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

    def _row(self, lines: Sequence[str]) -> "_Row":
        body = _encoded("\n".join(lines))
        row = _Row(self._next_id, self._boot, self._boot_time(), len(lines), body)
        self._next_id += 1
        return row

    def _batch(self, row: "_Row") -> Batch:
        same_boot = row.boot == self._boot
        return Batch(row.id, row.points, row.body, row.boot_time_ns if same_boot else None)

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

    def _insert(self, row: "_Row") -> bool:
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

    def _on_disk(self, action: "Callable[[_Disk], _T]") -> _T | None:
        """Do something with the file; None when it let us down, and why is dealt with."""
        if self._disk is None:
            return None
        try:
            result = action(self._disk)
        except _TROUBLE as error:
            self._fail(error)
            return None
        self._count_dropped()
        return result

    def _open(self) -> None:
        if self._closed:
            return
        try:
            self._use(_Disk(self.path, self._cap_bytes))
        except _TROUBLE as error:
            self._fail(error)

    def _use(self, disk: "_Disk") -> None:
        self._disk = disk
        self._count_dropped()
        if self._ring and self._ring.first.id <= disk.last_id:
            self._ring.renumber(disk.last_id + 1)
            self._next_id = 0
        self._next_id = max(self._next_id, disk.last_id + 1, self._ring.last_id + 1)

    def _fail(self, error: Exception) -> None:
        if _is_damage(error):
            self._quarantine(error)
        else:
            self._degrade(error)

    def _degrade(self, error: Exception) -> None:
        if not _is_full(error):
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
        waiting = self._disk.points if self._disk else 0
        self._drop_disk()
        try:
            aside = _set_aside(self.path)
            self.quarantined_total += 1
            # The new file starts its own count.
            dropped, self._dropped_on_disk = self._dropped_on_disk, 0
            self._dropped_unsaved += dropped
            disk = _Disk(self.path, self._cap_bytes)
            self._use(disk)
            saved, tally = _salvage(aside, disk)
        except _TROUBLE as error:
            self._degrade(error)
            return
        self._use(disk)
        lost = max(max(waiting, tally.points) - saved, 0)
        self._dropped_unsaved += lost + max(tally.dropped - dropped, 0)
        self._save_dropped()
        log.warning("spool damaged (%s): kept as %s, %d readings lost", damage, aside.name, lost)


def boot_time_ns() -> int:
    """When this machine booted, by its wall clock as it stands now, in nanoseconds.

    It changes only when the wall clock is set, so a difference is how far the clock was moved.
    """
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"unknown since {time.time_ns()}"


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


# --- rows --------------------------------------------------------------------------------------


class _Row(NamedTuple):
    id: int
    boot: str
    boot_time_ns: int
    points: int
    body: bytes

    def checksum(self) -> int:
        head = f"{self.id} {self.boot} {self.boot_time_ns} {self.points}"
        return zlib.crc32(self.body, zlib.crc32(head.encode()))


def _intact(
    id_: int, boot: object, boot_time: object, points: object, crc: object, body: object
) -> _Row | None:
    """Make a row of its columns, or None when a bit of them changed since it was written."""
    if not (isinstance(boot, str) and isinstance(boot_time, int) and isinstance(points, int)):
        return None
    if not isinstance(body, bytes):
        return None
    row = _Row(id_, boot, boot_time, points, body)
    return row if row.checksum() == crc else None


class _Selection:
    """Rows up to a limit of bytes and points; the first is taken whatever its size."""

    def __init__(self, max_bytes: int, max_points: int) -> None:
        self.rows: list[_Row] = []
        self._bytes_left = max_bytes
        self._points_left = max_points
        self._full = False

    def take(self, rows: Iterable[_Row]) -> None:
        for row in rows:
            self._bytes_left -= len(row.body)
            self._points_left -= row.points
            fits = self._bytes_left >= 0 and self._points_left >= 0
            self._full = self._full or bool(self.rows and not fits)
            if self._full:
                return
            self.rows.append(row)


class _Ring:
    """Rows in memory, bounded; the oldest are dropped."""

    def __init__(self, cap_bytes: int) -> None:
        self._cap_bytes = cap_bytes
        self._rows: deque[_Row] = deque()
        self.points = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[_Row]:
        return iter(self._rows)

    @property
    def first(self) -> _Row:
        return self._rows[0]

    @property
    def last_id(self) -> int:
        return self._rows[-1].id if self._rows else 0

    def append(self, row: _Row) -> None:
        self._rows.append(row)
        self._count(row, 1)

    def popleft(self) -> _Row:
        row = self._rows.popleft()
        self._count(row, -1)
        return row

    def remove(self, ids: Iterable[int]) -> int:
        """Forget rows; returns how many points went."""
        before = self.points
        gone = set(ids)
        for row in [row for row in self._rows if row.id in gone]:
            self._rows.remove(row)
            self._count(row, -1)
        return before - self.points

    def shrink(self) -> int:
        """Drop the oldest rows over the cap; returns how many points went."""
        before = self.points
        while self.bytes > self._cap_bytes:
            self.popleft()
        return before - self.points

    def renumber(self, first_id: int) -> None:
        self._rows = deque(row._replace(id=first_id + n) for n, row in enumerate(self._rows))

    def _count(self, row: _Row, sign: int) -> None:
        self.points += sign * row.points
        self.bytes += sign * len(row.body)


# --- the file ----------------------------------------------------------------------------------

_PAGE_BYTES = 4096
_SETTINGS = f"""
PRAGMA page_size = {_PAGE_BYTES};
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = -1;
PRAGMA secure_delete = OFF;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -512;
PRAGMA wal_autocheckpoint = {_LOG_PAGES};
"""


class _Tally(NamedTuple):
    """What the file counts: points that it holds, points dropped since it was made."""

    points: int
    dropped: int

    def checksum(self) -> int:
        return zlib.crc32(f"{self.points} {self.dropped}".encode())


_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS batch (
    id INTEGER PRIMARY KEY AUTOINCREMENT, boot TEXT NOT NULL, boot_time_ns INTEGER NOT NULL,
    points INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tally (
    only INTEGER PRIMARY KEY CHECK (only = 0), points INTEGER NOT NULL, dropped INTEGER NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS filler (body BLOB NOT NULL);
INSERT OR IGNORE INTO tally SELECT 0, 0, 0, {_Tally(0, 0).checksum()}
    WHERE NOT EXISTS (SELECT 1 FROM batch);
CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY);
"""  # noqa: S608 - a number of ours

_COLUMNS = "id, boot, boot_time_ns, points, crc, body"
_SELECT = f"""
SELECT {_COLUMNS} FROM batch
WHERE id > ? AND id <= ? AND id NOT IN (SELECT id FROM gone) ORDER BY id
"""  # noqa: S608 - the columns are a constant
_SALVAGE = (
    f"SELECT {_COLUMNS} FROM batch ORDER BY id",  # noqa: S608 - likewise
    f"SELECT {_COLUMNS} FROM batch ORDER BY id DESC",  # noqa: S608 - likewise
)


def _tally(connection: sqlite3.Connection) -> _Tally | None:
    """Read the counts; None where they are not as they were written."""
    row = connection.execute("SELECT points, dropped, crc FROM tally").fetchone()
    tally = _Tally(*row[:2]) if row else None
    return tally if tally and tally.checksum() == row[2] else None


class _DamagedError(Exception):
    """The file is a database, but not a sound one."""


# Damage can show itself as any value where another was expected.
_TROUBLE = (sqlite3.Error, OSError, ArithmeticError, TypeError, ValueError, _DamagedError)


class _Disk:
    """The spool's file: one connection, which locks every other process out.

    Every method may raise sqlite3.Error or OSError; what it was doing is then undone.
    """

    def __init__(self, path: Path, cap_bytes: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._ballast = path.with_name(f"{path.name}-ballast")
        self._ballast.unlink(missing_ok=True)
        if path.exists() and not path.stat().st_size and not _log_of(path).exists():
            raise _DamagedError("it is empty")
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        self._hides = False
        self._connection = _connect(path)
        try:
            self._prepare(cap_bytes)
        except BaseException:
            self._connection.close()
            if not path.stat().st_size:
                path.unlink()
            raise

    def _prepare(self, cap_bytes: int) -> None:
        self._connection.executescript(_SETTINGS)
        if self._text("PRAGMA journal_mode = WAL") != "wal":
            raise OSError("this file system cannot hold a write-ahead log")
        if self._text("PRAGMA quick_check(1)") != "ok":
            raise _DamagedError("quick_check failed")
        self._checkpoint()
        self._connection.executescript(_SCHEMA)
        self.points, self.bytes = self._sums("true", ())
        self._stored_points = self.points
        tally = _tally(self._connection)
        if tally is None or tally.points != self.points:
            raise _DamagedError("its counts are wrong")
        self.dropped = tally.dropped
        self.last_id = self._last_id()
        self._fit((cap_bytes - _LOG_BYTES) // self._number("PRAGMA page_size"))

    def insert(self, row: _Row) -> bool:
        """Keep a row, dropping the oldest when the file is full."""
        while not self._try_insert(row):
            self._evict(len(row.body))
        self._stored_points += row.points
        self.points += row.points
        self.bytes += len(row.body)
        self.last_id = max(self.last_id, row.id)
        if self._hides:
            self._sweep()
        return True

    def select(self, after: int, upto: int, selection: _Selection) -> None:
        """Add rows with `after` < id <= `upto` to the selection; spoilt ones are dropped."""
        spoilt: list[int] = []
        with contextlib.closing(self._connection.execute(_SELECT, (after, upto))) as rows:
            selection.take(_sound(rows, spoilt))
        for part in _chunks(spoilt):
            self._delete(part, dropped=True)

    def remove(self, ids: Sequence[int]) -> int:
        """Forget rows; returns how many points went.

        Where the disk is too full to write they are at least not given out again.
        """
        before = self.points
        for part in _chunks(ids):
            try:
                self._delete(part)
            except sqlite3.OperationalError as error:
                if not _is_full(error):
                    raise
                self._hide(part)
        return before - self.points

    def add_dropped(self, points: int) -> bool:
        """Add to the count of dropped points that the file keeps."""
        with self._transaction():
            self._keep_tally(self._stored_points, self.dropped + points)
        self.dropped += points
        return True

    def close(self) -> None:
        """Let go of the file; room for the next start's log is held by a file of zeros.

        SQLite removes the log as it closes, and could not make a new one on a full disk.
        """
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        try:
            # A little less than the log, or it would not fit where the log was.
            self._ballast.write_bytes(bytes((_LOG_PAGES_LARGEST - 1) * _PAGE_BYTES))
        except OSError:
            with contextlib.suppress(OSError):
                self._ballast.unlink(missing_ok=True)

    def _last_id(self) -> int:
        last = self._number("SELECT max(coalesce(max(seq), 0), 0) FROM sqlite_sequence")
        last = max(last, self._number("SELECT coalesce(max(id), 0) FROM batch"))
        if last >= _LAST_ID // 2:
            raise _DamagedError("its ids are wrong")
        return last

    # -- room --

    def _fit(self, pages: int) -> None:
        """Make the file as large as it may become, so that a full disk cannot stop it later."""
        self._empty_filler()
        if self._number("PRAGMA page_count") > pages:
            self._contract(pages)
        self._connection.execute(f"PRAGMA max_page_count = {pages}")
        with contextlib.suppress(sqlite3.OperationalError):
            while self._number("PRAGMA page_count") <= pages - _FILLER_PAGES:
                self._fill(_FILLER_PAGES)
        size = self._number("PRAGMA page_count")
        if size > pages - _FILLER_PAGES:
            # A page that is allowed but not there would fail as the log is written back.
            self._connection.execute(f"PRAGMA max_page_count = {size}")
        self._empty_filler()
        self._grow_log()

    def _grow_log(self) -> None:
        """Make the log as large as it may become; SQLite starts it over without shrinking it."""
        self._checkpoint()
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        # What is written here says nothing, so it is enough to sync once at the end.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        with contextlib.suppress(sqlite3.OperationalError):
            for _ in range(_LOG_PAGES_LARGEST // 2):
                self._connection.execute("INSERT INTO filler VALUES ('')")
                self._connection.execute("DELETE FROM filler")
        self._checkpoint()
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")

    def _checkpoint(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def _fill(self, pages: int) -> None:
        with self._transaction():
            self._connection.execute(
                "INSERT INTO filler VALUES (zeroblob(?))", ((pages - 1) * _PAGE_BYTES,)
            )

    def _empty_filler(self) -> None:
        # A few at a time: one large delete would outgrow the log.
        some = "SELECT rowid FROM filler ORDER BY rowid DESC LIMIT ?"
        while self._number("SELECT EXISTS (SELECT 1 FROM filler)"):
            with self._transaction():
                self._connection.execute(
                    f"DELETE FROM filler WHERE rowid IN ({some})",  # noqa: S608 - a constant
                    (_ROWS_PER_TRANSACTION,),
                )

    def _contract(self, pages: int) -> None:
        """Shrink a file that was made under a larger cap."""
        live = "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count"
        while self._number(live) > pages - _FILLER_PAGES and self._evict(MAX_ROW_BYTES):
            pass
        self._connection.execute("VACUUM")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _evict(self, wanted_bytes: int) -> bool:
        """Drop the oldest rows until about this much is free; False when there is none."""
        oldest = "SELECT id, length(body) FROM batch ORDER BY id LIMIT ?"
        ids: list[int] = []
        for id_, size in self._connection.execute(oldest, (_ROWS_PER_TRANSACTION,)).fetchall():
            if wanted_bytes > 0:
                ids.append(id_)
                wanted_bytes -= size
        self._delete(ids, dropped=True)
        return bool(ids)

    # -- rows --

    def _try_insert(self, row: _Row) -> bool:
        """Keep a row; False when there is no room and something could make room."""
        values = (row.id, row.boot, row.boot_time_ns, row.points, row.checksum(), row.body)
        try:
            with self._transaction():
                self._connection.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)", values)
                self._keep_tally(self._stored_points + row.points, self.dropped)
        except sqlite3.OperationalError as error:
            if _is_full(error) and self._number("SELECT EXISTS (SELECT 1 FROM batch)"):
                return False
            raise
        return True

    def _delete(self, ids: Sequence[int], *, dropped: bool = False) -> None:
        stored, _ = self._sums(f"id IN ({_marks(ids)})", ids)
        points, size = self._sums(_shown(ids), ids)
        lost = points if dropped else 0
        with self._transaction():
            self._connection.execute(f"DELETE FROM batch WHERE id IN ({_marks(ids)})", ids)  # noqa: S608 - question marks
            self._keep_tally(self._stored_points - stored, self.dropped + lost)
        self._stored_points -= stored
        self.points -= points
        self.bytes -= size
        self.dropped += lost

    def _hide(self, ids: Sequence[int]) -> None:
        points, size = self._sums(_shown(ids), ids)
        self._connection.executemany("INSERT OR IGNORE INTO gone VALUES (?)", [(i,) for i in ids])
        self._hides = True
        self.points -= points
        self.bytes -= size

    def _sweep(self) -> None:
        """Delete what could only be hidden while the disk was full."""
        for part in _chunks([id_ for (id_,) in self._connection.execute("SELECT id FROM gone")]):
            self._delete(part)
        self._connection.execute("DELETE FROM gone")
        self._hides = False

    def _sums(self, where: str, values: Sequence[int]) -> tuple[int, int]:
        """Points and bytes of some rows; a spoilt count cannot exceed its text."""
        points, size = self._connection.execute(
            "SELECT coalesce(sum(max(1, min(points, length(body)))), 0),"  # noqa: S608 - constants and question marks
            f" coalesce(sum(length(body)), 0) FROM batch WHERE {where}",
            values,
        ).fetchone()
        return int(points), int(size)

    def _keep_tally(self, points: int, dropped: int) -> None:
        values = (points, dropped, _Tally(points, dropped).checksum())
        self._connection.execute("UPDATE tally SET points = ?, dropped = ?, crc = ?", values)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk has rolled it back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _number(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])

    def _text(self, query: str) -> str:
        return str(self._connection.execute(query).fetchone()[0])


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    connection.text_factory = lambda text: text.decode(errors="replace")
    return connection


def _marks(ids: Sequence[int]) -> str:
    return ",".join("?" * len(ids))


def _shown(ids: Sequence[int]) -> str:
    return f"id IN ({_marks(ids)}) AND id NOT IN (SELECT id FROM gone)"  # noqa: S608 - question marks


def _chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _ROWS_PER_TRANSACTION):
        yield ids[start : start + _ROWS_PER_TRANSACTION]


def _sound(rows: Iterable[tuple[int, ...]], spoilt: list[int]) -> Iterator[_Row]:
    """Rows that are as they were written; ids of the others are added to `spoilt`."""
    for values in rows:
        row = _intact(*values)
        if row is None:
            spoilt.append(values[0])
        else:
            yield row


# --- damage ------------------------------------------------------------------------------------

_DAMAGE = {
    sqlite3.SQLITE_ERROR,  # our tables are not in it
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_NOTADB,
}


def _is_damage(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return (
        not isinstance(error, sqlite3.Error | OSError)
        or code & 0xFF in _DAMAGE
        or code == sqlite3.SQLITE_IOERR_SHORT_READ
    )


def _is_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _set_aside(path: Path) -> Path:
    """Rename a file and its log; of those set aside before, only the newest are kept."""
    prefix = f"{path.name}.corrupt-"
    suffixes = (other.name.removeprefix(prefix) for other in path.parent.glob(f"{prefix}*"))
    numbers = sorted(int(suffix) for suffix in suffixes if suffix.isdecimal())
    for number in numbers[: max(len(numbers) - CORRUPT_FILES_KEPT + 1, 0)]:
        old = path.with_name(f"{prefix}{number}")
        old.unlink(missing_ok=True)
        _log_of(old).unlink(missing_ok=True)
    aside = path.with_name(f"{prefix}{numbers[-1] + 1 if numbers else 1}")
    path.rename(aside)
    if _log_of(path).exists():
        _log_of(path).rename(_log_of(aside))
    return aside


# A message about a damaged schema quotes it, and may not even be text.
_UNREADABLE = (sqlite3.Error, ValueError)


def _salvage(aside: Path, disk: _Disk) -> tuple[int, _Tally]:
    """Copy the readable rows of a damaged file; from both ends, for the damage may be in between.

    Returns how many points were saved, and what the old file counted, zeros where it cannot be
    read.
    """
    saved = last = 0
    with contextlib.closing(_connect(aside)) as connection:
        for row in _sound(_readable(connection, _SALVAGE[0]), []):
            disk.insert(row)
            saved += row.points
            last = row.id
        for row in _sound(_readable(connection, _SALVAGE[1]), []):
            if row.id <= last:
                break
            disk.insert(row)
            saved += row.points
        with contextlib.suppress(*_UNREADABLE):
            return saved, _tally(connection) or _Tally(0, 0)
    return saved, _Tally(0, 0)


def _readable(connection: sqlite3.Connection, query: str) -> Iterator[tuple[int, ...]]:
    """Rows of a query up to the first error."""
    with contextlib.suppress(*_UNREADABLE):
        yield from connection.execute(query)
