"""All cards as a table, worst first."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from rich.cells import cell_len
from textual.binding import Binding, BindingType

from farmhand_collector.natural import natural

from .. import numbers
from ..escape import safe
from ..farm import Change, Farm, ordered, short_model
from ..palette import DIM, PLAIN, STRONG, state_look
from .table import Cell, TableColumn, VirtualTable


class CardColumn(NamedTuple):
    """One column: what it shows, and what it sorts by; text widens it up to `width`."""

    title: str
    width: int
    text: Callable[[Farm, int], str]
    value: Callable[[Farm, int], Any]
    right: bool = True
    descending: bool = True
    source: str = ""


def _text(title: str, name: str, width: int) -> CardColumn:
    return CardColumn(
        title,
        width,
        lambda farm, row: farm.text(name, row),
        lambda farm, row: natural(farm.columns[name][row]) or None,
        right=False,
        descending=False,
        source=name,
    )


def _number(title: str, name: str, width: int, scale: float = 1.0) -> CardColumn:
    return CardColumn(
        title,
        width,
        lambda farm, row: numbers.whole(farm.number(name, row), scale),
        lambda farm, row: farm.number(name, row),
    )


def _pair(
    title: str, names: tuple[str, str], width: int, write: Callable[[Any, Any], str]
) -> CardColumn:
    first, second = names
    return CardColumn(
        title,
        width,
        lambda farm, row: write(farm.number(first, row), farm.number(second, row)),
        lambda farm, row: farm.number(first, row),
    )


STATE = 3

CARD_COLUMNS = (
    CardColumn(
        "",
        1,
        lambda farm, row: state_look(farm.columns["state"][row]).glyph,
        Farm.worst_first,
        right=False,
        descending=False,
    ),
    _text("host", "host", 20),
    _text("slot", "slot", 12),
    _text("state", "state", 9)._replace(value=Farm.worst_first),
    _text("cause", "cause", 12),
    _text("model", "model", 24)._replace(
        text=lambda farm, row: short_model(farm.text("model", row))
    ),
    _number("dlv%", "delivered", 4, 100)._replace(descending=False),
    _number("util%", "utilization_ratio", 5, 100),
    _number("MHz", "core_clock_mhz", 5)._replace(descending=False),
    _pair("W/limit", ("power_watts", "power_limit_watts"), 7, numbers.pair),
    _number("°C", "core_temperature_celsius", 3),
    _pair("mem GiB", ("memory_used_bytes", "memory_total_bytes"), 8, numbers.gibibytes),
    _number("fan%", "fan_ratio", 4, 100),
    _pair("link", ("pcie_width", "pcie_generation"), 6, lambda w, g: numbers.link(g, w))._replace(
        descending=False
    ),
    _text("reason", "reason", 200),
)


class CardTable(VirtualTable):
    """One row a card; the sort column and its direction are the keeper's."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open card"),
        Binding("less_than_sign", "sort_column(-1)", "sort column", key_display="< >"),
        Binding("greater_than_sign", "sort_column(1)", "", show=False),
        Binding("r", "reverse", "reverse"),
        Binding("F", "follow", "let the view follow the card", show=False),
    ]

    frozen = 3
    empty = "no card to show; esc clears the filter"

    def __init__(self, farm: Farm) -> None:
        super().__init__(id="cards")
        self._farm = farm
        self._sort = STATE
        self._reverse = False
        self._matching: frozenset[int] | None = None
        self._sort_values: dict[int, Any] = {}

    @property
    def worst_first(self) -> bool:
        """Whether the order is the one to begin with."""
        return self._sort == STATE and not self._reverse

    def show(self, change: Change, matching: frozenset[int] | None) -> None:
        """Draw what changed, sorted anew where the sorted column or the choice of cards did."""
        if change.layout:
            self.table_columns = [self._fitted(column) for column in CARD_COLUMNS]
        if change.layout or matching != self._matching or self._sorts_otherwise(change):
            self._matching = matching
            self._sort_rows()
        else:
            self.refresh_rows(change.rows)

    def cells(self, row: int) -> tuple[Cell, ...]:
        """One card's cells; only the verdict is in colour."""
        farm = self._farm
        look = state_look(farm.columns["state"][row])
        flagged = farm.flagged(row)
        cells = []
        for index, column in enumerate(CARD_COLUMNS):
            text = column.text(farm, row)
            if index in (0, STATE, STATE + 1):
                style = look.text
            elif text == numbers.MISSING:
                style = DIM
            else:
                style = STRONG if flagged and index == 1 else PLAIN
            cells.append(Cell(text, style))
        return tuple(cells)

    def key(self, row: int) -> object:
        """Return the card's key."""
        return self._farm.columns["key"][row]

    def action_sort_column(self, step: int) -> None:
        """Sort by a neighbouring column."""
        self._sort = (self._sort - 1 + step) % (len(CARD_COLUMNS) - 1) + 1
        self._reverse = False
        self._sort_rows()

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._reverse = not self._reverse
        self._sort_rows()

    def action_follow(self) -> None:
        """Let the view go with the card when rows are sorted anew, or stay where it is."""
        self.follow = not self.follow
        said = "the view follows the card" if self.follow else "the view stays where it is"
        self.app.notify(said, markup=False)

    def _fitted(self, column: CardColumn) -> TableColumn:
        width = column.width
        if column.source and column.source != "reason":
            texts = map(short_model, set(self._farm.columns[column.source]))
            longest = max((cell_len(safe(text, width)) for text in texts), default=0)
            width = max(len(column.title), longest)
        return TableColumn(column.title, width, column.right)

    def _sorts_otherwise(self, change: Change) -> bool:
        value = CARD_COLUMNS[self._sort].value
        return any(value(self._farm, row) != self._sort_values.get(row) for row in change.rows)

    def _sort_rows(self) -> None:
        column = CARD_COLUMNS[self._sort]
        rows = range(len(self._farm)) if self._matching is None else self._matching
        self._sort_values = {row: column.value(self._farm, row) for row in range(len(self._farm))}
        descending = column.descending is not self._reverse
        order = ordered(rows, self._sort_values.__getitem__, self._farm.rank, descending=descending)
        self.sorted_by = (self._sort, descending)
        self.set_order(order, lambda key: self._farm.rows.get(str(key)))
