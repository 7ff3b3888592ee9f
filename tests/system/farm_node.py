"""A node for the system tests: eight cards of the stand-in on a PCI bus, and the agent on it.

A test lets cards sicken while the agent runs, and then asks whether the node kept what is promised
whatever happens to a card: see `Node.check_promises`.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from farmhand_agent.reading import Reading, parse_line
from tests import standin
from tests.agent.sink import Sink, running_sink
from tests.standin.bus import Bus
from tests.standin.captures import farm_state
from tests.system.programs import AGENT, wait_until

MODELS = (
    "RTX 3080",
    "GTX 1070 Ti",
    "T4",
    "RTX 3060",
    "Quadro P2000",
    "RTX 2080 SUPER",
    "A10G",
    "H100",
)
CARDS = range(len(MODELS))

SHARE = 0.1
"""Of its own patience and interval, that a hurried agent is given."""
INTERVAL_SECONDS = 1.0
WAIT_SECONDS = 40.0
"""How long a test waits for what must come; only a failing test ever waits so long."""
END_SECONDS = 10.0
"""Within which the agent has to end when it is told to; systemd gives it 20."""

MISSED_AT_MOST = 2
"""Intervals that a healthy card may miss when another one sickens."""
RESTART_SECONDS = 2.5
"""What no agent can hurry: until the watch looks, and until a new reader has started on a machine
that is busy."""

SPOOL_BYTES = 4 * 2**20
LOOK_SECONDS = 0.1
_MEASUREMENTS = frozenset({"card", "card_event", "card_info"})


class Process(NamedTuple):
    """A process of the agent at one look: its state, and which slots it reads or leaves out."""

    pid: int
    status: str
    chosen: str


class Node:
    """A node whose agent outlives what happens to its cards, and whose state outlives the agent."""

    def __init__(
        self, directory: Path, library: Path, sink: Sink, command: Sequence[str], **config: Any
    ) -> None:
        self.sink = sink
        self.farm = farm_state(directory / "nvml.state", MODELS)
        self.farm.write()
        self.bus = Bus.of(self.farm, directory / "sys")
        self.interval_seconds = float(config["interval_seconds"])
        self.looks: list[list[Process]] = []
        """Processes of the agent at each look, until it was told to end."""
        self.started_at = self.stopped_at = 0.0
        """When the agent was started last, and told to end."""
        self.identities: list[tuple[str, str]] = []
        """Card and model in each slot as they were when the agent was started first."""
        self._environment = standin.environment(library, self.farm.path)
        self._log = directory / "agent.log"
        self._command = [*command, str(directory / "agent.json")]
        settings = {
            "site": "cellar",
            "host": "node1",
            "state_dir": str(directory / "state"),
            "sysfs": str(self.bus.sysfs),
            "ship": {"url": sink.url, "spool_bytes": SPOOL_BYTES},
            "work": {"dir": str(directory / "work")},
        }
        (directory / "agent.json").write_text(json.dumps(settings | config))
        self._agent: subprocess.Popen[bytes] | None = None
        self._looker: threading.Thread | None = None
        self._has_seen_enough = threading.Event()
        self._readings: dict[tuple[str, str], dict[tuple[int, str], Reading]] = {}
        self._taken = 0

    # --- the agent ---

    @property
    def agent(self) -> "subprocess.Popen[bytes]":
        """The agent's process."""
        assert self._agent is not None
        return self._agent

    def start(self, silent: Collection[int] = ()) -> None:
        """Start the agent and wait until all cards have a reading, but those that are silent."""
        known = {number: len(self.readings(number)) for number in CARDS}
        self.identities = self.identities or [
            (str(card["uuid"]), str(card["name"]).removeprefix("NVIDIA "))
            for card in self.farm.cards
        ]
        self.started_at = time.time()
        with self._log.open("ab") as log:
            self._agent = subprocess.Popen(self._command, stderr=log, env=self._environment)
        self._has_seen_enough.clear()
        self._looker = threading.Thread(target=self._look)
        self._looker.start()
        speak = set(CARDS) - set(silent)
        wait_until(
            lambda: all(len(self.readings(number)) > known[number] for number in speak),
            WAIT_SECONDS * self.interval_seconds,
            "each card has a reading",
        )

    def stop(self) -> None:
        """End the agent as systemd would; it must still be there, and do so by itself."""
        assert self.agent.poll() is None, self.log()
        self._has_seen_enough.set()
        self.stopped_at = time.time()
        self.agent.terminate()
        assert self.agent.wait(END_SECONDS) == 0, self.log()
        self.kill()

    def kill(self) -> None:
        """End the agent however it is."""
        if self._agent is not None and self._looker is not None:
            self._has_seen_enough.set()
            self._agent.kill()
            self._agent.wait()
            self._looker.join()
            self._agent = self._looker = None

    def log(self) -> str:
        """What the agent and its readers told so far."""
        return self._log.read_text()

    def readers(self) -> list[Process]:
        """Processes that the agent has started and that are there now; they are all readers."""
        found = []
        for child in psutil.Process(self.agent.pid).children():
            with suppress(psutil.Error):
                words = [w for w in child.cmdline() if w.startswith(("--only", "--skip"))]
                found.append(Process(child.pid, child.status(), " ".join(words)))
        return found

    def own_readers(self, number: int) -> list[Process]:
        """Readers now that were started for one card alone."""
        only = f"--only={self.bus.slot(number)}"
        return [process for process in self.readers() if process.chosen == only]

    def _look(self) -> None:
        while not self._has_seen_enough.wait(LOOK_SECONDS):
            with suppress(psutil.Error):
                self.looks.append(self.readers())

    # --- what it told ---

    def readings(self, number: int, measurement: str = "card") -> list[Reading]:
        """Readings of the card of that number that have arrived, each once, in order of time."""
        lines = self.sink.accepted[self._taken :]
        self._taken += len(lines)
        for reading in map(parse_line, lines):
            if reading.measurement in _MEASUREMENTS:
                of_slot = self._readings.setdefault((reading.measurement, reading.tags["slot"]), {})
                of_slot[reading.time_ns, reading.tags["card"]] = reading
        found = self._readings.get((measurement, self.bus.slot(number)), {})
        return sorted(found.values(), key=lambda reading: reading.time_ns)

    def forget(self) -> None:
        """Drop what was told so far: an agent that runs for hours tells much."""
        self.sink.posts.clear()
        self.sink.accepted.clear()
        self._readings.clear()
        self.looks.clear()
        self._taken = 0

    def states(self, number: int) -> list[str]:
        """State of a card at each of its readings."""
        return [str(reading.fields["state"]) for reading in self.readings(number)]

    def story(self, number: int) -> list[str]:
        """States of a card one after the other, each once until it changes."""
        return [state for state, _ in groupby(self.states(number))]

    def events(self, number: int, *kinds: str) -> list[str]:
        """Kind, and code where there is one, of the events of a card since the agent's start.

        The kernel's log is that of the machine that tests: what it told before is not ours.
        """
        events = [event.fields for event in self._since_start(number, "card_event")]
        return [f"{e['kind']} {e.get('code', '')}".strip() for e in events if e["kind"] in kinds]

    def _since_start(self, number: int, measurement: str = "card") -> list[Reading]:
        readings = self.readings(number, measurement)
        return [reading for reading in readings if reading.time_ns / 1e9 >= self.started_at]

    def wait_for(self, number: int, state: str, more: int = 1) -> None:
        """Wait until a card has so many more readings with this state."""
        self.wait_for_each([number], state, more)

    def wait_for_each(self, numbers: Collection[int], state: str, more: int = 1) -> None:
        """Wait until each of these cards has so many more readings with this state."""
        known = {number: self.states(number).count(state) for number in numbers}
        wait_until(
            lambda: all(self.states(n).count(state) >= known[n] + more for n in numbers),
            WAIT_SECONDS * self.interval_seconds,
            f"cards {list(numbers)} are {state} {more} times more",
        )

    # --- what is promised ---

    def check_promises(self, bad: Collection[int], apart: int | None = None) -> None:
        """End the agent, and check what holds whatever the bad cards did.

        The healthy cards were `ok` throughout and missed two intervals at most since the agent's
        start; each bad one had a reading as often; all kept their tags. There was one reader, and
        one for each card that was set `apart` (as many as are bad, unless it is said). The agent
        was there to the end, told of no failure of its own, and ended in time.
        """
        self.stop()
        for number in CARDS:
            if number not in bad:
                assert self.story(number) == ["ok"], f"card {number}\n{self.log()}"
            assert self.tags(number) == {self.identities[number]}
            gap = self.longest_gap_seconds(number)
            longest = (MISSED_AT_MOST + 1) * self.interval_seconds + RESTART_SECONDS
            assert gap <= longest, f"card {number} was silent for {gap:.1f} s\n{self.log()}"
        most = max(len(look) for look in self.looks)
        assert most <= 1 + (len(bad) if apart is None else apart), self.looks
        assert "Traceback" not in self.log()

    def tags(self, number: int) -> set[tuple[str, str]]:
        """Card and model under which the readings of a slot came."""
        return {(r.tags["card"], r.tags.get("model", "")) for r in self.readings(number)}

    def longest_gap_seconds(self, number: int) -> float:
        """Longest time between two readings of a card, or its last one and the agent's end."""
        times = [reading.time_ns / 1e9 for reading in self._since_start(number)]
        return max(later - earlier for earlier, later in pairwise([*times, self.stopped_at]))


