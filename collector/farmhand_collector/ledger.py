"""The ledger: what the collector concluded, in one file and one transaction a tick.

It holds the core's checkpoint with the position in the store from which to go on, and every
change of verdict. After a crash the core replays from the checkpoint; ticks that were committed
before are judged again, but their changes are not written twice.
"""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from farmhand_collector.changes import Change
from farmhand_collector.store.day_file import set_aside

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS checkpoint(
    only INTEGER PRIMARY KEY CHECK (only = 1), position INTEGER NOT NULL, state BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS tick(only INTEGER PRIMARY KEY CHECK (only = 1), end_ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS change(
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL, cause TEXT NOT NULL,
    finding TEXT NOT NULL, text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS change_by_key ON change(key, time);
"""


class Checkpoint(NamedTuple):
    """The core's saved state, and the store's position after which readings are to be judged."""

    position: int
    state: bytes


class LedgerError(Exception):
    """The ledger could not be read or written; the message says why in one line."""


class Ledger:
    """One SQLite file with one connection, for the judging thread and those that read."""

    def __init__(self, path: Path) -> None:
        """Open it; a damaged file is set aside, and judging starts anew.

        Raises:
            LedgerError: it cannot be opened or made.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = _opened(path)
        # A connection refuses a second thread while it serves a first.
        self._lock = threading.Lock()

    def checkpoint(self) -> Checkpoint | None:
        """The last checkpoint, if there is one.

        Raises:
            LedgerError: see there.
        """
        rows = self._all("SELECT position, state FROM checkpoint")
        return Checkpoint(*rows[0]) if rows else None

    def last_tick_ns(self) -> int:
        """End of the last frame whose changes are written; 0 when there is none.

        Raises:
            LedgerError: see there.
        """
        rows = self._all("SELECT end_ns FROM tick")
        return int(rows[0][0]) if rows else 0

    def commit(
        self, end_ns: int, changes: Sequence[Change], checkpoint: Checkpoint | None = None
    ) -> None:
        """Write a tick's changes and, with it, a checkpoint: all of it or nothing.

        Raises:
            LedgerError: the disk is full or fails; nothing was written.
        """
        try:
            with self._lock, self._connection:
                self._write(end_ns, changes, checkpoint)
        except apsw.Error as error:
            raise LedgerError(f"cannot be written: {error}") from None

    def _write(self, end_ns: int, changes: Sequence[Change], checkpoint: Checkpoint | None) -> None:
        self._connection.execute("REPLACE INTO tick VALUES (1, ?)", (end_ns,))
        self._connection.executemany(
            "INSERT INTO change(time, key, state, cause, finding, text) VALUES (?,?,?,?,?,?)",
            changes,
        )
        if checkpoint is not None:
            self._connection.execute("REPLACE INTO checkpoint VALUES (1, ?, ?)", checkpoint)

    def said(self) -> dict[str, tuple[str, str]]:
        """State and cause last written of each card.

        Raises:
            LedgerError: see there.
        """
        rows = self._all(
            "SELECT key, state, cause FROM change"
            " WHERE seq IN (SELECT max(seq) FROM change GROUP BY key)"
        )
        return {str(key): (str(state), str(cause)) for key, state, cause in rows}

    def changes(self, key: str | None = None, limit: int = 100) -> list[Change]:
        """The newest changes, of one card or of all, newest first.

        Raises:
            LedgerError: see there.
        """
        where, values = ("WHERE key = ?", [key]) if key is not None else ("", [])
        rows = self._all(
            f"SELECT time, key, state, cause, finding, text FROM change {where}"  # noqa: S608  fixed text
            " ORDER BY seq DESC LIMIT ?",
            (*values, limit),
        )
        return [Change(*row) for row in rows]

    def _all(self, sql: str, values: Sequence[str | int] = ()) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(sql, tuple(values)).fetchall()
        except apsw.Error as error:
            raise LedgerError(f"cannot be read: {error}") from None

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def _opened(path: Path) -> apsw.Connection:
    """Open the file; one that is not a usable ledger is set aside, and a new one begun."""
    try:
        return _prepared(path)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        log.error("%s: %s; kept as %s, judging starts anew", path, error, set_aside(path))
        return _prepared(path)
    except (apsw.Error, OSError) as error:
        raise LedgerError(f"{path} cannot be opened: {error}") from None


def _prepared(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    try:
        path.chmod(0o600)
        connection.set_busy_timeout(5000)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        for _ in connection.execute(_SCHEMA):
            pass
    except apsw.Error:
        connection.close()
        raise
    return connection
