"""The agent as a real process: cards of the stand-in, a store on loopback, signals and kills."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from farmhand_agent.inventory import Inventory
from farmhand_agent.reading import Reading, parse_line
from farmhand_agent.spool import Spool
from tests import standin
from tests.agent.sink import HANG_UP, OK, Answer, Sink, running_sink
from tests.standin.captures import farm_state
from tests.standin.fixtures import nvml_calls, nvml_library, nvml_state
from tests.system.programs import AGENT, wait_until

__all__ = ["nvml_calls", "nvml_library", "nvml_state"]

pytestmark = pytest.mark.system

TOKEN = "a-token-for-tests"
SPOOL_BYTES = 4 * 2**20
END_SECONDS = 10.0
"""Within which the agent has to end when it is told to."""

BUSY = Answer(503, headers=(("Retry-After", "2"),))
"""Not now; long enough for new readings to come in before the next post."""


class Agent:
    """An agent process whose state directory outlives it."""

    def __init__(self, directory: Path, url: str, environment: dict[str, str]) -> None:
        self.directory = directory
        self.state_dir = directory / "state"
        self._environment = environment
        self.config = directory / "agent.json"
        (directory / "token").write_text(TOKEN)
        self.configure(url)
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, url: str, **more: Any) -> None:
        """Write the configuration."""
        ship = {"url": url, "token_file": str(self.directory / "token"), "spool_bytes": SPOOL_BYTES}
        pace = {"interval_seconds": 0.3, "sample_seconds": 0.1}
        place = {"site": "cellar", "host": "node1", "state_dir": str(self.state_dir)}
        self.config.write_text(json.dumps(place | pace | {"ship": ship} | more))

    def start(self) -> None:
        """Start it."""
        with (self.directory / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*AGENT, "run", "--config", str(self.config)], stderr=log, env=self._environment
            )

    def log(self) -> str:
        """What it told so far."""
        return (self.directory / "agent.log").read_text()

    def readers(self) -> list[psutil.Process]:
        """Its reader processes."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children()

    def terminate(self) -> int:
        """End it as systemd would; its exit status."""
        assert self.process is not None
        self.process.terminate()
        status = self.process.wait(END_SECONDS)
        self.process = None
        return status

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def spooled(self) -> list[str]:
        """Lines that were committed and are not acknowledged; it must not run."""
        assert self.process is None
        spool = Spool(self.state_dir / "spool.sqlite", SPOOL_BYTES)
        assert spool.degraded is None
        batches = spool.batches(max_bytes=2**40, max_points=2**40)
        spool.close()
        return [line for batch in batches for line in batch.body.decode().split("\n")]


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as sink:
        yield sink


@pytest.fixture
def farm(nvml_state: standin.State) -> standin.State:
    """Two captured cards."""
    state = farm_state(nvml_state.path, ["RTX 3090", "T4"])
    state.write()
    return state


@pytest.fixture
def agent(farm: standin.State, nvml_library: Path, sink: Sink, tmp_path: Path) -> Iterator[Agent]:
    """An agent on the farm that ships to the sink, for the test to start."""
    agent = Agent(tmp_path, sink.url, standin.environment(nvml_library, farm.path))
    yield agent
    agent.kill()


def cards(lines: list[str], slot: str = "0000:01:00.0") -> list[Reading]:
    """Readings of one card, in the order of the lines."""
    readings = [parse_line(line) for line in lines if line.startswith("card,")]
    return [reading for reading in readings if reading.tags["slot"] == slot]


def wait_for_cards(sink: Sink, more: int) -> None:
    """Wait until so many more readings of the first card are accepted."""
    wanted = len(cards(sink.accepted)) + more
    sink.wait_until(lambda: len(cards(sink.accepted)) >= wanted)


def covers_its_time(readings: list[Reading]) -> bool:
    """Whether the windows join without a gap, none twice, up to a window's length."""
    windows = {r.time_ns: float(r.fields["window_seconds"]) for r in readings}
    passed = (max(windows) - min(windows)) / 1e9
    covered = sum(windows.values()) - windows[min(windows)]
    return len(windows) == len(readings) and abs(covered - passed) <= max(windows.values())


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def seen_gone(processes: list[psutil.Process]) -> bool:
    with suppress(psutil.NoSuchProcess):
        return gone(processes)
    return True


