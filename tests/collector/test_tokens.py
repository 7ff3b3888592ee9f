"""Tokens that the collector gives out: what they grant, how they change, what is kept of them."""

import json
import logging
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from farmhand_agent.settings import ConfigError
from farmhand_collector import tokens
from farmhand_collector.access import Grant, of_token
from farmhand_collector.tokens import (
    MOST_PER_HOST,
    OLD_TOKEN_SECONDS,
    AnyOf,
    Issued,
    NoSuchToken,
    Scope,
    TokenFile,
    Tokens,
    TooManyTokens,
)

START = 1_790_000_000.0


class SetClock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def file(tmp_path: Path, clock: SetClock) -> TokenFile:
    made = TokenFile(tmp_path / "data" / "tokens.json", clock)
    made.make()
    return made


def show(known: Tokens, issued: Issued, scope: Scope = Scope.WRITE) -> Grant | None:
    """What a token grants to whoever shows it."""
    return known.access(scope).grant(f"Token {issued.text}")


# --- what they grant -----------------------------------------------------------------------------


def test_a_nodes_token_writes_for_that_node_alone(file: TokenFile) -> None:
    """What is stolen from one node can tell nothing about another."""
    issued = file.add_host("node1")

    assert show(Tokens(file.path), issued) == Grant(f"node1/{issued.token.id}", "node1")


@pytest.mark.parametrize(
    ("scope", "good_for"),
    [
        (Scope.WRITE, {Scope.WRITE}),
        (Scope.READ, {Scope.READ}),
        (Scope.ADMIN, {Scope.READ, Scope.ADMIN}),
    ],
)
def test_a_token_is_good_for_its_scope(file: TokenFile, scope: Scope, good_for: set[Scope]) -> None:
    """A terminal's token writes nothing; who may change things may also look at them."""
    issued = file.add(scope)
    known = Tokens(file.path)

    assert {asked for asked in Scope if show(known, issued, asked)} == good_for


def test_a_changed_or_torn_token_grants_nothing(file: TokenFile) -> None:
    """Id and secret belong together, and all of both counts."""
    one, other = file.add_host("node1").text, file.add_host("node2").text
    access = Tokens(file.path).access(Scope.WRITE)
    mixed = "_".join([*one.split("_")[:2], other.split("_", 2)[2]])

    for wrong in (mixed, one[:-1], one + "x", one.replace("fh1", "fh2"), "fh1__", "fh1", "", "é"):
        assert access.grant(f"Token {wrong}") is None, wrong
    assert access.grant(f"Token {one}")


def test_a_shared_token_stays_good_beside_them(file: TokenFile) -> None:
    """Who had written a token into a file before need not join all nodes in one night."""
    issued = file.add_host("node1")
    both = AnyOf([of_token("shared-secret"), Tokens(file.path).access(Scope.WRITE)])

    assert both.grant("Token shared-secret") == Grant("shared")
    assert both.grant(f"Bearer {issued.text}") == Grant(issued.token.name, "node1")
    assert both.grant("Token else") is None


# --- what is kept --------------------------------------------------------------------------------


def test_the_file_holds_no_secret_and_is_its_owners_alone(file: TokenFile) -> None:
    """Who reads a backup of it cannot write with it."""
    issued = file.add_host("node1")

    secret = issued.text.split("_", 2)[2]
    assert secret not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert len(secret) >= 43


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"schema": 2, "tokens": []}',
        b'{"schema": 1, "tokens": [{"id": "a", "sha256": "00", "scope": "read", "created": 1}]}',
        b'{"schema": 1, "tokens": [{"id": "a", "sha256": "zz", "scope": "read", "created": 1}]}',
        b'{"schema": 1, "tokens": [{"id": "a", "scope": "boss", "created": 1}]}',
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    """At the start; nobody is let in by half a file."""
    path = tmp_path / "tokens.json"
    path.write_bytes(content)

    with pytest.raises(ConfigError) as told:
        Tokens(path)

    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_a_damaged_file_is_not_overwritten(file: TokenFile) -> None:
    """What can still be read of it by hand must not be lost to the next command."""
    file.path.write_text("{")

    with pytest.raises(ConfigError):
        file.add(Scope.READ)

    assert file.path.read_text() == "{"


