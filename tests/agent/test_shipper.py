"""Shipping against a real server on loopback."""

import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from email.utils import formatdate
from pathlib import Path

import pytest

from farmhand_agent.clock import Clock
from farmhand_agent.config import Ship
from farmhand_agent.shipper import Shipper, State
from farmhand_agent.spool import Spool
from farmhand_agent.spool_boot import EARLIEST_NS
from tests.agent.sink import (
    ACK_LOST,
    HANG_UP,
    OK,
    PATIENCE_SECONDS,
    TRICKLE,
    Answer,
    Sink,
    running_sink,
)

CAP = 4 * 2**20


class QuickClock(Clock):
    """Pauses are written down and pass at once, or as soon as the gate is open."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.paused = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def wait(self, event: threading.Event, seconds: float) -> None:  # noqa: ARG002 - the interface
        if seconds:
            self.pauses.append(seconds)
            self.paused.set()
            self.gate.wait(PATIENCE_SECONDS)
        self._now += seconds


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as sink:
        yield sink


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.sqlite", CAP)
    yield spool
    spool.close()


@pytest.fixture
def clock() -> QuickClock:
    return QuickClock()


@pytest.fixture
def shipper(spool: Spool, sink: Sink, clock: QuickClock) -> Iterator[Shipper]:
    shipper = make(spool, sink, clock)
    yield shipper
    finish(shipper, clock)


def make(spool: Spool, sink: Sink, clock: QuickClock) -> Shipper:
    token_file = spool.path.with_name("token")
    token_file.write_text("s3cret")
    ship = Ship(url=sink.url, token_file=str(token_file), org="org", bucket="farm")
    return Shipper(spool, ship, rng=random.Random(1), clock=clock)


def finish(shipper: Shipper, clock: QuickClock) -> None:
    clock.gate.set()
    shipper.stop(PATIENCE_SECONDS)


def line(number: int, time_ns: int | None = None) -> str:
    return f"card,slot={number} power_watts={number}.0 {time_ns or 10**18 + number}"


def lines(*numbers: int) -> list[str]:
    return [line(number) for number in numbers]


def test_what_is_put_is_accepted_and_leaves_the_spool(
    spool: Spool, sink: Sink, shipper: Shipper
) -> None:
    """The plain way: line protocol arrives as it was put, under token, bucket and precision."""
    shipper.start()
    spool.put(lines(1, 2))
    sink.wait_until(lambda: sink.accepted == lines(1, 2))
    shipper.stop(PATIENCE_SECONDS)
    assert spool.points == 0
    assert sink.posts[0].token == "Token s3cret"
    assert sink.posts[0].query == {"org": ["org"], "bucket": ["farm"], "precision": ["ns"]}


def test_live_readings_go_before_the_backlog(spool: Spool, sink: Sink, clock: QuickClock) -> None:
    """What was left by an earlier run waits until the newest is sent, then goes oldest first."""
    for number in (1, 2, 3):
        spool.put(lines(number))
    shipper = make(spool, sink, clock)
    spool.put(lines(4))
    spool.put(lines(5))
    shipper.start()
    sink.wait_until(lambda: len(sink.accepted) == 5)
    shipper.stop(PATIENCE_SECONDS)
    assert [post.lines for post in sink.posts] == [lines(4, 5), lines(1, 2, 3)]


def test_a_reading_that_failed_lets_newer_ones_go_first(
    spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper
) -> None:
    """After a failed post the readings in it are backlog: live ones do not wait for them."""
    sink.script = [Answer(503)]
    clock.gate.clear()
    spool.put(lines(1))
    shipper.start()
    sink.wait_until(lambda: len(sink.posts) == 1)
    spool.put(lines(2))
    clock.gate.set()
    sink.wait_until(lambda: sink.accepted == lines(2, 1))


@pytest.mark.parametrize("failure", [Answer(500), Answer(503), Answer(429), HANG_UP])
def test_an_outage_loses_nothing(
    spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper, failure: Answer
) -> None:
    """What is put while the store fails is delivered once it works again."""
    sink.always = failure
    shipper.start()
    for number in range(20):
        spool.put(lines(number))
    sink.wait_until(lambda: len(sink.posts) >= 3)
    sink.always = OK
    sink.wait_until(lambda: sorted(sink.accepted) == sorted(lines(*range(20))))
    finish(shipper, clock)
    assert (spool.points, spool.dropped_points_total) == (0, 0)


def test_readings_survive_a_restart_while_the_store_is_down(
    tmp_path: Path, sink: Sink, clock: QuickClock
) -> None:
    """An agent that stops during an outage delivers in its next life."""
    sink.always = Answer(503)
    first = Spool(tmp_path / "spool.sqlite", CAP)
    first.put(lines(1, 2))
    shipper = make(first, sink, clock)
    shipper.start()
    shipper.stop(PATIENCE_SECONDS)
    first.close()
    sink.always = OK
    second = Spool(tmp_path / "spool.sqlite", CAP)
    shipper = make(second, sink, clock)
    shipper.start()
    sink.wait_until(lambda: sink.accepted == lines(1, 2))
    shipper.stop(PATIENCE_SECONDS)
    second.close()


def test_a_lost_acknowledgement_sends_twice_but_misses_nothing(
    spool: Spool, sink: Sink, shipper: Shipper
) -> None:
    """The store kept the readings and could not say so: they come again, unchanged."""
    sink.script = [ACK_LOST]
    spool.put(lines(1, 2))
    shipper.start()
    sink.wait_until(lambda: sink.accepted == lines(1, 2) * 2)


def test_pauses_grow_at_random_up_to_a_minute(
    spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper
) -> None:
    """Each pause is drawn from a range that doubles: 1 s, 2 s, 4 s and so on up to 60 s."""
    sink.always = Answer(500)
    spool.put(lines(1))
    shipper.start()
    sink.wait_until(lambda: len(sink.posts) > 10)
    rng = random.Random(1)
    limits = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert clock.pauses[:9] == [rng.uniform(0.0, limit) for limit in limits]


@pytest.mark.parametrize(("header", "least"), [("30", 30.0), ("99999", 300.0), ("soon", 0.0)])
def test_retry_after_is_honoured_within_reason(
    spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper, header: str, least: float
) -> None:
    """A busy store is left alone as long as it asks, at most five minutes."""
    sink.script = [Answer(429, (("Retry-After", header),))]
    spool.put(lines(1))
    shipper.start()
    sink.wait_until(lambda: sink.accepted == lines(1))
    assert least <= clock.pauses[0] <= least + 1.0


def test_retry_after_may_be_a_date(
    spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper
) -> None:
    """A date that has passed asks for no pause, one far ahead is cut to five minutes."""
    dates = ("Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT")
    sink.script = [Answer(503, (("Retry-After", date),)) for date in dates]
    spool.put(lines(1))
    shipper.start()
    sink.wait_until(lambda: sink.accepted == lines(1))
    assert clock.pauses[0] <= 1.0
    assert 300.0 <= clock.pauses[1] <= 302.0


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_a_refused_token_holds_everything(
    spool: Spool,
    sink: Sink,
    clock: QuickClock,
    shipper: Shipper,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    """Nothing is dropped for a wrong token or bucket; it is tried each minute, and said once."""
    sink.script = [Answer(status)] * 4
    clock.gate.clear()
    spool.put(lines(1))
    with caplog.at_level(logging.INFO, "farmhand_agent.shipper"):
        shipper.start()
        assert clock.paused.wait(PATIENCE_SECONDS)
        assert shipper.state == "held"
        clock.gate.set()
        sink.wait_until(lambda: sink.accepted == lines(1))
        finish(shipper, clock)
    assert shipper.state == "shipping"
    assert clock.pauses[:4] == [60.0] * 4
    assert spool.dropped_points_total == 0
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert f"HTTP {status}" in caplog.records[0].getMessage()


def test_a_bad_line_is_set_aside_and_the_others_are_delivered(
    spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper, tmp_path: Path
) -> None:
    """One line that the store cannot take blocks nobody: it is kept for a person and counted."""
    bad = lines(7, 42)
    sink.is_bad = bad.__contains__
    for start in range(0, 100, 10):
        spool.put(lines(*range(start, start + 10)))
    shipper.start()
    good = [text for text in lines(*range(100)) if text not in bad]
    sink.wait_until(lambda: sorted(sink.accepted) == sorted(good))
    finish(shipper, clock)
    assert (spool.points, spool.dropped_points_total) == (0, 2)
    assert (tmp_path / "rejected.lp").read_text() == "".join(f"{text}\n" for text in bad)
    assert (tmp_path / "rejected.lp").stat().st_mode & 0o777 == 0o600


def test_a_store_that_keeps_the_good_lines_gets_them_again(
    spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper
) -> None:
    """A partial write is taken apart like a refused one: sending again changes nothing."""
    bad = line(3)
    sink.is_bad = bad.__eq__
    sink.keeps_good_lines = True
    spool.put(lines(1, 2, 3, 4))
    shipper.start()
    sink.wait_until(lambda: set(sink.accepted) == set(lines(1, 2, 4)))
    finish(shipper, clock)
    assert (spool.points, spool.dropped_points_total) == (0, 1)


def test_a_store_that_refuses_everything_costs_nothing(
    spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper
) -> None:
    """A proxy that answers 400 to all is not our readings' fault: they are held."""
    sink.always = Answer(400)
    for start in range(0, 1000, 10):
        spool.put(lines(*range(start, start + 10)))
    shipper.start()
    sink.wait_until(lambda: len(sink.posts) > 500)
    assert shipper.state is State.HELD
    sink.always = OK
    sink.wait_until(lambda: len(set(sink.accepted)) == 1000)
    finish(shipper, clock)
    assert (spool.points, spool.dropped_points_total) == (0, 0)


