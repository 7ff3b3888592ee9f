"""A farm as the exit status of a Nagios check."""

import pytest

from farmhand_collector.nagios import exit_status
from farmhand_collector.wire import CardVerdict, FarmState, ScopeFinding


def farm(*states: str, found: str | None = None) -> FarmState:
    """A farm of cards in these states, and perhaps a finding about a node."""
    where = ("GPU-0", "", "barn", "a", "node-0", "0", "RTX 3090")
    cards = [CardVerdict(*where, state, None, None, {}, None, None, None, []) for state in states]
    node = ScopeFinding("node", "node-0", found or "", "thermal", {}, None, 0.0, 1.0, [], [])
    return FarmState(1, None, 0.0, cards, [node] if found else [])


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (("ok", "ok"), 0),
        (("ok", "unknown"), 0),
        (("ok", "watch"), 1),
        (("degraded", "unknown"), 1),
        (("degraded", "failing"), 2),
        (("ok", "lost"), 2),
        (("unknown", "unknown"), 3),
        ((), 3),
    ],
)
def test_the_worst_card_decides(states: tuple[str, ...], status: int) -> None:
    """Idle cards do not make a farm unknown, a farm without judged cards is."""
    assert exit_status(farm(*states)) == status


def test_a_finding_about_a_node_counts() -> None:
    """Its cards are ok and point to it; the farm is not."""
    assert exit_status(farm("ok", found="degraded")) == 1
