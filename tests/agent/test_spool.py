"""The spool's promises: nothing committed is lost uncounted, the cap holds, it always opens."""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from farmhand_agent.spool import RETRY_SECONDS, Spool
from farmhand_agent.spool_disk import CORRUPT_FILES_KEPT, MINIMUM_CAP_BYTES

CAP = MINIMUM_CAP_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool.sqlite"


@contextmanager
def opened(path: Path, cap: int = CAP) -> Iterator[Spool]:
    spool = Spool(path, cap)
    try:
        yield spool
    finally:
        spool.close()


def waiting(spool: Spool) -> list[str]:
    """All lines that the spool would deliver, in order."""
    batches = spool.batches(max_bytes=2**40, max_points=2**40)
    return [line for batch in batches for line in batch.body.decode().split("\n")]


def wide(number: int) -> str:
    """A line of about 10 kB."""
    return f'card,slot={number} text="{"x" * 10_000}" {number}'


def size_on_disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob("spool.sqlite*"))


# --- plain use ---------------------------------------------------------------------------------


def test_batches_come_out_in_the_order_they_were_put(path: Path) -> None:
    """First in, first out, each with its lines and how many they are."""
    with opened(path) as spool:
        spool.put(["a 1", "b 2"])
        spool.put(["c 3"])
        batches = spool.batches()
    assert [(batch.body, batch.points) for batch in batches] == [(b"a 1\nb 2", 2), (b"c 3", 1)]


def test_only_what_is_acknowledged_goes(path: Path) -> None:
    """Asking for a batch does not take it away."""
    with opened(path) as spool:
        spool.put(["a 1"])
        spool.put(["b 2"])
        first, _ = spool.batches()
        spool.ack([first.id])
        assert waiting(spool) == ["b 2"]
        assert (spool.points, spool.bytes) == (1, 3)


def test_newer_batches_can_be_asked_for_alone(path: Path) -> None:
    """The live lane asks for what came after an id, the backlog for what came up to it."""
    with opened(path) as spool:
        spool.put(["old 1"])
        mark = spool.last_id
        spool.put(["new 2"])
        assert [batch.body for batch in spool.batches(after=mark)] == [b"new 2"]
        assert [batch.body for batch in spool.batches(upto=mark)] == [b"old 1"]


def test_a_selection_keeps_to_its_limits_but_is_never_empty(path: Path) -> None:
    """Bytes and points bound what is given out; a batch over the limit comes alone."""
    with opened(path) as spool:
        for number in range(10):
            spool.put([wide(number), wide(number)])
        assert len(spool.batches(max_bytes=70_000)) == 3
        assert len(spool.batches(max_points=5)) == 2
        assert len(spool.batches(max_bytes=1, max_points=1)) == 1


def test_a_large_put_is_cut_into_batches(path: Path) -> None:
    """Lines stay whole and in order, and no batch outgrows what can be merged or dropped."""
    with opened(path) as spool:
        lines = [wide(number) for number in range(20)]
        spool.put(lines)
        assert len(spool.batches()) == 4
        assert waiting(spool) == lines


def test_a_line_too_long_for_any_store_is_dropped_and_counted(path: Path) -> None:
    """It could never leave again."""
    with opened(path) as spool:
        spool.put(["a 1", "x" * 70_000, "b 2"])
        assert waiting(spool) == ["a 1", "b 2"]
        assert spool.dropped_points_total == 1


def test_text_that_is_no_text_does_not_stop_the_sampler(path: Path) -> None:
    """A driver's broken bytes arrive as question marks."""
    with opened(path) as spool:
        spool.put(['card text="\udcff" 1'])
        assert waiting(spool) == ['card text="?" 1']


def test_refused_points_count_as_dropped(path: Path) -> None:
    """What the store will never take is acknowledged and counted; twice is once."""
    with opened(path) as spool:
        spool.put(["a 1", "b 2", "c 3"])
        (batch,) = spool.batches()
        spool.ack([batch.id], refused_points=1)
        spool.ack([batch.id], refused_points=1)
        assert (spool.points, spool.dropped_points_total) == (0, 1)


