"""Whole posts that nobody would send in good faith: each gets an answer, and what is good is kept.

The posts go through the real application, in this process and without a socket: status and store
are looked at after each. `tests/system/test_abuse.py` is its twin on sockets.
"""

import asyncio
import gzip
import json
import random
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from farmhand_agent.reading import FIELDS, TAGS, Kind, LineError, Reading, parse_line, to_line
from farmhand_collector.access import Grant
from farmhand_collector.ingest import Ingest, Limits
from farmhand_collector.store.embedded import EmbeddedStore
from tests.collector.store.examples import DAY_NS, NOON_NS, SECOND_NS, Row, card, rows_of

HOST = "shelf-3"
LIMITS = Limits(
    wire_bytes=20_000,
    inflated_bytes=60_000,
    lines=200,
    body_seconds=0.05,
    retention_days=3,
    host_series_per_day=10**9,
    failed_tokens_per_minute=10**9,
)
"""Tight in size; without budgets, which would make an example depend on those before it."""
REFUSALS = {400, 401, 408, 413, 415, 422}


class Bound:
    """A good token, which may write for one host; anything else grants nothing."""

    def grant(self, authorization: str) -> Grant | None:
        return Grant("fuzzer", HOST) if authorization == "Token good" else None


class Answer(NamedTuple):
    status: int
    body: bytes


class Collector:
    """An application over a store, asked by ASGI messages; every time written is one of its own."""

    def __init__(self, directory: Path) -> None:
        self.store = EmbeddedStore(directory)
        now = NOON_NS / SECOND_NS
        self.ingest = Ingest(self.store, Bound(), lambda: now, LIMITS)
        self._app = Starlette(routes=self.ingest.routes())
        self._runner = asyncio.Runner()
        self._position = 0
        self._times = count(NOON_NS - DAY_NS)

    def close(self) -> None:
        self._runner.close()
        self.store.close()

    def time_ns(self) -> int:
        """A time that no other reading has."""
        return next(self._times)

    def post(
        self,
        body: Sequence[bytes],
        headers: Sequence[tuple[bytes, bytes]] = (),
        query: bytes = b"",
        token: bytes = b"Token good",
        *,
        is_whole: bool = True,
    ) -> Answer:
        """Send a body in pieces; one that is not whole is followed by silence."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/api/v2/write",
            "raw_path": b"/api/v2/write",
            "query_string": query,
            "headers": [(b"authorization", token), *headers],
            "client": ("192.0.2.1", 1),
        }
        return self._runner.run(self._ask(scope, iter(body), is_whole))

    async def _ask(self, scope: dict[str, Any], pieces: Iterator[bytes], is_whole: bool) -> Answer:
        status, text = 0, b""

        async def receive() -> dict[str, Any]:
            for piece in pieces:
                return {"type": "http.request", "body": piece, "more_body": True}
            if not is_whole:
                await asyncio.sleep(60)
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status, text
            status = message.get("status", status)
            text += message.get("body", b"")

        await self._app(scope, receive, send)
        return Answer(status, text)

    def came(self) -> list[Row]:
        """What the store took in since this was asked last."""
        blocks, self._position = self.store.readings(self._position)
        return rows_of(blocks)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """One for all examples; each looks only at what came with it."""
    with tempfile.TemporaryDirectory() as directory:
        opened = Collector(Path(directory))
        yield opened
        opened.close()


# --- what is sent

_NUMBERS = [f.name for f in FIELDS if f.measurement == "card" and f.kind is not Kind.TEXT]
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_printed = st.text(st.sampled_from('\\",= \u202e\u200b#aä1.i-'), max_size=20)
_hostile = _printed | st.text(st.sampled_from('\\",= \t\r\x00\x1b\x7f\u009b#a'), max_size=20)


@st.composite
def good_readings(draw: st.DrawFn) -> Reading:
    """A reading that must be kept, as an agent would send it; its time is set by the test."""
    names = draw(st.lists(st.sampled_from(_NUMBERS), min_size=1, max_size=5, unique=True))
    finite = st.floats(allow_nan=False, allow_infinity=False)
    fields: dict[str, float | str] = {name: draw(finite) for name in names}
    if draw(st.booleans()):
        fields["process_ids"] = draw(_texts)
    tags = {"host": HOST, "site": draw(_texts), "slot": draw(st.sampled_from("012"))}
    return Reading("card", tags, fields, 0)


def hostile_lines() -> st.SearchStrategy[str]:
    """Lines that look like readings, with what breaks parsers in some places."""
    sound = ("card", "slot=1", "power_watts", "1", str(NOON_NS))
    quoted = _hostile.map(lambda text: f'"{text}"')
    values = st.sampled_from(["nan", "-inf", "1e999", "1i", "t", "1_0"]) | quoted | _hostile
    times = st.integers(-(2**70), 2**70).map(str) | st.sampled_from(["", "1.5", "+1", "١", "0x1"])
    measurements = st.sampled_from([*TAGS, "", "#card", "cärd"]) | _hostile
    hostile = (measurements, _hostile, _hostile, values, times)
    mixed = (st.just(good) | bad for good, bad in zip(sound, hostile, strict=True))
    return st.tuples(*mixed).map(_line) | _hostile


def _line(parts: tuple[str, ...]) -> str:
    measurement, tag, key, value, time = parts
    return f"{measurement},host={HOST},{tag} {key}={value} {time}"


headers = st.lists(
    st.tuples(
        st.sampled_from([b"content-encoding", b"content-length", b"content-type", b"x-y"]),
        st.sampled_from([b"", b"gzip", b" GZIP ", b"identity", b"gzip, gzip", b"br", b"\xff"])
        | st.sampled_from([b"0", b"-1", b"1e9", b"9" * 5000, b"\xb2", b"17"])
        | st.binary(max_size=10),
    ),
    max_size=3,
)
queries = st.sampled_from(
    [b"", b"precision=ns", b"precision=s", b"precision=h", b"precision=%ff", b"precision=ns&" * 50]
) | st.binary(max_size=30)


def pieces(body: bytes, seed: int) -> list[bytes]:
    """A body as the network may cut it."""
    rng = random.Random(seed)
    cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.randrange(4)))
    return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def assert_refused(answer: Answer) -> None:
    """A refusal says why as InfluxDB does, in one line that cannot move a terminal's cursor."""
    assert answer.status in REFUSALS, answer
    told = json.loads(answer.body)
    assert told["code"]
    assert told["message"].isprintable(), told


