"""The progress word: shared memory by which a parent sees what a reader child is doing.

A call into a vendor library may never return, so the child cannot tell of it. It writes the card
and the call here before it makes it; the parent looks when a window is late or the child is gone.
"""

import mmap
import os
import struct
import time
from typing import NamedTuple

_LAYOUT = struct.Struct("<d128s64s")


class Doing(NamedTuple):
    """What the child does: since when (monotonic clock), for which slot, in which call.

    No call means that it is between calls; no slot, that the call concerns the driver as a whole.
    """

    started: float
    slot: str
    call: str


class Progress:
    """One word of shared memory, written by the child and read by the parent."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, _LAYOUT.size)

    @classmethod
    def create(cls) -> "Progress":
        """A new word; its `fd` is to be passed to the child."""
        fd = os.memfd_create("farmhand-progress")
        os.ftruncate(fd, _LAYOUT.size)
        return cls(fd)

    def enter(self, slot: str, call: str) -> None:
        """Say that a call is about to be made."""
        _LAYOUT.pack_into(
            self._memory, 0, time.monotonic(), slot.encode()[:128], call.encode()[:64]
        )

    def idle(self) -> None:
        """Say that no call is being made."""
        self.enter("", "")

    def read(self) -> Doing:
        """What the child does now."""
        started, slot, call = _LAYOUT.unpack_from(self._memory, 0)
        return Doing(started, _text(slot), _text(call))

    def close(self) -> None:
        """Free the memory and its descriptor."""
        self._memory.close()
        os.close(self.fd)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")
