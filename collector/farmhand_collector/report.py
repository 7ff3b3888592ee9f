"""Verdicts in the words of the wire: what `status --json`, `judge --json` and the API say."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from typing import Any

import numpy as np

from farmhand_agent.reading import UNIDENTIFIED
from farmhand_collector.capacity.attribution import WideFinding, codes_of, name_of
from farmhand_collector.capacity.detector import CAUSES, STATE_NAMES
from farmhand_collector.capacity.frame import Floats
from farmhand_collector.capacity.rollup import (
    COMPONENTS,
    Capacity,
    Integers,
    LastHeard,
    Rolled,
    blamed,
    gang_speeds,
    gang_without_slowest,
    rolled,
    what_if_repaired,
)
from farmhand_collector.capacity.roster import CardKey, Roster
from farmhand_collector.capacity.step import Raised, Verdicts
from farmhand_collector.catalogue.cards import reference
from farmhand_collector.catalogue.findings import meanings
from farmhand_collector.catalogue.words import words
from farmhand_collector.natural import natural
from farmhand_collector.wire import (
    SCHEMA,
    CapacityRow,
    CardVerdict,
    ComponentCapacity,
    Evidence,
    FarmState,
    Finding,
    GangWhatIf,
    ScopeFinding,
    Simulated,
    WhatIf,
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
    # A slash would end the path element of a URL, a comma an element of a list.
    names = [part.translate({ord("/"): "_", ord(","): "_"}) for part in parts]
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
    # What something wider is at fault for is missing all the same.
    explained = [] if state == "unknown" else verdicts.explained.get(index, [])
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
        cause=first.cause if first else ("unreachable" if silent else None),
        component=first.detector.component if first else None,
        delivered=_delivered([*raised, *(finding for _, finding in explained)]),
        action=first.action if first else ("look-at-node" if silent else None),
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
        Evidence(
            wide.scope,
            {"host" if wide.scope == "node" else "name": wide.name},
            explained_text(wide.scope, wide.name),
        )
        for wide, _ in verdicts.explained.get(index, [])
    ]


def explained_text(scope: str, name: str, language: str = "en") -> str:
    """The sentence of a card whose findings something wider is at fault for."""
    return words(language).explained(scope, name)


def evidence(finding: str, values: Mapping[str, Any], language: str = "en") -> Evidence:
    """A finding's values with the sentence that they make."""
    shown = dict(values)
    shown |= {
        name.replace("_bytes", "_gib"): value / GIB
        for name, value in values.items()
        if name.endswith("_bytes")
    }
    return Evidence(finding, dict(values), meanings(language)[finding].sentence(shown))


def _delivered(raised: Sequence[Raised]) -> dict[str, float]:
    """Share delivered by component; the worst finding of a component counts."""
    shares: dict[str, float] = {}
    for finding in raised:
        component = finding.detector.component
        if not math.isnan(finding.delivered):
            for name in COMPONENTS if component is None else (component,):
                shares[name] = min(finding.delivered, shares.get(name, 1.0))
    return shares


def scope_finding(
    wide: WideFinding, roster: Sequence[CardKey], card_keys: Mapping[int, str]
) -> ScopeFinding:
    """What is to be said of a scope; cards that have gone elsewhere since are not named."""
    shown = dict.fromkeys(finding.detector.name for finding in wide.raised)
    return ScopeFinding(
        scope=wide.scope,
        name=wide.name,
        state=STATE_NAMES[max(finding.level for finding in wide.raised)],
        cause=blamed(wide),
        delivered=_delivered(wide.raised),
        action="look-at-job" if wide.scope in _WORK else "look-at-node",
        since=min(finding.since_ns for finding in wide.raised) / 1e9,
        confidence=min(finding.confidence for finding in wide.raised),
        evidence=[_shared_evidence(name, wide, roster) for name in shown],
        cards=[card_keys[card] for card in wide.cards if card in card_keys],
    )


_WORK = ("job", "gang")


def _shared_evidence(detector: str, wide: WideFinding, roster: Sequence[CardKey]) -> Evidence:
    count = sum(finding.detector.name == detector for finding in wide.raised)
    values: dict[str, Any] = {"cards": count}
    if wide.named is not None:
        slowest = roster[wide.named]
        values |= {"host": slowest.host, "slot": slowest.slot, "card": slowest.card}
    return Evidence(detector, values, shared_text(detector, wide.scope, values))


