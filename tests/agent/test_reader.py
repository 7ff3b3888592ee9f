"""The reader child: its loop on cards of a test, its program on the stand-in."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from farmhand_agent.progress import Progress
from farmhand_agent.reader import Message, Reader
from farmhand_agent.reading import Value
from farmhand_agent.sources.base import (
    Card,
    CardLost,
    CardUnreadable,
    Enumeration,
    Fields,
    NothingHere,
    SourceStale,
)
from farmhand_agent.sources.nvidia.source import NvidiaSource
from tests import standin
from tests.standin.captures import farm_state

Answer = Callable[[str], Fields]


class Shelf:
    """A source of cards that do what a test tells them to."""

    vendor = "shelf"

    def __init__(self, *slots: str) -> None:
        self.slots = list(slots)
        self.on_sample: Answer = lambda _slot: {"power_watts": 100.0}
        self.on_slow: Answer = lambda _slot: {"pcie_replay_total": 7.0}
        self.on_rare: Answer = lambda _slot: {"processes": 2.0}
        self.on_info: Answer = lambda _slot: {"vbios": "94.02"}
        self.changed: set[str] = set()
        self.sampled: list[str] = []
        self.informed = 0

    def open(self) -> None:
        if not self.slots:
            raise NothingHere("the shelf is empty")

    def cards(self, wanted: Callable[[str], bool]) -> Enumeration:
        cards = [Card(slot, f"ID-{slot}", "shelf", "Model", None) for slot in self.slots]
        return Enumeration([card for card in cards if wanted(card.slot)], self.slots)

    def info(self, card: Card) -> Fields:
        self.informed += 1
        return self.on_info(card.slot)

    def sample(self, card: Card) -> Fields:
        self.sampled.append(card.slot)
        return self.on_sample(card.slot)

    def slow(self, card: Card) -> Fields:
        return self.on_slow(card.slot)

    def rare(self, card: Card) -> Fields:
        return self.on_rare(card.slot)

    def has_changed(self, card: Card) -> bool:
        return card.slot in self.changed

    def lacks(self, card: Card) -> list[str]:
        return [f"what {card.slot} has not"]

    def close(self) -> None:
        """Nothing is open."""


class EnoughError(Exception):
    """The messages that a test waits for have come."""


class Inbox:
    """Takes messages and ends the reader's loop after so many."""

    def __init__(self, wanted: int = 1) -> None:
        self.messages: list[Message] = []
        self._wanted = wanted

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        if len(self.messages) == self._wanted:
            raise EnoughError


@pytest.fixture
def word() -> Iterator[Progress]:
    word = Progress.create()
    yield word
    word.close()


def run(shelf: Shelf, word: Progress, windows: int = 1, interval: float = 0.1) -> list[Message]:
    """Messages of the reader's endless loop."""
    inbox = Inbox(windows)
    reader = Reader(shelf, word, lambda _slot: True, inbox)
    reader.open()
    with pytest.raises(EnoughError):
        reader.run(interval, 0.02)
    return inbox.messages


def once(shelf: Shelf, word: Progress, interval: float = 0.1) -> Message:
    """One window as `farmhand-agent once` takes it."""
    inbox = Inbox(2)
    reader = Reader(shelf, word, lambda _slot: True, inbox)
    reader.open()
    reader.one_window(interval, 0.02)
    return inbox.messages[0]


def number(fields: dict[str, Value], name: str) -> float:
    value = fields[name]
    assert isinstance(value, float)
    return value


def fail(error: Exception) -> Answer:
    def answer(_slot: str) -> Fields:
        raise error

    return answer


def only(slot: str, answer: Answer, otherwise: Answer) -> Answer:
    """An answer of one card; the others go on as before."""
    return lambda asked: (answer if asked == slot else otherwise)(asked)


# --- windows -----------------------------------------------------------------------------------


def test_each_interval_is_one_message_with_a_window_of_each_card(word: Progress) -> None:
    """Samples, what is asked once a window, and who it is."""
    messages = run(Shelf("1", "2"), word, windows=3)
    for message in messages:
        assert [(w.slot, w.card, w.vendor, w.model) for w in message.cards] == [
            ("1", "ID-1", "shelf", "Model"),
            ("2", "ID-2", "shelf", "Model"),
        ]
        assert message.present == ["1", "2"] and message.nothing is None
        for window in message.cards:
            assert (window.state, window.fields["power_watts"]) == ("ok", 100.0)
            assert window.fields["pcie_replay_total"] == 7.0
            assert number(window.fields, "samples") >= 1.0


