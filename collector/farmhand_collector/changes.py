"""Changes of verdict: what is worth a line in a history or, later, an alert."""

from collections.abc import Mapping
from typing import NamedTuple

from farmhand_collector.judging import Tick
from farmhand_collector.report import card_verdict, keys, shown


class Change(NamedTuple):
    """From this frame on, this is to be said of a card."""

    time: float
    key: str
    state: str
    cause: str
    finding: str
    text: str


class ChangeLog:
    """Tells changes from what was said before; a card not heard of before is `unknown`."""

    def __init__(self, said: Mapping[str, tuple[str, str]] | None = None) -> None:
        self._said = dict(said or {})

    def of(self, tick: Tick) -> list[Change]:
        """Changes that a tick brings, in the order of the cards' places."""
        roster, verdicts = tick.frame.roster, tick.verdicts
        changes = []
        for index, key in keys(roster, shown(roster, verdicts)).items():
            verdict = card_verdict(roster[index], index, verdicts)
            now = (verdict.state, verdict.cause or "")
            if now == self._said.get(key, ("unknown", "")):
                continue
            self._said[key] = now
            first = verdict.evidence[0] if verdict.evidence else None
            finding, text = (first.finding, first.text) if first else ("", "")
            changes.append(Change(verdicts.end_ns / 1e9, key, *now, finding, text))
        return changes
