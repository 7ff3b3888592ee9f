"""Line protocol over HTTP: what is taken, what is refused, and how it is told."""

import gzip
import http.client
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from starlette.applications import Starlette

from farmhand_agent.reading import Reading, to_line
from farmhand_collector.access import of_token
from farmhand_collector.ingest import Ingest, Limits
from farmhand_collector.store.base import StoreBusyError, StoreError
from farmhand_collector.store.embedded import EmbeddedStore
from tests.collector.store.examples import (
    DAY_NS,
    NOON_NS,
    SECOND_NS,
    Row,
    card,
    card_tags,
    read_all,
    row_of,
)

TOKEN = "fh1_made_up"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


class Served:
    """An ingest on a real socket, with its store."""

    def __init__(self, ingest: Ingest, store: EmbeddedStore, port: int) -> None:
        self.ingest = ingest
        self.store = store
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, body: bytes | Iterator[bytes], query: str = "", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", f"/api/v2/write?org=farm&bucket=readings{query}", body, named)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    def rows(self) -> list[Row]:
        return read_all(self.store)


@contextmanager
def serving(ingest: Ingest) -> Iterator[int]:
    """Serve on a free port of loopback, as the collector does."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=ingest.routes())
    config = uvicorn.Config(app, http="h11", loop="asyncio", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start an ingest whose clock stands at noon."""
    opened: list[EmbeddedStore] = []
    running = []

    def start(
        token: str | None = None, now: float = NOON_NS / SECOND_NS, limits: Limits | None = None
    ) -> Served:
        store = EmbeddedStore(tmp_path / "readings")
        opened.append(store)
        ingest = Ingest(store, of_token(token), lambda: now, limits)
        context = serving(ingest)
        port = context.__enter__()
        running.append(context)
        return Served(ingest, store, port)

    yield start
    for context in running:
        context.__exit__(None, None, None)
    for store in opened:
        store.close()


def lines(*readings: Reading) -> bytes:
    return "\n".join(map(to_line, readings)).encode()


# --- what is taken


def test_a_post_is_kept_before_it_is_answered(serve: Serve) -> None:
    """204 means that the readings are in the store."""
    served = serve()
    answer = served.post(lines(card(), card(NOON_NS + 1)) + b"\n\n# a comment\n")
    assert (answer.status, answer.body) == (204, b"")
    assert served.rows() == [row_of(card()), row_of(card(NOON_NS + 1))]
    assert served.ingest.counts.accepted == 2


def test_every_answer_tells_the_time(serve: Serve) -> None:
    """The agent measures its clock by the Date header."""
    served = serve(TOKEN)
    for answer in (served.post(b""), served.ask("GET", "/ping")):
        assert parsedate_to_datetime(answer.headers["date"]).year >= 2026


