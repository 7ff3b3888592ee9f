"""The judging thread over a real store and a real ledger."""

import logging
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from farmhand_agent.reading import Reading
from farmhand_collector.block import block_of
from farmhand_collector.changes import Change, ChangeLog
from farmhand_collector.judging import Judge
from farmhand_collector.ledger import Checkpoint, Ledger
from farmhand_collector.live import Live
from farmhand_collector.report import farm_state
from farmhand_collector.store.embedded import EmbeddedStore
from farmhand_collector.view import View
from farmhand_collector.wire import FarmState
from tests.collector.farms import simulated, ticks

PATIENCE_SECONDS = 30.0
SECONDS = 2400.0
READINGS = simulated(16, 4, "lost,unreadable,thermal,memory_clock", SECONDS).readings
MIDDLE = len(READINGS) // 2


def expected(readings: Sequence[Reading] = READINGS) -> tuple[FarmState, list[Change]]:
    """What a run in one go, without a store, says in the end and on the way."""
    log, changes = ChangeLog(), []
    for tick in ticks(readings):
        changes += log.of(tick)
    return farm_state(tick.frame.roster, tick.verdicts), changes


def said(collector: "Collector") -> FarmState:
    """What is said of cards and what carries them; `expected` adds nothing up."""
    return msgspec.structs.replace(collector.view.state(), capacity=None)


class Collector:
    """Store, ledger and judging thread in one directory."""

    def __init__(self, directory: Path, pulse_site: str | None = None) -> None:
        self.directory = directory
        self.store = EmbeddedStore(directory / "readings")
        self.ledger = Ledger(directory / "farm.sqlite")
        self.view = View(None)
        self.live = Live(self.store, self.ledger, self.view, pulse_site)
        self._ticked = threading.Condition()
        self.view.listen(self._tell)

    def _tell(self) -> None:
        with self._ticked:
            self._ticked.notify_all()

    def write(self, readings: Sequence[Reading]) -> None:
        """Keep readings as posts of some size."""
        for begin in range(0, len(readings), 2000):
            self.store.write(readings[begin : begin + 2000])

    def wait_for(self, time: float) -> None:
        """Wait until a frame of this end is judged."""
        with self._ticked:
            assert self._ticked.wait_for(
                lambda: (self.view.time or 0.0) >= time, PATIENCE_SECONDS
            ), f"only {self.view.time} is judged"

    def close(self) -> None:
        """Let go of the files; the thread has ended."""
        self.store.close()
        self.ledger.close()


@contextmanager
def running(directory: Path, pulse_site: str | None = None) -> Iterator[Collector]:
    """A collector that judges, ended in order."""
    collector = Collector(directory, pulse_site)
    collector.live.start()
    try:
        yield collector
    finally:
        collector.live.stop()
        collector.close()


def end_of(readings: Sequence[Reading]) -> float:
    """End of the last frame that readings close."""
    *_, last = ticks(readings)
    return last.frame.end_ns / 1e9


def history(directory: Path) -> list[Change]:
    """All changes that a ledger holds, oldest first."""
    ledger = Ledger(directory / "farm.sqlite")
    try:
        return ledger.changes(limit=100_000)[::-1]
    finally:
        ledger.close()


