"""`farmhand doctor`, the backup and `/metrics` on a real farm, as their users run them."""

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest
import urllib3

from tests.system.programs import COLLECTOR, FARMHAND, TOKEN, Collector, running, wait_until

pytestmark = pytest.mark.system

CARDS = 16


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str


def ran(*command: str, home: Path) -> Done:
    """Run a command to its end, as a user without a configuration of his own."""
    places = {"HOME": str(home), "XDG_STATE_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    environment = {**os.environ, **places, "FARMHAND_TEST_PASSWORD": "not to be told"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=environment
    )
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def farm(directory: Path, cards: int) -> Iterator[Collector]:
    """A collector to which a simulated farm posts, judged once at least."""
    made = Collector(
        directory,
        simulated={"seed": 1, "planted": []},
        backup={"directory": str(directory / "kept")},
    )
    content = json.loads(made.config.read_text())
    content["listen"]["read_token_file"] = content["listen"]["write_token_file"]
    made.config.write_text(json.dumps(content))
    (directory / "token").chmod(0o600)
    # Tokens and certificates of its own; on loopback it speaks without TLS.
    assert ran(*COLLECTOR, "init", "--config", str(made.config), home=directory).status == 0
    options = ["--cards", str(cards), "--seed", "1", "--faults", "some", "--history", "1200"]
    options += ["--url", made.url, "--token-file", str(directory / "token")]
    with running(made), (directory / "simulator.log").open("wb") as log:
        simulator = subprocess.Popen([*COLLECTOR, "simulate", *options], stderr=log)
        try:
            wait_until(lambda: len(made.status().cards) == cards, 60, "the farm is judged")
            yield made
        finally:
            simulator.terminate()
            simulator.wait(30)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A farm that stands still while it is looked at."""
    with farm(tmp_path_factory.mktemp("farm"), CARDS) as made:
        yield made


def doctor(collector: Collector, *options: str, home: Path) -> Done:
    """Ask the doctor about a collector."""
    config = ("--config", str(collector.config))
    return ran(*FARMHAND, "doctor", *config, *options, home=home)


def test_the_doctor_sees_a_farm_that_works(collector: Collector, tmp_path: Path) -> None:
    """All that does not depend on this machine's clock and disk is well."""
    wait_until(lambda: any((collector.directory / "kept").glob("2*")), 60, "a backup is made")
    done = doctor(collector, "--json", home=tmp_path)

    report = json.loads(done.out)
    levels = {check["id"]: check["level"] for check in report["checks"]}
    assert report["schema"] == 1
    well = {"agents-dropping", "agents-silent", "agents-spool", "agents-version", "clock-agents"}
    well |= {"certificate", "collector", "configuration", "judging", "ledger", "packages"}
    assert {name: levels[name] for name in well} == dict.fromkeys(well, "ok")
    assert done.status == {"ok": 0, "warning": 1, "bad": 2, "cannot tell": 3}[report["level"]]
    assert report["level"] != "bad"


def test_the_doctor_tells_a_person_what_to_do(collector: Collector, tmp_path: Path) -> None:
    """A line a check and its remedy under it; nothing else is printed."""
    done = doctor(collector, home=tmp_path)

    assert any(line.startswith("warning") and "tokens" in line for line in done.out.splitlines())
    assert "Make a longer token" in done.out
    assert TOKEN not in done.out
    assert done.err == ""


def test_the_doctor_is_asked_from_another_machine(collector: Collector, tmp_path: Path) -> None:
    """By the terminal's configuration: what lies in the collector's files cannot be told."""
    (tmp_path / "farmhand").mkdir()
    token_file = collector.directory / "token"
    told = f'url = "{collector.url}"\ntoken_file = "{token_file}"\n'
    (tmp_path / "farmhand" / "farmhand.toml").write_text(told)

    done = ran(*FARMHAND, "doctor", "--json", home=tmp_path)

    levels = {check["id"]: check["level"] for check in json.loads(done.out)["checks"]}
    assert levels["collector"] == levels["judging"] == "ok"
    assert levels["ledger"] == levels["agents-silent"] == "cannot tell"


def test_a_bundle_is_written_beside_the_report(collector: Collector, tmp_path: Path) -> None:
    """It holds the farm's counts, and neither a host's name nor the token."""
    target = tmp_path / "bundle.tar.gz"

    doctor(collector, "--bundle", str(target), home=tmp_path)

    with tarfile.open(target) as tar:
        files = {Path(m.name).name: tar.extractfile(m) for m in tar.getmembers()}
        told = {name: file.read().decode() for name, file in files.items() if file}
    farm = json.loads(told["farm.json"])
    assert sum(group["count"] for group in farm["cards"]) == CARDS
    hosts = {card.host for card in collector.status().cards}
    for secret in (*hosts, TOKEN, "not to be told"):
        assert not [name for name, text in told.items() if secret in text]


def test_prometheus_reads_the_collector(collector: Collector) -> None:
    """What judging costs, what came in and what is open is all there."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = urllib3.request("GET", f"{collector.url}/metrics", headers=headers)

    told = dict(line.rsplit(" ", 1) for line in answer.data.decode().splitlines() if line[0] != "#")
    assert float(told["farmhand_ingest_readings_accepted_total"]) > 0
    assert float(told["farmhand_tick_seconds_count"]) > 0
    assert float(told["farmhand_collector_connections"]) >= 1
    assert 'farmhand_backups_total{result="good"}' in told


def history(data: Path) -> dict[str, list[str]]:
    """Every row of every table of a ledger, and the bytes of what lies beside it."""
    flags = apsw.SQLITE_OPEN_READONLY
    with closing(apsw.Connection(str(data / "farm.sqlite"), flags=flags)) as connection:
        found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        names = [str(row[0]) for row in found.fetchall()]
        told = {
            name: sorted(map(repr, connection.execute(f'SELECT * FROM "{name}"')))  # noqa: S608
            for name in names
        }
    files = [data / "tokens.json", *sorted((data / "tls").iterdir())]
    return {**told, **{str(path.relative_to(data)): [repr(path.read_bytes())] for path in files}}


def test_a_farm_survives_the_loss_of_its_disk(tmp_path: Path) -> None:
    """docs/backup.md, step by step: back up, lose all, restore into an empty place, go on."""
    data, kept = tmp_path / "data", tmp_path / "by-hand"
    with farm(tmp_path, 4) as collector:
        config = ("--config", str(collector.config))
        running_copy = ran(*COLLECTOR, "backup", *config, "--to", str(kept), home=tmp_path)
        assert running_copy.status == 0, running_copy.err
        collector.stop()
        (data / "tls").mkdir(exist_ok=True)
        (data / "tls" / "old-ca.pem").write_text("a certificate of before")
        assert ran(*COLLECTOR, "backup", *config, "--to", str(kept), home=tmp_path).status == 0
        before = history(data)
        data.rename(tmp_path / "lost")
        newest = max(path for path in kept.iterdir() if path.is_dir())

        done = ran(*COLLECTOR, "restore", *config, str(newest), home=tmp_path)

        assert done.status == 0, done.err
        assert history(data) == before
        assert len(before["change"]) > 0
        assert len(before["checkpoint"]) == 1
        collector.start()
        refused = ran(*COLLECTOR, "restore", *config, str(newest), home=tmp_path)
        assert refused.status == 1
        assert "stop it first" in refused.err
        # Only new readings are there to be judged, and they are.
        wait_until(lambda: len(collector.status().cards) == 4, 90, "judging goes on")
