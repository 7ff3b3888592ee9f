"""The spool against a model, on a disk that loses power, fills up, fails and rots.

Lines are numbers that only grow, so order, repetition and invention show in the numbers alone.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from farmhand_agent.spool import RETRY_SECONDS
from farmhand_agent.spool_disk import MINIMUM_CAP_BYTES
from farmhand_agent.spool_row import MAX_ROW_BYTES
from tests.agent.crash_disk import Change, CrashDisk, Kind, Unsynced, build
from tests.agent.spool_process import Killed, SpoolProcess

CAP = MINIMUM_CAP_BYTES
LARGER_CAP = 3 * CAP // 2
PAGE_BYTES = 4096
CORE_PAGES = 7
"""Pages at the start of the file that hold the schema, the counts and the roots of its trees."""
LOG_BYTES = 512 * 1024
"""Most that can wait in the write-ahead log, and be lost with it."""

WIDTHS = st.sampled_from([1, 10, 300, 3_000, 30_000])
COUNTS = st.integers(1, 12)
SEEDS = st.integers(0, 2**32)
LEFT = st.sampled_from(Unsynced)
POWER = st.one_of(st.none(), LEFT)
"""None where only the process dies."""
MOMENTS = st.one_of(st.integers(1, 12), st.integers(1, 400), st.integers(1, 4000))
PLACES = st.floats(0, 0.999)
HOW = st.sampled_from(["flip", "zero", "cut", "garbage"])


class SpoolMachine(RuleBasedStateMachine):
    """What the spool holds against what it must hold.

    `must` are lines that were on disk when the spool last said that all is well; `sure` were put
    since then in this life of the process; `gone` were acknowledged since then in it, and may not
    be deleted. `may` are lines that a crash may have left or taken: put or acknowledged in lives
    that ended since.
    """

    library: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="spool"))
        self.disk = CrashDisk(self.library, self.directory)
        self.path = self.disk.root / "spool.sqlite"
        self.process = SpoolProcess(self.path, self.disk.environment())
        self.cap = self.allowed_bytes = CAP
        self.largest_bytes = LARGER_CAP
        self.monotonic = 0.0
        self.boot, self.boot_time_ns = 1, 10**18
        self.began: dict[str, int] = {}
        self.last_number = 0
        self.must: set[int] = set()
        self.sure: set[int] = set()
        self.gone: set[int] = set()
        self.may: set[int] = set()
        self.boots: dict[int, tuple[str, int]] = {}
        self.widths: dict[int, int] = {}
        self.dropped = self.refused = 0
        self.in_flight: list[tuple[int, list[int]]] = []
        self.has_room = True
        self.is_full = self.is_failing = self.has_failed = False
        self.copies_on_write = self.hides = False
        self.damages: list[Damage] = []
        self.was_open = self.is_alive = False

    @initialize(free_bytes=st.one_of(st.just(-1), st.integers(0, 4 * CAP)))
    def start_first(self, free_bytes: int) -> None:
        """The disk may have been nearly full from the start."""
        if free_bytes >= 0:
            self.fill(free_bytes, copies_on_write=False)
            self.has_room = False
        self.start()

    def teardown(self) -> None:
        try:
            if self.is_alive:
                self.delivers_everything_in_the_end()
        finally:
            self.process.close()
            self.disk.close()
            shutil.rmtree(self.directory)

    def delivers_everything_in_the_end(self) -> None:
        """The faults end: what waits is on disk, comes out in order, and so does what is new."""
        self.recover()
        self.check()
        self.take(0, 2**40, live=False)
        self.acknowledge(0, refused=False)
        self.check()
        state = self.process.ask("state")
        assert (state["points"], state["bytes"]) == (0, 0)
        self.check_largest()

    # -- lives of the process --

    def start(self) -> None:
        # A file cannot be made smaller where nothing can be written.
        self.was_open = self.is_alive = False
        is_stuck = self.is_full or self.is_failing
        self.allowed_bytes = max(self.cap, is_stuck * self.allowed_bytes)
        self.process.ask("set_clocks", boot_time_ns=self.boot_time_ns, monotonic=self.monotonic)
        self.process.ask("open", cap_bytes=self.cap, boot=f"boot {self.boot}")
        self.is_alive = True

    def end_life(self) -> None:
        """Forget what only the process knew."""
        self.is_alive = False
        kept = {self.boots[number][0] for number in self.must}
        self.began = {boot: ns for boot, ns in self.began.items() if boot in kept}
        self.may |= self.sure | self.gone
        self.sure, self.gone, self.in_flight = set(), set(), []
        self.refused = 0

    def revive(self, power: Unsynced | None, seed: int) -> None:
        """Start again after the process has died, and the power perhaps with it."""
        self.end_life()
        if power is not None:
            self.check_largest()
            self.disk.cut_power(power, seed)
        self.start()

    @contextmanager
    def dying(self, moment: int, power: Unsynced | None, seed: int) -> Iterator[None]:
        """Kill the process at a moment of what is done, if it lasts so long."""
        self.disk.kill_before(moment)
        try:
            yield
            self.disk.kill_before(0)
        except Killed:
            self.revive(power, seed)

    # -- rules: use --

    @rule(width=WIDTHS, count=COUNTS)
    def put_some(self, width: int, count: int) -> None:
        self.put(count, width)

    def put(self, count: int, width: int) -> None:
        numbers = self.new_numbers(count)
        self.sure |= set(numbers)
        self.widths |= dict.fromkeys(numbers, width)
        self.process.ask("put", numbers=numbers, width=width)
        if not self.copies_on_write:
            self.hides = False

    @rule(count=st.integers(5, 60))
    def put_much(self, count: int) -> None:
        self.put(count, 30_000)

    def new_numbers(self, count: int) -> list[int]:
        numbers = [self.last_number + 1 + n for n in range(count)]
        self.last_number += count
        here = (f"boot {self.boot}", self.boot_time_ns)
        self.boots |= dict.fromkeys(numbers, here)
        return numbers

    @rule(
        after=st.integers(0, 3),
        max_bytes=st.sampled_from([1, 50_000, 10**6]),
        live=st.booleans(),
    )
    def take(self, after: int, max_bytes: int, live: bool) -> None:
        limits = {"max_bytes": max_bytes, "max_points": 2**40}
        if live:
            limits["after"] = max(self.process.ask("state")["last_id"] - after, 0)
        batches = self.process.ask("batches", **limits)
        for _, numbers, boot, boot_time_ns in batches:
            assert all(self.boots[n] == (boot, boot_time_ns) for n in numbers)
        self.in_flight = [(id_, numbers) for id_, numbers, *_ in batches]

    @rule(part=st.integers(0, 2), refused=st.booleans())
    def acknowledge(self, part: int, refused: bool) -> None:
        self.acknowledge_taken(part, refused)

    def acknowledge_taken(self, part: int, refused: bool) -> None:
        taken, self.in_flight = self.in_flight[part:], []
        numbers = {number for _, lines in taken for number in lines}
        ids = [id_ for id_, _ in taken]
        before = self.process.ask("state")
        # What was dropped meanwhile, or is on a disk that is out of reach, cannot be acknowledged.
        numbers &= set(before["numbers"])
        points = len(numbers) if refused else 0
        self.gone |= numbers
        self.hides = self.hides or self.copies_on_write
        self.must -= numbers
        self.sure -= numbers
        self.process.ask("ack", ids=ids, refused_points=points)
        after = self.process.ask("state")
        # What was refused has left as it was told, so it is not missing; but it counts.
        counted = after["dropped"] - before["dropped"]
        assert counted == points or (after["degraded"] and 0 <= counted <= points)
        self.refused += counted

    @rule(cap=st.sampled_from([CAP, CAP, LARGER_CAP]))
    def restart(self, cap: int) -> None:
        self.process.ask("close")
        self.end_life()
        # A file is made smaller by way of its log.
        self.largest_bytes = max(self.largest_bytes, LARGER_CAP + CAP * (cap < self.cap))
        self.cap = cap
        self.start()

    # -- rules: time --

    @rule()
    def wait_a_minute(self) -> None:
        self.monotonic += RETRY_SECONDS
        self.process.ask("set_clocks", boot_time_ns=self.boot_time_ns, monotonic=self.monotonic)

    @rule(step_ns=st.sampled_from([-(10**18), -(10**9), 10**9, 5 * 10**17]))
    def step_clock(self, step_ns: int) -> None:
        self.boot_time_ns += step_ns
        self.process.ask("set_clocks", boot_time_ns=self.boot_time_ns, monotonic=self.monotonic)

    @rule(began_ns=st.integers(0, 2 * 10**18))
    def learn_boot(self, began_ns: int) -> None:
        self.process.ask("learn_boot", began_ns=began_ns)
        is_written = self.has_room or not self.is_full
        if is_written and self.process.ask("state")["degraded"] is None:
            self.began[f"boot {self.boot}"] = began_ns
        else:
            self.began.pop(f"boot {self.boot}", None)

    # -- rules: ends --

    @rule(power=POWER, seed=SEEDS, reboots=st.booleans())
    def kill(self, power: Unsynced | None, seed: int, reboots: bool) -> None:
        self.die()
        self.boot += reboots
        self.revive(power, seed)

    def die(self) -> None:
        with pytest.raises(Killed):
            self.process.ask("die")

    @rule(width=WIDTHS, count=COUNTS, moment=MOMENTS, power=POWER, seed=SEEDS)
    def die_putting(
        self, width: int, count: int, moment: int, power: Unsynced | None, seed: int
    ) -> None:
        with self.dying(moment, power, seed):
            self.put(count, width)

    @rule(refused=st.booleans(), moment=MOMENTS, power=POWER, seed=SEEDS)
    def die_acknowledging(
        self, refused: bool, moment: int, power: Unsynced | None, seed: int
    ) -> None:
        with self.dying(moment, power, seed):
            self.acknowledge_taken(0, refused)

    @rule(cap=st.sampled_from([CAP, CAP, LARGER_CAP]), moment=MOMENTS, power=POWER, seed=SEEDS)
    def die_restarting(self, cap: int, moment: int, power: Unsynced | None, seed: int) -> None:
        with self.dying(moment, power, seed):
            self.restart(cap)

    # -- rules: a disk that does not do its work --

    @rule(free_bytes=st.one_of(st.just(0), st.integers(0, 2 * CAP)), copies_on_write=st.booleans())
    def fill(self, free_bytes: int, copies_on_write: bool) -> None:
        self.disk.fill(free_bytes, copies_on_write=copies_on_write)
        self.is_full, self.copies_on_write = True, copies_on_write
        self.has_room = self.has_room and not copies_on_write

    @rule(error=st.sampled_from([errno.EIO, errno.EROFS]), after=st.integers(0, 8))
    def fail(self, error: int, after: int) -> None:
        self.disk.fail(error, after=after)
        self.is_failing = self.has_failed = True
        self.has_room = False

    @rule()
    def heal(self) -> None:
        self.disk.heal()
        self.is_full = self.is_failing = self.copies_on_write = False

    @rule()
    def recover(self) -> None:
        self.heal()
        self.wait_a_minute()
        self.put(1, 1)
        assert self.process.ask("state")["degraded"] is None

    # -- rules: damage --

    @rule(
        where=PLACES,
        how=HOW,
        closes=st.booleans(),
        hits_log=st.booleans(),
        moment=st.one_of(st.just(0), MOMENTS),
        power=POWER,
        seed=SEEDS,
    )
    def damage(
        self,
        where: float,
        how: str,
        *,
        closes: bool = True,
        hits_log: bool = False,
        moment: int = 0,
        power: Unsynced | None = None,
        seed: int = 0,
    ) -> None:
        """The file is closed first and then damaged, or it or its log after a kill."""
        if closes:
            self.process.ask("close")
        else:
            self.die()
        self.end_life()
        log = self.path.with_name("spool.sqlite-wal")
        path = log if hits_log and log.exists() else self.path
        if path.exists():
            self.check_largest()
            self.damages.append(damaged(path, where, how))
            self.has_room = False
        self.disk.settle()
        with self.dying(moment, power, seed):
            self.start()

    # -- what always holds --

    @invariant()
    def check(self) -> None:
        state = self.process.ask("state")
        numbers = state["numbers"]
        seen = set(numbers)
        assert state["points"] == len(numbers)
        assert state["bytes"] == state["body_bytes"]
        assert numbers == sorted(seen)
        assert seen <= set(range(self.last_number + 1))
        self.was_open = self.was_open or state["is_open"]
        if not self.was_open:
            self.check_memory(state, seen)
        if self.damages:
            self.check_damage(state, seen)
        elif state["is_open"]:
            self.check_open(state, seen)
        else:
            self.may |= self.gone
            self.gone = set()
        self.check_size()
        if state["is_open"]:
            self.check_boots(seen)
        if state["degraded"] is None:
            self.settle(state, seen)

    def check_open(self, state: Any, seen: set[int]) -> None:
        assert seen <= self.must | self.sure | self.may
        missing = (self.must | self.sure) - seen
        counted = state["dropped"] - self.dropped - self.refused
        uncertain = len(self.may) + self.has_failed * len(self.sure)
        assert len(missing) <= counted <= len(missing) + uncertain
        if not (self.may or state["degraded"]):
            assert not missing or max(missing) < min(seen, default=self.last_number + 1)

    def check_damage(self, state: Any, seen: set[int]) -> None:
        """A loss is bounded by what one damage touched, and counted where the counts are left."""
        lost = (self.must | self.sure) - seen
        if not state["is_open"] or len(self.damages) > 1:
            return
        (damage,) = self.damages
        if all(self.widths[number] < 3_000 for number in lost):
            # Of a longer one no more than its head need be hit.
            assert sum(self.widths[number] for number in lost) <= damage.most_lost_bytes
        counted = state["dropped"] - self.dropped - self.refused
        if not damage.hits_counts:
            assert abs(counted - len(lost)) <= len(self.may)

    def check_memory(self, state: Any, seen: set[int]) -> None:
        """What was put since a start without a disk is in memory, or counted."""
        assert seen <= self.sure
        assert state["dropped"] == len(self.sure - seen) + self.refused

    def check_boots(self, seen: set[int]) -> None:
        """When a boot began is known as long as a reading of it waits."""
        if self.damages:
            self.began = {}
        boots = sorted({self.boots[number][0] for number in seen})
        begins = self.process.ask("begins", boots=boots)
        learned = {boot: ns for boot, ns in self.began.items() if boot in boots}
        assert learned.items() <= begins.items()

    def check_size(self) -> None:
        files = [self.path.with_name(name) for name in FILES]
        assert sum(file.stat().st_size for file in files if file.exists()) <= self.allowed_bytes

    def check_largest(self) -> None:
        assert self.disk.largest_bytes(*FILES) <= self.largest_bytes

    def settle(self, state: Any, seen: set[int]) -> None:
        """All is well: what is seen is on disk."""
        self.must, self.dropped, self.refused = seen, state["dropped"], 0
        self.sure, self.may = set(), set()
        if not self.hides:
            self.gone = set()
        self.has_failed = self.is_failing
        self.damages = []
        if not (self.is_full or self.is_failing):
            self.has_room = True

    @invariant()
    def a_disk_filled_by_others_is_no_trouble(self) -> None:
        if self.is_full and self.has_room:
            assert self.process.ask("state")["degraded"] is None


FILES = ("spool.sqlite", "spool.sqlite-wal", "spool.sqlite-ballast")


class Damage(NamedTuple):
    """What was done to a file."""

    most_lost_bytes: int
    """Readings that it may have cost."""
    hits_counts: bool
    """Whether the counts may be gone with them."""


def damaged(path: Path, where: float, how: str) -> Damage:
    """Damage a file at a place."""
    data = bytearray(path.read_bytes()) or bytearray(1)
    place = int(where * len(data))
    if how == "flip":
        data[place] ^= 1 << place % 8
    elif how == "zero":
        data[place : place + PAGE_BYTES] = bytes(len(data[place : place + PAGE_BYTES]))
    elif how == "cut":
        del data[place:]
    else:
        data[place : place + 64] = b"\xff" * len(data[place : place + 64])
    path.write_bytes(data)
    if path.name.endswith("-wal"):
        return Damage(LOG_BYTES, hits_counts=True)
    hits_core = place < CORE_PAGES * PAGE_BYTES
    bounded = 2 * (PAGE_BYTES + MAX_ROW_BYTES)
    return Damage(CAP * 2 if hits_core or how == "cut" else bounded, hits_core)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("crash_disk"))


@pytest.fixture
def machine(library: Path) -> Iterator[SpoolMachine]:
    """A machine to be driven by hand; it is checked in the end that everything is delivered."""
    machine = made(library)()
    machine.start_first(-1)
    yield machine
    machine.check()
    machine.teardown()


def made(library: Path) -> type[SpoolMachine]:
    return type("Machine", (SpoolMachine,), {"library": library})


def put_each(machine: SpoolMachine, count: int, width: int) -> None:
    """Put lines one by one, so that each is lost alone."""
    for _ in range(count):
        machine.put(1, width)
    machine.check()


def degraded(machine: SpoolMachine) -> bool:
    machine.check()
    return machine.process.ask("state")["degraded"] is not None


# --- all of it, in any order -------------------------------------------------------------------

EXAMPLES = int(os.environ.get("FARMHAND_SPOOL_ROUNDS", "40"))


def test_the_spool_keeps_its_promises(library: Path) -> None:
    """Whatever happens to process, power and disk, in whatever order."""
    run_state_machine_as_test(
        made(library),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
        ),
    )


# --- what was learned that way -----------------------------------------------------------------


@pytest.mark.parametrize("after", range(9))
def test_a_write_that_failed_half_way_is_there_once(machine: SpoolMachine, after: int) -> None:
    """The log may hold a commit that the disk said it had not taken."""
    machine.put(2, 1)
    machine.check()
    machine.fail(errno.EIO, after)
    machine.put(3, 1)
    machine.check()
    machine.recover()


def test_a_disk_that_copies_on_write_does_not_send_the_same_again(machine: SpoolMachine) -> None:
    """A full one cannot even delete: what was acknowledged is at least not given out again."""
    machine.put(3, 100)
    machine.put(3, 100)
    machine.check()
    machine.fill(0, copies_on_write=True)
    machine.take(0, 1, live=False)
    machine.acknowledge(0, refused=False)
    machine.check()
    assert machine.process.ask("state")["numbers"] == [4, 5, 6]


@pytest.mark.parametrize("free_bytes", range(0, 100_000, 10_000))
def test_what_can_only_be_hidden_is_deleted_when_there_is_room(
    machine: SpoolMachine, free_bytes: int
) -> None:
    """Room for a reading is no room for that yet, and nothing is taken for damage."""
    put_each(machine, 40, 3000)
    machine.fill(0, copies_on_write=True)
    machine.take(0, 10**6, live=False)
    machine.acknowledge(1, refused=False)
    machine.fill(free_bytes, copies_on_write=True)
    machine.put(1, 10)
    machine.check()
    machine.put(1, 10)
    machine.recover()
    machine.check()
    machine.restart(CAP)
    assert machine.process.ask("state")["numbers"] == [1, 41, 42, 43]
    assert not list(machine.disk.root.glob("*corrupt*"))


def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes(machine: SpoolMachine) -> None:
    """SQLite refuses it as a whole; what is still there goes on, the rest is counted."""
    put_each(machine, 100, 3000)
    machine.damage(0.9, "cut")
    machine.check()
    state = machine.process.ask("state")
    assert 0 < state["points"] < 100
    assert state["dropped"] == 100 - state["points"]


@pytest.mark.parametrize("closes", [True, False])
def test_a_file_that_is_cut_to_nothing_is_not_taken_for_a_new_one(
    machine: SpoolMachine, closes: bool
) -> None:
    """Nor its log thrown away unseen: whoever looks finds that something was lost."""
    machine.put(5, 10)
    machine.check()
    machine.damage(0.0, "cut", closes=closes)
    assert machine.process.ask("state")["quarantined"] == 1


def test_a_damaged_file_on_a_full_disk_waits_for_room(machine: SpoolMachine) -> None:
    """It is not set aside before there is a new one to take what can be read of it."""
    put_each(machine, 100, 3000)
    machine.fill(0, copies_on_write=False)
    machine.damage(0.9, "zero")
    assert degraded(machine)
    machine.put(1, 10)
    machine.recover()
    machine.check()
    state = machine.process.ask("state")
    assert 90 < state["points"] < 102
    assert state["dropped"] == 102 - state["points"]


def test_a_death_while_a_damaged_file_is_mended_loses_nothing_more(library: Path) -> None:
    """The next start mends it anew, or finds it mended."""
    undisturbed = mended(library, 0)
    kinds = [change.kind for change in undisturbed]
    swap = kinds.index(Kind.RENAME) + 1
    for moment in (1, 5, 14, swap // 2, *range(swap - 3, swap + 4), len(undisturbed)):
        mended(library, moment)


def mended(library: Path, moment: int) -> list[Change]:
    """Mend a damaged file, dying at a moment; what was changed on the disk until then."""
    machine = made(library)()
    machine.start_first(-1)
    put_each(machine, 100, 3000)
    machine.damage(0.9, "zero", moment=moment, power=Unsynced.NOTHING if moment else None)
    changes = list(machine.disk.changes())
    machine.check()
    state = machine.process.ask("state")
    assert 90 < state["points"] < 100
    assert state["dropped"] == 100 - state["points"]
    machine.teardown()
    return changes


def test_a_full_disk_does_not_keep_a_spool_from_a_smaller_cap(machine: SpoolMachine) -> None:
    """It goes on with the larger file, which becomes smaller when there is room to do so."""
    machine.restart(LARGER_CAP)
    machine.put_much(60)
    machine.check()
    machine.fill(0, copies_on_write=False)
    machine.restart(CAP)
    assert not degraded(machine)
    machine.heal()
    machine.restart(CAP)
    machine.check()
    assert machine.path.stat().st_size < CAP


def test_no_more_than_half_of_a_nearly_full_disk_is_taken(library: Path) -> None:
    """The rest is for others; the spool makes do with less than its cap."""
    machine = made(library)()
    machine.cap = 8 * CAP
    machine.start_first(4 * CAP)
    machine.put_much(60)
    state = machine.process.ask("state")
    assert state["degraded"] is None
    assert state["numbers"][-1] == 60
    assert CAP < machine.disk.largest_bytes(*FILES) <= 2 * CAP
    machine.largest_bytes = machine.allowed_bytes = 2 * CAP
    machine.cap = CAP
    machine.teardown()


def test_a_disk_without_room_for_a_spool_is_left_alone(library: Path) -> None:
    """Nothing is half made there while readings wait in memory."""
    machine = made(library)()
    machine.start_first(CAP)
    assert degraded(machine)
    assert not list(machine.disk.root.iterdir())
    machine.put(3, 10)
    machine.teardown()