def test_it_judges_what_the_store_receives(tmp_path: Path) -> None:
    """Verdicts and changes are those of the readings."""
    state, changes = expected()

    with running(tmp_path) as collector:
        collector.write(READINGS)
        collector.wait_for(end_of(READINGS))

        assert said(collector) == state
    assert history(tmp_path) == changes
    assert {"lost", "failing", "degraded"} <= {change.state for change in changes}


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Stopped in the middle and started again, it says what a run in one go says."""
    state, changes = expected()
    with running(tmp_path) as collector:
        collector.write(READINGS[:MIDDLE])
        collector.wait_for(end_of(READINGS[:MIDDLE]))

    with running(tmp_path) as collector:
        collector.write(READINGS[MIDDLE:])
        collector.wait_for(end_of(READINGS))

        assert said(collector) == state
    assert history(tmp_path) == changes


def test_after_a_crash_no_change_is_told_twice(tmp_path: Path) -> None:
    """Without the checkpoint of an orderly end it judges again from an older one, in silence."""
    state, changes = expected()
    crashed = tmp_path / "crashed"
    with running(tmp_path / "first") as collector:
        for part in (READINGS[: MIDDLE // 3], READINGS[MIDDLE // 3 : MIDDLE]):
            collector.write(part)
            collector.wait_for(end_of(READINGS[: MIDDLE // 3]))
        collector.wait_for(end_of(READINGS[:MIDDLE]))
        # What a power cut would leave: files as they are now.
        shutil.copytree(tmp_path / "first", crashed)
    ledger = Ledger(crashed / "farm.sqlite")
    checkpoint = ledger.checkpoint()
    ledger.close()
    assert checkpoint is not None
    assert checkpoint.position < MIDDLE // 2

    with running(crashed) as collector:
        collector.write(READINGS[MIDDLE:])
        collector.wait_for(end_of(READINGS))

        assert said(collector) == state
    assert history(crashed) == changes


def test_a_checkpoint_that_cannot_be_read_costs_no_verdict(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is judged anew, and what was said before is not said again."""
    state, changes = expected()
    with running(tmp_path) as collector:
        collector.write(READINGS[:MIDDLE])
        collector.wait_for(end_of(READINGS[:MIDDLE]))
    ledger = Ledger(tmp_path / "farm.sqlite")
    ledger.commit(ledger.last_tick_ns(), [], Checkpoint(MIDDLE, b"rubbish"))
    ledger.close()

    with running(tmp_path) as collector:
        collector.write(READINGS[MIDDLE:])
        collector.wait_for(end_of(READINGS))

        assert said(collector) == state
    assert history(tmp_path) == changes
    assert "judging anew" in caplog.text


class Heard(logging.Handler):
    """Tells when something was logged."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """See the base class."""
        if self._text in record.getMessage():
            self.event.set()


def test_a_full_disk_stops_nothing_for_good(tmp_path: Path) -> None:
    """While the ledger cannot be written nothing is concluded; then everything is, once."""
    state, changes = expected()
    heard = Heard("ledger: cannot be written")
    log = logging.getLogger("farmhand_collector.live")
    log.addHandler(heard)
    try:
        with running(tmp_path) as collector:
            # SQLite's own limit stands for the disk's.
            collector.ledger._connection.pragma("max_page_count", 1)
            collector.write(READINGS)
            assert heard.event.wait(PATIENCE_SECONDS)
            collector.ledger._connection.pragma("max_page_count", 1_000_000)
            collector.wait_for(end_of(READINGS))

            assert said(collector) == state
    finally:
        log.removeHandler(heard)
    assert history(tmp_path) == changes


class Telling(EmbeddedStore):
    """A store that tells when it was written to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.written = threading.Event()

    def write(self, readings: Sequence[Reading]) -> None:
        """See the base class."""
        super().write(readings)
        self.written.set()


def test_time_passes_although_no_agent_speaks(tmp_path: Path) -> None:
    """The collector writes its pulse into the store, where a recording finds it too."""
    store, ledger = Telling(tmp_path / "readings"), Ledger(tmp_path / "farm.sqlite")
    live = Live(store, ledger, View(None), "barn")

    live.start()
    assert store.written.wait(PATIENCE_SECONDS)
    live.stop()

    (block,), _ = store.readings(0)
    assert (block.measurement, dict(block.tags[0])) == ("collector", {"site": "barn"})
    store.close()
    ledger.close()


def test_stopping_before_anything_was_heard_leaves_a_usable_checkpoint(tmp_path: Path) -> None:
    """The next start begins at the beginning."""
    with running(tmp_path):
        pass

    with running(tmp_path) as collector:
        collector.write(READINGS[:MIDDLE])
        collector.wait_for(end_of(READINGS[:MIDDLE]))


def test_judging_restored_at_any_place_ends_the_same() -> None:
    """From a checkpoint between any two posts: verdicts and changes of the rest are the same."""
    size = 400
    posts = [READINGS[begin : begin + size] for begin in range(0, len(READINGS), size)]
    state, changes = expected()

    for cut in range(1, len(posts), 3):
        log, told = ChangeLog(), []
        first, arrival = Judge(), 1
        for post in posts[:cut]:
            for tick in first.feed(block_of(post, arrival)):
                told += log.of(tick)
            arrival += len(post)
        pending = first.pending_since()
        position = arrival - 1 if pending is None else pending - 1
        second = Judge(state=type(first.state).from_bytes(first.state.to_bytes()))

        for tick in second.feed(block_of(READINGS[position:], position + 1)):
            told += log.of(tick)

        assert farm_state(tick.frame.roster, tick.verdicts) == state
        assert told == changes
