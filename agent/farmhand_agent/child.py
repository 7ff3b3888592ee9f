"""One reader child as its parent sees it: a process, a pipe, a progress word, and patience."""

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from farmhand_agent.progress import Doing, Progress
from farmhand_agent.reader import Told

log = logging.getLogger(__name__)


class Patience(NamedTuple):
    """How long the watch waits for what."""

    stuck_seconds: float = 10.0
    """Calls about one card, one after the other, that take longer count as stuck: the others wait
    behind it. Healthy ones take milliseconds."""
    apart_seconds: float = 90.0
    """Likewise for one call about a card that was set apart: nobody waits behind it, and a card
    with failing memory may answer after 45 s."""
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

    def is_stuck(self, doing: Doing, apart: bool = False) -> bool:
        """Whether a call has taken longer than it may; `apart` in a reader of one bad card."""
        about_card = self.apart_seconds if apart else self.stuck_seconds
        limit = about_card if doing.slot else self.driver_seconds
        return bool(doing.call) and time.monotonic() - doing.started > limit


PATIENCE = Patience()


class Pace(NamedTuple):
    """How often cards are read, and where the machine's sysfs is."""

    interval_seconds: float
    sample_seconds: float
    sysfs: Path = Path("/sys")


def reader_command(vendor: str, pace: Pace) -> list[str]:
    """How a reader child of a vendor is started."""
    return [
        # -P: nothing that lies in the working directory is imported.
        *(sys.executable, "-P", "-m", "farmhand_agent.reader", vendor),
        *("--interval", repr(pace.interval_seconds), "--sample", repr(pace.sample_seconds)),
        *("--sysfs", str(pace.sysfs)),
    ]


class ReaderProcess:
    """A reader child, what it was asked to read, and when it was last heard."""

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

    def receive(self) -> list[Told] | None:
        """What arrived; None when the process has closed its end."""
        chunk = os.read(self.fd, 1 << 20)
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self.heard = time.monotonic()
        return [told for line in lines if (told := _decoded(line)) is not None]

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


_DECODER: msgspec.json.Decoder[Told] = msgspec.json.Decoder(Told)


def _decoded(line: bytes) -> Told | None:
    try:
        return _DECODER.decode(line)
    except msgspec.DecodeError as error:
        log.warning("a reader said what cannot be understood: %s", error)
        return None


def what(doing: Doing) -> str:
    """What a reader does, in words for a log."""
    if not doing.call:
        return "between calls"
    what = f"slot {doing.slot}" if doing.slot else "the driver"
    return f"in {doing.call} of {what}"
