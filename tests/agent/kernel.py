"""A stand-in for the kernel's log device: what is written to it is read record by record."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _can_open(path: str) -> bool:
    """Whether this process may; the file's mode alone does not say it."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


HAS_REAL_LOG = _can_open("/dev/kmsg")


class Kernel:
    """Writes records as the kernel does; a pipe in packet mode keeps their boundaries."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_DIRECT | os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.fcntl(self._write, fcntl.F_SETPIPE_SZ, 2**20)
        self.seq = 0

    @property
    def device(self) -> Path:
        """What to open instead of `/dev/kmsg`."""
        return Path(f"/proc/self/fd/{self._read}")

    def fd(self) -> int:
        """A descriptor of the device, open for reading."""
        return os.open(self.device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def say(self, text: str, usec: int = 1_000_000, priority: int = 3) -> None:
        """Write a record, with what is not printable as the kernel escapes it."""
        escaped = "".join(
            chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02x}"
            for byte in text.encode()
        )
        self.raw(f"{priority},{self.seq},{usec},-;{escaped}\n".encode())

    def raw(self, record: bytes) -> None:
        """Write bytes as one record."""
        os.write(self._write, record)
        self.seq += 1

    def hang_up(self) -> None:
        """Close the writing end."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def close(self) -> None:
        """Close both ends."""
        self.hang_up()
        os.close(self._read)


@contextmanager
def kernel_log() -> Iterator[Kernel]:
    """A kernel whose log lasts as long as the context."""
    kernel = Kernel()
    try:
        yield kernel
    finally:
        kernel.close()
