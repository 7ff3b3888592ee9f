"""Rows of the spool, each with its checksum, and the ring that holds them in memory."""

import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MAX_ROW_BYTES = 64 * 1024


class Row(NamedTuple):
    """One put, or a part of it: lines joined by newlines, and the boot that it was put in."""

    id: int
    boot: str
    boot_time_ns: int
    points: int
    body: bytes

    def checksum(self) -> int:
        """Sum over everything but the sum itself."""
        head = f"{self.id} {self.boot} {self.boot_time_ns} {self.points}"
        return zlib.crc32(self.body, zlib.crc32(head.encode()))


def intact(
    id_: int, boot: object, boot_time: object, points: object, crc: object, body: object
) -> Row | None:
    """Make a row of its columns, or None when a bit of them changed since it was written."""
    if not (isinstance(boot, str) and isinstance(boot_time, int) and isinstance(points, int)):
        return None
    if not isinstance(body, bytes):
        return None
    row = Row(id_, boot, boot_time, points, body)
    return row if row.checksum() == crc else None


class Selection:
    """Rows up to a limit of bytes and points; the first is taken whatever its size."""

    def __init__(self, max_bytes: int, max_points: int) -> None:
        self.rows: list[Row] = []
        self._bytes_left = max_bytes
        self._points_left = max_points
        self._full = False

    def take(self, rows: Iterable[Row]) -> None:
        """Take rows until one more would be too much."""
        for row in rows:
            self._bytes_left -= len(row.body)
            self._points_left -= row.points
            fits = self._bytes_left >= 0 and self._points_left >= 0
            self._full = self._full or bool(self.rows and not fits)
            if self._full:
                return
            self.rows.append(row)


class Ring:
    """Rows in memory, bounded; the oldest are dropped."""

    def __init__(self, cap_bytes: int) -> None:
        self._cap_bytes = cap_bytes
        self._rows: deque[Row] = deque()
        self.points = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    @property
    def first(self) -> Row:
        """The oldest row."""
        return self._rows[0]

    @property
    def last_id(self) -> int:
        """Number of the newest row; 0 when there is none."""
        return self._rows[-1].id if self._rows else 0

    def append(self, row: Row) -> None:
        """Add the newest row."""
        self._rows.append(row)
        self._count(row, 1)

    def popleft(self) -> Row:
        """Take out the oldest row."""
        row = self._rows.popleft()
        self._count(row, -1)
        return row

    def remove(self, ids: Iterable[int]) -> int:
        """Forget rows; returns how many points went."""
        before = self.points
        gone = set(ids)
        for row in [row for row in self._rows if row.id in gone]:
            self._rows.remove(row)
            self._count(row, -1)
        return before - self.points

    def shrink(self) -> int:
        """Drop the oldest rows over the cap; returns how many points went."""
        before = self.points
        while self.bytes > self._cap_bytes:
            self.popleft()
        return before - self.points

    def renumber(self, first_id: int) -> None:
        """Number the rows anew, in their order."""
        self._rows = deque(row._replace(id=first_id + n) for n, row in enumerate(self._rows))

    def _count(self, row: Row, sign: int) -> None:
        self.points += sign * row.points
        self.bytes += sign * len(row.body)
