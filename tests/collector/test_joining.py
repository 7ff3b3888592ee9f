"""What `init` sets up and `farmhand agents` gives out, and what the configuration asks of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from farmhand_agent.joining import parsed
from farmhand_agent.settings import ConfigError
from farmhand_collector import cli, config
from farmhand_collector.guards import Guards
from farmhand_collector.joining import Keeper, keeper, set_up, url
from farmhand_collector.tokens import Scope, TokenFile, path_in
from farmhand_tui import cli as farmhand

ANYWHERE = "0.0.0.0"  # noqa: S104


def written(directory: Path, **listen: Any) -> Path:
    """A configuration with its data in the directory."""
    path = directory / "collector.json"
    path.write_text(json.dumps({"data_dir": str(directory / "data"), "listen": listen}))
    return path


def unguarded(directory: Path, **listen: Any) -> config.Config:
    return config.load_unguarded(written(directory, **listen))


# --- what is asked of a collector that others can reach ------------------------------------------


def test_without_tokens_it_does_not_listen_to_others(tmp_path: Path) -> None:
    """One line says what to run."""
    with pytest.raises(ConfigError, match="expected tokens: run `farmhand-collector init`"):
        config.load(written(tmp_path, address=ANYWHERE))


def test_without_tls_it_does_not_listen_to_others(tmp_path: Path) -> None:
    """Not even where it is asked to, unless it is called what it is."""
    set_up(unguarded(tmp_path))

    with pytest.raises(ConfigError, match=r"expected TLS, or listen\.insecure = true"):
        config.load(written(tmp_path, address=ANYWHERE, tls=False))
    assert not config.speaks_tls(config.load(written(tmp_path, address=ANYWHERE, insecure=True)))


def test_without_tls_is_said_at_each_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Loudly."""
    set_up(unguarded(tmp_path))

    Guards(config.load(written(tmp_path, address=ANYWHERE, insecure=True)))

    assert "WITHOUT TLS on 0.0.0.0" in caplog.text


def test_others_are_listened_to_over_tls(tmp_path: Path) -> None:
    """By default, once `init` was run."""
    listen = {"address": ANYWHERE, "names": ["farm.lan"]}
    set_up(unguarded(tmp_path, **listen))

    made = Guards(config.load(written(tmp_path, **listen)))

    assert made.tls is not None
    assert [route.path for route in made.routes()] == ["/ca.pem"]


def test_on_one_machine_neither_is_asked_for(tmp_path: Path) -> None:
    """As `farmhand up` runs it."""
    made = Guards(config.load(written(tmp_path)))

    assert made.tls is None and made.routes() == []
    assert made.write.grant("") and made.read.grant("")


def test_tokens_once_made_are_asked_for_on_loopback_too(tmp_path: Path) -> None:
    """Every user of the machine reaches loopback."""
    set_up(unguarded(tmp_path))
    made = Guards(config.load(written(tmp_path)))

    assert made.write.grant("") is None and made.read.grant("") is None


@pytest.mark.parametrize(
    "name", ["", "a b", "https://farm.lan", "farm.lan:8428", "-" * 64, "x\x1b[31m", "naïve.lan"]
)
def test_a_name_that_no_certificate_can_hold_is_told(tmp_path: Path, name: str) -> None:
    """By its key."""
    with pytest.raises(ConfigError, match=r"listen\.names: "):
        config.load_unguarded(written(tmp_path, names=[name]))