def test_windows_join_without_a_gap(word: Progress) -> None:
    """The lengths of the windows are all the time there was, none of it counted twice."""
    before = time.monotonic()
    messages = run(Shelf("1"), word, windows=4)
    passed = time.monotonic() - before
    covered = sum(number(m.cards[0].fields, "window_seconds") for m in messages)
    assert 0.35 <= covered <= passed


def test_a_window_has_the_time_at_which_it_was_sampled(word: Progress) -> None:
    """Not that of the slow questions that follow, nor that of sending."""
    shelf, asked = Shelf("1"), []

    def slow(_slot: str) -> Fields:
        asked.append(time.time_ns())
        return {}

    shelf.on_slow = slow
    before = time.time_ns()
    (message,) = run(shelf, word)
    assert before <= message.time_ns <= asked[0]


def test_cards_of_others_are_present_but_not_read(word: Progress) -> None:
    """A card that was set apart is not touched by the reader of the others."""
    shelf, inbox = Shelf("1", "2"), Inbox()
    reader = Reader(shelf, word, lambda slot: slot == "2", inbox)
    reader.open()
    with pytest.raises(EnoughError):
        reader.run(0.1, 0.05)
    assert set(shelf.sampled) == {"2"}
    assert inbox.messages[0].present == ["1", "2"]
    assert [window.slot for window in inbox.messages[0].cards] == ["2"]


def test_one_window_does_not_count_the_time_before_it(word: Progress) -> None:
    """Opening a library may take seconds; they are no part of what was sampled."""
    shelf, inbox = Shelf("1"), Inbox(2)
    reader = Reader(shelf, word, lambda _slot: True, inbox)
    reader.open()
    time.sleep(0.3)
    before = time.monotonic()
    reader.one_window(0.05, 0.02)
    passed = time.monotonic() - before
    fields = inbox.messages[0].cards[0].fields
    assert 0.05 <= number(fields, "window_seconds") <= passed < 0.3
    assert number(fields, "samples") >= 2.0


def test_one_window_of_a_card_that_changes_is_the_mean_over_its_time(word: Progress) -> None:
    """The first look has no length, so it does not count beside the others."""
    shelf = Shelf("1")
    shelf.on_sample = lambda _slot: {"power_watts": 900.0 if len(shelf.sampled) == 1 else 100.0}
    fields = once(shelf, word).cards[0].fields
    assert number(fields, "power_watts") == pytest.approx(100.0, abs=1.0)
    assert fields["power_max_watts"] == 900.0


def test_samples_missed_in_a_stall_are_not_made_up(word: Progress) -> None:
    """A driver that blocked is not asked many times at once afterwards."""
    shelf = Shelf("1")

    def sample(_slot: str) -> Fields:
        if len(shelf.sampled) == 2:
            time.sleep(0.3)  # the driver's stall
        return {"power_watts": 100.0}

    shelf.on_sample = sample
    first, second = run(shelf, word, windows=2, interval=0.4)
    # Of twenty samples a window, those of the stall are missing.
    assert number(first.cards[0].fields, "samples") <= 8.0
    assert number(first.cards[0].fields, "read_seconds") >= 0.3
    assert number(second.cards[0].fields, "read_seconds") < 0.3


def test_a_stall_longer_than_the_window_ends_it(word: Progress) -> None:
    """What was read is sent at once, and the next window is a whole one."""
    shelf = Shelf("1")

    def sample(_slot: str) -> Fields:
        if len(shelf.sampled) == 1:
            time.sleep(0.5)  # the driver's stall
        return {"power_watts": 100.0}

    shelf.on_sample = sample
    first, second = run(shelf, word, windows=2, interval=0.1)
    assert first.cards[0].fields["samples"] == 1.0
    assert number(second.cards[0].fields, "samples") >= 2.0


# --- cards that fail ---------------------------------------------------------------------------


