"""The progress word: shared memory by which a parent sees what a reader child is doing.

A call into a vendor library may never return, so the child cannot tell of it. It writes the card
and the call here before it makes it; the parent looks when a window is late or the child is gone.
"""

import faulthandler
import mmap
import os
import struct
import time
from typing import NamedTuple

_COUNT = struct.Struct("<Q")
_WORD = struct.Struct("<d512s64s")
_END = _COUNT.size + _WORD.size
_SIZE = _END + _COUNT.size
_READS = 100
_REPORT_BYTES = 1 << 16


class Doing(NamedTuple):
    """What the child does: since when (monotonic clock), for which slot, in which call.

    No call means that it is between calls; no slot, that the call concerns the driver as a whole.
    """

    started: float
    slot: str
    call: str


class Progress:
    """One word of shared memory, written by the child and read by the parent.

    A count stands before and behind it: they are equal while nothing is being written. Half of a
    word could pair a call with the time of another one, and look like a call that is stuck.

    With `by_slot`, calls about one slot that follow each other count as one that goes on.

    Behind the word there is room for the child's last words, should it crash.
    """

    def __init__(self, fd: int, *, by_slot: bool = False) -> None:
        self.fd = fd
        self._by_slot = by_slot
        self._slot, self._started = "", 0.0
        self._memory = mmap.mmap(fd, _SIZE)
        self._written = 0

    @classmethod
    def create(cls) -> "Progress":
        """A new word; its `fd` is to be passed to the child."""
        fd = os.memfd_create("farmhand-progress")
        os.ftruncate(fd, _SIZE)
        # What the child appends goes behind the word.
        os.lseek(fd, _SIZE, os.SEEK_SET)
        return cls(fd)

    def report_crashes(self) -> None:
        """In the child: leave word of where it was, should a library crash it."""
        faulthandler.enable(self.fd, all_threads=False)

    def crashed_beside(self) -> bool:
        """Whether the child crashed in a thread beside the one whose calls are told here."""
        return b"threading.py" in os.pread(self.fd, _REPORT_BYTES, _SIZE)

    def enter(self, slot: str, call: str) -> None:
        """Say that a call is about to be made."""
        if not (self._by_slot and slot and slot == self._slot):
            self._slot, self._started = slot, time.monotonic()
        self._written += 1
        _COUNT.pack_into(self._memory, 0, self._written)
        _WORD.pack_into(
            self._memory, _COUNT.size, self._started, slot.encode()[:512], call.encode()[:64]
        )
        _COUNT.pack_into(self._memory, _END, self._written)

    def idle(self) -> None:
        """Say that no call is being made."""
        self.enter("", "")

    def read(self) -> Doing:
        """What the child does now; a child that ended while it wrote was between calls."""
        for _ in range(_READS):
            (behind,) = _COUNT.unpack_from(self._memory, _END)
            started, slot, call = _WORD.unpack_from(self._memory, _COUNT.size)
            (before,) = _COUNT.unpack_from(self._memory, 0)
            if before == behind:
                return Doing(started, _text(slot), _text(call))
        return Doing(time.monotonic(), "", "")

    def close(self) -> None:
        """Free the memory and its descriptor."""
        self._memory.close()
        os.close(self.fd)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")
