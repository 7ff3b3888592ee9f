"""The farm as the API shows it: columns of the last tick, and since when each value is so."""

import math
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from farmhand_collector.capacity.rollup import Capacity, LastHeard, capacity_of
from farmhand_collector.capacity.roster import CardKey
from farmhand_collector.judging import Tick
from farmhand_collector.report import (
    capacity_rows,
    card_finding,
    card_verdict,
    farm_capacity,
    farm_state,
    keys,
    scope_finding,
    shown,
    what_if,
    wider_finding,
)
from farmhand_collector.translation import in_language
from farmhand_collector.wire import (
    NUMBER_COLUMNS,
    SCHEMA,
    STATES,
    TEXT_COLUMNS,
    CapacityRow,
    CardVerdict,
    Changes,
    FarmState,
    Finding,
    Simulated,
    Snapshot,
    WhatIf,
)

COLUMNS = (*TEXT_COLUMNS, *NUMBER_COLUMNS)
_VERDICT_NUMBERS = ("delivered", "confidence", "since", "seen")
_READING_COLUMNS = tuple(name for name in NUMBER_COLUMNS if name not in _VERDICT_NUMBERS)
_DIGITS = 4
"""Decimals kept: less than any display shows, and noise below it is no change."""

_SEQ_DIGITS = 18

Row = dict[str, Any]


class StaleCursorError(Exception):
    """The cursor is of another life of the collector, or too old: take a new snapshot."""


class UnknownError(Exception):
    """There is no such card or gang; the message says which."""


class _Amounts(NamedTuple):
    """Capacity as of the last tick, and the keys of the cards that are spoken of."""

    tick: Tick
    names: dict[int, str]
    heard: LastHeard
    capacity: Capacity


class View:
    """What is to be shown; written by the judging thread, read by the API."""

    def __init__(self, simulated: Simulated | None) -> None:
        self.simulated = simulated
        self._epoch = secrets.token_hex(4)
        self._seq = 0
        self._lock = threading.Lock()
        self._tick: Tick | None = None
        self._rows: dict[str, Row] = {}
        self._versions: dict[str, dict[str, int]] = {}
        self._removed: dict[str, int] = {}
        self._verdicts: dict[str, tuple[CardKey, CardVerdict]] = {}
        self._heard = LastHeard.nothing()
        self._amounts: _Amounts | None = None
        self._listeners: list[Callable[[], object]] = []

    def listen(self, listener: Callable[[], object]) -> None:
        """Have a function called after each tick, in the judging thread."""
        self._listeners.append(listener)

    def update(self, tick: Tick) -> None:
        """Show a new tick."""
        names = keys(tick.frame.roster, shown(tick.frame.roster, tick.verdicts))
        rows, verdicts = _rows(tick, names)
        self._heard = self._heard.after(tick.frame)
        capacity = capacity_of(tick.frame, tick.facts, tick.verdicts, self._heard)
        amounts = _Amounts(tick, names, self._heard, capacity)
        with self._lock:
            self._seq += 1
            self._removed |= {key: self._seq for key in self._rows if key not in rows}
            self._removed = {key: seq for key, seq in self._removed.items() if key not in rows}
            for key, row in rows.items():
                self._note_versions(key, row)
            self._versions = {key: self._versions[key] for key in rows}
            self._rows, self._verdicts, self._tick = rows, verdicts, tick
            self._amounts = amounts
        for listener in self._listeners:
            listener()

    def _note_versions(self, key: str, row: Row) -> None:
        before, versions = self._rows.get(key, {}), self._versions.setdefault(key, {})
        for name, value in row.items():
            if name not in versions or before.get(name) != value:
                versions[name] = self._seq

    @property
    def time(self) -> float | None:
        """End of the last frame."""
        return self._tick.verdicts.end_ns / 1e9 if self._tick else None

    def state(self) -> FarmState:
        """The whole farm in words."""
        with self._lock:
            amounts = self._amounts
        if amounts is None:
            return farm_state((), None, self.simulated)
        roster = amounts.tick.frame.roster
        capacity = farm_capacity(roster, list(amounts.names), amounts.capacity)
        return farm_state(roster, amounts.tick.verdicts, self.simulated, capacity)

    def capacity(self, by: str) -> list[CapacityRow]:
        """What the cards give of what they should, added up by one of `CAPACITY_SCOPES`."""
        with self._lock:
            amounts = self._amounts
        if amounts is None:
            return []
        tick, rows = amounts.tick, list(amounts.names)
        return capacity_rows(by, tick.frame.roster, rows, amounts.capacity, tick.facts.groups)

    def what_if(self, cards: Sequence[str], gang: str = "") -> WhatIf:
        """What comes back when cards, named by their keys, are repaired.

        Raises:
            UnknownError: there is no such card or gang.
        """
        with self._lock:
            amounts = self._amounts
        rows = {} if amounts is None else {key: row for row, key in amounts.names.items()}
        for key in cards:
            if key not in rows:
                raise UnknownError(f"no such card: {key!r}")
        if amounts is None:
            raise UnknownError("no card is known yet")
        chosen = [rows[key] for key in dict.fromkeys(cards)]
        answer = what_if(chosen, gang, amounts.names, amounts.capacity, amounts.heard)
        if gang and answer.gang is None:
            raise UnknownError(f"no such gang: {gang!r}")
        return answer

    def snapshot(self, columns: Sequence[str]) -> Snapshot:
        """All cards, with a cursor from which changes go on."""
        with self._lock:
            rows = list(self._rows.values())
            return Snapshot(
                SCHEMA, self._cursor(), self.time, self.simulated, _by_column(rows, columns)
            )

    def _cursor(self) -> str:
        return f"{self._epoch}:{self._seq}"

    def changes(self, cursor: str, columns: Sequence[str]) -> Changes:
        """Cards of which any of these columns changed since the cursor.

        Raises:
            StaleCursorError: see there.
        """
        with self._lock:
            since = self._since(cursor)
            changed = [
                self._rows[key]
                for key, versions in self._versions.items()
                if any(versions[name] > since for name in columns)
            ]
            removed = [key for key, seq in self._removed.items() if seq > since]
            return Changes(self._cursor(), self.time, _by_column(changed, columns), removed)

    def _since(self, cursor: str) -> int:
        epoch, _, seq = cursor.partition(":")
        known = epoch == self._epoch and seq.isdecimal() and len(seq) <= _SEQ_DIGITS
        if not known or int(seq) > self._seq:
            raise StaleCursorError
        return int(seq)

    def is_news(self, cursor: str) -> bool:
        """Whether a tick came after the cursor.

        Raises:
            StaleCursorError: see there.
        """
        with self._lock:
            return self._since(cursor) < self._seq

    def card(self, key: str) -> tuple[CardKey, CardVerdict] | None:
        """One card's place and verdict, by its key."""
        with self._lock:
            return self._verdicts.get(key)

    def said(self) -> dict[str, tuple[CardKey, CardVerdict]]:
        """Place and verdict of every card, by its key."""
        with self._lock:
            return dict(self._verdicts)

    def findings(self, language: str = "en") -> list[Finding]:
        """All that is wrong, worst and newest first."""
        with self._lock:
            tick, verdicts = self._tick, dict(self._verdicts)
        if tick is None:
            return []
        roster = tick.frame.roster
        names = keys(roster, shown(roster, tick.verdicts))
        wide = tick.verdicts.wide
        found = [
            wider_finding(in_language(scope_finding(one, roster, names), language), language)
            for one in wide
        ]
        found += [
            card_finding(key, in_language(verdict, language), language)
            for key, (_, verdict) in verdicts.items()
            if verdict.state != "ok" and verdict.evidence[0].finding != "idle"
        ]
        return sorted(found, key=_urgency)