# --- the way of a reading ----------------------------------------------------------------------


def test_readings_of_each_card_arrive_each_interval(
    agent: Agent, farm: standin.State, sink: Sink
) -> None:
    """With the values of the captured cards, under one time stamp each, and the token."""
    agent.start()
    wait_for_cards(sink, 6)
    for number, slot in enumerate(("0000:01:00.0", "0000:02:00.0")):
        readings = cards(sink.accepted, slot)
        assert {r.tags["card"] for r in readings} == {farm.cards[number]["uuid"]}
        assert {(r.tags["site"], r.tags["host"]) for r in readings} == {("cellar", "node1")}
        assert {r.fields["state"] for r in readings} == {"ok"}
        assert covers_its_time(readings)
    # What the kernel of this machine has logged of cards is not this test's.
    measured = {parse_line(line).measurement for line in sink.accepted} - {"card_event"}
    assert measured == {"agent", "host", "host_event", "card", "card_info"}
    assert {post.token for post in sink.posts} == {f"Token {TOKEN}"}
    assert agent.terminate() == 0


def test_a_machine_without_cards_ships_itself(
    agent: Agent, farm: standin.State, sink: Sink
) -> None:
    """The node is there, and it has no trouble to tell of."""
    farm.library["init"] = standin.error(9)
    farm.write()
    agent.start()
    sink.wait_until(lambda: sum(line.startswith("host,") for line in sink.accepted) >= 3)
    assert agent.terminate() == 0
    measured = {parse_line(line).measurement for line in sink.accepted} - {"card_event"}
    assert measured == {"agent", "host", "host_event"}
    assert "WARNING" not in agent.log() and "Traceback" not in agent.log()


def test_an_agent_without_a_disk_ships_what_it_reads(agent: Agent, sink: Sink) -> None:
    """The state directory cannot be made; live readings still pass through."""
    agent.state_dir.write_text("a file is in the way")
    agent.start()
    wait_for_cards(sink, 3)
    assert agent.terminate() == 0
    assert "readings wait in memory" in agent.log() and "Traceback" not in agent.log()


# --- kills -------------------------------------------------------------------------------------


def test_nothing_committed_is_lost_by_a_kill_while_the_store_refuses(
    agent: Agent, sink: Sink
) -> None:
    """Counted at the wire: all that lay in the spool arrives after the restart, and more."""
    sink.always = BUSY
    agent.start()
    sink.wait_until(lambda: sum(len(cards(post.lines)) for post in sink.posts) >= 3)
    agent.kill()
    committed = agent.spooled()
    assert len(cards(committed)) >= 3 and sink.accepted == []
    sink.always = OK
    agent.start()
    sink.wait_until(lambda: set(committed) <= set(sink.accepted))
    newest = max(reading.time_ns for reading in cards(committed))
    sink.wait_until(lambda: any(r.time_ns > newest for r in cards(sink.accepted)))


def test_nothing_committed_is_lost_by_many_kills_while_it_ships(agent: Agent, sink: Sink) -> None:
    """Whatever the moment of the kill: what was committed was accepted before, or is after."""
    committed: set[str] = set()
    for _ in range(4):
        agent.start()
        wait_for_cards(sink, 2)
        agent.kill()
        committed |= set(agent.spooled())
    agent.start()
    sink.wait_until(lambda: committed <= set(sink.accepted))
    # Sending again is allowed; two different readings of one moment are not.
    keys = {line.rsplit(" ", 1)[1] + line.split(" ", 1)[0] for line in set(sink.accepted)}
    assert len(keys) == len(set(sink.accepted))


def test_readers_do_not_outlive_a_killed_agent(agent: Agent, sink: Sink) -> None:
    """The next agent is alone with the cards."""
    agent.start()
    wait_for_cards(sink, 1)
    readers = agent.readers()
    assert readers
    agent.kill()
    wait_until(lambda: seen_gone(readers), 10, "readers end")


