"""Deadlines and bounds of connections, on real sockets, with limits of fractions of a second."""

import inspect
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http import h11_impl

from farmhand_collector.http_server import BoundedProtocol, ConnectionLimits, Door

QUICK = ConnectionLimits(
    header_seconds=0.3, body_seconds=0.4, idle_seconds=0.6, stall_seconds=0.4, loopback_exempt=False
)
GET = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE_BYTES = 32 << 20


async def hello(_request: Request) -> Response:
    """Answer at once, without a look at the body."""
    return PlainTextResponse("hello")


async def size(request: Request) -> Response:
    """Answer with the size of the body."""
    try:
        return PlainTextResponse(str(len(await request.body())))
    except ClientDisconnect:
        return PlainTextResponse("too late")


async def large(_request: Request) -> Response:
    """Answer with more than any buffer of a socket holds."""
    return PlainTextResponse("x" * LARGE_BYTES)


ROUTES = [
    Route("/hello", hello, methods=["GET", "POST"]),
    Route("/size", size, methods=["POST"]),
    Route("/large", large),
]


class Served:
    """A server on loopback, and its door."""

    def __init__(self, door: Door, port: int) -> None:
        self.door = door
        self._port = port

    def connect(self, receive_bytes: int | None = None) -> socket.socket:
        wire = socket.socket()
        if receive_bytes is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        wire.settimeout(20)
        wire.connect(("127.0.0.1", self._port))
        return wire

    def ask(self, request: bytes = GET) -> bytes:
        with self.connect() as wire:
            wire.sendall(request)
            return wire.recv(4096)

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for what the server's thread is about to do."""
        end = time.monotonic() + 20
        while not true():
            assert time.monotonic() < end, self.door.counts
            time.sleep(0.01)


