"""Colours and glyphs: the brighter, the worse or the more; every level has a glyph of its own.

Luminance rises strictly with the level, so that a grey screen and any kind of colour vision keep
the order, and the glyphs (all in code page 437) say the level where there is no colour at all.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.style import Style


class Look(NamedTuple):
    """How a state or a level is drawn: its glyph, as a filled cell, and as text on the page."""

    glyph: str
    cell: Style
    text: Style


def _look(glyph: str, cell: str, ink: str, text: str, *, bold: bool = False) -> Look:
    return Look(
        glyph,
        Style(bgcolor=cell, color=ink, bold=bold or None),
        Style(color=text, bold=bold or None),
    )


PAGE = "#0e1317"

STATE_LOOKS: Mapping[str, Look] = {
    "ok": _look("·", "#17303b", "#5b8494", "#7d97a3"),
    "watch": _look("o", "#2c6b77", "#e6f5f6", "#63c3cf"),
    "degraded": _look("▼", "#c4871a", "#120c02", "#e9ae45"),
    "failing": _look("!", "#ff9c6e", "#1c0902", "#ff9c6e", bold=True),
    "lost": _look("X", "#ffdfe5", "#7a0019", "#ffc4ce", bold=True),
    "unknown": _look("?", "#2f363c", "#b3bbc1", "#98a1a8"),
}
"""From `ok` to `lost` in rising luminance; `unknown` stands apart in grey."""

LEVEL_LOOKS: Sequence[Look] = (
    _look("1", "#14294a", "#6d86ad", "#6d86ad"),
    _look("2", "#2c4165", "#9fb2cf", "#9fb2cf"),
    _look("3", "#4f5a70", "#d5dbe6", "#b9c1cf"),
    _look("4", "#777873", "#0b0b0a", "#a9aaa4"),
    _look("5", "#a1976c", "#14120a", "#bfb382"),
    _look("6", "#cdb958", "#17140a", "#d6c369"),
    _look("7", "#fbe23c", "#191603", "#fbe23c"),
)
"""Seven levels of a number, in rising luminance."""

NO_DATA = _look("-", "#191e23", "#67717a", "#67717a")
"""A card that does not give the number that is shown."""

PLAIN = Style(color="#c6d0d6")
GROUND = Style(color="#c6d0d6", bgcolor=PAGE)
DIM = Style(color="#6f7d87")
FAINT = Style(color="#39444c")
STRONG = Style(color="#f2f6f8", bold=True)
ACCENT = Style(color="#7fb7e6")
CURSOR_CELL = Style(bgcolor="#ffffff", color="#000000", bold=True)
CURSOR_LINE = Style(color="#c6d0d6", bgcolor="#26343f")
BAR = Style(color="#c6d0d6", bgcolor="#182027")
ALARM = Style(bgcolor="#ff9c6e", color="#1c0902", bold=True)
MARK = Style(bgcolor="#b48ee8", color="#150a26", bold=True)
"""Says on every screen that the farm is simulated."""


def state_look(state: str) -> Look:
    """Return the look of a state; one that is not known here is drawn as `unknown`."""
    return STATE_LOOKS.get(state, STATE_LOOKS["unknown"])
