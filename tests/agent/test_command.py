"""How the programs log and complain."""

import os
import subprocess
import sys
from pathlib import Path

LOGS = """
import logging
from farmhand_agent.command import log_to_stderr, run
from farmhand_agent.settings import ConfigError
log_to_stderr()
logging.getLogger("watch").warning("a card hangs\\nin two lines")
logging.getLogger("watch").info("it reads again")
def bad():
    raise ConfigError("agent.toml: site: expected a name")
run("farmhand-agent", bad)
"""


def told(journal: bool, tmp_path: Path) -> list[str]:
    """Lines on stderr of a program whose stderr is, or is not, the journal's stream."""
    path = tmp_path / "stderr"
    with path.open("wb") as stream:
        state = os.fstat(stream.fileno())
        named = {"JOURNAL_STREAM": f"{state.st_dev}:{state.st_ino + (not journal)}"}
        environment = os.environ | named | {"PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", LOGS], stderr=stream, env=environment, check=True)
    return path.read_text().splitlines()


def test_the_journal_gets_a_priority_with_each_line(tmp_path: Path) -> None:
    """So `journalctl -p warning` finds what matters."""
    assert told(journal=True, tmp_path=tmp_path) == [
        "<4>watch: a card hangs",
        "<4>in two lines",
        "<6>watch: it reads again",
        "<3>farmhand-agent: agent.toml: site: expected a name",
    ]


def test_a_terminal_gets_words(tmp_path: Path) -> None:
    """Also where the journal's stream was replaced by another."""
    assert told(journal=False, tmp_path=tmp_path) == [
        "WARNING watch: a card hangs",
        "in two lines",
        "INFO watch: it reads again",
        "farmhand-agent: agent.toml: site: expected a name",
    ]
