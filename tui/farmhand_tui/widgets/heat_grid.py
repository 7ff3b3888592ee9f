"""The farm at a glance: a cell for each card, racks side by side."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from rich.cells import cell_len
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ..escape import pad
from ..farm import SEVERITY, Change, Farm
from ..metrics import METRICS, Metric, Shown
from ..palette import CURSOR_CELL, DIM, FAINT, PLAIN, STRONG, Look, state_look
from ..rack_layout import PITCH_WITHOUT_GAP, Label, RackLayout, Spot, lay_out
from .lines import Piece, strip, width_of

MOST_CHANGED = 0.08
"""Above this share of changed cells, one full refresh sends fewer bytes than many small ones."""


class HeatGrid(ScrollView, can_focus=True):
    """One cell a card, coloured by the metric that is shown; a cursor walks over them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open card"),
        Binding("v", "metric(1)", "next metric"),
        Binding("V", "metric(-1)", "previous metric", show=False),
        Binding("n", "flagged(1)", "next flagged"),
        Binding("N", "flagged(-1)", "previous flagged", show=False),
        Binding("left,h", "step(-1)", "previous card", show=False),
        Binding("right,l", "step(1)", "next card", show=False),
        Binding("up,k", "line(-1)", "card above", show=False),
        Binding("down,j", "line(1)", "card below", show=False),
        Binding("pageup,ctrl+u", "page(-1)", "page up", show=False),
        Binding("pagedown,ctrl+d", "page(1)", "page down", show=False),
        Binding("home,g", "end(0)", "first card", show=False),
        Binding("end,G", "end(-1)", "last card", show=False),
    ]

    class Opened(Message):
        """A card is to be opened."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class Moved(Message):
        """The cursor is on another card, or shows another metric."""

    def __init__(self, farm: Farm) -> None:
        super().__init__(id="farm")
        self._farm = farm
        self._metric = 0
        self._layout = RackLayout()
        self._cursor_key = ""
        self._matching: frozenset[int] | None = None
        self._shown: dict[int, Shown] = {}
        self._laid_out_for = Size(0, 0)

    @property
    def metric(self) -> Metric:
        """The metric that is shown."""
        return METRICS[self._metric]

    @property
    def cursor_row(self) -> int | None:
        """The card under the cursor."""
        row = self._farm.rows.get(self._cursor_key)
        if row is None and self._layout.sequence:
            return self._layout.sequence[0]
        return row

    def show(self, change: Change, matching: frozenset[int] | None) -> None:
        """Draw what changed; cards outside `matching`, if given, step back."""
        if change.layout or len(self._layout.sequence) != len(self._farm):
            self._matching = matching
            self._lay_out()
        elif matching != self._matching:
            self._matching = matching
            self._redraw()
        else:
            self._refresh_rows(change.rows)

    def on_resize(self, _event: events.Resize) -> None:
        """Lay out anew for another size."""
        if self.size != self._laid_out_for:
            self._lay_out()

    def render_line(self, y: int) -> Strip:
        """Draw one line of the visible part."""
        line = y + self.scroll_offset.y
        width = self.size.width
        if line >= self._layout.height:
            return strip((), width)
        labels, cells = self._layout.lines[line]
        items = [*((label.x, self._label(label)) for label in labels)]
        items += [(x, self._cell(row)) for x, row in cells]
        return strip(_spaced(sorted(items, key=lambda item: item[0])), width)

    def action_open(self) -> None:
        """Open the card under the cursor."""
        if self.cursor_row is not None:
            self.post_message(self.Opened(self._farm.columns["key"][self.cursor_row]))

    def action_metric(self, step: int) -> None:
        """Show another metric."""
        self._metric = (self._metric + step) % len(METRICS)
        self._redraw()
        self.post_message(self.Moved())

    def action_flagged(self, step: int) -> None:
        """Go to the next flagged card that the filter lets through."""
        sequence = self._layout.sequence
        here = self._position()
        for distance in range(1, len(sequence) + 1):
            row = sequence[(here + step * distance) % len(sequence)]
            if self._farm.flagged(row) and self._matches(row):
                self._go(row)
                return
        self.app.notify("no card is flagged", markup=False)

    def action_step(self, step: int) -> None:
        """Go to the card before or after, over ends of lines too."""
        self._go_to(self._position() + step)

    def action_end(self, position: int) -> None:
        """Go to the first or the last card."""
        self._go_to(position % max(1, len(self._layout.sequence)))

    def action_line(self, step: int) -> None:
        """Go to the nearest card in the next line that has cards."""
        spot = self._spot()
        if spot is None:
            return
        line = spot.y + step
        while 0 <= line < self._layout.height:
            cells = self._layout.lines[line][1]
            if cells:
                self._go(min(cells, key=lambda cell: abs(cell[0] - spot.x))[1])
                return
            line += step

    def action_page(self, step: int) -> None:
        """Go by about the height of the screen."""
        for _ in range(max(1, self.size.height - 2)):
            self.action_line(step)

    def _lay_out(self) -> None:
        self._layout = lay_out(self._farm, self.size.width - 1, self.size.height)
        self._laid_out_for = self.size
        self.virtual_size = Size(self.size.width, self._layout.height)
        self._redraw()

    def _redraw(self) -> None:
        self._shown.clear()
        self.refresh()

    def _refresh_rows(self, rows: Iterable[int]) -> None:
        changed = [row for row in self._visible(rows) if self._differs(row)]
        if len(changed) > MOST_CHANGED * max(1, len(self._shown)):
            self._redraw()
            return
        for row in changed:
            self._refresh_cell(row)

    def _visible(self, rows: Iterable[int]) -> Iterator[int]:
        top = self.scroll_offset.y
        bottom = top + self.size.height
        return (row for row in rows if top <= self._layout.spots[row].y < bottom)

    def _differs(self, row: int) -> bool:
        before, now = self._shown.get(row), self.metric.shown(self._farm, row)
        if before is not None and self._layout.pitch <= PITCH_WITHOUT_GAP:
            return before.look is not now.look
        return before != now

    def _refresh_cell(self, row: int | None) -> None:
        if row is not None and row in self._layout.spots:
            x, y = self._layout.spots[row]
            self.refresh(Region(x, y - self.scroll_offset.y, self._layout.pitch, 1))

    def _label(self, label: Label) -> list[Piece]:
        worst = max((self._farm.columns["state"][row] for row in label.rows), key=_severity)
        flagged = sum(map(self._farm.flagged, label.rows))
        look = state_look(worst)
        wider = self._farm.wider_states.get(("rack" if label.rack else "node", label.name))
        if not label.rack:
            return [*self._node(label, look if flagged else None, wider)]
        count: list[Piece] = [(f" {flagged}{look.glyph}", look.text)] if flagged else []
        if wider is not None:
            about = state_look(wider)
            count.append((f" {about.glyph} rack {wider}", about.text))
        title: list[Piece] = [(label.text + " ", STRONG)]
        width = self._layout.block_width - (self._layout.pitch > PITCH_WITHOUT_GAP)
        rule = width - width_of(title + count)
        return [*title, ("─" * max(0, rule), FAINT), *count]

    def _node(self, label: Label, look: Look | None, wider: str | None) -> list[Piece]:
        """Return a node's name, with the glyph of a finding about the node itself behind it."""
        if wider is not None:
            look = state_look(wider)
        name = pad(label.text, self._layout.label_width)
        glyph = " " if wider is None or look is None else look.glyph
        return [(name + glyph, DIM if look is None else look.text)]

    def _cell(self, row: int) -> list[Piece]:
        shown = self._shown[row] = self.metric.shown(self._farm, row)
        style = shown.look.cell
        if not self._matches(row):
            style = FAINT
        chosen = row == self.cursor_row
        if chosen:
            style = CURSOR_CELL
        return _cell_pieces(shown, style, self._layout.pitch, chosen=chosen)

    def _matches(self, row: int) -> bool:
        return self._matching is None or row in self._matching

    def _spot(self) -> Spot | None:
        row = self.cursor_row
        return None if row is None else self._layout.spots.get(row)

    def _position(self) -> int:
        row = self.cursor_row
        return 0 if row is None else self._layout.sequence.index(row)

    def _go_to(self, position: int) -> None:
        if 0 <= position < len(self._layout.sequence):
            self._go(self._layout.sequence[position])

    def _go(self, row: int) -> None:
        self._refresh_cell(self.cursor_row)
        self._cursor_key = self._farm.columns["key"][row]
        self._refresh_cell(row)
        x, y = self._layout.spots[row]
        self.scroll_to_region(Region(x, y, 1, 1), animate=False, x_axis=False)
        self.post_message(self.Moved())


def _severity(state: str) -> int:
    return SEVERITY.get(state, 1)


def _cell_pieces(shown: Shown, style: Style, pitch: int, *, chosen: bool) -> list[Piece]:
    glyph = shown.look.glyph
    if pitch == 1:
        return [(glyph, style)]
    if pitch == 2:
        return [(("►" if chosen else " ") + glyph, style)]
    body = f"{shown.text:>3}" if shown.text else f"  {glyph}"
    return [(pad(body, 4), style), (" ", PLAIN)]


def _spaced(items: Iterable[tuple[int, list[Piece]]]) -> Iterator[Piece]:
    """Pieces at their places, with spaces between."""
    at = 0
    for x, pieces in items:
        if x > at:
            yield " " * (x - at), PLAIN
            at = x
        for text, style in pieces:
            yield text, style
            at += cell_len(text)
