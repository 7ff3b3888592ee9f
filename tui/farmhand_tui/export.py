"""A table on the screen as a CSV file."""

import csv
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from .escape import safe

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_CAP = 4096


def write_csv(
    folder: Path, name: str, titles: Sequence[str], rows: Iterable[Sequence[str]]
) -> Path:
    """Write `farmhand-NAME-TIME.csv` into a folder and return its path.

    Raises:
        OSError: The file cannot be written, or is there already.

    """
    path = folder / time.strftime(f"farmhand-{name}-%Y%m%d-%H%M%S.csv")
    with path.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(titles)
        writer.writerows([guarded(text) for text in row] for row in rows)
    return path


def guarded(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, and no terminal for a command."""
    shown = safe(text, _CAP)
    return f"'{shown}" if shown.startswith(_FORMULA) and shown != "-" else shown
