"""Backups: made while the collector writes, kept, checked, and put back."""

import json
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.settings import ConfigError
from farmhand_collector.backup import (
    BackupError,
    Backups,
    backups_in,
    kept,
    make,
    name_of,
    newest,
    restore,
    time_of,
    verified,
)
from farmhand_collector.backup_settings import Backup, check
from farmhand_collector.changes import Change
from farmhand_collector.ledger import Checkpoint, Ledger
from farmhand_collector.store.embedded import EmbeddedStore
from tests.collector.farms import healthy

PATIENCE_SECONDS = 60.0


class Settings(NamedTuple):
    """What of a collector's configuration backups look at."""

    data: Path
    backup: Backup

    @property
    def data_dir(self) -> str:
        return str(self.data)


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for another thread."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def change(number: int) -> Change:
    """One change of verdict."""
    return Change(float(number), f"card-{number % 7}", "watch", "thermal", "hot", f"text {number}")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A collector's data: a ledger with changes, tokens, certificates."""
    directory = tmp_path / "data"
    with closing(Ledger(directory / "farm.sqlite")) as ledger:
        ledger.commit(5, [change(n) for n in range(100)], Checkpoint(1234, b"the core's state"))
    (directory / "tokens.json").write_text('{"tokens": ["a digest"]}')
    (directory / "tls").mkdir()
    (directory / "tls" / "ca.pem").write_text("a certificate")
    (directory / "tls" / "server.pem").write_text("a key")
    return directory


def content(directory: Path) -> dict[str, object]:
    """Everything that a backup must bring back."""
    with closing(Ledger(directory / "farm.sqlite")) as ledger:
        changes, checkpoint = ledger.changes(limit=10**6), ledger.checkpoint()
    files = [directory / "tokens.json", *sorted((directory / "tls").iterdir())]
    return {
        "changes": changes,
        "checkpoint": checkpoint,
        **{str(path.relative_to(directory)): path.read_bytes() for path in files},
    }


def test_a_backup_brings_everything_back(data: Path, tmp_path: Path) -> None:
    """The walk of docs/backup.md: the disk is gone, and an empty directory becomes the farm."""
    before = content(data)
    made = make(data, tmp_path / "kept")

    fresh = tmp_path / "fresh"
    aside = restore(made.path, fresh)

    assert aside is None
    assert content(fresh) == before


def test_what_was_there_is_moved_aside(data: Path, tmp_path: Path) -> None:
    """A restore of the wrong backup can be undone."""
    made = make(data, tmp_path / "kept")
    with closing(Ledger(data / "farm.sqlite")) as ledger:
        ledger.commit(6, [change(n) for n in range(100, 150)])
    (data / "tokens.json").write_text('{"tokens": ["a newer digest"]}')
    later = content(data)

    aside = restore(made.path, data)

    assert aside is not None
    assert aside.parent == data
    assert content(data) != later
    assert content(aside) == later


def test_a_damaged_ledger_is_replaced(data: Path, tmp_path: Path) -> None:
    """That is what backups are for; the damaged one stays for those who want to look at it."""
    before = content(data)
    made = make(data, tmp_path / "kept")
    (data / "farm.sqlite").write_bytes(b"no database at all" * 100)

    aside = restore(made.path, data)

    assert aside is not None
    assert (aside / "farm.sqlite").read_bytes().startswith(b"no database")
    assert content(data) == before


def test_nothing_is_put_back_while_a_collector_holds_the_data(data: Path, tmp_path: Path) -> None:
    """It would go on writing into the file that was moved away."""
    made = make(data, tmp_path / "kept")
    before = content(data)

    with closing(EmbeddedStore(data / "readings")), pytest.raises(BackupError, match="stop it"):
        restore(made.path, data)

    assert content(data) == before


def test_nothing_is_put_back_while_the_ledger_is_open(data: Path, tmp_path: Path) -> None:
    """A collector whose readings lie in another store holds the ledger alone."""
    made = make(data, tmp_path / "kept")

    with closing(Ledger(data / "farm.sqlite")), pytest.raises(BackupError, match="in use"):
        restore(made.path, data)

    assert not list(data.glob("before-restore-*"))


def test_new_readings_are_judged_after_a_restore(data: Path, tmp_path: Path) -> None:
    """A store that begins anew must not give positions below the one that was judged up to."""
    made = make(data, tmp_path / "kept")
    fresh = tmp_path / "fresh"
    restore(made.path, fresh)

    with (
        closing(Ledger(fresh / "farm.sqlite")) as ledger,
        closing(EmbeddedStore(fresh / "readings")) as store,
    ):
        store.write([healthy(0, 0.0)])
        checkpoint = ledger.checkpoint()
        assert checkpoint is not None
        blocks, _ = store.readings(checkpoint.position)

    assert len(blocks) == 1


