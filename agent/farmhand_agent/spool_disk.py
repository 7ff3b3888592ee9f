"""The spool's file: rows in SQLite, grown to full size at first, salvaged when damaged."""

import contextlib
import errno
import logging
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from farmhand_agent.spool_row import MAX_ROW_BYTES, Row, Selection, intact

log = logging.getLogger(__name__)

CORRUPT_FILES_KEPT = 3

MINIMUM_CAP_BYTES = 2**20
"""Smallest cap that leaves room for readings beside SQLite's write-ahead log."""

_LOG_PAGES = 64
# The log is started over after the commit that takes it past 64 pages; none takes it this far.
_LOG_PAGES_LARGEST = 120
_LOG_BYTES = 512 * 1024
_ROWS_PER_TRANSACTION = 24
_FILLER_PAGES = 16
# A row may make the tree of pages that holds it grow by so many.
_SPARE_PAGES = 4
_LAST_ID = 2**63 - 1

_PAGE_BYTES = 4096
_SETTINGS = f"""
PRAGMA page_size = {_PAGE_BYTES};
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = -1;
PRAGMA secure_delete = OFF;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -256;
PRAGMA mmap_size = 0;
PRAGMA wal_autocheckpoint = {_LOG_PAGES};
"""


class Tally(NamedTuple):
    """What the file counts: points that it holds, points dropped since it was made."""

    points: int
    dropped: int

    def checksum(self) -> int:
        """Sum over both numbers."""
        return zlib.crc32(f"{self.points} {self.dropped}".encode())


