"""Backups: copies of what cannot be measured again, on another disk.

A backup is a directory named by its time that holds `farm.sqlite`, `tokens.json` and the folder
`tls` where there are such, and `manifest.json` with the digest of each file. It is written under
another name and renamed when all of it is on disk and checked, so one that is there is whole.
"""

import argparse
import fcntl
import hashlib
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec

from farmhand_agent import __version__, settings
from farmhand_agent.command import FailedError, Parser
from farmhand_agent.durable import flush_directory
from farmhand_collector.backup_settings import Settings

log = logging.getLogger(__name__)

SCHEMA = 1
"""Version of the manifest."""
LEDGER = "farm.sqlite"
FILES = (LEDGER, "tokens.json", "tls")
"""What of the data directory is kept; readings are too large and are measured anew."""
MANIFEST = "manifest.json"
CHECK_SECONDS = 60.0
"""How often the schedule looks whether a backup is due."""
RETRY_SECONDS = 600.0
"""Pause after one that failed."""
STOP_SECONDS = 5.0
"""A disk at the end of a network may never answer."""
_SPARE_BYTES = 64 * 2**20
"""Left free on the disk of the backups."""
_NAME = "%Y%m%dT%H%M%S.%fZ"
_STORE_LOCK = Path("readings") / "lock"
_POSITIONS = Path("readings") / "positions"
_ASIDE = "before-restore-"
_STAGED = ".restoring"


class BackupError(Exception):
    """A backup could not be made, read or put back; the message says why in one line."""


class Made(NamedTuple):
    """A backup that is there: its directory, when it was made (seconds since 1970), its size."""

    path: Path
    time: float
    bytes: int


