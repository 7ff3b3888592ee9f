"""What the watch over events must not forget: how far it has read, and what it has not told yet."""

import contextlib
import logging
import os
from pathlib import Path

import msgspec

from farmhand_agent.events.fold import Fold, Tally
from farmhand_agent.reading import Reading
from farmhand_agent.sources.kernel.nvrm import Heard
from farmhand_agent.sources.kernel.record import KernelClock, Position

log = logging.getLogger(__name__)


class Memory(msgspec.Struct):
    """All that is known of one boot."""

    boot: str
    position: Position = Position()
    clock: KernelClock | None = None
    heard: Heard = msgspec.field(default_factory=Heard)
    fold: Fold = msgspec.field(default_factory=Fold)
    tally: Tally = msgspec.field(default_factory=Tally)
    unsent: list[Reading] = []
    """Events that may not have reached the spool: sent again after a start, nothing is doubled."""


class MemoryFile:
    """Keeps the memory in a file, each time as a whole.

    A file that cannot be written costs what would be remembered over a restart, nothing else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._trouble = ""

    def load(self) -> Memory | None:
        """The memory as it was saved; None where there is none or it cannot be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Memory)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s: cannot be used, starting a new one: %s", self._path, error)
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_suffix(".unreadable"))
            return None

    def save(self, memory: Memory) -> None:
        """Keep the memory; it is on disk when this returns, or the log says once why not."""
        try:
            self._write(msgspec.json.encode(memory))
        except OSError as error:
            if self._trouble != str(error):
                log.warning("%s: cannot be saved: %s", self._path, error.strerror)
            self._trouble = str(error)
        else:
            self._trouble = ""

    def _write(self, data: bytes) -> None:
        beside = self._path.with_suffix(".new")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
