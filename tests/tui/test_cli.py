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
