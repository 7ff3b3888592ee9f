"""A farm of several machines on one: a collector that speaks TLS, and nodes that join it.

Real programs and sockets. `listen.tls` has the collector speak on loopback as it would elsewhere.
"""

import json
import os
import re
import shlex
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from farmhand_agent import config as agent_config
from farmhand_agent.shipper import Shipper, State
from farmhand_agent.spool import Spool
from farmhand_agent.spool_disk import MINIMUM_CAP_BYTES
from tests.agent import certificate
from tests.system.programs import AGENT, COLLECTOR, FARMHAND, Collector, wait_until

pytestmark = pytest.mark.system


class Farm(Collector):
    """A collector that was set up by `init` and speaks TLS."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        listen = {"port": self.port, "tls": True, "names": ["127.0.0.1"]}
        content = {"data_dir": str(directory / "data"), "listen": listen}
        self.config.write_text(json.dumps(content))
        self.url = f"https://127.0.0.1:{self.port}"
        self.initiation = ran(*COLLECTOR, "init", "--config", str(self.config)).stdout

    def _answers(self) -> bool:
        log = (self.directory / "collector.log").read_text()
        assert self.process is not None and self.process.poll() is None, log
        return "judging what is written to https" in log

    def agents(self, *command: str) -> str:
        """What `farmhand agents` says."""
        return ran(*FARMHAND, "agents", *command, "--config", str(self.config)).stdout

    def hosts(self) -> dict[str, int]:
        """Readings that it holds, by host."""
        found: dict[str, int] = {}
        for line in self.export():
            if host := re.search(r"^host,.*?host=([^, ]+)", line):
                found[host[1]] = found.get(host[1], 0) + 1
        return found


def ran(*command: str, text: str = "", status: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, which must be with a status."""
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def join(directory: Path, line: str, *options: str, status: int = 0) -> str:
    """Join by a line; returns all that was said."""
    config = str(directory / "agent.toml")
    done = ran(*AGENT, "join", "--config", config, *options, text=line, status=status)
    return done.stdout + done.stderr


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    made = Farm(tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.kill()


class Node:
    """The shipping half of an agent, as its configuration file says."""

    def __init__(self, directory: Path, host: str) -> None:
        self.host = host
        self._ship = agent_config.load(directory / "agent.toml").ship
        self._spool = Spool(directory / "spool.sqlite", MINIMUM_CAP_BYTES)
        self.shipper = Shipper(self._spool, self._ship)
        self.shipper.start()
        self.readings = 0

    def read(self) -> None:
        """One reading more."""
        self._spool.put([f"host,site=home,host={self.host} load1=1 {time.time_ns()}"])
        self.readings += 1

    @property
    def waiting(self) -> int:
        """Readings that the collector does not have yet."""
        return self._spool.points

    def close(self) -> None:
        self.shipper.stop(1)
        self._spool.close()


def test_a_node_joins_by_one_line_and_ships(farm: Farm, tmp_path: Path) -> None:
    """The command that was printed, in a shell; the agent verifies who the collector is."""
    command = farm.agents("add", "node1", "--rack", "shelf 1")
    here = f"{shlex.join(AGENT)} join --config {tmp_path}/node1/agent.toml"
    said = ran("sh", "-c", command.replace("farmhand-agent join", here)).stdout

    assert f"{farm.url} answers and takes the token of node1" in said
    made = agent_config.load(tmp_path / "node1" / "agent.toml")
    assert (made.host, made.rack, made.ship.verify_tls) == ("node1", "shelf 1", True)
    with closing(Node(tmp_path / "node1", "node1")) as node:
        node.read()
        wait_until(lambda: node.waiting == 0, 20, "the reading is accepted")
    assert farm.hosts() == {"node1": 1}


def test_the_agent_itself_runs_on_what_join_wrote(farm: Farm, tmp_path: Path) -> None:
    """The service, with its own readings of this machine."""
    join(tmp_path / "node1", farm.agents("add", "node1"))
    path = tmp_path / "node1" / "agent.toml"
    top = f'interval_seconds = 0.5\nsample_seconds = 0.1\nstate_dir = "{tmp_path}/state"\n'
    path.write_text(top + path.read_text() + "[nvidia]\nenabled = false\n")
    with (tmp_path / "agent.log").open("wb") as log:
        process = subprocess.Popen([*AGENT, "run", "--config", str(path)], stderr=log)
    try:
        wait_until(lambda: farm.hosts().get("node1", 0) >= 2, 30, "the agent ships")
    finally:
        process.terminate()
        process.wait(30)
    assert "HTTP 4" not in (tmp_path / "agent.log").read_text()


def test_a_wrong_fingerprint_is_refused(farm: Farm, tmp_path: Path) -> None:
    """Nothing is written; the next line that is right works."""
    line = farm.agents("add", "node1")
    wrong = re.sub("pin=(.)", lambda m: f"pin={'0' if m[1] != '0' else '1'}", line)
    said = join(tmp_path / "node1", wrong, status=1)

    assert "another certificate authority than the line names" in said
    assert not (tmp_path / "node1").exists()
    assert "answers and takes" in join(tmp_path / "node1", line)


class Impostor(BaseHTTPRequestHandler):
    """Answers anything, and writes down what it was told."""

    authority = b""
    heard: list[str]

    def do_GET(self) -> None:
        self.heard.append(f"{self.path} {self.headers}")
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.authority)))
        self.end_headers()
        self.wfile.write(self.authority)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def impostor(directory: Path, authority: bytes | None) -> Iterator[tuple[int, list[str]]]:
    """A TLS server with a certificate of its own that hands out an authority's, or its own."""
    shown, key = certificate.make(directory)
    authority = authority or shown.read_bytes()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown, key)
    heard: list[str] = []
    handler = type("Handler", (Impostor,), {"authority": authority, "heard": heard})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port, heard
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("shows", ["its own", "the farm's"])
def test_who_stands_between_gets_no_token(farm: Farm, tmp_path: Path, shows: str) -> None:
    """Whether it hands out its own authority or the right one, which it cannot answer for."""
    farms = (tmp_path / "data" / "tls" / "ca.pem").read_bytes()
    authority = None if shows == "its own" else farms
    line = farm.agents("add", "node1")
    with impostor(tmp_path, authority) as (port, heard):
        said = join(tmp_path / "node1", line.replace(f":{farm.port}", f":{port}"), status=1)

    assert "another certificate authority" in said or "does not hold" in said
    assert [text.split()[0] for text in heard] == ["/ca.pem"]
    assert "fh1_" not in str(heard)
    assert not (tmp_path / "node1").exists()


