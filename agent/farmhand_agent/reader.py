"""The reader child: owns one vendor library, samples its cards, hands over a window at a time.

Run by the watch as `python -m farmhand_agent.reader VENDOR ...`, never inside the agent's own
process, because a vendor library may crash or hang. Each interval it prints one message; which
call it is making stands in the progress word.
"""

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from farmhand_agent.command import log_to_stderr
from farmhand_agent.progress import Progress
from farmhand_agent.reading import Value
from farmhand_agent.sources import vendors
from farmhand_agent.sources.base import (
    Card,
    CardEvent,
    CardLost,
    CardSource,
    CardUnreadable,
    Fields,
    NothingHere,
    SourceStale,
)
from farmhand_agent.window import Window

log = logging.getLogger(__name__)

State = Literal["ok", "unreadable", "lost"]

INFO_SECONDS = 3600.0
ENUMERATE_SECONDS = 60.0
RARE_SECONDS = 60.0


class CardWindow(msgspec.Struct, frozen=True):
    """One card's part of a message; `info` comes at start, on change and hourly.

    With it come the names of the fields that the card turned out not to have.
    """

    slot: str
    card: str
    vendor: str
    model: str
    state: State
    fields: dict[str, Value]
    info: dict[str, Value] | None = None
    lacks: Sequence[str] = ()


class Message(msgspec.Struct, frozen=True, tag="window"):
    """What a reader hands over each interval.

    `nothing` says why there is no card of this vendor; the reader ends after it. `present` lists
    the slots of all cards that the driver enumerates, read here or elsewhere.
    """

    time_ns: int
    cards: list[CardWindow]
    present: list[str]
    nothing: str | None = None


Told = Message | CardEvent
"""What a reader hands over: windows at the end of each interval, events as they happen."""


class Reader:
    """Samples the cards of one source on a fixed beat."""

    def __init__(
        self,
        source: CardSource,
        progress: Progress,
        wanted: Callable[[str], bool],
        send: Callable[[Message], None],
    ) -> None:
        self._source = source
        self._progress = progress
        self._wanted = wanted
        self._send = send
        self._cards: list[Card] = []
        self._present: list[str] = []
        self._states: dict[str, State] = {}
        self._windows: dict[str, Window] = {}
        self._infos: dict[str, dict[str, Value]] = {}
        self._enumerated = self._informed = self._asked_rare = float("-inf")
        self._sampled = time.monotonic()
        self._interval_seconds = 0.0

    def open(self) -> None:
        """Connect and enumerate."""
        self._source.open()
        self._enumerate()

    def run(self, interval_seconds: float, sample_seconds: float) -> None:
        """Sample and send for ever, or until the source has nothing left to read."""
        self._interval_seconds = interval_seconds
        beat = time.monotonic()
        self._sampled = beat
        while True:
            self._start_window()
            end = beat + interval_seconds
            while beat < end:
                beat = min(beat + sample_seconds, end)
                _sleep_until(beat)
                self._sample()
                # After a stall the beat starts afresh; samples that were missed are not made up.
                beat = max(beat, time.monotonic() - sample_seconds)
            self._finish_window()
            beat = max(beat, time.monotonic() - sample_seconds)

    def one_window(self, interval_seconds: float, sample_seconds: float) -> None:
        """Sample for one interval and send one message."""
        self._interval_seconds = interval_seconds
        self._start_window()
        self._sampled = time.monotonic()
        end = self._sampled + interval_seconds
        self._sample()
        while (now := time.monotonic()) < end:
            _sleep_until(min(now + sample_seconds, end))
            self._sample()
        self._finish_window()

    def _enumerate(self) -> None:
        self._cards, self._present = self._source.cards(self._wanted)
        self._progress.idle()
        self._enumerated = time.monotonic()

    def _start_window(self) -> None:
        self._windows = {card.slot: Window() for card in self._cards}
        self._states = {card.slot: "ok" for card in self._cards}

    def _sample(self) -> None:
        now = time.monotonic()
        length_seconds, self._sampled = now - self._sampled, now
        for card in self._cards:
            if self._states[card.slot] == "lost":
                continue
            started = time.monotonic()
            fields = self._ask(card, self._source.sample)
            if fields is not None:
                read_seconds = time.monotonic() - started
                self._windows[card.slot].add(fields, length_seconds, read_seconds)

    def _ask(self, card: Card, question: Callable[[Card], Fields]) -> Fields | None:
        """Fields of one card, or None where it did not answer; its last answer is its state.

        An unforeseen error ends the reader with the card in the word: the watch sets it apart.
        """
        self._progress.enter(card.slot, question.__name__)
        started = time.monotonic()
        answer: Fields | None = None
        try:
            answer = question(card)
            self._states[card.slot] = "ok"
        except CardLost:
            self._states[card.slot] = "lost"
        except CardUnreadable:
            self._states[card.slot] = "unreadable"
        except SourceStale:
            self._progress.idle()
            raise
        self._progress.idle()
        self._windows[card.slot].wait(time.monotonic() - started)
        return answer

    def _finish_window(self) -> None:
        time_ns = time.time_ns()
        want_info = time.monotonic() - self._informed >= INFO_SECONDS
        want_rare = time.monotonic() - self._asked_rare >= RARE_SECONDS
        cards = [self._close(card, want_info, want_rare) for card in self._cards]
        if want_info:
            self._informed = time.monotonic()
        if want_rare:
            self._asked_rare = time.monotonic()
        self._send(Message(time_ns, cards, self._present))
        if time.monotonic() - self._enumerated >= ENUMERATE_SECONDS:
            self._enumerate()

    def _close(self, card: Card, want_info: bool, want_rare: bool) -> CardWindow:
        for question in (self._source.slow, *([self._source.rare] if want_rare else [])):
            answer = self._ask(card, question) if self._answers_in_time(card) else None
            self._windows[card.slot].note(answer or {})
        state = self._states[card.slot]
        info = self._info(card, want_info) if self._answers_in_time(card) else None
        lacks = self._source.lacks(card) if info is not None else ()
        fields = _fields(self._windows[card.slot].close(), state)
        who = (card.slot, card.card, card.vendor, card.model)
        return CardWindow(*who, state, fields, info, lacks)

    def _answers_in_time(self, card: Card) -> bool:
        """Whether more may be asked: of one that takes ages, the least is told rather than nothing.

        A card with failing memory may take 45 s for each of a hundred calls.
        """
        is_slow = self._windows[card.slot].read_seconds > self._interval_seconds
        return self._states[card.slot] == "ok" and not is_slow

    def _info(self, card: Card, wanted: bool) -> dict[str, Value] | None:
        known = card.card in self._infos and not self._source.has_changed(card)
        if known and not wanted:
            return None
        info = self._ask(card, self._source.info)
        if info is not None:
            self._infos[card.card] = dict(info)
        return None if info is None else dict(info)


