"""The farm as plain text, for scripts and for terminals that can do no more."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len

from farmhand_collector.natural import natural
from farmhand_collector.wire import (
    STATES,
    CapacityRow,
    CardVerdict,
    ComponentCapacity,
    FarmState,
    GangWhatIf,
    ScopeFinding,
    Simulated,
    WhatIf,
)

from . import numbers
from .escape import pad, safe
from .farm import FLAGGED, SEVERITY

_WIDTHS = {"place": 44, "model": 26, "reason": 160, "card": 44, "missing": 240}
_CAP = 24


class _Column(NamedTuple):
    title: str
    cells: list[str]
    right: bool = False


def status_text(state: FarmState) -> str:
    """Return sums, then findings of wider scope, then flagged cards, each worst first."""
    parts = [_head(state)]
    if state.capacity is not None:
        parts[0] += f"\nthe farm {safe(state.capacity.text)}"
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


def capacity_text(state: FarmState, by: str, rows: Sequence[CapacityRow]) -> str:
    """Return what is delivered of what is expected, a line for each thing of the scope."""
    if not rows:
        return _head(state) + "\n"
    compute, bandwidth, memory, link = _UNITS
    table = _table(
        _Column("site", [row.site for row in rows]),
        _Column(by, [row.name or ("all" if by == "farm" else "") for row in rows]),
        _Column("cards", [str(row.cards) for row in rows], right=True),
        _Column("judged", [_judged(row) for row in rows], right=True),
        _amounts(compute, [row.compute for row in rows]),
        _equivalents([row.compute for row in rows]),
        _amounts(bandwidth, [row.bandwidth for row in rows]),
        _equivalents([row.bandwidth for row in rows]),
        _amounts(memory, [row.memory for row in rows]),
        _amounts(link, [row.link for row in rows]),
        _Column("by choice", [_some(row.compute.by_choice, compute) for row in rows]),
        _Column("not judged", [_some(row.compute.unjudged, compute) for row in rows]),
        _Column("by fp32", [str(row.fp32_cards or "") for row in rows], right=True),
        _Column("unknown", [str(row.unknown_models or "") for row in rows], right=True),
        _Column("missing", [_missing(row) for row in rows]),
    )
    return f"{_head(state)}\n\n{table}\n"


class _Unit(NamedTuple):
    component: str
    name: str
    size: float


_UNITS = (
    _Unit("compute", "TFLOP/s", 1e12),
    _Unit("bandwidth", "TB/s", 1e12),
    _Unit("memory", "GiB", 2**30),
    _Unit("link", "GB/s", 1e9),
)


def _amounts(unit: _Unit, amounts: Sequence[ComponentCapacity]) -> _Column:
    """Delivered of expected."""
    pairs = [_pair(one.delivered, one.expected, unit.size) for one in amounts]
    return _Column(f"{unit.component} {unit.name}", pairs, right=True)


def _equivalents(amounts: Sequence[ComponentCapacity]) -> _Column:
    """Delivered of expected, both as so many A100."""
    pairs = [
        _pair(one.delivered_a100_equivalents, one.expected_a100_equivalents) for one in amounts
    ]
    return _Column("A100", pairs, right=True)


def _pair(delivered: float | None, expected: float | None, size: float = 1.0) -> str:
    return f"{_short(delivered, size)}/{_short(expected, size)}"


def _short(amount: float | None, size: float = 1.0) -> str:
    """An amount in units of a size: three digits, or all before the point."""
    if amount is None:
        return numbers.MISSING
    shown = amount / size
    return f"{shown:.0f}" if shown >= 100 else f"{shown:.3g}"


def _judged(row: CapacityRow) -> str:
    return f"{numbers.percent(row.judged_ratio)} %"


def _missing(row: CapacityRow) -> str:
    """What is missing by cause, component by component."""
    components = (row.compute, row.bandwidth, row.memory, row.link)
    told = []
    for unit, amounts in zip(_UNITS, components, strict=True):
        causes = sorted(amounts.missing_by_cause.items(), key=lambda taken: -taken[1])
        if causes:
            each = ", ".join(f"{cause} {_short(lost, unit.size)}" for cause, lost in causes)
            told.append(f"{unit.component}: {each} {unit.name}")
    return "; ".join(told)


def _some(amount: float | None, unit: _Unit) -> str:
    return f"{_short(amount, unit.size)} {unit.name}" if amount else ""


def what_if_text(answer: WhatIf, simulated: Simulated | None) -> str:
    """Return what a repair would bring, and how fast a gang would be."""
    lines = _simulated(simulated)
    if answer.cards:
        lines.append(f"repaired {_listed(answer.cards)}: {_returns(answer)}")
    if answer.unjudged:
        lines.append(f"not judged, so that nothing is known of it: {_listed(answer.unjudged)}")
    if answer.gang is not None:
        lines += _gang(answer.gang)
    return "\n".join(lines) + "\n"


def _returns(answer: WhatIf) -> str:
    told = [
        f"{_short(amount, unit.size)} {unit.name} of {unit.component}"
        f" ({_short(answer.returns_a100_equivalents.get(unit.component))} A100 equivalents)"
        for unit in _UNITS
        if (amount := answer.returns.get(unit.component))
    ]
    if not told:
        return "nothing comes back"
    return f"{', '.join(told)} {'come' if len(told) > 1 else 'comes'} back"


def _gang(gang: GangWhatIf) -> list[str]:
    compute = _UNITS[0]

    if gang.now is None:
        return [f"gang {safe(gang.name)}: nothing is known of its cards yet"]

    def pace(amount: float | None) -> str:
        return f"{_short(amount, compute.size)} {compute.name}"

    counted = len(gang.cards) - len(gang.unjudged)
    lines = [
        f"gang {safe(gang.name)}: {counted} cards in lock step give {pace(gang.now)}, "
        f"without the slowest {pace(gang.without_slowest)}; "
        f"most with {gang.left_out} left out: {pace(gang.best)}"
    ]
    if gang.unjudged:
        lines.append(f"not counted, as nothing is known of it: {_listed(gang.unjudged)}")
    return lines


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(map(safe, keys))


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