def test_several_keepers_at_once_lose_nothing(file: TokenFile) -> None:
    """Each of several processes adds ten nodes; all of them are there."""
    program = (
        "import sys; from pathlib import Path; from farmhand_collector.tokens import TokenFile\n"
        "for n in range(10): TokenFile(Path(sys.argv[1])).add_host(f'{sys.argv[2]}-{n}')"
    )
    command = [sys.executable, "-c", program, str(file.path)]
    processes = [subprocess.Popen([*command, str(number)]) for number in range(4)]

    assert [process.wait(60) for process in processes] == [0] * 4
    assert len({token.host for token in file.tokens()}) == 40


# --- while the collector runs --------------------------------------------------------------------


def test_a_new_token_is_good_at_once(file: TokenFile) -> None:
    """The running collector follows the file."""
    known = Tokens(file.path)
    issued = file.add_host("node1")

    assert show(known, issued)


def test_a_revoked_token_is_good_no_more(file: TokenFile) -> None:
    """From the next request on."""
    issued = file.add_host("node1")
    known = Tokens(file.path)
    assert show(known, issued)

    assert file.revoke("node1") == [issued.token]

    assert show(known, issued) is None


@pytest.mark.parametrize("damage", ["{", None], ids=["damaged", "gone"])
def test_the_last_good_tokens_stay_in_force(
    file: TokenFile, caplog: pytest.LogCaptureFixture, damage: str | None
) -> None:
    """A slip of the keeper's hand must not cut off the farm, nor let anyone in; it is said once."""
    issued = file.add_host("node1")
    known = Tokens(file.path)
    if damage is None:
        file.path.unlink()
    else:
        file.path.write_text(damage)

    with caplog.at_level(logging.ERROR):
        assert [show(known, issued) is None for _ in range(3)] == [False] * 3
        assert known.access(Scope.WRITE).grant("Token fh1_a_b") is None

    assert [r.message for r in caplog.records] == [caplog.records[0].message]
    assert str(file.path) in caplog.text


# --- rotation ------------------------------------------------------------------------------------


def test_old_and_new_token_are_good_side_by_side(file: TokenFile) -> None:
    """So that no post is refused between the keeper's two commands."""
    old = file.add_host("node1", rack="shelf-1", site="cellar", note="by the door")
    known = Tokens(file.path)
    new = file.rotate("node1")

    assert show(known, old) and show(known, new)
    assert (new.token.rack, new.token.site, new.token.note) == ("shelf-1", "cellar", "by the door")


def test_a_line_that_was_lost_costs_the_node_nothing(file: TokenFile) -> None:
    """Of two tokens the one in use stays when a third is made."""
    old = file.add_host("node1")
    lost = file.rotate("node1")
    known = Tokens(file.path)
    assert show(known, old)
    known.tend()

    new = file.rotate("node1")

    assert show(known, old) and show(known, new) and not show(known, lost)


def test_a_token_in_use_is_not_ended_for_an_older_one(file: TokenFile, clock: SetClock) -> None:
    """The node took the second one up; the first is what the third replaces."""
    old = file.add_host("node1")
    known = Tokens(file.path, clock)
    show(known, old)
    clock.now += 10
    second = file.rotate("node1")
    show(known, second)
    known.tend()

    third = file.rotate("node1")

    assert show(known, second) and show(known, third) and not show(known, old)


def test_the_old_token_ends_by_itself_a_day_after_its_last_use(
    file: TokenFile, clock: SetClock
) -> None:
    """Only once the node has shown that it has the new one."""
    old = file.add_host("node1")
    known = Tokens(file.path, clock)
    new = file.rotate("node1")
    show(known, old)
    clock.now += 3 * OLD_TOKEN_SECONDS
    known.tend()
    assert show(known, old), "the node never showed the new one: it may be without it"

    show(known, new)
    clock.now += OLD_TOKEN_SECONDS - 1
    known.tend()
    assert len(file.tokens()) == 2
    clock.now += 2
    known.tend()

    assert file.tokens() == [new.token]
    assert show(known, old) is None and show(known, new)


