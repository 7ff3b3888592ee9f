"""The watch over reader children: starts them, takes their windows, judges them by their progress.

A dying card must not take its neighbours with it. When a read is stuck or crashes, the card that
was being read is set apart: the others go on in a new reader, the bad one is tried again in a
reader of its own, ever more rarely, and never while an earlier reader of it still hangs.
"""

import contextlib
import logging
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from farmhand_agent.inventory import Inventory, Place
from farmhand_agent.progress import Doing, Progress
from farmhand_agent.reader import CardWindow, Message, State
from farmhand_agent.reading import UNIDENTIFIED, Value

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""Longest wait for the watch to end; readers that hang in the kernel are left to it."""


class Patience(NamedTuple):
    """How long the watch waits for what."""

    stuck_seconds: float = 10.0
    """A call about one card that takes longer counts as stuck; healthy ones take milliseconds."""
    driver_seconds: float = 60.0
    """Likewise for a call about the driver as a whole: without persistence mode, connecting to it
    initialises every card, which takes seconds each."""
    retry_seconds: tuple[float, float] = (15.0, 600.0)
    """First and longest wait before a card that was set apart, or a driver, is tried again."""
    restart_seconds: float = 1.0
    """Wait before a reader that ended of itself is started again."""
    nothing_seconds: float = 60.0
    """How often a machine without cards of a vendor is looked at again."""
    rejoin_seconds: float = 3600.0
    """How long a card that was set apart must read well before it joins the others again."""

    def is_stuck(self, doing: Doing) -> bool:
        """Whether a call has taken longer than it may."""
        limit = self.stuck_seconds if doing.slot else self.driver_seconds
        return bool(doing.call) and time.monotonic() - doing.started > limit


PATIENCE = Patience()

Deliver = Callable[[int, Sequence[CardWindow]], None]
"""Takes a wall-clock time in nanoseconds and the windows that belong to it."""


class _Child:
    """A reader process, what it was asked to read, and when it was last heard."""

    def __init__(self, command: Sequence[str], slot: str | None) -> None:
        self.slot = slot
        self.progress = Progress.create()
        self.heard = time.monotonic()
        self.has_read = False
        self.nothing: str | None = None
        self._rest = b""
        try:
            self.process = subprocess.Popen(
                [*command, "--progress-fd", str(self.progress.fd)],
                stdout=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                pass_fds=[self.progress.fd],
                # What a terminal or a supervisor sends to the agent is not meant for its readers:
                # one that ends while the agent goes on would count as a crash.
                process_group=0,
            )
        except OSError:
            self.progress.close()
            raise
        assert self.process.stdout is not None
        self.fd = self.process.stdout.fileno()

    def receive(self) -> list[Message] | None:
        """Messages that arrived; None when the process has closed its end."""
        chunk = os.read(self.fd, 1 << 20)
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self.heard = time.monotonic()
        return [message for line in lines if (message := _decoded(line)) is not None]

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it came."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode is not None

    def kill(self) -> bool:
        """Kill it; whether it is gone (a process in uninterruptible sleep stays)."""
        self.process.kill()
        return self.wait(0.5)

    def close(self) -> None:
        """Let go of its pipe and its word."""
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.progress.close()


def _decoded(line: bytes) -> Message | None:
    try:
        return msgspec.json.decode(line, type=Message)
    except msgspec.DecodeError as error:
        log.warning("a reader said what cannot be understood: %s", error)
        return None


class _Retry:
    """When something may be tried again, ever more rarely."""

    def __init__(self, patience: Patience) -> None:
        self._first, self._longest = patience.retry_seconds
        self._delay = self._first
        self._good_since: float | None = None
        self.due = time.monotonic() + self._delay

    def went_well(self, now: float) -> float:
        """Note that it went well; for how many seconds it has."""
        self._delay = self._first
        if self._good_since is None:
            self._good_since = now
        return now - self._good_since

    def postpone(self) -> None:
        """Try again later than the last time."""
        self._delay = min(self._delay * 2, self._longest)
        self._good_since = None
        self.due = time.monotonic() + self._delay


def reader_command(vendor: str, interval_seconds: float, sample_seconds: float) -> list[str]:
    """How a reader child of a vendor is started."""
    return [
        # -P: nothing that lies in the working directory is imported.
        *(sys.executable, "-P", "-m", "farmhand_agent.reader", vendor),
        *("--interval", repr(interval_seconds), "--sample", repr(sample_seconds)),
    ]


class Watch:
    """Keeps the readers of one vendor going and delivers a window per expected card."""

    def __init__(
        self,
        vendor: str,
        interval_seconds: float,
        sample_seconds: float,
        inventory: Inventory,
        deliver: Deliver,
        patience: Patience = PATIENCE,
    ) -> None:
        self._vendor = vendor
        self._interval_seconds = interval_seconds
        self._command = reader_command(vendor, interval_seconds, sample_seconds)
        self._inventory = inventory
        self._deliver = deliver
        self._patience = patience
        self._selector = selectors.DefaultSelector()
        self._children: list[_Child] = []
        self._hanging: list[_Child] = []
        self._apart: dict[str, _Retry] = {}
        self._driver: _Retry | None = None
        self._next_main = 0.0
        self._delivered: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._answered: dict[str, float] = {}
        self._said_nothing = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{vendor}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the readers; returns within `STOP_SECONDS` whatever hangs."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def pids(self) -> list[int]:
        """Processes of the readers that run now."""
        return [child.process.pid for child in list(self._children)]

    def _run(self) -> None:
        started = time.monotonic()
        self._delivered = {p.slot: started for p in self._inventory.expected(self._vendor)}
        self._heard, self._answered = dict(self._delivered), dict(self._delivered)
        while not self._stop.is_set():
            try:
                self._turn()
            except Exception:
                # A watch that is gone would go unnoticed: its cards would just fall silent.
                log.exception("%s: watching failed in an unforeseen way", self._vendor)
                self._stop.wait(self._patience.restart_seconds)
        for child in list(self._children):
            child.kill()
            self._forget(child)
        self._selector.close()

    def _turn(self) -> None:
        self._start_due()
        for key, _ in self._selector.select(min(1.0, self._interval_seconds / 2)):
            self._receive(key.data)
        self._judge()
        self._fill_gaps()

    # --- starting ---

    def _start_due(self) -> None:
        now = time.monotonic()
        if any(child.slot is None for child in self._hanging):
            # The driver as a whole hangs: any reader would hang beside the one that does.
            return
        running = {child.slot for child in (*self._children, *self._hanging)}
        if None not in running and now >= self._next_main:
            self._start(None)
        for slot, retry in self._apart.items():
            if slot not in running and now >= retry.due:
                retry.postpone()
                self._start(slot)

    def _start(self, slot: str | None) -> None:
        chosen = [f"--only={slot}"] if slot else [f"--skip={apart}" for apart in self._apart]
        try:
            child = _Child([*self._command, *chosen], slot)
        except OSError as error:
            log.warning("%s: a reader cannot be started: %s", self._vendor, error.strerror)
            if slot is None:
                self._postpone_driver()
            return
        self._children.append(child)
        self._selector.register(child.fd, selectors.EVENT_READ, child)

    # --- hearing ---

    def _receive(self, child: _Child) -> None:
        messages = child.receive()
        if messages is None:
            self._ended(child)
            return
        for message in messages:
            self._take(child, message)

    def _take(self, child: _Child, message: Message) -> None:
        child.nothing = message.nothing
        if message.nothing is not None:
            self._tell_nothing(message.nothing)
            return
        child.has_read = True
        self._said_nothing = ""
        places = [Place(w.slot, w.card, w.vendor, w.model) for w in message.cards]
        known = self._inventory.see(places, message.present)
        windows = [_tagged(w, place) for w, place in zip(message.cards, known, strict=True)]
        if child.slot is None:
            self._driver = None
            windows += [_window(place, "lost", {}) for place in self._missing(message.present)]
        now = time.monotonic()
        self._heard |= {w.slot: now for w in windows}
        self._answered |= {w.slot: now for w in windows if w.state == "ok"}
        self._publish(message.time_ns, windows)
        if child.slot is not None and any(window.state == "ok" for window in windows):
            self._reads_well(child.slot, now)

    def _reads_well(self, slot: str, now: float) -> None:
        """Let a card that has recovered for long join the others: its own reader costs memory."""
        if self._apart[slot].went_well(now) < self._patience.rejoin_seconds:
            return
        del self._apart[slot]
        for child in [c for c in self._children if c.slot in (slot, None)]:
            self._set_aside(child, child.progress.read(), child.kill())
        self._next_main = 0.0

    def _missing(self, present: Iterable[str]) -> list[Place]:
        there = set(present)
        return [p for p in self._inventory.expected(self._vendor) if p.slot not in there]

    def _publish(self, time_ns: int, windows: Iterable[CardWindow]) -> None:
        windows = list(windows)
        for window in windows:
            self._delivered[window.slot] = time.monotonic()
        if windows:
            self._deliver(time_ns, windows)

    def _tell_nothing(self, reason: str) -> None:
        if reason != self._said_nothing:
            log.info("%s: no cards: %s", self._vendor, reason)
            self._said_nothing = reason

    # --- judging ---

    def _ended(self, child: _Child) -> None:
        """A reader closed its end: it had nothing to read, was asked to start again, or crashed."""
        gone = child.wait(1.0) or child.kill()
        doing = child.progress.read()
        self._set_aside(child, doing, gone)
        if child.nothing is not None:
            if child.slot is None:
                self._next_main = time.monotonic() + self._patience.nothing_seconds
        elif doing.call:
            log.warning("%s: reader ended %s", self._vendor, _place(doing))
            self._blame(child, doing)
        elif child.slot is None and child.has_read:
            self._next_main = time.monotonic() + self._patience.restart_seconds
        elif child.slot is None:
            self._postpone_driver()

    def _judge(self) -> None:
        """Kill readers whose call is stuck, or which are silent for no reason that they told."""
        now = time.monotonic()
        for child in list(self._children):
            doing = child.progress.read()
            longest = self._interval_seconds + self._patience.driver_seconds
            silent = now - child.heard > longest + self._patience.stuck_seconds
            if self._patience.is_stuck(doing) or silent:
                log.warning("%s: reader is stuck %s", self._vendor, _place(doing))
                gone = child.kill()
                self._blame(child, doing)
                self._set_aside(child, doing, gone)
        for child in [c for c in self._hanging if c.process.poll() is not None]:
            self._hanging.remove(child)
            child.close()

    def _set_aside(self, child: _Child, doing: Doing, gone: bool) -> None:
        if gone:
            self._forget(child)
            return
        self._selector.unregister(child.fd)
        self._children.remove(child)
        # It hangs in the kernel: a second reader of the same thing would hang beside it.
        child.slot = child.slot or doing.slot or None
        self._hanging.append(child)

    def _blame(self, child: _Child, doing: Doing) -> None:
        """Set the card apart that was being read; without one, or in vain, blame the driver."""
        if child.slot is not None:
            # It has a reader of its own already, and waits for its next turn.
            return
        if doing.slot and doing.slot not in self._apart:
            self._apart[doing.slot] = _Retry(self._patience)
            # A card that never answered yet is expected all the same.
            unknown = Place(doing.slot, UNIDENTIFIED, self._vendor, "")
            self._inventory.see([unknown], [doing.slot])
            self._next_main = 0.0
        else:
            self._postpone_driver()

    def _postpone_driver(self) -> None:
        if self._driver is None:
            self._driver = _Retry(self._patience)
        else:
            self._driver.postpone()
        self._next_main = self._driver.due

    def _forget(self, child: _Child) -> None:
        self._selector.unregister(child.fd)
        self._children.remove(child)
        child.process.poll()
        child.close()

    # --- speaking for cards that cannot ---

    def _fill_gaps(self) -> None:
        """Give a reading, each interval, for each expected card whose reader gives none."""
        now = time.monotonic()
        gaps = []
        for place in self._inventory.expected(self._vendor):
            silence = now - self._heard.setdefault(place.slot, now)
            since = now - self._delivered.setdefault(place.slot, now)
            if silence > self._longest_silence(place.slot) and since >= self._interval_seconds:
                unanswered = now - self._answered.setdefault(place.slot, now)
                gaps.append(_window(place, "unreadable", {"read_seconds": unanswered}))
        self._publish(time.time_ns(), gaps)

    def _longest_silence(self, slot: str) -> float:
        """Seconds within which a healthy reader is heard, even where a neighbour held it up.

        A card set apart is not waited for until its own reader has spoken.
        """
        if slot in self._apart and not any(c.slot == slot and c.has_read for c in self._children):
            return self._interval_seconds
        return 3 * self._interval_seconds + self._patience.stuck_seconds


def _tagged(window: CardWindow, place: Place) -> CardWindow:
    return msgspec.structs.replace(window, card=place.card, model=place.model)


def _window(place: Place, state: State, fields: dict[str, Value]) -> CardWindow:
    return CardWindow(place.slot, place.card, place.vendor, place.model, state, fields)


def _place(doing: Doing) -> str:
    if not doing.call:
        return "between calls"
    what = f"slot {doing.slot}" if doing.slot else "the driver"
    return f"in {doing.call} of {what}"


def read_once(
    vendor: str, interval_seconds: float, sample_seconds: float, patience: Patience = PATIENCE
) -> Message:
    """One window of a vendor's cards, read now; a card that hangs or crashes is left unreadable.

    Such a card is `unidentified` and comes after the others. A driver that fails as a whole is
    told in `nothing`.
    """
    command = [*reader_command(vendor, interval_seconds, sample_seconds), "--once"]
    skip: list[str] = []
    while True:
        chosen = [f"--skip={slot}" for slot in skip]
        try:
            message, doing = _try_once([*command, *chosen], interval_seconds, patience)
        except OSError as error:
            return _nothing(f"a reader cannot be started: {error.strerror}")
        if message is not None:
            places = [Place(slot, UNIDENTIFIED, vendor, "") for slot in skip]
            bad = [_window(place, "unreadable", {}) for place in places]
            return msgspec.structs.replace(message, cards=[*message.cards, *bad])
        if not doing.slot or doing.slot in skip:
            return _nothing(f"the reader failed {_place(doing)}")
        skip.append(doing.slot)


def _nothing(reason: str) -> Message:
    return Message(time.time_ns(), [], [], nothing=reason)


def _try_once(
    command: Sequence[str], interval_seconds: float, patience: Patience
) -> tuple[Message | None, Doing]:
    """A reader's one message, or None, and what it did last; the reader is gone then."""
    child = _Child(command, None)
    try:
        return _await(child, interval_seconds, patience), child.progress.read()
    finally:
        child.kill()
        child.close()


def _await(child: _Child, interval_seconds: float, patience: Patience) -> Message | None:
    """The reader's one message, or None when it crashed or is stuck."""
    with selectors.DefaultSelector() as selector:
        selector.register(child.fd, selectors.EVENT_READ)
        longest = interval_seconds + patience.driver_seconds + patience.stuck_seconds
        give_up = time.monotonic() + longest
        while time.monotonic() < give_up:
            if patience.is_stuck(child.progress.read()):
                break
            if selector.select(min(0.2, patience.stuck_seconds)):
                messages = child.receive()
                if messages is None or messages:
                    child.wait(1.0)
                    return messages[0] if messages else None
    return None
