"""The spool on real file systems: power cuts, full disks, disks that turn read-only, rot.

`FARMHAND_SPOOL_ROUNDS` is how often a disk is cut or damaged; `make soak-spool` takes many rounds.
"""

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from farmhand_agent.spool import Spool
from farmhand_agent.spool_disk import MINIMUM_CAP_BYTES

pytestmark = pytest.mark.system

ROUNDS = int(os.environ.get("FARMHAND_SPOOL_ROUNDS", "8"))
CAP_BYTES = 4 * MINIMUM_CAP_BYTES
EXT4_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2

WRITER = """
import sys
from pathlib import Path
from farmhand_agent.spool import Spool
spool = Spool(Path(sys.argv[1]), int(sys.argv[2]))
number = int(sys.argv[3])
while True:
    spool.put([f"card n={number}"])
    if spool.degraded is not None:
        break
    print(number, flush=True)
    number += 1
"""


def run(*command: str) -> str:
    """A command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def tools() -> None:
    """What these tests need; without it they fail, for they prove what the spool is for."""
    needed = ("losetup", "mkfs.ext4", "mount", "umount")
    missing = [tool for tool in needed if shutil.which(tool) is None]
    assert not missing, f"missing tools: {' '.join(missing)} (apt-get install e2fsprogs mount)"
    assert os.geteuid() == 0, "mounting file systems needs root rights"


class Disk:
    """An ext4 file system in a file, mounted while it is not cut off."""

    def __init__(self, directory: Path) -> None:
        self._image, self.path = directory / "disk.img", directory / "disk"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(32 * 2**20)
        run("mkfs.ext4", "-q", str(self._image))
        self._device = run("losetup", "--find", "--show", str(self._image))
        self.mount()

    def mount(self) -> None:
        """Mount it; ext4 replays its journal as after a power cut."""
        run("mount", self._device, str(self.path))

    def remount(self, how: str) -> None:
        """Make it read-only (`ro`) or writable (`rw`)."""
        run("mount", "-o", f"remount,{how}", str(self.path))

    def cut(self) -> None:
        """Cut its power: what was not flushed to the device is gone."""
        directory = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, EXT4_SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))
        finally:
            os.close(directory)

    def unmount(self) -> None:
        """Unmount it."""
        run("umount", str(self.path))

    def close(self) -> None:
        """Take it away, mounted or not."""
        with suppress(AssertionError):
            self.unmount()
        run("losetup", "--detach", self._device)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    yield disk
    disk.close()


@contextmanager
def small_disk(tmp_path: Path, size: str) -> Iterator[Path]:
    """A memory file system of some size."""
    path = tmp_path / "small"
    path.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "farmhand-test", str(path))
    try:
        yield path
    finally:
        run("umount", str(path))


def numbers(spool: Spool) -> list[int]:
    """Numbers of all lines that wait."""
    batches = spool.batches(max_bytes=2**40, max_points=2**40)
    lines = [line for batch in batches for line in batch.body.decode().split("\n")]
    return [int(line.partition("n=")[2].partition(" ")[0]) for line in lines]


def committed(path: Path, first: int, seconds: float, cut: Disk | None = None) -> list[int]:
    """Numbers that a writing process said were on disk before the power, or it, was gone."""
    command = [sys.executable, "-c", WRITER, str(path), str(CAP_BYTES), str(first)]
    python_path = os.pathsep.join(sys.path)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": python_path},
    )
    assert process.stdout is not None
    said = [int(process.stdout.readline())]
    time.sleep(seconds)
    if cut is not None:
        cut.cut()
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate()
    return said + [int(number) for number in out.split()]


def test_what_was_committed_survives_power_cuts(disk: Disk) -> None:
    """Cut at any moment of its writing, the spool opens and has each line that it said it had."""
    path = disk.path / "spool.sqlite"
    rng = random.Random(ROUNDS)
    must: list[int] = []
    for _ in range(ROUNDS):
        must += committed(path, must[-1] + 1 if must else 0, rng.uniform(0.05, 0.5), cut=disk)
        disk.unmount()
        disk.mount()
        spool = Spool(path, CAP_BYTES)
        try:
            assert spool.degraded is None
            there = numbers(spool)
            assert set(must) - set(there) == set()
            assert there == sorted(set(there))
            assert len(there) <= len(must) + 1, "a line was made up"
            assert spool.quarantined_total == spool.dropped_points_total == 0
        finally:
            spool.close()
        must = there


def test_what_was_committed_survives_kills(disk: Disk) -> None:
    """A process that is killed while it writes loses nothing that it said it had."""
    path = disk.path / "spool.sqlite"
    must: list[int] = []
    for round_ in range(ROUNDS):
        must += committed(path, must[-1] + 1 if must else 0, 0.05 * (round_ % 5))
        spool = Spool(path, CAP_BYTES)
        try:
            there = numbers(spool)
        finally:
            spool.close()
        assert set(must) - set(there) == set()
        must = there


def test_a_disk_that_others_fill_takes_readings_all_the_same(tmp_path: Path) -> None:
    """The room was taken when there was some, and it stays ours over a restart."""
    with small_disk(tmp_path, f"{3 * MINIMUM_CAP_BYTES}") as path:
        spool = Spool(path / "spool.sqlite", MINIMUM_CAP_BYTES)
        fill(path / "others")
        for number in range(500):
            spool.put([f"card n={number}"])
        assert spool.degraded is None
        spool.close()
        spool = Spool(path / "spool.sqlite", MINIMUM_CAP_BYTES)
        spool.put(["card n=500"])
        try:
            assert spool.degraded is None
            assert numbers(spool) == list(range(501))
        finally:
            spool.close()


def test_on_a_full_disk_the_oldest_go_first_and_are_counted(tmp_path: Path) -> None:
    """The cap holds, whatever is put."""
    with small_disk(tmp_path, f"{3 * MINIMUM_CAP_BYTES}") as path:
        spool = Spool(path / "spool.sqlite", MINIMUM_CAP_BYTES)
        fill(path / "others")
        put = 0
        while spool.dropped_points_total < 50 and put < 20_000:
            spool.put([f'card n={put} text="{"x" * 900}"'])
            put += 1
        try:
            assert spool.dropped_points_total >= 50
            there = numbers(spool)
            assert there == list(range(put - len(there), put))
            assert spool.dropped_points_total == put - len(there)
            assert used(path / "spool.sqlite") <= MINIMUM_CAP_BYTES
        finally:
            spool.close()


def test_a_disk_that_turns_read_only_costs_nothing_that_was_put(disk: Disk) -> None:
    """Readings wait in memory until it is writable again."""
    path = disk.path / "spool.sqlite"
    clock = Clock()
    spool = Spool(path, CAP_BYTES, monotonic=clock)
    try:
        spool.put(["card n=0"])
        spool.close()
        disk.remount("ro")
        spool = Spool(path, CAP_BYTES, monotonic=clock)
        spool.put(["card n=1"])
        assert spool.degraded is not None
        disk.remount("rw")
        clock.now += 3600.0
        spool.put(["card n=2"])
        assert spool.degraded is None
        assert numbers(spool) == [0, 1, 2]
    finally:
        spool.close()


def test_rot_costs_what_it_touched_and_nothing_else(disk: Disk) -> None:
    """Bytes that changed at rest: the spool opens, tells no lie, and counts what is gone."""
    path = disk.path / "spool.sqlite"
    rng = random.Random(ROUNDS)
    for _ in range(ROUNDS):
        for stale in disk.path.glob("spool.sqlite*"):
            stale.unlink()
        spool = Spool(path, CAP_BYTES)
        for number in range(200):
            spool.put([f"card n={number}"])
        spool.close()
        flip(path, rng, times=3)
        spool = Spool(path, CAP_BYTES)
        try:
            there = numbers(spool)
            assert there == sorted(set(there))
            assert set(there) <= set(range(200))
            spool.put(["card n=200"])
            assert 200 in numbers(spool)
        finally:
            spool.close()


class Clock:
    """Monotonic seconds that a test sets forward."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def fill(path: Path) -> None:
    """Take all room that is left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def used(path: Path) -> int:
    """Bytes that the spool's file takes."""
    return path.stat().st_size


def flip(path: Path, rng: random.Random, times: int) -> None:
    """Change some bytes of a file."""
    with path.open("r+b") as file:
        for _ in range(times):
            file.seek(rng.randrange(path.stat().st_size))
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ (1 << rng.randrange(8))]))
