"""Whether there is a backup that is not too old, and elsewhere."""

from pathlib import Path

from farmhand_collector.backup import newest
from farmhand_collector.examination import CannotTell, Check, Level, Result, Setup

BAD_SECONDS = 26 * 3600.0
_LOOK = "See the collector's log; farmhand-collector backup tries it now."


def _examine(setup: Setup) -> Result:
    backup = setup.config.backup
    if backup.directory is None:
        remedy = "Name a directory on another disk in backup.directory (docs/backup.md)."
        return Result(Level.WARNING, "no backups are made", remedy)
    directory = Path(backup.directory)
    try:
        made = newest(directory)
    except FileNotFoundError:
        made = None
    except OSError as error:
        raise CannotTell(f"{directory}: {error.strerror}") from None
    if made is None:
        return Result(Level.BAD, f"no backup in {directory}", _LOOK)
    age = setup.now - made.time
    seen = f"{made.path} is {age / 3600:.1f} h old"
    if age > max(BAD_SECONDS, 2 * backup.every_seconds):
        return Result(Level.BAD, seen, _LOOK)
    if age > 2 * backup.every_seconds + 600:
        return Result(Level.WARNING, seen, _LOOK)
    if directory.stat().st_dev == setup.data_dir.stat().st_dev:
        remedy = "Move backup.directory to another disk: one that dies takes both."
        return Result(Level.WARNING, f"{seen}, on the disk of the data", remedy)
    return Result(Level.OK, seen)


CHECK = Check("backup-age", "Age of the backup", _examine)
