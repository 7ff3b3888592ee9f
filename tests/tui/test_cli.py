"""The command `farmhand` on a running collector: text, JSON, filters and exit status."""

import json
from pathlib import Path

import pytest

from farmhand_tui import cli

from .server import FarmServer
from .synthetic import SyntheticFarm


@pytest.fixture
def config(server: FarmServer, tmp_path: Path) -> list[str]:
    """Options that name the server."""
    path = tmp_path / "farmhand.toml"
    path.write_text(f'url = "{server.url}"\n')
    return ["--config", str(path)]


@pytest.mark.usefixtures("synthetic")
def test_cards_by_text_and_number(config: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`host=…` and readings together choose cards, as typed after / in the UI."""
    cli.main(["cards", "--json", *config])
    every = json.loads(capsys.readouterr().out)["cards"]
    host = every[0]["host"]

    cli.main(["cards", "--json", "--where", f"host={host} util>=0", *config])
    chosen = json.loads(capsys.readouterr().out)["cards"]

    assert {card["host"] for card in chosen} == {host}
    assert 0 < len(chosen) < len(every)


def test_findings_about_other_cards_do_not_count(
    config: list[str], synthetic: SyntheticFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status is that of the cards that were asked for."""
    cli.main(["status", "--json", *config])
    state = json.loads(capsys.readouterr().out)
    explained = {key for finding in state["findings"] for key in finding["cards"]}
    sound = next(
        row
        for row in synthetic.rows.values()
        if row["state"] == "ok" and row["key"] not in explained
    )

    cli.main(["cards", "--json", "--where", f"card={sound['card']}", *config])
    asked = json.loads(capsys.readouterr().out)

    assert state["findings"]
    assert asked["findings"] == []
    assert [card["card"] for card in asked["cards"]] == [sound["card"]]


def test_a_finding_has_its_name_under_its_scope(
    config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts ask a node finding for its `node`."""
    cli.main(["status", "--json", *config])
    (finding, *_) = json.loads(capsys.readouterr().out)["findings"]

    assert finding["scope"] == "node"
    assert finding["node"] == finding["name"]
    assert "rack" not in finding


def test_a_bad_filter_is_one_line(config: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It names the column, and the status is that of a bad command line."""
    assert cli.main(["cards", "--where", "temp>hot", *config]) == 78
    assert capsys.readouterr().err == "farmhand: --where: column 6: a number is expected here\n"


def test_no_collector_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be asked could not be judged."""
    path = tmp_path / "farmhand.toml"
    path.write_text('url = "http://127.0.0.1:1"\n')

    assert cli.main(["status", "--config", str(path)]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_capacity_is_told_by_what_is_asked(
    config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON object that says what is not real; the status is that of the farm."""
    assert cli.main(["capacity", "--by", "rack", "--json", *config]) == 3
    told = json.loads(capsys.readouterr().out)

    assert (told["by"], told["simulated"]["seed"]) == ("rack", 7)
    assert sum(row["cards"] for row in told["rows"]) == 120


def test_capacity_of_something_else_is_one_line(
    config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad command line."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["capacity", "--by", "shelf", *config])

    assert ended.value.code == 78
    assert "shelf" in capsys.readouterr().err


def test_a_repair_is_told_in_text(config: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With what is not real first."""
    assert cli.main(["what-if", "card-00001", *config]) == 0

    assert capsys.readouterr().out.startswith("SIMULATED (seed 7)\nrepaired card-00001: 12.5 TFLO")


def test_a_repair_of_which_nothing_is_known_could_not_be_judged(
    config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The lost card of the synthetic farm gives no share."""
    assert cli.main(["what-if", "--json", "card-00005", *config]) == 3
    assert json.loads(capsys.readouterr().out)["unjudged"] == ["card-00005"]


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ([], 78, "what-if: a CARD or --gang NAME is expected"),
        (["card-99999"], 3, "no such card or gang"),
        (["--gang", "\x1b[31m"], 3, "no such card or gang"),
    ],
)
def test_a_repair_of_nothing_is_one_line(
    config: list[str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    told: str,
) -> None:
    """Whether nothing is named or nobody knows it."""
    assert cli.main(["what-if", *arguments, *config]) == status

    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert "\x1b" not in said


def test_chosen_cards_do_not_carry_the_capacity_of_all(
    config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A part of the farm does not deliver what the whole does."""
    cli.main(["cards", "--json", "--where", "state=lost", *config])

    assert json.loads(capsys.readouterr().out)["capacity"] is None
