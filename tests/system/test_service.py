"""The agent as a node runs it: its Debian package under a real systemd, cards of the stand-in.

The readings go to a sink outside of the machine. Each test starts from the installed package, a
fresh configuration and an empty state directory.
"""

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from farmhand_agent.reading import Reading, parse_line
from farmhand_agent.spool import Spool
from farmhand_agent.spool_disk import MINIMUM_CAP_BYTES
from tests import standin
from tests.agent.sink import OK, Answer, Sink, running_sink
from tests.standin.captures import farm_state
from tests.system.machine import (
    Machine,
    kernel_says,
    machine,
    pack,
    unpack,
    what_is_missing,
)
from tests.system.programs import wait_until

pytestmark = pytest.mark.system

ROOT = Path(__file__).parent.parent.parent
UNITS = ROOT / "systemd"

TOKEN = "a-token-for-tests"
AGENT = "farmhand-agent.service"
CONFIG = "/etc/farmhand/agent.toml"
TOKEN_FILE = "/etc/farmhand/write-token"
STATE = "/var/lib/farmhand-agent"
DROP_INS = f"/etc/systemd/system/{AGENT}.d"
LATER_VERSION = "99.0"

MODELS = ("RTX 3080", "RTX 3090", "RTX 3060", "T4", "A10G", "L40S", "H100", "RTX 2080 SUPER")
BUSY = Answer(503, headers=(("Retry-After", "2"),))
RESTART_SECONDS = 30.0
"""Within which a dead agent is back: 5 s of RestartSec, the rest for a machine that is busy."""

AGENT_EXPOSURE = 1.5
DOOR_EXPOSURE = 1.5
COLLECTOR_EXPOSURE = 1.3
"""Most that `systemd-analyze security` may say of a unit, on its scale from 0 to 10."""


class Node:
    """A machine with the installed agent, and the sink that it ships to."""

    def __init__(self, machine: Machine, sink: Sink, farm: standin.State) -> None:
        self.machine = machine
        self.sink = sink
        self.farm = farm

    def configure(self, **top: str) -> None:
        """Write configuration and token; keys of `top` are TOML."""
        keys = {"site": '"cellar"', "host": '"node1"', "interval_seconds": "0.5"}
        keys |= {"sample_seconds": "0.1"} | top
        lines = [f"{key} = {value}" for key, value in keys.items()]
        token_file = f"/run/credentials/{AGENT}/write-token"
        lines += ["[ship]", f'url = "{self.sink.url}"', f'token_file = "{token_file}"']
        lines += [f"spool_bytes = {MINIMUM_CAP_BYTES}"]
        self.machine.write(CONFIG, "\n".join(lines) + "\n")
        self.machine.write(TOKEN_FILE, TOKEN, 0o600)

    def install(self, package: Path) -> None:
        """Install a package with no network to ask."""
        inside = f"/root/{package.name}"
        (self.machine.root / inside.lstrip("/")).write_bytes(package.read_bytes())
        self.machine.run("unshare", "--net", "dpkg", "--install", inside)

    def installed(self) -> str:
        """Version of the installed package; empty where there is none."""
        form = "--showformat=${db:Status-Abbrev}${Version}"
        told = self.machine.run("dpkg-query", "--show", form, "farmhand-agent", check=False)
        return told.removeprefix("ii ") if told.startswith("ii ") else ""

    def systemctl(self, *command: str, check: bool = True) -> None:
        """Ask systemd for something."""
        self.machine.run("systemctl", *command, check=check)

    def told(self, name: str) -> str:
        """A property of the agent's unit."""
        return self.machine.property(AGENT, name)

    def clean(self) -> None:
        """Stop the agent and forget what it knew."""
        self.systemctl("stop", AGENT, check=False)
        self.systemctl("reset-failed", AGENT, check=False)
        self.machine.run("find", STATE, "-mindepth", "1", "-delete", check=False)

    def wait_for_readings(self, more: int = 2) -> None:
        """Wait until so many more readings of the first card are accepted."""
        wanted = len(self.cards()) + more
        self.sink.wait_until(lambda: len(self.cards()) >= wanted)

    def cards(self, slot: str = "0000:01:00.0") -> list[Reading]:
        """Accepted readings of one card."""
        return [r for r in self.readings("card") if r.tags["slot"] == slot]

    def readings(self, measurement: str) -> list[Reading]:
        """Accepted readings of one measurement."""
        start = f"{measurement},"
        return [parse_line(line) for line in list(self.sink.accepted) if line.startswith(start)]

    def processes(self) -> list[int]:
        """Processes of the unit, as the machine numbers them."""
        group = self.told("ControlGroup")
        told = self.machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs")
        return [int(process) for process in told.split()]

    def journal(self, *options: str) -> str:
        """What the unit told since the machine was booted."""
        return self.machine.run("journalctl", "--boot", f"--unit={AGENT}", "--no-pager", *options)

    def wait_for_message(self, text: str) -> None:
        """Wait until the unit's journal has a text: it arrives a moment after it was told."""
        wait_until(lambda: text in self.journal(), 10, f"{text!r} is in the journal")