def test_a_batch_of_bad_lines_goes_once_another_is_accepted(
    spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper
) -> None:
    """That the store took a later reading proves that the earlier ones are to blame."""
    sink.is_bad = lambda text: text in lines(1, 2)
    clock.gate.clear()
    spool.put(lines(1, 2))
    shipper.start()
    sink.wait_until(lambda: [post.lines for post in sink.posts][-1:] == [lines(2)])
    assert spool.dropped_points_total == 0
    spool.put(lines(3))
    clock.gate.set()
    sink.wait_until(lambda: sink.accepted == lines(3))
    finish(shipper, clock)
    assert (spool.points, spool.dropped_points_total) == (0, 2)


def test_many_bad_lines_do_not_hold_up_live_readings(
    spool: Spool, sink: Sink, clock: QuickClock
) -> None:
    """Taking a bad backlog apart makes room for live readings in between, and comes to an end."""
    sink.is_bad = lambda text: "bad" in text
    for number in range(20):
        spool.put([line(number).replace("card", "bad")] * 10)
    shipper = make(spool, sink, clock)
    shipper.start()
    live: list[str] = []
    while spool.dropped_points_total < 200:
        live.append(line(len(live)))
        spool.put(live[-1:])
        sink.wait_until(lambda: sink.accepted == live)
    assert len(live) > 1
    finish(shipper, clock)
    assert spool.points == 0