_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS batch (
    id INTEGER PRIMARY KEY AUTOINCREMENT, boot TEXT NOT NULL, boot_time_ns INTEGER NOT NULL,
    points INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tally (
    only INTEGER PRIMARY KEY CHECK (only = 0), points INTEGER NOT NULL, dropped INTEGER NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS boot (
    id TEXT PRIMARY KEY, began_ns INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS filler (body BLOB NOT NULL);
INSERT OR IGNORE INTO tally SELECT 0, 0, 0, {Tally(0, 0).checksum()}
    WHERE NOT EXISTS (SELECT 1 FROM batch);
CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY);
"""  # noqa: S608 - a number of ours

_COLUMNS = "id, boot, boot_time_ns, points, crc, body"
_SELECT = f"""
SELECT {_COLUMNS} FROM batch
WHERE id > ? AND id <= ? AND id NOT IN (SELECT id FROM gone) ORDER BY id
"""  # noqa: S608 - the columns are a constant
_LAST_OF_EARLIER_BOOTS = f"""
SELECT {_COLUMNS} FROM batch
WHERE id IN (SELECT max(id) FROM batch WHERE boot <> ? GROUP BY boot) ORDER BY id DESC
"""  # noqa: S608 - likewise
_SALVAGE = (
    f"SELECT {_COLUMNS} FROM batch ORDER BY id",  # noqa: S608 - likewise
    f"SELECT {_COLUMNS} FROM batch ORDER BY id DESC",  # noqa: S608 - likewise
)


def _tally(connection: sqlite3.Connection) -> Tally | None:
    """Read the counts; None where they are not as they were written."""
    row = connection.execute("SELECT points, dropped, crc FROM tally").fetchone()
    tally = Tally(*row[:2]) if row else None
    return tally if tally and tally.checksum() == row[2] else None


def _boots(connection: sqlite3.Connection) -> dict[str, int]:
    """Read when boots began; without those that are not as they were written."""
    rows = connection.execute("SELECT id, began_ns, crc FROM boot")
    return {boot: began for boot, began, crc in rows if crc == _boot_checksum(boot, began)}


def _boot_checksum(boot: str, began_ns: int) -> int:
    return zlib.crc32(f"{boot} {began_ns}".encode())


class DamagedError(Exception):
    """The file is a database, but not a sound one."""


# Damage can show itself as any value where another was expected.
TROUBLE = (sqlite3.Error, OSError, ArithmeticError, TypeError, ValueError, DamagedError)


class Disk:
    """The spool's file: one connection, which locks every other process out.

    `points` and `bytes` wait in it, `dropped` points are counted, `boots` says when boots began.
    Where the disk has less room than twice the cap, no more than half of it is taken.
    Every method may raise sqlite3.Error or OSError; what it was doing is then undone.
    """

    def __init__(self, path: Path, cap_bytes: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ballast = _ballast_of(path)
        _finish_rebuild(path)
        room = _room_bytes(path)
        self._ballast.unlink(missing_ok=True)
        if not path.exists() and room < MINIMUM_CAP_BYTES:
            raise OSError(errno.ENOSPC, "the disk has no room for a spool", str(path))
        if path.exists() and path.stat().st_size < _PAGE_BYTES:
            # SQLite would take it for a new one, and forget its log.
            raise DamagedError("it is cut off")
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        self._hides = False
        self._connection = _connect(path)
        try:
            self._prepare(cap_bytes, room)
        except BaseException:
            self._connection.close()
            if not path.stat().st_size:
                path.unlink()
            raise

    def _prepare(self, cap_bytes: int, room_bytes: int) -> None:
        self._connection.executescript(_SETTINGS)
        if self._text("PRAGMA journal_mode = WAL") != "wal":
            raise OSError("this file system cannot hold a write-ahead log")
        if self._text("PRAGMA quick_check(1)") != "ok":
            raise DamagedError("quick_check failed")
        self._checkpoint()
        self._connection.executescript(_SCHEMA)
        self.points, self.bytes = self._sums("true", ())
        self._stored_points = self.points
        tally = _tally(self._connection)
        if tally is None or tally.points != self.points:
            raise DamagedError("its counts are wrong")
        self.dropped = tally.dropped
        self.last_id = self._last_id()
        self._connection.execute("DELETE FROM boot WHERE id NOT IN (SELECT boot FROM batch)")
        self.boots = _boots(self._connection)
        pages, room = (
            (size - _LOG_BYTES) // self._number("PRAGMA page_size")
            for size in (cap_bytes, room_bytes)
        )
        self._fit(min(pages, max(room, self._number("PRAGMA page_count"))))

    def insert(self, row: Row) -> bool:
        """Keep a row, dropping the oldest when the file is full."""
        while not self._try_insert(row):
            self._evict(len(row.body))
        self._stored_points += row.points
        self.points += row.points
        self.bytes += len(row.body)
        self.last_id = max(self.last_id, row.id)
        self._sweep()
        return True

    def holds(self, row: Row) -> bool:
        """Whether this very row is in the file."""
        found = self._connection.execute("SELECT crc FROM batch WHERE id = ?", (row.id,))
        return bool(found.fetchone() == (row.checksum(),))

    def select(self, after: int, upto: int, selection: Selection) -> None:
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
                if not is_full(error):
                    raise
                self._hide(part)
        return before - self.points

    def add_dropped(self, points: int) -> bool:
        """Add to the count of dropped points that the file keeps."""
        with self._transaction():
            self._keep_tally(self._stored_points, self.dropped + points)
        self.dropped += points
        return True

    def last_of_earlier_boots(self, boot: str) -> list[Row]:
        """The last row of each boot but one, the latest boot first."""
        return list(_sound(self._connection.execute(_LAST_OF_EARLIER_BOOTS, (boot,)), []))

    def learn(self, boots: Mapping[str, int]) -> None:
        """Note when boots began; a full disk does not get to know."""
        rows = [(boot, began, _boot_checksum(boot, began)) for boot, began in boots.items()]
        try:
            with self._transaction():
                self._connection.executemany("INSERT OR REPLACE INTO boot VALUES (?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
        self.boots |= boots

    def close(self, *, hold_room: bool = True) -> None:
        """Let go of the file; room for the next start's log is held by a file of zeros.

        SQLite removes the log as it closes, and could not make a new one on a full disk.
        """
        with contextlib.suppress(*TROUBLE):
            self._sweep()
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        if not hold_room:
            return
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
            raise DamagedError("its ids are wrong")
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
        """Shrink a file that was made under a larger cap; on a full disk, at another start."""
        live = "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count"
        while self._number(live) > pages - _FILLER_PAGES and self._evict(MAX_ROW_BYTES):
            pass
        try:
            self._connection.execute("VACUUM")
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
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

    def _try_insert(self, row: Row) -> bool:
        """Keep a row; False when there is no room and something could make room."""
        values = (row.id, row.boot, row.boot_time_ns, row.points, row.checksum(), row.body)

        def change() -> None:
            self._connection.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)", values)
            self._keep_tally(self._stored_points + row.points, self.dropped)

        try:
            self._make(change, len(row.body))
        except sqlite3.OperationalError as error:
            could_evict = not self._has_pages_for(len(row.body))
            if could_evict and is_full(error) and self._has_rows():
                return False
            raise
        return True

    def _delete(self, ids: Sequence[int], *, dropped: bool = False) -> None:
        stored, _ = self._sums(f"id IN ({_marks(ids)})", ids)
        points, size = self._sums(_shown(ids), ids)
        lost = points if dropped else 0

        def change() -> None:
            self._connection.execute(f"DELETE FROM batch WHERE id IN ({_marks(ids)})", ids)  # noqa: S608 - question marks
            self._keep_tally(self._stored_points - stored, self.dropped + lost)

        self._make(change)
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
        """Delete what could only be hidden while the disk was full, unless it is so still."""
        if not self._hides:
            return
        try:
            hidden = [id_ for (id_,) in self._connection.execute("SELECT id FROM gone")]
            for part in _chunks(hidden):
                self._delete(part)
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            return
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
        values = (points, dropped, Tally(points, dropped).checksum())
        self._connection.execute("UPDATE tally SET points = ?, dropped = ?, crc = ?", values)

    def _make(self, change: Callable[[], None], added_bytes: int = 0) -> None:
        """Make a change as a whole; on a full disk, start the log over for it."""
        try:
            with self._transaction():
                change()
        except sqlite3.OperationalError as error:
            if not (is_full(error) and self._has_pages_for(added_bytes)):
                raise
            self._checkpoint()
            with self._transaction():
                change()

    def _has_rows(self) -> bool:
        return bool(self._number("SELECT EXISTS (SELECT 1 FROM batch)"))

    def _has_pages_for(self, added_bytes: int) -> bool:
        """Whether the file has room for so much, so that only the disk can be full."""
        free = "SELECT freelist_count + max_page_count - page_count"
        tables = "pragma_freelist_count, pragma_max_page_count, pragma_page_count"
        needed = added_bytes // (_PAGE_BYTES - 4) + _SPARE_PAGES if added_bytes else 0
        return self._number(f"{free} FROM {tables}") >= needed

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


def _sound(rows: Iterable[tuple[int, ...]], spoilt: list[int]) -> Iterator[Row]:
    """Rows that are as they were written; ids of the others are added to `spoilt`."""
    for values in rows:
        row = intact(*values)
        if row is None:
            spoilt.append(values[0])
        else:
            yield row


_DAMAGE = {
    sqlite3.SQLITE_ERROR,  # our tables are not in it
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_NOTADB,
}


def is_damage(error: Exception) -> bool:
    """Whether the file itself is broken, rather than out of reach or full."""
    code = getattr(error, "sqlite_errorcode", 0)
    return (
        not isinstance(error, sqlite3.Error | OSError)
        or code & 0xFF in _DAMAGE
        or code == sqlite3.SQLITE_IOERR_SHORT_READ
    )


def is_full(error: Exception) -> bool:
    """Whether the disk or the file has no room left."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL


def _sides_of(path: Path) -> list[Path]:
    """SQLite's log, and the journal of the moment before there is a log."""
    return [path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-journal")]


def _ballast_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-ballast")


def _room_bytes(path: Path) -> int:
    """What a spool has already, and half of what is free: the rest is for others."""
    status = os.statvfs(path.parent)
    own = sum(file.stat().st_size for file in _files_of(path) if file.exists())
    return own + status.f_bavail * status.f_frsize // 2


def _files_of(path: Path) -> list[Path]:
    return [path, *_sides_of(path), _ballast_of(path)]


def _fresh(path: Path) -> Path:
    return path.with_name(f"{path.name}-new")


def rebuild(path: Path, cap_bytes: int, known: Tally) -> tuple[Path, int]:
    """Put a sound file with all that can be read in the place of a damaged one.

    Whenever it is interrupted, the next start begins anew or finds it done. `known` is what was
    known of the file's counts, zeros where nothing was. Returns where the damaged file is kept,
    and how many points are lost; the new file counts them as dropped.
    """
    fresh = _fresh(path)
    _remove(fresh)
    disk = Disk(fresh, cap_bytes)
    try:
        saved, found = _salvage(path, disk)
        lost = max(max(known.points, found.points) - saved, 0)
        disk.add_dropped(max(known.dropped, found.dropped) + lost)
    finally:
        disk.close(hold_room=False)
    if any(side.exists() for side in _sides_of(fresh)):
        raise OSError("the new file could not be completed")
    aside = _set_aside(path)
    fresh.rename(path)
    return aside, lost


def _finish_rebuild(path: Path) -> None:
    """Do what is left of a rebuild that was interrupted."""
    fresh = _fresh(path)
    if fresh.exists() and not path.exists():
        # The damaged file was set aside, so the new one was complete; the old log is not its own.
        for side in _sides_of(path):
            side.unlink(missing_ok=True)
        fresh.rename(path)
    _remove(fresh)


def _remove(path: Path) -> None:
    for file in _files_of(path):
        file.unlink(missing_ok=True)


def _set_aside(path: Path) -> Path:
    """Rename a file and its log; of those set aside before, only the newest are kept."""
    prefix = f"{path.name}.corrupt-"
    suffixes = (other.name.removeprefix(prefix) for other in path.parent.glob(f"{prefix}*"))
    numbers = sorted(int(suffix) for suffix in suffixes if suffix.isdecimal())
    for number in numbers[: max(len(numbers) - CORRUPT_FILES_KEPT + 1, 0)]:
        _remove(path.with_name(f"{prefix}{number}"))
    aside = path.with_name(f"{prefix}{numbers[-1] + 1 if numbers else 1}")
    path.rename(aside)
    for side, side_aside in zip(_sides_of(path), _sides_of(aside), strict=True):
        if side.exists():
            side.rename(side_aside)
    return aside


# A message about a damaged schema quotes it, and may not even be text.
_UNREADABLE = (sqlite3.Error, ValueError)


def _salvage(damaged: Path, disk: Disk) -> tuple[int, Tally]:
    """Copy the readable rows of a damaged file; from both ends, for the damage may be in between.

    Returns how many points were saved, and what the old file counted, zeros where it cannot be
    read.
    """
    saved: dict[int, int] = {}
    with contextlib.closing(_connect(damaged)) as connection:
        with contextlib.suppress(*_UNREADABLE):
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            # A file that was cut off is read as far as it goes, instead of not at all.
            connection.execute("PRAGMA writable_schema = ON")
            disk.learn(_boots(connection))
        for query in _SALVAGE:
            for row in _sound(_readable(connection, query), []):
                # A damaged tree may lead to the same page twice.
                if row.id not in saved:
                    disk.insert(row)
                    saved[row.id] = row.points
        points = sum(saved.values())
        with contextlib.suppress(*_UNREADABLE):
            return points, _tally(connection) or Tally(0, 0)
    return points, Tally(0, 0)


def _readable(connection: sqlite3.Connection, query: str) -> Iterator[tuple[int, ...]]:
    """Rows of a query up to the first error."""
    with contextlib.suppress(*_UNREADABLE):
        yield from connection.execute(query)
