"""Time as the agent sees it, and how this boot of the machine is told from others."""

import threading
import time
from pathlib import Path


class Clock:
    """The machine's clocks; tests bring their own."""

    def time(self) -> float:
        """Seconds of the wall clock."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()

    def boot_time_ns(self) -> int:
        """When this machine booted, by the wall clock as it stands now."""
        return boot_time_ns()

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Wait so long, or until the event is set."""
        event.wait(seconds)


def boot_time_ns() -> int:
    """When this machine booted, by its wall clock as it stands now, in nanoseconds.

    It changes only when the wall clock is set, so a difference is how far the clock was moved.
    """
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """What names this boot; where the system has no name for it, this start of the process."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"unknown since {time.time_ns()}"