def test_the_file_of_refused_lines_is_bounded(
    spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper, tmp_path: Path
) -> None:
    """A store that refuses much cannot fill the disk; the newest lines stay."""
    sink.is_bad = lambda text: "bad" in text
    shipper.start()
    for number in range(30):
        spool.put([f'bad,slot={number} text="{"x" * 50_000}" 1', line(number)])
        sink.wait_until(lambda number=number: line(number) in sink.accepted)  # type: ignore[misc]
    finish(shipper, clock)
    assert spool.dropped_points_total == 30
    kept = (tmp_path / "rejected.lp").read_text().splitlines()
    assert sum(len(text) + 1 for text in kept) <= 1_000_000
    assert kept[-1].startswith("bad,slot=29 ") and all(text.startswith("bad,") for text in kept)


def test_posts_shrink_to_what_the_store_takes(spool: Spool, sink: Sink, clock: QuickClock) -> None:
    """After a 413 bodies stay below what was too large."""
    sink.max_body_bytes = 100_000
    fill(spool, 20)
    shipper = make(spool, sink, clock)
    shipper.start()
    sink.wait_until(lambda: len(sink.accepted) == 20)
    finish(shipper, clock)
    assert (spool.points, spool.dropped_points_total) == (0, 0)
    assert [post.status for post in sink.posts].count(413) <= 5