class _File(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds, by path."""

    schema: int
    time: float
    version: str
    files: dict[str, _File]


# --- which are kept ----------------------------------------------------------------------------


def name_of(seconds: float) -> str:
    """The name of a backup made at a time."""
    return datetime.fromtimestamp(seconds, UTC).strftime(_NAME)


def time_of(name: str) -> float | None:
    """When a backup of this name was made; None for a name that is none of ours."""
    try:
        return datetime.strptime(name, _NAME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def backups_in(directory: Path) -> list[Path]:
    """Whole backups in a directory, oldest first.

    Raises:
        OSError: it cannot be read.
    """
    return sorted(p for p in directory.iterdir() if time_of(p.name) is not None and p.is_dir())


def kept(names: Sequence[str], hours: int, days: int) -> set[str]:
    """Names of the backups to keep: the newest of each of the last hours and days that have one.

    Hours in which none was made do not count, so a collector that was off loses none.
    """
    newest_first = sorted(names, reverse=True)
    by_hour, by_day = ({name[:n]: name for name in reversed(newest_first)} for n in (11, 8))
    return {
        name
        for newest, most in ((by_hour, hours), (by_day, days))
        for name in sorted(newest.values(), reverse=True)[:most]
    }


# --- making one --------------------------------------------------------------------------------


def make(data_dir: Path, directory: Path, hours: int = 24, days: int = 7) -> Made:
    """Make a backup, then remove those that are no longer to be kept.

    The collector may run and write meanwhile: what is copied is the state at one moment.

    Raises:
        BackupError: it could not be made; those that were there still are.
    """
    try:
        _make_directory(directory)
        with _locked(directory / "lock", "another backup is being made"):
            _remove_unfinished(directory)
            made = _written(data_dir, directory)
            _remove_old(directory, hours, days, made.path.name)
        return made
    except (OSError, apsw.Error) as error:
        raise BackupError(f"{directory}: not backed up: {error}") from error


def _make_directory(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _locked(path: Path, held: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"{path.parent}: {held}") from None
        yield
    finally:
        os.close(descriptor)


def _remove_unfinished(directory: Path) -> None:
    for path in directory.glob(".new-*"):
        shutil.rmtree(path, ignore_errors=True)


def _written(data_dir: Path, directory: Path) -> Made:
    now = time.time()
    unfinished = directory / f".new-{name_of(now)}"
    unfinished.mkdir(mode=0o700)
    try:
        _copy_ledger(data_dir / LEDGER, unfinished / LEDGER)
        for name in FILES[1:]:
            _copy_plain(data_dir / name, unfinished / name)
        size = _write_manifest(unfinished, now)
        path = directory / name_of(now)
        unfinished.rename(path)
        flush_directory(directory)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return Made(path, now, size)


def _copy_ledger(source: Path, target: Path) -> None:
    """A copy of the ledger as it is at one moment, in one file, read through."""
    if not source.is_file():
        raise BackupError(f"{source} is not there: no collector has run with this data_dir")
    _require_space(source, target.parent)
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    flags = apsw.SQLITE_OPEN_READWRITE
    with (
        closing(apsw.Connection(str(source), flags=flags)) as here,
        closing(apsw.Connection(str(target), flags=flags)) as there,
    ):
        here.set_busy_timeout(5000)
        # In one step: a read transaction, which sees one state and hinders no writer.
        with there.backup("main", here, "main") as copying:
            copying.step(-1)
        there.pragma("journal_mode", "delete")
    _check_ledger(target)
    _sync(target)


def _require_space(source: Path, directory: Path) -> None:
    log_path = source.with_name(source.name + "-wal")
    needed = source.stat().st_size + (log_path.stat().st_size if log_path.exists() else 0)
    free = shutil.disk_usage(directory).free
    if free < needed + _SPARE_BYTES:
        raise BackupError(f"{directory}: {free} bytes free, expected {needed + _SPARE_BYTES}")


def _check_ledger(path: Path) -> None:
    """Read a file through.

    Raises:
        BackupError: it is damaged.
    """
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            told = [str(row[0]) for row in connection.execute("PRAGMA quick_check")]
    except apsw.Error as error:
        raise BackupError(f"{path} is damaged: {error}") from None
    if told != ["ok"]:
        raise BackupError(f"{path} is damaged: {told[0]}")


def _copy_plain(source: Path, target: Path) -> None:
    """Copy a file, or a folder's files; links are followed, as certificates often are some."""
    if source.is_dir():
        target.mkdir(mode=0o700)
        for inner in sorted(path for path in source.iterdir() if path.is_file()):
            _copy_plain(inner, target / inner.name)
        flush_directory(target)
    elif source.is_file():
        descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as copy:
            copy.write(source.read_bytes())
            copy.flush()
            os.fsync(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_manifest(directory: Path, now: float) -> int:
    files = {str(p.relative_to(directory)): _file(p) for p in directory.rglob("*") if p.is_file()}
    manifest = Manifest(SCHEMA, now, __version__, files)
    path = directory / MANIFEST
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    _sync(path)
    flush_directory(directory)
    return sum(file.size for file in files.values())


def _file(path: Path) -> _File:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256")
        return _File(content.tell(), digest.hexdigest())


def _remove_old(directory: Path, hours: int, days: int, made: str) -> None:
    """Remove what is too old; the one just made stays, whatever the clock says."""
    names = [path.name for path in backups_in(directory)]
    for name in set(names) - kept(names, hours, days) - {made}:
        # Renamed first: one that is half removed must not look whole.
        removing = directory / f".new-{name}"
        (directory / name).rename(removing)
        shutil.rmtree(removing)


# --- looking at them ---------------------------------------------------------------------------


def verified(path: Path) -> Manifest:
    """The manifest of a backup, all of whose files are as it says and whose ledger is whole.

    Raises:
        BackupError: they are not.
    """
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise BackupError(f"{path} is no backup: {MANIFEST}: {error}") from None
    if manifest.schema != SCHEMA:
        raise BackupError(f"{path}: schema {manifest.schema}, expected {SCHEMA}")
    for name, file in manifest.files.items():
        _verify(path, name, file)
    _check_ledger(path / LEDGER)
    return manifest


def _verify(path: Path, name: str, file: _File) -> None:
    parts = Path(name).parts
    if not parts or parts[0] not in FILES or ".." in parts:
        raise BackupError(f"{path}: {MANIFEST}: {name!r} is none of {', '.join(FILES)}")
    try:
        found = _file(path / name)
    except OSError as error:
        raise BackupError(f"{path / name}: {error.strerror}") from None
    if found != file:
        raise BackupError(f"{path / name} is not as it was written")


def newest(directory: Path) -> Made | None:
    """The newest backup; None when there is none.

    Raises:
        OSError: the directory cannot be read.
    """
    for path in reversed(backups_in(directory)):
        with suppress(OSError, msgspec.DecodeError):
            manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
            size = sum(file.size for file in manifest.files.values())
            return Made(path, manifest.time, size)
    return None


class Backups:
    """Makes backups while the collector runs, in a thread of its own."""

    def __init__(self, config: Settings) -> None:
        """Make none where no directory is configured."""
        self._backup = config.backup
        self._data_dir = Path(config.data_dir)
        self.last: Made | None = None
        self.made = 0
        self.failed = 0
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backup", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        if self._backup.directory is not None:
            self._thread.start()

    def stop(self) -> None:
        """End; one in hand has a moment: what is left unfinished counts for nothing."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        directory = Path(self._backup.directory or "")
        pause = 0.0
        while not self._stop.wait(pause):
            pause = CHECK_SECONDS
            if self._due(directory) and not self._try(directory):
                pause = RETRY_SECONDS

    def _due(self, directory: Path) -> bool:
        """Whether one is due, also by those made by hand.

        One that is dated in the future was made by a wrong clock.
        """
        try:
            self.last = newest(directory)
        except OSError:
            self.last = None
        age = time.time() - self.last.time if self.last else float("inf")
        return not 0 <= age < self._backup.every_seconds

    def _try(self, directory: Path) -> bool:
        try:
            self.last = make(self._data_dir, directory, self._backup.hours, self._backup.days)
        except BackupError as error:
            self.failed += 1
            self._tell(error)
            return False
        except Exception:
            self.failed += 1
            log.exception("backup failed in an unforeseen way")
            return False
        self.made += 1
        if self._failing:
            log.warning("backups are made again")
        self._failing = False
        return True

    def _tell(self, error: BackupError) -> None:
        """Log when backups begin to fail, not every time."""
        if not self._failing:
            log.error("%s", error)
        self._failing = True


# --- putting one back --------------------------------------------------------------------------


def restore(path: Path, data_dir: Path) -> Path | None:
    """Put a backup in the place of what a data directory holds.

    What was there is moved to a folder of its own in the same directory, which is returned; None
    when there was nothing. Readings stay as they are.

    Raises:
        BackupError: a collector holds the data, or the backup is damaged; nothing was changed.
    """
    verified(path)
    try:
        (data_dir / _STORE_LOCK).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(data_dir / _STORE_LOCK, "a collector holds the data, stop it first"):
            _require_unused(data_dir / LEDGER)
            staged = _stage(path, data_dir)
            aside = _move_aside(data_dir)
            for name in FILES:
                if (staged / name).exists():
                    (staged / name).rename(data_dir / name)
            staged.rmdir()
            _raise_positions(data_dir)
            _give_to_owner(data_dir)
            flush_directory(data_dir)
    except (OSError, apsw.Error) as error:
        raise BackupError(f"{data_dir}: not restored: {error}") from error
    return aside


def _require_unused(ledger: Path) -> None:
    """Refuse while anyone has the ledger open, and bring its log into it.

    SQLite leaves write-ahead logging only for the one connection that is left.
    """
    if not ledger.exists():
        return
    try:
        flags = apsw.SQLITE_OPEN_READWRITE
        with closing(apsw.Connection(str(ledger), flags=flags)) as connection:
            connection.pragma("journal_mode", "delete")
    except apsw.BusyError:
        raise BackupError(f"{ledger} is in use, stop the collector first") from None
    except (apsw.NotADBError, apsw.CorruptError):
        pass  # a damaged one is what backups are for


def _stage(path: Path, data_dir: Path) -> Path:
    staged = data_dir / _STAGED
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(mode=0o700)
    for name in FILES:
        _copy_plain(path / name, staged / name)
    _check_ledger(staged / LEDGER)
    return staged


def _move_aside(data_dir: Path) -> Path | None:
    companions = (f"{LEDGER}-wal", f"{LEDGER}-shm")
    there = [name for name in (*FILES, *companions) if (data_dir / name).exists()]
    if not there:
        return None
    aside = data_dir / f"{_ASIDE}{name_of(time.time())}"
    aside.mkdir(mode=0o700)
    for name in there:
        (data_dir / name).rename(aside / name)
    flush_directory(aside)
    return aside


def _raise_positions(data_dir: Path) -> None:
    """Let the store count on from where the ledger has judged to.

    A store that begins anew would give new readings positions that count as judged.
    """
    flags = apsw.SQLITE_OPEN_READONLY
    with closing(apsw.Connection(str(data_dir / LEDGER), flags=flags)) as connection:
        judged = connection.execute("SELECT max(position) FROM checkpoint").get or 0
    positions = data_dir / _POSITIONS
    reached = 0
    with suppress(FileNotFoundError, ValueError):
        reached = int(positions.read_text())
    if reached < judged:
        positions.touch(mode=0o600)
        positions.write_text(str(judged))
        _sync(positions)


def _give_to_owner(data_dir: Path) -> None:
    """Root may put back what another user's collector must read."""
    if os.geteuid() != 0:
        return
    owner = data_dir.stat()
    for name in FILES:
        for path in (data_dir / name, *(data_dir / name).rglob("*")):
            if path.exists():
                os.chown(path, owner.st_uid, owner.st_gid)
    for path in (data_dir / _STORE_LOCK, data_dir / _POSITIONS, (data_dir / _STORE_LOCK).parent):
        if path.exists():
            os.chown(path, owner.st_uid, owner.st_gid)


# --- by hand -----------------------------------------------------------------------------------


def add_backup_commands(
    commands: "argparse._SubParsersAction[Parser]",
    shared: Parser,
    load: Callable[[Path | None], Settings],
) -> None:
    """Add `backup` and `restore` to the collector's command line."""
    backup = commands.add_parser(
        "backup", parents=[shared], help="copy ledger, tokens and certificates to another place"
    )
    backup.add_argument("--to", type=Path, metavar="DIR", help="instead of backup.directory")
    backup.set_defaults(command=lambda options: _backup(options, load(options.config)))
    putting = commands.add_parser(
        "restore", parents=[shared], help="put a backup back; the collector must be stopped"
    )
    putting.add_argument("backup", type=Path, metavar="DIR", help="a backup, named by its time")
    putting.set_defaults(command=lambda options: _restore(options, load(options.config)))


def _backup(options: argparse.Namespace, config: Settings) -> int:
    backup = config.backup
    directory = options.to or (Path(backup.directory) if backup.directory else None)
    if directory is None:
        told = "backup.directory: not set, expected a directory, or --to DIR"
        raise settings.ConfigError(f"{options.config or 'defaults'}: {told}")
    try:
        made = make(Path(config.data_dir), directory, backup.hours, backup.days)
    except BackupError as error:
        raise FailedError(str(error)) from None
    sys.stdout.write(f"{made.path}: {made.bytes} bytes, checked\n")
    return 0


def _restore(options: argparse.Namespace, config: Settings) -> int:
    try:
        aside = restore(options.backup, Path(config.data_dir))
    except BackupError as error:
        raise FailedError(str(error)) from None
    was = f"; what was there is now in {aside}" if aside else ""
    sys.stdout.write(f"{config.data_dir}: as in {options.backup}{was}\n")
    return 0