def test_a_backup_made_while_the_collector_writes_is_of_one_moment(
    data: Path, tmp_path: Path
) -> None:
    """Each commit holds ten changes and their number: no backup has a part of one."""
    stop = threading.Event()
    with closing(Ledger(data / "farm.sqlite")) as ledger:

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                ledger.commit(number, [change(number) for _ in range(10)])

        writer = threading.Thread(target=write)
        writer.start()
        seen = []
        for number in range(10):
            target = tmp_path / f"fresh-{number}"
            restore(make(data, tmp_path / "kept").path, target)
            seen.append(whole_commits(target))
        stop.set()
        writer.join()

    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


def whole_commits(directory: Path) -> int:
    """How many commits of ten changes a ledger holds; the last one's number is its time."""
    with closing(Ledger(directory / "farm.sqlite")) as ledger:
        changes = ledger.changes(limit=10**6)
        assert len(changes) % 10 == 0
        assert changes[0].time == ledger.last_tick_ns() or len(changes) == 100
        return len(changes) // 10


def test_only_the_owner_can_read_a_backup(data: Path, tmp_path: Path) -> None:
    """It holds private keys, whatever the rights of what was copied."""
    for path in data.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    kept_in = tmp_path / "kept"

    make(data, kept_in)

    modes = {stat.S_IMODE(path.stat().st_mode) for path in [kept_in, *kept_in.rglob("*")]}
    assert modes == {0o700, 0o600}


def test_what_is_not_there_is_not_copied(data: Path, tmp_path: Path) -> None:
    """A farm on one machine has neither tokens nor certificates."""
    (data / "tokens.json").unlink()
    (data / "tls" / "ca.pem").unlink()
    (data / "tls" / "server.pem").unlink()
    (data / "tls").rmdir()

    made = make(data, tmp_path / "kept")

    assert set(verified(made.path).files) == {"farm.sqlite"}


def test_there_is_nothing_to_copy_before_the_first_run(tmp_path: Path) -> None:
    """One clear line, and no empty backup that would be taken for one."""
    with pytest.raises(BackupError, match="no collector has run"):
        make(tmp_path / "data", tmp_path / "kept")

    assert backups_in(tmp_path / "kept") == []


def test_a_damaged_source_gives_no_backup(data: Path, tmp_path: Path) -> None:
    """What does not pass the check never takes the place of a good one."""
    good = make(data, tmp_path / "kept")
    path = data / "farm.sqlite"
    raw = bytearray(path.read_bytes())
    raw[4096:12288] = os.urandom(8192)
    path.write_bytes(raw)

    with pytest.raises(BackupError):
        make(data, tmp_path / "kept")

    assert backups_in(tmp_path / "kept") == [good.path]
    assert not list((tmp_path / "kept").glob(".new-*"))


