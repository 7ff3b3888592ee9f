"""The spool on real file systems: power cuts, full disks, read-only disks, bytes that rot.

`FARMHAND_SPOOL_ROUNDS` says how often the loops go round; a few times by default.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farmhand_agent.spool import RETRY_SECONDS, Spool
from tests.system.file_systems import MIB, ext4, fill, memory_disk

pytestmark = pytest.mark.system

ROUNDS = int(os.environ.get("FARMHAND_SPOOL_ROUNDS", "40"))
CAP = MIB


@contextmanager
def opened(path: Path, cap_bytes: int = CAP) -> Iterator[Spool]:
    spool = Spool(path, cap_bytes)
    try:
        yield spool
    finally:
        spool.close()


def numbers(spool: Spool) -> list[int]:
    """Numbers of the lines that wait, in order."""
    batches = spool.batches(max_bytes=2**40, max_points=2**40)
    return [int(line.split()[-1]) for batch in batches for line in batch.body.splitlines()]


def line(number: int, width: int = 100) -> str:
    return f'card,slot=0 text="{"x" * width}" {number}'


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


# --- power cuts --------------------------------------------------------------------------------

WORKER = """
import random, sys
from pathlib import Path
from farmhand_agent.spool import Spool
path, first, cap_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
spool = Spool(path, cap_bytes)
rng = random.Random(first)
for number in range(first, first + 10**9):
    spool.put([f"card,slot={rng.randint(0, 9)} power_watts=1.0 {number}"])
    if spool.degraded is None:
        print("put", number, spool.dropped_points_total, flush=True)
    if rng.random() < 0.3 and (batches := spool.batches(max_bytes=rng.randint(1, 300))):
        taken = [line.split()[-1].decode() for b in batches for line in b.body.splitlines()]
        print("acking", *taken, flush=True)
        spool.ack([batch.id for batch in batches])
        if spool.degraded is None:
            print("acked", *taken, flush=True)
"""


class Told:
    """What the worker said that it had done when the power went."""

    def __init__(self, waiting: list[int]) -> None:
        self.waiting = set(waiting)
        self.uncertain: set[int] = set()
        self.last = max(waiting, default=-1)

    def hear(self, words: list[str]) -> None:
        about = {int(word) for word in words[1:]}
        if words[0] == "put":
            self.last = int(words[1])
            self.waiting.add(self.last)
        elif words[0] == "acking":
            self.waiting -= about
            self.uncertain |= about
        else:
            self.uncertain -= about


def work_until_it_ends(
    path: Path, first: int, puts: int, told: Told, cut_power: Callable[[], None] = lambda: None
) -> None:
    """Let the worker do so many puts, end it while it goes on, and hear it out."""
    command = [sys.executable, "-c", WORKER, str(path), str(first), str(CAP)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as worker:
        assert worker.stdout is not None
        while told.last < first + puts:
            words = worker.stdout.readline().decode().split()
            assert words, "the worker ended"
            told.hear(words)
        cut_power()
        worker.send_signal(signal.SIGKILL)
        for rest in worker.stdout.read().decode().splitlines(keepends=True):
            # The last line may be cut off where the worker died.
            if rest.endswith("\n"):
                told.hear(rest.split())


@pytest.mark.parametrize("loses_power", [True, False], ids=["power cut", "kill"])
def test_an_end_at_any_moment_loses_nothing(tmp_path: Path, loses_power: bool) -> None:
    """What was told to be on disk is there, what was acknowledged is not, and the file is sound.

    The power is cut by shutting ext4 down without flushing: what was not synced is gone.
    """
    rng = random.Random(1)
    with ext4(tmp_path, 32 * MIB) as disk:
        path = disk.place / "state" / "spool.sqlite"
        waiting: list[int] = []
        first = 0
        for _ in range(ROUNDS):
            told = Told(waiting)
            puts = rng.choice([1, 10, 100, 300])
            if loses_power:
                work_until_it_ends(path, first, puts, told, disk.cut_power)
                disk.unmount()
                disk.mount()
            else:
                work_until_it_ends(path, first, puts, told)
            with opened(path) as spool:
                assert spool.degraded is None
                assert (spool.quarantined_total, spool.dropped_points_total) == (0, 0)
                waiting = numbers(spool)
            # One put may have been under way.
            first = told.last + 2
            assert told.waiting <= set(waiting) <= told.waiting | told.uncertain | {first - 1}
            assert waiting == sorted(set(waiting))


# --- full disks --------------------------------------------------------------------------------


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk with room for a spool of 1 MiB and a little more."""
    if request.param == "tmpfs":
        with memory_disk(tmp_path, 3 * MIB) as place:
            yield place
    else:
        with ext4(tmp_path, 8 * MIB) as disk:
            yield disk.place