def test_wait_ends_with_the_next_put_or_wake(path: Path) -> None:
    """A put before the wait counts too; each is told once."""
    with opened(path) as spool:
        spool.put(["a 1"])
        assert spool.wait(0.0)
        assert not spool.wait(0.0)
        waker = threading.Thread(target=spool.wake)
        waker.start()
        assert spool.wait(20.0)
        waker.join()


def test_several_threads_may_put_at_once(path: Path) -> None:
    """The schedule, the watches and the shipper share one spool."""
    with opened(path) as spool:
        threads = [
            threading.Thread(target=put_each, args=(spool, [f"t{n} {i}" for i in range(20)]))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(waiting(spool)) == sorted(f"t{n} {i}" for n in range(4) for i in range(20))


def put_each(spool: Spool, lines: list[str]) -> None:
    for line in lines:
        spool.put([line])


def test_a_cap_too_small_for_the_log_is_refused(path: Path) -> None:
    """Rather than promise what cannot be kept."""
    with pytest.raises(ValueError, match="expected at least 1048576 B"):
        Spool(path, CAP - 1)


def test_file_and_directory_are_for_the_agent_alone(path: Path) -> None:
    """Readings name hosts and jobs."""
    with opened(path) as spool:
        spool.put(["a 1"])
        assert path.parent.stat().st_mode & 0o777 == 0o700
        modes = {file.stat().st_mode & 0o777 for file in path.parent.glob("spool.sqlite*")}
    assert modes == {0o600}


# --- restarts ----------------------------------------------------------------------------------


def test_readings_and_counts_survive_a_restart(path: Path) -> None:
    """What waits, and how many were dropped, is known to the next process."""
    with opened(path) as spool:
        spool.put(["a 1", "b 2"])
        spool.put(["c 3"])
        spool.ack([spool.last_id], refused_points=1)
        last = spool.last_id
    with opened(path) as spool:
        assert waiting(spool) == ["a 1", "b 2"]
        assert (spool.points, spool.dropped_points_total, spool.last_id) == (2, 1, last)


def test_a_reading_keeps_the_boot_and_the_clock_of_its_put(path: Path) -> None:
    """By them it can be dated again, should the clock of that boot prove wrong."""
    spool = Spool(path, CAP, boot="one", boot_time=lambda: 1234)
    spool.put(["a 1"])
    spool.close()
    spool = Spool(path, CAP, boot="two", boot_time=lambda: 9999)
    try:
        assert [(batch.boot, batch.boot_time_ns) for batch in spool.batches()] == [("one", 1234)]
    finally:
        spool.close()


def test_ids_are_never_used_again(path: Path) -> None:
    """An emptied spool goes on counting, so that a late acknowledgement hits nothing else."""
    with opened(path) as spool:
        spool.put(["a 1"])
        first = spool.last_id
        spool.ack([first])
    with opened(path) as spool:
        spool.put(["b 2"])
        assert spool.last_id > first


PUTTER = """
import sys
from pathlib import Path
from farmhand_agent.spool import Spool
spool = Spool(Path(sys.argv[1]), 4 * 2**20)
for number in range(10**9):
    spool.put([f"card,slot={number} power_watts=1.0 {number}"] * 3)
    print(number, flush=True)
"""


def test_kill_loses_nothing_that_was_put(path: Path) -> None:
    """Whenever the process dies, every put that returned is there afterwards, in order."""
    promised = -1
    for kill_after in (1, 20, 90):
        agent = subprocess.Popen([sys.executable, "-c", PUTTER, str(path)], stdout=subprocess.PIPE)
        with agent:
            assert agent.stdout is not None
            for _ in range(kill_after):
                promised = int(agent.stdout.readline())
            agent.send_signal(signal.SIGKILL)
            rest = agent.stdout.read().split()
            promised = int(rest[-1]) if rest else promised
        with opened(path, 4 * 2**20) as spool:
            slots = [line.split()[-1] for line in waiting(spool)]
            numbers = [int(slot) for slot in slots[::3]]
            assert numbers[: promised + 1] == list(range(promised + 1))
            # The put that was under way is there as a whole or not at all.
            assert len(slots) % 3 == 0 and len(numbers) <= promised + 2
            spool.ack([batch.id for batch in spool.batches(max_bytes=2**40, max_points=2**40)])


# --- the cap -----------------------------------------------------------------------------------


def test_the_oldest_are_dropped_when_it_is_full_and_counted(path: Path) -> None:
    """A long outage keeps the newest readings."""
    with opened(path) as spool:
        lines = [wide(number) for number in range(200)]
        for line in lines:
            spool.put([line])
        left = waiting(spool)
        assert 0 < len(left) < 200
        assert left == lines[-len(left) :]
        assert spool.dropped_points_total == 200 - len(left)
    assert size_on_disk(path) <= CAP


def test_the_disk_is_taken_before_it_is_needed(path: Path) -> None:
    """Filling the spool takes no more disk than an empty one, so that a full disk is no trouble."""
    with opened(path) as spool:
        before = path.stat().st_size
        for number in range(100):
            spool.put([wide(number)])
        assert path.stat().st_size == before


@pytest.mark.parametrize("cap", [2 * CAP, CAP])
def test_a_changed_cap_applies_to_an_old_file(path: Path, cap: int) -> None:
    """A larger cap keeps all, a smaller one the newest."""
    lines = [wide(number) for number in range(100)]
    with opened(path, 3 * CAP // 2) as spool:
        for line in lines:
            spool.put([line])
        before = waiting(spool)
    with opened(path, cap) as spool:
        left = waiting(spool)
        assert left == before[-len(left) :]
        assert (len(left) == len(before)) == (cap > 3 * CAP // 2)
        for line in lines:
            spool.put([line])
        assert spool.degraded is None
        assert size_on_disk(path) <= cap


# --- a disk that does not do its work ----------------------------------------------------------


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@contextmanager
def no_writes() -> Iterator[None]:
    """Every write to a file fails in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_without_a_disk_readings_wait_in_memory(path: Path) -> None:
    """The state directory cannot be made: live readings still pass through."""
    path.parent.parent.joinpath("state").write_text("in the way")
    with opened(path) as spool:
        assert spool.degraded is not None
        spool.put(["a 1"])
        spool.put(["b 2"])
        (first, second) = spool.batches()
        assert (first.body, second.body) == (b"a 1", b"b 2")
        spool.ack([first.id, second.id])
        assert spool.points == 0


def test_memory_is_bounded_too(path: Path) -> None:
    """Without a disk the oldest go sooner, and are counted."""
    path.parent.write_text("in the way")
    with opened(path) as spool:
        lines = [wide(number) for number in range(200)]
        for line in lines:
            spool.put([line])
        left = waiting(spool)
        assert left == lines[-len(left) :]
        assert spool.bytes <= CAP
        assert spool.dropped_points_total == 200 - len(left)


def test_a_disk_that_comes_back_takes_what_waited_in_memory(path: Path) -> None:
    """It is tried once a minute; nothing put in between is lost."""
    path.parent.write_text("in the way")
    clock = Hand()
    spool = Spool(path, CAP, monotonic=clock)
    spool.put(["a 1"])
    path.parent.unlink()
    spool.put(["b 2"])
    assert spool.degraded is not None
    clock.seconds += RETRY_SECONDS
    spool.put(["c 3"])
    assert spool.degraded is None
    spool.close()
    with opened(path) as spool:
        assert waiting(spool) == ["a 1", "b 2", "c 3"]


def test_a_disk_that_fails_later_costs_nothing_that_fits_in_memory(path: Path) -> None:
    """Writes fail for a while: what was on disk and what came since is delivered in order."""
    clock = Hand()
    spool = Spool(path, CAP, monotonic=clock)
    spool.put(["a 1"])
    with no_writes():
        spool.put(["b 2"])
        spool.ack([spool.last_id])
        spool.put(["c 3"])
        assert spool.degraded is not None
    clock.seconds += RETRY_SECONDS
    spool.put(["d 4"])
    assert spool.degraded is None
    assert waiting(spool) == ["a 1", "c 3", "d 4"]
    spool.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB; needs the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill_disk(disk: Path, *, but: int = 0) -> None:
    """Take all space that is left, but so many bytes."""
    filler = disk / "filler"
    status = os.statvfs(disk)
    size = filler.stat().st_size if filler.exists() else 0
    with filler.open("ab") as file:
        os.posix_fallocate(file.fileno(), size, status.f_bavail * status.f_frsize - but)


def test_a_disk_filled_by_others_is_no_trouble(small_disk: Path) -> None:
    """The spool took its space at the start, and takes it over a restart."""
    path = small_disk / "spool.sqlite"
    with opened(path, 2 * CAP) as spool:
        fill_disk(small_disk)
        for number in range(200):
            spool.put([wide(number)])
        spool.ack([batch.id for batch in spool.batches()])
        left = waiting(spool)
        assert spool.degraded is None
    with opened(path, 2 * CAP) as spool:
        assert waiting(spool) == left
        for number in range(200):
            spool.put([wide(number)])
        assert spool.degraded is None


def test_a_full_disk_does_not_send_the_same_again(small_disk: Path) -> None:
    """The disk was nearly full from the start: what cannot be deleted is still not repeated."""
    path = small_disk / "spool.sqlite"
    clock = Hand()
    fill_disk(small_disk, but=900_000)
    spool = Spool(path, 2 * CAP, monotonic=clock)
    lines = [wide(number) for number in range(100)]
    for line in lines:
        spool.put([line])
    assert spool.degraded is not None
    delivered = []
    while batches := spool.batches(max_bytes=50_000):
        delivered += [batch.body.decode() for batch in batches]
        spool.ack([batch.id for batch in batches])
    assert delivered == lines
    assert (spool.points, spool.bytes, spool.dropped_points_total) == (0, 0, 0)
    (small_disk / "filler").unlink()
    clock.seconds += RETRY_SECONDS
    spool.put(["a 1"])
    assert spool.degraded is None
    spool.close()
    with opened(path, 2 * CAP) as spool:
        assert waiting(spool) == ["a 1"]


def test_a_full_disk_at_the_first_start_is_waited_for(small_disk: Path) -> None:
    """Not even an empty file is left behind to be taken for a damaged one."""
    path = small_disk / "spool.sqlite"
    clock = Hand()
    fill_disk(small_disk)
    spool = Spool(path, CAP, monotonic=clock)
    spool.put(["a 1"])
    assert spool.degraded is not None
    (small_disk / "filler").unlink()
    clock.seconds += RETRY_SECONDS
    spool.put(["b 2"])
    assert spool.quarantined_total == 0
    assert spool.degraded is None
    spool.close()


def test_a_second_agent_does_not_touch_the_first_ones_file(path: Path) -> None:
    """The file is locked: the second keeps its readings in memory and says why."""
    with opened(path) as first, opened(path) as second:
        second.put(["b 2"])
        assert second.degraded is not None and "locked" in second.degraded
        first.put(["a 1"])
        assert waiting(first) == ["a 1"]
        assert first.quarantined_total == second.quarantined_total == 0


def test_a_closed_spool_is_harmless(path: Path) -> None:
    """A thread that is late at shutdown gets no exception."""
    spool = Spool(path, CAP)
    spool.put(["a 1"])
    spool.close()
    spool.put(["b 2"])
    spool.ack([spool.last_id])
    spool.close()
    with opened(path) as spool:
        assert waiting(spool) == ["a 1"]


# --- damage ------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_set_aside(path: Path) -> None:
    """The agent starts all the same; the file is kept for whoever wants to look."""
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    with opened(path) as spool:
        assert (spool.degraded, spool.quarantined_total) == (None, 1)
        spool.put(["a 1"])
        assert waiting(spool) == ["a 1"]
    assert path.with_name("spool.sqlite.corrupt-1").read_bytes() == b"no database" * 1000


def test_a_database_of_somebody_else_is_set_aside(path: Path) -> None:
    """A sound file with other tables is as useless as a damaged one."""
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE batch (name TEXT)")
    connection.close()
    with opened(path) as spool:
        spool.put(["a 1"])
        assert (waiting(spool), spool.quarantined_total) == (["a 1"], 1)


def test_only_the_newest_damaged_files_are_kept(path: Path) -> None:
    """A disk that damages each day's file does not fill up with them."""
    path.parent.mkdir()
    for _ in range(5):
        path.write_bytes(b"no database")
        with opened(path):
            pass
        path.unlink()
    kept = sorted(file.name for file in path.parent.glob("*.corrupt-*"))
    assert kept == [f"spool.sqlite.corrupt-{n}" for n in (3, 4, 5)]
    assert len(kept) == CORRUPT_FILES_KEPT


def test_a_flipped_bit_costs_one_batch(path: Path) -> None:
    """The checksum finds it; the others are delivered, and the loss is counted."""
    with opened(path) as spool:
        for number in range(5):
            spool.put([f"card,slot={number} mark=1.0 {number}"])
    data = bytearray(path.read_bytes())
    data[data.index(b"slot=3 mark") + 5] ^= 1
    path.write_bytes(data)
    with opened(path) as spool:
        assert [line.split()[-1] for line in waiting(spool)] == ["0", "1", "2", "4"]
        assert (spool.points, spool.dropped_points_total) == (4, 1)


def test_damage_in_the_middle_saves_both_ends(path: Path) -> None:
    """A page of zeros: what can be read before and behind it goes on, the rest is counted."""
    lines = [wide(number)[:1500] for number in range(60)]
    with opened(path) as spool:
        for line in lines:
            spool.put([line])
    data = bytearray(path.read_bytes())
    start = data.index(b"slot=30 ") // 4096 * 4096
    data[start : start + 4096] = bytes(4096)
    path.write_bytes(data)
    with opened(path) as spool:
        waiting(spool)
        left = waiting(spool)
        assert (left[0], left[-1]) == (lines[0], lines[-1])
        assert 0 < len(lines) - len(left) <= 4
        assert spool.dropped_points_total == len(lines) - len(left)
        assert spool.quarantined_total == 1


def test_damage_while_running_does_not_stop_the_sampler(path: Path) -> None:
    """The file is overwritten under a running agent: it goes on with a new one."""
    with opened(path, 4 * CAP) as spool:
        for number in range(300):
            spool.put([wide(number)])
        path.write_bytes(os.urandom(path.stat().st_size))
        waiting(spool)
        spool.put(["a 1"])
        left = waiting(spool)
        assert left[-1] == "a 1"
        assert spool.quarantined_total == 1
        assert spool.dropped_points_total == 300 - len(left[:-1])


# --- all of it together ------------------------------------------------------------------------


class SpoolMachine(RuleBasedStateMachine):
    """The spool against a list: the lines that were put, are neither gone nor acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="spool"))
        self.generations = count()
        self.numbers = count()
        self.expected: list[str] = []
        self.path = self._fresh_path()
        self.spool = Spool(self.path, CAP)
        self.dropped = 0

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.root)

    def _fresh_path(self) -> Path:
        return self.root / str(next(self.generations)) / "spool.sqlite"

    @rule(width=st.sampled_from([10, 300, 3_000, 30_000]), lines=st.integers(1, 12))
    def put(self, width: int, lines: int) -> None:
        new = [f"card n={next(self.numbers)} {'x' * width}" for _ in range(lines)]
        self.spool.put(new)
        self.expected += new
        self._settle_drops()

    @rule(max_bytes=st.sampled_from([1, 50_000, 10**6]), part=st.integers(0, 3))
    def ack_oldest(self, max_bytes: int, part: int) -> None:
        batches = self.spool.batches(max_bytes=max_bytes)
        batches = batches[: len(batches) - part] if len(batches) > part else batches
        self._ack_lines(b"\n".join(batch.body for batch in batches))
        self.spool.ack([batch.id for batch in batches])

    @rule()
    def ack_newest(self) -> None:
        batches = self.spool.batches(after=self.spool.last_id - 1)
        self._ack_lines(b"\n".join(batch.body for batch in batches))
        self.spool.ack([batch.id for batch in batches])

    def _ack_lines(self, body: bytes) -> None:
        gone = set(body.decode().split("\n")) if body else set()
        assert gone <= set(self.expected)
        self.expected = [line for line in self.expected if line not in gone]

    @precondition(lambda self: self.expected)
    @rule()
    def refuse_one(self) -> None:
        (batch,) = self.spool.batches(max_bytes=1)
        self.spool.ack([batch.id], refused_points=batch.points)
        self.dropped += batch.points
        self._ack_lines(batch.body)

    @rule()
    def reopen(self) -> None:
        self.spool.close()
        self.spool = Spool(self.path, CAP)
        assert self.spool.quarantined_total == 0

    @rule()
    def crash(self) -> None:
        """What is on disk at this moment is opened by the next process."""
        survivor = self._fresh_path()
        shutil.copytree(self.path.parent, survivor.parent)
        self.spool.close()
        shutil.rmtree(self.path.parent)
        self.path = survivor
        self.spool = Spool(self.path, CAP)
        assert self.spool.quarantined_total == 0

    @rule(where=st.floats(0, 0.999), how=st.sampled_from(["flip", "zero", "cut", "garbage"]))
    def corrupt(self, where: float, how: str) -> None:
        self.spool.close()
        damage(self.path, where, how)
        self.spool = Spool(self.path, CAP)
        assert self.spool.degraded is None
        self._settle_damage()

    @rule(where=st.floats(0, 0.999), how=st.sampled_from(["flip", "zero", "cut", "garbage"]))
    def crash_with_a_torn_log(self, where: float, how: str) -> None:
        survivor = self._fresh_path()
        shutil.copytree(self.path.parent, survivor.parent)
        self.spool.close()
        shutil.rmtree(self.path.parent)
        self.path = survivor
        damage(survivor.with_name("spool.sqlite-wal"), where, how)
        self.spool = Spool(self.path, CAP)
        assert self.spool.degraded is None
        # Commits behind the damage are not there, and acknowledged lines may be again.
        self.expected = waiting(self.spool)
        self.dropped = self.spool.dropped_points_total

    def _settle_drops(self) -> None:
        """The oldest were dropped, as many as were counted."""
        dropped = self.spool.dropped_points_total - self.dropped
        self.expected = self.expected[dropped:]
        self.dropped += dropped

    def _settle_damage(self) -> None:
        """Nothing is invented or turned around, and a loss shows in one of the counts."""
        waiting(self.spool)
        left = waiting(self.spool)
        kept = set(left)
        assert left == [line for line in self.expected if line in kept]
        lost = len(self.expected) - len(left)
        counted = self.spool.dropped_points_total - self.dropped
        assert counted == lost or self.spool.quarantined_total
        self.expected = left
        self.dropped = self.spool.dropped_points_total

    @invariant()
    def holds_what_is_expected(self) -> None:
        assert waiting(self.spool) == self.expected
        assert self.spool.points == len(self.expected)
        assert self.spool.dropped_points_total == self.dropped

    @invariant()
    def keeps_to_its_cap(self) -> None:
        files = ("spool.sqlite", "spool.sqlite-wal", "spool.sqlite-ballast")
        paths = [self.path.with_name(name) for name in files]
        assert sum(path.stat().st_size for path in paths if path.exists()) <= CAP

    @invariant()
    def is_on_disk(self) -> None:
        assert self.spool.degraded is None


def damage(path: Path, where: float, how: str) -> None:
    data = bytearray(path.read_bytes()) or bytearray(1)
    place = int(where * len(data))
    if how == "flip":
        data[place] ^= 1 << place % 8
    elif how == "zero":
        data[place : place + 4096] = bytes(len(data[place : place + 4096]))
    elif how == "cut":
        del data[place:]
    else:
        data[place : place + 64] = b"\xff" * len(data[place : place + 64])
    path.write_bytes(data)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