def test_a_card_lost_while_the_agent_was_down_is_known(
    agent: Agent, farm: standin.State, sink: Sink
) -> None:
    """After a reboot the driver no longer lists it; the inventory does."""
    agent.start()
    wait_for_cards(sink, 1)
    agent.kill()
    assert len(Inventory(agent.state_dir / "inventory.json").expected("nvidia")) == 2
    farm.change(0, absent=1)
    agent.start()
    sink.wait_until(lambda: any(r.fields["state"] == "lost" for r in cards(sink.accepted)))
    lost = next(r for r in cards(sink.accepted) if r.fields["state"] == "lost")
    assert lost.tags["card"] == farm.cards[0]["uuid"]


# --- a store that is away ----------------------------------------------------------------------


@pytest.mark.parametrize("answer", [BUSY, HANG_UP], ids=["busy", "gone"])
def test_what_was_read_while_the_store_was_away_is_delivered(
    agent: Agent, sink: Sink, answer: Answer
) -> None:
    """All of it, in a row without a gap."""
    agent.start()
    wait_for_cards(sink, 2)
    sink.always = answer
    posts = len(sink.posts)
    sink.wait_until(lambda: len(sink.posts) >= posts + 3)
    tried = {line for post in sink.posts[posts:] for line in post.lines}
    assert len(cards(list(tried))) >= 2
    sink.always = OK
    sink.wait_until(lambda: tried <= set(sink.accepted))
    wait_for_cards(sink, 2)
    assert covers_its_time(cards(sink.accepted))


def test_live_readings_go_before_the_backlog(agent: Agent, sink: Sink) -> None:
    """Who looks at the farm sees it as it is now; its past follows in order."""
    agent.start()
    wait_for_cards(sink, 1)
    sink.always = BUSY
    posts = len(sink.posts)
    sink.wait_until(lambda: len(sink.posts) >= posts + 3)
    refused = {line for post in sink.posts[posts:] for line in post.lines}
    known = set(sink.accepted)
    sink.always = OK
    sink.wait_until(lambda: refused <= set(sink.accepted))
    after = [post for post in sink.posts[posts:] if post.status == 204]
    live = after[0].lines
    newest_refused = max(parse_line(line).time_ns for line in refused)
    assert all(r.time_ns > newest_refused for r in cards(live))
    assert cards(live) and not refused & set(live)
    # What is put meanwhile may go in between.
    followed = [line for post in after[1:] for line in post.lines if line in refused - known]
    times = [reading.time_ns for reading in cards(followed)]
    assert times and times == sorted(times)


# --- the end -----------------------------------------------------------------------------------


def test_sigterm_flushes_and_ends(agent: Agent, sink: Sink) -> None:
    """Nothing waits in the spool when it is gone, and no reader is left."""
    agent.start()
    wait_for_cards(sink, 3)
    readers = agent.readers()
    assert agent.terminate() == 0
    assert agent.spooled() == []
    assert seen_gone(readers)


@pytest.mark.parametrize("answer", [BUSY, HANG_UP], ids=["busy", "gone"])
def test_sigterm_ends_it_while_the_store_is_away(agent: Agent, sink: Sink, answer: Answer) -> None:
    """What could not be flushed stays in the spool."""
    sink.always = answer
    agent.start()
    sink.wait_until(lambda: sum(len(cards(post.lines)) for post in sink.posts) >= 2)
    tried = {line for post in sink.posts for line in post.lines}
    assert agent.terminate() == 0
    assert tried <= set(agent.spooled())


def test_sigterm_ends_it_while_a_card_hangs(
    agent: Agent, farm: standin.State, sink: Sink, nvml_calls: Path
) -> None:
    """The reader that is stuck does not hold it up."""
    agent.start()
    wait_for_cards(sink, 1)
    farm.change(0, utilization=standin.HANG)
    hung = "0 nvmlDeviceGetUtilizationRates"
    before = nvml_calls.read_text().count(hung)
    wait_until(lambda: nvml_calls.read_text().count(hung) > before, 20, "the card is asked")
    readers = agent.readers()
    assert agent.terminate() == 0
    assert seen_gone(readers)


def test_ctrl_c_ends_it_without_a_trace(agent: Agent, sink: Sink) -> None:
    """In a terminal too."""
    agent.start()
    wait_for_cards(sink, 1)
    assert agent.process is not None
    agent.process.send_signal(signal.SIGINT)
    assert agent.process.wait(END_SECONDS) == 0
    assert "Traceback" not in agent.log()
