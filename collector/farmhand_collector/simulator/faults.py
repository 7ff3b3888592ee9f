"""Faults that can be planted, and which cards get them.

A new kind of fault is one function more: it says what the fault does to a board.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from farmhand_collector.simulator.fleet import Card, Fleet, Profile
from farmhand_collector.simulator.physics import (
    Array,
    Effects,
    Hardware,
    full_fan_resistance,
)


@dataclass(frozen=True)
class Fault:
    """One fault on one card.

    `since` is in seconds since 1970. `severity` is a share; what of, its kind says. `variant`
    picks between two forms of the same kind.
    """

    kind: str
    index: int
    since: float
    severity: float
    variant: bool


class Boards(NamedTuple):
    """Sound boards, their clocks at full load and their usual air: what a fault is set against."""

    hardware: Hardware
    full_clock: Array
    air: Array


Apply = Callable[[Effects, Boards, Fault], None]


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault.

    `needs_load` kinds show only on a card that works beside peers that work. `known_before`
    kinds are told by the difference from before, so they never exist from the start.
    """

    name: str
    meaning: str
    apply: Apply
    severity: tuple[float, float]
    needs_load: bool
    known_before: bool
    fits: Callable[[Card], bool]


FAULT_KINDS: dict[str, FaultKind] = {}
"""Every kind of fault by its name."""


def _fault(
    meaning: str,
    severity: tuple[float, float] = (1.0, 1.0),
    needs_load: bool = False,
    known_before: bool = False,
    fits: Callable[[Card], bool] = lambda _: True,
) -> Callable[[Apply], Apply]:
    """Register a function as a kind of fault under its own name."""

    def register(apply: Apply) -> Apply:
        name = getattr(apply, "__name__", "")
        FAULT_KINDS[name] = FaultKind(
            name, meaning, apply, severity, needs_load, known_before, fits
        )
        return apply

    return register


@_fault("the card falls off the bus", known_before=True)
def lost(effects: Effects, _: Boards, fault: Fault) -> None:
    """Gone for good."""
    effects.lost[fault.index] = True


@_fault("the card is there but does not answer", known_before=True)
def unreadable(effects: Effects, _: Boards, fault: Fault) -> None:
    """Every read runs into its deadline."""
    effects.unreadable[fault.index] = True


@_fault("a bad riser or contact leaves a quarter of the lanes", fits=lambda c: c.pcie_width_max > 3)
def link_width(effects: Effects, boards: Boards, fault: Fault) -> None:
    """Fewer lanes, and packets sent again on those that are left."""
    effects.pcie_width_ceiling[fault.index] = boards.hardware.pcie_width[fault.index] // 4
    effects.replays_per_second[fault.index] = 0.3


@_fault(
    "dried paste or a dead fan: too hot to hold its clock; severity is the clock lost at full load",
    severity=(0.15, 0.22),
    needs_load=True,
)
def thermal(effects: Effects, boards: Boards, fault: Fault) -> None:
    """Resistance that brings the die to its target at the lowered clock, fan at full speed."""
    hardware, index = boards.hardware, fault.index
    clock = boards.full_clock * (1.0 - fault.severity)
    headroom = hardware.target_temperature - boards.air
    needed = headroom / hardware.full_power(clock) - full_fan_resistance(hardware)
    place = effects.joint_resistance if fault.variant else effects.sink_resistance
    place[index] = needed[index]


@_fault(
    "a bad power cable: the hardware slows the card down; severity is the share of time",
    severity=(0.3, 0.9),
    needs_load=True,
)
def hardware_throttle(effects: Effects, _: Boards, fault: Fault) -> None:
    """Slowdown under load, told as the external power brake or as slowdown alone."""
    effects.slowdown_share[fault.index] = fault.severity
    effects.brake_share[fault.index] = fault.severity if fault.variant else 0.0


@_fault("half of the memory is missing since a restart of the driver", known_before=True)
def memory_shrunk(effects: Effects, boards: Boards, fault: Fault) -> None:
    """A strap, a VBIOS or a chip that no longer counts."""
    effects.memory_total_ceiling[fault.index] = boards.hardware.memory_total[fault.index] / 2


@_fault(
    "the core clock stays low without a reason told; severity is the clock lost at full load",
    severity=(0.15, 0.45),
    needs_load=True,
)
def clock_stuck(effects: Effects, boards: Boards, fault: Fault) -> None:
    """A ceiling at one of the driver's clock steps."""
    clock = boards.full_clock[fault.index] * (1.0 - fault.severity)
    effects.clock_ceiling[fault.index] = clock // 15 * 15


@_fault(
    "the memory stays in a lower performance state under load",
    needs_load=True,
    fits=lambda card: bool(card.model.memory_mhz_lower),
)
def memory_clock(effects: Effects, boards: Boards, fault: Fault) -> None:
    """The lowest or the highest of the lower states."""
    effects.memory_clock_ceiling[fault.index] = boards.hardware.memory_clock_lower[
        fault.index, int(fault.variant)
    ]


