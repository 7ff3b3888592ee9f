"""Whether `farm.sqlite` is whole."""

from contextlib import closing

import apsw

from farmhand_collector.examination import CannotTell, Check, Level, Result, Setup

_RESTORE = "Put the newest backup back: farmhand-collector restore DIR (docs/backup.md)."


def _examine(setup: Setup) -> Result:
    path = setup.data_dir / "farm.sqlite"
    if not path.is_file():
        raise CannotTell(f"no {path}")
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            connection.set_busy_timeout(5000)
            told = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
    except (apsw.NotADBError, apsw.CorruptError) as error:
        return Result(Level.BAD, f"{path} is damaged: {error}", _RESTORE)
    if told != ["ok"]:
        return Result(Level.BAD, f"{path} is damaged: {told[0]}", _RESTORE)
    aside = sorted(path.parent.glob("farm.sqlite.corrupt-*"))
    if aside:
        seen = f"{aside[-1].name}: a damaged one was set aside and a new one begun"
        return Result(Level.WARNING, seen, f"{_RESTORE[:-1]}, or remove the file set aside.")
    return Result(Level.OK, f"{path.stat().st_size} bytes, read through")


CHECK = Check("ledger", "farm.sqlite is whole", _examine)
