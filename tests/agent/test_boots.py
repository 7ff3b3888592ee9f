"""Boots and shutdowns of the machine, starts and stops of the agent."""

import contextlib
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from farmhand_agent.boots import Boots, Event, Tell, machine_is_going_down
from farmhand_agent.reading import HOST_TAGS, TAGS, Reading, fields_of, parse_line, to_line

SECOND = 1_000_000_000
NOON = 1_800_000_000 * SECOND


class Crash(Exception):
    """The agent is killed here."""


class Machine:
    """A machine that boots, and an agent on it whose events are kept as a store keeps them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state/boots.json"
        self.told: dict[tuple[str, int], Event] = {}
        self.wall = NOON
        self._boots = 0
        self.boot()

    def boot(self) -> None:
        """Come up 30 seconds after the power."""
        self._boots += 1
        (self.root / "boot_id").write_text(f"boot-{self._boots}\n")
        self.uptime = 0
        self.pass_seconds(30)

    def pass_seconds(self, seconds: int) -> None:
        self.wall += seconds * SECOND
        self.uptime += seconds * SECOND

    def pass_a_minute(self) -> None:
        self.pass_seconds(60)

    def start(self, tell: Tell | None = None) -> list[Event]:
        """Start the agent; the events that the store did not have yet."""
        return self._run(lambda boots, tell: boots.start(tell), tell)

    def stop(self, going_down: bool = False, tell: Tell | None = None) -> list[Event]:
        """Stop the agent; the events that the store did not have yet."""
        return self._run(lambda boots, tell: boots.stop(tell, going_down), tell)

    def _run(self, do: Callable[[Boots, Tell], None], tell: Tell | None) -> list[Event]:
        boots = Boots(self.state, lambda: self.wall, lambda: self.uptime, self.root / "boot_id")
        before = dict(self.told)
        do(boots, tell or self.keep)
        return [event for key, event in self.told.items() if key not in before]

    def keep(self, event: Event) -> None:
        """Sending the same again changes nothing."""
        self.told[event.kind, event.time_ns] = event

    def crash_before(self, _: Event) -> None:
        raise Crash

    def crash_after(self, event: Event) -> None:
        self.keep(event)
        raise Crash


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# --- starts --------------------------------------------------------------------------------------


def test_the_first_start_is_told_as_such(machine: Machine) -> None:
    """What the machine did before is not known."""
    assert machine.start() == [Event("agent_start", "first start", machine.wall)]


def test_a_boot_after_a_shutdown_is_clean(machine: Machine) -> None:
    """It is dated at the boot, not at the agent's start."""
    machine.start()
    shutdown = machine.stop(going_down=True)
    assert [(event.kind, event.text) for event in shutdown] == [
        ("shutdown", "the machine is going down")
    ]
    machine.pass_seconds(600)
    machine.boot()
    booted = machine.start()
    assert booted == [
        Event("boot", "the machine was shut down cleanly before", machine.wall - 30 * SECOND)
    ]


def test_a_boot_without_a_shutdown_is_a_power_cut_or_crash(machine: Machine) -> None:
    """The agent was running when the machine went away."""
    machine.start()
    machine.boot()
    [event] = machine.start()
    assert event.kind == "boot"
    assert "without a clean shutdown: power cut, crash or reset" in event.text


def test_a_boot_after_the_agent_was_stopped_tells_nothing_of_how(machine: Machine) -> None:
    """Nobody watched when the machine went down."""
    machine.start()
    machine.stop()
    machine.boot()
    [event] = machine.start()
    assert (event.kind, "not known" in event.text) == ("boot", True)


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (lambda machine: machine.stop(), "the agent had been stopped"),
        (Machine.pass_a_minute, "the agent had ended without being stopped"),
        (
            lambda machine: machine.stop(going_down=True),
            "the agent had been stopped for a shutdown that did not come",
        ),
    ],
)
def test_a_start_within_the_same_boot_tells_how_the_agent_ended(
    machine: Machine, end: Callable[[Machine], object], text: str
) -> None:
    """An agent that is killed is not a machine that crashed."""
    machine.start()
    end(machine)
    machine.pass_a_minute()
    assert machine.start() == [Event("agent_start", text, machine.wall)]