@pytest.mark.parametrize(("precision", "unit_ns"), [("s", 10**9), ("ms", 10**6), ("us", 10**3)])
def test_times_come_in_the_precision_named(serve: Serve, precision: str, unit_ns: int) -> None:
    """Whole units since 1970; nanoseconds where none is named."""
    served = serve()
    line = lines(card(NOON_NS // unit_ns))
    assert served.post(line, f"&precision={precision}").status == 204
    assert served.rows() == [row_of(card())]


def test_a_body_may_be_gzipped_or_in_chunks(serve: Serve) -> None:
    """Both ways of the wire give the same readings."""
    served = serve()
    assert served.post(gzip.compress(lines(card())), Content_Encoding="gzip").status == 204
    assert (
        served.post(iter([lines(card(NOON_NS + 1))[:9], lines(card(NOON_NS + 1))[9:]])).status
        == 204
    )
    assert len(served.rows()) == 2


def test_what_is_not_known_yet_does_not_stop_a_newer_agent(serve: Serve) -> None:
    """Unknown measurements and fields are passed over, not refused."""
    served = serve()
    new = Reading("weather", {"site": "barn", "hill": "north"}, {"rain": 1.0}, NOON_NS)
    assert served.post(lines(new, card(power_watts=250.0, flux=1.0))).status == 204
    assert served.rows() == [row_of(card(power_watts=250.0))]


# --- who may


@pytest.mark.parametrize("scheme", ["Token", "Bearer", "token"])
def test_a_token_opens_by_either_scheme(serve: Serve, scheme: str) -> None:
    """InfluxDB clients say Token, others Bearer."""
    served = serve(TOKEN)
    assert served.post(lines(card()), Authorization=f"{scheme} {TOKEN}").status == 204


@pytest.mark.parametrize(
    "given",
    ["", "Token", "Token wrong", f"Basic {TOKEN}", TOKEN, "Token \xe9\xff", f"Token {TOKEN}x"],
)
def test_without_the_token_nothing_is_taken(serve: Serve, given: str) -> None:
    """The answer is InfluxDB's, and it is counted."""
    served = serve(TOKEN)
    answer = served.post(lines(card()), Authorization=given)
    assert (answer.status, answer.told["code"]) == (401, "unauthorized")
    assert served.rows() == []
    assert served.ingest.counts.refused_posts == {"unauthorized": 1}


def test_a_stranger_is_refused_before_the_body_is_sent(serve: Serve) -> None:
    """A body that was announced is neither asked for nor waited for."""
    served = serve(TOKEN)
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as wire:
        wire.sendall(
            b"POST /api/v2/write HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert wire.recv(1024).startswith(b"HTTP/1.1 401")


# --- what is refused


def test_a_malformed_line_refuses_the_whole_post(serve: Serve) -> None:
    """As InfluxDB 2 does, so that the agent looks for the line by halving."""
    served = serve()
    answer = served.post(lines(card()) + b"\n" + lines(card(NOON_NS + 1)) + b"\nno fields 1\n")
    assert (answer.status, answer.told["code"]) == (400, "invalid")
    assert answer.told["message"].startswith("line 3: ")
    assert served.rows() == []
    assert served.ingest.counts.refused_posts == {"malformed": 1}


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe", b"card power_watts=1", b"card power_watts=nan 1", b"card,host=a\x1b[2J x=1 1"],
    ids=["not UTF-8", "no time", "not a number", "escape sequence"],
)
def test_what_is_not_a_reading_is_malformed(serve: Serve, body: bytes) -> None:
    """Bytes, times, numbers and control characters are all looked at."""
    assert serve().post(body).status == 400


def test_an_unknown_precision_is_malformed(serve: Serve) -> None:
    """Rather than times that are wrong by a factor."""
    answer = serve().post(lines(card()), "&precision=h")
    assert answer.status == 400
    assert "expected one of ns, us, ms, s" in answer.told["message"]


def test_readings_of_an_absurd_time_are_refused_and_the_others_kept(serve: Serve) -> None:
    """A node without a clock does not spread its readings over the years."""
    served = serve(limits=Limits(retention_days=2))
    kept = [card(), card(NOON_NS - DAY_NS), card(NOON_NS + 299 * SECOND_NS)]
    early, late, ancient = NOON_NS - 3 * DAY_NS, NOON_NS + 302 * SECOND_NS, 0
    answer = served.post(lines(card(early), *kept, card(late), card(ancient)))
    assert (answer.status, answer.told["code"]) == (422, "unprocessable entity")
    assert "3 of 6 readings refused; reading 1: time" in answer.told["message"]
    assert answer.told["refused"] == {"time_past": 2, "time_future": 1}
    assert len(served.rows()) == 3
    assert served.ingest.counts.accepted == 3
    assert served.ingest.counts.refused_readings == {"time_past": 2, "time_future": 1}


def test_a_reading_with_foreign_tags_is_refused(serve: Serve) -> None:
    """A process id as a tag would make a series of every process."""
    served = serve()
    foreign = Reading("card", card_tags() | {"pid": "7"}, {"power_watts": 1.0}, NOON_NS)
    long = Reading("host", {"host": "h"}, {"load1": 1.0}, NOON_NS)
    body = lines(card(), foreign) + b"\n" + lines(long).replace(b"host=h", b"host=" + b"h" * 257)
    answer = served.post(body)
    assert answer.status == 422
    assert "reading 2: tag 'pid' of card, expected site, rack, host" in answer.told["message"]
    assert answer.told["refused"] == {"tags": 2}
    assert served.rows() == [row_of(card())]


def test_too_many_different_tag_sets_are_refused(serve: Serve) -> None:
    """Those known today still get through."""
    served = serve(limits=Limits(series_per_day=2))
    answer = served.post(lines(*(card(slot=slot) for slot in range(4))))
    assert answer.told["refused"] == {"series": 2}
    assert served.post(lines(card(NOON_NS + 1, slot=1))).status == 204


# --- how much


def test_a_body_may_not_be_larger_than_told(serve: Serve) -> None:
    """Whether it says so beforehand or not."""
    served = serve(limits=Limits(wire_bytes=1000))
    assert served.post(b"x" * 1001).told["code"] == "request too large"
    assert served.post(iter([b"x" * 600, b"x" * 600])).status == 413
    assert served.ingest.counts.refused_posts == {"too_large": 2}


def test_a_small_body_may_not_inflate_beyond_the_bound(serve: Serve) -> None:
    """A gzip bomb is cut off while it inflates."""
    served = serve(limits=Limits(inflated_bytes=10_000))
    answer = served.post(gzip.compress(b"\n" * 50_000_000), Content_Encoding="gzip")
    assert answer.status == 413
    assert "inflates to more than 10000 bytes" in answer.told["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"plain",
        gzip.compress(b"#\n")[:-4],
        gzip.compress(b"#\n") + b"more",
        zlib.compress(b"#\n"),
    ],
    ids=["not gzip", "cut off", "more behind", "zlib"],
)
def test_what_is_not_one_gzip_member_is_malformed(serve: Serve, body: bytes) -> None:
    """Nothing is guessed."""
    assert serve().post(body, Content_Encoding="gzip").status == 400


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "deflate"])
def test_other_encodings_are_refused(serve: Serve, coding: str) -> None:
    """One layer of gzip is enough."""
    assert serve().post(b"x", Content_Encoding=coding).status == 415


