"""The kernel's small files: one that is missing or fails is a value that was not given."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST_BYTES = 16384


def text(path: Path) -> str | None:
    """The content of a file, stripped; None where it cannot be read."""
    try:
        # A third of the cost of a file object: some tens of these are read each interval.
        descriptor = os.open(path, os.O_RDONLY)
        try:
            content = os.read(descriptor, _MOST_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return content.decode("utf-8", "replace").strip()


def number(path: Path) -> float | None:
    """The whole number in a file; None where there is none."""
    content = text(path)
    try:
        return None if content is None else float(int(content))
    except ValueError:
        return None


class Listed(Generic[T]):
    """What was found in a directory; it is looked for again only when the entries changed.

    An entry that was removed and made anew under the same name is a change too.
    """

    def __init__(self, directory: Path, find: Callable[[Path], T]) -> None:
        self._directory = directory
        self._find = find
        self._entries = _entries(directory)
        self._found = find(directory)

    def now(self) -> T:
        """What is there now."""
        entries = _entries(self._directory)
        if entries != self._entries:
            self._entries, self._found = entries, self._find(self._directory)
        return self._found


def _entries(directory: Path) -> frozenset[tuple[str, int]]:
    try:
        with os.scandir(directory) as entries:
            return frozenset((entry.name, entry.inode()) for entry in entries)
    except OSError:
        return frozenset()
