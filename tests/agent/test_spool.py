"""The spool's promises: nothing committed is lost uncounted, the cap holds, it always opens."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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


def test_when_a_boot_began_is_known_to_the_next(path: Path) -> None:
    """Readings of an earlier boot can be dated again by what was learned in it."""
    spool = Spool(path, CAP, boot="first", boot_time=lambda: 1234)
    spool.put(["a 1"])
    assert spool.boot_began_ns("first") is None
    spool.learn_boot(5678)
    spool.close()
    spool = Spool(path, CAP, boot="second", boot_time=lambda: 99)
    (batch,) = spool.batches()
    assert (batch.boot, batch.boot_time_ns) == ("first", 1234)
    assert (spool.boot_began_ns("first"), spool.boot_began_ns("second")) == (5678, None)
    spool.close()


def test_boots_without_readings_are_forgotten(path: Path) -> None:
    """A spool does not grow by a line with each boot."""
    for number in range(3):
        spool = Spool(path, CAP, boot=f"boot {number}")
        spool.learn_boot(number)
        spool.close()
    with opened(path) as spool:
        assert [spool.boot_began_ns(f"boot {number}") for number in range(3)] == [None] * 3


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


def test_a_page_that_is_found_twice_is_saved_once(path: Path) -> None:
    """Damage in the tree of pages leads to the same readings on two ways."""
    with opened(path) as spool:
        for number in range(60):
            spool.put([wide(number)[:1500]])
        before = waiting(spool)
    data = bytearray(path.read_bytes())
    # The root of the readings is the second page; its cells begin with the page they lead to.
    root = 4096
    cells = [root + int.from_bytes(data[at : at + 2]) for at in (root + 12, root + 14)]
    data[cells[1] : cells[1] + 4] = data[cells[0] : cells[0] + 4]
    path.write_bytes(data)
    with opened(path) as spool:
        left = waiting(spool)
        assert spool.degraded is None
        assert left == [line for line in before if line in set(left)]
        assert 0 < len(left) < len(before)
        assert spool.dropped_points_total == len(before) - len(left)


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
