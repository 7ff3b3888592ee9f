"""Who stands where: nodes, slots and cards of a farm, drawn once by seed."""

import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from farmhand_collector.simulator.models import MODELS, RARE_MODELS, CardModel, Origin

SITE = "shed"

_BLOCK_CARDS = 18
"""Cards of one kind bought together in a small farm, so that each has peers."""

_BLOCKS_AT_MOST = 60
_ODD_CARD_SHARE = 0.02
_SLOW_TAIL_SHARE = 0.015
_IDLE_CARD_SHARE = 0.03
_CAPPED_NODE_SHARE = 0.1
_NARROW_SLOT_SHARE = 0.12
_UNLOCKED_SHARE = 0.5


class Profile(StrEnum):
    """What a node is used for."""

    TRAINING = "training"
    MIXED = "mixed"
    IDLE = "idle"


class Maker(NamedTuple):
    """A maker of boards: its PCI subsystem vendor, and how generous its power limit is."""

    subsystem_vendor: str
    limit_ratio: float


_MAKERS = (
    Maker("1043", 1.03),
    Maker("1462", 1.0),
    Maker("1458", 1.0),
    Maker("19da", 1.0),
    Maker("1569", 1.0),
    Maker("7377", 1.03),
)
_REFERENCE_MAKER = Maker("10de", 1.0)

_DRIVERS = ("570.133.20", "580.95.05")


class Node(NamedTuple):
    """One host: its cards are `cards[first : first + size]` of the fleet.

    `limit_ratio` below 1 is a power limit that the keeper lowered on purpose. `height` is the
    place in the rack, 0 at the floor, 1 at the top, where the air is warmer.
    """

    host: str
    rack: str
    first: int
    size: int
    profile: Profile
    limit_ratio: float
    height: float
    driver: str
    has_inlet_sensor: bool
    memory_gib: int

    @property
    def card_range(self) -> range:
        """Indices of its cards."""
        return range(self.first, self.first + self.size)


class Card(NamedTuple):
    """One card in its slot.

    `crowding` is 0 for a slot with free air and 1 for the innermost. `slot_lanes` is what the
    slot is wired for. `batch` names what was bought together. `unlocked` mining cards do what
    their chips can, as long as the unlock of each boot works. `spare` cards get no work;
    `slow_tail` ones are healthy chips of the slow end; `odd` ones differ from the rest of their
    node.
    """

    card: str
    node: int
    slot: str
    model: CardModel
    maker: Maker
    serial: str
    vbios: str
    pci_address: str
    crowding: float
    slot_lanes: int
    spare: bool
    slow_tail: bool
    odd: bool
    batch: str
    unlocked: bool

    @property
    def pcie_width_max(self) -> int:
        """Lanes that card and slot can both do."""
        return min(self.model.pcie_lanes, self.slot_lanes)

    @property
    def unlocked_share(self) -> float:
        """Share of its compute that the maker's lock leaves it; what waits for memory is free."""
        return 1.0 if self.unlocked else self.model.lock_ratio


@dataclass(frozen=True)
class Fleet:
    """All nodes and cards; cards of a node stand next to each other."""

    nodes: tuple[Node, ...]
    cards: tuple[Card, ...]

    def tags(self, card: Card) -> dict[str, str]:
        """Tags of a card's readings."""
        return self.host_tags(self.nodes[card.node]) | {
            "slot": card.slot,
            "card": card.card,
            "vendor": "nvidia",
            "model": card.model.model,
        }

    def host_tags(self, node: Node) -> dict[str, str]:
        """Tags of a host's readings."""
        return {"site": SITE, "rack": node.rack, "host": node.host}


def draw_fleet(cards: int, seed: int) -> Fleet:
    """A fleet of so many cards; the same seed gives the same fleet.

    Raises:
        ValueError: fewer than one card.
    """
    if cards < 1:
        raise ValueError(f"{cards} cards, expected at least 1")
    return _Purchase(cards, seed).fleet()