def test_use_is_known_after_a_restart(file: TokenFile, clock: SetClock) -> None:
    """The keeper's list tells it, and a day of silence counts from the start on."""
    old, known = file.add_host("node1"), Tokens(file.path, clock)
    new = file.rotate("node1")
    show(known, new)
    known.tend()
    clock.now += 2 * OLD_TOKEN_SECONDS

    again = Tokens(file.path, clock)
    again.tend()

    assert tokens.uses(file.path) == {new.token.id: START}
    assert show(again, old), "it may have been used while nobody saved it"


def test_an_old_token_is_not_dropped_while_the_node_may_need_it(file: TokenFile) -> None:
    """The new one was never shown: the line has perhaps not been pasted yet."""
    old = file.add_host("node1")
    file.rotate("node1")
    with pytest.raises(TooManyTokens, match="has not been seen in use"):
        file.drop_old("node1")

    assert file.drop_old("node1", even_if_new_is_unused=True) == [old.token]


def test_a_node_is_added_once(file: TokenFile) -> None:
    """Two machines under one name would be one card of two farms."""
    file.add_host("node1")

    with pytest.raises(TooManyTokens):
        file.add_host("node1")


@pytest.mark.parametrize("command", ["rotate", "drop_old", "revoke"])
def test_a_node_without_a_token_is_told(file: TokenFile, command: str) -> None:
    """A mistyped name must not pass for a done deed."""
    with pytest.raises(NoSuchToken, match="node9"):
        getattr(file, command)("node9")


class Rotation(RuleBasedStateMachine):
    """One node, its keeper and a collector that is restarted, in any order.

    The node holds one token and shows it. Whatever the keeper does short of revoking and of force,
    the node is never locked out.
    """

    directory: Path

    @initialize()
    def begin(self) -> None:
        self.clock = SetClock()
        path = self.directory / f"{id(self)}" / "tokens.json"
        self.file = TokenFile(path, self.clock)
        self.has = self.file.add_host("node1")
        self.lines: list[Issued] = []
        self.known = Tokens(path, self.clock)

    @rule(seconds=st.sampled_from([1.0, 3600.0, 2 * OLD_TOKEN_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        """The node posts at the end of it, and the collector looks after its tokens."""
        self.clock.now += seconds
        assert show(self.known, self.has) is not None
        self.known.tend()

    @rule()
    def rotate(self) -> None:
        self.lines.append(self.file.rotate("node1"))

    @precondition(lambda self: self.lines)
    @rule()
    def join_with_the_newest_line(self) -> None:
        """The check of `join` is a use of the token; the collector notes it within a minute."""
        self.has = self.lines[-1]
        assert show(self.known, self.has) is not None
        self.known.tend()

    @rule()
    def drop_old(self) -> None:
        """Refused, or the node has the new one."""
        try:
            self.file.drop_old("node1")
        except (NoSuchToken, TooManyTokens):
            return
        assert self.file.tokens() == [self.has.token]

    @rule()
    def restart(self) -> None:
        self.known = Tokens(self.file.path, self.clock)

    @invariant()
    def the_node_is_not_locked_out(self) -> None:
        live = self.file.tokens()
        assert self.has.token in live
        assert len(live) <= MOST_PER_HOST


def test_a_node_is_never_locked_out_by_rotation() -> None:
    """In any order of what keeper, node and collector do.

    In memory: thousands of flushes to disk would be most of the time.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        machine = type("RotationHere", (Rotation,), {"directory": Path(directory)})
        run_state_machine_as_test(machine)


def test_the_file_is_readable_by_a_person(file: TokenFile) -> None:
    """A keeper may have to mend it."""
    file.add_host("node1")

    (kept,) = json.loads(file.path.read_text())["tokens"]
    assert kept["host"] == "node1"
    assert len(file.path.read_text().splitlines()) > 5
