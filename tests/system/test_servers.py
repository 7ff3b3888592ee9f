"""The InfluxDB servers of the tests: written to as agents do, read as the store does.

What holds here is what farmhand may count on with either server; what its own parts make of it is
tested where they are.
"""

import csv
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import psutil
import pytest
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from tests.servers import build
from tests.servers.influxd import Influx, Influx1, Influx2, ServerFailed
from tests.system.programs import wait_until

pytestmark = pytest.mark.system

TIME_NS = 1_700_000_000_000_000_001
"""Told to the nanosecond, that nothing is lost on the way."""


@pytest.fixture(params=[Influx1, Influx2], ids=["1.x", "2.x"])
def influx(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Influx]:
    """A server of each version, empty."""
    kind: type[Influx1] | type[Influx2] = request.param
    with kind(tmp_path / "influx") as server:
        yield server


@contextmanager
def client(influx: Influx, token: str | None = None) -> Iterator[InfluxDBClient]:
    told = influx.token if token is None else token
    with InfluxDBClient(url=influx.url, token=told, org=influx.org) as made:
        yield made


def write(influx: Influx, *lines: str, token: str | None = None) -> None:
    """Write lines as the agent does: at once, and with an error when they were not taken."""
    with client(influx, token) as made, closing(made.write_api(SYNCHRONOUS)) as api:
        api.write(influx.bucket, record=list(lines))


def rows(influx: Influx, statement: str) -> list[dict[str, str]]:
    return list(csv.DictReader(influx.influxql(statement).splitlines()))


def test_a_point_is_read_back_as_it_was_written(influx: Influx) -> None:
    """Agents write by /api/v2/write, the store reads by InfluxQL: tags, fields, the very time."""
    write(influx, f'card,host=node1,card=GPU-1 power_watts=213.5,state="ok" {TIME_NS}')

    (row,) = rows(influx, "SELECT * FROM card")

    assert row == {
        "name": "card",
        "tags": "",
        "time": str(TIME_NS),
        "card": "GPU-1",
        "host": "node1",
        "power_watts": "213.5",
        "state": "ok",
    }


def test_the_server_is_of_the_version_that_it_claims(influx: Influx) -> None:
    """A finding about a version is worth nothing when another one was asked."""
    with client(influx) as made:
        assert made.version().removeprefix("v") == influx.version


def test_what_was_acknowledged_survives_a_kill(influx: Influx) -> None:
    """An agent forgets what a server has acknowledged, so a power cut may not lose it."""
    write(influx, f"card,card=GPU-1 power_watts=213.5 {TIME_NS}")
    port, killed = influx.port, influx.pid

    influx.kill()
    assert not psutil.pid_exists(killed)
    influx.restart()

    assert influx.port == port
    (row,) = rows(influx, "SELECT power_watts FROM card")
    assert row["power_watts"] == "213.5"


def test_a_server_that_was_stopped_still_takes_points_after_its_restart(influx: Influx) -> None:
    """A service manager restarts it; token, bucket and data stay what they were."""
    write(influx, f"card,card=GPU-1 power_watts=1 {TIME_NS}")

    influx.restart()
    write(influx, f"card,card=GPU-1 power_watts=2 {TIME_NS + 1}")

    assert [row["power_watts"] for row in rows(influx, "SELECT power_watts FROM card")] == [
        "1",
        "2",
    ]


def test_fields_sent_again_merge_with_what_is_there(influx: Influx) -> None:
    """An agent that got no answer sends again: same tags and time are the same point."""
    write(influx, f"card,card=GPU-1 power_watts=1,core_temperature_celsius=60 {TIME_NS}")
    write(influx, f"card,card=GPU-1 power_watts=2,fan_percent=30 {TIME_NS}")

    (row,) = rows(influx, "SELECT * FROM card")

    assert row["power_watts"] == "2"
    assert row["core_temperature_celsius"] == "60"
    assert row["fan_percent"] == "30"


def test_a_statement_that_is_no_influxql_is_told(influx: Influx) -> None:
    """A refusal that reads as an empty answer would let every other test here pass."""
    with pytest.raises(ServerFailed, match="SELEC"):
        influx.influxql("SELEC * FROM card")