PATIENT = (*AGENT, "run", "--config")


def hurried(rejoin_seconds: float = 3600 * SHARE) -> tuple[str, ...]:
    """An agent in a hurry, which lets a card that recovered join the others after so long."""
    program = str(Path(__file__).with_name("hurried_agent.py"))
    return (sys.executable, program, str(SHARE), str(rejoin_seconds))


@contextmanager
def node_in(
    directory: Path, library: Path, command: Sequence[str] = (), **config: Any
) -> Iterator[Node]:
    """A node whose agent was not started yet; the agent does not outlive the block.

    It is a hurried one where no command is given.
    """
    directory.mkdir(exist_ok=True)
    pace = {"interval_seconds": INTERVAL_SECONDS, "sample_seconds": INTERVAL_SECONDS / 10}
    with running_sink() as sink:
        made = Node(directory, library, sink, command or hurried(), **(pace | config))
        try:
            yield made
        finally:
            made.kill()


# --- a sleep that nothing ends ------------------------------------------------------------------


class StallingFile:
    """A file on a file system of its own; while that is frozen, its writers cannot be killed."""

    def __init__(self, mounted: Path) -> None:
        self._mounted = mounted
        self.path = mounted / "file"
        self.path.touch()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let everyone sleep who writes, for as long as the block takes."""
        _run("fsfreeze", "--freeze", str(self._mounted))
        try:
            yield
        finally:
            _run("fsfreeze", "--unfreeze", str(self._mounted))


def what_stalling_lacks() -> str:
    """What stands in the way of a frozen file system here, or nothing."""
    if os.geteuid() != 0:
        return "a frozen file system needs root rights"
    tools = ("losetup", "mkfs.ext4", "mount", "fsfreeze")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        return f"missing tools: {' '.join(missing)} (apt-get install e2fsprogs mount util-linux)"
    return ""


@contextmanager
def stalling_file(directory: Path) -> Iterator[StallingFile]:
    """A file that can be frozen; it is gone after the block."""
    image, mounted = directory / "stalling.img", directory / "stalling"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(16 * 2**20)
    _run("mkfs.ext4", "-q", str(image))
    device = _run("losetup", "--find", "--show", str(image)).strip()
    try:
        _run("mount", device, str(mounted))
        try:
            yield StallingFile(mounted)
        finally:
            wait_until(lambda: _unmounted(mounted), WAIT_SECONDS, "nobody writes any more")
    finally:
        _run("losetup", "--detach", device)


def _unmounted(mounted: Path) -> bool:
    done = subprocess.run(["umount", str(mounted)], capture_output=True, check=False)
    return done.returncode == 0


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
