"""`farmhand up`: all of farmhand on this machine, as the processes that systemd would run.

A real collector on a loopback port, a real agent, and the terminal UI attached. Where this machine
has no card, a simulated farm takes the agent's place and says so everywhere.
"""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from farmhand_agent.settings import ConfigError, in_range
from farmhand_collector.wire import FarmState
from farmhand_tui.client import Client, ClientError
from farmhand_tui.escape import safe

DEFAULT_CARDS = 64
DEFAULT_HISTORY_SECONDS = 3600.0
START_SECONDS = 30.0
STOP_SECONDS = 10.0
FIRST_STATE_SECONDS = 60.0


class Simulation(NamedTuple):
    """A farm to simulate."""

    cards: int
    seed: int
    faults: str
    history_seconds: float = DEFAULT_HISTORY_SECONDS


class Running(msgspec.Struct, frozen=True):
    """How to reach an `up` that runs."""

    url: str
    token: str
    pid: int


class ProcessEndedError(Exception):
    """A process of ours ended by itself; the message says which and where its log is."""


def state_dir() -> Path:
    """Where `up` keeps a real farm's state between runs."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "farmhand"


def missing_cards() -> str | None:
    """Why this machine has no card that an agent could read; None when it has one."""
    from farmhand_agent.child import Pace
    from farmhand_agent.once import read_once
    from farmhand_agent.sources import vendors

    reasons = []
    for vendor in vendors():
        message = read_once(vendor, Pace(0.2, 0.2))
        if message.cards:
            return None
        reasons.append(message.nothing or "the driver lists no card")
    return "; ".join(reasons)


class Farm:
    """The processes of one `up`, kept going until they are ended."""

    def __init__(self, work_dir: Path, simulation: Simulation | None) -> None:
        self._work_dir = work_dir
        self._simulation = simulation
        self._began = 0.0
        self._token = secrets.token_urlsafe(24)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def running(self) -> Running:
        """How to reach this farm."""
        return Running(self.url, self._token, os.getpid())

    def start(self) -> None:
        """Start collector and agent, or the simulator in its place."""
        self._began = began = time.time()
        self._work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        token_file = self._write("token", self._token + "\n")
        self._start_collector(token_file, began)
        if self._simulation is None:
            self._start_agent(token_file)
        else:
            self._start_simulator(self._simulation, token_file, began)

    def _start_collector(self, token_file: Path, began: float) -> None:
        content: dict[str, object] = {
            "data_dir": str(self._work_dir / "collector"),
            "listen": {"write_token_file": str(token_file), "read_token_file": str(token_file)},
        }
        if self._simulation is not None:
            content["simulated"] = _simulated(self._simulation, began)
        config = self._write("collector.json", msgspec.json.encode(content).decode())
        fd = self._socket.fileno()
        command = [*_program("farmhand_collector.cli"), "run", "--config", str(config)]
        self._spawn("collector", [*command, "--fd", str(fd)], passed=[fd])

    def _start_agent(self, token_file: Path) -> None:
        content = {
            "state_dir": str(self._work_dir / "agent"),
            "ship": {"url": self.url, "token_file": str(token_file)},
        }
        config = self._write("agent.json", msgspec.json.encode(content).decode())
        self._spawn("agent", [*_program("farmhand_agent.cli"), "run", "--config", str(config)])

    def _start_simulator(self, simulation: Simulation, token_file: Path, began: float) -> None:
        self._spawn(
            "simulator",
            [
                *_program("farmhand_collector.cli"),
                *("simulate", "--cards", str(simulation.cards), "--seed", str(simulation.seed)),
                *("--faults", simulation.faults, "--url", self.url),
                *("--token-file", str(token_file)),
                *("--history", repr(simulation.history_seconds)),
                *("--start", repr(began - simulation.history_seconds)),
            ],
        )

    def _write(self, name: str, text: str) -> Path:
        path = self._work_dir / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        return path

    def _spawn(self, name: str, command: Sequence[str], passed: Sequence[int] = ()) -> None:
        with (self._work_dir / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A key pressed for us (ctrl+c) must not end them before we do.
                start_new_session=True,
                pass_fds=passed,
                preexec_fn=_ends_with_parent,
            )

    def check(self) -> None:
        """See that every process still runs.

        Raises:
            ProcessEndedError: one does not.
        """
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = self._work_dir / f"{name}.log"
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
                said = safe(lines[-1]) if lines else "it said nothing"
                told = f"the {name} ended with status {process.returncode}: {said}"
                # A simulated farm leaves nothing behind, its logs neither.
                raise ProcessEndedError(told if self._simulation else f"{told} (see {log})")

    def has_state(self, client: Client) -> bool:
        """Whether cards have been judged, in a simulated farm all its past."""
        state = client.status()
        caught_up = self._simulation is None or (state.time or 0.0) >= self._began - 60.0
        return bool(state.cards) and caught_up

    def client(self) -> Client:
        """A connection to the collector."""
        return Client(self.url, self._token)

    def status(self) -> FarmState:
        """What the collector says now."""
        with closing(self.client()) as client:
            return client.status()

    def stop(self) -> None:
        """End the processes, those that post before the one that receives."""
        for name in sorted(self._processes, key=lambda name: name == "collector"):
            process = self._processes[name]
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._socket.close()


def _ends_with_parent() -> None:
    """Have the kernel end this process when `up` is killed: nothing of ours is left behind."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _program(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _simulated(simulation: Simulation, began: float) -> object:
    from farmhand_collector import simulator
    from farmhand_collector.wire import Simulated

    start = began - simulation.history_seconds
    planted = simulator.plan(simulation.cards, simulation.seed, simulation.faults, start)
    return msgspec.to_builtins(Simulated(simulation.seed, planted))