class _Purchase:
    """Fills racks with blocks of equal nodes until the cards are placed."""

    def __init__(self, cards: int, seed: int) -> None:
        self._left = cards
        rng = np.random.default_rng([seed, 1])
        self._block_cards = max(_BLOCK_CARDS, cards // _BLOCKS_AT_MOST)
        self._rng = rng
        self._unlock_rng = np.random.default_rng([seed, 20])
        self._batches = 0
        self._nodes: list[Node] = []
        self._cards: list[Card] = []
        self._rack_sizes = [0]
        self._rack_room = int(rng.integers(4, 9))
        self._driver = _DRIVERS[int(rng.integers(len(_DRIVERS)))]

    def fleet(self) -> Fleet:
        kinds = _kinds_in_turn(self._rng)
        turn = 0
        while self._left:
            self._buy_block(kinds[turn % len(kinds)])
            turn += 1
        return Fleet(tuple(self._nodes), tuple(self._cards))

    def _buy_block(self, model: CardModel) -> None:
        self._batches += 1
        count = self._block_cards
        if self._left < 1.5 * count:
            count = self._left
        per_node = int(self._rng.choice([4, 6, 8]))
        first = True
        while count:
            size = min(per_node, count)
            self._add_node(model, size, first)
            count -= size
            self._left -= size
            first = False

    def _add_node(self, model: CardModel, count: int, first_of_block: bool) -> None:
        rng = self._rng
        if self._rack_sizes[-1] == self._rack_room:
            self._rack_sizes.append(0)
            self._rack_room = int(rng.integers(4, 9))
        self._rack_sizes[-1] += 1
        capped = model.origin is not Origin.DATACENTRE and rng.random() < _CAPPED_NODE_SHARE
        limit_ratio = round(float(rng.uniform(0.7, 0.85)), 2)
        profile = Profile(rng.choice(list(Profile), p=[0.62, 0.32, 0.06]))
        node = Node(
            host=f"node-{len(self._nodes) + 1:03d}",
            rack=f"rack-{len(self._rack_sizes):02d}",
            first=len(self._cards),
            size=count,
            profile=Profile.TRAINING if first_of_block else profile,
            limit_ratio=limit_ratio if capped and not first_of_block else 1.0,
            height=(self._rack_sizes[-1] - 1) / 8.0,
            driver=self._driver,
            has_inlet_sensor=bool(rng.random() < 0.5),
            memory_gib=int(rng.choice([64, 128, 256])),
        )
        slot_lanes = _slot_lanes(model, rng)
        unlocked = model.lock_ratio < 1.0 and self._unlock_rng.random() < _UNLOCKED_SHARE
        for position in range(count):
            self._add_card(model, position, count, slot_lanes)
            self._cards[-1] = self._cards[-1]._replace(
                unlocked=unlocked and not self._cards[-1].odd
            )
        self._nodes.append(node)

    def _add_card(self, node_model: CardModel, position: int, count: int, slot_lanes: int) -> None:
        rng = self._rng
        odd = bool(rng.random() < _ODD_CARD_SHARE) and count > 1
        other = MODELS[int(rng.integers(len(MODELS)))]
        # A module on a mezzanine board has neighbours of its own kind only, and stands in no slot.
        odd = odd and "SXM" not in node_model.name + other.name
        model = other if odd else node_model
        datacentre = model.origin is Origin.DATACENTRE
        maker = _REFERENCE_MAKER if datacentre else _MAKERS[int(rng.integers(len(_MAKERS)))]
        self._cards.append(
            Card(
                card=f"GPU-{uuid.UUID(bytes=rng.bytes(16), version=4)}",
                node=len(self._nodes),
                slot=f"slot{position + 1}",
                model=model,
                maker=maker,
                serial=f"{rng.integers(10**12, 10**13)}" if datacentre else "",
                vbios=_vbios(rng),
                pci_address=f"00000000:{position * 16 + 1:02X}:00.0",
                crowding=_crowding(position, count),
                slot_lanes=slot_lanes,
                spare=bool(rng.random() < _IDLE_CARD_SHARE),
                slow_tail=bool(rng.random() < _SLOW_TAIL_SHARE),
                odd=odd,
                batch=f"batch-{self._batches:02d}",
                unlocked=False,
            )
        )


def _kinds_in_turn(rng: np.random.Generator) -> list[CardModel]:
    """Every kind once, rare ones last; origins take turns, so that small farms are mixed too."""
    kinds = [MODELS[int(index)] for index in rng.permutation(len(MODELS))]
    by_origin = {origin: [kind for kind in kinds if kind.origin is origin] for origin in Origin}
    deal: list[CardModel] = []
    while len(deal) < len(kinds):
        deal += [rest.pop() for rest in by_origin.values() if rest]
    return [*deal, *RARE_MODELS]


def _crowding(position: int, count: int) -> float:
    """How far inside a row of cards a slot is, 0 at its ends."""
    if count < 3:
        return 0.5 * (count - 1)
    inside, end = np.sin(np.pi * (np.array([position, 0]) + 0.5) / count)
    return float((inside - end) / (1.0 - end))


def _slot_lanes(model: CardModel, rng: np.random.Generator) -> int:
    """Lanes of a node's slots: mining frames have single-lane risers, some boards wire eight."""
    riser, narrow = rng.random() < 0.3, rng.random() < _NARROW_SLOT_SHARE
    if "SXM" in model.name:
        return 16
    if model.origin is Origin.MINING and riser:
        return 1
    return 8 if narrow else 16


def _vbios(rng: np.random.Generator) -> str:
    parts = rng.integers(0, 256, size=4)
    return "94." + ".".join(f"{part:02X}" for part in parts)