@contextmanager
def serving(limits: ConnectionLimits) -> Iterator[Served]:
    """Serve on a free port of loopback."""
    door = Door(limits)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        Starlette(routes=ROUTES),
        http=door.protocol(),
        lifespan="off",
        log_config=None,
        timeout_keep_alive=door.idle_limit_of_server(),
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Served(door, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def quick() -> Iterator[Served]:
    """A server without patience."""
    with serving(QUICK) as served:
        yield served


def is_closed(wire: socket.socket) -> bool:
    """Read until the other side closes; its time-out fails the test."""
    try:
        while wire.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def answers(wire: socket.socket, count: int, body: bytes = b"hello") -> bytes:
    """Read so many answers of a body."""
    text = b""
    while text.count(b"\r\n\r\n" + body) < count:
        chunk = wire.recv(65536)
        assert chunk, text
        text += chunk
    assert text.count(b"HTTP/1.1 200") == count
    return text


def trickle(wire: socket.socket, text: bytes) -> None:
    """Send byte by byte, more often than any deadline, until the other side has had enough."""
    try:
        for number in range(len(text)):
            wire.sendall(text[number : number + 1])
            time.sleep(0.02)
    except ConnectionError:
        return
    raise AssertionError("all of it was taken")


# --- what it is built on


def test_uvicorn_is_what_the_deadlines_rely_on() -> None:
    """Fails when uvicorn changes inside; look at `http_server.py` before a newer one is let in."""
    assert uvicorn.__version__.startswith("0.54."), (
        f"uvicorn {uvicorn.__version__}: check that BoundedProtocol still sees each stage, then "
        "change the version here"
    )
    protocol, cycle = h11_impl.H11Protocol, h11_impl.RequestResponseCycle
    overridden = [name for name, _ in inspect.getmembers(BoundedProtocol, inspect.isfunction)]
    for name in ("connection_made", "connection_lost", "data_received", "on_response_complete"):
        assert name in overridden
        assert hasattr(protocol, name), f"uvicorn's H11Protocol has no {name} any more"
    for name in ("send_400_response", "pause_writing", "resume_writing"):
        assert hasattr(protocol, name), f"uvicorn's H11Protocol has no {name} any more"
    made = inspect.getsource(protocol.__init__)
    for name in ("self.app", "self.conn", "self.logger", "self.transport", "self.cycle"):
        assert f"{name}" in made, f"uvicorn's H11Protocol sets no {name} any more"
    handled = inspect.getsource(protocol.handle_events)
    for text in ("app = self.app", "on_response=self.on_response_complete", "self.logger.warning"):
        assert text in handled, f"uvicorn no longer does `{text}` where a request begins"
    begun = inspect.getsource(cycle.__init__)
    for name in ("response_complete", "disconnected", "message_event"):
        assert f"self.{name}" in begun, f"uvicorn's RequestResponseCycle has no {name} any more"
    assert h11.Connection(h11.SERVER).trailing_data == (b"", False)


# --- deadlines


def test_who_says_nothing_is_closed(quick: Served) -> None:
    """From the connection on."""
    before = quick.door.counts.closed["header_slow"]
    with quick.connect() as wire:
        assert is_closed(wire)
    assert quick.door.counts.closed["header_slow"] > before


def test_a_header_that_stops_is_closed(quick: Served) -> None:
    """Half of one is no more than none."""
    with quick.connect() as wire:
        wire.sendall(GET[:20])
        assert is_closed(wire)


def test_a_header_that_trickles_is_closed(quick: Served) -> None:
    """The deadline is absolute: further bytes do not move it."""
    with quick.connect() as wire:
        trickle(wire, b"GET /hello HTTP/1.1\r\nX: " + b"x" * 10_000)


def test_the_header_of_a_further_request_has_a_deadline_too(quick: Served) -> None:
    """It begins with the first byte."""
    before = quick.door.counts.closed["header_slow"]
    with quick.connect() as wire:
        wire.sendall(GET)
        assert answers(wire, 1)
        wire.sendall(GET[:20])
        assert is_closed(wire)
    assert quick.door.counts.closed["header_slow"] == before + 1


@pytest.mark.parametrize("path", [b"/size", b"/hello"], ids=["wanted", "not wanted"])
def test_a_body_that_stops_is_closed(quick: Served, path: bytes) -> None:
    """Whether the application waits for it or has answered already."""
    before = quick.door.counts.closed["body_slow"]
    with quick.connect() as wire:
        wire.sendall(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        assert is_closed(wire)
    assert quick.door.counts.closed["body_slow"] == before + 1


@pytest.mark.parametrize("path", [b"/size", b"/hello"], ids=["wanted", "not wanted"])
def test_a_body_that_trickles_is_closed(quick: Served, path: bytes) -> None:
    """The time-out of uvicorn itself would begin anew with each byte."""
    with quick.connect() as wire:
        wire.sendall(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n")
        trickle(wire, b"x" * 9999)


def test_an_idle_connection_is_closed(quick: Served) -> None:
    """After a longer while than a slow one, so that agents need not connect anew."""
    before = quick.door.counts.closed["idle"]
    with quick.connect() as wire:
        wire.sendall(GET)
        began = time.monotonic()
        assert is_closed(wire)
        assert time.monotonic() - began > QUICK.header_seconds
    assert quick.door.counts.closed["idle"] == before + 1


def test_who_does_not_take_an_answer_is_closed(quick: Served) -> None:
    """It would hold the whole answer in memory."""
    before = quick.door.counts.closed["stalled"]
    with quick.connect(receive_bytes=4096) as wire:
        wire.sendall(GET.replace(b"hello", b"large"))
        quick.until(lambda: quick.door.counts.closed["stalled"] == before + 1)


def test_who_takes_an_answer_slowly_gets_all_of_it(quick: Served) -> None:
    """A terminal behind a slow line is not an attacker: progress counts."""
    with quick.connect() as wire:
        wire.sendall(GET.replace(b"hello", b"large"))
        received, began = 0, time.monotonic()
        while received < LARGE_BYTES:
            chunk = wire.recv(1 << 20)
            assert chunk, f"closed after {received} bytes"
            received += len(chunk)
            time.sleep(0.03)
        assert time.monotonic() - began > QUICK.idle_seconds


def test_requests_on_one_connection_each_have_their_time(quick: Served) -> None:
    """Deadlines are of a request, not of the connection."""
    with quick.connect() as wire:
        for _ in range(6):
            wire.sendall(b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
            time.sleep(0.15)
            wire.sendall(b"full")
            assert answers(wire, 1, b"4")


def test_requests_sent_ahead_are_all_answered(quick: Served) -> None:
    """Bodies that nobody wanted among them."""
    post = b"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nfull"
    with quick.connect() as wire:
        wire.sendall((GET + post) * 5)
        assert answers(wire, 10)


# --- bounds


def header(count: int, size: int) -> bytes:
    """A request with so many further headers of a size."""
    more = b"".join(b"X-%d: %s\r\n" % (n, b"x" * size) for n in range(count))
    return b"GET /hello HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n"


@pytest.mark.parametrize(
    ("count", "size"), [(1, 20_000), (65, 1), (1, 1 << 20), (10_000, 10)], ids=str
)
@pytest.mark.parametrize("pieces", [1, 7])
def test_a_header_is_bounded_however_it_comes(
    quick: Served, count: int, size: int, pieces: int
) -> None:
    """In size and in number, in one piece or several."""
    text = header(count, size)
    step = len(text) // pieces + 1
    with quick.connect() as wire:
        try:
            for start in range(0, len(text), step):
                wire.sendall(text[start : start + step])
                time.sleep(0.01)
        except ConnectionError:
            pass
        assert wire.recv(4096).split(b" ")[1] in (b"400", b"431")


def test_the_header_of_an_agent_passes(quick: Served) -> None:
    """With room to spare for what proxies add."""
    assert quick.ask(header(40, 200)).startswith(b"HTTP/1.1 200")


def test_a_body_that_nobody_wants_is_thrown_away_up_to_a_bound() -> None:
    """So that its sender sees the answer, but cannot send for ever."""
    with serving(ConnectionLimits(unread_bytes=100_000)) as served, served.connect() as wire:
        start = b"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        wire.sendall(start % 50_000 + b"x" * 50_000 + GET)
        assert answers(wire, 2)
        wire.sendall(start % 10**8)
        assert answers(wire, 1)
        with pytest.raises(ConnectionError):
            for _ in range(2000):
                wire.sendall(b"x" * 50_000)
        assert served.door.counts.closed == {"unread": 1}


def test_one_address_has_only_so_many_connections() -> None:
    """Until it closes one of them."""
    limits = ConnectionLimits(per_source=3, loopback_exempt=False)
    with serving(limits) as served:
        wires = [served.connect() for _ in range(3)]
        served.until(lambda: served.door.counts.open == 3)
        with served.connect() as one_more:
            assert is_closed(one_more)
        assert served.door.counts.turned_away == {"source": 1}
        wires.pop().close()
        served.until(lambda: served.door.counts.open == 2)
        assert served.ask().startswith(b"HTTP/1.1 200")
        for wire in wires:
            wire.close()


def test_there_are_only_so_many_connections_in_all() -> None:
    """The machine itself is not exempt from that."""
    with serving(ConnectionLimits(connections=2, per_source=1)) as served:
        wires = [served.connect() for _ in range(2)]
        served.until(lambda: served.door.counts.open == 2)
        with served.connect() as one_more:
            assert is_closed(one_more)
        assert served.door.counts.turned_away == {"connections": 1}
        for wire in wires:
            wire.close()
        served.until(lambda: served.door.counts.open == 0)


def test_what_is_not_http_is_refused_and_counted(
    quick: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """And not logged: a stranger must not be able to fill the log."""
    before = quick.door.counts.refused["malformed"]
    for garbage in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"HELLO\r\n\r\n", b"GET / HTTP/9\r\n\r\n"):
        assert quick.ask(garbage).startswith(b"HTTP/1.1 400")
    upgrade = GET[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert quick.ask(upgrade).startswith(b"HTTP/1.1 200")
    assert quick.door.counts.refused["malformed"] == before + 3
    assert caplog.records == []


@pytest.mark.parametrize("path", [b"/size", b"/hello"], ids=["wanted", "not wanted"])
def test_a_body_that_is_not_http_ends_the_connection(
    quick: Served, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether an answer was begun or not; uvicorn alone would fail in the event loop."""
    with quick.connect() as wire:
        wire.sendall(
            b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        time.sleep(0.1)
        wire.sendall(b"nonsense\r\n")
        assert is_closed(wire)
    assert quick.ask().startswith(b"HTTP/1.1 200")
    assert caplog.records == []


def test_all_that_came_have_gone(quick: Served) -> None:
    """Whatever ended a connection, its place is free again."""
    quick.until(lambda: quick.door.counts.open == 0)
    door: Any = quick.door
    assert not door._by_source