@contextmanager
def farm(simulation: Simulation | None) -> Iterator[Farm]:
    """A farm that runs while the block does; a simulated one leaves nothing behind."""
    work_dir = state_dir() if simulation is None else Path(tempfile.mkdtemp(prefix="farmhand-"))
    made = Farm(work_dir, simulation)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        if simulation is not None:
            shutil.rmtree(work_dir, ignore_errors=True)


def wait_for(found: Farm, ready: Callable[[Client], bool], seconds: float) -> bool:
    """Wait until the collector answers as wanted; False when the time is over first.

    Raises:
        ProcessEndedError: a process ended meanwhile.
    """
    end = time.monotonic() + seconds
    with closing(found.client()) as client:
        while time.monotonic() < end:
            found.check()
            with suppress(ClientError):
                if ready(client):
                    return True
            time.sleep(0.2)
    return False


def registered() -> Running | None:
    """The `up` that runs on this machine for this user, if one answers."""
    try:
        running = msgspec.json.decode(_register().read_bytes(), type=Running)
        os.kill(running.pid, 0)
        with closing(Client(running.url, running.token)) as client:
            client.snapshot(["key"])
    except (OSError, msgspec.MsgspecError, ClientError):
        return None
    return running


@contextmanager
def register(running: Running) -> Iterator[None]:
    """Let other commands of this user find this farm while the block runs."""
    path = _register()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(running))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _register() -> Path:
    return state_dir() / "up.json"


def check_simulation(simulation: Simulation) -> None:
    """Check what the command line asked for.

    Raises:
        ConfigError: it cannot be simulated.
    """
    in_range(simulation.cards, "--simulate", 1, 100_000)
    in_range(simulation.history_seconds, "--history", 0, 604_800)
    in_range(simulation.seed, "--seed", 0, 2**63 - 1)
    from farmhand_collector import simulator

    try:
        simulator.check_faults(simulation.faults)
    except ValueError as error:
        raise ConfigError(f"--faults: {error}") from None
