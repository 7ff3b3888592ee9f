"""The watch over events: a real thread on a stand-in for the kernel's log."""

import os
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from farmhand_agent.events.fold import Tags
from farmhand_agent.events.watch import STOP_SECONDS, EventWatch
from farmhand_agent.reading import Reading
from farmhand_agent.sources.kernel.log import Ways
from tests.agent.kernel import Kernel, kernel_log

ADDRESS = "0000:01:00.0"
CARD = {"slot": "3", "card": "GPU-a", "vendor": "nvidia", "model": "GeForce RTX 3090"}
XID = "NVRM: Xid (PCI:0000:01:00): {}, pid=7, name=python3, text"


def here(name: str) -> Tags | None:
    return CARD if name == ADDRESS else None


class Told:
    """What a watch hands on, waited for as it comes."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Reading] = queue.SimpleQueue()
        self.fails = 0

    def put(self, readings: Sequence[Reading]) -> None:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("the spool is gone")
        for reading in readings:
            self.queue.put(reading)

    def next(self) -> tuple[str, str, float]:
        """Kind, code and count of the next event, within a bounded time."""
        fields = self.queue.get(timeout=20.0).fields
        return str(fields["kind"]), str(fields.get("code", "")), float(fields["count"])

    def rest(self) -> list[tuple[str, str, float]]:
        """All events that are left after the watch has ended."""
        return [self.next() for _ in range(self.queue.qsize())]


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with kernel_log() as kernel:
        yield kernel


@pytest.fixture
def told() -> Told:
    return Told()


Start = Callable[[], EventWatch]


@pytest.fixture
def start(kernel: Kernel, told: Told, tmp_path: Path) -> Iterator[Start]:
    """Starts a watch on the stand-in's device; each is stopped at the end."""
    with starting(tmp_path, told, kernel.device) as start:
        yield start


@contextmanager
def starting(tmp_path: Path, told: Told, device: Path) -> Iterator[Start]:
    nothing = tmp_path / "missing"
    ways = Ways(device, nothing, str(nothing))
    watches: list[EventWatch] = []

    def start() -> EventWatch:
        watch = EventWatch(tmp_path / "events.json", told.put, here, ways)
        watches.append(watch)
        watch.start()
        return watch

    yield start
    for watch in watches:
        watch.stop()
        assert not watch.is_alive


def now_usec() -> int:
    return time.monotonic_ns() // 1000


def test_an_xid_is_told_as_it_happens(start: Start, kernel: Kernel, told: Told) -> None:
    """And what the kernel says of other things is not."""
    watch = start()
    kernel.say("eth0: link becomes ready", now_usec())
    kernel.say(XID.format(79), now_usec())
    assert told.next() == ("xid", "79", 1)
    assert watch.how == "kmsg"
    watch.stop()
    assert told.rest() == []


def test_what_the_log_held_at_the_start_is_told(start: Start, kernel: Kernel, told: Told) -> None:
    """In its order, with its own times."""
    kernel.say(XID.format(31), 1_000_000)
    kernel.say(XID.format(79), 2_000_000)
    start()
    first, second = (told.queue.get(timeout=20.0) for _ in range(2))
    assert [first.fields["code"], second.fields["code"]] == ["31", "79"]
    assert second.time_ns - first.time_ns == 1_000_000_001


def test_what_the_driver_tells_too_is_told_once(start: Start, kernel: Kernel, told: Told) -> None:
    """Its library is heard through another thread."""
    watch = start()
    kernel.say(XID.format(31), now_usec())
    assert told.next() == ("xid", "31", 1)
    watch.driver_told(CARD, "31", time.time_ns())
    watch.driver_told(CARD, "62", time.time_ns())
    watch.stop()
    assert told.rest() == [("xid", "62", 1)]


def test_without_a_log_the_driver_is_heard(tmp_path: Path, told: Told) -> None:
    """At once."""
    with starting(tmp_path, told, tmp_path / "none") as start:
        watch = start()
        watch.driver_told(CARD, "62", time.time_ns())
        assert told.next() == ("xid", "62", 1)
        assert watch.how == "none"


def test_errors_of_links_are_told(start: Start, told: Told) -> None:
    """As events of their card; those of one that is not known, by its address."""
    watch = start()
    for errors in (3, 5):
        counted = {"card": {"RxErr": errors}}
        watch.links_counted({ADDRESS: counted, "0000:99:00.0": counted}, time.time_ns())
    known, unknown = (told.queue.get(timeout=20.0) for _ in range(2))
    assert known.tags == CARD
    assert unknown.tags["slot"] == "0000:99:00.0"
    assert (known.fields["kind"], known.fields["code"], known.fields["count"]) == (
        "aer",
        "RxErr",
        2.0,
    )


def test_a_restarted_watch_goes_on_where_it_was(start: Start, kernel: Kernel, told: Told) -> None:
    """The log still has what was told; what came meanwhile is new."""
    usec = now_usec()
    kernel.say(XID.format(79), usec)
    watch = start()
    assert told.next() == ("xid", "79", 1)
    watch.stop()
    kernel.seq = 0
    kernel.say(XID.format(79), usec)
    kernel.say(XID.format(31), usec + 1)
    start()
    assert told.next() == ("xid", "31", 1)


def test_a_storm_is_told_in_a_few_events(start: Start, kernel: Kernel, told: Told) -> None:
    """Nothing of it is lost, though it comes faster than it is looked at."""
    watch = start()
    storm = 2000
    while kernel.seq <= storm:
        try:
            kernel.say(XID.format(31 if kernel.seq < storm else 43), now_usec())
        except BlockingIOError:
            os.sched_yield()
    events = []
    while (event := told.next()) != ("xid", "43", 1):
        events.append(event)
    watch.stop()
    events += told.rest()
    assert sum(count for _, _, count in events) == storm
    assert len(events) < 10


def test_a_spool_that_fails_gets_it_again(
    start: Start, kernel: Kernel, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """The watch survives what is not foreseen."""
    told.fails = 1
    kernel.say(XID.format(79), now_usec())
    start()
    assert told.next() == ("xid", "79", 1)
    assert "unforeseen" in caplog.text


def test_it_stops_at_once(start: Start) -> None:
    """Even though it waits for ever."""
    watch = start()
    started = time.monotonic()
    watch.stop()
    assert time.monotonic() - started < STOP_SECONDS
    assert not watch.is_alive
