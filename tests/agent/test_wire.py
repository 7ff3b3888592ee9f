"""What a store's answers mean, whom the wire trusts, and what it learns about the clock."""

import logging
import ssl
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from farmhand_agent.clock import Clock
from farmhand_agent.config import Ship
from farmhand_agent.wire import Kind, Wire
from tests.agent import certificate
from tests.agent.sink import HANG_UP, Answer, Sink, running_sink

LINE = b"card power_watts=1.0 1"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as sink:
        yield sink


@pytest.fixture
def wire(sink: Sink) -> Iterator[Wire]:
    wire = Wire(Ship(url=sink.url), Clock())
    yield wire
    wire.close()


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, Kind.ACCEPTED),
        (400, Kind.REFUSED),
        (413, Kind.REFUSED),
        (422, Kind.REFUSED),
        (429, Kind.BUSY),
        (500, Kind.BUSY),
        (503, Kind.BUSY),
        (302, Kind.FORBIDDEN),
        (401, Kind.FORBIDDEN),
        (403, Kind.FORBIDDEN),
        (404, Kind.FORBIDDEN),
        (405, Kind.FORBIDDEN),
    ],
)
def test_a_status_says_whose_fault_it_is(sink: Sink, wire: Wire, status: int, kind: Kind) -> None:
    """The body's, the store's for now, or the configuration's."""
    sink.script = [Answer(status)]
    assert wire.post(LINE).kind is kind


def test_no_answer_is_an_answer_too(sink: Sink, wire: Wire) -> None:
    """The connection breaks."""
    sink.script = [HANG_UP]
    assert wire.post(LINE).kind is Kind.UNREACHABLE


def test_nobody_listens(sink: Sink) -> None:
    """The reason names the address."""
    url = sink.url
    with running_sink() as gone:
        url = gone.url
    answer = Wire(Ship(url=url), Clock()).post(LINE)
    assert answer.kind is Kind.UNREACHABLE
    assert "127.0.0.1" in answer.reason


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_said_with_its_key_and_place(
    sink: Sink, tmp_path: Path, status: int
) -> None:
    """Whoever reads the log knows which file to look at, and for which server."""
    token_file = tmp_path / "token"
    token_file.write_text("old")
    sink.script = [Answer(status, body=b'{"message": "unauthorized access"}')]
    answer = Wire(Ship(url=sink.url, token_file=str(token_file)), Clock()).post(LINE)
    assert answer.reason == (
        f"HTTP {status}: unauthorized access; check ship.token_file ({token_file}) for {sink.url}"
    )


def test_an_unknown_bucket_is_said_with_its_keys(sink: Sink, wire: Wire) -> None:
    """A store that answers with 404 has no such bucket, or is none."""
    sink.script = [Answer(404, body=b'{"message": "bucket not found"}')]
    assert wire.post(LINE).reason == (
        f"HTTP 404: bucket not found; check ship.url ({sink.url}), ship.org and ship.bucket"
    )


def test_a_web_page_is_no_store(sink: Sink, wire: Wire) -> None:
    """A portal that answers everything with success does not swallow the readings."""
    sink.script = [Answer(200, (("Content-Type", "text/html; charset=utf-8"),), body=b"<p>Log in")]
    answer = wire.post(LINE)
    assert answer.kind is Kind.FORBIDDEN
    assert answer.reason == f"a web page answers at {sink.url}"


# --- whom it trusts ----------------------------------------------------------------------------


@pytest.fixture
def secure_sink(tmp_path: Path) -> Iterator[Sink]:
    """A store with a certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate.make(tmp_path))
    with running_sink(context) as sink:
        yield sink


def test_a_server_that_nobody_vouches_for_gets_nothing(secure_sink: Sink) -> None:
    """Neither readings nor token; the log says where to look."""
    answer = Wire(Ship(url=secure_sink.url), Clock()).post(LINE)
    assert answer.kind is Kind.UNREACHABLE
    assert answer.reason.startswith("check ship.ca_file and the clock of this node: ")
    assert secure_sink.posts == []


def test_a_server_of_the_configured_authority_is_trusted(secure_sink: Sink, tmp_path: Path) -> None:
    """A farm may have certificates of its own."""
    ca_file = tmp_path / "certificate.pem"
    wire = Wire(Ship(url=secure_sink.url, ca_file=str(ca_file)), Clock())
    assert wire.post(LINE).kind is Kind.ACCEPTED
    assert wire.post(LINE).kind is Kind.ACCEPTED
    wire.close()
    assert secure_sink.connections == 1


def test_an_unproven_server_is_trusted_where_it_is_so_configured(secure_sink: Sink) -> None:
    """Without a warning for each post."""
    wire = Wire(Ship(url=secure_sink.url, verify_tls=False), Clock())
    assert wire.post(LINE).kind is Kind.ACCEPTED
    wire.close()


# --- the token ---------------------------------------------------------------------------------


def test_a_new_token_needs_no_restart(sink: Sink, tmp_path: Path) -> None:
    """The file is read again when it changes."""
    token_file = tmp_path / "token"
    token_file.write_text("old")
    wire = Wire(Ship(url=sink.url, token_file=str(token_file)), Clock())
    wire.post(LINE)
    replacement = tmp_path / "token.new"
    replacement.write_text("new")
    replacement.rename(token_file)
    wire.post(LINE)
    wire.close()
    assert [post.token for post in sink.posts] == ["Token old", "Token new"]


def test_a_token_file_that_went_bad_leaves_the_token_as_it_was(
    sink: Sink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be half written; each thing that is wrong with it is said once."""
    token_file = tmp_path / "token"
    token_file.write_text("old")
    wire = Wire(Ship(url=sink.url, token_file=str(token_file)), Clock())
    wire.post(LINE)
    token_file.write_text("")
    with caplog.at_level(logging.INFO, "farmhand_agent.wire"):
        wire.post(LINE)
        wire.post(LINE)
        token_file.unlink()
        wire.post(LINE)
        wire.post(LINE)
    wire.close()
    assert [post.token for post in sink.posts] == ["Token old"] * 5
    said = f"the write token stays as it was: ship.token_file: {token_file}"
    assert [record.getMessage() for record in caplog.records] == [
        f"{said} is empty or not one line, expected one secret",
        f"{said} cannot be read: No such file or directory",
    ]


