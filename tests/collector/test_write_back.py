"""What the collector says, as readings for others."""

import msgspec
import pytest

from farmhand_collector.capacity.roster import CardKey
from farmhand_collector.wire import CapacityRow, CardVerdict, ComponentCapacity, Evidence
from farmhand_collector.write_back import EVERY_SECONDS, WriteBack, capacities

NOON_NS = 1_790_000_000 * 10**9
KEY = CardKey("barn", "a", "shelf-3", "0", "GPU-1", "nvidia", "RTX 3090")
GOOD = CardVerdict(
    *("GPU-1", "", "barn", "a", "shelf-3", "0", "RTX 3090", "ok"),
    cause=None,
    component=None,
    delivered={"compute": 1.0},
    action=None,
    since=1_790_000_000.0,
    confidence=0.9,
    evidence=[],
)
HOT = msgspec.structs.replace(
    GOOD,
    state="degraded",
    cause="thermal",
    component="compute",
    delivered={"compute": 0.8, "bandwidth": 1.0},
    action="clean-fan",
    evidence=[Evidence("throttle_thermal", {"duty": 0.5}, "It slows itself down.")],
)


def test_a_verdict_is_written_with_place_and_reason() -> None:
    """A dashboard needs nothing else."""
    (told,) = WriteBack().verdicts(NOON_NS, {"k": (KEY, HOT)})

    assert told.measurement == "verdict"
    assert told.tags == KEY._asdict()
    assert told.fields == {
        "state": "degraded",
        "cause": "thermal",
        "component": "compute",
        "action": "clean-fan",
        "finding": "throttle_thermal",
        "reason": "It slows itself down.",
        "state_level": 2.0,
        "delivered_ratio": 0.8,
        "confidence_ratio": 0.9,
        "since_seconds": 1_790_000_000.0,
    }


def test_only_what_changed_is_written_between() -> None:
    """Ten thousand cards that are well need not be said to be each half minute."""
    back = WriteBack()
    assert len(back.verdicts(NOON_NS, {"k": (KEY, GOOD), "l": (KEY, GOOD)})) == 2

    told = back.verdicts(NOON_NS + 30 * 10**9, {"k": (KEY, HOT), "l": (KEY, GOOD)})

    assert [reading.fields["state"] for reading in told] == ["degraded"]
    assert back.verdicts(NOON_NS + 60 * 10**9, {"k": (KEY, HOT), "l": (KEY, GOOD)}) == []


def test_all_are_written_now_and_then() -> None:
    """So that a look at the last minutes shows every card."""
    back = WriteBack()
    back.verdicts(NOON_NS, {"k": (KEY, GOOD)})
    later_ns = NOON_NS + round(EVERY_SECONDS) * 10**9

    assert len(back.verdicts(later_ns, {"k": (KEY, GOOD)})) == 1


def test_nobody_knows_what_an_unknown_card_gives() -> None:
    """Nothing is written for it, and not all."""
    unknown = msgspec.structs.replace(GOOD, state="unknown", confidence=None)

    (told,) = WriteBack().verdicts(NOON_NS, {"k": (KEY, unknown)})

    assert "delivered_ratio" not in told.fields
    assert told.fields["state_level"] == 5.0


def test_capacity_has_a_reading_for_each_component_of_each_thing() -> None:
    """What is not known is left out."""
    gives = ComponentCapacity(9.0, 8.0, 1.0, 6.0, 2.0, 0.0, {}, 0, 0.5, 0.4)
    nothing = ComponentCapacity(None, None, None, None, None, None, {}, 3, None, None)
    row = CapacityRow("rack", "barn", "a", 3, 2, 0.66, 0, 0, gives, nothing, nothing, nothing, "")

    told = capacities(NOON_NS, {"rack": [row]})

    assert [reading.tags["component"] for reading in told] == [
        "compute",
        "bandwidth",
        "memory",
        "link",
    ]
    assert told[0].tags == {"site": "barn", "scope": "rack", "name": "a", "component": "compute"}
    assert told[0].fields["delivered"] == pytest.approx(6.0)
    assert told[1].fields == {"cards": 3.0, "judged": 2.0}
