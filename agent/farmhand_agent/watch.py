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

import msgspec

from farmhand_agent.inventory import Inventory, Place
from farmhand_agent.progress import Doing, Progress
from farmhand_agent.reader import CardWindow, Message

log = logging.getLogger(__name__)

STUCK_SECONDS = 10.0
"""A call into a driver that takes longer counts as stuck; healthy ones take milliseconds."""
RETRY_SECONDS = (15.0, 600.0)
"""First and longest wait before a card that was set apart, or a driver, is tried again."""
NOTHING_RETRY_SECONDS = 60.0
"""How often a machine without cards of a vendor is looked at again."""

Deliver = Callable[[int, Sequence[CardWindow]], None]
"""Takes a wall-clock time in nanoseconds and the windows that belong to it."""


class _Child:
    """A reader process, what it was asked to read, and when it was last heard."""

    def __init__(self, command: Sequence[str], slot: str | None) -> None:
        self.slot = slot
        self.progress = Progress.create()
        self.heard = time.monotonic()
        self.stuck: Doing | None = None
        self.nothing: str | None = None
        self._rest = b""
        self.process = subprocess.Popen(
            [*command, "--progress-fd", str(self.progress.fd)],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            pass_fds=[self.progress.fd],
        )
        assert self.process.stdout is not None
        self.fd = self.process.stdout.fileno()

    def receive(self) -> list[Message] | None:
        """Messages that arrived; None when the process has closed its end."""
        chunk = os.read(self.fd, 1 << 20)
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self.heard = time.monotonic()
        return [msgspec.json.decode(line, type=Message) for line in lines]

    def kill(self) -> bool:
        """Kill it; whether it is gone (a process in uninterruptible sleep stays)."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.5)
        return self.process.returncode is not None

    def close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.progress.close()


class _Retry:
    """When something may be tried again, ever more rarely."""

    def __init__(self) -> None:
        self._delay = RETRY_SECONDS[0]
        self.due = time.monotonic() + self._delay

    def postpone(self) -> None:
        self._delay = min(self._delay * 2, RETRY_SECONDS[1])
        self.due = time.monotonic() + self._delay


def reader_command(vendor: str, interval_seconds: float, sample_seconds: float) -> list[str]:
    """How a reader child of a vendor is started."""
    return [
        *(sys.executable, "-m", "farmhand_agent.reader", vendor),
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
    ) -> None:
        self._vendor = vendor
        self._interval_seconds = interval_seconds
        self._command = reader_command(vendor, interval_seconds, sample_seconds)
        self._inventory = inventory
        self._deliver = deliver
        self._selector = selectors.DefaultSelector()
        self._children: list[_Child] = []
        self._hanging: list[_Child] = []
        self._apart: dict[str, _Retry] = {}
        self._driver: _Retry | None = None
        self._next_main = 0.0
        self._present: set[str] | None = None
        self._delivered: dict[str, float] = {}
        self._answered: dict[str, float] = {}
        self._said_nothing = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{vendor}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the readers and wait for the thread."""
        self._stop.set()
        self._thread.join()

    def pids(self) -> list[int]:
        """Processes of the readers that run now."""
        return [child.process.pid for child in list(self._children)]

    def _run(self) -> None:
        started = time.monotonic()
        self._delivered = {p.slot: started for p in self._inventory.expected(self._vendor)}
        self._answered = dict(self._delivered)
        while not self._stop.is_set():
            self._start_due()
            for key, _ in self._selector.select(min(1.0, self._interval_seconds / 2)):
                self._receive(key.data)
            self._judge()
            self._fill_gaps()
        for child in list(self._children):
            child.kill()
            self._forget(child)

    # --- starting ---

    def _start_due(self) -> None:
        now = time.monotonic()
        running = {child.slot for child in (*self._children, *self._hanging)}
        if None not in running and now >= self._next_main:
            self._start(None)
        for slot, retry in self._apart.items():
            if slot not in running and now >= retry.due:
                retry.postpone()
                self._start(slot)

    def _start(self, slot: str | None) -> None:
        chosen = [("--only", slot)] if slot else [("--skip", apart) for apart in self._apart]
        child = _Child([*self._command, *(word for pair in chosen for word in pair)], slot)
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
        self._present = set(message.present)
        if child.slot is None:
            self._driver = None
        known = [Place(w.slot, w.card, w.vendor, w.model) for w in message.cards]
        self._inventory.see(known)
        self._answered |= {w.slot: time.monotonic() for w in message.cards if w.state == "ok"}
        self._publish(message.time_ns, message.cards)
        if child.slot is None:
            self._publish(message.time_ns, [_lost(place) for place in self._missing()])

    def _missing(self) -> list[Place]:
        present = self._present or set()
        return [p for p in self._inventory.expected(self._vendor) if p.slot not in present]

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
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(1.0)
        doing = child.progress.read()
        self._forget(child)
        if child.nothing is not None:
            self._next_main = time.monotonic() + NOTHING_RETRY_SECONDS
        elif doing.call:
            log.warning("%s: reader ended in %s", self._vendor, _place(doing))
            self._blame(child, doing)
        elif child.slot is None:
            self._next_main = time.monotonic() + 1.0

    def _judge(self) -> None:
        """Kill readers whose call is stuck, or which are silent for no reason that they told."""
        now = time.monotonic()
        for child in list(self._children):
            doing = child.progress.read()
            stuck = bool(doing.call) and now - doing.started > STUCK_SECONDS
            silent = now - child.heard > self._interval_seconds + 2 * STUCK_SECONDS
            if stuck or silent:
                log.warning("%s: reader is stuck in %s", self._vendor, _place(doing))
                child.stuck = doing
                gone = child.kill()
                self._blame(child, doing)
                self._set_aside(child, gone)
        for child in [c for c in self._hanging if c.process.poll() is not None]:
            self._hanging.remove(child)
            child.close()

    def _set_aside(self, child: _Child, gone: bool) -> None:
        if gone:
            self._forget(child)
            return
        self._selector.unregister(child.fd)
        self._children.remove(child)
        # It hangs in the kernel: a second reader of the same thing would hang beside it.
        child.slot = child.stuck.slot if child.stuck and child.stuck.slot else child.slot
        self._hanging.append(child)

    def _blame(self, child: _Child, doing: Doing) -> None:
        slot = doing.slot or child.slot
        if slot:
            self._apart.setdefault(slot, _Retry())
            if child.slot is None:
                self._next_main = 0.0
            return
        if self._driver is None:
            self._driver = _Retry()
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
        """Give a reading for each expected card that has none; a card set apart is not waited for.

        The others are given the time that a new reader needs to start.
        """
        now = time.monotonic()
        gaps = []
        for place in self._inventory.expected(self._vendor):
            patience = 1.0 if place.slot in self._apart else 3.0
            silence = now - self._delivered.setdefault(place.slot, now)
            if silence > patience * self._interval_seconds + (patience - 1) * STUCK_SECONDS / 2:
                unanswered = now - self._answered.setdefault(place.slot, now)
                gaps.append(_window(place, "unreadable", {"read_seconds": unanswered}))
        self._publish(time.time_ns(), gaps)


