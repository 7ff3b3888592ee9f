"""Line protocol over HTTP: what is taken, what is refused, and how it is told."""

import gzip
import http.client
import json
import socket
import threading
import time
import zlib
from collections import Counter
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

from farmhand_agent.reading import FIELDS, TAGS, Reading, to_line
from farmhand_collector.access import Access, Grant, of_token
from farmhand_collector.http_server import Door
from farmhand_collector.ingest import Counts, Ingest, Limits
from farmhand_collector.ingest.source import source_of
from farmhand_collector.ingest.strangers import MOST_SOURCES, Strangers
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
    config = uvicorn.Config(app, http=Door().protocol(), lifespan="off", log_config=None)
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
        token: str | None = None,
        now: float = NOON_NS / SECOND_NS,
        limits: Limits | None = None,
        access: Access | None = None,
    ) -> Served:
        store = EmbeddedStore(tmp_path / "readings")
        opened.append(store)
        ingest = Ingest(store, access or of_token(token), lambda: now, limits)
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


def test_an_answer_can_be_shown_whatever_it_quotes(serve: Serve) -> None:
    """Agents log it: a mark that turns the direction of text comes as its number."""
    answer = serve().post(f"card,host=a \u202efans=x {NOON_NS}".encode())
    assert "field \\u202efans is 'x'" in answer.told["message"]


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


@pytest.mark.parametrize("schema", [0.0, 1.0, 2.0])
def test_a_neighbouring_schema_is_taken(serve: Serve, schema: float) -> None:
    """A farm is not updated all at once; what is unknown is passed over."""
    served = serve()
    told = Reading("agent", {"host": "shelf-3"}, {"schema": schema, "moons": 2.0}, NOON_NS)
    assert served.post(lines(told)).status == 204
    assert served.rows() == [row_of(told._replace(fields={"schema": schema}))]


def test_the_limits_leave_room_for_the_contract() -> None:
    """Whatever the contract has fits three times over in fields, and twice in tags."""
    limits = Limits()
    largest = max(Counter(field.measurement for field in FIELDS).values())
    assert limits.fields >= 3 * largest
    assert limits.tags >= 2 * max(map(len, TAGS.values()))
    names = [name for tags in TAGS.values() for name in tags] + [field.name for field in FIELDS]
    assert limits.tag_key_bytes > max(map(len, names))


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        (",".join(f"t{n}=x" for n in range(17)), "17 tags, expected at most 16"),
        ("é" * 33 + "=x", "tag key of 66 bytes, expected at most 64"),
    ],
    ids=["many", "long key"],
)
@pytest.mark.parametrize("measurement", ["card", "weather"])
def test_tags_are_bounded_whatever_is_measured(
    serve: Serve, measurement: str, tags: str, told: str
) -> None:
    """Also where the contract does not know the measurement."""
    answer = serve().post(f"{measurement},{tags} rain=1 {NOON_NS}".encode())
    assert (answer.status, answer.told["refused"]) == (422, {"tags": 1})
    assert told in answer.told["message"]


def test_a_reading_may_not_have_more_fields_than_told(serve: Serve) -> None:
    """A line could hold two thousand."""
    many = ",".join(f"f{n}=1" for n in range(257))
    answer = serve().post(f"card,host=a {many} {NOON_NS}".encode())
    assert (answer.status, answer.told["refused"]) == (422, {"fields": 1})


@pytest.mark.parametrize(
    ("off_seconds", "said"), [(7200, "7200 s ahead of"), (-90 * 86_400, "7776000 s behind")]
)
def test_a_writer_with_a_wrong_clock_is_told_by_how_much(
    serve: Serve, off_seconds: int, said: str
) -> None:
    """422 with the Date header: an agent dates its readings again, and drops none."""
    served = serve()
    at_ns = NOON_NS + off_seconds * SECOND_NS
    step = SECOND_NS if off_seconds > 0 else -SECOND_NS
    answer = served.post(lines(*(card(at_ns + n * step) for n in range(3))))
    assert answer.status == 422
    assert f"the writer's clock seems {said} the collector's" in answer.told["message"]
    assert answer.told["clock_offset_seconds"] == -off_seconds
    assert "date" in answer.headers


def test_a_single_good_time_shows_that_the_clock_is_right(serve: Serve) -> None:
    """Then the others are a matter of their own."""
    answer = serve().post(lines(card(), card(NOON_NS + 7200 * SECOND_NS)))
    assert "clock_offset_seconds" not in answer.told


# --- whose


class Bound:
    """Each token is the name of the only host that it may write for."""

    def grant(self, authorization: str) -> Grant | None:
        host = authorization.removeprefix("Token ")
        return Grant(f"agent of {host}", host) if host else None


def of_host(host: str, slot: int = 0) -> Reading:
    """A reading of a card that another host than the usual one has."""
    return Reading("card", card_tags(slot, host), {"power_watts": 250.0}, NOON_NS)


def test_a_token_of_one_host_cannot_write_for_another(serve: Serve) -> None:
    """Refused, not rewritten: that would mix the cards of two nodes into one."""
    served = serve(access=Bound())
    pulse = Reading("collector", {"site": "barn"}, {"ticks_total": 1.0}, NOON_NS)
    mine, other = of_host("a"), of_host("b")
    answer = served.post(lines(mine, other, pulse), Authorization="Token a")
    assert (answer.status, answer.told["refused"]) == (422, {"host": 2})
    assert "host 'b', expected 'a' with this token" in answer.told["message"]
    assert served.rows() == [row_of(mine)]
    assert served.ingest.counts.by_writer == {"agent of a": {"readings_host": 2}}