def test_events_are_readings_of_the_contract(machine: Machine) -> None:
    """They survive the wire."""
    assert TAGS["host_event"] == HOST_TAGS
    for event in (*machine.start(), *machine.stop()):
        assert event.fields.keys() == fields_of("host_event").keys()
        reading = Reading("host_event", {"host": "n1"}, event.fields, event.time_ns)
        assert parse_line(to_line(reading)) == reading


# --- crashes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("crash", ["crash_before", "crash_after"])
def test_a_boot_is_told_once_when_the_agent_crashes_over_it(machine: Machine, crash: str) -> None:
    """The second start tells it with the same time, though the clock was set in between."""
    machine.start()
    machine.boot()
    booted = machine.wall - 30 * SECOND
    with pytest.raises(Crash):
        machine.start(tell=getattr(machine, crash))
    machine.pass_seconds(5)
    machine.wall += 7
    machine.start()
    assert [event.time_ns for event in machine.told.values() if event.kind == "boot"] == [booted]


def test_a_shutdown_that_was_not_told_is_told_after_the_boot(machine: Machine) -> None:
    """The machine was faster than the agent; the boot is clean all the same."""
    machine.start()
    with pytest.raises(Crash):
        machine.stop(going_down=True, tell=machine.crash_before)
    machine.pass_seconds(10)
    machine.boot()
    shutdown, boot = machine.start()
    assert (shutdown.kind, boot.kind) == ("shutdown", "boot")
    assert shutdown.time_ns < boot.time_ns
    assert "cleanly" in boot.text


def test_an_agent_that_crashes_for_ever_does_not_fill_the_disk(machine: Machine) -> None:
    """Events that cannot be told are kept, but not without end."""
    for _ in range(100):
        machine.pass_seconds(5)
        with pytest.raises(Crash):
            machine.start(tell=machine.crash_before)
    assert machine.state.stat().st_size < 4096
    machine.pass_seconds(5)
    assert len(machine.start()) == 17


class Runs(RuleBasedStateMachine):
    """However machine and agent come and go, each boot is told once and judged right."""

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory()
        self.machine = Machine(Path(self._temporary.name))
        self.ended = ""
        """How the last run ended, as the machine knows it."""
        self.booted = False
        self.expected: list[str] = []

    def teardown(self) -> None:
        self._temporary.cleanup()

    @initialize()
    def first_start(self) -> None:
        self.machine.start()
        self.ended = "without"

    @rule(crash=st.sampled_from([None, "crash_before", "crash_after"]))
    def start(self, crash: str | None) -> None:
        if self.booted:
            self.expected.append(self.ended)
        self.booted, self.ended = False, "without"
        with contextlib.suppress(Crash):
            self.machine.start(tell=getattr(self.machine, crash) if crash else None)
            self._each_boot_was_told()

    def _each_boot_was_told(self) -> None:
        boots = [event for event in self.machine.told.values() if event.kind == "boot"]
        boots.sort(key=lambda event: event.time_ns)
        assert len(boots) == len(self.expected)
        assert all(word in e.text for word, e in zip(self.expected, boots, strict=True))

    @rule(going_down=st.booleans(), crash=st.sampled_from([None, "crash_before"]))
    def stop(self, going_down: bool, crash: str | None) -> None:
        if self.ended != "without" or self.booted:
            return  # Nothing runs that could be stopped.
        self.ended = "cleanly" if going_down else "not known"
        with contextlib.suppress(Crash):
            tell = getattr(self.machine, crash) if crash else None
            self.machine.stop(going_down, tell)

    @rule()
    def reboot(self) -> None:
        self.machine.boot()
        self.booted = True

    @rule(seconds=st.integers(1, 1000))
    def wait(self, seconds: int) -> None:
        self.machine.pass_seconds(seconds)

    @invariant()
    def no_boot_is_told_twice(self) -> None:
        boots = [event for event in self.machine.told.values() if event.kind == "boot"]
        assert len(boots) <= len(self.expected)


