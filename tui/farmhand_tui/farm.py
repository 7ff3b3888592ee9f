"""The farm as the terminal knows it: the last snapshot and every change since."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from farmhand_collector.natural import natural
from farmhand_collector.wire import (
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
    Changes,
    Finding,
    Simulated,
    Snapshot,
)

from .escape import safe

_UNSEEN = frozenset({"board", "vendor", "component", "action", "finding", "confidence", "seen"})

COLUMNS = tuple(name for name in (*TEXT_COLUMNS, *NUMBER_COLUMNS) if name not in _UNSEEN)
"""What the terminal asks of each card; the rest is asked for when a card is opened."""

PLACE = ("site", "rack", "host", "slot")

SEVERITY: Mapping[str, int] = {
    "lost": 5,
    "failing": 4,
    "degraded": 3,
    "watch": 2,
    "unknown": 1,
    "ok": 0,
}
"""How early a state comes where the worst is first; what cannot be judged comes before `ok`."""

FLAGGED = frozenset({"watch", "degraded", "failing", "lost"})


class Change(NamedTuple):
    """What an update touched; with `layout`, row numbers are new and all is to be drawn."""

    rows: frozenset[int]
    layout: bool


class Totals(NamedTuple):
    """Sums over the farm; power is None where no card tells its own."""

    cards: int
    states: Counter[str]
    power_watts: float | None


class Farm:
    """Columns of all cards and the findings about them; rows are numbered from 0."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.rows: dict[str, int] = {}
        self.placed: list[int] = []
        self.rank: list[int] = []
        self.findings: list[Finding] = []
        self.wider_states: dict[tuple[str, str], str] = {}
        self.time: float | None = None
        self.simulated: Simulated | None = None
        self.loaded = False
        self._totals: Totals | None = None

    def __len__(self) -> int:
        return len(self.columns["key"])

    def load(self, snapshot: Snapshot) -> Change:
        """Take a snapshot in place of everything known of the cards."""
        count = len(snapshot.columns["key"])
        self.columns = {
            name: list(snapshot.columns.get(name) or [_blank(name)] * count) for name in COLUMNS
        }
        self.simulated = snapshot.simulated
        self.time = snapshot.time
        self.loaded = True
        return self._laid_out()

    def apply(self, changes: Changes) -> Change:
        """Take the rows that changed; keys not held before are new cards."""
        self.time = changes.time
        self._totals = None
        moved = bool(changes.removed) and self._remove(set(changes.removed))
        known = len(self)
        touched = [self._row_of(key) for key in changes.columns.get("key", ())]
        moved |= len(self) > known
        for name, values in changes.columns.items():
            if name in self.columns:
                moved |= self._set(name, touched, values)
        return self._laid_out() if moved else Change(frozenset(touched), layout=False)

    def set_findings(self, findings: list[Finding]) -> None:
        """Take these findings in place of all others."""
        self.findings = findings
        wider = (finding for finding in findings if finding.scope != "card")
        self.wider_states = {(f.scope, f.key): f.state for f in reversed([*wider])}

    def row(self, row: int) -> dict[str, Any]:
        """One card's values by column."""
        return {name: values[row] for name, values in self.columns.items()}

    def number(self, name: str, row: int) -> float | None:
        """One value of a number column."""
        value: float | None = self.columns[name][row]
        return value

    def text(self, name: str, row: int) -> str:
        """One value of a text column, safe to show."""
        return safe(self.columns[name][row])

    def flagged(self, row: int) -> bool:
        """Whether something is said against this card."""
        return self.columns["state"][row] in FLAGGED

    def worst_first(self, row: int) -> tuple[int, int]:
        """Sorts the worst state first, then the least delivered in whole percent."""
        delivered = self.columns["delivered"][row]
        state = self.columns["state"][row]
        return -SEVERITY.get(state, 1), 101 if delivered is None else round(delivered * 100)

    def totals(self) -> Totals:
        """Cards by state and their power."""
        if self._totals is None:
            power = [watts for watts in self.columns["power_watts"] if watts is not None]
            states = Counter(self.columns["state"])
            self._totals = Totals(len(self), states, sum(power) if power else None)
        return self._totals

    def finding_of(self, key: str) -> Finding | None:
        """Return the finding about this card itself, which tells what to do with it."""
        return next((f for f in self.findings if f.scope == "card" and f.key == key), None)

    def findings_around(self, key: str) -> list[Finding]:
        """Return findings of wider scope that explain this card."""
        return [f for f in self.findings if f.scope != "card" and key in f.cards]

    def _laid_out(self) -> Change:
        self._totals = None
        self.rows = {key: row for row, key in enumerate(self.columns["key"])}
        places = zip(*(map(natural, self.columns[name]) for name in PLACE), strict=True)
        self.placed = [row for row, _ in sorted(enumerate(places), key=lambda pair: pair[1])]
        self.rank = [0] * len(self)
        for position, row in enumerate(self.placed):
            self.rank[row] = position
        return Change(frozenset(range(len(self))), layout=True)

    def _remove(self, keys: set[str]) -> bool:
        kept = [row for row, key in enumerate(self.columns["key"]) if key not in keys]
        gone = len(kept) < len(self)
        for name, values in self.columns.items():
            self.columns[name] = [values[row] for row in kept]
        self.rows = {key: row for row, key in enumerate(self.columns["key"])}
        return gone

    def _row_of(self, key: str) -> int:
        """Return a card's row, a new one for a card that is new."""
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = len(self)
            for name, values in self.columns.items():
                values.append(key if name == "key" else _blank(name))
        return row

    def _set(self, name: str, rows: Sequence[int], values: Sequence[Any]) -> bool:
        """Write one column of changes; say whether a card moved to another place by it."""
        mine = self.columns[name]
        pairs = list(zip(rows, values, strict=True))
        moved = name in PLACE and any(mine[row] != value for row, value in pairs)
        for row, value in pairs:
            mine[row] = value
        return moved


def ordered(
    rows: Iterable[int],
    value: Callable[[int], Any],
    rank: Sequence[int],
    *,
    descending: bool = False,
) -> list[int]:
    """Rows by value, equal ones by place; rows without a value come last in either direction."""
    known, missing = [], []
    for row in sorted(rows, key=rank.__getitem__):
        of_row = value(row)
        if of_row is None or of_row == "":
            missing.append(row)
        else:
            known.append((of_row, row))
    known.sort(key=lambda pair: pair[0], reverse=descending)
    return [row for _, row in known] + missing


def short_model(name: str) -> str:
    """Return a model's name without the words that say only whose it is."""
    return name.removeprefix("NVIDIA ").removeprefix("GeForce ")


def _blank(name: str) -> str | None:
    return "" if name in TEXT_COLUMNS else None