_URGENCY = {state: rank for rank, state in enumerate(("lost", "failing", "degraded", "watch"))}


def _urgency(finding: Finding) -> tuple[int, float]:
    return _URGENCY.get(finding.state, len(STATES)), -finding.since


def _by_column(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, list[Any]]:
    wanted = dict.fromkeys(("key", *columns))
    return {name: [row[name] for row in rows] for name in wanted}


def _rows(
    tick: Tick, names: Mapping[int, str]
) -> tuple[dict[str, Row], dict[str, tuple[CardKey, CardVerdict]]]:
    roster, verdicts = tick.frame.roster, tick.verdicts
    readings = {name: tick.frame.values[name].tolist() for name in _READING_COLUMNS}
    rows: dict[str, Row] = {}
    said: dict[str, tuple[CardKey, CardVerdict]] = {}
    for index, key in names.items():
        card = roster[index]
        verdict = card_verdict(card, index, verdicts)
        values = {name: _rounded(column[index]) for name, column in readings.items()}
        seen = int(verdicts.seen_ns[index]) / 1e9 or None
        rows[key] = {"key": key, **_words(card, verdict), "seen": seen, **values}
        said[key] = (card, verdict)
    return rows, said


def _words(card: CardKey, verdict: CardVerdict) -> Row:
    first = verdict.evidence[0] if verdict.evidence else None
    return {
        **card._asdict(),
        "board": verdict.board,
        "state": verdict.state,
        "cause": verdict.cause or "",
        "component": verdict.component or "",
        "action": verdict.action or "",
        "finding": first.finding if first else "",
        "reason": first.text if first else "",
        "delivered": _share(verdict),
        "confidence": verdict.confidence,
        "since": verdict.since,
    }


def _share(verdict: CardVerdict) -> float | None:
    """Share of the worst component; a card of which nothing is known to be missing gives all."""
    if verdict.state == "unknown":
        return None
    return _rounded(min(verdict.delivered.values(), default=1.0))


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, _DIGITS)
