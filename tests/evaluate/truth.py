"""What is known of the cards of a recording, by their place in the roster."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.roster import CardKey
from tests.evaluate.real.halves import Half, card_half
from tests.evaluate.real.labels import Labels


class Truth(NamedTuple):
    """Cards by what they are; those in doubt and those that wait for others are in no set."""

    faulty: dict[int, str | None]
    """Cards at fault, with the cause where it is known."""
    healthy: set[int]
    on_slow_nodes: set[int]
    """Cards that are slow with their node, none of them at fault."""
    slow_nodes: set[str]
    healthy_nodes: set[str]
    """Hosts all of whose cards are healthy."""


def truth(labels: Labels, roster: Sequence[CardKey]) -> Truth:
    """Labels by the places of a roster."""
    faulty: dict[int, str | None] = {}
    healthy, slow, mixed = set(), set(), set()
    for index, key in enumerate(roster):
        if key.card in labels.cards:
            faulty[index] = labels.cards[key.card]
        elif key.host in labels.nodes:
            slow.add(index)
        elif _is_clear(labels, key):
            healthy.add(index)
        else:
            mixed.add(key.host)
    mixed |= {roster[index].host for index in (*faulty, *slow)}
    hosts = {key.host for key in roster}
    return Truth(faulty, healthy, slow, set(labels.nodes) & hosts, hosts - mixed)


def _is_clear(labels: Labels, key: CardKey) -> bool:
    unclear = key.card in labels.unclear_cards or key.host in labels.unclear_nodes
    return not unclear and key.card not in labels.mates


def in_half(roster: Sequence[CardKey], cards: set[int], half: Half) -> NDArray[np.bool_]:
    """(cards,) which of some cards are in a half of the data; nodes stay together."""
    return np.array(
        [index in cards and card_half(key.host) is half for index, key in enumerate(roster)], bool
    )
