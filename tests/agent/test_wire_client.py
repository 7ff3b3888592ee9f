"""influxdb-client on a diet and on a short leash, against a real server on loopback."""

import subprocess
import sys
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import pytest
import urllib3

from farmhand_agent.config import Ship
from farmhand_agent.wire_client import AnswerLimit, WriteClient
from tests.agent.sink import PATIENCE_SECONDS, TRICKLE, Answer, Sink, running_sink

SILENCE_SECONDS = PATIENCE_SECONDS
TIMEOUTS = (3.0, SILENCE_SECONDS)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as sink:
        yield sink


def client(sink: Sink, *, seconds: float = PATIENCE_SECONDS, most: int = 2**20) -> WriteClient:
    ship = Ship(url=sink.url, org="org", bucket="farm/raw")
    return WriteClient(ship, TIMEOUTS, AnswerLimit(seconds, most))


def test_a_write_arrives_with_token_and_target(sink: Sink) -> None:
    """Line protocol under `/api/v2/write`, times in nanoseconds; the answer tells the time."""
    headers = client(sink).write(b"card power_watts=1.0 1", "s3cret")
    assert sink.accepted == ["card power_watts=1.0 1"]
    assert sink.posts[0].token == "Token s3cret"
    assert sink.posts[0].query == {"org": ["org"], "bucket": ["farm/raw"], "precision": ["ns"]}
    assert parsedate_to_datetime(headers["Date"])


def test_a_write_without_a_token_sends_none(sink: Sink) -> None:
    """A store that asks for none gets none."""
    client(sink).write(b"card power_watts=1.0 1", None)
    assert sink.posts[0].token is None


def test_writes_share_a_connection(sink: Sink) -> None:
    """A node does not shake hands anew for each post."""
    writer = client(sink)
    for _ in range(5):
        writer.write(b"card power_watts=1.0 1", None)
    writer.close()
    assert sink.connections == 1


def test_a_connection_that_the_store_closed_is_made_anew(sink: Sink) -> None:
    """Stores close what is idle; the next write notices and does not fail for it."""
    sink.script = [Answer(204, (("Connection", "close"),))]
    writer = client(sink)
    writer.write(b"card power_watts=1.0 1", None)
    writer.write(b"card power_watts=1.0 2", None)
    writer.close()
    assert sink.connections == 2


def test_an_answer_that_trickles_is_given_up(sink: Sink) -> None:
    """No single read is late, yet there is an end; the next write is a new try."""
    sink.script = [TRICKLE]
    writer = client(sink, seconds=0.2)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        writer.write(b"card power_watts=1.0 1", None)
    writer = client(sink)
    writer.write(b"card power_watts=1.0 1", None)
    assert sink.accepted == ["card power_watts=1.0 1"]


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_without_an_end_is_given_up(sink: Sink, status: int) -> None:
    """A server that answers with a film does not fill the node's memory."""
    sink.script = [Answer(status, body=b"x" * 100_000)]
    with pytest.raises(urllib3.exceptions.ProtocolError, match="longer than 50000 B"):
        client(sink, most=50_000).write(b"card power_watts=1.0 1", None)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_not_used(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Readings and token go where the configuration says, whatever shell started the agent."""
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    client(sink).write(b"card power_watts=1.0 1", "s3cret")
    assert sink.accepted == ["card power_watts=1.0 1"]


# --- few modules -------------------------------------------------------------------------------

WRITES = """
import sys
from farmhand_agent.config import Ship
from farmhand_agent.wire_client import AnswerLimit, WriteClient
WriteClient(Ship(url=sys.argv[1]), (3.0, 20.0), AnswerLimit(20.0, 10000)).write(b"a b=1.0 1", None)
"""
HEAVY = ("numpy", "pandas", "reactivex", "dateutil", "influxdb_client.client.write_api")


def python(program: str, *arguments: str) -> str:
    """Run a program in an interpreter of its own; what it printed."""
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_write_loads_what_a_write_needs(sink: Sink) -> None:
    """Neither the rest of the API nor what it drags in takes the node's memory."""
    loaded = python(f"{WRITES}\nprint(*sys.modules)", sink.url).split()
    assert sink.accepted == ["a b=1.0 1"]
    assert not [name for name in HEAVY if name in loaded]
    assert not [name for name in loaded if name.startswith("influxdb_client.domain.")]


def test_the_package_is_whole_for_whoever_asks_for_more(sink: Sink) -> None:
    """Anything else in the same process gets the influxdb-client that it knows."""
    others = """
import influxdb_client.domain
from influxdb_client import BucketsApi, InfluxDBClient, Point, WriteService
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.service.write_service import WriteService as same
assert WriteService is same and influxdb_client.domain.Bucket
assert influxdb_client.client.WriteService is same
assert not hasattr(influxdb_client, "no_such_name")
with InfluxDBClient(sys.argv[1], "t", org="o") as client:
    client.write_api(SYNCHRONOUS).write("b", record=Point("c").field("d", 1.0).time(2))
"""
    python(WRITES + others, sink.url)
    assert sink.accepted == ["a b=1.0 1", "c d=1 2"]


def test_a_package_that_is_loaded_already_is_used_as_it_is(sink: Sink) -> None:
    """Nothing of it is replaced."""
    program = "import influxdb_client\nbefore = vars(influxdb_client).copy()\n"
    program += WRITES + "\nassert before.items() <= vars(influxdb_client).items()"
    python(program, sink.url)
    assert sink.accepted == ["a b=1.0 1"]