def test_posts_shrink_on_a_slow_line(spool: Spool, sink: Sink, clock: QuickClock) -> None:
    """A post that did not get through is tried with half as much, which may."""
    fill(spool, 20)
    sink.script = [HANG_UP, HANG_UP]
    shipper = make(spool, sink, clock)
    shipper.start()
    sink.wait_until(lambda: len(sink.accepted) == 20)
    finish(shipper, clock)
    sizes = [len(post.lines) for post in sink.posts]
    assert sizes[:3] == [19, 9, 4]


def fill(spool: Spool, count: int) -> None:
    """Batches of a little over 50 kB, one line each."""
    for number in range(count):
        spool.put([f'card,slot={number} text="{"x" * 50_000}" {number + 1}'])


def test_the_backlog_is_paced(spool: Spool, sink: Sink, clock: QuickClock) -> None:
    """Between posts of backlog there is a pause in proportion, 2 MB/s in all."""
    fill(spool, 40)
    shipper = make(spool, sink, clock)
    shipper.start()
    sink.wait_until(lambda: len(sink.accepted) == 40)
    finish(shipper, clock)
    assert clock.pauses == [pytest.approx(19 * 50_000 / 2e6, rel=0.01)] * 2


def test_the_clock_offset_is_the_stores_date_minus_ours(
    spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper
) -> None:
    """A store that is an hour ahead shows as an offset of an hour, good to a second or two."""
    assert shipper.clock_offset_seconds is None
    sink.date = formatdate(time.time() + 3600, usegmt=True)
    spool.put(lines(1))
    shipper.start()
    sink.wait_until(lambda: sink.accepted == lines(1))
    finish(shipper, clock)
    assert shipper.clock_offset_seconds == pytest.approx(3600, abs=10)


class TestWrongClock:
    """Readings dated by a clock that was wrong, and a store that takes no absurd times."""

    YEAR = 365 * 86400

    @pytest.fixture
    def spool(self, tmp_path: Path, clock: QuickClock) -> Iterator[Spool]:
        """Fill a spool while the clock is a year behind; it is right again now."""
        spool = Spool(
            tmp_path / "spool.sqlite",
            CAP,
            boot_time=lambda: clock.boot_time_ns() - self.YEAR * 10**9,
        )
        yield spool
        spool.close()

    def test_refused_readings_are_dated_again(
        self, spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper
    ) -> None:
        """They arrive under the time at which they were taken, and none is dropped."""
        now_ns = time.time_ns()
        sink.is_bad = lambda text: int(text.rpartition(" ")[2]) < now_ns - 86400 * 10**9
        old_ns = now_ns - self.YEAR * 10**9
        spool.put([line(number, old_ns + number) for number in range(10)])
        shipper.start()
        sink.wait_until(lambda: len(sink.accepted) == 10)
        finish(shipper, clock)
        assert (spool.points, spool.dropped_points_total) == (0, 0)
        shifts = {int(t.rpartition(" ")[2]) - n - now_ns for n, t in enumerate(sink.accepted)}
        assert len(shifts) == 1
        assert abs(shifts.pop()) < 3 * 10**9

    def test_accepted_readings_keep_their_time(
        self, spool: Spool, sink: Sink, shipper: Shipper
    ) -> None:
        """A store that takes them gets them as they are: what was sent is never sent otherwise."""
        spool.put(lines(1))
        shipper.start()
        sink.wait_until(lambda: sink.accepted == lines(1))