def test_it_says_in_json_only_that_there_is_no_such_database(influx: Influx) -> None:
    """Who reads CSV cannot tell a wrong name from a farm that has no readings yet."""
    asked = {"db": "another", "q": "SELECT * FROM card"}
    headers = {"Authorization": f"Token {influx.token}", "Accept": "application/json"}
    with closing(HTTPConnection("127.0.0.1", influx.port)) as connection:
        connection.request("GET", f"/query?{urlencode(asked)}", headers=headers)
        in_json = connection.getresponse().read().decode()

    assert "database not found" in in_json
    assert influx.influxql(asked["q"], db=asked["db"]) == ""


def test_nothing_is_left_of_a_server_whose_block_fails(tmp_path: Path) -> None:
    """A failing test may not leave servers behind, which the next ones would have to share."""
    with pytest.raises(RuntimeError, match="fails"), Influx1(tmp_path) as influx:
        pid = influx.pid
        raise RuntimeError("the test fails")

    assert not psutil.pid_exists(pid)


STARTER = """
import sys, time
from pathlib import Path
from tests.servers.influxd import Influx1
server = Influx1(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


def test_nothing_is_left_of_a_server_whose_test_run_is_killed(tmp_path: Path) -> None:
    """Nobody is there to clean up then."""
    command = [sys.executable, "-c", STARTER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        server = psutil.Process(int(run.stdout.readline()))
        run.kill()

    wait_until(lambda: not lives(server), 30, "the server is gone")


def lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize("token", ["", "keeper:wrong", "nobody:secret"])
def test_a_1_x_server_with_a_user_takes_nobody_else(tmp_path: Path, token: str) -> None:
    """With authentication on, the token is the user's name and password."""
    line = f"card,card=GPU-1 power_watts=1 {TIME_NS}"
    with Influx1(tmp_path, user="keeper", password='it\'s"secret"\\') as influx:
        write(influx, line)
        with pytest.raises(ApiException, match="401"):
            write(influx, line, token=token)
        assert len(rows(influx, "SELECT power_watts FROM card")) == 1


def test_a_2_x_server_takes_nobody_without_the_token(tmp_path: Path) -> None:
    """What 1.x does when it has a user, 2.x always does."""
    with Influx2(tmp_path) as influx, pytest.raises(ApiException, match="401"):
        write(influx, f"card,card=GPU-1 power_watts=1 {TIME_NS}", token="another")


# --- building them -----------------------------------------------------------------------------

BUILD = [sys.executable, "-m", "tests.servers.build"]


def test_a_server_that_is_there_is_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every test run asks for the servers; without any tool, it gets what is there."""
    monkeypatch.setenv("FARMHAND_SERVERS", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    for version in build.RECIPES:
        build.place(version).touch()

    subprocess.run(BUILD, check=True)


def test_the_tools_that_are_missing_are_named_in_one_line(tmp_path: Path) -> None:
    """A build of minutes does not end in the words of a linker."""
    environment = {"FARMHAND_SERVERS": str(tmp_path), "PATH": ""}

    done = subprocess.run(BUILD, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == "InfluxDB cannot be built here, missing: go cargo gcc pkg-config\n"
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_go_that_is_too_old_is_told(tmp_path: Path) -> None:
    """Debian 12 has one, and what it says of a newer module helps nobody."""
    for tool in build.TOOLS:
        (tmp_path / tool).write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
        (tmp_path / tool).chmod(0o755)
    environment = {"FARMHAND_SERVERS": str(tmp_path / "cache"), "PATH": str(tmp_path)}

    done = subprocess.run(BUILD, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "needs go 1.25 or newer" in done.stderr
    assert "go1.19.8" in done.stderr


def test_two_runs_do_not_build_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first, and takes what that one built."""
    monkeypatch.setenv("FARMHAND_SERVERS", str(tmp_path))
    command = [*BUILD, "2.9.1"]
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as second:
            assert second.stderr is not None
            assert "waiting" in second.stderr.readline()
            build.place("2.9.1").touch()
            fcntl.flock(held, fcntl.LOCK_UN)
            assert second.stderr.read() == f"InfluxDB 2.9.1: {build.place('2.9.1')}\n"
    assert second.returncode == 0