def test_a_post_may_not_have_more_lines_than_told(serve: Serve) -> None:
    """Parsing is bounded too."""
    served = serve(limits=Limits(lines=3))
    assert served.post(lines(*(card(NOON_NS + n) for n in range(4)))).status == 204
    assert served.post(b"\n" * 4).status == 413


def test_a_body_that_does_not_come_is_given_up(serve: Serve) -> None:
    """A half-dead client holds no place for ever."""
    served = serve(limits=Limits(body_seconds=0.05))
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as wire:
        wire.sendall(b"POST /api/v2/write HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        assert wire.recv(1024).startswith(b"HTTP/1.1 408")


# --- when the store cannot


class UnwellStore(EmbeddedStore):
    """A store on a disk that fails in a given way, or hangs."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.error: StoreError | None = None
        self.gate: threading.Event | None = None
        self.entered = threading.Event()

    def write(self, readings: Sequence[Reading]) -> None:
        if self.error is not None:
            raise self.error
        if self.gate is not None:
            self.entered.set()
            self.gate.wait()
        super().write(readings)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(StoreBusyError("7 readings wait"), "busy"), (StoreError("not written: disk full"), "store")],
)
def test_a_store_that_cannot_take_it_now_is_told_as_503(
    tmp_path: Path, error: StoreError, reason: str
) -> None:
    """The agent keeps what it has and comes back after the time given."""
    store = UnwellStore(tmp_path)
    store.error = error
    ingest = Ingest(store, of_token(None), lambda: NOON_NS / SECOND_NS)
    with serving(ingest) as port:
        answer = Served(ingest, store, port).post(lines(card()))
    assert (answer.status, answer.told["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert ingest.counts.refused_posts == {reason: 1}
    assert ingest.counts.accepted == 0
    store.close()


def test_posts_beyond_the_bound_are_turned_away_and_pings_still_answered(tmp_path: Path) -> None:
    """A store that hangs does not stop the event loop, nor fill the memory with bodies."""
    store = UnwellStore(tmp_path)
    store.gate = threading.Event()
    ingest = Ingest(store, of_token(None), lambda: NOON_NS / SECOND_NS, Limits(posts=1))
    with serving(ingest) as port:
        served = Served(ingest, store, port)
        answers: list[Answer] = []
        waiting = threading.Thread(target=lambda: answers.append(served.post(lines(card()))))
        waiting.start()
        assert store.entered.wait(10)
        assert served.ask("GET", "/ping").status == 204
        assert served.post(lines(card())).status == 503
        store.gate.set()
        waiting.join()
    assert [answer.status for answer in answers] == [204]
    store.close()


def test_a_collector_whose_own_clock_is_not_set_refuses_nobody_for_good(serve: Serve) -> None:
    """Readings are not to blame for a machine that woke up in 1970."""
    served = serve(now=1000.0)
    assert served.post(lines(card())).status == 503
    assert served.ingest.counts.refused_posts == {"clock": 1}


# --- as InfluxDB


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_ping_is_answered_without_a_token(serve: Serve, method: str) -> None:
    """204 with a version header, as InfluxDB's."""
    answer = serve(TOKEN).ask(method, "/ping")
    assert answer.status == 204
    assert answer.headers["x-influxdb-version"].startswith("farmhand-")


@pytest.mark.parametrize("enable_gzip", [False, True])
def test_the_real_client_writes_and_pings(serve: Serve, enable_gzip: bool) -> None:
    """influxdb-client takes the collector for an InfluxDB."""
    served = serve(TOKEN)
    with InfluxDBClient(served.url, TOKEN, org="farm", enable_gzip=enable_gzip) as client:
        assert client.ping()
        assert client.version().startswith("farmhand-")
        with client.write_api(write_options=SYNCHRONOUS) as api:
            api.write("readings", record=lines(card(), card(NOON_NS + 1)))
    assert len(served.rows()) == 2


def test_the_real_client_is_told_why(serve: Serve) -> None:
    """Status, message and Retry-After reach the caller."""
    served = serve(TOKEN)
    with (
        InfluxDBClient(served.url, TOKEN, org="farm") as client,
        client.write_api(write_options=SYNCHRONOUS) as api,
        pytest.raises(ApiException) as caught,
    ):
        api.write("readings", record=b"broken")
    assert caught.value.status == 400
    assert "line 1: expected" in caught.value.message
