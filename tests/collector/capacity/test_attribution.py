"""Whose fault it is: a card's, or that of the node that carries it."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pytest

from farmhand_collector.capacity.attribution import WideFinding, attribute
from farmhand_collector.capacity.detector import DEGRADED, WATCH
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.capacity.frame import Work
from farmhand_collector.capacity.roster import CardKey, Roster
from farmhand_collector.capacity.step import Raised
from farmhand_collector.report import scope_finding

DETECTORS = {detector.name: detector for detector in all_detectors()}
NODE = Roster(
    CardKey("barn", "rack-1", "node-1", f"slot{slot}", f"GPU-{slot}", "nvidia", "GeForce RTX 3090")
    for slot in range(4)
)
ABLE = np.ones(4, bool)


def raised(name: str, level: int) -> Raised:
    """A finding of one detector."""
    return Raised(DETECTORS[name], level, 10**9, 0.8, 1.0, {}, DETECTORS[name].cause, "")


def test_what_a_hot_node_does_to_its_cards_is_one_finding() -> None:
    """Heat and the low clock that it makes are told together; the heat names the cause."""
    findings = {
        card: [raised("throttle_thermal", WATCH), raised("peer_core_clock", DEGRADED)]
        for card in range(4)
    }

    (node,) = attribute(NODE, findings, ABLE, Work.none(4), {})
    told = scope_finding(node, NODE, {card: f"GPU-{card}" for card in range(4)})

    assert findings == {card: [] for card in range(4)}
    assert (told.cause, told.state) == ("thermal", "degraded")
    assert [shown.finding for shown in told.evidence] == ["throttle_thermal", "peer_core_clock"]
    assert told.cards == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]


def test_a_card_that_has_gone_elsewhere_is_not_named() -> None:
    """What is said of a node in a recording may be older than its cards' places."""
    findings = {card: [raised("throttle_thermal", DEGRADED)] for card in range(4)}

    (node,) = attribute(NODE, findings, ABLE, Work.none(4), {})

    assert scope_finding(node, NODE, {1: "GPU-1", 2: "GPU-2"}).cards == ["GPU-1", "GPU-2"]


FARM = Roster(
    CardKey(
        "barn", f"rack-{node // 3}", f"node-{node}", f"{slot}", f"GPU-{node}-{slot}", "nvidia", "A"
    )
    for node in range(6)
    for slot in range(4)
)
"""Two racks of three nodes of four cards."""
NODES = {node: range(4 * node, 4 * node + 4) for node in range(6)}


def told(
    cards: Iterable[int],
    name: str,
    *,
    also: Mapping[int, str] | None = None,
    work: Work | None = None,
    groups: Mapping[str, Mapping[str, str]] | None = None,
) -> tuple[list[WideFinding], dict[int, list[Raised]]]:
    """Wider findings, and what is left to the cards, of cards that all show one finding."""
    findings = {card: [raised(name, DEGRADED)] for card in cards}
    for card, other in (also or {}).items():
        findings.setdefault(card, []).append(raised(other, DEGRADED))
    able = np.ones(len(FARM), bool)
    wide = attribute(FARM, findings, able, work or Work.none(len(FARM)), groups or {})
    return wide, {card: left for card, left in findings.items() if left}


def names(wide: Sequence[WideFinding]) -> list[tuple[str, str]]:
    """Scope and name of each."""
    return [(found.scope, found.name) for found in wide]


def doing(job: Mapping[int, int] | int, gang: Mapping[int, int] | None = None) -> Work:
    """Cards at numbered jobs and in numbered gangs."""
    n = len(FARM)
    jobs = np.full(n, job) if isinstance(job, int) else np.array([job.get(c, 0) for c in range(n)])
    gangs = np.array([(gang or {}).get(card, 0) for card in range(n)])
    named = {code: f"name {code}" for code in (*jobs.tolist(), *gangs.tolist())}
    return Work(np.ones(n), jobs, gangs, named)


def test_a_hot_rack_is_one_finding() -> None:
    """Not one for each of its nodes: its air is at fault."""
    wide, left = told(range(12), "throttle_thermal")

    assert names(wide) == [("rack", "rack-0")]
    assert left == {}


def test_one_hot_node_in_a_rack_is_the_node() -> None:
    """Most cards of the rack are well."""
    wide, _ = told(NODES[1], "throttle_thermal")

    assert names(wide) == [("node", "node-1")]


def test_cards_here_and_there_are_cards() -> None:
    """One in each node: nothing that they share is known."""
    wide, left = told([0, 4, 8, 12], "throttle_thermal")

    assert wide == []
    assert sorted(left) == [0, 4, 8, 12]


def test_cards_on_one_supply_are_one_finding() -> None:
    """Where the keeper has said so; half of the node hangs on another."""
    supply = {f"GPU-0-{slot}": "PSU 1" for slot in range(3)} | {"GPU-0-3": "PSU 2"}
    also_on_it = {f"GPU-{node}-0": "PSU 2" for node in range(1, 6)}

    wide, left = told([0, 1, 2], "throttle_hardware", groups={"power_group": supply | also_on_it})

    assert names(wide) == [("power_group", "PSU 1")]
    assert left == {}


def test_cards_may_be_named_by_their_place() -> None:
    """As where a table was made before the boards were read."""
    supply = {f"node-0:{slot}": "PSU 1" for slot in range(3)}

    wide, _ = told([0, 1, 2], "throttle_hardware", groups={"power_group": supply})

    assert names(wide) == [("power_group", "PSU 1")]


def test_what_only_a_card_can_have_stays_with_the_cards() -> None:
    """Memory does not vanish by a node's fault."""
    wide, left = told(NODES[0], "memory_size")

    assert wide == []
    assert sorted(left) == list(NODES[0])


def test_a_gang_that_waits_for_one_card_names_it() -> None:
    """All go at its pace; only its own sensors show which one it is."""
    gang = dict.fromkeys([*NODES[0], *NODES[1]], 7)

    wide, left = told(gang, "work_rate", also={5: "throttle_thermal"}, work=doing(1, gang))

    assert names(wide) == [("gang", "name 7")]
    assert wide[0].named == 5
    assert {card: [f.detector.name for f in found] for card, found in left.items()} == {
        5: ["throttle_thermal"]
    }


def test_a_gang_that_is_slow_without_a_reason_of_its_own_is_its_node() -> None:
    """The host, its disk or its network: no board is to be pulled."""
    gang = dict.fromkeys(NODES[2], 7)

    wide, left = told(gang, "work_rate", work=doing(1, gang))

    assert names(wide) == [("node", "node-2")]
    assert left == {}
    assert scope_finding(wide[0], FARM, {}).cause == "host"


def test_a_job_that_is_slow_on_all_its_nodes_is_the_job() -> None:
    """What it does has changed, not the cards."""
    cards = [card for node in (0, 1, 3) for card in NODES[node]]

    wide, left = told([0, 1, 4, 5, 6, 12, 13, 14], "work_rate", work=doing(dict.fromkeys(cards, 3)))

    assert names(wide) == [("job", "name 3")]
    assert left == {}
    assert scope_finding(wide[0], FARM, {}).cause == "workload"


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_findings_does_not_matter(order: int) -> None:
    """Nor does that of cards."""
    one, _ = told(list(range(12))[::order], "throttle_thermal")

    assert [found.cards for found in one] == [tuple(range(12))]
