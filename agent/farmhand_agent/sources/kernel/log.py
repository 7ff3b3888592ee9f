"""The kernel log as it grows, kept open in the best way there is."""

import logging
from pathlib import Path
from typing import NamedTuple

import msgspec

from farmhand_agent.sources.kernel.journal import JOURNALCTL, JournalLog
from farmhand_agent.sources.kernel.kmsg import DOOR, KMSG, KmsgLog, borrow, open_kmsg
from farmhand_agent.sources.kernel.record import Log, LogEnded, NoLog, Position, Record, Wanted

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.2
"""Between looks at a log that grows: a look costs more than a record, and some logs never rest."""
RETRY_SECONDS = (1.0, 300.0)
"""First and longest wait before a log that cannot be read is tried again."""
STEADY_SECONDS = 60.0
"""A way that worked for so long is tried again soon when it ends."""

_MISSED = (
    "without it XIDs have no text and a card that falls off the bus may go unnoticed; enable "
    "farmhand-kernel-log.socket, or let the agent read the journal (group systemd-journal)"
)


class Ways(NamedTuple):
    """Where the log may be found."""

    kmsg: Path = KMSG
    door: Path = DOOR
    journalctl: str = JOURNALCTL


WAYS = Ways()


def open_log(after: Position, wanted: Wanted, ways: Ways = WAYS) -> Log:
    """The first way that is open: the device, the door, the journal.

    Raises:
        NoLog: none is; the message says of each way why.
    """
    reasons = []
    for fd_of, path, how in ((open_kmsg, ways.kmsg, "kmsg"), (borrow, ways.door, "lent")):
        try:
            return KmsgLog(fd_of(path), how, after, wanted)
        except NoLog as none:
            reasons.append(str(none))
    try:
        return JournalLog(after, wanted, ways.journalctl, others=reasons)
    except NoLog as none:
        raise NoLog("; ".join((*reasons, str(none)))) from None


class KernelLog:
    """Follows the log of this boot whatever becomes of the way in which it is read."""

    def __init__(self, wanted: Wanted, ways: Ways = WAYS) -> None:
        self._wanted = wanted
        self._ways = ways
        self._log: Log | None = None
        self._lost = 0
        self._retry_seconds, self._retry_at = RETRY_SECONDS[0], 0.0
        self._opened_at = self._quiet_until = 0.0
        self._said = ""
        self._trusts_cursor = True
        self.drained = False
        """Whether there was nothing left at the last read."""

    @property
    def how(self) -> str:
        """How it is read: `kmsg`, `lent`, `journal` or `none`."""
        current = self._log
        return "none" if current is None else current.how

    @property
    def lost(self) -> int:
        """Records that were overwritten before they could be read."""
        current = self._log
        return self._lost + (0 if current is None else current.lost)

    @property
    def pid(self) -> int | None:
        """Process that helps to read it, where there is one."""
        current = self._log
        return None if current is None else current.pid

    def fileno(self, now: float) -> int | None:
        """What to poll for the next record; None where there is nothing to poll at this time."""
        return None if self._log is None or now < self._quiet_until else self._log.fileno()

    def due(self, now: float) -> float | None:
        """When to look at it again even if nothing arrives."""
        if self._log is None:
            return self._retry_at
        if not self.drained:
            return now
        return self._quiet_until if now < self._quiet_until else self._log.due

    def read(self, after: Position, now: float, has_arrived: bool) -> list[Record]:
        """Records that arrived after a position; none where the log cannot be read now."""
        try:
            if self._log is None:
                if now < self._retry_at:
                    return []
                self._open(after, now)
            elif not (has_arrived or self._is_due(now)):
                return []
            return self._read(now)
        except (NoLog, LogEnded) as error:
            self._give_up(str(error), now)
            return []

    def _is_due(self, now: float) -> bool:
        due = self._log.due if self._log is not None else None
        return not self.drained or (due is not None and due <= now)

    def _read(self, now: float) -> list[Record]:
        assert self._log is not None
        chunk = self._log.read()
        self._tell(self._log.how)
        self.drained = chunk.drained
        if chunk.drained:
            self._quiet_until = now + PAUSE_SECONDS
        return chunk.records

    def close(self) -> None:
        """Let go of it; the next read opens it again."""
        if self._log is not None:
            self._lost += self._log.lost
            self._log.close()
            self._log = None
        self.drained = False

    def _open(self, after: Position, now: float) -> None:
        if not self._trusts_cursor:
            after = msgspec.structs.replace(after, cursor="")
        self._log = open_log(after, self._wanted, self._ways)
        self._opened_at = now

    def _give_up(self, reason: str, now: float) -> None:
        if self._log is not None:
            # A place in the journal that is no longer known would stop it each time.
            self._trusts_cursor = self.how != "none"
            if now - self._opened_at > STEADY_SECONDS:
                self._retry_seconds = RETRY_SECONDS[0]
        self.close()
        self._retry_at = now + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS[1])
        if reason != self._said:
            log.warning("kernel log cannot be read (%s); %s", reason, _MISSED)
        self._said = reason

    def _tell(self, how: str) -> None:
        if how not in ("none", self._said):
            log.info("kernel log is read as %s", how)
            self._said = how