# --- what must hold


@given(st.lists(good_readings(), max_size=8), st.integers(), st.booleans())
def test_good_posts_are_kept_however_they_come(
    collector: Collector, readings: list[Reading], seed: int, compress: bool
) -> None:
    """In any pieces, compressed or not; what is kept is what was sent."""
    timed = [reading._replace(time_ns=collector.time_ns()) for reading in readings]
    written = [to_line(reading) for reading in timed]
    body = "\n".join(written).encode()
    coding = [(b"content-encoding", b"gzip")] if compress else []
    sent = pieces(gzip.compress(body) if compress else body, seed)
    assert collector.post(sent, coding).status == 204
    kept = collector.came()
    assert [row.time_ns for row in kept] == [reading.time_ns for reading in timed]
    for row, line in zip(kept, written, strict=True):
        assert dict(row.fields) == dict(parse_line(line).fields)


@given(st.lists(good_readings(), min_size=1, max_size=3), st.lists(hostile_lines(), max_size=3))
def test_hostile_lines_cost_good_ones_nothing(
    collector: Collector, readings: list[Reading], hostile: list[str]
) -> None:
    """A post with a line that is none is refused as a whole; otherwise all that is good is kept."""
    timed = [reading._replace(time_ns=collector.time_ns()) for reading in readings]
    mixed = [*map(to_line, timed), *hostile]
    random.Random(len(mixed)).shuffle(mixed)
    answer = collector.post(["\n".join(mixed).encode()])
    kept = {row.time_ns for row in collector.came()}
    if answer.status == 400:
        assert_refused(answer)
        assert not kept
        assert any(not _is_reading(line) for text in hostile for line in text.split("\n"))
    else:
        assert answer.status in (204, 422), answer
        assert kept >= {reading.time_ns for reading in timed}