class TestEarlierBoot:
    """Readings that a boot with a wrong clock left behind, shipped by a boot that knows better."""

    UPTIME_NS = 1000 * 10**9

    @pytest.fixture
    def path(self, tmp_path: Path, sink: Sink) -> Path:
        """Path of a spool whose store takes no time before 2026."""
        sink.is_bad = lambda text: stamp(text) < EARLIEST_NS
        return tmp_path / "spool.sqlite"

    def deliver(self, path: Path, sink: Sink, clock: QuickClock, count: int) -> list[int]:
        """Ship everything in a new boot; the times under which the store took it."""
        spool = Spool(path, CAP, boot="now")
        shipper = make(spool, sink, clock)
        shipper.start()
        sink.wait_until(lambda: len(sink.accepted) == count)
        finish(shipper, clock)
        assert (spool.points, spool.dropped_points_total) == (0, 0)
        spool.close()
        return [stamp(text) for text in sink.accepted]

    def test_what_was_learned_then_is_used_now(
        self, path: Path, sink: Sink, clock: QuickClock
    ) -> None:
        """The store answered in that boot, if only to say that it is busy."""
        began_ns = clock.boot_time_ns() - 86400 * 10**9
        with closing(Spool(path, CAP, boot="then", boot_time=lambda: 0)) as spool:
            spool.put([line(1, self.UPTIME_NS), line(2, self.UPTIME_NS + 5)])
            spool.learn_boot(began_ns)
        times = self.deliver(path, sink, clock, 2)
        assert times[1] - times[0] == 5
        assert abs(times[0] - began_ns - self.UPTIME_NS) <= 10**9

    def test_a_boot_that_never_met_the_store_ended_as_the_next_began(
        self, path: Path, sink: Sink, clock: QuickClock
    ) -> None:
        """Its clock was impossible: it is dated as late as can be, and nothing is dropped."""
        with closing(Spool(path, CAP, boot="then", boot_time=lambda: 0)) as spool:
            spool.put([line(1, self.UPTIME_NS)])
            spool.put([line(2, self.UPTIME_NS + 7 * 10**9)])
        times = self.deliver(path, sink, clock, 2)
        assert times[1] - times[0] == 7 * 10**9
        assert abs(times[1] - clock.boot_time_ns()) <= 3 * 10**9

    def test_a_clock_that_was_set_later_in_that_boot_is_believed(
        self, path: Path, sink: Sink, clock: QuickClock
    ) -> None:
        """What came before it was set is dated by it."""
        began_ns = clock.boot_time_ns() - 86400 * 10**9
        boot_times = iter([0, began_ns])
        with closing(Spool(path, CAP, boot="then", boot_time=lambda: next(boot_times))) as spool:
            spool.put([line(1, self.UPTIME_NS)])
            spool.put([line(2, began_ns + self.UPTIME_NS + 5)])
        times = self.deliver(path, sink, clock, 2)
        assert sorted(times)[0] == pytest.approx(began_ns + self.UPTIME_NS, abs=1e9)
        assert began_ns + self.UPTIME_NS + 5 in times


def stamp(text: str) -> int:
    return int(text.rpartition(" ")[2])


def test_a_right_clock_leaves_refused_readings_as_they_are(
    spool: Spool, sink: Sink, clock: QuickClock, shipper: Shipper, tmp_path: Path
) -> None:
    """With nothing wrong about the clock a refused time is the reading's own fault."""
    bad = line(2, 5)
    sink.is_bad = bad.__eq__
    spool.put([line(1), bad])
    shipper.start()
    sink.wait_until(lambda: sink.accepted == [line(1)])
    finish(shipper, clock)
    assert (tmp_path / "rejected.lp").read_text() == f"{bad}\n"


