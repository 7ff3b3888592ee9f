"""The command `farmhand-agent` as a person or a script runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from farmhand_agent import cli
from farmhand_agent.inventory import Inventory, Place
from farmhand_agent.reading import Reading, fields_of, parse_lines
from farmhand_agent.settings import EXIT_CONFIG
from tests import standin
from tests.standin.captures import MODELS, farm_state

COMMAND = [sys.executable, "-m", "farmhand_agent.cli"]


class Ran:
    """A command that ended."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        command = [*COMMAND, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        self.status, self.out, self.errors = done.returncode, done.stdout, done.stderr


Run = Callable[..., Ran]


@pytest.fixture
def farm(nvml_state: standin.State) -> standin.State:
    """Every captured card in one node."""
    state = farm_state(nvml_state.path, list(MODELS))
    state.write()
    return state


@pytest.fixture
def run(farm: standin.State, nvml_library: Path, tmp_path: Path) -> Run:
    """Run the command on the farm, with a state directory of its own."""
    config = tmp_path / "agent.toml"
    config.write_text(f"host = 'node1'\nrack = 'a'\nstate_dir = '{tmp_path}'\n")
    environment = standin.environment(nvml_library, farm.path)

    def ran(*arguments: str) -> Ran:
        return Ran([*arguments, "--config", str(config)], environment)

    return ran


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """Environment of a machine without any vendor's library."""
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / standin.SONAME).write_text("no library")
    return os.environ | {"LD_LIBRARY_PATH": str(tmp_path / "none")}


# What a capture tells, and how the agent has to say it.
CAPTURED = {
    "core_temperature_celsius": ("temperature", 1.0),
    "memory_total_bytes": ("memory_total", 1.0),
    "core_clock_mhz": ("clock_sm", 1.0),
    "power_limit_watts": ("power_limit_enforced", 1000.0),
    "pcie_width": ("pcie_width", 1.0),
    "fan_ratio": ("fan", 100.0),
}


def captured(entries: Mapping[str, standin.Entry]) -> dict[str, float]:
    """Values of a captured card, as far as it tells them; 0 MHz is none."""
    values = {name: (entries[key], scale) for name, (key, scale) in CAPTURED.items()}
    return {
        name: raw / scale for name, (raw, scale) in values.items() if isinstance(raw, int) and raw
    }


def test_once_as_json_shows_each_captured_card_with_its_values(
    run: Run, farm: standin.State
) -> None:
    """One object: the host, and every card with what was captured from a real one."""
    ran = run("once", "--json", "--interval", "0.2")
    assert (ran.status, ran.errors) == (0, "")
    shown: dict[str, Any] = json.loads(ran.out)
    assert (shown["schema"], shown["note"], shown["host"]["host"]) == (1, None, "node1")
    assert len(shown["cards"]) == len(farm.cards)
    for card, entries in zip(shown["cards"], farm.cards, strict=True):
        assert (card["card"], card["state"]) == (entries["uuid"], "ok")
        assert (card["host"], card["rack"], card["vendor"]) == ("node1", "a", "nvidia")
        assert card["info"]["name"] == entries["name"]
        expected = captured(entries)
        assert {name: card.get(name) for name in expected} == pytest.approx(expected)


def test_once_as_line_protocol_is_what_would_be_shipped(run: Run, farm: standin.State) -> None:
    """Each line can be read back, and each field is in the contract."""
    ran = run("once", "--line-protocol", "--interval", "0.2")
    assert (ran.status, ran.errors) == (0, "")
    readings = list(parse_lines(ran.out))
    assert all(r.fields.keys() <= fields_of(r.measurement).keys() for r in readings)
    counted = [reading.measurement for reading in readings]
    assert counted.count("host") == 1
    assert counted.count("card") == counted.count("card_info") == len(farm.cards)
    cards: list[Reading] = [r for r in readings if r.measurement == "card"]
    for card, entries in zip(cards, farm.cards, strict=True):
        assert card.tags["card"] == entries["uuid"]
        expected = captured(entries)
        assert {n: card.fields.get(n) for n in expected} == pytest.approx(expected)


def test_once_as_text_names_each_card_and_its_values(run: Run, farm: standin.State) -> None:
    """For a person in front of the machine."""
    ran = run("once", "--interval", "0.2")
    assert (ran.status, ran.errors) == (0, "")
    blocks = {block.split("\n")[0]: block for block in ran.out.split("\ncard ")[1:]}
    assert len(blocks) == len(farm.cards)
    assert "no card was found" not in ran.out
    for number, entries in enumerate(farm.cards):
        model = str(entries["name"]).removeprefix("NVIDIA ")
        block = blocks[f"node1 0000:{number + 1:02x}:00.0 {model}"]
        shown = dict(line.split() for line in block.split("\n")[1:] if len(line.split()) == 2)
        expected = captured(entries)
        assert {n: float(shown[n]) for n in expected} == pytest.approx(expected)