def test_damaged_tokens_are_a_bad_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 78 and one line at the start: systemd does not try again."""
    path = path_in(tmp_path / "data")
    path.parent.mkdir()
    path.write_text("{}")

    assert cli.main(["run", "--config", str(written(tmp_path))]) == 78
    told = capsys.readouterr().err
    assert str(path) in told and told.count("\n") == 1


# --- init ----------------------------------------------------------------------------------------


def test_set_up_again_changes_nothing(tmp_path: Path) -> None:
    """A keeper may run it twice; no node is locked out and no token is told again."""
    made = unguarded(tmp_path, tls=True)
    first = set_up(made)
    files = {p: p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()}
    second = set_up(made)

    assert [scope for scope, _ in first.tokens] == [Scope.READ, Scope.ADMIN]
    assert (second.tokens, second.pin, second.is_new) == ([], first.pin, False)
    assert files == {p: p.read_bytes() for p in files}


def test_its_tokens_are_shown_once_and_can_be_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By their ids, which say nothing."""
    options = ["init", "--config", str(written(tmp_path))]
    cli.main([*options, "--token", "write"])
    shown = capsys.readouterr().out
    made = Guards(config.load(written(tmp_path)))
    (text,) = [line.split()[-1] for line in shown.splitlines() if "to write" in line]
    assert made.write.grant(f"Token {text}")

    cli.main([*options, "--list"])
    listed = capsys.readouterr().out
    number = text.split("_")[1]
    assert number in listed and text not in listed
    cli.main([*options, "--end", number])

    assert made.write.grant(f"Token {text}") is None
    assert cli.main([*options, "--end", number]) == 78


# --- agents --------------------------------------------------------------------------------------


def test_a_line_names_the_collector_as_nodes_reach_it(tmp_path: Path) -> None:
    """By the first of its names, and under the fingerprint of its authority."""
    made = unguarded(tmp_path, address=ANYWHERE, port=9000, names=["farm.lan", "10.0.0.5"])
    pin = set_up(made).pin

    told = parsed(Keeper(made).add("node1", rack="shelf 1"))

    assert told.url == "https://farm.lan:9000"
    assert (told.pin, told.host, told.rack, told.site) == (pin, "node1", "shelf 1", "home")


@pytest.mark.parametrize(
    ("address", "expected"), [("10.0.0.5", "10.0.0.5"), ("fd00::5", "[fd00::5]")]
)
def test_without_names_it_is_the_address_listened_on(
    tmp_path: Path, address: str, expected: str
) -> None:
    """Or the machine's own, where it listens on all."""
    assert url(unguarded(tmp_path, address=address)) == f"https://{expected}:8428"
    assert "0.0.0.0" not in url(unguarded(tmp_path, address=ANYWHERE))  # noqa: S104


def test_a_new_line_repeats_where_the_node_stands(tmp_path: Path) -> None:
    """The keeper need not remember."""
    made = unguarded(tmp_path)
    set_up(made)
    first = parsed(Keeper(made).add("node1", rack="shelf-1", site="cellar"))

    second = parsed(Keeper(made).rotate("node1"))

    assert second._replace(token="") == first._replace(token="")
    assert second.token != first.token


def test_the_list_tells_each_token_of_each_node(tmp_path: Path) -> None:
    """Which are old, and whose they are; tokens of terminals are not nodes'."""
    made = unguarded(tmp_path)
    set_up(made)
    keeps = Keeper(made)
    keeps.add("node2")
    keeps.add("node1", note="by the door")
    keeps.rotate("node1")

    told = [(a.host, a.is_newest, a.note, a.used) for a in keeps.agents()]
    assert told == [
        ("node1", False, "by the door", None),
        ("node1", True, "by the door", None),
        ("node2", True, "", None),
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["add", "node1"], "node1 has a token already; `farmhand agents rotate`"),
        (["add", "a\x1b[2Jb"], "HOST: "),
        (["add", "node2", "--url", "farm"], "--url: 'farm' is no URL"),
        (["rotate", "node2"], "node2 has no token; `farmhand agents add`"),
        (["revoke", "node2"], "node2 has no token"),
        (["drop-old", "node1"], "node1 has no old token"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    """And nothing is changed."""
    path = written(tmp_path)
    set_up(config.load_unguarded(path))
    keeper(path).add("node1")
    before = TokenFile(path_in(tmp_path / "data")).tokens()

    assert farmhand.main(["agents", *arguments, "--config", str(path)]) == 78

    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1 and "\x1b" not in said
    assert TokenFile(path_in(tmp_path / "data")).tokens() == before


def test_before_init_no_node_is_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A token alone would lock the terminal out of a collector that asked for none."""
    path = written(tmp_path)

    assert farmhand.main(["agents", "add", "node1", "--config", str(path)]) == 78
    assert "run `farmhand-collector init` first" in capsys.readouterr().err
