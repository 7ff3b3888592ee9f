"""The word by which a parent sees what its reader does."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farmhand_agent.progress import Doing, Progress


@pytest.fixture
def word() -> Iterator[Progress]:
    word = Progress.create()
    yield word
    word.close()


def child(word: Progress, program: str) -> "subprocess.Popen[bytes]":
    """A process that has the word as `word`."""
    prepare = "import os, sys\nfrom farmhand_agent.progress import Progress\n"
    code = f"{prepare}word = Progress({word.fd})\n{program}"
    return subprocess.Popen(
        [sys.executable, "-c", code], pass_fds=[word.fd], stdout=subprocess.PIPE
    )


def test_a_new_word_says_that_nothing_is_done(word: Progress) -> None:
    """A reader that did not start yet is in no call."""
    assert word.read() == Doing(0.0, "", "")


def test_a_call_is_told_with_its_slot_and_its_begin(word: Progress) -> None:
    """The parent's clock is the child's."""
    before = time.monotonic()
    word.enter("0000:00/01.0/00.0", "nvmlDeviceGetPowerUsage")
    started, slot, call = word.read()
    assert (slot, call) == ("0000:00/01.0/00.0", "nvmlDeviceGetPowerUsage")
    assert before <= started <= time.monotonic()


def test_between_calls_nothing_is_told(word: Progress) -> None:
    """A long call that is over leaves no trace."""
    word.enter("3", "a call with a long name")
    word.idle()
    assert word.read()[1:] == ("", "")


@pytest.mark.parametrize("slot", ["Платформа 3/京", "x" * 255 + "/00.0" * 16])
def test_a_slot_comes_back_whole(word: Progress, slot: str) -> None:
    """The parent finds the card by it: the longest label of a firmware and the way below it."""
    word.enter(slot, "sample")
    assert word.read().slot == slot


def test_a_slot_that_is_too_long_breaks_nothing(word: Progress) -> None:
    """It is cut, even in the midst of a character."""
    word.enter("x" + "京" * 1000, "京" * 1000)
    assert word.read().slot.startswith("x京")


def test_the_last_call_of_a_killed_process_is_seen(word: Progress) -> None:
    """What it was doing outlives it."""
    process = child(word, "word.enter('3', 'crash')\nos.abort()")
    process.communicate()
    assert process.returncode < 0
    assert word.read()[1:] == ("3", "crash")


def test_no_half_word_is_ever_seen(word: Progress) -> None:
    """However fast the child writes, the parent reads what belongs together."""
    program = (
        "print(flush=True)\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    text = str(number) * 12\n"
        "    word.enter(text, text[:60])\n"
    )
    process = child(word, program)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        seen = [word.read() for _ in range(50_000)]
    finally:
        process.kill()
        process.communicate()
    told = [doing for doing in seen if doing.call]
    assert len({doing.call for doing in told}) > 1
    assert all(doing.slot[:60] == doing.call for doing in told)
    begins = [doing.started for doing in told]
    assert begins == sorted(begins) and begins[0] > 0.0


def test_a_closed_word_holds_no_descriptor() -> None:
    """An agent that restarts a reader each minute does so for years."""
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(10):
        Progress.create().close()
    assert len(list(descriptors.iterdir())) == before


def test_calls_about_one_slot_count_as_one_where_others_wait_behind_it() -> None:
    """Each may be quick enough, and all together hold the others up."""
    word = Progress.create()
    counted = Progress(word.fd, by_slot=True)
    counted.enter("1", "first")
    began = word.read().started
    counted.enter("1", "second")
    assert word.read() == Doing(began, "1", "second")
    counted.enter("2", "first")
    assert word.read().started > began
    word.close()


@pytest.mark.parametrize("beside", [False, True])
def test_a_crash_is_known_by_its_thread(word: Progress, beside: bool) -> None:
    """One of the thread that makes the calls is told by the word; one beside it, by its report."""
    crash = "__import__('faulthandler')._sigsegv()"
    run = f"import threading; threading.Thread(target=lambda: {crash}).start()" if beside else crash
    with child(word, f"word.report_crashes()\n{run}") as process:
        assert process.wait(20) < 0
    assert word.crashed_beside() is beside


def test_a_child_that_ends_well_has_crashed_nowhere(word: Progress) -> None:
    """Nothing is found behind the word."""
    with child(word, "word.report_crashes()") as process:
        assert process.wait(20) == 0
    assert not word.crashed_beside()
