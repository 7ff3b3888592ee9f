"""What a kind of fault, or of harmless event, is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from farmhand_collector.simulator.effects import Array, Effects
from farmhand_collector.simulator.fleet import Card, Fleet
from farmhand_collector.simulator.physics import Hardware

HOUR, DAY = 3600.0, 86400.0


class Scope(StrEnum):
    """How far one case of a kind reaches."""

    CARD = "card"
    POWER_GROUP = "power-group"
    """Cards of a node, or of half a node, that share a supply."""
    NODE = "node"
    FARM = "farm"


@dataclass(frozen=True)
class Fault:
    """One case of a kind, on one card or on several at once.

    `since` and `until` are in seconds since 1970. `severity` is a share or a size; what of, its
    kind says. It grows from nothing over `ramp_seconds`. `variant` picks between two forms.
    """

    kind: str
    cards: tuple[int, ...]
    since: float
    severity: float
    variant: bool
    ramp_seconds: float = 0.0
    until: float = np.inf

    @property
    def index(self) -> int:
        """Its card, or the first of them."""
        return self.cards[0]


class Boards(NamedTuple):
    """Sound boards, their clocks at full load and their usual air: what a fault is set against."""

    hardware: Hardware
    full_clock: Array
    air: Array


class CardEvent(NamedTuple):
    """A `card_event` to come; `time` in seconds since 1970."""

    place: int
    time: float
    kind: str
    code: str
    text: str


class HostEvent(NamedTuple):
    """A `host_event` to come."""

    node: int
    time: float
    kind: str
    text: str


@dataclass
class Moment:
    """One window as an act of a kind sees it, and where it leaves what is to be told.

    `warming` is by how much each die grew warmer or cooler since the window before.
    """

    fleet: Fleet
    boards: Boards
    effects: Effects
    seconds: float
    times: Array
    warming: Array
    events: list[CardEvent] = field(default_factory=list)
    host_events: list[HostEvent] = field(default_factory=list)
    told: set[int] = field(default_factory=set)
    """Cards whose identity is to be told again."""
    restarts: set[int] = field(default_factory=set)
    """Nodes whose drivers were loaded anew."""
    swaps: list[tuple[int, int]] = field(default_factory=list)
    """Places whose boards change places."""

    def time(self, index: int) -> float:
        """End of the window at a card's node."""
        return float(self.times[self.fleet.cards[index].node])

    def node(self, index: int) -> int:
        """Node of a card."""
        return self.fleet.cards[index].node

    def xid(self, index: int, code: str, said: str, time: float) -> None:
        """Let the driver tell of an Xid."""
        address = self.fleet.cards[index].pci_address[4:]
        text = f"Xid (PCI:{address}): {code}, {said}"
        self.events.append(CardEvent(index, time, "xid", code, text))

    def tell(self, index: int, kind: str, text: str, time: float) -> None:
        """Let the agent tell of something else than an Xid."""
        self.events.append(CardEvent(index, time, kind, "", text))

    def restart(self, node: int, time: float, down_seconds: float = 0.0) -> None:
        """Boot a node: counters begin anew, and nothing is heard of it meanwhile."""
        self.restarts.add(node)
        self.told.update(self.fleet.nodes[node].card_range)
        silent = self.effects.node_silent_until
        silent[node] = max(silent[node], time + down_seconds)
        self.host_events += [
            HostEvent(node, time + down_seconds, "boot", "booted after a clean shutdown"),
            HostEvent(node, time + down_seconds + 1.0, "agent_start", "started"),
        ]


@dataclass
class Case:
    """One fault under way: what it remembers from window to window."""

    fault: Fault
    dice: np.random.Generator
    first: bool = True
    ended: bool = False
    size: float = 0.0
    """The severity reached."""
    notes: dict[str, float] = field(default_factory=dict)

    def happenings(self, per_second: float, moment: Moment) -> list[float]:
        """Times in the window at which something of this rate happens; at first, its beginning."""
        end = moment.time(self.fault.index)
        if self.first:
            return [self.fault.since]
        count = int(self.dice.poisson(per_second * moment.seconds))
        return sorted(end - moment.seconds * self.dice.random(count))

    def is_in_episode(
        self, moment: Moment, chance: float, lengths: tuple[float, float]
    ) -> tuple[bool, bool]:
        """Whether a passing episode is on, and whether it has just begun.

        The first one begins with the fault; `chance` is that of another in a window without one.
        """
        end = moment.time(self.fault.index)
        if end < self.notes.get("until", -np.inf):
            return True, False
        if not self.first and self.dice.random() >= chance:
            return False, False
        self.notes["until"] = end + float(self.dice.uniform(*lengths))
        return True, True


Act = Callable[[Moment, Case], None]


def _any_card(_: Card) -> bool:
    return True


@dataclass(frozen=True)
class Kind:
    """One kind of fault, or of harmless event: then it has no cause.

    `cause` is the true one, in the words of verdicts. `needs_load` kinds show only on a card that
    works beside peers that work, `needs_rest` ones on a card at rest. `known_before` kinds are
    told by the difference from before, so they never exist from the start; `from_start` kinds
    always do. `gradual` kinds grow over a time within `ramp_seconds`; the others may be made to.
    `lasting` kinds act in every window. `lasts_seconds` bounds those that pass. `pairs` need two
    cards of one kind in two nodes.
    """

    name: str
    meaning: str
    act: Act
    cause: str | None = None
    scope: Scope = Scope.CARD
    severity: tuple[float, float] = (1.0, 1.0)
    needs_load: bool = False
    needs_rest: bool = False
    known_before: bool = False
    from_start: bool = False
    gradual: bool = False
    ramp_seconds: tuple[float, float] = (0.0, 0.0)
    lasting: bool = False
    lasts_seconds: tuple[float, float] = (np.inf, np.inf)
    pairs: bool = False
    fits: Callable[[Card], bool] = _any_card


FAULT_KINDS: dict[str, Kind] = {}
"""Every kind of fault by its name."""

HARMLESS_KINDS: dict[str, Kind] = {}
"""Every kind of event that looks like a fault and is none, by its name."""

SLOWLY = (6 * HOUR, 5 * DAY)
"""How long wear takes to show."""


def given(name: str) -> Callable[[Card], bool]:
    """Cards whose kind gives a field."""
    return lambda card: name in card.model.gives


def has_fan(card: Card) -> bool:
    """Cards that cool themselves."""
    return card.model.has_fan


def has_lanes(card: Card) -> bool:
    """Cards whose link can lose three quarters of its lanes."""
    return card.pcie_width_max > 3
