"""Whose fault it is: up the ladder from the card to the node that carries it.

Four cards of a node that are slow together are one finding about the node, not four boards to
pull.
"""

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from farmhand_collector.capacity.frame import Bools
from farmhand_collector.capacity.roster import Roster

if TYPE_CHECKING:
    from farmhand_collector.capacity.step import Raised

SHARED_CAUSES = frozenset({"thermal", "power", "compute"})
"""Causes that a node can have for its cards: air, supply, its own slowness."""
LEAST_CARDS = 3
LEAST_SHARE = 0.6
"""So many of a node's cards, and this share of them, must show the same finding."""


class NodeFinding(NamedTuple):
    """What is wrong with a node: the cards that show it, and their findings that it explains.

    The findings come in the order in which they explain one another: the first names the cause.
    """

    site: str
    host: str
    cards: tuple[int, ...]
    raised: "tuple[Raised, ...]"


def attribute(
    roster: Roster, findings: "dict[int, list[Raised]]", able: Bools
) -> list[NodeFinding]:
    """Lift findings that most cards of a node share out of `findings` into node findings.

    Args:
        roster: the cards.
        findings: by card; what is lifted is taken out.
        able: (n,) cards that could show a finding now, if they had one.
    """
    sizes = np.bincount(roster.nodes[able], minlength=len(roster))
    lifted: dict[int, list[tuple[int, Raised]]] = defaultdict(list)
    for (node, name), cards in sorted(_showing(roster, findings, able).items()):
        if len(cards) >= LEAST_CARDS and len(cards) >= LEAST_SHARE * sizes[node]:
            lifted[node] += [(card, _take_out(findings, card, name)) for card in cards]
    return [_node_finding(roster, shown) for shown in lifted.values()]


def _node_finding(roster: Roster, shown: "list[tuple[int, Raised]]") -> NodeFinding:
    cards = tuple(sorted({card for card, _ in shown}))
    raised = sorted((finding for _, finding in shown), key=lambda found: found.detector.precedence)
    return NodeFinding(roster[cards[0]].site, roster[cards[0]].host, cards, tuple(raised))


def _showing(
    roster: Roster, findings: "dict[int, list[Raised]]", able: Bools
) -> dict[tuple[int, str], list[int]]:
    """Cards by node and by the detector whose finding they show, where a node can be the cause."""
    showing: dict[tuple[int, str], list[int]] = defaultdict(list)
    for card, raised in sorted(findings.items()):
        for finding in raised:
            if able[card] and finding.detector.cause in SHARED_CAUSES:
                showing[int(roster.nodes[card]), finding.detector.name].append(card)
    return showing


def _take_out(findings: "dict[int, list[Raised]]", card: int, name: str) -> "Raised":
    raised = next(finding for finding in findings[card] if finding.detector.name == name)
    findings[card].remove(raised)
    return raised
