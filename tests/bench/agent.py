"""The agent beside other programs that watch cards: processor time and memory, at the same time.

    make bench-agent
    make bench-agent ARGS="--cards 16 --call-ms 2 --seconds 120"

All run on the same stand-in driver in the same minutes, each installed in an environment of its
own as on a node, each reading every card once a second. The agent also ships to a store.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from tests import standin
from tests.agent.sink import running_sink
from tests.standin.bus import Bus
from tests.standin.captures import farm_state

PROJECT = Path(__file__).parents[2]
ENVIRONMENTS = PROJECT / ".bench"
SETTLE_SECONDS = 25.0


class Program(NamedTuple):
    """A program under measurement: every process below `pid` counts."""

    name: str
    pid: int

    def tree(self) -> list[psutil.Process]:
        """Its processes that run now."""
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]

    def processor_seconds(self) -> float:
        """Processor time that its processes have used."""
        return sum(sum(process.cpu_times()[:4]) for process in self.tree())

    def memory_bytes(self) -> int:
        """Memory of its processes; what they share with others counts in part."""
        return sum(process.memory_full_info().pss for process in self.tree())


class Cost(NamedTuple):
    """What a program costs."""

    name: str
    share: float
    """Of one core."""
    memory_mib: float


def environment(name: str, lock: str) -> Path:
    """Programs of a virtual environment made from a lock file, once for each content of it."""
    directory = ENVIRONMENTS / name
    pinned = (PROJECT / lock).read_bytes()
    made = directory / "lock"
    if not made.exists() or made.read_bytes() != pinned:
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        install = "install --quiet --disable-pip-version-check --require-hashes -r"
        pip = [str(directory / "bin/pip"), *install.split(), str(PROJECT / lock)]
        subprocess.run(pip, check=True)
        made.write_bytes(pinned)
    return directory / "bin"


@contextmanager
def running(name: str, command: Sequence[str], env: Mapping[str, str]) -> Iterator[Program]:
    """A program that runs while the block does."""
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, env=dict(env), stdout=silent, stderr=silent)
    try:
        yield Program(name, process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def agent(directory: Path, env: Mapping[str, str], bus: Bus) -> Iterator[Program]:
    """The agent as on a node, shipping to a store on loopback."""
    # Only the agent: whatever else is installed here would be loaded with it.
    package = directory / "package"
    shutil.copytree(PROJECT / "agent/farmhand_agent", package / "farmhand_agent")
    about = package / "farmhand-0.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: farmhand\nVersion: 0\n")
    config = directory / "agent.json"
    with running_sink() as sink:
        place = {"state_dir": str(directory / "state"), "sysfs": str(bus.sysfs)}
        config.write_text(json.dumps({**place, "ship": {"url": sink.url}}))
        python = environment("agent", "requirements-agent.lock") / "python"
        command = [str(python), "-P", "-m", "farmhand_agent.cli", "run", "--config", str(config)]
        with running("farmhand-agent", command, {**env, "PYTHONPATH": str(package)}) as program:
            yield program
            assert len(program.tree()) > 1, "no reader runs: the cards are not read"
            assert sink.accepted, "nothing was shipped"


@contextmanager
def nvitop_exporter(env: Mapping[str, str]) -> Iterator[Program]:
    """The exporter of nvitop, scraped once a second."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    python = environment("others", "requirements-bench.lock")
    where = ["--bind-address", "127.0.0.1", "--port", str(port), "--interval", "1"]
    ended = threading.Event()
    scraper = threading.Thread(
        target=_scrape, args=(f"http://127.0.0.1:{port}/metrics", ended), daemon=True
    )
    with running("nvitop-exporter", [str(python / "nvitop-exporter"), *where], env) as program:
        scraper.start()
        yield program
        ended.set()
        scraper.join()


def _scrape(url: str, ended: threading.Event) -> None:
    while not ended.wait(1.0):
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            answer.read()


@contextmanager
def gpustat(env: Mapping[str, str]) -> Iterator[Program]:
    """The watch mode of gpustat, once a second."""
    program = environment("others", "requirements-bench.lock") / "gpustat"
    watch = [str(program), "--interval", "1", "--no-color"]
    with running("gpustat", watch, {**env, "TERM": "xterm"}) as started:
        yield started


def costs(cards: int, call_ms: float, seconds: float) -> list[Cost]:
    """What each program costs while all run."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as programs:
        directory = Path(name)
        library, state_path = standin.build(directory), directory / "nvml.state"
        state = farm_state(state_path, ["RTX 3090"] * cards)
        if call_ms:
            state.library["calls_delay_ms"] = str(call_ms)
        state.write()
        bus = Bus.of(state, directory / "sys")
        env = standin.environment(library, state_path, fixed=True)
        env.pop("PYTHONPATH", None)
        started = [
            programs.enter_context(agent(directory, env, bus)),
            programs.enter_context(nvitop_exporter(env)),
            programs.enter_context(gpustat(env)),
        ]
        time.sleep(SETTLE_SECONDS)
        before = [program.processor_seconds() for program in started]
        began = time.monotonic()
        time.sleep(seconds)
        after = [program.processor_seconds() for program in started]
        took = time.monotonic() - began
        return [
            Cost(program.name, (late - early) / took, program.memory_bytes() / 2**20)
            for program, early, late in zip(started, before, after, strict=True)
        ]


def main() -> int:
    """Print the costs side by side."""
    options = argparse.ArgumentParser(prog="bench-agent", description=__doc__)
    options.add_argument("--cards", type=int, default=8)
    options.add_argument("--call-ms", type=float, default=0.0, help="how long each call takes")
    options.add_argument("--seconds", type=float, default=60.0)
    chosen = options.parse_args()
    sys.stdout.write(f"{chosen.cards} cards, calls of {chosen.call_ms:g} ms, once a second\n")
    for cost in costs(chosen.cards, chosen.call_ms, chosen.seconds):
        sys.stdout.write(
            f"{cost.name:<18}{cost.share:>8.2%} of a core{cost.memory_mib:>8.1f} MiB\n"
        )
    return 0


if __name__ == "__main__":
    os.chdir(PROJECT)
    sys.exit(main())