def shared_text(detector: str, scope: str, values: Mapping[str, Any], language: str = "en") -> str:
    """The sentence of what several cards of a scope show together."""
    said = words(language)
    parts = [said.shared(values["cards"], scope)]
    if "slot" in values:
        parts.append(said.awaited(values["host"], values["slot"]))
    return " ".join([*parts, meanings(language)[detector].brief])


def card_finding(key: str, verdict: CardVerdict, language: str = "en") -> Finding:
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
        steps=list(meanings(language)[first.finding].steps),
        delivered=min(verdict.delivered.values(), default=None),
        since=verdict.since or 0.0,
        cards=[key],
    )


def wider_finding(found: ScopeFinding, language: str = "en") -> Finding:
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
        steps=list(meanings(language)[first.finding].steps),
        delivered=min(found.delivered.values(), default=None),
        since=found.since,
        cards=found.cards,
    )


def _seconds(time_ns: int) -> float | None:
    return time_ns / 1e9 if time_ns else None


def farm_state(
    roster: Sequence[CardKey],
    verdicts: Verdicts | None,
    simulated: Simulated | None = None,
    capacity: CapacityRow | None = None,
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
        findings=[scope_finding(wide, roster, names) for wide in verdicts.wide],
        capacity=capacity,
    )


# --- capacity ----------------------------------------------------------------------------------

Groups = Mapping[str, Mapping[str, str]]


def farm_capacity(roster: Roster, rows: Sequence[int], capacity: Capacity) -> CapacityRow | None:
    """The capacity of the cards that are spoken of; None where there are none."""
    return next(iter(capacity_rows("farm", roster, rows, capacity, {})), None)


def capacity_rows(
    by: str, roster: Roster, rows: Sequence[int], capacity: Capacity, groups: Groups
) -> list[CapacityRow]:
    """Capacity added up by one of `CAPACITY_SCOPES`, in the order in which people count.

    Args:
        by: the scope.
        roster: the cards.
        rows: those of them that are spoken of; they are in one row each.
        capacity: that of all cards.
        groups: by scope and card, what the keeper has said cards share.
    """
    spoken = np.full(len(roster), -1, np.int64)
    spoken[list(rows)] = _codes(by, roster, groups)[list(rows)]
    sums = rolled(capacity, spoken)
    firsts = sums.first.tolist()
    found = [
        _capacity_row(by, at, sums, *_told_name(by, firsts[at], roster, groups))
        for at in np.flatnonzero(sums.cards).tolist()
    ]
    # What is not told comes last.
    return sorted(found, key=lambda row: (not row.name, natural(row.site), natural(row.name)))


def _codes(by: str, roster: Roster, groups: Groups) -> Integers:
    """(n,) a group for each card, without gaps; those of which nothing is told share one."""
    if by == "farm":
        return np.zeros(len(roster), np.int64)
    codes = roster.kinds if by == "model" else codes_of(by, roster, groups)
    _, dense = np.unique(codes, return_inverse=True)
    return dense.astype(np.int64)


def _told_name(by: str, card: int, roster: Roster, groups: Groups) -> tuple[str, str]:
    """Site and name of the thing that a card belongs to; the site where it is part of the name."""
    if by == "farm":
        return "", ""
    name = roster[card].model if by == "model" else name_of(by, card, roster, groups)
    return (roster[card].site if by in ("rack", "node") and name else ""), name


def _capacity_row(by: str, at: int, sums: Rolled, site: str, name: str) -> CapacityRow:
    cards, judged = int(sums.cards[at]), int(sums.judged[at])
    components = {
        component: _component(at, number, sums) for number, component in enumerate(COMPONENTS)
    }
    fp32_cards, unknown_models = int(sums.by_fp32[at]), int(sums.unknown_models[at])
    return CapacityRow(
        scope=by,
        site=site,
        name=name,
        cards=cards,
        judged=judged,
        judged_ratio=judged / cards if cards else None,
        unknown_models=unknown_models,
        fp32_cards=fp32_cards,
        **components,
        text=_capacity_text(components["compute"], cards, judged, fp32_cards),
    )


