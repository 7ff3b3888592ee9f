"""What was concluded, on disk."""

import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from farmhand_collector.changes import Change
from farmhand_collector.ledger import Checkpoint, Ledger, LedgerError


def change(key: str = "GPU-0", state: str = "lost", time: float = 1.0) -> Change:
    """A change of verdict."""
    return Change(time, key, state, "unreachable", "lost", "The card is gone.")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger lies."""
    return tmp_path / "data" / "farm.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    """A new ledger."""
    opened = Ledger(path)
    yield opened
    opened.close()


def full(path: Path, ledger: Ledger, is_full: bool) -> None:
    """Let the ledger's disk be full, by SQLite's own limit, or have space again."""
    pages = path.stat().st_size // 4096 if is_full else 1_000_000
    ledger._connection.pragma("max_page_count", max(pages, 1))


def test_a_new_ledger_knows_nothing(ledger: Ledger) -> None:
    """Judging begins with what the store holds."""
    assert ledger.checkpoint() is None
    assert ledger.last_tick_ns() == 0
    assert ledger.said() == {}
    assert ledger.changes() == []


def test_what_was_committed_is_there_after_a_restart(path: Path) -> None:
    """Tick, changes and checkpoint."""
    ledger = Ledger(path)
    ledger.commit(7, [change()], Checkpoint(42, b"state"))
    ledger.close()

    again = Ledger(path)

    assert again.last_tick_ns() == 7
    assert again.changes() == [change()]
    assert again.checkpoint() == Checkpoint(42, b"state")
    again.close()


def test_a_tick_without_a_checkpoint_keeps_the_last_one(ledger: Ledger) -> None:
    """Checkpoints are large and made seldom."""
    ledger.commit(1, [], Checkpoint(5, b"old"))
    ledger.commit(2, [])

    assert ledger.last_tick_ns() == 2
    assert ledger.checkpoint() == Checkpoint(5, b"old")


def test_said_is_the_last_word_on_each_card(ledger: Ledger) -> None:
    """By order of writing, not by time."""
    ledger.commit(1, [change("A", "ok"), change("B", "lost")])
    ledger.commit(2, [change("A", "failing")])

    assert ledger.said() == {"A": ("failing", "unreachable"), "B": ("lost", "unreachable")}


def test_changes_are_given_newest_first(ledger: Ledger) -> None:
    """Of one card or of all, and no more than asked for."""
    told = [change(key, time=float(at)) for at, key in enumerate("ABAB")]
    ledger.commit(1, told)

    assert ledger.changes() == told[::-1]
    assert ledger.changes("A") == [told[2], told[0]]
    assert ledger.changes(limit=1) == [told[3]]
    assert ledger.changes("C") == []


def test_names_of_cards_are_values_not_queries(ledger: Ledger) -> None:
    """A tag may hold anything."""
    name = "'; DROP TABLE change; --"
    ledger.commit(1, [change(name)])

    assert ledger.changes(name) == [change(name)]


def test_a_commit_that_fails_leaves_nothing_behind(path: Path, ledger: Ledger) -> None:
    """The disk is full: neither the tick nor half of its changes are there."""
    ledger.commit(1, [change("A")])
    full(path, ledger, True)

    with pytest.raises(LedgerError, match="cannot be written"):
        ledger.commit(2, [change(f"GPU-{number}") for number in range(5000)], Checkpoint(9, b"x"))

    assert ledger.last_tick_ns() == 1
    assert ledger.changes() == [change("A")]
    assert ledger.checkpoint() is None


def test_a_ledger_takes_up_again_when_there_is_space(path: Path, ledger: Ledger) -> None:
    """The next tick is written as if nothing had been."""
    full(path, ledger, True)
    with pytest.raises(LedgerError):
        ledger.commit(1, [change()] * 5000)
    full(path, ledger, False)

    ledger.commit(1, [change()])

    assert ledger.changes() == [change()]


def test_it_is_read_while_it_is_written(ledger: Ledger) -> None:
    """The API asks from its own threads; neither side ever fails for it."""
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(300):
                ledger.changes("GPU-0", 50)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(60):
        ledger.commit(number, [change()] * 20)
    for reader in readers:
        reader.join()

    assert failures == []


def test_a_file_that_is_no_ledger_is_set_aside(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Judging begins anew rather than not at all, and the file is kept to be looked at."""
    path.parent.mkdir()
    path.write_bytes(b"not a database " * 1000)

    ledger = Ledger(path)
    ledger.commit(1, [change()])
    ledger.close()

    aside = path.with_name(f"{path.name}.corrupt-1")
    assert aside.read_bytes().startswith(b"not a database")
    assert "judging starts anew" in caplog.text


def test_only_its_owner_may_read_it(path: Path, ledger: Ledger) -> None:
    """It names cards and places."""
    assert path.stat().st_mode & 0o777 == 0o600
    assert ledger.changes() == []


def test_an_older_ledger_opens(path: Path) -> None:
    """A file with tables of its own kind is used as it is."""
    Ledger(path).close()
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO change VALUES (NULL, 1.0, 'A', 'ok', '', '', '')")
    connection.close()

    ledger = Ledger(path)

    assert ledger.said() == {"A": ("ok", "")}
    ledger.close()


def test_a_second_damaged_file_does_not_overwrite_the_first(tmp_path: Path) -> None:
    """What is set aside is evidence; each keeps a name of its own."""
    path = tmp_path / "farm.sqlite"
    for _ in range(2):
        path.write_bytes(b"not a database" * 100)
        Ledger(path).close()

    assert {aside.name for aside in tmp_path.glob("*.corrupt-?")} == {
        "farm.sqlite.corrupt-1",
        "farm.sqlite.corrupt-2",
    }


def test_a_ledger_that_cannot_be_opened_is_told_in_one_line(tmp_path: Path) -> None:
    """A folder in its place is neither damage nor a reason for a trace."""
    path = tmp_path / "farm.sqlite"
    path.mkdir()

    with pytest.raises(LedgerError, match=r"farm\.sqlite cannot be opened"):
        Ledger(path)
