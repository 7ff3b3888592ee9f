"""The line by which a node joins, and what it leaves on the node."""

import re
import stat
import string
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent import config, settings
from farmhand_agent.joining import Invitation, Place, check_place, parsed, report, settle, toml
from farmhand_agent.settings import ConfigError

PIN = "0f" * 32
TOKEN = "fh1_0123456789ab_c2VjcmV0LW9mLWEtdGVzdA"
INVITATION = Invitation("https://10.0.0.5:8428", PIN, TOKEN, "node1", "shelf-1", "cellar")
AUTHORITY = "-----BEGIN CERTIFICATE-----\nmade up\n-----END CERTIFICATE-----\n"

names = st.text(min_size=1, max_size=40).filter(lambda name: name.isprintable() and name.strip())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "farmhand" / "agent.toml")


# --- the line ------------------------------------------------------------------------------------


@given(host=names, rack=st.just("") | names, site=names)
def test_a_line_comes_back_as_it_was(host: str, rack: str, site: str) -> None:
    """Whatever the names; and a shell that is given it in single quotes does nothing with it."""
    invitation = INVITATION._replace(host=host, rack=rack, site=site)
    line = invitation.line()

    assert parsed(line) == invitation
    assert set(line) <= set(string.ascii_letters + string.digits + "+:/?&=%-_.~")


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "{}\n",
        "  '{}'  ",
        " echo '{}' | farmhand-agent join\n",
        'root@node1:~# farmhand-agent join <<< "{}"',
    ],
)
def test_the_line_is_found_in_what_was_copied(around: str) -> None:
    """A keeper may copy the whole command, quotes and prompt."""
    assert parsed(around.format(INVITATION.line())) == INVITATION


