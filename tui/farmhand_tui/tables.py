"""The farm as plain text, for scripts and for terminals that can do no more."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len

from farmhand_collector.natural import natural
from farmhand_collector.wire import STATES, CardVerdict, FarmState, ScopeFinding, Simulated

from . import numbers
from .escape import pad, safe
from .farm import FLAGGED, SEVERITY

_WIDTHS = {"place": 44, "model": 26, "reason": 160, "card": 44}
_CAP = 24


class _Column(NamedTuple):
    title: str
    cells: list[str]
    right: bool = False


def status_text(state: FarmState) -> str:
    """Return sums, then findings of wider scope, then flagged cards, each worst first."""
    parts = [_head(state)]
    if state.findings:
        parts.append(_findings_table(sorted(state.findings, key=_worst_finding), state.time))
    flagged = [card for card in state.cards if card.state in FLAGGED]
    if flagged:
        parts.append(_flagged_table(sorted(flagged, key=_worst_card), state.time))
    elif state.cards:
        parts.append("no card is flagged")
    return "\n\n".join(parts) + "\n"


def cards_text(state: FarmState) -> str:
    """All cards, worst first."""
    if not state.cards:
        return _head(state) + "\n"
    cards = sorted(state.cards, key=_worst_card)
    table = _table(
        _Column("site", [card.site for card in cards]),
        _Column("rack", [card.rack for card in cards]),
        _Column("host", [card.host for card in cards]),
        _Column("slot", [card.slot for card in cards]),
        _Column("model", [card.model for card in cards]),
        *_verdict(cards, state.time),
        _Column("card", [card.card for card in cards]),
        _Column("reason", [_reason(card) for card in cards]),
    )
    return f"{_head(state)}\n\n{table}\n"


def _head(state: FarmState) -> str:
    return "\n".join([*_simulated(state.simulated), _summary(state)])


def _simulated(simulated: Simulated | None) -> list[str]:
    return [] if simulated is None else [f"SIMULATED (seed {simulated.seed})"]


def _summary(state: FarmState) -> str:
    if not state.cards:
        return "no card is known yet"
    counts = [sum(card.state == name for card in state.cards) for name in STATES]
    said = ", ".join(f"{n} {name}" for n, name in zip(counts, STATES, strict=True) if n)
    count = len(state.cards)
    return f"{count} {'card' if count == 1 else 'cards'}: {said} (data of {_moment(state.time)})"


def _moment(time: float | None) -> str:
    return "no known time" if time is None else numbers.clock(time)


def _flagged_table(cards: Sequence[CardVerdict], now: float | None) -> str:
    return _table(
        _Column("place", [_place(card) for card in cards]),
        _Column("model", [card.model for card in cards]),
        *_verdict(cards, now),
        _Column("reason", [_reason(card) for card in cards]),
    )


def _verdict(cards: Sequence[CardVerdict], now: float | None) -> list[_Column]:
    return [
        _Column("state", [card.state for card in cards]),
        _Column("cause", [card.cause or "" for card in cards]),
        _Column("delivered", [_delivered(card.delivered) for card in cards], right=True),
        _Column("since", [_since(card.since, now) for card in cards], right=True),
        _Column("action", [card.action or "" for card in cards]),
    ]


def _findings_table(findings: Sequence[ScopeFinding], now: float | None) -> str:
    return _table(
        _Column("scope", [finding.scope for finding in findings]),
        _Column("name", [finding.name for finding in findings]),
        _Column("state", [finding.state for finding in findings]),
        _Column("cause", [finding.cause for finding in findings]),
        _Column("delivered", [_delivered(f.delivered) for f in findings], right=True),
        _Column("since", [_since(finding.since, now) for finding in findings], right=True),
        _Column("action", [finding.action or "" for finding in findings]),
        _Column("cards", [str(len(finding.cards)) for finding in findings], right=True),
        _Column("reason", [_first(e.text for e in finding.evidence) for finding in findings]),
    )


def _table(*columns: _Column) -> str:
    """Columns side by side, each as wide as its widest cell; empty ones are left out."""
    shown = [column for column in columns if any(column.cells)]
    blocks = []
    for column in shown:
        texts = [column.title, *(cell or numbers.MISSING for cell in column.cells)]
        cap = _WIDTHS.get(column.title, _CAP)
        width = max(cell_len(safe(text, cap)) for text in texts)
        blocks.append([pad(safe(text, cap), width, right=column.right) for text in texts])
    return "\n".join("  ".join(line).rstrip() for line in zip(*blocks, strict=True))


def _place(card: CardVerdict) -> str:
    return "/".join(part for part in (card.site, card.rack, card.host, card.slot) if part)


def _reason(card: CardVerdict) -> str:
    return _first(evidence.text for evidence in card.evidence)


def _first(texts: Iterable[str]) -> str:
    return next(iter(texts), "")


def _delivered(delivered: dict[str, float]) -> str:
    return f"{numbers.percent(min(delivered.values()))} %" if delivered else ""


def _since(since: float | None, now: float | None) -> str:
    return "" if since is None or now is None else numbers.age(now - since)


def _worst_card(card: CardVerdict) -> tuple[int, float, object]:
    least = min(card.delivered.values(), default=2.0)
    place = tuple(natural(part) for part in (card.site, card.rack, card.host, card.slot))
    return -SEVERITY.get(card.state, 1), least, place


def _worst_finding(finding: ScopeFinding) -> tuple[int, float]:
    return -SEVERITY.get(finding.state, 1), -finding.since
