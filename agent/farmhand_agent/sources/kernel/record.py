"""What every way of reading the kernel log has in common: records, their times, how far one is.

Only what the kernel itself wrote is taken: anybody who may write to the log could otherwise make
up what a driver says.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NEW_CLOCK_NS = 1_000_000_000
"""A clock that is off by less is left as it is: a record read twice must get the same time."""


class Position(msgspec.Struct, frozen=True):
    """How far the log of this boot has been read; each way of reading counts in its own way."""

    usec: int = -1
    """Time of the last record by the kernel's clock, in microseconds."""
    seq: int = -1
    """Its number in `/dev/kmsg`, where it was read there."""
    cursor: str = ""
    """Its name in the journal, where it was read there."""

    def is_past(self, other: "Position") -> bool:
        """Whether a record at the other position has been dealt with."""
        if self.seq >= 0 and other.seq >= 0:
            return other.seq <= self.seq
        if self.cursor and other.cursor:
            return other.usec < self.usec or other.cursor == self.cursor
        return other.usec <= self.usec


class Record(NamedTuple):
    """One record that the kernel wrote."""

    text: str
    usec: int
    order: int
    """0 to 999: tells records of the same microsecond apart."""
    position: Position
    taken_usec: int | None = None
    """Monotonic clock when journald took it, in microseconds."""


class Chunk(NamedTuple):
    """Records that arrived."""

    records: list[Record]
    drained: bool
    """Whether that was all there is for now."""


class LogEnded(Exception):
    """The log cannot be read any longer; the message says why in one line."""


class NoLog(Exception):
    """The log cannot be read in any way; the message says why in one line."""


class Log(Protocol):
    """One open way of reading the log."""

    @property
    def how(self) -> str:
        """How it is read: `kmsg`, `lent`, `journal`, or `none` while that is not yet sure."""

    @property
    def lost(self) -> int:
        """Records that were overwritten before they could be read."""

    @property
    def due(self) -> float | None:
        """Monotonic time at which to read even where nothing has arrived."""

    @property
    def pid(self) -> int | None:
        """Process that helps to read it, where there is one."""

    def fileno(self) -> int:
        """What to poll for the next record."""

    def read(self) -> Chunk:
        """Records that wait, never blocking; only those that were asked for.

        Raises:
            LogEnded: see there.
        """

    def close(self) -> None:
        """Let go of it."""


Wanted = Callable[[bytes], bool]
"""Says by a look at the bytes whether a record is worth taking apart."""


class KernelClock(msgspec.Struct, frozen=True):
    """Turns the kernel's times into times of the wall clock.

    The kernel stamps its log with a clock of its own, which is not disciplined: in weeks it goes
    wrong by minutes.
    """

    boot_ns: int
    """Wall clock when the monotonic clock stood at zero."""
    drift_ns: int = 0
    """Monotonic clock minus that of the log."""

    def time_ns(self, record: Record) -> int:
        """Wall-clock time of a record; no two records have the same."""
        if record.taken_usec is not None:
            return self.boot_ns + record.taken_usec * 1000 + record.order
        return self.boot_ns + self.drift_ns + record.usec * 1000 + record.order

    def corrected(
        self, wall_ns: int, monotonic_ns: int, just_written: Record | None
    ) -> "KernelClock":
        """The same clock, set right where it is off by more than a second.

        `just_written` is a record that was waited for, so that its time is now.
        """
        boot_ns, drift_ns = wall_ns - monotonic_ns, self.drift_ns
        if just_written is not None and just_written.taken_usec is None:
            drift_ns = monotonic_ns - just_written.usec * 1000
        return KernelClock(
            boot_ns if abs(boot_ns - self.boot_ns) > NEW_CLOCK_NS else self.boot_ns,
            drift_ns if abs(drift_ns - self.drift_ns) > NEW_CLOCK_NS else self.drift_ns,
        )


def boot_id(path: Path = BOOT_ID) -> str:
    """Name of this boot; one of its own where the kernel does not give it."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return f"unknown since {time.time_ns()}"
