"""The watch over reader children: starts them, takes their windows, judges them by their progress.

A dying card must not take its neighbours with it. When a read is stuck or crashes, the card that
was being read is set apart: the others go on in a new reader, the bad one is tried again in a
reader of its own, ever more rarely, and never while an earlier reader of it still hangs.
"""

import logging
import selectors
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from farmhand_agent.child import PATIENCE, Pace, Patience, ReaderProcess, reader_command, what
from farmhand_agent.hung import HungReaders
from farmhand_agent.inventory import Inventory, Place
from farmhand_agent.progress import Doing
from farmhand_agent.reader import CardWindow, Message, State, Told
from farmhand_agent.reading import UNIDENTIFIED, Value
from farmhand_agent.sources.base import CardEvent

log = logging.getLogger(__name__)

TURN_SECONDS = 30.0
"""A turn takes a second or two; one that takes so long is stuck, as on a dying disk."""
CALM_SECONDS = 2.5
"""Between looks at readers that are well: each wakes the processor."""
STOP_SECONDS = 5.0
"""Longest wait for the watch to end; readers that hang in the kernel are left to it."""


Deliver = Callable[[int, Sequence[CardWindow]], None]
"""Takes a wall-clock time in nanoseconds and the windows that belong to it."""

Tell = Callable[[Sequence[CardEvent]], None]
"""Takes what the driver said has happened."""


class _Retry:
    """When something may be tried again, ever more rarely."""

    def __init__(self, patience: Patience) -> None:
        self._first, self._longest = patience.retry_seconds
        self._delay = self._first
        self._good_since: float | None = None
        self.due = time.monotonic() + self._delay

    def went(self, well: bool, now: float) -> float:
        """Note how it went; for how many seconds it has gone well."""
        if not well:
            self._good_since = None
            return 0.0
        self._delay = self._first
        if self._good_since is None:
            self._good_since = now
        return now - self._good_since

    def postpone(self) -> None:
        """Try again later than the last time."""
        self._delay = min(self._delay * 2, self._longest)
        self._good_since = None
        self.due = time.monotonic() + self._delay


