"""A collector that is abused from all sides at once goes on taking what good agents post.

The server runs in a process of its own, on sockets, with deadlines of about a second; the limits on
size are those of a farm.
"""

import gzip
import http.client
import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette

from farmhand_agent.reading import Reading, to_line
from farmhand_collector.access import of_token
from farmhand_collector.http_server import ConnectionLimits, Door
from farmhand_collector.ingest import Ingest, Limits
from farmhand_collector.store.embedded import EmbeddedStore
from farmhand_collector.store.reader import EmbeddedReader
from tests.collector.store.examples import card_tags, read_all
from tests.system.programs import TOKEN, wait_until

pytestmark = pytest.mark.system

STAGE_SECONDS = 1.0
PATIENCE_SECONDS = 20.0
"""In which the server has to close what it should after a second; machines are busy."""
CONNECTIONS = ConnectionLimits(
    header_seconds=STAGE_SECONDS,
    body_seconds=1.5 * STAGE_SECONDS,
    idle_seconds=2 * STAGE_SECONDS,
    stall_seconds=2 * STAGE_SECONDS,
)
POSTS = Limits(body_seconds=STAGE_SECONDS)
GROWTH_BYTES = 160 << 20
"""Most that the server's memory may grow under abuse: its threads keep what they once used. One
bomb that went off would take three times as much."""

POST = b"POST /api/v2/write HTTP/1.1\r\nHost: x\r\nAuthorization: Token " + TOKEN.encode() + b"\r\n"
STRANGER = b"POST /api/v2/write HTTP/1.1\r\nHost: x\r\nAuthorization: Token wrong\r\n"


def serve(directory: Path) -> None:
    """Serve in this process until it is ended; prints the port."""
    store = EmbeddedStore(directory)
    ingest = Ingest(store, of_token(TOKEN), limits=POSTS)
    door = Door(CONNECTIONS)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(
        Starlette(routes=ingest.routes()),
        http=door.protocol(),
        lifespan="off",
        log_level="warning",
        timeout_keep_alive=door.idle_limit_of_server(),
    )
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[listener])


class Server:
    """The process under abuse."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "readings"
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.system.test_abuse", str(self.directory)],
                cwd=Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline() or b"0")
        assert self.port, self.log()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def memory_bytes(self, name: str = "VmRSS") -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) * 1024

    def log(self) -> str:
        return self._log.read_text()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests: what one kind of abuse leaves behind, the next one meets."""
    running = Server(tmp_path_factory.mktemp("abused"))
    yield running
    running.end()


class GoodAgent:
    """Posts a reading at a time on a kept connection, and remembers how it went."""

    def __init__(self, server: Server, slot: int) -> None:
        self._port = server.port
        self._tags = card_tags(slot)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.accepted: list[int] = []
        self.refused: list[str] = []

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
        headers = {"Authorization": f"Token {TOKEN}"}
        while not self._stop.wait(0.05):
            at_ns = time.time_ns()
            line = to_line(Reading("card", self._tags, {"power_watts": 250.0}, at_ns))
            try:
                connection.request("POST", "/api/v2/write", line.encode(), headers)
                response = connection.getresponse()
                told = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.refused.append(repr(error))
                connection.close()
                continue
            if response.status == 204:
                self.accepted.append(at_ns)
            else:
                self.refused.append(f"{response.status} {told!r}")
        connection.close()

    def start(self) -> None:
        self._thread.start()
        self._wait_for_another()

    def stop(self) -> None:
        self._wait_for_another()
        self._stop.set()
        self._thread.join()

    def _wait_for_another(self) -> None:
        count = len(self.accepted)
        wait_until(lambda: len(self.accepted) > count, PATIENCE_SECONDS, "a good post is taken")


_slots = iter(range(10**6))


@contextmanager
def good_agent(server: Server) -> Iterator[None]:
    """An agent that posts while the block runs; all of it must be taken, and kept."""
    agent = GoodAgent(server, next(_slots))
    agent.start()
    try:
        yield
    finally:
        agent.stop()
    assert agent.refused == []
    kept = {row.time_ns for row in read_all(EmbeddedReader(server.directory))}
    assert kept >= set(agent.accepted)


# --- kinds of abuse: each sends what it wants and returns what it was told before the end


def send(wire: socket.socket, text: bytes, step: int = 1 << 16, pause: float = 0.0) -> bytes:
    """Send in steps, until all is sent or the other side has had enough; what it said meanwhile.

    An answer has to be read as it comes: the end of the connection may take it away.
    """
    said = b""
    try:
        for start in range(0, len(text), step):
            wire.sendall(text[start : start + step])
            while select.select([wire], [], [], pause)[0]:
                chunk = wire.recv(65536)
                if not chunk:
                    return said
                said += chunk
    except OSError:
        pass
    return said