def _component(at: int, number: int, sums: Rolled) -> ComponentCapacity:
    known, weighed = sums.known[at, number] > 0, sums.weighed[at, number] > 0
    one = _one_a100()[number]

    def told(values: Floats, is_known: bool) -> float | None:
        return float(values[at, number]) if is_known else None

    expected, delivered = told(sums.expected, known), told(sums.delivered, weighed)
    causes = zip(CAUSES, sums.missing_by_cause[at, :, number].tolist(), strict=True)
    return ComponentCapacity(
        default=told(sums.default, known),
        expected=expected,
        by_choice=told(sums.by_choice, known),
        delivered=delivered,
        missing=told(sums.missing, weighed),
        unjudged=told(sums.unjudged, known),
        missing_by_cause={cause: amount for cause, amount in causes if amount > 0},
        unknown_cards=int(sums.cards[at] - sums.known[at, number]),
        expected_a100_equivalents=None if expected is None else expected / one,
        delivered_a100_equivalents=None if delivered is None else delivered / one,
    )


@cache
def _one_a100() -> tuple[float, ...]:
    """What one A100 gives, by component."""
    whole = reference()
    figures = (whole.fp16, whole.memory_bandwidth, whole.memory, whole.link)
    return tuple(math.nan if figure is None else figure for figure in figures)


def _capacity_text(compute: ComponentCapacity, cards: int, judged: int, fp32_cards: int) -> str:
    share = f"{100 * judged / cards:.0f} % of cards judged"
    expected = compute.expected
    if not expected:
        return f"has a capacity of compute that is not known; {share}"

    def equivalents(amount: float) -> str:
        return _short(amount / _one_a100()[0])

    lost = ", ".join(f"{cause} {equivalents(amount)}" for cause, amount in _most(compute))
    remarks = [f"missing by cause: {lost}"] if lost else []
    remarks += [f"{equivalents(compute.unjudged)} not judged"] if compute.unjudged else []
    remarks += [f"{equivalents(compute.by_choice)} less by choice"] if compute.by_choice else []
    remarks += [f"{compute.unknown_cards} cards not known"] if compute.unknown_cards else []
    remarks += [f"{fp32_cards} cards by fp32"] if fp32_cards else []
    aside = f" ({'; '.join(remarks)})" if remarks else ""
    if compute.delivered is None:
        given = f"should deliver {equivalents(expected)}"
    else:
        given = f"delivers {equivalents(compute.delivered)} of {equivalents(expected)}"
    return f"{given} A100 equivalents of compute{aside}; {share}"


def _most(component: ComponentCapacity) -> list[tuple[str, float]]:
    """Causes and what they take, most first."""
    return sorted(component.missing_by_cause.items(), key=lambda told: -told[1])


def _short(amount: float) -> str:
    """Three digits, or all before the point."""
    return f"{amount:.0f}" if amount >= 100 else f"{amount:.3g}"


def what_if(
    rows: Sequence[int], gang: str, names: Mapping[int, str], capacity: Capacity, heard: LastHeard
) -> WhatIf:
    """What comes back when these cards are repaired, and the pace of a gang, if one is named.

    Args:
        rows: the cards.
        gang: its name, or nothing.
        names: the keys of all cards that are spoken of.
        capacity: that of all cards.
        heard: who is in which gang.
    """
    returns = what_if_repaired(capacity, rows)
    return WhatIf(
        cards=[names[row] for row in rows],
        unjudged=[names[row] for row in rows if not capacity.judged[row]],
        returns=dict(zip(COMPONENTS, returns.tolist(), strict=True)),
        returns_a100_equivalents=dict(
            zip(COMPONENTS, (returns / _one_a100()).tolist(), strict=True)
        ),
        gang=_gang(gang, names, capacity, heard) if gang else None,
    )


def _gang(
    name: str, names: Mapping[int, str], capacity: Capacity, heard: LastHeard
) -> GangWhatIf | None:
    members = np.array([row for row in heard.members(name).tolist() if row in names], np.int64)
    if not len(members):
        return None
    speeds = gang_speeds(capacity, members)
    unknown = np.isnan(speeds)
    pace = None if unknown.all() else gang_without_slowest(speeds)
    return GangWhatIf(
        name=name,
        cards=[names[row] for row in members.tolist()],
        unjudged=[names[row] for row in members[unknown].tolist()],
        now=pace and pace.now,
        without_slowest=pace and pace.without_slowest,
        left_out=pace.left_out if pace else 0,
        best=pace and pace.best,
    )
