"""A table of any length that formats only the rows on the screen."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ..escape import pad
from ..palette import ACCENT, BAR, CURSOR_LINE, GROUND, PLAIN, STRONG
from .heat_grid import MOST_CHANGED
from .lines import Piece, strip

GAP = "  "


class TableColumn(NamedTuple):
    """One column; text comes from `cell` of the table, which says the same order."""

    title: str
    width: int
    right: bool = False


class Cell(NamedTuple):
    """Text, safe to show, and its style."""

    text: str
    style: Style = PLAIN


class VirtualTable(ScrollView, can_focus=True):
    """Rows are numbers of the owner; `order` is how they stand, the cursor keeps to its key.

    The first `frozen` columns stay when the rest is moved sideways.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open"),
        Binding("up,k", "move(-1)", "row above", show=False),
        Binding("down,j", "move(1)", "row below", show=False),
        Binding("left,h", "sideways(-1)", "columns to the left", show=False),
        Binding("right,l", "sideways(1)", "columns to the right", show=False),
        Binding("pageup,ctrl+u", "page(-1)", "page up", show=False),
        Binding("pagedown,ctrl+d", "page(1)", "page down", show=False),
        Binding("home,g", "end(0)", "first row", show=False),
        Binding("end,G", "end(-1)", "last row", show=False),
    ]

    frozen = 0
    empty = "nothing to show"

    class Opened(Message):
        """A row is to be opened."""

        def __init__(self, table: "VirtualTable", key: object) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> "VirtualTable":
            """The table that the row is of."""
            return self.table

    class Moved(Message):
        """The cursor is on another row."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - named as Textual names it
        super().__init__(id=id)
        self.table_columns: Sequence[TableColumn] = ()
        self.order: list[int] = []
        self.cursor = 0
        self.follow = False
        self.sorted_by: tuple[int, bool] | None = None
        self._cursor_key: object = None
        self._drawn: dict[int, tuple[Cell, ...]] = {}

    def cells(self, row: int) -> tuple[Cell, ...]:
        """One row's cells, in the order of the columns."""
        raise NotImplementedError

    def key(self, row: int) -> object:
        """Return what the cursor keeps to when rows are sorted anew."""
        raise NotImplementedError

    @property
    def cursor_row(self) -> int | None:
        """The row under the cursor."""
        return self.order[self.cursor] if self.cursor < len(self.order) else None

    def set_order(self, order: list[int], row_of: Callable[[object], int | None]) -> None:
        """Take rows in another order; with `follow`, the cursor stays at its line of the screen."""
        line = self.cursor - self.scroll_offset.y
        self.order = order
        row = row_of(self._cursor_key)
        if self._cursor_key is not None and row is not None and row in order:
            self.cursor = order.index(row)
        self.cursor = max(0, min(self.cursor, len(order) - 1))
        self._note_cursor(keep=self.cursor == 0 and self._cursor_key is None)
        self._resize_rows()
        if self.follow:
            self.scroll_to(y=self.cursor - line, animate=False, immediate=True)
        self.redraw()

    def redraw(self) -> None:
        """Draw everything anew."""
        self._drawn.clear()
        self.refresh()

    def refresh_rows(self, rows: Iterable[int]) -> None:
        """Draw those cells of these rows that now show something else."""
        regions: list[Region] = []
        wanted = set(rows)
        for y, row in self._visible():
            if row in wanted and row in self._drawn:
                regions += self._changed_cells(y, row)
        if len(regions) > MOST_CHANGED * len(self._drawn) * max(1, len(self.table_columns)):
            self.redraw()
            return
        for region in regions:
            self.refresh(region)

    def on_resize(self, _event: events.Resize) -> None:
        """Give the last column what is left of the width."""
        self._resize_rows()
        self.redraw()

    def render_line(self, y: int) -> Strip:
        """Draw the header or one row."""
        width = self.size.width
        if y == 0:
            return self._joined(self._header(), width, BAR)
        index = self.scroll_offset.y + y - 1
        if index >= len(self.order):
            message = f"  {self.empty}" if not self.order and y == 2 else ""
            return strip([(message, PLAIN)], width)
        row = self.order[index]
        cells = self._drawn[row] = self.cells(row)
        ground = CURSOR_LINE if index == self.cursor else GROUND
        return self._joined(list(self._padded(cells)), width, ground)

    def action_open(self) -> None:
        """Open the row under the cursor."""
        if self.cursor_row is not None:
            self.post_message(self.Opened(self, self.key(self.cursor_row)))

    def action_move(self, step: int) -> None:
        """Move the cursor by rows."""
        self.move_to(self.cursor + step)

    def action_page(self, step: int) -> None:
        """Move the cursor by a screen."""
        self.move_to(self.cursor + step * max(1, self.size.height - 2))

    def action_end(self, index: int) -> None:
        """Move the cursor to the first or last row."""
        self.move_to(index % max(1, len(self.order)))

    def action_sideways(self, step: int) -> None:
        """Move the columns that are not frozen."""
        self.scroll_to(x=max(0, self.scroll_offset.x + 12 * step), animate=False)

    def move_to(self, index: int) -> None:
        """Move the cursor to a line of the table, and bring it into view."""
        before = self.cursor
        self.cursor = max(0, min(index, len(self.order) - 1))
        self._note_cursor()
        for line in (before, self.cursor):
            self.refresh(Region(0, line - self.scroll_offset.y + 1, self.size.width, 1))
        self._bring_into_view()
        self.post_message(self.Moved())

    def _bring_into_view(self) -> None:
        top, rows = self.scroll_offset.y, self.size.height - 1
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, immediate=True)
        elif self.cursor >= top + rows:
            self.scroll_to(y=self.cursor - rows + 1, animate=False, immediate=True)

    def _note_cursor(self, *, keep: bool = False) -> None:
        if not keep:
            row = self.cursor_row
            self._cursor_key = None if row is None else self.key(row)

    def _visible(self) -> Iterator[tuple[int, int]]:
        top = self.scroll_offset.y
        rows = self.order[top : top + max(0, self.size.height - 1)]
        return enumerate(rows, start=1)

    def _changed_cells(self, y: int, row: int) -> Iterator[Region]:
        before, now = self._drawn[row], self.cells(row)
        x = 0
        for index, column in enumerate(self.table_columns):
            moved = 0 if index < self.frozen else self.scroll_offset.x
            if before[index] != now[index]:
                yield Region(x - moved, y, column.width, 1)
            x += column.width + len(GAP)

    def _resize_rows(self) -> None:
        if not self.table_columns:
            return
        *fixed, last = self.table_columns
        used = sum(column.width + len(GAP) for column in fixed)
        least = 24 if len(fixed) else 1
        self.table_columns = [*fixed, last._replace(width=max(least, self.size.width - used - 1))]
        total = used + self.table_columns[-1].width
        self.virtual_size = Size(total, len(self.order) + 1)

    def _header(self) -> list[Piece]:
        pieces: list[Piece] = []
        for index, column in enumerate(self.table_columns):
            chosen = self.sorted_by is not None and self.sorted_by[0] == index
            arrow = ("▼" if self.sorted_by and self.sorted_by[1] else "▲") if chosen else ""
            title = pad(column.title, column.width, right=column.right)
            pieces.append((title, STRONG if chosen else ACCENT))
            pieces.append(((arrow + GAP)[: len(GAP)], STRONG))
        return pieces

    def _padded(self, cells: Sequence[Cell]) -> Iterator[Piece]:
        for cell, column in zip(cells, self.table_columns, strict=True):
            yield pad(cell.text, column.width, right=column.right), cell.style
            yield GAP, PLAIN

    def _joined(self, pieces: Sequence[Piece], width: int, ground: Style) -> Strip:
        """Frozen columns, then the rest from where it was moved to."""
        kept = 2 * self.frozen
        left = sum(column.width + len(GAP) for column in self.table_columns[: self.frozen])
        rest = self.virtual_size.width
        moved = strip(pieces[kept:], rest, ground).crop(self.scroll_offset.x)
        joined = Strip.join([strip(pieces[:kept], left, ground), moved])
        return joined.adjust_cell_length(width, ground).simplify()