@pytest.mark.parametrize("name", ["farm.sqlite", "tokens.json", "tls/server.pem"])
def test_a_backup_that_was_changed_is_not_put_back(data: Path, tmp_path: Path, name: str) -> None:
    """Disks of backups rot too; nothing in the data directory is touched."""
    made = make(data, tmp_path / "kept")
    before = content(data)
    raw = bytearray((made.path / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (made.path / name).write_bytes(raw)

    with pytest.raises(BackupError, match="not as it was written"):
        restore(made.path, data)

    assert content(data) == before


def test_a_manifest_cannot_name_files_elsewhere(data: Path, tmp_path: Path) -> None:
    """A backup that others could write to brings in nothing but what backups hold."""
    made = make(data, tmp_path / "kept")
    manifest = json.loads((made.path / "manifest.json").read_text())
    manifest["files"]["tls/../../../x"] = {"size": 0, "sha256": ""}
    (made.path / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(BackupError, match="none of"):
        restore(made.path, tmp_path / "fresh")


def test_one_that_was_cut_off_counts_for_nothing(data: Path, tmp_path: Path) -> None:
    """A power cut in the middle leaves rubbish that the next backup takes away."""
    unfinished = tmp_path / "kept" / ".new-20260101T000000.000000Z"
    unfinished.mkdir(parents=True)
    (unfinished / "farm.sqlite").write_bytes(b"half")
    assert newest(tmp_path / "kept") is None

    made = make(data, tmp_path / "kept")

    assert not unfinished.exists()
    assert newest(tmp_path / "kept") == made


def test_two_at_once_are_one(data: Path, tmp_path: Path) -> None:
    """One by hand while the collector makes its own waits for the next time."""
    make(data, tmp_path / "kept")
    import fcntl

    with (tmp_path / "kept" / "lock").open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BackupError, match="another backup"):
            make(data, tmp_path / "kept")


START = datetime(2026, 1, 1, tzinfo=UTC)


def hourly(count: int) -> list[str]:
    """Names of backups, one an hour."""
    return [name_of((START + timedelta(hours=n, minutes=7)).timestamp()) for n in range(count)]


def test_of_a_month_the_last_day_and_the_last_week_are_kept() -> None:
    """24 hourly ones, and of each of the 7 days the newest."""
    names = hourly(30 * 24)

    chosen = kept(names, 24, 7)

    assert chosen >= set(names[-24:])
    assert {name[:8] for name in chosen} == {f"202601{day}" for day in range(24, 31)}
    assert len(chosen) == 24 + 6


@given(
    st.sets(st.integers(0, 40 * 86_400 * 10), min_size=1, max_size=60),
    st.integers(1, 30),
    st.integers(0, 10),
)
def test_what_is_kept_is_bounded_and_has_the_newest(
    tenths: set[int], hours: int, days: int
) -> None:
    """Whatever gaps there are; and making one more never throws away more than it must."""
    names = [name_of(START.timestamp() + tenth / 10) for tenth in sorted(tenths)]

    chosen = kept(names, hours, days)

    assert chosen <= set(names)
    assert names[-1] in chosen
    assert len(chosen) <= hours + days
    by_hour = {name[:11] for name in names}
    assert len(chosen) >= min(hours, len(by_hour))
    assert kept(sorted(chosen), hours, days) == chosen


@given(st.floats(0, 4e9))
def test_a_name_tells_the_time(seconds: float) -> None:
    """Names order as their times do."""
    told = time_of(name_of(seconds))

    assert told == pytest.approx(seconds, abs=1e-5)


def test_old_ones_are_removed(data: Path, tmp_path: Path) -> None:
    """The disk of the backups does not fill up."""
    for name in hourly(40):
        (tmp_path / "kept" / name).mkdir(parents=True)

    made = make(data, tmp_path / "kept", hours=3, days=0)

    left = [path.name for path in backups_in(tmp_path / "kept")]
    assert len(left) == 3
    assert made.path.name in left


def test_one_made_under_a_wrong_clock_is_not_removed_at_once(data: Path, tmp_path: Path) -> None:
    """Backups dated in the future do not push out the one that was just made."""
    ahead = [name_of(time.time() + 86_400 * (n + 1)) for n in range(10)]
    for name in ahead:
        (tmp_path / "kept" / name).mkdir(parents=True)

    made = make(data, tmp_path / "kept", hours=3, days=0)

    assert made.path.exists()


def test_the_schedule_makes_one_when_there_is_none(data: Path, tmp_path: Path) -> None:
    """A restart of the collector makes a new one only when it is due."""
    settings = Settings(data, Backup(directory=str(tmp_path / "kept")))
    for made in (1, 0):
        backups = Backups(settings)
        backups.start()
        wait_until(lambda: backups.last is not None)  # noqa: B023
        backups.stop()
        assert backups.made == made

    assert len(backups_in(tmp_path / "kept")) == 1


def test_a_failure_is_counted_and_judging_goes_on(tmp_path: Path) -> None:
    """A disk of backups that is gone must not end the collector."""
    settings = Settings(tmp_path / "no data", Backup(directory=str(tmp_path / "kept")))
    backups = Backups(settings)

    backups.start()
    wait_until(lambda: backups.failed == 1)
    backups.stop()

    assert backups.last is None


def test_without_a_directory_none_are_made(data: Path) -> None:
    """The default; the doctor tells of it."""
    backups = Backups(Settings(data, Backup()))

    backups.start()
    backups.stop()

    assert (backups.made, backups.failed) == (0, 0)


@pytest.mark.parametrize(
    ("backup", "key"),
    [
        (Backup(every_seconds=1), "backup.every_seconds"),
        (Backup(hours=0), "backup.hours"),
        (Backup(days=-1), "backup.days"),
        (Backup(directory=" "), "backup.directory"),
        (Backup(directory="/srv/data/backups"), "backup.directory"),
    ],
)
def test_a_bad_section_is_named_by_its_key(backup: Backup, key: str) -> None:
    """Backups inside of the data directory would die with it."""
    with pytest.raises(ConfigError, match=key):
        check(Settings(Path("/srv/data"), backup))


def test_the_copy_is_one_file(data: Path, tmp_path: Path) -> None:
    """No log beside it that could be forgotten when someone copies it on."""
    made = make(data, tmp_path / "kept")

    with closing(apsw.Connection(str(made.path / "farm.sqlite"))) as connection:
        assert connection.pragma("journal_mode") == "delete"
    assert sorted(path.name for path in made.path.glob("farm.sqlite*")) == ["farm.sqlite"]
