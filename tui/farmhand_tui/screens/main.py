"""The three views of the farm, behind digits: cells, cards, findings."""

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import ContentSwitcher

from farmhand_collector.wire import Finding

from ..escape import safe
from ..export import write_csv
from ..farm import Change, Farm
from ..filter import Filter
from ..widgets.bars import CardLine, Hints, Keys, Legend, Tabs, keys_of
from ..widgets.card_table import CARD_COLUMNS, CardTable
from ..widgets.filter_bar import FilterBar
from ..widgets.finding_table import FindingTable
from ..widgets.heat_grid import HeatGrid
from ..widgets.pulse import Health, Pulse
from ..widgets.table import VirtualTable

VIEWS = ("farm", "cards", "findings")


class MainScreen(Screen[None]):
    """Shows one view at a time and applies the keeper's filter to all of them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash,f4", "filter", "filter"),
        Binding("1", "view('farm')", "farm", show=False),
        Binding("2", "view('cards')", "cards", show=False),
        Binding("3", "view('findings')", "findings", show=False),
        Binding("c", "copy", "copy card id", show=False),
        Binding("e", "export", "export CSV"),
        Binding("q", "app.leave", "quit"),
        Binding("escape", "clear_filter", "clear the filter", show=False),
    ]

    class CardWanted(Message):
        """A card's own screen is to be shown."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class FindingWanted(Message):
        """A finding's own screen is to be shown."""

        def __init__(self, finding: Finding) -> None:
            super().__init__()
            self.finding = finding

    def __init__(self, farm: Farm, health: Health) -> None:
        super().__init__()
        self._farm = farm
        self._health = health
        self._filter = Filter()
        self._matching: set[int] = set()
        self._grid = HeatGrid(farm)
        self._cards = CardTable(farm)
        self._findings = FindingTable(farm)
        self._tabs = Tabs(VIEWS)
        self._legend = Legend(farm, self._grid)
        self._card_line = CardLine(farm)
        self._filter_bar = FilterBar()
        self._hints = Hints()
        self.view = "farm"
        self._stale: dict[str, Change | None] = {}

    def compose(self) -> ComposeResult:
        """Lines above, the view, lines below."""
        yield Pulse(self._farm, self._health)
        yield self._tabs
        with ContentSwitcher(initial="farm", id="views"):
            yield self._grid
            yield self._cards
            yield self._findings
        yield self._legend
        yield self._card_line
        yield self._filter_bar
        yield self._hints

    def on_mount(self) -> None:
        """Begin with the farm view."""
        self._grid.focus()
        self._refresh_view()

    def farm_changed(self, change: Change) -> None:
        """Show what changed; a view that is not open takes it when it is opened."""
        if self._filter:
            self._match_again(change)
        for view in VIEWS:
            before = self._stale.get(view)
            self._stale[view] = change if before is None else _merged(before, change)
        if not self.is_mounted:
            return
        if change.layout:
            for view in VIEWS:
                self._show(view)
        if self.is_current:
            self._refresh_view()

    def on_screen_resume(self) -> None:
        """Catch up with what changed behind another screen."""
        if self.is_mounted:
            self._refresh_view()

    def action_view(self, view: str) -> None:
        """Open a view."""
        self.view = view
        self.query_one("#views", ContentSwitcher).current = view
        self._legend.display = view == "farm"
        self._widget().focus()
        self._refresh_view()

    def action_filter(self) -> None:
        """Let the filter be typed."""
        self._filter_bar.open(self._filter.text)

    def action_clear_filter(self) -> None:
        """Show every card again."""
        self._filter_bar.close()
        self._take_filter(Filter())

    def action_copy(self) -> None:
        """Copy the id of the card under the cursor by OSC 52."""
        row = self._card_row()
        if row is None:
            self.app.notify("no card is under the cursor", severity="warning", markup=False)
            return
        card = self._farm.text("card", row)
        self.app.copy_to_clipboard(card)
        self.app.notify(f"copied {card}", markup=False)

    def action_export(self) -> None:
        """Write the visible table as CSV into the current folder."""
        try:
            path = self._export(Path.cwd())
        except OSError as error:
            what = f"not written: {safe(error.strerror or str(error))}"
            self.app.notify(what, severity="error", markup=False)
            return
        self.app.notify(f"wrote {safe(str(path))}", markup=False)

    def on_filter_bar_changed(self, message: FilterBar.Changed) -> None:
        """Apply the filter while it is typed."""
        self._take_filter(message.filter)

    def on_filter_bar_closed(self, message: FilterBar.Closed) -> None:
        """Go back to the view."""
        if not message.keep:
            self._take_filter(Filter())
        self._widget().focus()

    def on_heat_grid_opened(self, message: HeatGrid.Opened) -> None:
        """Open the card."""
        self.post_message(self.CardWanted(message.key))

    def on_heat_grid_moved(self) -> None:
        """Tell of the card under the cursor."""
        self._say_around()

    def on_virtual_table_moved(self) -> None:
        """Tell of the row under the cursor."""
        self._say_around()

    def on_virtual_table_opened(self, message: VirtualTable.Opened) -> None:
        """Open the card, or what a finding says to do."""
        finding = self._findings.finding(message.key)
        if message.table is self._cards:
            self.post_message(self.CardWanted(str(message.key)))
        elif finding is not None and finding.scope == "card" and finding.key in self._farm.rows:
            self.post_message(self.CardWanted(finding.key))
        elif finding is not None:
            self.post_message(self.FindingWanted(finding))

    def findings_changed(self) -> None:
        """Show other findings."""
        self._findings.show(self._filter)
        self._grid.refresh()
        self._say_around()

    def _widget(self) -> HeatGrid | CardTable | FindingTable:
        if self.view == "farm":
            return self._grid
        return self._cards if self.view == "cards" else self._findings

    def _take_filter(self, chosen: Filter) -> None:
        if chosen == self._filter:
            return
        self._filter = chosen
        rows = range(len(self._farm))
        self._matching = {row for row in rows if chosen.matches(self._farm.row(row))}
        nothing = Change(frozenset(), layout=False)
        self._stale = {view: self._stale.get(view) or nothing for view in VIEWS}
        self._findings.show(chosen)
        self._refresh_view()

    def _match_again(self, change: Change) -> None:
        if change.layout:
            self._matching.clear()
        for row in change.rows:
            if self._filter.matches(self._farm.row(row)):
                self._matching.add(row)
            else:
                self._matching.discard(row)

    def _refresh_view(self) -> None:
        self._show(self.view)
        self._say_around()

    def _show(self, view: str) -> None:
        """Let a view draw what it has not drawn yet."""
        change = self._stale.pop(view, None)
        if change is None:
            return
        if view == "farm":
            self._grid.show(change, self._chosen_rows())
        elif view == "cards":
            self._cards.show(change, self._chosen_rows())
        else:
            self._findings.refresh_rows(self._findings.order)

    def _say_around(self) -> None:
        """Bring all the lines around the view up to date."""
        self._legend.refresh()
        self._say_cursor()
        counts = ("", str(len(self._farm)), str(len(self._farm.findings)))
        self._tabs.show(VIEWS.index(self.view), counts, self._note())
        self._hints.show(self.keys())

    def keys(self) -> list[Keys]:
        """Return the keys of this view, those of the open widget first."""
        widget = self._widget()
        bases = [vars(kind).get("BINDINGS", ()) for kind in type(widget).__mro__]
        return keys_of(*bases[:3], self.BINDINGS, self.app.BINDINGS)

    def _note(self) -> str:
        notes = []
        if self._filter:
            notes.append(
                f"/{safe(self._filter.text, 40)} {len(self._matching)} of {len(self._farm)}"
            )
        if self.view == "farm":
            notes.append(f"showing {self._grid.metric.name}")
        elif self.view == "cards" and self._cards.sorted_by is not None:
            index, descending = self._cards.sorted_by
            column = f"by {CARD_COLUMNS[index].title} {'▼' if descending else '▲'}"
            notes.append("worst first" if self._cards.worst_first else column)
        return "  ".join(notes)

    def _say_cursor(self) -> None:
        finding = self._findings.cursor_row
        if self.view != "findings":
            self._card_line.show(self._card_row())
        elif finding is not None and finding < len(self._farm.findings):
            steps = self._farm.findings[finding].steps
            self._card_line.say(safe("  ".join(steps)) or "no step is known; look at the evidence")
        else:
            self._card_line.show(None)

    def _card_row(self) -> int | None:
        widget = self._widget()
        if isinstance(widget, FindingTable):
            row = widget.cursor_row
            return None if row is None else self._farm.rows.get(self._farm.findings[row].key)
        return widget.cursor_row

    def _export(self, folder: Path) -> Path:
        if self.view == "findings":
            table: VirtualTable = self._findings
        else:
            table = self._cards
            if self.view != "cards":
                self._cards.show(Change(frozenset(), layout=True), self._chosen_rows())
        titles = [column.title for column in table.table_columns]
        rows = [[*(cell.text for cell in table.cells(row))] for row in table.order]
        if table is self._findings:
            return write_csv(folder, "findings", titles[1:], (row[1:] for row in rows))
        cards = (self._farm.columns["card"][row] for row in table.order)
        with_ids = ([*row[1:], card] for row, card in zip(rows, cards, strict=True))
        return write_csv(folder, "cards", [*titles[1:], "card"], with_ids)

    def _chosen_rows(self) -> frozenset[int] | None:
        return frozenset(self._matching) if self._filter else None


def _merged(before: Change, after: Change) -> Change:
    if after.layout:
        return after
    return Change(before.rows | after.rows, before.layout)