TestRuns = Runs.TestCase
TestRuns.settings = settings(max_examples=50, stateful_step_count=30)


# --- a file that fails ---------------------------------------------------------------------------


@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b'{"boot_id":"a","ended":"exploded","untold":[]}')
def test_a_damaged_file_costs_only_the_memory(content: bytes) -> None:
    """The start is told, with what is not known; the next one knows more."""
    with tempfile.TemporaryDirectory() as root:
        machine = Machine(Path(root))
        machine.state.parent.mkdir()
        machine.state.write_bytes(content)
        [event] = machine.start()
        assert (event.kind, "lost" in event.text) == ("agent_start", True)
        machine.pass_seconds(1)
        assert "ended without being stopped" in machine.start()[0].text


def test_a_state_directory_that_cannot_be_written_costs_only_the_memory(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """Events are told all the same, and the log says what is wrong."""
    machine.state.parent.write_text("a file in its place")
    with caplog.at_level(logging.WARNING):
        assert [event.kind for event in machine.start()] == ["agent_start"]
        assert [event.kind for event in machine.stop()] == ["agent_stop"]
    assert any("cannot be saved" in message for message in caplog.messages)


def test_a_kernel_that_names_no_boot_makes_no_boots(machine: Machine) -> None:
    """Without the name a restart of the agent would look like a boot."""
    machine.start()
    (machine.root / "boot_id").unlink()
    machine.pass_seconds(60)
    assert [event.kind for event in machine.start()] == ["agent_start"]


def test_this_machines_boot_is_when_the_kernel_says(tmp_path: Path) -> None:
    """The wall clock now less the time since boot is the boot."""
    other = tmp_path / "boot_id"
    other.write_text("another boot\n")
    told: list[Event] = []
    Boots(tmp_path / "boots.json", boot_id=other).start(told.append)
    Boots(tmp_path / "boots.json").start(told.append)
    kernels = next(
        int(line.split()[1])
        for line in Path("/proc/stat").read_text().splitlines()
        if line.startswith("btime")
    )
    assert told[1].kind == "boot"
    assert told[1].time_ns / SECOND == pytest.approx(kernels, abs=5)


# --- is the machine going down -------------------------------------------------------------------


def systemctl(root: Path, script: str) -> str:
    path = root / "systemctl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("state", "going_down"),
    [("stopping", True), ("running", False), ("degraded", False), ("starting", False)],
)
def test_systemd_knows_whether_the_machine_goes_down(
    tmp_path: Path, state: str, going_down: bool
) -> None:
    """Its word counts more than files: logins are refused while the machine comes up, too."""
    (tmp_path / "nologin").touch()
    tool = systemctl(tmp_path, f'[ "$1" = is-system-running ] && echo {state}; exit 1')
    assert machine_is_going_down(tmp_path, tool) is going_down


@pytest.mark.parametrize("script", ["echo offline; exit 1", "echo unknown", "exit 1", "kill -9 $$"])
def test_without_systemds_word_its_files_tell(tmp_path: Path, script: str) -> None:
    """Its bus may have gone before the agent was told to."""
    tool = systemctl(tmp_path, script)
    assert machine_is_going_down(tmp_path, tool) is False
    (tmp_path / "nologin").touch()
    assert machine_is_going_down(tmp_path, tool) is True


def test_a_shutdown_that_is_scheduled_tells_where_there_is_no_systemctl(tmp_path: Path) -> None:
    """A tool that cannot be run is no answer."""
    (tmp_path / "systemd/shutdown").mkdir(parents=True)
    assert machine_is_going_down(tmp_path, str(tmp_path / "none")) is False
    (tmp_path / "systemd/shutdown/scheduled").touch()
    assert machine_is_going_down(tmp_path, str(tmp_path / "none")) is True


def test_a_systemctl_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    """The stop goes on after a second, and the tool is gone."""
    tool = systemctl(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep infinity")
    assert machine_is_going_down(tmp_path, tool) is False
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