# --- the machine and what is on it ---------------------------------------------------------------


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from this checkout."""
    directory = tmp_path_factory.mktemp("package")
    build = ROOT / "packaging" / "build-deb.sh"
    subprocess.run([str(build), sys.executable, str(directory)], check=True)
    return next(directory.glob("farmhand-agent_*_amd64.deb"))


@pytest.fixture(scope="session")
def later_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package as a later version."""
    directory = tmp_path_factory.mktemp("later")
    tree = unpack(package, directory / "tree")
    metadata = next(tree.glob("usr/lib/farmhand/lib/python3*/site-packages/farmhand-*/METADATA"))
    for file in (tree / "DEBIAN" / "control", metadata):
        lines = file.read_text().splitlines()
        changed = [f"Version: {LATER_VERSION}" if s.startswith("Version: ") else s for s in lines]
        file.write_text("\n".join(changed) + "\n")
    return pack(tree, directory / f"farmhand-agent_{LATER_VERSION}_amd64.deb")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the stand-in where the driver's library would be."""
    missing = what_is_missing()
    if missing:
        pytest.fail(missing, pytrace=False)
    with machine(tmp_path_factory.mktemp("machine")) as made:
        standin.build(made.root / "usr/lib/x86_64-linux-gnu")
        state = "[Service]\nEnvironment=FARMHAND_NVML_STATE=/opt/standin/nvml.state\n"
        made.write(f"{DROP_INS}/standin.conf", state)
        yield made


@pytest.fixture
def node(box: Machine, package: Path) -> Iterator[Node]:
    """A booted machine whose agent reads eight cards and ships to a fresh sink."""
    if not box.is_running:
        box.boot()
    (box.root / "opt/standin").mkdir(exist_ok=True)
    farm = farm_state(box.root / "opt/standin/nvml.state", MODELS)
    farm.write()
    with running_sink() as sink:
        node = Node(box, sink, farm)
        if node.installed() != version_of(package):
            node.install(package)
        node.clean()
        node.configure()
        node.systemctl("start", AGENT)
        yield node
        if box.is_running:
            # Shown when the test fails.
            sys.stdout.write(node.journal("--lines=60"))


def version_of(package: Path) -> str:
    return package.name.split("_")[1]


# --- installed -----------------------------------------------------------------------------------


def test_the_package_alone_starts_the_agent(node: Node, package: Path) -> None:
    """Without a network, without a token and without an edit; it starts with the machine too."""
    node.machine.run("dpkg", "--purge", "farmhand-agent")
    (node.machine.root / TOKEN_FILE.lstrip("/")).unlink()

    node.install(package)

    assert node.told("ActiveState") == "active"
    assert node.told("UnitFileState") == "enabled"
    node.wait_for_message("shipping to http://127.0.0.1:8428")
    assert version_of(package) in node.machine.run("farmhand-agent", "--version")


def test_all_cards_arrive_with_their_values(node: Node) -> None:
    """Under the unit as it is shipped, with the token that root handed over."""
    slots = [f"0000:{number:02x}:00.0" for number in range(1, len(MODELS) + 1)]

    node.sink.wait_until(lambda: all(len(node.cards(slot)) >= 3 for slot in slots))

    for slot, card in zip(slots, node.farm.cards, strict=True):
        assert {r.tags["card"] for r in node.cards(slot)} == {card["uuid"]}
        assert {r.fields["state"] for r in node.cards(slot)} == {"ok"}
    assert {post.token for post in node.sink.posts} == {f"Token {TOKEN}"}


def test_purged_it_leaves_neither_state_nor_units(node: Node) -> None:
    """A keeper can put it on a node and take it off again."""
    node.wait_for_readings(1)

    node.machine.run("dpkg", "--purge", "farmhand-agent")

    assert node.told("LoadState") == "not-found" or node.told("UnitFileState") == ""
    for path in (STATE, CONFIG, "/usr/lib/farmhand", "/run/farmhand", "/usr/bin/farmhand-agent"):
        assert node.machine.run("find", path, "-maxdepth", "0", check=False) == ""
    enabled = "/etc/systemd/system/multi-user.target.wants/farmhand-agent.service"
    assert node.machine.run("find", enabled, check=False) == ""


# --- upgraded ------------------------------------------------------------------------------------


