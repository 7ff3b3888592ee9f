"""Verdicts and capacity as readings, so that whoever reads the store sees them: Grafana does.

A verdict is written when it changes, and all of them now and then, so that a look at the last
minutes shows every card.
"""

from collections.abc import Iterator, Mapping

from farmhand_agent.reading import CARD_TAGS, Reading, Value, fields_of
from farmhand_collector.capacity.roster import CardKey
from farmhand_collector.wire import CAPACITY_SCOPES, STATES, CapacityRow, CardVerdict

EVERY_SECONDS = 300.0
COMPONENTS = ("compute", "bandwidth", "memory", "link")
SECOND_NS = 10**9

Said = Mapping[str, tuple[CardKey, CardVerdict]]


class WriteBack:
    """Knows what was written, and what is to be written next."""

    def __init__(self) -> None:
        self._written: dict[str, CardVerdict] = {}
        self._next_ns = 0

    def is_due(self, end_ns: int) -> bool:
        """Whether everything is to be written, changed or not."""
        return end_ns >= self._next_ns

    def verdicts(self, end_ns: int, said: Said) -> list[Reading]:
        """Verdicts to be written with a frame that ends now; they count as written."""
        everything = self.is_due(end_ns)
        if everything:
            self._next_ns = end_ns + int(EVERY_SECONDS * SECOND_NS)
        told = [
            _verdict(card, verdict, end_ns)
            for key, (card, verdict) in said.items()
            if everything or _differs(self._written.get(key), verdict)
        ]
        self._written = {key: verdict for key, (_, verdict) in said.items()}
        return told


def capacities(end_ns: int, rows: Mapping[str, list[CapacityRow]]) -> list[Reading]:
    """Capacity by each scope, a reading for each component of each thing."""
    return [
        reading
        for scope in CAPACITY_SCOPES
        for row in rows.get(scope, ())
        for reading in _of_row(row, end_ns)
    ]


def _differs(before: CardVerdict | None, now: CardVerdict) -> bool:
    return before is None or (before.state, before.cause) != (now.state, now.cause)


def _verdict(card: CardKey, verdict: CardVerdict, time_ns: int) -> Reading:
    first = verdict.evidence[0] if verdict.evidence else None
    fields: dict[str, Value | None] = {
        "state": verdict.state,
        "cause": verdict.cause,
        "component": verdict.component,
        "action": verdict.action,
        "finding": first.finding if first else None,
        "reason": first.text if first else None,
        "state_level": float(STATES.index(verdict.state)),
        "delivered_ratio": None if verdict.state == "unknown" else _worst(verdict),
        "confidence_ratio": verdict.confidence,
        "since_seconds": verdict.since,
    }
    tags = {name: value for name, value in card._asdict().items() if name in CARD_TAGS and value}
    return Reading("verdict", tags, _given(fields), time_ns)


def _worst(verdict: CardVerdict) -> float:
    return min(verdict.delivered.values(), default=1.0)


def _of_row(row: CapacityRow, time_ns: int) -> Iterator[Reading]:
    names = [name for name in fields_of("capacity") if name not in ("cards", "judged")]
    for component in COMPONENTS:
        amounts = getattr(row, component)
        fields: dict[str, Value | None] = {"cards": float(row.cards), "judged": float(row.judged)}
        fields |= {name: getattr(amounts, name) for name in names}
        tags = {"site": row.site, "scope": row.scope, "name": row.name, "component": component}
        yield Reading("capacity", {k: v for k, v in tags.items() if v}, _given(fields), time_ns)


def _given(fields: Mapping[str, Value | None]) -> dict[str, Value]:
    """Fields that have a value; an empty text is none."""
    return {name: value for name, value in fields.items() if value is not None and value != ""}
