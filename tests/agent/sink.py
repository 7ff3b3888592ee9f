"""A store that records what it accepted, and fails as it is told to."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

PATIENCE_SECONDS = 20.0
"""How long a test waits for what must come; only a failing test ever waits so long."""


class Answer(NamedTuple):
    """What one post is answered with."""

    status: int = 204
    headers: tuple[tuple[str, str], ...] = ()
    accept: bool = False
    """Keep the lines whatever the status says."""
    hang_up: bool = False
    """Close the connection instead of answering."""
    body: bytes = b""
    trickle: bool = False
    """Send the answer byte by byte without an end, until the sink is closed."""


OK = Answer()
HANG_UP = Answer(0, hang_up=True)
ACK_LOST = Answer(0, accept=True, hang_up=True)
TRICKLE = Answer(0, trickle=True)


class Post(NamedTuple):
    """One request as it came in."""

    lines: list[str]
    status: int
    token: str | None
    query: dict[str, list[str]]


class Sink:
    """A server on loopback that speaks `/api/v2/write`.

    `script` holds answers for the next posts; when it is empty `always` applies. A line for which
    `is_bad` holds makes the whole post a 400, as InfluxDB 2 does; with `keeps_good_lines` the good
    ones are kept and the status is 422. With a context it speaks TLS.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.posts: list[Post] = []
        self.accepted: list[str] = []
        self.connections = 0
        self.script: list[Answer] = []
        self.always = OK
        self.is_bad: Callable[[str], bool] = lambda _line: False
        self.keeps_good_lines = False
        self.max_body_bytes = 10_000_000
        self.date: str | None = None
        self._changed = threading.Condition()
        self._server = _Server(self)
        self.closed = threading.Event()
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            listening = self._server.socket
            # The handshake is made by the first read, in the connection's own thread.
            self._server.socket = tls.wrap_socket(
                listening, server_side=True, do_handshake_on_connect=False
            )

    @property
    def url(self) -> str:
        """Where the sink listens."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition about what was posted.

        Raises:
            AssertionError: it did not come true.

        """
        with self._changed:
            came = self._changed.wait_for(condition, PATIENCE_SECONDS)
            assert came, f"{len(self.posts)} posts, {len(self.accepted)} lines accepted"

    def serve(self) -> None:
        """Answer until `close`."""
        self._server.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        """Stop answering."""
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, lines: list[str], size: int, headers: tuple[str | None, str]) -> Answer:
        """Decide about one post, and record it."""
        token, query = headers
        with self._changed:
            answer = self.script.pop(0) if self.script else self.always
            if answer == OK:
                answer = self._judge(lines, size)
            if answer.status == 204 or answer.accept:
                bad = self.is_bad
                self.accepted += [line for line in lines if not bad(line)]
            self.posts.append(Post(lines, answer.status, token, parse_qs(query)))
            self._changed.notify_all()
        return answer

    def _judge(self, lines: list[str], size: int) -> Answer:
        if size > self.max_body_bytes:
            return Answer(413)
        if not any(self.is_bad(line) for line in lines):
            return OK
        return Answer(422, accept=True) if self.keeps_good_lines else Answer(400)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, sink: Sink) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sink = sink

    def handle_error(self, *_: object) -> None:
        """A client that goes away is part of the play."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        assert isinstance(self.server, _Server)
        self._sink = self.server.sink
        self._sink.connections += 1

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        assert url.path == "/api/v2/write"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        about = (self.headers.get("Authorization"), url.query)
        answer = self._sink.answer(body.decode().split("\n"), len(body), about)
        if answer.hang_up or answer.trickle:
            self.close_connection = True
            if answer.trickle:
                self._trickle()
        else:
            self._respond(answer)

    def _respond(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _trickle(self) -> None:
        self.wfile.write(b"HTTP/1.1 204 No Content\r\nX-Slow: ")
        with suppress(OSError):
            while not self._sink.closed.wait(0.01):
                self.wfile.write(b".")

    def date_time_string(self, timestamp: float | None = None) -> str:
        return self._sink.date or super().date_time_string(timestamp)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def running_sink(tls: ssl.SSLContext | None = None) -> Iterator[Sink]:
    """Run a sink on a free port."""
    sink = Sink(tls)
    thread = threading.Thread(target=sink.serve)
    thread.start()
    try:
        yield sink
    finally:
        sink.close()
        thread.join()