def test_an_upgrade_keeps_configuration_and_spool(node: Node, later_package: Path) -> None:
    """What waited is delivered by the new version, which tells its number."""
    node.wait_for_readings(1)
    before = {r.fields["version"] for r in node.readings("agent")}
    node.sink.always = BUSY
    tried = refused(node, at_least=2)
    configured = (node.machine.root / CONFIG.lstrip("/")).read_text()

    node.install(later_package)
    node.sink.always = OK

    node.sink.wait_until(lambda: tried <= set(node.sink.accepted))
    node.sink.wait_until(lambda: len({r.fields["version"] for r in node.readings("agent")}) == 2)
    after = {r.fields["version"] for r in node.readings("agent")}
    assert after - before == {LATER_VERSION}
    assert (node.machine.root / CONFIG.lstrip("/")).read_text() == configured
    assert {post.token for post in node.sink.posts} == {f"Token {TOKEN}"}


def refused(node: Node, at_least: int) -> set[str]:
    """Lines that the sink refused from now on, once there were so many posts."""
    posts = len(node.sink.posts)
    node.sink.wait_until(lambda: len(node.sink.posts) >= posts + at_least)
    return {line for post in node.sink.posts[posts:] for line in post.lines}


# --- killed, hung, stopped -----------------------------------------------------------------------


def test_a_killed_agent_is_back_within_seconds(node: Node) -> None:
    """Its readings go on."""
    node.wait_for_readings(1)

    node.systemctl("kill", "--kill-who=main", "--signal=KILL", AGENT)

    wait_until(lambda: node.told("NRestarts") == "1", RESTART_SECONDS, "systemd starts it again")
    wait_until(lambda: node.told("ActiveState") == "active", RESTART_SECONDS, "it is ready")
    node.wait_for_readings(2)


def test_it_may_be_started_as_often_as_it_takes(node: Node) -> None:
    """A node that flaps must not end up without an agent, after five in ten seconds."""
    for _ in range(8):
        node.systemctl("restart", AGENT)

    node.wait_for_readings(2)
    assert node.told("Restart") == "always"


def test_a_hung_agent_is_killed_by_the_watchdog_and_started_again(node: Node) -> None:
    """As after SIGSTOP, when nothing in it runs any more; the unit's own minute is shortened."""
    drop_in = f"{DROP_INS}/watchdog.conf"
    node.machine.write(drop_in, "[Service]\nWatchdogSec=15\n")
    try:
        node.systemctl("daemon-reload")
        node.systemctl("restart", AGENT)
        node.wait_for_readings(1)

        node.systemctl("kill", "--kill-who=main", "--signal=STOP", AGENT)

        wait_until(lambda: node.told("NRestarts") == "1", 60, "the watchdog has it started again")
        node.wait_for_message("Watchdog timeout")
        node.wait_for_readings(2)
    finally:
        (node.machine.root / drop_in.lstrip("/")).unlink()
        node.systemctl("daemon-reload")


def test_it_stops_in_time_with_a_full_spool_and_a_busy_server(node: Node) -> None:
    """What could not be shipped waits for the next start."""
    node.wait_for_readings(1)
    node.systemctl("stop", AGENT)
    fill_spool(node)
    node.sink.always = BUSY
    node.systemctl("start", AGENT)
    before = max(reading.time_ns for reading in node.cards())
    tried = [line for line in refused(node, at_least=3) if parse_line(line).time_ns > before]

    node.systemctl("stop", AGENT)

    assert node.told("Result") == "success" and node.told("ExecMainStatus") == "0"
    node.sink.always = OK
    node.systemctl("start", AGENT)
    # The oldest made room for what was read last.
    node.sink.wait_until(lambda: bool(tried) and set(tried) <= set(node.sink.accepted))


def fill_spool(node: Node) -> None:
    """Fill the spool to its cap with earlier readings."""
    example = next(line for line in node.sink.accepted if line.startswith("card,"))
    body, time = example.rsplit(" ", 1)
    directory = node.machine.root / STATE.lstrip("/")
    spool = Spool(directory / "spool.sqlite", MINIMUM_CAP_BYTES)
    number = 0
    while spool.dropped_points_total == 0:
        number += 1
        spool.put([f"{body} {int(time) - number}"])
    spool.close()
    node.machine.run("chown", "--recursive", "farmhand:farmhand", STATE)


def test_a_bad_configuration_is_said_once_and_not_tried_again(node: Node) -> None:
    """Status 78, one line that names the key; started by hand it runs once it is mended."""
    node.systemctl("stop", AGENT)
    node.configure(intervall_seconds="10")
    node.systemctl("start", AGENT, check=False)

    assert node.told("ActiveState") == "failed"
    assert node.told("ExecMainStatus") == "78" and node.told("NRestarts") == "0"
    node.wait_for_message("intervall_seconds: unknown key")

    node.configure()
    node.systemctl("start", AGENT)
    node.wait_for_readings(1)


