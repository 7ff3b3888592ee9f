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
    """One finding about a node: which detector raised it on which cards."""

    site: str
    host: str
    detector_name: str
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
    nodes = []
    for (node, name), cards in sorted(_showing(roster, findings, able).items()):
        if len(cards) >= LEAST_CARDS and len(cards) >= LEAST_SHARE * sizes[node]:
            raised = tuple(_take_out(findings, card, name) for card in cards)
            key = roster[cards[0]]
            nodes.append(NodeFinding(key.site, key.host, name, tuple(cards), raised))
    return nodes


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
