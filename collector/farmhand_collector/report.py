"""Verdicts in the words of the wire: what `status --json`, `judge --json` and the API say."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from farmhand_agent.reading import UNIDENTIFIED
from farmhand_collector.capacity.attribution import NodeFinding
from farmhand_collector.capacity.detector import STATE_NAMES
from farmhand_collector.capacity.roster import CardKey
from farmhand_collector.capacity.step import Raised, Verdicts
from farmhand_collector.catalogue.findings import meanings
from farmhand_collector.natural import natural
from farmhand_collector.wire import (
    SCHEMA,
    CardVerdict,
    Evidence,
    FarmState,
    Finding,
    ScopeFinding,
    Simulated,
)

GIB = 2.0**30


def keys(roster: Sequence[CardKey], rows: Sequence[int]) -> dict[int, str]:
    """The names in the API of the cards that are spoken of, by index, no two alike.

    A card is named by its identity, or by its place where that is missing or not unique.
    """
    counts = Counter(roster[row].card for row in rows)
    names: dict[str, int] = {}
    for row in rows:
        identity = roster[row].card
        plain = identity not in ("", UNIDENTIFIED) and counts[identity] == 1
        name = next(name for name in _names(roster[row], plain) if name not in names)
        names[name] = row
    return {row: name for name, row in names.items()}


def _names(card: CardKey, plain: bool) -> Iterator[str]:
    """Names for a card, the ones to be preferred first."""
    place = f"{card.host}:{card.slot}"
    parts = [card.card] if plain else []
    parts += [place, f"{place}:{card.card}", f"{card.site}:{place}:{card.card}"]
    # A slash would end the path element of a URL.
    names = [part.replace("/", "_") for part in parts]
    yield from names
    yield from (f"{names[-1]}:{number}" for number in count(2))


def shown(roster: Sequence[CardKey], verdicts: Verdicts) -> list[int]:
    """Cards of the roster to speak of, in the order of their places.

    A silent row is left out when its card lives elsewhere or its slot holds another card now:
    it was moved or replaced, and what is to be said of it is said there. A card of which no
    reading was judged yet is left out too.
    """
    known = [i for i in range(len(roster)) if verdicts.seen_ns[i]]
    living = [i for i in known if not verdicts.silent[i]]
    cards = {roster[i].card for i in living if roster[i].card != UNIDENTIFIED}
    slots = {_slot(roster[i]) for i in living}
    left = {
        i
        for i in known
        if verdicts.silent[i] and (roster[i].card in cards or _slot(roster[i]) in slots)
    }
    rest = [i for i in known if i not in left]
    return sorted(rest, key=lambda i: _place(roster[i]))


def _slot(card: CardKey) -> tuple[str, str, str]:
    return (card.site, card.host, card.slot)


def _place(card: CardKey) -> tuple[Any, ...]:
    return (card.site, card.rack, natural(card.host), natural(card.slot), card.card)


def card_verdict(card: CardKey, index: int, verdicts: Verdicts) -> CardVerdict:
    """What is to be said of one card of the roster."""
    state = STATE_NAMES[verdicts.state[index]]
    raised = [] if state == "unknown" else verdicts.findings.get(index, [])
    first = raised[0] if raised else None
    silent = state == "unknown" and bool(verdicts.silent[index])
    return CardVerdict(
        card=card.card,
        board="",
        site=card.site,
        rack=card.rack,
        host=card.host,
        slot=card.slot,
        model=card.model,
        state=state,
        cause=first.detector.cause if first else ("unreachable" if silent else None),
        component=first.detector.component if first else None,
        delivered=_delivered(raised),
        action=first.detector.action if first else ("look-at-node" if silent else None),
        since=_seconds(int(verdicts.since_ns[index])),
        confidence=first.confidence if first else None,
        evidence=_evidence(index, state, raised, verdicts),
    )


def _evidence(
    index: int, state: str, raised: Sequence[Raised], verdicts: Verdicts
) -> list[Evidence]:
    if raised:
        return [evidence(finding.detector.name, finding.values) for finding in raised]
    if state == "unknown":
        return [evidence("silent" if verdicts.silent[index] else "idle", {})]
    return [
        Evidence("node", {"host": node.host}, f"Explained by a finding about node {node.host}.")
        for node in verdicts.nodes
        if index in node.cards
    ]


def evidence(finding: str, values: Mapping[str, Any]) -> Evidence:
    """A finding's values with the sentence that they make."""
    shown = dict(values)
    shown |= {
        name.replace("_bytes", "_gib"): value / GIB
        for name, value in values.items()
        if name.endswith("_bytes")
    }
    return Evidence(finding, dict(values), meanings()[finding].sentence(shown))


