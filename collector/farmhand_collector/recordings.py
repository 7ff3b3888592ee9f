"""Recordings: files of line protocol, read as if they had been recorded into one."""

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from farmhand_agent.reading import LineError, Reading, parse_line
from farmhand_agent.settings import ConfigError

LATEST_NS = 4_102_444_800 * 10**9
"""2100: a later time is no time, and arithmetic on it would overflow."""
MOST_BAD_SHARE = 0.1
"""A good file has a torn line here and there; with more bad ones it is something else."""
ENOUGH_LINES = 1000
"""So many lines say whether it is a good file: nobody waits for the end of a bad one."""


class LeftOut(NamedTuple):
    """Lines of a good file that were passed over, and what is wrong with the first of them."""

    path: Path
    lines: int
    first: int
    reason: str

    def __str__(self) -> str:
        lines = "1 line" if self.lines == 1 else f"{self.lines} lines"
        return f"{self.path}: {lines} left out; line {self.first}: {self.reason}"


class Recordings:
    """Files to be read once; what was left out is known when all is read."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [_File(path) for path in paths]

    def readings(self) -> Iterator[Reading]:
        """Within a file the order stays; files of the same time are read side by side.

        Raises:
            ConfigError: a file cannot be read or is not line protocol; the message names file
                and line.
        """
        timed = heapq.merge(*map(_with_time, self._files), key=lambda pair: pair[0])
        return (reading for _, reading in timed)

    def left_out(self) -> list[LeftOut]:
        """What was passed over, file by file."""
        return [
            LeftOut(file.path, file.bad, *file.first_bad) for file in self._files if file.first_bad
        ]


class _File:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.good = self.bad = 0
        self.first_bad: tuple[int, str] | None = None

    def readings(self) -> Iterator[Reading]:
        try:
            with self.path.open(encoding="utf-8", errors="strict") as file:
                for number, line in enumerate(file, start=1):
                    text = line.rstrip("\r\n")
                    if text and not text.isspace() and not text.startswith("#"):
                        yield from self._parsed(number, text)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{self.path}: not UTF-8 text, expected line protocol") from None
        self._check()

    def _parsed(self, number: int, text: str) -> Iterator[Reading]:
        try:
            reading = parse_line(text)
            if not 0 < reading.time_ns < LATEST_NS:
                raise LineError(f"time {reading.time_ns}, expected nanoseconds since 1970")
        except LineError as error:
            self.bad += 1
            self.first_bad = self.first_bad or (number, str(error))
            if self.good + self.bad >= ENOUGH_LINES:
                self._check()
        else:
            self.good += 1
            yield reading

    def _check(self) -> None:
        if self.first_bad is None or self.bad <= MOST_BAD_SHARE * (self.good + self.bad):
            return
        line, reason = self.first_bad
        rest = f" ({self.bad} of {self.good + self.bad} lines are bad)" if self.bad > 1 else ""
        raise ConfigError(f"{self.path}: line {line}: {reason}{rest}")


def _with_time(file: _File) -> Iterator[tuple[int, Reading]]:
    """Readings of a file, each with the newest time up to it."""
    newest = 0
    for reading in file.readings():
        newest = max(newest, reading.time_ns)
        yield newest, reading
