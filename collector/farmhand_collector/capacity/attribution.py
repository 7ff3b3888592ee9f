"""Whose fault it is: up the ladder from the card to what carries several of them.

Four cards of a node that are slow together are one finding about the node, not four boards to
pull; a rack whose nodes are all hot is one about its air; a gang that waits for one of its cards
names that card.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.detector import DEGRADED
from farmhand_collector.capacity.frame import Bools, Work, code_of
from farmhand_collector.capacity.roster import CardKey, Roster

if TYPE_CHECKING:
    from farmhand_collector.capacity.step import Raised

Codes = NDArray[np.int64]
Findings = dict[int, list["Raised"]]

SCOPES = ("site", "rack", "batch", "power_group", "node")
"""In the order in which they are asked: the widest explains most. A supply comes before the node
that it feeds, because whoever named it wants to know."""
LEAST_CARDS = 3
LEAST_SHARE = 0.6
"""So many of a scope's cards, and this share of them, must show the same finding."""
LEAST_NODES = 2
"""Nodes over which the cards of a wider scope must be spread, or the node explains them."""


class WideFinding(NamedTuple):
    """What is wrong with something that carries cards: the cards that show it, and how.

    `shown` pairs cards and findings, those first that explain the others: they name the cause.
    `named` is the card of a gang for which the others wait.
    """

    scope: str
    site: str
    name: str
    shown: "tuple[tuple[int, Raised], ...]"
    named: int | None = None

    @property
    def cards(self) -> tuple[int, ...]:
        """Cards that show it."""
        return tuple(sorted({card for card, _ in self.shown}))

    @property
    def raised(self) -> "tuple[Raised, ...]":
        """The findings that it explains."""
        return tuple(finding for _, finding in self.shown)


def attribute(
    roster: Roster,
    findings: Findings,
    able: Bools,
    work: Work,
    groups: Mapping[str, Mapping[str, str]],
) -> list[WideFinding]:
    """Lift what many cards of one scope share out of `findings` into wider findings.

    Args:
        roster: the cards.
        findings: by card; what is lifted is taken out.
        able: (n,) cards that could show a finding now, if they had one.
        work: the cards' jobs and gangs.
        groups: by scope and card, what the keeper has said cards share.
    """
    if not any(findings.values()):
        return []
    wide = _held_up(roster, findings, able, work) + _jobs(roster, findings, able, work)
    for scope in SCOPES:
        codes = codes_of(scope, roster, groups)
        wide += [
            found._replace(name=name_of(scope, found.cards[0], roster, groups))
            for found in _shared(scope, codes, roster, findings, able)
        ]
    return wide


def codes_of(scope: str, roster: Roster, groups: Mapping[str, Mapping[str, str]]) -> Codes:
    """(n,) a code for all cards of one thing of a scope, -1 where a card belongs to none."""
    if scope in groups:
        named = groups[scope]
        return np.array([code_of(_named(named, key)) or -1 for key in roster], np.int64)
    known = {"site": roster.sites, "rack": roster.racks, "node": roster.nodes}
    return known.get(scope, np.full(len(roster), -1, np.int64))


def name_of(scope: str, card: int, roster: Roster, groups: Mapping[str, Mapping[str, str]]) -> str:
    """What a card's thing of a scope is called."""
    key = roster[card]
    own = {"site": key.site, "rack": key.rack, "node": key.host}
    return _named(groups.get(scope, {}), key) or own.get(scope, "")


def _named(named: Mapping[str, str], key: CardKey) -> str:
    """What the keeper has said of a card, by its UUID or by its place."""
    return named.get(key.card) or named.get(f"{key.host}:{key.slot}", "")


def _shared(
    scope: str, codes: Codes, roster: Roster, findings: Findings, able: Bools
) -> list[WideFinding]:
    lifted: dict[int, list[tuple[int, Raised]]] = defaultdict(list)
    sizes = _sizes(codes, able)
    for (code, name), cards in sorted(_showing(scope, codes, findings, able).items()):
        enough = len(cards) >= max(LEAST_CARDS, LEAST_SHARE * sizes[code])
        if enough and _is_widest(scope, roster, cards):
            lifted[code] += [(card, _take_out(findings, card, name)) for card in cards]
    return [_wide(scope, roster, shown) for shown in lifted.values()]