def _delivered(raised: Sequence[Raised]) -> dict[str, float]:
    """Share delivered by component; the worst finding of a component counts."""
    shares: dict[str, float] = {}
    for finding in raised:
        component = finding.detector.component
        if component is None:
            return {"compute": 0.0, "bandwidth": 0.0, "memory": 0.0, "link": 0.0}
        if not math.isnan(finding.delivered):
            shares[component] = min(finding.delivered, shares.get(component, 1.0))
    return shares


def node_finding(node: NodeFinding, card_keys: Mapping[int, str]) -> ScopeFinding:
    """What is to be said of a node; cards that have gone elsewhere since are not named."""
    first = node.raised[0]
    shown = dict.fromkeys(finding.detector.name for finding in node.raised)
    return ScopeFinding(
        scope="node",
        name=node.host,
        state=STATE_NAMES[max(finding.level for finding in node.raised)],
        cause=first.detector.cause,
        delivered=_delivered(node.raised),
        action="look-at-node",
        since=min(finding.since_ns for finding in node.raised) / 1e9,
        confidence=min(finding.confidence for finding in node.raised),
        evidence=[_shared_evidence(name, node) for name in shown],
        cards=[card_keys[card] for card in node.cards if card in card_keys],
    )


def _shared_evidence(detector: str, node: NodeFinding) -> Evidence:
    count = sum(finding.detector.name == detector for finding in node.raised)
    text = f"{count} cards of the node show it together. {meanings()[detector].brief}"
    return Evidence(detector, {"cards": count}, text)


def card_finding(key: str, verdict: CardVerdict) -> Finding:
    """The entry of the findings list for a card that is not ok."""
    first = verdict.evidence[0]
    return Finding(
        scope="card",
        key=key,
        place=" ".join(part for part in (verdict.rack, verdict.host, verdict.slot) if part),
        model=verdict.model,
        state=verdict.state,
        cause=verdict.cause or "",
        component=verdict.component,
        finding=first.finding,
        text=first.text,
        action=verdict.action,
        steps=list(meanings()[first.finding].steps),
        delivered=min(verdict.delivered.values(), default=None),
        since=verdict.since or 0.0,
        cards=[key],
    )


def wider_finding(found: ScopeFinding) -> Finding:
    """The entry of the findings list for a node or anything wider."""
    first = found.evidence[0]
    return Finding(
        scope=found.scope,
        key=found.name,
        place=found.name,
        model="",
        state=found.state,
        cause=found.cause,
        component=None,
        finding=first.finding,
        text=first.text,
        action=found.action,
        steps=list(meanings()[first.finding].steps),
        delivered=min(found.delivered.values(), default=None),
        since=found.since,
        cards=found.cards,
    )


def _seconds(time_ns: int) -> float | None:
    return time_ns / 1e9 if time_ns else None


def farm_state(
    roster: Sequence[CardKey], verdicts: Verdicts | None, simulated: Simulated | None = None
) -> FarmState:
    """The whole farm after a frame; nothing judged yet gives a farm without cards."""
    if verdicts is None:
        return FarmState(SCHEMA, simulated, None, [], [])
    rows = shown(roster, verdicts)
    names = keys(roster, rows)
    return FarmState(
        schema=SCHEMA,
        simulated=simulated,
        time=verdicts.end_ns / 1e9,
        cards=[card_verdict(roster[row], row, verdicts) for row in rows],
        findings=[node_finding(node, names) for node in verdicts.nodes],
    )
