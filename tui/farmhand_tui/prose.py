"""What is known of one card or finding, as text to read."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.style import Style
from rich.text import Text

from farmhand_collector.wire import CardDetail, CardVerdict, Event, Finding

from . import numbers
from .escape import safe
from .farm import Farm
from .palette import ACCENT, DIM, PLAIN, STRONG, state_look

MOST_EVENTS = 50
MOST_CELLS = 2000
"""Longest sentence that is shown; it wraps."""


def verdict_text(verdict: CardVerdict, finding: Finding | None, around: Sequence[Finding]) -> Text:
    """How the card is, why, and what to do with one's hands."""
    text = Text(style=PLAIN)
    look = state_look(verdict.state)
    head = [f"{look.glyph} {safe(verdict.state).upper()}"]
    named = dict.fromkeys((verdict.cause, verdict.component))
    head += [safe(word) for word in named if word]
    text.append("  ".join(head) + "\n", look.text + Style(bold=True))
    text.append(_circumstances(verdict) + "\n", DIM)
    if verdict.evidence:
        _section(text, "why", (evidence.text for evidence in verdict.evidence))
    if finding is not None and finding.steps:
        _section(text, _to_do(finding), finding.steps, counted=True)
    elif verdict.action:
        _section(text, "what to do", [verdict.action])
    if around:
        _section(text, "explained by", (f"{f.scope} {f.key}: {f.text}" for f in around))
    text.rstrip()
    return text


def finding_text(finding: Finding, farm: Farm) -> Text:
    """Return what a finding of wider scope says, what to do, and which cards it explains."""
    text = Text(style=PLAIN)
    look = state_look(finding.state)
    head = f"{look.glyph} {safe(finding.state).upper()}  {safe(finding.cause)}"
    text.append(head + "\n", look.text + Style(bold=True))
    text.append(f"{safe(finding.scope)} {safe(finding.place)}", STRONG)
    text.append(f"  since {numbers.clock(finding.since)}\n", DIM)
    _section(text, "why", [finding.text])
    if finding.steps:
        _section(text, _to_do(finding), finding.steps, counted=True)
    if finding.cards:
        _section(text, f"cards it explains ({len(finding.cards)})", _places(finding.cards, farm))
    text.rstrip()
    return text


def identity_text(detail: CardDetail) -> Text:
    """Who the card is and where, then what it says of itself."""
    verdict = detail.verdict
    place = {name: getattr(verdict, name) for name in ("card", "board", "model")}
    place |= {name: getattr(verdict, name) for name in ("site", "rack", "host", "slot")}
    told = {name: _value(name, value) for name, value in detail.info.items() if value is not None}
    rows = {name: value for name, value in (place | told).items() if value != ""}
    text = Text(style=PLAIN)
    text.append("identity\n", ACCENT)
    width = min(28, max((len(name) for name in rows), default=0))
    for name, value in rows.items():
        text.append(f"  {safe(name.replace('_', ' '), 28):<{width}}  ", DIM)
        text.append(safe(value) + "\n")
    text.rstrip()
    return text


def events_text(events: Sequence[Event], now: float | None) -> Text:
    """Return what happened to the card, the newest first."""
    text = Text(style=PLAIN)
    text.append("events\n", ACCENT)
    if not events:
        text.append("  none in the time that is kept\n", DIM)
    for event in sorted(events, key=lambda event: -event.time)[:MOST_EVENTS]:
        text.append(f"  {numbers.clock(event.time, now):>8}  ", DIM)
        text.append(f"{safe(event.kind)} {safe(event.code)}".rstrip(), STRONG)
        text.append(f"  {safe(event.text, MOST_CELLS)}\n")
    text.rstrip()
    return text


def _circumstances(verdict: CardVerdict) -> str:
    parts = [f"{safe(name)} {share * 100:.0f} %" for name, share in verdict.delivered.items()]
    said = ["delivers " + ", ".join(parts)] if parts else []
    if verdict.since is not None:
        said.append(f"since {numbers.clock(verdict.since)}")
    if verdict.confidence is not None:
        said.append(f"confidence {verdict.confidence * 100:.0f} %")
    return "   ".join(said)


def _to_do(finding: Finding) -> str:
    return f"what to do: {safe(finding.action)}" if finding.action else "what to do"


def _section(text: Text, title: str, lines: Iterable[str], *, counted: bool = False) -> None:
    text.append(f"\n{title}\n", ACCENT)
    for number, line in enumerate(lines, start=1):
        text.append(f"  {number}. " if counted else "  ", DIM)
        text.append(safe(line, MOST_CELLS) + "\n")


def _places(keys: Sequence[str], farm: Farm) -> Iterable[str]:
    for key in keys:
        row = farm.rows.get(key)
        if row is None:
            yield key
        else:
            place = " ".join(farm.text(name, row) for name in ("rack", "host", "slot"))
            yield f"{place.strip()}  {farm.text('model', row)}  {farm.text('state', row)}"


_UNITS: Mapping[str, str] = {"_mhz": " MHz", "_watts": " W", "_bits": " bit", "_celsius": " °C"}


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return str(value)
    if name.endswith("_bytes"):
        return f"{value / 2**30:.2f} GiB"
    unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "")
    return f"{value:g}{unit}" if abs(value) < 1e6 else f"{value:.0f}{unit}"