def _is_widest(scope: str, roster: Roster, cards: Sequence[int]) -> bool:
    """Whether nothing narrower holds all these cards."""
    if scope in ("node", "power_group"):
        return True
    return len(np.unique(roster.nodes[list(cards)])) >= LEAST_NODES


def _sizes(codes: Codes, able: Bools) -> dict[int, int]:
    found, counts = np.unique(codes[able & (codes >= 0)], return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _showing(
    scope: str, codes: Codes, findings: Findings, able: Bools
) -> dict[tuple[int, str], list[int]]:
    """Cards by code and by detector whose finding they show, where the scope can be at fault."""
    showing: dict[tuple[int, str], list[int]] = defaultdict(list)
    for card, raised in sorted(findings.items()):
        if able[card] and codes[card] >= 0:
            for finding in raised:
                if scope in finding.detector.shared_by:
                    showing[int(codes[card]), finding.detector.name].append(card)
    return showing


def _wide(scope: str, roster: Roster, shown: "list[tuple[int, Raised]]") -> WideFinding:
    return WideFinding(scope, roster[shown[0][0]].site, "", _ordered(shown))


def _ordered(shown: "list[tuple[int, Raised]]") -> "tuple[tuple[int, Raised], ...]":
    return tuple(sorted(shown, key=lambda found: (found[1].detector.precedence, found[0])))


def _take_out(findings: Findings, card: int, name: str) -> "Raised":
    raised = next(finding for finding in findings[card] if finding.detector.name == name)
    findings[card].remove(raised)
    return raised


# --- work --------------------------------------------------------------------------------------


def _slow(findings: Findings, able: Bools) -> dict[int, "Raised"]:
    """Cards whose work is slow, with that finding."""
    return {
        card: finding
        for card, raised in sorted(findings.items())
        if able[card]
        for finding in raised
        if "job" in finding.detector.shared_by
    }


def _held_up(roster: Roster, findings: Findings, able: Bools, work: Work) -> list[WideFinding]:
    """Gangs that wait for one of their cards: the others have nothing wrong with them.

    In lock step all go at the pace of the slowest, so the rate says which gang is slow, and only
    a card's own sensors say which card it is.
    """
    slow = _slow(findings, able)
    held = []
    for code in sorted({int(work.gang[card]) for card in slow} - {0}):
        members = np.flatnonzero((work.gang == code) & able).tolist()
        showing = [card for card in members if card in slow]
        own = [card for card in members if _costs_by_itself(findings.get(card, ()))]
        if len(members) < 2 or not own or len(own) > len(members) / 2:
            continue
        worst = min(own, key=lambda card: _least_delivered(findings[card]))
        shown = [(card, _take_out(findings, card, slow[card].detector.name)) for card in showing]
        site, name = roster[worst].site, work.names.get(code, "")
        held.append(WideFinding("gang", site, name, _ordered(shown), worst))
    return held


def _costs_by_itself(raised: "Sequence[Raised]") -> bool:
    """Whether a card shows more than slow work: something that costs capacity."""
    return any(
        finding.level >= DEGRADED or finding.delivered < 1
        for finding in raised
        if "job" not in finding.detector.shared_by
    )


def _least_delivered(raised: "Sequence[Raised]") -> float:
    shares = [finding.delivered for finding in raised if "job" not in finding.detector.shared_by]
    return min((share for share in shares if share == share), default=1.0)


def _jobs(roster: Roster, findings: Findings, able: Bools, work: Work) -> list[WideFinding]:
    """Jobs of which most cards on several nodes are slow: the work changed, not the cards."""
    slow = _slow(findings, able)
    by_job: dict[int, list[int]] = defaultdict(list)
    for card in slow:
        if work.job[card]:
            by_job[int(work.job[card])].append(card)
    sizes = _sizes(work.job, able & (work.job > 0))
    wide = []
    for code, cards in sorted(by_job.items()):
        enough = len(cards) >= max(LEAST_CARDS, LEAST_SHARE * sizes[code])
        if enough and len(np.unique(roster.nodes[cards])) >= LEAST_NODES:
            shown = [(card, _take_out(findings, card, slow[card].detector.name)) for card in cards]
            name = work.names.get(code, "")
            wide.append(WideFinding("job", roster[cards[0]].site, name, _ordered(shown)))
    return wide
