"""Readers that hang in the kernel, remembered across agents."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from farmhand_agent.hung import HungReaders


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that does not end by itself."""
    with subprocess.Popen(["sleep", "infinity"]) as process:
        yield process
        process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hung.json"


def test_the_next_agent_knows_what_hangs(path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """By the slot that it hangs in."""
    HungReaders(path).add(sleeper.pid, "PCIEX16_1")
    assert HungReaders(path).slots() == {"PCIEX16_1"}


def test_a_reader_that_ended_hangs_no_more(path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """Its card may be tried again."""
    hung = HungReaders(path)
    hung.add(sleeper.pid, None)
    assert hung.slots() == {None}
    sleeper.kill()
    sleeper.wait()
    assert hung.slots() == set()
    assert HungReaders(path).slots() == set()


def test_another_process_with_its_number_is_not_it(
    path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    """Process numbers come again, after a reboot at the latest."""
    path.write_text(f'[{{"pid":{sleeper.pid},"started":1.0,"slot":"1"}}]')
    assert HungReaders(path).slots() == set()


def test_a_damaged_file_is_as_good_as_none(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told, and written anew."""
    path.write_bytes(b"[{")
    assert HungReaders(path).slots() == set()
    assert str(path) in caplog.text


def test_where_nothing_can_be_written_it_is_known_to_this_agent_alone(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]", caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk does not end the watch."""
    hung = HungReaders(tmp_path / "gone" / "hung.json")
    hung.add(sleeper.pid, "1")
    assert hung.slots() == {"1"}
    assert "cannot be written" in caplog.text