def test_stop_sends_what_is_left(spool: Spool, sink: Sink, clock: QuickClock) -> None:
    """Stopping flushes live readings and backlog, without the backlog's pauses."""
    fill(spool, 40)
    shipper = make(spool, sink, clock)
    spool.put(lines(1))
    shipper.stop(PATIENCE_SECONDS)
    shipper.start()
    sink.wait_until(lambda: len(sink.accepted) == 41)
    assert clock.pauses == []


def test_stop_does_not_wait_for_a_stuck_store(spool: Spool) -> None:
    """A store that never answers cannot keep the agent from ending; the readings stay."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        shipper = Shipper(spool, Ship(url=f"http://127.0.0.1:{port}"))
        spool.put(lines(1))
        shipper.start()
        connection, _ = server.accept()
        shipper.stop(0.01)
        assert spool.points == 1
        connection.close()
    shipper.stop(PATIENCE_SECONDS)


def test_stop_does_not_wait_for_an_answer_that_trickles(spool: Spool, sink: Sink) -> None:
    """Nor for one that comes byte by byte; the readings stay."""
    sink.always = TRICKLE
    shipper = Shipper(spool, Ship(url=sink.url))
    spool.put(lines(1))
    shipper.start()
    sink.wait_until(lambda: len(sink.posts) == 1)
    shipper.stop(0.01)
    assert spool.points == 1
    sink.close()
    shipper.stop(PATIENCE_SECONDS)
    assert not shipper.is_alive


def test_stop_before_start_is_nothing(shipper: Shipper) -> None:
    """A service that failed to start may still stop its parts."""
    shipper.stop(0.0)


@pytest.mark.parametrize(
    ("url", "warnings"), [("https://127.0.0.1:1", 1), ("http://127.0.0.1:1", 0)]
)
def test_an_unproven_server_is_warned_of_at_each_start(
    spool: Spool, caplog: pytest.LogCaptureFixture, url: str, warnings: int
) -> None:
    """Whoever switched it off for a moment is reminded."""
    shipper = Shipper(spool, Ship(url=url, verify_tls=False))
    shipper.start()
    shipper.stop(PATIENCE_SECONDS)
    said = [record.getMessage() for record in caplog.records]
    assert [text.startswith("ship.verify_tls is false: ") for text in said] == [True] * warnings


def test_an_outage_is_said_once(
    spool: Spool,
    sink: Sink,
    clock: QuickClock,
    shipper: Shipper,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line when it begins, one when it is over, none for the tries in between."""
    sink.script = [Answer(503)] * 5
    spool.put(lines(1))
    with caplog.at_level(logging.INFO, "farmhand_agent.shipper"):
        shipper.start()
        sink.wait_until(lambda: sink.accepted == lines(1))
        finish(shipper, clock)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_single_failure_is_not_worth_a_line(
    spool: Spool,
    sink: Sink,
    clock: QuickClock,
    shipper: Shipper,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A kept connection that the store closes as it is used is an everyday thing."""
    sink.script = [HANG_UP]
    spool.put(lines(1))
    with caplog.at_level(logging.INFO, "farmhand_agent.shipper"):
        shipper.start()
        sink.wait_until(lambda: sink.accepted == lines(1))
        finish(shipper, clock)
    assert caplog.records == []


def test_a_stores_words_cannot_forge_log_lines(
    spool: Spool,
    sink: Sink,
    clock: QuickClock,
    shipper: Shipper,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Control characters in an answer do not reach the log."""
    sink.script = [Answer(403, body=b"no\n\x1b[2Jall is well")]
    spool.put(lines(1))
    with caplog.at_level(logging.INFO, "farmhand_agent.shipper"):
        shipper.start()
        sink.wait_until(lambda: sink.accepted == lines(1))
        finish(shipper, clock)
    assert caplog.records[0].getMessage().isprintable()
    assert "all is well" in caplog.records[0].getMessage()
