"""The disk of the spool's tests: it loses what was not synced, and nothing else."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.crash_disk import SECTOR_BYTES, CrashDisk, Unsynced, build


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("crash_disk"))


@pytest.fixture
def disk(library: Path, tmp_path: Path) -> Iterator[CrashDisk]:
    disk = CrashDisk(library, tmp_path)
    yield disk
    disk.close()


def work(disk: CrashDisk, program: str) -> int:
    """Run a program in the directory of the disk; its exit status."""
    prelude = f"import os\nROOT = {str(disk.root)!r}\nname = lambda file: ROOT + '/' + file\n"
    command = [sys.executable, "-c", prelude + program]
    done = subprocess.run(command, env=disk.environment(), check=False)
    return done.returncode


SYNCED_AND_NOT = """
with open(name("a"), "wb") as file:
    file.write(b"1" * 2000)
    file.flush()
    os.fsync(file.fileno())
    file.write(b"2" * 2000)
"""


def test_a_power_cut_takes_what_was_not_synced(disk: CrashDisk) -> None:
    """At its worst all of it."""
    assert work(disk, SYNCED_AND_NOT) == 0
    disk.cut_power(Unsynced.NOTHING, 0)
    assert disk.files() == {"a": b"1" * 2000}


def test_a_power_cut_may_leave_any_sectors(disk: CrashDisk) -> None:
    """What was synced is whole, the rest is written, not written, or in part."""
    assert work(disk, SYNCED_AND_NOT) == 0
    disk.cut_power(Unsynced.ANYTHING, 3)
    data = disk.files()["a"]
    assert data[:2000] == b"1" * 2000
    rest = data[2000:]
    assert set(rest) <= {0, ord("2")}
    sectors = [data[at : at + SECTOR_BYTES] for at in range(2048, len(data), SECTOR_BYTES)]
    assert all(len(set(sector)) == 1 for sector in sectors)


def test_a_process_that_dies_leaves_everything(disk: CrashDisk) -> None:
    """What it gave to the system is there, synced or not, up to the change it died before."""
    disk.kill_before(4)
    assert work(disk, SYNCED_AND_NOT) == -signal.SIGKILL
    assert disk.files() == {"a": b"1" * 2000}


@pytest.mark.parametrize(("syncs", "left"), [(True, "b"), (False, "a")])
def test_a_new_name_lasts_once_something_is_synced(disk: CrashDisk, syncs: bool, left: str) -> None:
    """As the journal of a file system has it."""
    assert work(disk, f"open(name('a'), 'w').close()\n{SYNC}") == 0
    disk.settle()
    assert work(disk, f"os.rename(name('a'), name('b'))\n{SYNC if syncs else ''}") == 0
    disk.cut_power(Unsynced.NOTHING, 0)
    assert left in disk.files()


SYNC = """
with open(name("other"), "wb") as file:
    os.fsync(file.fileno())
"""


def test_a_full_disk_lets_files_be_written_over_but_not_grow(disk: CrashDisk) -> None:
    """Where files are copied on write not even that."""
    (disk.root / "a").write_bytes(b"1" * 1000)
    disk.settle()
    write_over = "os.write(os.open(name('a'), os.O_RDWR), b'2' * 1000)"
    grow = "os.write(os.open(name('a'), os.O_RDWR | os.O_APPEND), b'2')"
    expected = "\nexcept OSError as error: os._exit(error.errno)"
    disk.fill(0)
    assert os.statvfs(disk.root).f_bavail > 0
    assert work(disk, "os._exit(os.statvfs(ROOT).f_bavail)") == 0
    assert work(disk, write_over) == 0
    assert work(disk, f"try: {grow}{expected}") == errno.ENOSPC
    disk.fill(0, copies_on_write=True)
    assert work(disk, f"try: {write_over}{expected}") == errno.ENOSPC


def test_a_disk_may_fail_in_the_middle(disk: CrashDisk) -> None:
    """After so many changes nothing can be changed any more; reading goes on."""
    disk.fail(errno.EIO, after=2)
    program = f"try:{SYNCED_AND_NOT}".replace("\n", "\n  ")
    program += "\nexcept OSError as error: os._exit(error.errno)"
    assert work(disk, program) == errno.EIO
    assert disk.files() == {"a": b"1" * 2000}
    assert work(disk, "open(name('a'), 'rb').read()") == 0
