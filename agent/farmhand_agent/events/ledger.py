"""The ledger of events: what is heard of cards goes in, each happening comes out once, durably.

An event is written into the memory's file before it is handed on, together with how far the log
has been read, and taken out of it after. So at any moment of a crash it is either still in the
log, or in the file, or with the spool; handed on twice it is the same event, with the same time.
"""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from farmhand_agent.events.fold import MAX_KEPT, Event, LogState, Tags, Totals, aer_event
from farmhand_agent.events.memory import Memory, MemoryFile
from farmhand_agent.reading import UNIDENTIFIED, Reading, Value
from farmhand_agent.sources.kernel.nvrm import Message, understand
from farmhand_agent.sources.kernel.record import KernelClock, Position, Record

LOCATE_SECONDS = 60.0
"""How long after the start an address may be unknown: the driver's first answer takes time."""
LOCATE_AGAIN_SECONDS = 2.0

Put = Callable[[Sequence[Reading]], None]
"""Takes events with the tags of their card; they are kept durably when it returns."""
Locate = Callable[[str], Tags | None]
"""Tags of the card at a PCI address or with a UUID: slot, card, vendor, model; None while none is
known."""


class Clocks(NamedTuple):
    """What the clocks of this machine say at one moment."""

    wall_ns: int
    monotonic_ns: int

    @property
    def now(self) -> float:
        """Monotonic time in seconds."""
        return self.monotonic_ns / 1e9


class _Waiting(NamedTuple):
    """A message that has not been taken up yet."""

    message: Message
    time_ns: int
    position: Position


class EventLedger:
    """Tells each event of this node's cards once, whoever reports it and however often.

    A file that cannot be used costs what would be remembered over a restart, nothing else. `boot`
    names this boot: what was heard in an earlier one is told, and its log forgotten.
    """

    def __init__(self, path: Path, boot: str, put: Put, locate: Locate, started: float) -> None:
        self._file = MemoryFile(path)
        self._memory = _of_this_boot(self._file.load(), boot)
        self._put = put
        self._locate = locate
        self._patient_until = started + LOCATE_SECONDS
        self._locate_at = started
        self._waiting: deque[_Waiting] = deque()
        self._recent: dict[tuple[str, int], None] = {}
        self._events: list[Event] = []
        self._has_changed = False

    @property
    def position(self) -> Position:
        """How far the log has been read and taken up."""
        return self._memory.position

    @property
    def is_waiting(self) -> bool:
        """Whether messages wait for their card to become known; nothing more is to be read then."""
        return bool(self._waiting)

    def due(self, log: LogState) -> float | None:
        """When `release` has something to do."""
        if self._waiting:
            return self._locate_at
        return None if log is LogState.BEHIND else self._memory.fold.due()

    # --- hearing ---

    def hear(self, records: Sequence[Record], clocks: Clocks, *, is_live: bool) -> None:
        """Take records of the log; `is_live` says that the first was written just now."""
        if not records:
            return
        clock = self._set_clock(clocks, records[0] if is_live else None)
        for record in records:
            message = understand(record.text, record.usec, self._memory.heard)
            if message is not None:
                waiting = _Waiting(message, clock.time_ns(record), record.position)
                self._waiting.append(waiting)
        self._take_up(clocks.now)

    def hear_driver(self, event: Event, now: float, log: LogState) -> None:
        """Take what the driver's library tells."""
        self._events += self._memory.fold.driver(event, now, log)

    def hear_totals(self, totals: Totals, time_ns: int) -> None:
        """Take the errors that links have counted since boot."""
        tally = self._memory.tally
        before = dict(tally.totals)
        for increase in tally.count(totals):
            tags = self._locate(increase.address) or _unlocated(increase.address)
            self._events.append(aer_event(tags, increase, time_ns))
        self._has_changed |= tally.totals != before

    def forget_waiting(self) -> None:
        """Drop what waits: it is to be read again from `position`."""
        self._waiting.clear()

    def _set_clock(self, clocks: Clocks, just_written: Record | None) -> KernelClock:
        clock = self._memory.clock or KernelClock(clocks.wall_ns - clocks.monotonic_ns)
        clock = clock.corrected(clocks.wall_ns, clocks.monotonic_ns, just_written)
        self._memory.clock = clock
        return clock

    def _take_up(self, now: float) -> None:
        """Take up messages in their order; one whose card may yet become known holds up the rest.

        The log keeps what is not read meanwhile.
        """
        known: dict[str, Tags | None] = {}
        while self._waiting:
            message, time_ns, position = self._waiting[0]
            if message.address not in known:
                known[message.address] = self._tags(message.address, now)
            tags = known[message.address]
            if tags is None:
                self._locate_at = now + LOCATE_AGAIN_SECONDS
                return
            self._waiting.popleft()
            what = (message.kind, message.code, message.text)
            event = Event(dict(tags), *what, time_ns, part=message.part)
            self._events += self._memory.fold.kernel(event, now)
            self._memory.position = position

    def _tags(self, address: str, now: float) -> Tags | None:
        """Tags of the card at an address; None while they may yet become known."""
        tags = self._locate(address)
        uuid = self._memory.heard.uuids.get(address)
        if tags is None and uuid is not None:
            tags = self._locate(uuid)
        if tags is None and now >= self._patient_until:
            tags = _unlocated(address)
        return tags

    # --- telling ---

    def release(self, now: float, log: LogState) -> None:
        """Let go of what was kept back and need not be any more."""
        if self._waiting and now >= self._locate_at:
            self._take_up(now)
        self._events += self._memory.fold.release(now, log)

    def flush(self, now: float) -> None:
        """Let go of all that was kept back."""
        self._events += self._memory.fold.flush(now)

    def hand_over(self) -> None:
        """Hand on what is to be told, and remember that it was."""
        memory = self._memory
        memory.unsent += [self._reading(event) for event in self._events]
        self._events.clear()
        if memory.unsent or self._has_changed:
            self._has_changed = False
            self._file.save(memory)
        if memory.unsent:
            self._put(tuple(memory.unsent))
            memory.unsent.clear()
            self._file.save(memory)

    def _reading(self, event: Event) -> Reading:
        """The event as a reading; a card's events have each a time of their own."""
        time_ns = event.time_ns
        while (event.slot, time_ns) in self._recent:
            time_ns += 1
        self._recent[event.slot, time_ns] = None
        if len(self._recent) > MAX_KEPT:
            del self._recent[next(iter(self._recent))]
        return _reading(event, time_ns)


def _of_this_boot(memory: Memory | None, boot: str) -> Memory:
    """The memory as far as it holds for this boot, and what was left to tell of an earlier one."""
    if memory is None:
        return Memory(boot)
    if memory.boot == boot:
        return memory
    left = [_reading(event, event.time_ns) for event in memory.fold.flush(0.0)]
    return Memory(boot, unsent=[*memory.unsent, *left])


def _unlocated(address: str) -> Tags:
    return {"slot": address, "card": UNIDENTIFIED, "vendor": "nvidia"}


def _reading(event: Event, time_ns: int) -> Reading:
    fields: dict[str, Value] = {"kind": event.kind, "count": float(event.count)}
    texts = {"code": event.code, "text": event.text}
    fields |= {name: text for name, text in texts.items() if text}
    return Reading("card_event", event.tags, fields, time_ns)
