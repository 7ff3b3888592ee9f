"""Whose fault it is: up the ladder from the card to the node that carries it.

Four cards of a node that are slow together are one finding about the node, not four boards to
pull.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from farmhand_collector.capacity.frame import Frame

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


def attribute(frame: Frame, findings: "dict[int, list[Raised]]") -> list[NodeFinding]:
    """Lift findings that most cards of a node share out of `findings` into node findings."""
    nodes = []
    for (site, host), cards in _cards_of_nodes(frame).items():
        for name, shared in _shared(cards, findings).items():
            raised = tuple(_take_out(findings, card, name) for card in shared)
            nodes.append(NodeFinding(site, host, name, tuple(shared), raised))
    return nodes


def _cards_of_nodes(frame: Frame) -> dict[tuple[str, str], list[int]]:
    nodes: dict[tuple[str, str], list[int]] = defaultdict(list)
    for card, key in enumerate(frame.roster):
        if frame.present[card]:
            nodes[key.site, key.host].append(card)
    return nodes


def _shared(cards: Iterable[int], findings: "dict[int, list[Raised]]") -> dict[str, list[int]]:
    """Findings by detector that enough of these cards show."""
    cards = list(cards)
    showing: dict[str, list[int]] = defaultdict(list)
    for card in cards:
        for raised in findings.get(card, ()):
            if raised.detector.cause in SHARED_CAUSES:
                showing[raised.detector.name].append(card)
    return {
        name: having
        for name, having in showing.items()
        if len(having) >= LEAST_CARDS and len(having) >= LEAST_SHARE * len(cards)
    }


def _take_out(findings: "dict[int, list[Raised]]", card: int, name: str) -> "Raised":
    raised = next(finding for finding in findings[card] if finding.detector.name == name)
    findings[card].remove(raised)
    return raised
