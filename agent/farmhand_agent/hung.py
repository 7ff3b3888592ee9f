"""Readers that not even SIGKILL ended, remembered for the agent that starts after this one.

A process that sleeps in the kernel outlives its agent. Whoever starts anew and probes the same
card leaves one more of them behind, each time.
"""

import logging
from pathlib import Path

import msgspec
import psutil

log = logging.getLogger(__name__)


class HungReader(msgspec.Struct, frozen=True):
    """A reader process, and the slot that it hangs in; None for the driver as a whole."""

    pid: int
    started: float
    slot: str | None

    @property
    def is_there(self) -> bool:
        """Whether the process still hangs, and its number was not given to another one."""
        try:
            return psutil.Process(self.pid).create_time() == self.started
        except psutil.Error:
            return False


class HungReaders:
    """A file with the readers of one vendor that hang; where it cannot be kept, they are lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._readers = [reader for reader in self._load() if reader.is_there]

    def add(self, pid: int, slot: str | None) -> None:
        """Remember a reader that does not end."""
        try:
            started = psutil.Process(pid).create_time()
        except psutil.Error:
            return
        kept = [reader for reader in self._readers if reader.is_there]
        self._readers = [*kept, HungReader(pid, started, slot)]
        self._save()

    def slots(self) -> set[str | None]:
        """Slots that one still hangs in; None among them for the driver as a whole."""
        self._readers = [reader for reader in self._readers if reader.is_there]
        return {reader.slot for reader in self._readers}

    def _load(self) -> list[HungReader]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[HungReader])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s: cannot be read, so it starts empty: %s", self._path, error)
            return []

    def _save(self) -> None:
        # No sync: what is lost with the power is lost with its processes.
        half = self._path.with_suffix(".new")
        try:
            half.write_bytes(msgspec.json.encode(self._readers))
            half.replace(self._path)
        except OSError as error:
            log.warning("%s: cannot be written: %s", self._path, error.strerror)