def test_a_lost_card_is_not_asked_again_in_the_window(word: Progress) -> None:
    """Its handle is useless; its neighbour is read on."""
    shelf = Shelf("1", "2")
    shelf.on_sample = only("1", fail(CardLost("gone")), shelf.on_sample)
    (message,) = run(shelf, word)
    lost, well = message.cards
    assert (lost.state, lost.fields, lost.info) == ("lost", {}, None)
    assert (well.state, well.fields["power_watts"]) == ("ok", 100.0)
    assert shelf.sampled.count("1") == 1 < shelf.sampled.count("2")


def test_a_lost_card_that_answers_again_is_read_again(word: Progress) -> None:
    """The next window asks it anew."""
    shelf = Shelf("1")
    answers = [CardLost("gone"), None]

    def sample(_slot: str) -> Fields:
        error = answers.pop(0) if answers else None
        if error is not None:
            raise error
        return {"power_watts": 100.0}

    shelf.on_sample = sample
    states = [message.cards[0].state for message in run(shelf, word, windows=2)]
    assert states == ["lost", "ok"]


def test_an_unreadable_card_tells_how_long_it_took(word: Progress) -> None:
    """That is all that is known of it: no value of an earlier sample is passed off as new."""
    shelf = Shelf("1", "2")
    shelf.on_sample = only("1", fail(CardUnreadable("no answer")), shelf.on_sample)
    (message,) = run(shelf, word)
    bad, well = message.cards
    assert (bad.state, list(bad.fields), well.state) == ("unreadable", ["read_seconds"], "ok")


def test_the_last_answer_is_the_state_of_the_window(word: Progress) -> None:
    """A card that answers again within the window is well."""
    shelf = Shelf("1")
    failures = [CardUnreadable("busy")]

    def sample(_slot: str) -> Fields:
        if failures:
            raise failures.pop()
        return {"power_watts": 100.0}

    shelf.on_sample = sample
    (window,) = run(shelf, word)[0].cards
    assert (window.state, window.fields["power_watts"]) == ("ok", 100.0)


def test_a_card_that_fails_in_the_slow_questions_is_unreadable(word: Progress) -> None:
    """It counts like any other answer."""
    shelf = Shelf("1")
    shelf.on_slow = fail(CardUnreadable("no answer"))
    assert run(shelf, word)[0].cards[0].state == "unreadable"


def test_a_card_that_takes_ages_is_asked_for_no_more_than_the_least(word: Progress) -> None:
    """With failing memory each of a hundred calls may take 45 s: it would never be heard of."""
    shelf = Shelf("1", "2")
    slowly = threading.Event()
    shelf.on_sample = only(
        "1", lambda _: {"power_watts": float(slowly.wait(0.15))}, lambda _: {"power_watts": 1.0}
    )
    slow, well = run(shelf, word)[0].cards
    assert slow.state == "ok"
    assert "pcie_replay_total" not in slow.fields
    assert slow.info is None
    assert "pcie_replay_total" in well.fields


def test_identity_that_cannot_be_read_is_asked_again(word: Progress) -> None:
    """The readings go on without it."""
    shelf = Shelf("1")
    failures = [CardUnreadable("busy")]

    def info(_slot: str) -> Fields:
        if failures:
            raise failures.pop()
        return {"vbios": "94.02"}

    shelf.on_info = info
    infos = [message.cards[0].info for message in run(shelf, word, windows=3)]
    assert infos == [None, {"vbios": "94.02"}, None]
    assert shelf.informed == 2


def test_an_unforeseen_error_leaves_the_card_in_the_word(word: Progress) -> None:
    """The watch sets this card apart, as if the library had crashed in it."""
    shelf = Shelf("1", "2")
    shelf.on_sample = only("2", fail(ZeroDivisionError()), shelf.on_sample)
    reader = Reader(shelf, word, lambda _slot: True, Inbox())
    reader.open()
    with pytest.raises(ZeroDivisionError):
        reader.run(0.1, 0.05)
    assert (word.read().slot, word.read().call) == ("2", "sample")


def test_a_stale_source_blames_no_card(word: Progress) -> None:
    """The driver was replaced; whoever was being read has nothing to do with it."""
    shelf = Shelf("1")
    shelf.on_sample = fail(SourceStale("reset"))
    reader = Reader(shelf, word, lambda _slot: True, Inbox())
    reader.open()
    with pytest.raises(SourceStale):
        reader.run(0.1, 0.05)
    assert word.read().call == ""