# --- the clock ---------------------------------------------------------------------------------


class SetClock(Clock):
    """A wall clock that is set by hand, and a post that takes as long as it is told to."""

    def __init__(self) -> None:
        self.wrong_by = 0.0
        self.post_seconds = 0.0
        self._monotonic = 0.0

    def time(self) -> float:
        return super().time() + self.wrong_by

    def monotonic(self) -> float:
        self._monotonic += self.post_seconds
        return self._monotonic

    def boot_time_ns(self) -> int:
        return super().boot_time_ns() + int(self.wrong_by * 1e9)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def timed(sink: Sink, clock: SetClock) -> Iterator[Wire]:
    wire = Wire(Ship(url=sink.url), clock)
    yield wire
    wire.close()


def test_the_boot_is_dated_by_the_stores_clock(sink: Sink, timed: Wire, clock: SetClock) -> None:
    """A clock that is a year behind shows as an offset of a year, whatever the answer was."""
    clock.wrong_by = -365 * 86400.0
    assert timed.boot_began_ns is None
    sink.script = [Answer(503)]
    timed.post(LINE)
    assert timed.boot_began_ns == pytest.approx(Clock().boot_time_ns(), abs=3e9)
    assert timed.clock_offset_seconds == pytest.approx(365 * 86400, abs=3)


def test_the_offset_follows_a_clock_that_is_set_at_once(timed: Wire, clock: SetClock) -> None:
    """The boot is as long ago as before: no answer is needed to know the new offset."""
    clock.wrong_by = -3600.0
    timed.post(LINE)
    began_ns = timed.boot_began_ns
    clock.wrong_by = 0.0
    assert timed.clock_offset_seconds == pytest.approx(0, abs=3)
    timed.post(LINE)
    assert timed.boot_began_ns == began_ns


def test_the_measurement_stands_still_while_the_clocks_do(sink: Sink, timed: Wire) -> None:
    """A store's date is cut to seconds: what is no contradiction is no news."""
    sink.date = formatdate(time.time(), usegmt=True)
    timed.post(LINE)
    began_ns = timed.boot_began_ns
    sink.date = formatdate(time.time() + 0.9, usegmt=True)
    timed.post(LINE)
    assert timed.boot_began_ns == began_ns


def test_a_slow_answer_says_little_about_the_time(sink: Sink, timed: Wire, clock: SetClock) -> None:
    """It does not overrule a better measurement; it is overruled by one."""
    clock.post_seconds = 10.0
    sink.date = formatdate(time.time() + 4, usegmt=True)
    timed.post(LINE)
    assert timed.clock_offset_seconds == pytest.approx(4 + 5, abs=3)
    clock.post_seconds = 0.0
    sink.date = formatdate(time.time() + 20, usegmt=True)
    timed.post(LINE)
    assert timed.clock_offset_seconds == pytest.approx(20, abs=3)
    clock.post_seconds = 10.0
    sink.date = formatdate(time.time() + 14, usegmt=True)
    timed.post(LINE)
    assert timed.clock_offset_seconds == pytest.approx(20, abs=3)


@pytest.mark.parametrize(
    "date",
    [
        "yesterday",
        "Fri, 99 Foo 99999 99:99:99 GMT",
        "-1",
        "Thu, 01 Jan 1970 00:00:09 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ],
)
def test_a_date_that_makes_no_sense_is_passed_over(sink: Sink, timed: Wire, date: str) -> None:
    """A store without a clock still takes readings."""
    sink.date = date
    assert timed.post(LINE).kind is Kind.ACCEPTED
    assert timed.clock_offset_seconds is None