# --- what it may do ------------------------------------------------------------------------------


def test_it_runs_as_its_own_user_without_any_capability(node: Node) -> None:
    """The agent and each of its readers."""
    node.wait_for_readings(1)
    user = node.machine.run("id", "--user", "farmhand").strip()

    for process in node.processes():
        status = status_of(node, process)
        assert set(status["Uid"].split()) == {user} and user != "0"
        assert {int(status[key], 16) for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def status_of(node: Node, process: int) -> dict[str, str]:
    lines = node.machine.run("cat", f"/proc/{process}/status").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_its_exposure_is_low(node: Node) -> None:
    """As `systemd-analyze security` counts it, for the units as they are loaded."""
    assert exposure(node.machine.run, AGENT) <= AGENT_EXPOSURE
    assert exposure(node.machine.run, "farmhand-kernel-log@.service") <= DOOR_EXPOSURE


def test_the_exposure_of_the_collector_is_low() -> None:
    """Of the unit file, as it is not installed by the package."""
    unit = str(UNITS / "farmhand-collector.service")

    assert exposure(told_here, "--offline=true", unit) <= COLLECTOR_EXPOSURE


def told_here(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def exposure(run: Callable[..., str], *unit: str) -> float:
    """Overall exposure of a unit, summed as systemd does: weighted, on a scale from 0 to 10."""
    told = run("systemd-analyze", "security", "--no-pager", *unit)
    overall = next(line for line in told.splitlines() if "Overall exposure level" in line)
    return float(overall.partition(": ")[2].split()[0])


def test_only_its_group_may_borrow_the_kernel_log(node: Node) -> None:
    """The door is root's, for the agent's group, and nobody else's."""
    told = node.machine.run("stat", "--format=%a %U %G", "/run/farmhand/kernel-log.socket")

    assert told.split() == ["660", "root", "farmhand"]


def test_jobs_of_any_user_may_drop_their_rates(node: Node) -> None:
    """In a small place of its own, where they cannot touch each other's."""
    work = "/run/farmhand/work"
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "touch"]
    node.machine.run(*drop, f"{work}/job")

    assert node.machine.run("stat", "--format=%a", work).strip() == "1777"
    size = node.machine.run("df", "--output=size", "--block-size=1M", work).split()[-1]
    assert int(size) <= 8


# --- what the kernel says ------------------------------------------------------------------------


def test_an_xid_in_the_kernel_log_arrives_as_an_event(node: Node) -> None:
    """Borrowed at the door, as the agent may not open the log; what a process writes is no XID."""
    node.wait_for_readings(1)
    # The log is that of the whole machine that tests: earlier runs wrote there too.
    forged, genuine = secrets.token_hex(4), secrets.token_hex(4)
    line = f"NVRM: Xid (PCI:0000:02:00): 48, pid=1, {forged}"
    node.machine.run("sh", "-c", f"echo '{line}' > /dev/kmsg")

    kernel_says(f"NVRM: Xid (PCI:0000:01:00): 79, pid=1, {genuine} GPU has fallen off the bus.")

    node.sink.wait_until(lambda: bool(xids(node, genuine)))
    (event,) = xids(node, genuine)
    assert (event.tags["slot"], event.fields["code"]) == ("0000:01:00.0", "79")
    assert xids(node, forged) == []


def xids(node: Node, mark: str) -> list[Reading]:
    """Accepted XIDs whose text has a mark."""
    events = [r for r in node.readings("card_event") if r.fields["kind"] == "xid"]
    return [event for event in events if mark in str(event.fields["text"])]


def test_trouble_is_told_to_the_journal_with_its_level(node: Node) -> None:
    """So that `journalctl -p warning` shows it, without the level twice."""
    node.sink.always = BUSY
    refused(node, at_least=1)

    wait_until(lambda: bool(warnings(node)), 10, "a warning is in the journal")
    messages = "\n".join(warnings(node))
    assert "readings wait" in messages and "<4>" not in messages


def warnings(node: Node) -> Sequence[str]:
    """Messages of the agent that are warnings or worse."""
    shown = node.journal("--priority=warning", "--output=json", "_COMM=farmhand-agent")
    return [json.loads(line)["MESSAGE"] for line in shown.splitlines()]


# --- the machine goes down -----------------------------------------------------------------------


def test_a_shutdown_is_told_before_the_machine_is_off(node: Node) -> None:
    """A node that was switched off is no node that died; it comes back with the machine."""
    node.wait_for_readings(1)

    node.machine.power_off()

    kinds = [r.fields["kind"] for r in node.readings("host_event")]
    assert kinds[-1] == "shutdown"
    node.machine.boot()
    node.wait_for_readings(2)