def _lost(place: Place) -> CardWindow:
    return _window(place, "lost", {})


def _window(place: Place, state: str, fields: dict[str, float]) -> CardWindow:
    return msgspec.convert(
        {**msgspec.structs.asdict(place), "state": state, "fields": fields}, CardWindow
    )


def _place(doing: Doing) -> str:
    if not doing.call:
        return "no call"
    return f"{doing.call} of slot {doing.slot}" if doing.slot else f"{doing.call} of the driver"


def read_once(vendor: str, interval_seconds: float, sample_seconds: float) -> Message:
    """One window of a vendor's cards, read now; a card that hangs or crashes is left unreadable.

    Cards that could not be read are in `present` order among the others only where they can be
    named; a driver that fails as a whole is told in `nothing`.
    """
    skip: list[str] = []
    while True:
        command = [*reader_command(vendor, interval_seconds, sample_seconds), "--once"]
        child = _Child([*command, *(word for slot in skip for word in ("--skip", slot))], None)
        message = _await(child, interval_seconds)
        doing = child.progress.read()
        child.close()
        if message is not None:
            bad = [_window(Place(s, "unidentified", vendor, ""), "unreadable", {}) for s in skip]
            return msgspec.structs.replace(message, cards=[*message.cards, *bad])
        if not doing.slot or doing.slot in skip:
            reason = f"the reader failed in {_place(doing)}"
            return Message(time.time_ns(), [], [], nothing=reason)
        skip.append(doing.slot)


def _await(child: _Child, interval_seconds: float) -> Message | None:
    """The reader's one message, or None when it crashed or is stuck (it is then killed)."""
    with selectors.DefaultSelector() as selector:
        selector.register(child.fd, selectors.EVENT_READ)
        give_up = time.monotonic() + interval_seconds + 2 * STUCK_SECONDS
        while time.monotonic() < give_up:
            doing = child.progress.read()
            if doing.call and time.monotonic() - doing.started > STUCK_SECONDS:
                break
            if selector.select(0.2):
                messages = child.receive()
                if messages is None:
                    child.process.wait(1.0)
                    return None
                if messages:
                    child.process.wait(5.0)
                    return messages[0]
    child.kill()
    return None