def _fields(closed: dict[str, Value], state: State) -> dict[str, Value]:
    """What may be told of a card in this state: of one that does not answer, how long it took."""
    if state == "ok":
        return closed
    return {"read_seconds": closed["read_seconds"]} if state == "unreadable" else {}


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _printer() -> Callable[[Told], None]:
    """Writes one message a line to stdout, which is kept from a library that prints too."""
    own = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Events come from a thread of their own.
    lock = threading.Lock()

    def write(told: Told) -> None:
        try:
            with lock:
                own.write(msgspec.json.encode(told) + b"\n")
                own.flush()
        except BrokenPipeError:
            # A reader whose parent is gone has no reason to live.
            os._exit(0)

    return write


def _choose(only: Collection[str], skip: Collection[str]) -> Callable[[str], bool]:
    return lambda slot: slot in only if only else slot not in skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the cards of one vendor until there is nothing to read or the parent is gone."""
    options = argparse.ArgumentParser(prog="farmhand-reader")
    options.add_argument("vendor", choices=sorted(vendors()))
    options.add_argument("--interval", type=float, required=True)
    options.add_argument("--sample", type=float, required=True)
    options.add_argument("--progress-fd", type=int, required=True)
    options.add_argument("--only", action="append", default=[], metavar="SLOT")
    options.add_argument("--skip", action="append", default=[], metavar="SLOT")
    options.add_argument("--once", action="store_true")
    options.add_argument("--deaf", action="store_true", help="do not listen for events")
    options.add_argument("--sysfs", type=Path, default=Path("/sys"), metavar="DIRECTORY")
    chosen = options.parse_args(arguments)
    log_to_stderr()
    # A card that is slow in each call holds the others up; one that is read alone holds up nobody.
    progress = Progress(chosen.progress_fd, by_slot=not chosen.only)
    progress.report_crashes()
    send = _printer()
    tell = None if chosen.deaf else send
    source = vendors()[chosen.vendor](progress.enter, tell, chosen.sysfs)
    reader = Reader(source, progress, _choose(chosen.only, chosen.skip), send)
    try:
        reader.open()
        if chosen.once:
            reader.one_window(chosen.interval, chosen.sample)
        else:
            reader.run(chosen.interval, chosen.sample)
    except NothingHere as nothing:
        send(Message(time.time_ns(), [], [], nothing=str(nothing)))
    except (SourceStale, CardLost, CardUnreadable) as stale:
        # A fresh process is the surest way to forget every stale handle.
        log.warning("%s: %s; starting again", chosen.vendor, stale)
    return 0


if __name__ == "__main__":
    sys.exit(main())
