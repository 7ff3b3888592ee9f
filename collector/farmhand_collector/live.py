"""Judging as it happens: follows the store, folds what arrives, writes what changed."""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from farmhand_agent.reading import Reading
from farmhand_collector.capacity.state import State, StateError
from farmhand_collector.changes import ChangeLog
from farmhand_collector.judging import Judge, Tick
from farmhand_collector.ledger import Checkpoint, Ledger, LedgerError
from farmhand_collector.metrics import JudgingCounts
from farmhand_collector.store.base import Store, StoreError
from farmhand_collector.view import View
from farmhand_collector.wire import CAPACITY_SCOPES
from farmhand_collector.write_back import WriteBack, capacities

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
TROUBLE_SECONDS = 10.0
"""Pause after a failure, so that one that lasts does not fill the log."""
BEAT_SECONDS = 10.0
PULSE_SECONDS = 5.0
"""Frames close on pulses, so this adds to the time in which a lost card is told."""
CHECKPOINT_SECONDS = 60.0
EXPIRE_SECONDS = 600.0


class Live:
    """The judging thread of a collector."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        view: View,
        pulse_site: str | None,
        beat: Callable[[], object] = bool,
    ) -> None:
        """Follow a store.

        `pulse_site` names the site whose time passes with the clock; None leaves time to the
        readings. `beat` is called now and then while judging goes on.
        """
        self._store = store
        self._ledger = ledger
        self._view = view
        self._pulse_site = pulse_site
        self._beat = beat
        self._pulses = 0.0
        self._write_back = WriteBack()
        self.counts = JudgingCounts()
        self._behind = False
        self._resume()
        self._next_checkpoint = self._next_pulse = self._next_expire = self._next_beat = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="judge", daemon=True)

    def _resume(self) -> None:
        """Go on from what the ledger holds."""
        self._behind = False
        self._judge, self._position = _resumed(self._ledger)
        self._log = ChangeLog(self._ledger.said())
        self._done_ns = self._ledger.last_tick_ns()

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the tick in hand, save a checkpoint, end."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            if not self._guarded(self._work):
                self._stop.wait(TROUBLE_SECONDS)
        if not self._behind:
            self._guarded(self._save_checkpoint)

    def _work(self) -> None:
        if self._behind:
            self._resume()
        self._pulse()
        self._follow()
        self._expire()
        if time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + BEAT_SECONDS
            self._beat()

    def _guarded(self, work: Callable[[], None]) -> bool:
        """Whether it worked; disks may be full or slow for a while, and that must not end judging.

        Readings are taken in all the same, and what was not judged is judged when it works again.
        """
        try:
            work()
            return True
        except StoreError as error:
            # Agents keep their readings until the store takes them again.
            log.error("store: %s", error)
        except LedgerError as error:
            # What was judged and not written is forgotten, as after a crash, and judged again.
            log.error("ledger: %s; judging goes on from its last entry", error)
            self._behind = True
        except Exception:
            log.exception("judging failed in an unforeseen way; it goes on from its last entry")
            self._behind = True
        return False

    def _pulse(self) -> None:
        """Let time pass for the core when no agent speaks: frames close on readings alone."""
        if self._pulse_site is None or time.monotonic() < self._next_pulse:
            return
        self._next_pulse = time.monotonic() + PULSE_SECONDS
        self._pulses += 1
        tags, fields = {"site": self._pulse_site}, {"ticks_total": self._pulses}
        self._store.write([Reading("collector", tags, fields, time.time_ns())])

    def _follow(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            blocks, position = self._store.readings(self._position)
            if not blocks:
                return
            self._position = position
            late_rows = self._judge.late_rows
            self._conclude(self._judge.feed(blocks))
            self.counts.late_rows += self._judge.late_rows - late_rows
            self.counts.tick_seconds += time.perf_counter() - began

    def _conclude(self, ticks: Iterable[Tick]) -> None:
        tick = None
        for tick in ticks:
            changes = self._log.of(tick) if tick.verdicts.end_ns > self._done_ns else []
            self._done_ns = max(self._done_ns, tick.verdicts.end_ns)
            self._ledger.commit(self._done_ns, changes)
            self.counts.ticks += 1
        if tick is not None:
            # While it catches up, only where it has come to is worth showing.
            self._view.update(tick)
            self._write_back_of(tick.verdicts.end_ns)
        if time.monotonic() >= self._next_checkpoint:
            self._save_checkpoint()

    def _write_back_of(self, end_ns: int) -> None:
        """Let the store's other readers see what is shown; it can wait when the store cannot."""
        try:
            if self._write_back.is_due(end_ns):
                rows = {scope: self._view.capacity(scope) for scope in CAPACITY_SCOPES}
                self._store.write(capacities(end_ns, rows))
            self._store.write(self._write_back.verdicts(end_ns, self._view.said()))
        except StoreError as error:
            log.warning("verdicts were not written back: %s", error)
            self._write_back = WriteBack()

    def _save_checkpoint(self) -> None:
        self._next_checkpoint = time.monotonic() + CHECKPOINT_SECONDS
        pending = self._judge.pending_since()
        position = self._position if pending is None else pending - 1
        checkpoint = Checkpoint(position, self._judge.state.to_bytes())
        self._ledger.commit(self._done_ns, [], checkpoint)

    def _expire(self) -> None:
        if time.monotonic() >= self._next_expire:
            self._next_expire = time.monotonic() + EXPIRE_SECONDS
            self._store.expire(time.time_ns())


def _resumed(ledger: Ledger) -> tuple[Judge, int]:
    """The core as it was at the checkpoint, and the store's position from which to go on."""
    checkpoint = ledger.checkpoint()
    if checkpoint is None:
        return Judge(), 0
    try:
        return Judge(state=State.from_bytes(checkpoint.state)), checkpoint.position
    except StateError as error:
        log.warning("checkpoint: %s; judging anew what the store holds", error)
        return Judge(), 0