def test_the_token_of_one_node_writes_nothing_of_another(farm: Farm, tmp_path: Path) -> None:
    """The reading is refused and set aside; the node's own go on."""
    join(tmp_path / "node1", farm.agents("add", "node1"))
    with closing(Node(tmp_path / "node1", "node2")) as forger:
        forger.read()
        forger.host = "node1"
        forger.read()
        wait_until(lambda: farm.hosts() == {"node1": 1}, 30, "only node1's reading is kept")
        wait_until(lambda: forger.waiting == 0, 30, "the other one is given up")

    assert "host=node2" in (tmp_path / "node1" / "rejected.lp").read_text()


def test_rotation_loses_and_refuses_no_post(farm: Farm, tmp_path: Path) -> None:
    """The agent ships all the while and takes the new token by itself; the old one is ended."""
    join(tmp_path / "node1", farm.agents("add", "node1"))
    with closing(Node(tmp_path / "node1", "node1")) as node:
        states = set()

        def ship(count: int) -> None:
            for _ in range(count):
                node.read()
                wait_until(lambda: node.waiting == 0, 20, "the reading is accepted")
                states.add(node.shipper.state)

        ship(5)
        line = farm.agents("rotate", "node1")
        ship(5)
        said = join(tmp_path / "node1", line)
        ship(5)
        assert len(farm.agents("list").splitlines()) == 2
        farm.agents("drop-old", "node1", "--force")
        ship(5)

        assert "stays as it was" in said
        assert states == {State.SHIPPING}
        assert farm.hosts() == {"node1": node.readings}
    assert len(farm.agents("list").splitlines()) == 1


def test_a_revoked_node_is_refused_and_loses_nothing(farm: Farm, tmp_path: Path) -> None:
    """Its readings wait until it may join again."""
    join(tmp_path / "node1", farm.agents("add", "node1"))
    with closing(Node(tmp_path / "node1", "node1")) as node:
        node.read()
        wait_until(lambda: node.waiting == 0, 20, "the reading is accepted")

        farm.agents("revoke", "node1")
        node.read()
        wait_until(lambda: node.shipper.state is State.HELD, 20, "the node is refused")
        assert farm.hosts() == {"node1": 1}
    said = join(tmp_path / "node1", farm.agents("add", "node1"))
    assert "stays as it was" in said
    with closing(Node(tmp_path / "node1", "node1")) as again:
        wait_until(lambda: again.waiting == 0, 20, "what waited is accepted")
    assert farm.hosts() == {"node1": 2}


def test_a_revoked_line_does_not_join(farm: Farm, tmp_path: Path) -> None:
    """It was in a chat; the node says so and nothing is written."""
    line = farm.agents("add", "node1")
    farm.agents("revoke", "node1")

    assert "does not take the token of node1" in join(tmp_path / "node1", line, status=1)
    assert not (tmp_path / "node1").exists()


def test_use_is_listed_and_outlives_a_restart(farm: Farm, tmp_path: Path) -> None:
    """Whether a line that was handed out has been used."""
    join(tmp_path / "node1", farm.agents("add", "node1"))
    farm.stop()

    (told,) = json.loads(farm.agents("list", "--json"))["agents"]
    assert told["host"] == "node1" and time.time() - told["used"] < 120


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_what_root_makes_belongs_to_the_service(tmp_path: Path) -> None:
    """The collector has a user of its own; the keeper adds nodes as root."""
    service = 64123
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", service, service)

    farm = Farm(tmp_path)
    farm.agents("add", "node1")

    made = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert {path.name for path in made} >= {"tokens.json", "tls", "ca-key.pem", "server.pem"}
    assert {path.stat().st_uid for path in made} == {service}


def test_the_read_token_of_init_reads_and_does_not_write(farm: Farm) -> None:
    """Asked as a terminal would, with the farm's authority."""
    (token,) = re.findall(r"token to read.*(fh1_\S+)", farm.initiation)
    authority = str(farm.directory / "data" / "tls" / "ca.pem")
    ask = ["curl", "--silent", "--cacert", authority, "--output", "/dev/null"]
    ask += ["--write-out", "%{http_code}", "--header", f"Authorization: Bearer {token}"]

    assert ran(*ask, f"{farm.url}/v1/status").stdout == "200"
    assert ran(*ask, "--data", "x", f"{farm.url}/api/v2/write").stdout == "401"