def test_once_leaves_out_a_card_that_crashes_its_reader(run: Run, farm: standin.State) -> None:
    """It is shown as unreadable; the others are shown with their values."""
    farm.change(3, utilization=standin.CRASH)
    ran = run("once", "--json", "--interval", "0.2")
    states = [card["state"] for card in json.loads(ran.out)["cards"]]
    assert ran.status == 0
    assert sorted(states) == ["ok"] * (len(farm.cards) - 1) + ["unreadable"]


def test_text_of_a_driver_cannot_steer_the_terminal(run: Run, farm: standin.State) -> None:
    """A board whose maker wrote an escape sequence into its name."""
    farm.cards[0] |= {"name": "RTX \x1b[2J\x1b]0;owned\x07 3090", "serial": "\x9b31m"}
    farm.write()
    ran = run("once", "--interval", "0.2")
    assert ran.status == 0 and "3090" in ran.out
    assert all(line.isprintable() for line in ran.out.split("\n"))


@pytest.mark.parametrize("form", [[], ["--json"], ["--line-protocol"]])
def test_a_machine_without_cards_shows_itself(form: list[str], bare: dict[str, str]) -> None:
    """No card is no failure."""
    ran = Ran(["once", "--interval", "0.2", *form], bare)
    assert (ran.status, ran.errors) == (0, "")
    assert "load1" in ran.out
    if form != ["--line-protocol"]:
        assert "no card was found: no NVIDIA driver library on this machine" in ran.out
    if form == ["--json"]:
        assert json.loads(ran.out)["cards"] == []


def test_once_says_when_no_card_was_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A vendor that is turned off is not taken for a machine without cards."""
    config = tmp_path / "agent.toml"
    config.write_text("[nvidia]\nenabled = false\n")
    assert cli.main(["once", "--config", str(config)]) == 0
    assert "no card was looked for: nvidia.enabled is false" in capsys.readouterr().out


@pytest.mark.parametrize("interval", ["0", "-1", "601", "nan", "soon"])
def test_an_interval_that_makes_no_sense_is_one_line(
    interval: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the option."""
    try:
        status = cli.main(["once", "--interval", interval])
    except SystemExit as ended:
        status = int(ended.code or 0)
    told = capsys.readouterr()
    assert (status, told.out, told.err.count("\n")) == (EXIT_CONFIG, "", 1)
    assert "--interval" in told.err


def test_two_forms_at_once_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """It is one thing or the other."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["once", "--json", "--line-protocol"])
    told = capsys.readouterr()
    assert (ended.value.code, told.err.count("\n")) == (EXIT_CONFIG, 1)


def test_a_good_configuration_is_said_to_be_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And where it leads."""
    config = tmp_path / "agent.toml"
    config.write_text(f"host = 'node1'\nstate_dir = '{tmp_path}/state/deeper'\n")
    assert cli.main(["check", "--config", str(config)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "configuration is good: node1 ships to http://127.0.0.1:8428"
    assert told[1].startswith("kernel log: ")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("below", ["", "/state"])
def test_a_state_directory_that_cannot_be_one_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], below: str
) -> None:
    """A file is in the way."""
    config = tmp_path / "agent.toml"
    config.write_text(f'state_dir = "{config}{below}"\n')
    assert cli.main(["check", "--config", str(config)]) == EXIT_CONFIG
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith(f"farmhand-agent: {config}: state_dir: {config}")
    assert told.err.count("\n") == 1


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """All programs have the same."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("farmhand ")


def test_forget_takes_a_card_off_the_inventory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A card that was sold is lost for ever otherwise."""
    Inventory(tmp_path / "inventory.json").see([Place("slot3", "GPU-a", "nvidia", "T4")])
    config = tmp_path / "agent.json"
    config.write_text(json.dumps({"state_dir": str(tmp_path)}))
    assert cli.main(["forget", "slot3", "--config", str(config)]) == 0
    assert "forgotten: slot3 T4 GPU-a" in capsys.readouterr().out
    assert Inventory(tmp_path / "inventory.json").expected("nvidia") == []


def test_forgetting_what_is_not_expected_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip of the pen names the slots that there are."""
    Inventory(tmp_path / "inventory.json").see([Place("slot3", "GPU-a", "nvidia", "T4")])
    config = tmp_path / "agent.json"
    config.write_text(json.dumps({"state_dir": str(tmp_path)}))
    assert cli.main(["forget", "slot3", "slot4", "--config", str(config)]) == EXIT_CONFIG
    assert "slot4: no card is expected there, only in slot3" in capsys.readouterr().err
    assert len(Inventory(tmp_path / "inventory.json").expected("nvidia")) == 1
