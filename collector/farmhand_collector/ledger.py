"""The ledger: what the collector concluded, in one file and one transaction a tick.

It holds the core's checkpoint with the position in the store from which to go on, and every
change of verdict. After a crash the core replays from the checkpoint; ticks that were committed
before are judged again, but their changes are not written twice.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import apsw

from farmhand_collector.changes import Change

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


class Ledger:
    """One SQLite file with one connection; used from the judging thread and, for reads, others."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = _opened(path)

    def checkpoint(self) -> Checkpoint | None:
        """The last checkpoint, if there is one."""
        row = next(self._connection.execute("SELECT position, state FROM checkpoint"), None)
        return Checkpoint(*row) if row else None

    def last_tick_ns(self) -> int:
        """End of the last frame whose changes are written; 0 when there is none."""
        row = next(self._connection.execute("SELECT end_ns FROM tick"), None)
        return int(row[0]) if row else 0

    def commit(
        self, end_ns: int, changes: Sequence[Change], checkpoint: Checkpoint | None = None
    ) -> None:
        """Write a tick's changes and, with it, a checkpoint: all of it or nothing."""
        with self._connection:
            self._connection.execute("REPLACE INTO tick VALUES (1, ?)", (end_ns,))
            self._connection.executemany(
                "INSERT INTO change(time, key, state, cause, finding, text) VALUES (?,?,?,?,?,?)",
                changes,
            )
            if checkpoint is not None:
                self._connection.execute("REPLACE INTO checkpoint VALUES (1, ?, ?)", checkpoint)

    def said(self) -> dict[str, tuple[str, str]]:
        """State and cause last written of each card."""
        rows = self._connection.execute(
            "SELECT key, state, cause FROM change"
            " WHERE seq IN (SELECT max(seq) FROM change GROUP BY key)"
        )
        return {str(key): (str(state), str(cause)) for key, state, cause in rows}

    def changes(self, key: str | None = None, limit: int = 100) -> list[Change]:
        """The newest changes, of one card or of all, newest first."""
        where, values = ("WHERE key = ?", [key]) if key is not None else ("", [])
        rows = self._connection.execute(
            f"SELECT time, key, state, cause, finding, text FROM change {where}"  # noqa: S608  fixed text
            " ORDER BY seq DESC LIMIT ?",
            (*values, limit),
        )
        return [Change(*row) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def _opened(path: Path) -> apsw.Connection:
    """Open the file; one that is not a usable ledger is set aside, and a new one begun."""
    try:
        return _prepared(path)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        aside = path.with_suffix(".corrupt")
        log.error("%s: %s; moved to %s, judging starts anew", path, error, aside)
        path.replace(aside)
        for companion in ("-wal", "-shm"):
            path.with_name(path.name + companion).unlink(missing_ok=True)
        return _prepared(path)


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