def test_between_calls_the_word_is_idle(word: Progress) -> None:
    """A reader that waits for its next beat is not stuck."""
    run(Shelf("1"), word)
    assert word.read()[1:] == ("", "")


# --- the real binding --------------------------------------------------------------------------


def test_a_farm_is_read_through_the_real_binding(
    nvml_state: standin.State, word: Progress, tmp_path: Path
) -> None:
    """Three captured cards, one of which falls off the bus while it is read."""
    state = farm_state(nvml_state.path, ["RTX 3090", "T4", "H100"])
    state.write()
    inbox = Inbox(2)
    source = NvidiaSource(word.enter, None, tmp_path)
    reader = Reader(source, word, lambda _slot: True, inbox)
    reader.open()
    reader.one_window(0.1, 0.05)
    state.change(1, card=standin.LOST)
    with pytest.raises(EnoughError):
        reader.one_window(0.1, 0.05)
    source.close()
    before, after = inbox.messages
    assert [window.state for window in before.cards] == ["ok", "ok", "ok"]
    assert [window.state for window in after.cards] == ["ok", "lost", "ok"]
    assert [w.card for w in after.cards] == [str(card["uuid"]) for card in state.cards]
    celsius = [window.fields["core_temperature_celsius"] for window in before.cards]
    assert celsius == [float(str(card["temperature"])) for card in state.cards]


# --- the program -------------------------------------------------------------------------------


@pytest.fixture
def program(
    nvml_state: standin.State, nvml_library: Path, word: Progress
) -> Callable[..., "subprocess.Popen[bytes]"]:
    """Start the reader as the watch does."""

    def start(*more: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "farmhand_agent.reader", "nvidia"]
        pace = ["--interval", "0.2", "--sample", "0.05", "--progress-fd", str(word.fd)]
        return subprocess.Popen(
            [*command, *pace, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[word.fd],
            env=standin.environment(nvml_library, nvml_state.path),
        )

    return start


def test_the_program_prints_one_message_a_line(
    program: Callable[..., "subprocess.Popen[bytes]"], nvml_state: standin.State
) -> None:
    """And nothing else."""
    farm_state(nvml_state.path, ["RTX 3090"]).write()
    with program("--once") as process:
        out, _ = process.communicate()
    assert process.returncode == 0
    message = msgspec.json.decode(out, type=Message)
    assert out.count(b"\n") == 1 and out.endswith(b"\n")
    assert [window.model for window in message.cards] == ["GeForce RTX 3090"]


def test_without_a_driver_the_program_says_so_and_ends(
    program: Callable[..., "subprocess.Popen[bytes]"], nvml_state: standin.State
) -> None:
    """It is a fact, not a failure."""
    nvml_state.library["init"] = standin.error(9)
    nvml_state.write()
    with program() as process:
        out, errors = process.communicate()
    message = msgspec.json.decode(out, type=Message)
    assert (process.returncode, message.cards, errors) == (0, [], b"")
    assert message.nothing == "the NVIDIA driver is not loaded"


def test_a_driver_that_fails_to_enumerate_is_one_line(
    program: Callable[..., "subprocess.Popen[bytes]"],
    nvml_state: standin.State,
    word: Progress,
) -> None:
    """No trace fills the log each time it is tried; the word names the call."""
    nvml_state.library["calls"] = standin.error(999)
    nvml_state.write()
    with program() as process:
        out, errors = process.communicate()
    assert out == b"" and errors.count(b"\n") == 1 and b"returned 999" in errors
    assert word.read().slot == "" and word.read().call != ""


def test_a_reader_whose_parent_is_gone_ends(
    program: Callable[..., "subprocess.Popen[bytes]"], nvml_state: standin.State
) -> None:
    """It does not go on probing cards that nobody asked for."""
    farm_state(nvml_state.path, ["RTX 3090"]).write()
    with program() as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_a_library_that_prints_does_not_break_the_messages(tmp_path: Path) -> None:
    """Its stdout is the reader's stderr."""
    code = (
        "import os, time\n"
        "from farmhand_agent.reader import Message, _printer\n"
        "send = _printer()\n"
        "os.write(1, b'the library says hello')\n"
        "send(Message(1, [], []))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path, env=os.environ)
    assert msgspec.json.decode(done.stdout, type=Message) == Message(1, [], [])
    assert done.stderr == b"the library says hello"
