"""The command `farmhand-collector`: what it refuses, in one line, and with which status."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from farmhand_agent.reading import Reading, to_line
from farmhand_collector import cli

COMMAND = [sys.executable, "-m", "farmhand_collector.cli"]


def ran(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the program to its end."""
    command = [*COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def config_file(directory: Path, **content: object) -> Path:
    """A configuration whose data lies in the directory."""
    path = directory / "collector.json"
    path.write_text(json.dumps({"data_dir": str(directory / "data"), **content}))
    return path


def recording(directory: Path, *readings: Reading) -> Path:
    """A recording of these readings."""
    path = directory / "recording.lp"
    path.write_text("".join(f"{to_line(reading)}\n" for reading in readings))
    return path


def card(time_ns: int, **fields: float | str) -> Reading:
    """A reading of one card."""
    tags = {"site": "s", "host": "n\u202ex", "slot": "slot1", "card": "GPU-1", "vendor": "nvidia"}
    return Reading("card", {**tags, "model": "GeForce RTX 3090"}, fields, time_ns)


def test_a_port_in_use_is_one_line_and_may_be_tried_again(tmp_path: Path) -> None:
    """Status 1, not 78: the configuration is good, another program has the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ran("run", "--config", str(config_file(tmp_path, listen={"port": port})))

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in done.stderr


def test_a_ledger_that_is_a_folder_is_one_line(tmp_path: Path) -> None:
    """Nothing half-made is left serving."""
    (tmp_path / "data" / "farm.sqlite").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    done = ran("run", "--config", str(config_file(tmp_path, listen={"port": port})))

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "farm.sqlite cannot be opened" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["simulate", "--seed", "-1"], "--seed: -1 is out of range"),
        (["simulate", "--history", "nan"], "--history: nan is out of range"),
        (["simulate", "--faults", "rust"], "--faults: 'rust' is unknown"),
        (["judge", "/no/such/file"], "/no/such/file: cannot be read: No such file or directory"),
        (["judge", __file__], "test_cli.py: line 1: "),
        (["judge", "--boards", "/no/boards.csv", "x"], "/no/boards.csv: cannot be read"),
        (["simulate", "--harmless", "rust"], "--harmless: 'rust' is unknown"),
        (["export", "--config", "/no/such.toml"], "/no/such.toml: cannot be read"),
    ],
)
def test_a_bad_command_line_is_one_line_and_78(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the option or the file."""
    status = cli.main(arguments)

    said = capsys.readouterr().err
    assert status == 78
    assert told in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("time_ns", [2**63 - 1, -(2**63)])
def test_a_time_that_no_clock_shows_is_told_by_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], time_ns: int
) -> None:
    """A recording with a broken time stamp is refused, not half judged."""
    path = recording(tmp_path, card(time_ns, state="ok"))

    assert cli.main(["judge", str(path)]) == 78
    assert f"{path}: line 1: time {time_ns}" in capsys.readouterr().err


def test_lines_that_were_left_out_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest is judged, and the status is the farm's."""
    good = [card(1_790_000_000 * 10**9 + number, state="ok") for number in range(40)]
    path = recording(tmp_path, *good)
    path.write_text(f"{path.read_text()}card,torn=\n")

    assert cli.main(["judge", str(path)]) == 3
    told = capsys.readouterr().err
    assert told.startswith(f"farmhand-collector: {path}: 1 line left out; line 41: ")
    assert told.count("\n") == 1


def test_text_of_a_recording_cannot_play_with_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host name that turns the writing direction is shown without its power."""
    path = recording(tmp_path, card(1_790_000_000 * 10**9, state="lost"))

    assert cli.main(["judge", str(path)]) == 2
    assert "\u202e" not in capsys.readouterr().out


def test_a_card_that_falls_after_its_last_reading_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A node may hang in the moment in which its card falls: the event is the last word."""
    start = 1_790_000_000 * 10**9
    fell = card(start + 120 * 10**9)._replace(
        measurement="card_event", fields={"kind": "xid", "code": "79", "text": "off the bus"}
    )
    path = recording(tmp_path, *(card(start + n * 10**10, state="ok") for n in range(9)), fell)

    assert cli.main(["judge", "--json", str(path)]) == 2
    assert json.loads(capsys.readouterr().out)["cards"][0]["state"] == "lost"


def test_a_judged_recording_says_what_the_farm_delivers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the first line, and as JSON; the share of cards that are judged with it."""
    start = 1_790_000_000 * 10**9
    path = recording(tmp_path, *(card(start + n * 10**10, state="ok") for n in range(9)))

    assert cli.main(["judge", str(path)]) == 3
    told = capsys.readouterr().out.splitlines()[0]
    cli.main(["judge", "--json", str(path)])
    capacity = json.loads(capsys.readouterr().out)["capacity"]

    assert told == f"the farm {capacity['text']}"
    assert told.startswith("the farm should deliver 0.228 A100 equivalents of compute")
    assert told.endswith("; 0 % of cards judged")
