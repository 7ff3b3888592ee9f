import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

import pytest

from farmhand_agent.reading import Reading, parse_lines
from farmhand_collector.simulator import plan, run
from farmhand_collector.simulator.post import RefusedError


class Collector(ThreadingHTTPServer):
    """A collector on loopback that keeps what it took; `answers` go before 204."""

    daemon_threads = True

    def __init__(self, answers: tuple[int, ...] = ()) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.asked: Queue[tuple[str, str | None]] = Queue()
        self.taken: Queue[list[Reading]] = Queue()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.put((self.path, self.headers["Authorization"]))
        status = self.server.answers.pop(0) if self.server.answers else 204
        if status == 204:
            self.server.taken.put(list(parse_lines(body)))
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serving(collector: Collector) -> Iterator[Collector]:
    thread = threading.Thread(target=collector.serve_forever, args=(0.02,))
    thread.start()
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    yield from serving(Collector())


@pytest.fixture
def busy_collector() -> Iterator[Collector]:
    yield from serving(Collector(answers=(503, 429)))


@pytest.fixture
def strict_collector() -> Iterator[Collector]:
    yield from serving(Collector(answers=(401,)))


class Simulator(threading.Thread):
    """`run` beside the test, until the block ends."""

    def __init__(self, url: str, history_seconds: float = 300.0) -> None:
        super().__init__()
        self.done = threading.Event()
        self.begin = time.time()
        self._url, self._history = url, history_seconds

    def run(self) -> None:
        run(8, 3, "some", self._url, "secret", self._history, self.done)

    def __enter__(self) -> "Simulator":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.join(10.0)
        assert not self.is_alive()


def test_the_past_is_posted_at_once(collector: Collector) -> None:
    """Five minutes of history arrive in one request, as an agent would write them."""
    with Simulator(collector.url) as simulator:
        readings = collector.taken.get(timeout=10.0)
    path, token = collector.asked.get_nowait()
    assert path == "/api/v2/write?org=farmhand&bucket=farmhand&precision=ns"
    assert token == "Token secret"
    times = [reading.time_ns / 1e9 for reading in readings if reading.measurement == "card"]
    assert min(times) < simulator.begin - 285.0
    assert max(times) < simulator.begin + 10.0
    assert len({reading.tags["card"] for reading in readings if "card" in reading.tags}) == 8


def test_readings_go_on_in_real_time(collector: Collector) -> None:
    """After the past, each interval is sent when it is due and not before."""
    with Simulator(collector.url, history_seconds=20.0) as simulator:
        newest = 0.0
        while newest < simulator.begin + 1.0:
            live = collector.taken.get(timeout=20.0)
            newest = max(reading.time_ns for reading in live) / 1e9
            assert newest <= time.time()


def test_a_busy_collector_is_asked_again(busy_collector: Collector) -> None:
    """Answers of overload lose nothing."""
    with Simulator(busy_collector.url):
        assert busy_collector.taken.get(timeout=10.0)
    assert busy_collector.asked.qsize() >= 3


def test_a_collector_that_comes_late_gets_all() -> None:
    """The simulator waits for a collector that is not there yet."""
    late = Collector()
    url = late.url
    late.server_close()
    with Simulator(url):
        port = int(url.rpartition(":")[2])
        _Late.port = port
        for collector in serving(_Late()):
            assert collector.taken.get(timeout=10.0)


class _Late(Collector):
    """A collector on a port that was chosen before."""

    port = 0

    def __init__(self) -> None:
        super().__init__()
        self.server_close()
        ThreadingHTTPServer.__init__(self, ("127.0.0.1", self.port), _Handler)


def test_a_refusal_ends_the_run(strict_collector: Collector) -> None:
    """A wrong token is an error that says so, not a reason to try for ever."""
    with pytest.raises(RefusedError, match="401"):
        run(4, 3, "none", strict_collector.url, "wrong", 60.0, threading.Event())


def test_an_address_that_is_none_is_refused() -> None:
    """Only http and https addresses with a host will do."""
    with pytest.raises(ValueError, match="expected http"):
        run(4, 3, "none", "collector:8086", "secret", 60.0, threading.Event())


def test_what_runs_is_what_was_planned(collector: Collector) -> None:
    """A plan of the same start names the card that is lost in the readings."""
    start = time.time() - 1800.0
    planned = [fault for fault in plan(24, 4, "all", start) if fault.fault == "lost"]
    stop = threading.Event()
    arguments = (24, 4, "all", collector.url, "secret", 1800.0, stop)
    thread = threading.Thread(target=run, args=arguments, kwargs={"start": start})
    thread.start()
    lost: set[str] = set()
    while not lost:
        readings = collector.taken.get(timeout=20.0)
        lost = {r.tags["card"] for r in readings if r.fields.get("state") == "lost"}
    stop.set()
    thread.join(10.0)
    assert lost == {fault.card for fault in planned}


def test_a_termination_ends_it_cleanly(collector: Collector) -> None:
    """SIGTERM is a normal end; the past that was posted is told in one line."""
    code = (
        "from farmhand_collector.simulator import run;"
        f"run(4, 1, 'none', {collector.url!r}, 'secret', 60.0)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        said = child.stderr.readline()
        child.send_signal(signal.SIGTERM)
        rest = child.stderr.read()
        assert child.wait(10.0) == 0
    assert said == "simulator: history posted, readings are live now\n"
    assert rest == ""