def test_what_is_not_known_yet_needs_no_host(serve: Serve) -> None:
    """It is passed over in any case."""
    new = Reading("weather", {"hill": "north"}, {"rain": 1.0}, NOON_NS)
    assert serve(access=Bound()).post(lines(new), Authorization="Token a").status == 204


def test_a_writer_that_floods_takes_nothing_from_the_others(serve: Serve) -> None:
    """Each host has a budget of tag sets, of which known ones cost nothing again."""
    served = serve(access=Bound(), limits=Limits(host_series_per_day=2))
    flood = lines(*(of_host("a", slot) for slot in range(5)))
    for _ in range(2):
        assert served.post(flood, Authorization="Token a").told["refused"] == {"series": 3}
    assert served.post(lines(of_host("b")), Authorization="Token b").status == 204
    assert served.ingest.counts.by_writer == {"agent of a": {"readings_series": 6}}


def test_the_budget_of_a_host_holds_a_full_node() -> None:
    """Cards that show their identity late make each tag set twice."""
    cards, lanes = 16, 8
    of_cards = sum("slot" in tags for tags in TAGS.values()) - 1
    of_hosts = len(TAGS) - of_cards - 1
    assert Limits().host_series_per_day >= 2 * cards * (of_cards + lanes) + of_hosts


def test_refusals_are_counted_by_writer_within_bounds() -> None:
    """However many writers there are, memory stays bounded."""
    counts = Counts()
    for number in range(5000):
        counts.refuse("malformed", f"writer {number}")
    assert counts.refused_posts == {"malformed": 5000}
    assert len(counts.by_writer) == 4097
    assert counts.by_writer["others"] == {"posts_malformed": 904}


# --- strangers


def strict(tries: int = 2) -> Limits:
    """Limits that hold for the machine itself too."""
    return Limits(failed_tokens_per_minute=tries, loopback_exempt=False)


def test_who_fails_too_often_has_to_wait(serve: Serve) -> None:
    """Also with the right token, or one could go on to guess; agents take it as busy."""
    served = serve(TOKEN, limits=strict())
    for _ in range(2):
        assert served.post(b"", Authorization="Token wrong").status == 401
    answer = served.post(lines(card()), Authorization=f"Token {TOKEN}")
    assert (answer.status, answer.told["code"]) == (429, "too many requests")
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert served.ingest.counts.refused_posts == {"unauthorized": 2, "throttled": 1}


def test_the_machine_itself_never_has_to_wait(serve: Serve) -> None:
    """It may be a proxy, behind which one agent with an old token is not all of them."""
    served = serve(TOKEN, limits=Limits(failed_tokens_per_minute=1))
    for _ in range(3):
        assert served.post(b"", Authorization="Token wrong").status == 401
    assert served.post(lines(card()), Authorization=f"Token {TOKEN}").status == 204


def test_a_stranger_may_try_again_after_a_minute() -> None:
    """The minute begins with the first try; others are not held up meanwhile."""
    now = [1000.0]
    strangers = Strangers(2, lambda: now[0])
    for _ in range(2):
        assert strangers.wait_seconds("192.0.2.1") == 0
        strangers.failed("192.0.2.1")
        now[0] += 10
    assert strangers.wait_seconds("192.0.2.1") == 40
    assert strangers.wait_seconds("192.0.2.2") == 0
    now[0] += 40
    assert strangers.wait_seconds("192.0.2.1") == 0


def test_strangers_are_remembered_within_bounds() -> None:
    """The oldest is forgotten when there are too many."""
    strangers = Strangers(1, lambda: 1000.0)
    for number in range(2 * MOST_SOURCES):
        strangers.failed(f"source {number}")
    assert len(strangers) == MOST_SOURCES
    assert strangers.wait_seconds("source 0") == 0
    assert strangers.wait_seconds(f"source {2 * MOST_SOURCES - 1}") == 60


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("127.0.0.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("", None),
        (None, None),
    ],
)
def test_a_source_is_what_one_person_has(address: str | None, source: str | None) -> None:
    """An IPv6 host has as many addresses of its network as it likes."""
    assert source_of(address) == source


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


def test_a_store_that_is_behind_gets_no_more_meanwhile(tmp_path: Path) -> None:
    """Told before the body is sent; who is being served already is not given up."""
    store = UnwellStore(tmp_path)
    store.gate = threading.Event()
    limits = Limits(behind_seconds=0.05)
    ingest = Ingest(store, of_token(None), lambda: NOON_NS / SECOND_NS, limits)
    with serving(ingest) as port:
        served = Served(ingest, store, port)
        answers: list[Answer] = []
        waiting = threading.Thread(target=lambda: answers.append(served.post(lines(card()))))
        waiting.start()
        assert store.entered.wait(10)
        time.sleep(0.1)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
            wire.sendall(
                b"POST /api/v2/write HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
                b"Expect: 100-continue\r\n\r\n"
            )
            told = wire.recv(1024)
        store.gate.set()
        waiting.join()
        assert served.post(lines(card(NOON_NS + 1))).status == 204
    assert told.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 2" in told
    assert [answer.status for answer in answers] == [204]
    assert ingest.counts.refused_posts == {"behind": 1}
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
