"""What a tier hands over: tables for people, numbers for programs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Grid:
    """A table; the first column is of words, the rest of numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> Iterator[str]:
        """Lines for a terminal."""
        yield self.title
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        for row in (self.head, *self.rows):
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            yield "  " + "  ".join(cells).rstrip()

    def markdown(self) -> Iterator[str]:
        """Lines for a page."""
        yield from (f"**{self.title}**", "")
        yield "| " + " | ".join(self.head) + " |"
        yield "|---" + "|---:" * (len(self.head) - 1) + "|"
        for row in self.rows:
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


@dataclass
class TierResult:
    """The answer of one tier."""

    name: str
    title: str
    grids: list[Grid] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    """The same for programs."""

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{self.name}: {self.title}"]
        for grid in self.grids:
            lines += ["", *grid.text()]
        lines += ["", *(f"* {note}" for note in self.notes)] if self.notes else []
        return "\n".join(lines) + "\n"

    def markdown(self) -> str:
        """For a page."""
        lines = [f"### {self.name}: {self.title}"]
        for grid in self.grids:
            lines += ["", *grid.markdown()]
        lines += ["", *(f"* {note}" for note in self.notes)] if self.notes else []
        return "\n".join(lines) + "\n"
