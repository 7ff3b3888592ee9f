"""The kernel log from `/dev/kmsg`, opened here or lent by the door."""

import errno
import logging
import os
import re
import socket
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from farmhand_agent.sources.kernel.record import (
    Chunk,
    LogEnded,
    NoLog,
    Position,
    Record,
    Wanted,
)

log = logging.getLogger(__name__)

KMSG = Path("/dev/kmsg")
DOOR = Path("/run/farmhand/kernel-log.socket")
"""Where the door listens; see `farmhand_agent.kmsg_door`."""
DOOR_SECONDS = 3.0

_RECORD_BYTES = 16 * 1024
_RECORDS_AT_ONCE = 2000


class KmsgLog:
    """Reads a descriptor of `/dev/kmsg`, non-blocking, one record a read."""

    due = None
    pid = None

    def __init__(self, fd: int, how: str, after: Position, wanted: Wanted) -> None:
        self.how = how
        self.lost = 0
        self._fd = fd
        self._after = after
        self._wanted = wanted
        self._seq: int | None = None

    def fileno(self) -> int:
        """See `Log`."""
        return self._fd

    def read(self) -> Chunk:
        """See `Log`."""
        wanted: list[bytes] = []
        last, count, drained = b"", 0, False
        while count < _RECORDS_AT_ONCE and not drained:
            try:
                raw = self._next()
            except BlockingIOError:
                drained = True
            except LogEnded:
                if not count:
                    raise
                break
            else:
                last = raw
                count += 1
                # Only these are taken apart: there may be thousands of others a second.
                if self._wanted(raw):
                    wanted.append(raw)
        self._count(last, count)
        return Chunk([record for raw in wanted for record in self._taken(raw)], drained)

    def _next(self) -> bytes:
        while True:
            try:
                raw = os.read(self._fd, _RECORD_BYTES)
            except BlockingIOError:
                raise
            except OSError as error:
                if error.errno == errno.EPIPE:
                    # Records were overwritten; the next read gives the oldest that is left.
                    continue
                raise LogEnded(f"kernel log: {error.strerror}") from None
            if not raw:
                raise LogEnded("kernel log: closed by the other end")
            return raw

    def close(self) -> None:
        """See `Log`."""
        os.close(self._fd)

    def _taken(self, raw: bytes) -> Iterator[Record]:
        head = _HEAD.match(raw)
        if head is not None and int(head["priority"]) < _FACILITY:
            record = _record(raw, head)
            if not self._after.is_past(record.position):
                yield record

    def _count(self, last: bytes, count: int) -> None:
        """Compare the number of the last record with how many were read since the one before."""
        head = _HEAD.match(last)
        if head is None:
            return
        seq = int(head["seq"])
        missed = 0 if self._seq is None else seq - self._seq - count
        if missed > 0:
            self.lost += missed
            log.warning("kernel log: %d records were overwritten before they were read", missed)
        self._seq = seq


_HEAD = re.compile(rb"(?P<priority>[0-9]{1,9}),(?P<seq>[0-9]{1,19}),(?P<usec>[0-9]{1,19}),[^;]*;")
_FACILITY = 8
"""Priorities from here on are of other facilities than the kernel's."""
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")


def _record(raw: bytes, head: re.Match[bytes]) -> Record:
    """A record of its text; what follows in further lines is about devices."""
    body = raw[head.end() :].partition(b"\n")[0]
    body = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), body)
    usec, seq = int(head["usec"]), int(head["seq"])
    return Record(body.decode(errors="replace"), usec, seq % 1000, Position(usec, seq))


def open_kmsg(path: Path = KMSG) -> int:
    """A descriptor of the kernel log.

    Raises:
        NoLog: it cannot be opened.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NoLog(f"{path}: {error.strerror}") from None


def borrow(door: Path = DOOR, seconds: float = DOOR_SECONDS) -> int:
    """A descriptor of the kernel log from the door.

    Raises:
        NoLog: nobody answers in time, or what came is not the kernel log.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(str(door))
            _, fds, _, _ = socket.recv_fds(connection, 1, 1)
    except OSError as error:
        raise NoLog(f"{door}: {error.strerror or error}") from None
    if not fds:
        raise NoLog(f"{door}: nothing was lent")
    return _checked(fds, door)


def _checked(fds: Sequence[int], door: Path) -> int:
    fd = fds[0]
    status = os.fstat(fd)
    is_kmsg = stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 11)
    if len(fds) > 1 or not is_kmsg:
        for extra in fds:
            os.close(extra)
        raise NoLog(f"{door}: what was lent is not the kernel log")
    os.set_inheritable(fd, False)
    os.set_blocking(fd, False)
    return fd