@given(st.data())
def test_a_torn_line_is_refused_and_its_token_is_not_repeated(data: st.DataObject) -> None:
    """Copied over a line break of the terminal; the message may end in a log."""
    line = INVITATION.line()
    cut = data.draw(st.integers(0, line.index(TOKEN) + 6))

    with pytest.raises(ConfigError) as told:
        parsed(line[:cut])

    assert "joining line" in str(told.value)
    assert TOKEN[:8] not in str(told.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (INVITATION._replace(pin="0f" * 31), "fingerprint"),
        (INVITATION._replace(pin=None), "fingerprint"),
        (INVITATION._replace(url="http://10.0.0.5:8428"), "fingerprint"),
        (INVITATION._replace(url="https://user@10.0.0.5"), "is no URL"),
        (INVITATION._replace(host=""), "host"),
        (INVITATION._replace(host="a\x1b[2Jb"), "host"),
        (INVITATION._replace(site="x" * 200), "site"),
        (INVITATION._replace(token="short"), "token"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(wrong: Invitation, told: str) -> None:
    """Without a fingerprint there is no TLS, and the other way round."""
    with pytest.raises(ConfigError, match=re.escape(told)):
        parsed(wrong.line())


@pytest.mark.parametrize("extra", ["&gpu=1", "&host=node2"])
def test_a_line_that_says_more_is_not_guessed_at(extra: str) -> None:
    """Of a later version, or two that grew together."""
    with pytest.raises(ConfigError, match="not of this version"):
        parsed(INVITATION.line() + extra)


# --- what is written -----------------------------------------------------------------------------


def test_the_agent_reads_what_joining_wrote(place: Place) -> None:
    """And the token is its owner's alone."""
    joined = settle(place, INVITATION._replace(url="http://10.0.0.5:8428", pin=None), None)

    made = config.load(place.config)
    assert joined.copy is None
    assert (made.site, made.rack, made.host) == ("cellar", "shelf-1", "node1")
    assert made.ship.url == "http://10.0.0.5:8428"
    assert config.token(made) == TOKEN
    assert stat.S_IMODE(place.token.stat().st_mode) == 0o600


def test_what_has_nothing_to_do_with_joining_stays(place: Place) -> None:
    """A node's own interval, spool and cards; the file before lies beside."""
    place.config.parent.mkdir()
    before = "interval_seconds = 5\n[ship]\nspool_bytes = 33554432\nverify_tls = false\n"
    before += "[nvidia]\nenabled = false\n"
    place.config.write_text(before)
    check_place(place, INVITATION, replace=False)

    joined = settle(place, INVITATION, AUTHORITY)

    made = settings.load(place.config, config.Config)
    assert (made.interval_seconds, made.ship.spool_bytes, made.nvidia.enabled) == (5, 2**25, False)
    assert made.ship.verify_tls, "what was said of another server must not hold for this one"
    assert joined.copy is not None and joined.copy.read_text() == before


@pytest.mark.parametrize(
    "other",
    [INVITATION._replace(url="https://10.0.0.6:8428"), INVITATION._replace(host="node2")],
    ids=["another collector", "another node"],
)
def test_a_node_that_has_joined_is_not_overwritten(place: Place, other: Invitation) -> None:
    """The line was meant for another machine, as likely as not."""
    settle(place, INVITATION, AUTHORITY)
    left = place.config.read_bytes()

    with pytest.raises(ConfigError, match=r"node1 ships to https://10\.0\.0\.5:8428 already"):
        check_place(place, other, replace=False)

    check_place(place, other, replace=True)
    joined = settle(place, other, AUTHORITY, replace=True)
    assert joined.copy is not None and joined.copy.read_bytes() == left
    assert settings.load(place.config, config.Config).host == other.host


def test_a_new_token_leaves_the_configuration_alone(place: Place) -> None:
    """Comments and the rack that the keeper wrote by hand; the agent takes the token by itself."""
    settle(place, INVITATION, AUTHORITY)
    edited = place.config.read_text().replace('rack = "shelf-1"', 'rack = "shelf-2" # moved')
    place.config.write_text(edited)
    new = INVITATION._replace(token=TOKEN[::-1])
    check_place(place, new, replace=False)

    joined = settle(place, new, AUTHORITY)

    assert joined.token_only and joined.copy is None
    assert place.config.read_text() == edited
    assert place.token.read_text().strip() == new.token


def test_another_authority_is_told(place: Place) -> None:
    """The agent has read the one before, so it must be started anew; a token alone is taken up."""
    settle(place, INVITATION, AUTHORITY)
    same = settle(place, INVITATION, AUTHORITY)
    other = settle(place, INVITATION, AUTHORITY.replace("made", "cooked"))

    assert "takes it up by itself" in report(place, INVITATION, same)[-1]
    assert "restart farmhand-agent" in report(place, INVITATION, other)[-1]


def test_a_configuration_that_cannot_be_read_is_not_overwritten(place: Place) -> None:
    """Nobody knows what would be lost."""
    place.config.parent.mkdir()
    place.config.write_text("site = \n")

    for replace in (False, True):
        with pytest.raises(ConfigError, match=r"agent\.toml: not valid TOML"):
            settle(place, INVITATION, AUTHORITY, replace=replace)

    assert not place.token.exists()


values = st.text() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False)
keys = st.text(string.ascii_lowercase + "_", min_size=1)


@given(st.dictionaries(keys, values | st.dictionaries(keys, values, min_size=1)))
def test_what_is_written_as_toml_is_read_as_it_was(content: dict[str, object]) -> None:
    """Any text, number or flag, at the top or in a table."""
    assert tomllib.loads(toml(content)) == content


# --- the command ---------------------------------------------------------------------------------


def joined(*arguments: str, line: str = "") -> "subprocess.CompletedProcess[str]":
    """Run `farmhand-agent join` with a line on its standard input."""
    command = [sys.executable, "-m", "farmhand_agent.cli", "join", *arguments]
    return subprocess.run(
        command, input=line, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_line_on_the_command_line_is_refused() -> None:
    """Every user of the machine can read it there; the message does not show it again."""
    done = joined(INVITATION.line())

    assert done.returncode == 78
    assert "paste it when asked" in done.stderr
    assert TOKEN not in done.stderr and done.stderr.count("\n") == 1


def test_a_collector_that_does_not_answer_changes_nothing(tmp_path: Path) -> None:
    """Status 1: it may later."""
    line = INVITATION._replace(url="https://127.0.0.1:1").line()
    done = joined("--config", str(tmp_path / "agent.toml"), line=line)

    assert done.returncode == 1
    assert "https://127.0.0.1:1 does not answer: Connection refused" in done.stderr
    assert list(tmp_path.iterdir()) == []