class Watch:
    """Keeps the readers of one vendor going and delivers a window per expected card."""

    def __init__(
        self,
        vendor: str,
        pace: Pace,
        inventory: Inventory,
        deliver: Deliver,
        tell: Tell,
        hung: HungReaders,
        patience: Patience = PATIENCE,
    ) -> None:
        self._vendor = vendor
        self._interval_seconds = pace.interval_seconds
        self._command = reader_command(vendor, pace)
        self._hung = hung
        self._inventory = inventory
        self._deliver = deliver
        self._tell = tell
        self._patience = patience
        self._selector = selectors.DefaultSelector()
        self._children: list[ReaderProcess] = []
        self._hanging: list[ReaderProcess] = []
        self._apart: dict[str, _Retry] = {}
        self._driver: _Retry | None = None
        self._next_main = 0.0
        self._delivered: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._answered: dict[str, float] = {}
        self._untold: list[CardEvent] = []
        self._deaf = False
        """Whether readers are not to listen for events."""
        self._said_nothing = ""
        self._turned = time.monotonic()
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
        """Whether its thread runs and gets on."""
        return self._thread.is_alive() and time.monotonic() - self._turned < TURN_SECONDS

    def pids(self) -> list[int]:
        """Processes of the readers, those that hang among them."""
        return [child.process.pid for child in (*self._children, *self._hanging)]

    @property
    def apart(self) -> list[str]:
        """Slots of cards that have a reader of their own."""
        return list(self._apart)

    def _run(self) -> None:
        started = time.monotonic()
        self._delivered = {p.slot: started for p in self._inventory.expected(self._vendor)}
        self._heard, self._answered = dict(self._delivered), dict(self._delivered)
        self._apart = {slot: _Retry(self._patience) for slot in self._hung.slots() if slot}
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
        self._turned = time.monotonic()
        self._start_due()
        ready = self._ready(min(self._rest_seconds(), self._interval_seconds / 2))
        # Delivering may take long, as on a slow disk: what comes meanwhile is heard next time.
        looked = time.monotonic()
        for child in ready:
            # One that spoke before it may have had this one set aside.
            if child in self._children:
                self._receive(child)
        self._judge(looked)
        self._fill_gaps(looked)

    def _rest_seconds(self) -> float:
        """How long to wait for a reader to speak: all is well, or something may soon be due."""
        calm = len(self._children) == 1 and not (self._apart or self._hanging or self._driver)
        # A call that has not begun yet cannot be stuck before we look again.
        return CALM_SECONDS if calm and not self._children[0].progress.read().call else 1.0

    # --- starting ---

    def _start_due(self) -> None:
        now = time.monotonic()
        hung = self._hung.slots()
        if None in hung:
            # The driver as a whole hangs: any reader would hang beside the one that does.
            return
        running = {child.slot for child in self._children} | hung
        if None not in running and now >= self._next_main:
            self._start(None)
        for slot, retry in self._apart.items():
            if slot not in running and now >= retry.due:
                retry.postpone()
                self._start(slot)

    def _start(self, slot: str | None) -> None:
        chosen = [f"--only={slot}"] if slot else [f"--skip={apart}" for apart in self._apart]
        deaf = ["--deaf"] if self._deaf else []
        try:
            child = ReaderProcess([*self._command, *deaf, *chosen], slot)
        except OSError as error:
            log.warning("%s: a reader cannot be started: %s", self._vendor, error.strerror)
            if slot is None:
                self._postpone_driver()
            return
        self._children.append(child)
        self._selector.register(child.fd, selectors.EVENT_READ, child)

    # --- hearing ---

    def _ready(self, seconds: float) -> list[ReaderProcess]:
        """Readers that have something to say, waited for no longer than this."""
        # Where this process was stopped for a while, the first wait ends without looking again.
        found = self._selector.select(seconds) or self._selector.select(0)
        return [key.data for key, _ in found]

    def _receive(self, child: ReaderProcess) -> None:
        messages = child.receive()
        if messages is None:
            self._ended(child)
            return
        for message in messages:
            self._hear(child, message)

    def _hear(self, child: ReaderProcess, told: Told) -> None:
        if isinstance(told, CardEvent):
            self._untold.append(told)
        else:
            self._take(child, told)
        self._tell_events()

    def _tell_events(self) -> None:
        """Tell what happened to known cards; the first window of a new one comes first."""
        known = {place.slot for place in self._inventory.expected(self._vendor)}
        events = [event for event in self._untold if event.slot in known]
        self._untold = [event for event in self._untold if event.slot not in known]
        if events:
            self._tell(events)

    def _take(self, child: ReaderProcess, message: Message) -> None:
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
        if child.slot in self._apart:
            self._reads(child.slot, any(self._is_well(window) for window in windows), now)

    def _is_well(self, window: CardWindow) -> bool:
        slowest = window.fields.get("read_seconds", 0.0)
        assert isinstance(slowest, float)
        return window.state == "ok" and slowest < self._patience.stuck_seconds

    def _reads(self, slot: str, well: bool, now: float) -> None:
        """Let a card that has recovered for long join the others: its own reader costs memory."""
        if self._apart[slot].went(well, now) < self._patience.rejoin_seconds:
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

    def _ended(self, child: ReaderProcess) -> None:
        """A reader closed its end: it had nothing to read, was asked to start again, or crashed."""
        gone = child.wait(1.0) or child.kill()
        doing, beside = child.progress.read(), child.progress.crashed_beside()
        self._set_aside(child, doing, gone)
        if child.nothing is not None:
            if child.slot is None:
                self._next_main = time.monotonic() + self._patience.nothing_seconds
        elif beside and not self._deaf:
            # No card is to blame, and events are told by the kernel's log too.
            log.warning("%s: the driver crashed when asked for events; no more", self._vendor)
            self._deaf = True
            self._next_main = time.monotonic() + self._patience.restart_seconds
        elif doing.call and child.process.returncode != 0:
            log.warning("%s: reader ended %s", self._vendor, what(doing))
            self._blame(child, doing)
        elif child.slot is None and child.has_read:
            self._next_main = time.monotonic() + self._patience.restart_seconds
        elif child.slot is None:
            self._postpone_driver()

    def _judge(self, now: float) -> None:
        """Kill readers whose call is stuck, or which are silent for no reason that they told."""
        for child in list(self._children):
            doing = child.progress.read()
            apart = child.slot is not None
            longest = self._interval_seconds + self._patience.driver_seconds
            longest += self._patience.apart_seconds if apart else self._patience.stuck_seconds
            silent = now - max(child.heard, doing.started) > longest
            if self._patience.is_stuck(doing, apart) or silent:
                log.warning("%s: reader is stuck %s", self._vendor, what(doing))
                gone = child.kill()
                self._blame(child, doing)
                self._set_aside(child, doing, gone)
        for child in [c for c in self._hanging if c.process.poll() is not None]:
            self._hanging.remove(child)
            child.close()

    def _set_aside(self, child: ReaderProcess, doing: Doing, gone: bool) -> None:
        if gone:
            self._forget(child)
            return
        self._selector.unregister(child.fd)
        self._children.remove(child)
        # It hangs in the kernel: a second reader of the same thing would hang beside it.
        self._hanging.append(child)
        self._hung.add(child.process.pid, child.slot or doing.slot or None)

    def _blame(self, child: ReaderProcess, doing: Doing) -> None:
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

    def _forget(self, child: ReaderProcess) -> None:
        self._selector.unregister(child.fd)
        self._children.remove(child)
        child.process.poll()
        child.close()

    # --- speaking for cards that cannot ---

    def _fill_gaps(self, now: float) -> None:
        """Give a reading, each interval, for each expected card whose reader gives none."""
        gaps = []
        for place in self._inventory.expected(self._vendor):
            silence = now - self._heard.setdefault(place.slot, now)
            since = now - self._delivered.setdefault(place.slot, now)
            if silence > self._longest_silence(place.slot) and since >= self._interval_seconds:
                unanswered = now - self._answered.setdefault(place.slot, now)
                gaps.append(_window(place, "unreadable", {"read_seconds": unanswered}))
        self._publish(time.time_ns(), gaps)

    def _longest_silence(self, slot: str) -> float:
        """Seconds within which a healthy reader is heard, even where two neighbours held it up.

        Nothing holds up the reader of a card set apart. Nobody is waited for who has not spoken
        yet, or has said that there is no driver.
        """
        if slot in self._apart:
            has_read = any(child.slot == slot and child.has_read for child in self._children)
            return (2 if has_read else 1) * self._interval_seconds
        if self._driver is not None or self._said_nothing:
            return self._interval_seconds
        return 3 * self._interval_seconds + 2 * self._patience.stuck_seconds


def _tagged(window: CardWindow, place: Place) -> CardWindow:
    return msgspec.structs.replace(window, card=place.card, model=place.model)


def _window(place: Place, state: State, fields: dict[str, Value]) -> CardWindow:
    return CardWindow(place.slot, place.card, place.vendor, place.model, state, fields)
