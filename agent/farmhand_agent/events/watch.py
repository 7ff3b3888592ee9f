"""The watch over events: follows the kernel log in a thread and keeps the ledger of events."""

import logging
import math
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

from farmhand_agent.events.fold import LogState, Tags, Totals, driver_event
from farmhand_agent.events.ledger import Clocks, EventLedger, Locate, Put
from farmhand_agent.sources.kernel.log import WAYS, KernelLog, Ways
from farmhand_agent.sources.kernel.nvrm import is_of_interest
from farmhand_agent.sources.kernel.record import boot_id

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""Longest wait for the watch to end; it takes milliseconds, or as long as the door keeps it."""
RESTART_SECONDS = 1.0
"""Wait after an unforeseen failure."""
_AT_ONCE_SECONDS = 0.001


class EventWatch:
    """Hears of this node's cards from the kernel log and from other threads, and tells it.

    It sleeps until something happens. `path` is the file of its memory.
    """

    def __init__(self, path: Path, put: Put, locate: Locate, ways: Ways = WAYS) -> None:
        self._ledger = EventLedger(path, boot_id(), put, locate, time.monotonic())
        self._log = KernelLog(is_of_interest, ways)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Tell what is still kept back, and end."""
        self._stop.set()
        self._rouse()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    @property
    def how(self) -> str:
        """How the kernel log is read: `kmsg`, `lent`, `journal` or `none`."""
        return self._log.how

    @property
    def lost_records(self) -> int:
        """Records of the kernel log that were overwritten before they could be read."""
        return self._log.lost

    def pids(self) -> list[int]:
        """Processes that help to read the log."""
        pid = self._log.pid
        return [] if pid is None else [pid]

    def driver_told(self, tags: Tags, code: str, time_ns: int) -> None:
        """Take an XID that the driver's library told of the card with these tags."""
        event = driver_event(tags, code, time_ns)
        self._pass(lambda: self._ledger.hear_driver(event, time.monotonic(), self._log_state()))

    def links_counted(self, totals: Totals, time_ns: int) -> None:
        """Take the errors that links have counted since boot."""
        self._pass(lambda: self._ledger.hear_totals(totals, time_ns))

    def _pass(self, heard: Callable[[], None]) -> None:
        self._inbox.put(heard)
        self._rouse()

    def _rouse(self) -> None:
        os.eventfd_write(self._wake, 1)

    # --- its own thread ---

    def _run(self) -> None:
        self._try(self._ledger.hand_over)
        while not self._stop.is_set():
            self._try(self._turn)
        self._try(self._end)
        self._log.close()

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:
            # A watch that is gone would go unnoticed: events would just stay away.
            log.exception("watching for events failed in an unforeseen way")
            self._log.close()
            self._ledger.forget_waiting()
            self._stop.wait(RESTART_SECONDS)

    def _turn(self) -> None:
        has_arrived, is_live = self._wait()
        if not self._ledger.is_waiting:
            records = self._log.read(self._ledger.position, time.monotonic(), has_arrived)
            self._ledger.hear(records, _clocks(), is_live=is_live)
        self._take_inbox()
        self._ledger.release(time.monotonic(), self._log_state())
        self._ledger.hand_over()

    def _end(self) -> None:
        self._take_inbox()
        self._ledger.flush(time.monotonic())
        self._ledger.hand_over()

    def _take_inbox(self) -> None:
        while not self._inbox.empty():
            self._inbox.get()()

    def _wait(self) -> tuple[bool, bool]:
        """Wait for something to do; whether the log has grown, and whether that was just now."""
        started = time.monotonic()
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        fd = None if self._ledger.is_waiting else self._log.fileno(started)
        if fd is not None:
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(self._timeout_milliseconds(started))}
        if self._wake in ready:
            os.eventfd_read(self._wake)
        has_arrived = fd in ready
        return has_arrived, has_arrived and time.monotonic() - started > _AT_ONCE_SECONDS

    def _timeout_milliseconds(self, now: float) -> int | None:
        dues = [self._ledger.due(self._log_state())]
        if not self._ledger.is_waiting:
            dues.append(self._log.due(now))
        known = [due for due in dues if due is not None]
        return math.ceil(1000 * max(0.0, min(known) - now)) if known else None

    def _log_state(self) -> LogState:
        if self._log.how == "none":
            return LogState.UNREADABLE
        is_behind = self._ledger.is_waiting or not self._log.drained
        return LogState.BEHIND if is_behind else LogState.CAUGHT_UP


def _clocks() -> Clocks:
    return Clocks(time.time_ns(), time.monotonic_ns())
