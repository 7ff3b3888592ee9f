"""Lines of styled text, the stuff that all our widgets draw with."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from ..palette import GROUND, PLAIN

Piece = tuple[str, Style]
"""Text that is safe to show, with its style; without a style NO_COLOR would break the screen."""


_text = itemgetter(0)


def strip(pieces: Iterable[Piece], width: int, ground: Style = GROUND) -> Strip:
    """Pieces as one line of exactly `width` cells on `ground`, neighbours of one style joined."""
    runs = groupby((piece for piece in pieces if piece[0]), key=itemgetter(1))
    segments = [Segment("".join(map(_text, run)), ground + style) for style, run in runs]
    return Strip(segments).adjust_cell_length(width, ground).simplify()


def width_of(pieces: Iterable[Piece]) -> int:
    """Cells that the pieces take."""
    return sum(cell_len(text) for text, _ in pieces)


def spread(left: Sequence[Piece], right: Sequence[Piece], width: int) -> list[Piece]:
    """`left` and `right` at the two ends of a line; where both do not fit, `left` is cut."""
    room = max(0, width - width_of(right))
    kept: list[Piece] = []
    for text, style in left:
        cut = text
        while cell_len(cut) > room:
            cut = cut[:-1]
        kept.append((cut, style))
        room -= cell_len(cut)
        if cut != text:
            break
    return [*kept, (" " * room, PLAIN), *right]


class LineWidget(Widget):
    """A widget of a few lines that draws itself from pieces."""

    ground: Style = GROUND

    def pieces(self, width: int) -> Sequence[Sequence[Piece]]:
        """Return the lines to show, from the top."""
        raise NotImplementedError

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        width = self.size.width
        lines = self.pieces(width)
        return strip(lines[y] if y < len(lines) else (), width, self.ground)
