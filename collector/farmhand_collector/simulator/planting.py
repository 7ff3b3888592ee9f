"""Which cards get which faults, and where harmless events happen."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from farmhand_collector.simulator.fleet import Card, Fleet, Profile
from farmhand_collector.simulator.kinds import FAULT_KINDS, HARMLESS_KINDS, Fault, Kind, Scope

_LEAST_PEERS = 6
CARDS_PER_FAULT = 12.0
AT_START_SHARE = 0.5
BEGINS_WITHIN = (0.05, 0.33)
_RAMP_SPAN_SHARE = 0.5
_RAMP_LENGTH_SHARE = 0.25
_PASSING_SPAN_SHARE = 0.25
_HARMLESS_PER_CARDS = 40

NONE, SOME, ALL, MIXED, EVERY = "none", "some", "all", "mixed", "every"
NATURAL, SUDDEN, GRADUAL = "natural", "sudden", "gradual"
ONSETS = (NATURAL, SUDDEN, GRADUAL)

COMMON_KINDS = (
    "lost",
    "unreadable",
    "link_width",
    "thermal",
    "hardware_throttle",
    "memory_shrunk",
    "clock_stuck",
    "memory_clock",
    "low_power",
)
"""Kinds of one card that an hour of its telemetry tells; `some` and `all` are of these."""


@dataclass(frozen=True)
class Wish:
    """What is to be planted: kinds, how many, and how they begin.

    `faults` is `none`; `some`, about one in `cards_per_fault` cards, and `all`, one of each,
    both of common kinds; `mixed` and `every`, the same of all kinds; or kinds with commas
    between. `harmless` is `none`, `some`, `all` or kinds with commas between. `onset` is
    `natural`, each as its kind does; `sudden`; or `gradual` for all kinds that can.
    `at_start_share` of those that can be there from the start are; the others begin between the
    two shares of the span in `begins_within`.
    """

    faults: str = NONE
    harmless: str = NONE
    onset: str = NATURAL
    cards_per_fault: float = CARDS_PER_FAULT
    at_start_share: float = AT_START_SHARE
    begins_within: tuple[float, float] = BEGINS_WITHIN


def check_faults(faults: str) -> None:
    """See that a wish for faults is a word that `Wish` knows or kinds with commas between.

    Raises:
        ValueError: it is something else.
    """
    _check(faults, (NONE, SOME, ALL, MIXED, EVERY), FAULT_KINDS)


def check_harmless(harmless: str) -> None:
    """See that a wish for harmless events is `none`, `some`, `all` or kinds with commas between.

    Raises:
        ValueError: it is something else.
    """
    _check(harmless, (NONE, SOME, ALL), HARMLESS_KINDS)


def _check(wish: str, words: tuple[str, ...], kinds: Mapping[str, Kind]) -> None:
    if wish not in words and not set(wish.split(",")) <= set(kinds):
        names = ", ".join(kinds)
        said = ", ".join(words)
        raise ValueError(f"{wish!r} is unknown, expected {said} or any of {names}")


def draw(
    fleet: Fleet, seed: int, wish: Wish, start: float, span_seconds: float
) -> tuple[tuple[Fault, ...], tuple[Fault, ...]]:
    """Faults of a fleet, at most one a card, and harmless events on other cards.

    Kinds that find no card that suits them are left out.

    Raises:
        ValueError: as `check_faults` and `check_harmless` do, or `onset` is unknown.
    """
    check_faults(wish.faults)
    check_harmless(wish.harmless)
    if wish.onset not in ONSETS:
        raise ValueError(f"{wish.onset!r} is unknown, expected one of {', '.join(ONSETS)}")
    dice = np.random.default_rng([seed, 6])
    ramp_dice = np.random.default_rng([seed, 12])
    places = _Places(fleet, dice)
    onsets = _Onsets(dice, ramp_dice, wish, start, span_seconds)
    faults = _faults(fleet, places, onsets, wish, dice)
    dice = np.random.default_rng([seed, 13])
    onsets = _Onsets(dice, ramp_dice, wish, start, span_seconds)
    harmless = _harmless(fleet, places, onsets, wish.harmless, dice)
    return _in_order(faults), _in_order(harmless)


def _in_order(cases: Iterable[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(cases, key=lambda fault: (fault.since, fault.cards)))


def _faults(
    fleet: Fleet, places: "_Places", onsets: "_Onsets", wish: Wish, dice: np.random.Generator
) -> Iterator[Fault]:
    by_number = wish.faults in (SOME, MIXED)
    wanted = max(1, round(len(fleet.cards) / wish.cards_per_fault)) if by_number else None
    found = 0
    for kind in _fault_kinds(wish.faults, wanted, dice):
        if found == wanted:
            break
        cards = places.find(kind, alone=not by_number)
        fault = onsets.draw(kind, cards or ())
        if cards:
            found += 1
            yield fault


def _fault_kinds(faults: str, wanted: int | None, dice: np.random.Generator) -> Iterator[Kind]:
    """Kinds to try: those named once each, or rounds of random order, more than are wanted."""
    common = [FAULT_KINDS[name] for name in COMMON_KINDS]
    every = list(FAULT_KINDS.values())
    if wanted is None:
        named = {NONE: [], ALL: common, EVERY: _widest_first(every)}.get(faults)
        yield from [FAULT_KINDS[name] for name in faults.split(",")] if named is None else named
        return
    kinds = common if faults == SOME else every
    for _ in range(2 + 2 * wanted // len(kinds)):
        yield from (kinds[int(at)] for at in dice.permutation(len(kinds)))


def _widest_first(kinds: Iterable[Kind]) -> list[Kind]:
    """Kinds that need whole nodes find them while there are some; picky ones before others."""
    width = {Scope.FARM: 0, Scope.NODE: 1, Scope.POWER_GROUP: 2, Scope.CARD: 3}
    return sorted(kinds, key=lambda kind: (width[kind.scope], not kind.needs_load))


def _harmless(
    fleet: Fleet, places: "_Places", onsets: "_Onsets", wish: str, dice: np.random.Generator
) -> Iterator[Fault]:
    every = list(HARMLESS_KINDS.values())
    if wish == SOME:
        narrow = [kind for kind in every if kind.scope is not Scope.FARM]
        wanted = max(1, len(fleet.cards) // _HARMLESS_PER_CARDS)
        kinds = [narrow[int(at)] for at in dice.integers(len(narrow), size=wanted)]
    else:
        named = {NONE: [], ALL: _widest_first(every)}.get(wish)
        kinds = [HARMLESS_KINDS[name] for name in wish.split(",")] if named is None else named
    for kind in kinds:
        cards = places.find(kind, alone=True)
        case = onsets.draw(kind, cards or ())
        if cards:
            yield case


@dataclass(frozen=True)
class _Onsets:
    """Draws when cases begin, how hard they are and how fast they grow."""

    dice: np.random.Generator
    ramp_dice: np.random.Generator
    wish: Wish
    start: float
    span_seconds: float

    def draw(self, kind: Kind, cards: tuple[int, ...]) -> Fault:
        """A case; as much is drawn for a kind that found no place."""
        dice = self.dice
        at_start = dice.random() < self.wish.at_start_share and not kind.known_before
        later = self.start + round(
            float(dice.uniform(*self.wish.begins_within)) * self.span_seconds, 3
        )
        severity, variant = float(dice.uniform(*kind.severity)), bool(dice.random() < 0.5)
        length = self._length(kind)
        ramp_seconds = self._ramp(kind, length)
        at_start = (at_start and not ramp_seconds) or kind.from_start
        since = self.start if at_start else later
        return Fault(kind.name, cards, since, severity, variant, ramp_seconds, since + length)

    def _ramp(self, kind: Kind, length: float) -> float:
        drawn = float(self.ramp_dice.uniform(*kind.ramp_seconds))
        onset = self.wish.onset
        wanted = kind.gradual if onset == NATURAL else onset == GRADUAL
        most = min(_RAMP_SPAN_SHARE * self.span_seconds, _RAMP_LENGTH_SHARE * length)
        return min(drawn, most) if wanted else 0.0

    def _length(self, kind: Kind) -> float:
        if not np.isfinite(kind.lasts_seconds[1]):
            return np.inf
        drawn = float(self.ramp_dice.uniform(*kind.lasts_seconds))
        return min(drawn, _PASSING_SPAN_SHARE * self.span_seconds)


@dataclass
class _Places:
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

    def find(self, kind: Kind, alone: bool) -> tuple[int, ...] | None:
        """Free cards for a case; `alone` allows a loaded card without enough sound peers."""
        if kind.scope is Scope.FARM:
            return tuple(range(len(self.fleet.cards)))
        if kind.scope is not Scope.CARD:
            return self._find_node(kind)
        if kind.pairs:
            return self._find_pair(kind)
        for wish in self._wishes(kind, alone):
            for index in self._order:
                card = self.fleet.cards[index]
                if index not in self.taken and kind.fits(card) and wish(index, card):
                    return self._take((index,))
        return None

    def _wishes(self, kind: Kind, alone: bool) -> list[Callable[[int, Card], bool]]:
        if kind.needs_load:
            return [self._has_sound_peers, *([self._is_loaded] if alone else [])]
        if kind.needs_rest:
            return [self._rests]
        return [self._has_room]

    def _find_node(self, kind: Kind) -> tuple[int, ...] | None:
        """The cards of a node on which nothing is planted yet, or half of them."""
        for first in self._order:
            node = self.fleet.nodes[self.fleet.cards[first].node]
            cards = tuple(node.card_range)
            free = not self.taken.intersection(cards)
            if free and self._suits_all(kind, cards):
                halves = kind.scope is Scope.POWER_GROUP and len(cards) > 3
                halves = halves and bool(self.dice.random() < 0.5)
                return self._take(cards[: len(cards) // 2] if halves else cards)
        return None

    def _suits_all(self, kind: Kind, cards: tuple[int, ...]) -> bool:
        works = sum(at in self._loaded for at in cards) >= max(2, len(cards) - 1)
        fits = all(kind.fits(self.fleet.cards[at]) for at in cards)
        return len(cards) > 1 and fits and (works or not kind.needs_load)

    def _find_pair(self, kind: Kind) -> tuple[int, ...] | None:
        """Two boards of one kind in two nodes."""
        first_of: dict[tuple[str, str, int], int] = {}
        for at in self._order:
            card = self.fleet.cards[at]
            if at in self.taken or not kind.fits(card):
                continue
            key = (card.model.name, card.maker.subsystem_vendor, card.model.memory_mib)
            one = first_of.setdefault(key, at)
            if self.fleet.cards[one].node != card.node:
                return self._take((one, at))
        return None

    def _take(self, cards: tuple[int, ...]) -> tuple[int, ...]:
        self.taken.update(cards)
        for at in cards:
            card = self.fleet.cards[at]
            self.by_cohort[_cohort(card)] += 1
            self.by_node[card.node] += 1
        return cards

    def _works(self, card: Card) -> bool:
        node = self.fleet.nodes[card.node]
        sound = not (card.spare or card.odd or card.slow_tail)
        return sound and node.profile is Profile.TRAINING and node.limit_ratio == 1.0

    def _rests(self, _: int, card: Card) -> bool:
        return card.spare or self.fleet.nodes[card.node].profile is Profile.IDLE

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