def told(wire: socket.socket) -> bytes:
    """What comes until the other side closes; its time-out fails the test."""
    text = b""
    try:
        while chunk := wire.recv(65536):
            text += chunk
    except ConnectionError:
        pass
    return text


def sending(text: bytes, trickling: bytes = b"", step: int = 1) -> Callable[[Server], bytes]:
    """Abuse by sending something, then something more in small steps."""

    def abuse(server: Server) -> bytes:
        with server.connect() as wire:
            said = send(wire, text)
            return said + send(wire, trickling, step, 0.1) + told(wire)

    return abuse


if __name__ == "__main__":
    # Does not return: what follows is large, and must not be in the memory that is measured.
    serve(Path(sys.argv[1]))

MANY_HEADERS = b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
BOMB = gzip.compress(bytes(500 << 20), mtime=0)
ABUSES = {
    "says nothing": (sending(b""), b""),
    "stops within the header": (sending(POST), b""),
    "header at a byte at a time": (sending(POST, b"X: " + b"x" * 5000), b""),
    "stops before the body": (sending(POST + b"Content-Length: 100\r\n\r\n"), b"408"),
    "body at a byte at a time": (
        sending(POST + b"Content-Length: 5000\r\n\r\n", b"#" * 5000),
        b"408",
    ),
    "stranger's body at a byte at a time": (
        sending(STRANGER + b"Content-Length: 5000\r\n\r\n", b"#" * 5000),
        b"401",
    ),
    "body in endless chunks": (
        sending(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n#\r\n" * 1000, 6),
        b"408",
    ),
    "body of 50 MiB": (
        sending(POST + b"Content-Length: %d\r\n\r\n" % (50 << 20) + bytes(50 << 20)),
        b"413",
    ),
    "stranger's body of 50 MiB": (
        sending(STRANGER + b"Content-Length: %d\r\n\r\n" % (50 << 20) + bytes(50 << 20)),
        b"401",
    ),
    "body of 50 MiB in chunks": (
        sending(
            POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n%b\r\n" % bytes(65536) * 800
        ),
        b"413",
    ),
    "header of 1 MiB": (sending(POST + b"X: " + b"x" * (1 << 20) + b"\r\n\r\n"), b"4"),
    "10,000 headers": (sending(POST + MANY_HEADERS + b"\r\n"), b"4"),
    "gzip bomb of 500 MiB": (
        sending(POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
        b"413",
    ),
    "speaks TLS": (sending(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)), b"400"),
    "asks a thousand times and reads nothing": (
        sending(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n" * 1000),
        b"204",
    ),
}


@pytest.mark.parametrize("name", ABUSES)
def test_an_abuser_is_refused_or_closed_and_nobody_else_notices(server: Server, name: str) -> None:
    """Within the limit of what it does, with the answer that says why where one can be given."""
    abuse, status = ABUSES[name]
    with good_agent(server):
        answer = abuse(server)
    if status:
        assert answer.startswith(b"HTTP/1.1 " + status), answer[:500]
    else:
        assert answer == b""


def test_abuse_from_all_sides_takes_neither_posts_nor_memory(server: Server) -> None:
    """Sixteen of each kind at once."""
    before = server.memory_bytes()
    # Only those that need no more than a thread each here; the bodies of 50 MiB were tried above.
    chosen = [abuse for name, (abuse, _) in ABUSES.items() if "50 MiB" not in name] * 16
    threads = [threading.Thread(target=abuse, args=(server,)) for abuse in chosen]
    with good_agent(server):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert server.memory_bytes() - before < GROWTH_BYTES


def test_random_bytes_leave_the_server_well(server: Server) -> None:
    """Requests with bytes changed, left out, doubled and cut off; the same in every run."""
    line = to_line(Reading("card", card_tags(1), {"power_watts": 1.0}, time.time_ns())).encode()
    whole = POST + b"Content-Length: %d\r\n\r\n" % len(line) + line
    rng = random.Random(7)
    with good_agent(server):
        for _ in range(300):
            text = bytearray(whole * rng.randrange(1, 4))
            for _ in range(rng.randrange(1, 6)):
                at = rng.randrange(len(text))
                text[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
            with server.connect() as wire:
                said = send(wire, bytes(text[: rng.randrange(1, len(text) + 1)]))
                with suppress(OSError):
                    wire.shutdown(socket.SHUT_WR)
                assert b"HTTP/1.1 5" not in said + told(wire)


def test_the_log_says_nothing_of_it(server: Server) -> None:
    """A stranger must not be able to fill the log, and nothing was unforeseen."""
    assert server.log() == ""