@_fault(
    "the supply gives too little power; severity is the clock lost at full load",
    severity=(0.14, 0.35),
    needs_load=True,
)
def low_power(effects: Effects, boards: Boards, fault: Fault) -> None:
    """Power that ends well below the limit in force, clocks with it."""
    clock = boards.full_clock * (1.0 - fault.severity)
    effects.power_ceiling[fault.index] = boards.hardware.full_power(clock)[fault.index]


_LEAST_PEERS = 6
_CARDS_PER_FAULT = 12
_AT_START_SHARE = 0.5


NONE, SOME, ALL = "none", "some", "all"


def check_faults(faults: str) -> None:
    """See that a wish for faults is `none`, `some`, `all` or kinds with commas between.

    Raises:
        ValueError: it is something else.
    """
    if faults not in (NONE, SOME, ALL) and not set(faults.split(",")) <= set(FAULT_KINDS):
        kinds = ", ".join(FAULT_KINDS)
        raise ValueError(f"{faults!r} is unknown, expected none, some, all or any of {kinds}")


def draw_faults(
    fleet: Fleet, seed: int, faults: str, start: float, span_seconds: float
) -> tuple[Fault, ...]:
    """Faults of a fleet, at most one a card.

    Half of those that can be there from `start` are; the rest begin in the first third of the
    span. Kinds that find no card that suits them are left out.

    Raises:
        ValueError: as `check_faults` does.
    """
    check_faults(faults)
    dice = np.random.default_rng([seed, 6])
    planting = _Planting(fleet, dice)
    wanted = max(1, round(len(fleet.cards) / _CARDS_PER_FAULT)) if faults == SOME else None
    drawn: list[Fault] = []
    for kind in _kinds(faults, wanted, dice):
        if len(drawn) == wanted:
            break
        index = planting.find(kind, alone=faults != SOME)
        at_start = dice.random() < _AT_START_SHARE and not kind.known_before
        later = start + round(float(dice.uniform(0.05, 0.33)) * span_seconds, 3)
        severity, variant = float(dice.uniform(*kind.severity)), bool(dice.random() < 0.5)
        if index is not None:
            since = start if at_start else later
            drawn.append(Fault(kind.name, index, since, severity, variant))
    return tuple(sorted(drawn, key=lambda fault: (fault.since, fault.index)))


def _kinds(faults: str, wanted: int | None, dice: np.random.Generator) -> Iterator[FaultKind]:
    """Kinds to try: those named once each, or rounds of random order, more than are wanted."""
    kinds = list(FAULT_KINDS.values())
    if wanted is None:
        named = {NONE: [], ALL: kinds}.get(faults)
        yield from [FAULT_KINDS[name] for name in faults.split(",")] if named is None else named
        return
    for _ in range(2 + 2 * wanted // len(kinds)):
        yield from (kinds[int(at)] for at in dice.permutation(len(kinds)))


@dataclass
class _Planting:
    """Picks cards; keeps count, so that peers of a faulty card are mostly sound."""

    fleet: Fleet
    dice: np.random.Generator
    taken: set[int] = field(default_factory=set)
    by_cohort: Counter[tuple[str, int]] = field(default_factory=Counter)
    by_node: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        cards = self.fleet.cards
        self._order = [int(index) for index in self.dice.permutation(len(cards))]
        self._loaded = {at for at, card in enumerate(cards) if self._works(card)}
        self._peers = Counter(_cohort(cards[at]) for at in self._loaded)

    def find(self, kind: FaultKind, alone: bool) -> int | None:
        """A free card for a fault; `alone` allows a loaded card without enough sound peers."""
        wishes: list[Callable[[int, Card], bool]] = [self._has_room]
        if kind.needs_load:
            wishes = [self._has_sound_peers, *([self._is_loaded] if alone else [])]
        for wish in wishes:
            for index in self._order:
                card = self.fleet.cards[index]
                if index not in self.taken and kind.fits(card) and wish(index, card):
                    self._take(index, card)
                    return index
        return None

    def _take(self, index: int, card: Card) -> None:
        self.taken.add(index)
        self.by_cohort[_cohort(card)] += 1
        self.by_node[card.node] += 1

    def _works(self, card: Card) -> bool:
        node = self.fleet.nodes[card.node]
        sound = not (card.spare or card.odd or card.slow_tail)
        return sound and node.profile is Profile.TRAINING and node.limit_ratio == 1.0

    def _has_sound_peers(self, index: int, card: Card) -> bool:
        peers = self._peers[_cohort(card)]
        room = self.by_cohort[_cohort(card)] < max(1, peers // _LEAST_PEERS)
        return (
            index in self._loaded and peers >= _LEAST_PEERS and room and not self.by_node[card.node]
        )

    def _is_loaded(self, index: int, _: Card) -> bool:
        return index in self._loaded

    def _has_room(self, _: int, card: Card) -> bool:
        return self.by_node[card.node] < 2


def _cohort(card: Card) -> tuple[str, int]:
    return card.model.name, card.model.memory_mib
