"""Whose fault it is: a card's, or that of the node that carries it."""

import numpy as np

from farmhand_collector.capacity.attribution import attribute
from farmhand_collector.capacity.detector import DEGRADED, WATCH
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.capacity.roster import CardKey, Roster
from farmhand_collector.capacity.step import Raised
from farmhand_collector.report import node_finding

DETECTORS = {detector.name: detector for detector in all_detectors()}
NODE = Roster(
    CardKey("barn", "rack-1", "node-1", f"slot{slot}", f"GPU-{slot}", "nvidia", "GeForce RTX 3090")
    for slot in range(4)
)
ABLE = np.ones(4, bool)


def raised(name: str, level: int) -> Raised:
    """A finding of one detector."""
    return Raised(DETECTORS[name], level, 10**9, 0.8, 1.0, {})


def test_what_a_hot_node_does_to_its_cards_is_one_finding() -> None:
    """Heat and the low clock that it makes are told together; the heat names the cause."""
    findings = {
        card: [raised("throttle_thermal", WATCH), raised("peer_core_clock", DEGRADED)]
        for card in range(4)
    }

    (node,) = attribute(NODE, findings, ABLE)
    told = node_finding(node, {card: f"GPU-{card}" for card in range(4)})

    assert findings == {card: [] for card in range(4)}
    assert (told.cause, told.state) == ("thermal", "degraded")
    assert [shown.finding for shown in told.evidence] == ["throttle_thermal", "peer_core_clock"]
    assert told.cards == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]


def test_a_card_that_has_gone_elsewhere_is_not_named() -> None:
    """What is said of a node in a recording may be older than its cards' places."""
    findings = {card: [raised("throttle_thermal", DEGRADED)] for card in range(4)}

    (node,) = attribute(NODE, findings, ABLE)

    assert node_finding(node, {1: "GPU-1", 2: "GPU-2"}).cards == ["GPU-1", "GPU-2"]
