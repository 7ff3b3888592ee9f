"""Everything that is said against cards, nodes, racks, batches and jobs, worst first."""

from rich.cells import cell_len

from farmhand_collector.wire import Finding

from .. import numbers
from ..escape import safe
from ..farm import Farm
from ..filter import Filter
from ..palette import DIM, PLAIN, STRONG, state_look
from .table import Cell, TableColumn, VirtualTable

_TITLES = ("", "state", "scope", "place", "action", "age", "what is wrong")
_CAPS = (1, 9, 8, 34, 20, 7, 200)
_NOTHING = "no finding: nothing is said against any card"
_FILTERED = "no finding matches; esc clears the filter"


class FindingTable(VirtualTable):
    """One row a finding, in the order of the collector."""

    frozen = 2

    def __init__(self, farm: Farm) -> None:
        super().__init__(id="findings")
        self._farm = farm

    def show(self, chosen: Filter) -> None:
        """Draw the findings that the filter lets through."""
        self.empty = _FILTERED if chosen else _NOTHING
        findings = self._farm.findings
        rows = [index for index in range(len(findings)) if chosen.matches(self._fields(index))]
        texts = [_TITLES, *(tuple(c.text for c in self.cells(row)) for row in rows)]
        widths = [
            min(cap, max(cell_len(text) for text in column))
            for cap, column in zip(_CAPS, zip(*texts, strict=True), strict=True)
        ]
        self.table_columns = [
            TableColumn(title, max(1, width), right=title == "age")
            for title, width in zip(_TITLES, widths, strict=True)
        ]
        keys = {self.key(row): row for row in rows}
        self.set_order(rows, keys.get)

    def cells(self, row: int) -> tuple[Cell, ...]:
        """One finding's cells."""
        finding = self._farm.findings[row]
        look = state_look(finding.state)
        now = self._farm.time
        since = numbers.MISSING if now is None else numbers.age(now - finding.since)
        return (
            Cell(look.glyph, look.text),
            Cell(safe(finding.state), look.text),
            Cell(safe(finding.scope), STRONG if finding.scope != "card" else PLAIN),
            Cell(safe(finding.place), PLAIN),
            Cell(safe(finding.action or numbers.MISSING), PLAIN if finding.action else DIM),
            Cell(since, DIM),
            Cell(safe(finding.text), PLAIN),
        )

    def key(self, row: int) -> object:
        """Return what the finding is about and what it says."""
        finding = self._farm.findings[row]
        return finding.scope, finding.key, finding.finding

    def finding(self, key: object) -> Finding | None:
        """Return the finding with this key, unless it went meanwhile."""
        found = (row for row in range(len(self._farm.findings)) if self.key(row) == key)
        return next((self._farm.findings[row] for row in found), None)

    def _fields(self, row: int) -> dict[str, object]:
        """Return what a filter may look at: a card's own row, or the words of a wider finding."""
        finding = self._farm.findings[row]
        card = self._farm.rows.get(finding.key) if finding.scope == "card" else None
        if card is not None:
            return self._farm.row(card)
        return {
            "card": finding.key,
            "host": finding.place,
            "model": finding.model,
            "state": finding.state,
            "cause": finding.cause,
        }