def _is_reading(line: str) -> bool:
    if not line or line.isspace() or line.startswith("#"):
        return True
    try:
        parse_line(line.rstrip("\r"))
    except LineError:
        return False
    return True


@given(st.lists(st.binary(max_size=200), max_size=5), headers, queries, st.booleans())
def test_any_bytes_get_an_answer(
    collector: Collector,
    body: list[bytes],
    headers: list[tuple[bytes, bytes]],
    query: bytes,
    is_good: bool,
) -> None:
    """Whatever header, query and body are: never an exception, never a 5xx."""
    token = b"Token good" if is_good else b"Token \xff\x00"
    answer = collector.post(body, headers, query, token)
    collector.came()
    if answer.status != 204:
        assert_refused(answer)
    if not is_good:
        assert answer.status == 401


@given(
    st.lists(good_readings(), min_size=1, max_size=5), st.integers(0, 10**6), st.binary(max_size=9)
)
def test_gzip_that_is_broken_is_refused_and_nothing_of_it_kept(
    collector: Collector, readings: list[Reading], where: int, junk: bytes
) -> None:
    """Cut off, overwritten, or with something behind."""
    timed = [reading._replace(time_ns=collector.time_ns()) for reading in readings]
    whole = gzip.compress("\n".join(map(to_line, timed)).encode(), mtime=0)
    at = where % len(whole)
    for body in (whole[:at], whole[:at] + junk + whole[at + len(junk) :], whole + b"x" + junk):
        answer = collector.post([body], [(b"content-encoding", b"gzip")])
        kept = collector.came()
        if answer.status == 204:
            assert zlib.decompress(body, 31) == zlib.decompress(whole, 31)
        else:
            assert_refused(answer)
            assert kept == []


@given(st.integers(1, 4), st.integers(1, 400), st.sampled_from([b"\n", b"\x00", b"card x=1 1\n"]))
def test_what_inflates_beyond_the_bound_is_refused(
    collector: Collector, layers: int, kilobytes: int, filling: bytes
) -> None:
    """One layer is taken off, and no more of it than is allowed."""
    body = filling * (kilobytes * 1000 // len(filling))
    for _ in range(layers):
        body = gzip.compress(body, mtime=0)
    answer = collector.post([body], [(b"content-encoding", b"gzip")])
    assert collector.came() == []
    assert answer.status in REFUSALS | {204}
    if layers == 1 and kilobytes * 1000 > LIMITS.inflated_bytes + len(filling):
        assert answer.status == 413


@given(st.integers(0, 40_000), st.integers(0, 40_000))
def test_a_wrong_length_makes_no_difference(
    collector: Collector, announced: int, sent: int
) -> None:
    """Both what is announced and what comes are bounded."""
    answer = collector.post([b"#" * sent], [(b"content-length", b"%d" % announced)])
    is_too_large = max(announced, sent) > LIMITS.wire_bytes
    assert answer.status == (413 if is_too_large else 204)


def test_a_body_without_an_end_is_given_up(collector: Collector) -> None:
    """What came of it is not kept."""
    line = to_line(card(collector.time_ns())).encode()
    assert_refused(collector.post([line], is_whole=False))
    assert collector.came() == []


@given(st.integers(-(2**80), 2**80), st.sampled_from([b"ns", b"us", b"ms", b"s"]))
def test_times_near_and_far_are_judged_not_stumbled_over(
    collector: Collector, time: int, precision: bytes
) -> None:
    """Also those that leave 64 bits once they are nanoseconds."""
    line = f"card,host={HOST} power_watts=1 {time}".encode()
    answer = collector.post([line], query=b"precision=" + precision)
    collector.came()
    if answer.status != 204:
        assert_refused(answer)