def test_the_cap_holds_on_a_small_disk(small_disk: Path) -> None:
    """The spool fills itself: the newest readings stay, the others are counted, room is left."""
    path = small_disk / "spool.sqlite"
    with opened(path) as spool:
        for number in range(300):
            spool.put([line(number, 10_000)])
        left = numbers(spool)
        assert left == list(range(300 - len(left), 300))
        assert spool.dropped_points_total == 300 - len(left)
        assert spool.degraded is None
        assert sum(file.stat().st_size for file in small_disk.glob("spool.sqlite*")) <= CAP


def test_a_disk_filled_by_others_is_no_trouble(small_disk: Path) -> None:
    """The spool has taken its room: it goes on, over a restart as well."""
    path = small_disk / "spool.sqlite"
    with opened(path) as spool:
        spool.put([line(0)])
        fill(small_disk)
        for number in range(1, 200):
            spool.put([line(number, 10_000)])
        spool.ack([spool.batches(max_bytes=1)[0].id])
        left = numbers(spool)
        assert spool.degraded is None
    # What the log held is held for it while the agent does not run.
    (small_disk / "filler").unlink()
    fill(small_disk)
    with opened(path) as spool:
        assert spool.degraded is None
        assert numbers(spool) == left
        for number in range(200, 400):
            spool.put([line(number, 10_000)])
        assert spool.degraded is None
        assert numbers(spool)[-1] == 399


def test_a_disk_full_from_the_start_is_waited_for(small_disk: Path) -> None:
    """Readings wait in memory, nothing is half made; with room they go to disk."""
    path = small_disk / "spool.sqlite"
    filler = fill(small_disk)
    clock = Hand()
    spool = Spool(path, CAP, monotonic=clock)
    spool.put([line(1)])
    assert spool.degraded is not None
    assert not path.exists()
    filler.unlink()
    clock.seconds += RETRY_SECONDS
    spool.put([line(2)])
    assert spool.degraded is None
    spool.close()
    with opened(path) as spool:
        assert numbers(spool) == [1, 2]
        assert spool.quarantined_total == 0


# --- disks that cannot be written --------------------------------------------------------------


def test_a_read_only_disk_is_waited_for(tmp_path: Path) -> None:
    """It is mounted read-only as the agent starts, and made writable under it."""
    with ext4(tmp_path, 16 * MIB) as disk:
        path = disk.place / "spool.sqlite"
        with opened(path) as spool:
            spool.put([line(1)])
        disk.remount("ro")
        clock = Hand()
        spool = Spool(path, CAP, monotonic=clock)
        spool.put([line(2)])
        assert spool.degraded is not None and "Read-only" in spool.degraded
        disk.remount("rw")
        clock.seconds += RETRY_SECONDS
        spool.put([line(3)])
        assert spool.degraded is None
        assert numbers(spool) == [1, 2, 3]
        spool.close()


def test_a_disk_that_becomes_read_only_costs_nothing(tmp_path: Path) -> None:
    """Live readings pass through memory; the others are there when the disk is repaired."""
    with ext4(tmp_path, 16 * MIB) as disk:
        path = disk.place / "spool.sqlite"
        spool = Spool(path, CAP)
        spool.put([line(1)])
        disk.find_error()
        spool.put([line(2)])
        assert spool.degraded is not None
        assert numbers(spool)[-1] == 2
        spool.ack([spool.last_id])
        spool.close()
        disk.unmount()
        disk.repair()
        disk.mount()
        with opened(path) as spool:
            assert numbers(spool) == [1]
            assert spool.quarantined_total == 0


# --- bytes that rot ----------------------------------------------------------------------------


CORE_BYTES = 7 * 4096
"""The pages that hold the schema and the counts: without them a loss cannot be counted."""


@pytest.mark.parametrize("spared_bytes", [0, CORE_BYTES], ids=["anywhere", "among the readings"])
def test_flipped_bits_never_stop_it(tmp_path: Path, spared_bytes: int) -> None:
    """Bits of the file at rest change: it opens, invents nothing, and counts what is lost."""
    rng = random.Random(1)
    with ext4(tmp_path, 32 * MIB) as disk:
        path = disk.place / "spool.sqlite"
        next_number = 0
        for _ in range(ROUNDS):
            with opened(path) as spool:
                for _ in range(60):
                    spool.put([line(next_number, rng.choice([10, 300, 3000]))])
                    next_number += 1
                assert spool.degraded is None
                before, counted = numbers(spool), spool.dropped_points_total
            flip_bits(path, rng, spared_bytes)
            with opened(path) as spool:
                assert spool.degraded is None
                numbers(spool)
                after = numbers(spool)
                assert after == sorted(set(after)) and after[-1:] <= [next_number - 1]
                lost = set(before) - set(after)
                if spared_bytes:
                    assert set(after) <= set(before)
                    assert spool.dropped_points_total - counted == len(lost)
                else:
                    # What was deleted may come back, the counts may be gone; it shows all the same.
                    assert not lost or spool.quarantined_total or spool.dropped_points_total


def flip_bits(path: Path, rng: random.Random, spared_bytes: int) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(spared_bytes, len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
