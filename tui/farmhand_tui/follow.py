"""Threads that ask the collector; what they learn reaches the screen as messages only."""

import threading
import time
from collections.abc import Callable

from textual.message import Message

from farmhand_collector.wire import CardDetail, Changes, Finding, Series, Snapshot

from .client import Aborted, Client, ClientError, StaleCursor
from .farm import COLUMNS

WAIT_SECONDS = 25.0
EVERY_SECONDS = 1.0
"""Changes are asked for no more often, however busy the farm is."""
FINDINGS_SECONDS = 5.0
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 15.0
CARD_SECONDS = 10.0
POINTS = 600

SERIES_FIELDS = (
    "utilization_ratio",
    "core_clock_mhz",
    "power_watts",
    "power_limit_watts",
    "core_temperature_celsius",
    "memory_clock_mhz",
)

Post = Callable[[Message], object]


class SnapshotArrived(Message):
    """The farm, new from the ground up."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class ChangesArrived(Message):
    """Rows that changed since the last message."""

    def __init__(self, changes: Changes) -> None:
        super().__init__()
        self.changes = changes


class FindingsArrived(Message):
    """All findings, since they are others than before."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__()
        self.findings = findings


class CollectorLost(Message):
    """The collector cannot be asked; it is tried again."""

    def __init__(self, error: ClientError) -> None:
        super().__init__()
        self.error = error


class CardArrived(Message):
    """One card and its history between two times."""

    def __init__(self, detail: CardDetail, series: Series, since: float, until: float) -> None:
        super().__init__()
        self.detail = detail
        self.series = series
        self.since = since
        self.until = until


class CardLost(Message):
    """One card cannot be asked for; it is tried again."""

    def __init__(self, error: ClientError) -> None:
        super().__init__()
        self.error = error


class FarmFollower(threading.Thread):
    """Takes a snapshot, then waits for changes; after trouble it begins anew, ever more slowly."""

    def __init__(self, client: Client, post: Post, wait_seconds: float = WAIT_SECONDS) -> None:
        super().__init__(name="farm follower", daemon=True)
        self._client = client
        self._post = post
        self._wait_seconds = wait_seconds
        self._cursor = ""
        self._findings: list[Finding] | None = None
        self._findings_at = 0.0
        self._findings_stale = False
        self._stopped = False
        self._renew = False
        self._wake = threading.Event()
        self._running = threading.Event()
        self._running.set()

    def pause(self, paused: bool) -> None:
        """Hold back, or let go again, whatever arrives."""
        self._running.clear() if paused else self._running.set()

    def refresh(self) -> None:
        """Take a new snapshot at once."""
        self._renew = True
        self._wake.set()
        self._client.abort()

    def stop(self) -> None:
        """End soon, whatever the thread is waiting for."""
        self._stopped = True
        self._running.set()
        self.refresh()

    def run(self) -> None:
        """Follow the farm until stopped."""
        retry = FIRST_RETRY_SECONDS
        while not self._stopped:
            self._wake.clear()
            self._renew = False
            try:
                self._snapshot()
                retry = FIRST_RETRY_SECONDS
                self._follow()
            except Aborted:
                continue
            except StaleCursor:
                self._wake.wait(FIRST_RETRY_SECONDS / 2)
            except ClientError as error:
                self._tell(CollectorLost(error))
                self._wake.wait(retry)
                retry = min(2 * retry, LAST_RETRY_SECONDS)
        self._client.close()

    def _snapshot(self) -> None:
        snapshot = self._client.snapshot(COLUMNS)
        self._cursor = snapshot.cursor
        self._tell(SnapshotArrived(snapshot))
        self._findings = None
        self._ask_findings()

    def _follow(self) -> None:
        while not (self._stopped or self._renew):
            asked = time.monotonic()
            changes = self._client.changes(self._cursor, COLUMNS, self._patience(asked))
            self._cursor = changes.cursor
            self._tell(ChangesArrived(changes))
            self._findings_stale |= any(changes.columns.values()) or bool(changes.removed)
            if self._findings_stale and self._findings_due(time.monotonic()) <= 0:
                self._ask_findings()
            self._wake.wait(asked + EVERY_SECONDS - time.monotonic())

    def _patience(self, now: float) -> float:
        """How long to wait for changes: no longer than findings that changed may be old."""
        if not self._findings_stale:
            return self._wait_seconds
        return min(self._wait_seconds, max(self._findings_due(now), 0.0))

    def _findings_due(self, now: float) -> float:
        return self._findings_at + FINDINGS_SECONDS - now

    def _ask_findings(self) -> None:
        findings = self._client.findings()
        self._findings_at = time.monotonic()
        self._findings_stale = False
        if findings != self._findings:
            self._findings = findings
            self._tell(FindingsArrived(findings))

    def _tell(self, message: Message) -> None:
        self._running.wait()
        if not self._stopped:
            self._post(message)


class CardFollower(threading.Thread):
    """Asks for one card and its history, again every few seconds and when the range changes."""

    def __init__(
        self, client: Client, key: str, post: Post, until: Callable[[], float], span_seconds: float
    ) -> None:
        super().__init__(name="card follower", daemon=True)
        self._client = client
        self._key = key
        self._post = post
        self._until = until
        self._span_seconds = span_seconds
        self._stopped = False
        self._wake = threading.Event()

    def show(self, span_seconds: float) -> None:
        """Ask for another range at once."""
        self._span_seconds = span_seconds
        self._wake.set()

    def stop(self) -> None:
        """End soon, whatever the thread is waiting for."""
        self._stopped = True
        self._wake.set()
        self._client.abort()

    def run(self) -> None:
        """Follow the card until stopped."""
        while not self._stopped:
            self._wake.clear()
            try:
                message = self._ask()
            except Aborted:
                continue
            self._post(message)
            self._wake.wait(CARD_SECONDS)
        self._client.close()

    def _ask(self) -> Message:
        until = self._until()
        since = until - self._span_seconds
        try:
            detail = self._client.card(self._key)
            series = self._client.series(self._key, SERIES_FIELDS, since, until, POINTS)
        except Aborted:
            raise
        except ClientError as error:
            return CardLost(error)
        return CardArrived(detail, series, since, until)
