"""`make run` and the UI, in a real terminal and without one."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.programs import wait_until

pytestmark = pytest.mark.system

ROOT = Path(__file__).parent.parent.parent
FARMHAND = f"{sys.executable} -m farmhand_tui.cli"


class Terminal:
    """A tmux server of our own with one window of 160 by 50."""

    def __init__(self, directory: Path) -> None:
        self._tmux = ["tmux", "-S", str(directory / f"{uuid.uuid4().hex[:8]}.sock")]
        self._environment = {
            **os.environ,
            "XDG_STATE_HOME": str(directory),
            "TERM": "xterm-256color",
        }

    def start(self, command: str) -> None:
        size = ["-x", "160", "-y", "50", "-c", str(ROOT)]
        new = [*self._tmux, "-f", "/dev/null", "new-session", "-d", *size, command]
        subprocess.run(new, check=True, env=self._environment)

    def press(self, *keys: str) -> None:
        subprocess.run([*self._tmux, "send-keys", *keys], check=True)

    def text(self) -> str:
        shown = [*self._tmux, "capture-pane", "-p"]
        done = subprocess.run(shown, capture_output=True, text=True, check=False)
        return done.stdout

    def shows(self, *words: str) -> Callable[[], bool]:
        return lambda: all(word in self.text() for word in words)

    def ended(self) -> bool:
        listed = [*self._tmux, "list-sessions"]
        return subprocess.run(listed, capture_output=True, check=False).returncode != 0

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal; a machine without tmux fails the test."""
    assert shutil.which("tmux"), "tmux is missing: apt-get install tmux"
    made = Terminal(tmp_path)
    yield made
    made.close()


def test_make_run_reaches_the_farm_grid(terminal: Terminal) -> None:
    """The grid shows racks, nodes and the sums; what is simulated says so in every view."""
    terminal.start("make run")

    wait_until(terminal.shows("64 cards", "rack-01", "node-001", "SIMULATED"), 120, "the farm grid")
    terminal.press("2")
    wait_until(terminal.shows("worst first", "SIMULATED"), 20, "the table of cards")
    terminal.press("3")
    wait_until(terminal.shows("SIMULATED"), 20, "the findings")
    terminal.press("q")
    terminal.press("q")
    wait_until(terminal.ended, 30, "q leaves")


def test_a_second_up_attaches_to_the_first(terminal: Terminal, tmp_path: Path) -> None:
    """Another `farmhand up`, and `farmhand status`, speak of the farm that runs already."""
    terminal.start(f"{FARMHAND} up --simulate 8 --seed 4321 --history 600")
    wait_until(terminal.shows("8 cards", "seed 4321"), 60, "the first farm")

    second = Terminal(tmp_path)
    second.start(f"{FARMHAND} up --simulate 16")
    status = subprocess.run(
        [*FARMHAND.split(), "status"],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        wait_until(second.shows("8 cards", "seed 4321"), 60, "the first farm, attached to")
        second.press("q")
        wait_until(second.ended, 30, "q leaves the second")
    finally:
        second.close()

    assert "SIMULATED (seed 4321)" in status.stdout
    assert "8 cards" in terminal.text()


def test_without_a_terminal_make_run_prints_the_state(tmp_path: Path) -> None:
    """In a pipe the state comes as text, and the command ends by itself."""
    done = subprocess.run(
        ["bash", "-c", "make run < /dev/null | cat"],
        cwd=ROOT,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )

    assert "SIMULATED (seed" in done.stdout
    assert "64 cards" in done.stdout
    assert "\x1b" not in done.stdout
