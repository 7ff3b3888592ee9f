"""Runs simulated farms as arrays, without wording a reading: one with a case, its twin without."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from farmhand_collector.simulator import Farm
from farmhand_collector.simulator.effects import Array, Flags
from farmhand_collector.simulator.kinds.kind import CardEvent, HostEvent
from tests.collector.simulator.play import START

CARDS, SEED, WINDOWS = 300, 5, 240
_FIRST_SETTLED_SECONDS = 900.0


@dataclass
class Course:
    """What a farm did: arrays of (windows, cards) or (windows, nodes), and events."""

    farm: Farm
    fields: dict[str, Array]
    """By field of `card`; `rate` and `busy` besides."""
    times: Array
    inlet: Array
    up: Flags
    """Whether a node was heard."""
    events: list[CardEvent]
    host_events: list[HostEvent]


def course(farm: Farm, windows: int = WINDOWS) -> Course:
    """The first windows of a farm."""
    fields: dict[str, list[Array]] = {}
    by_node: list[tuple[Array, Array, Flags]] = []
    events: dict[CardEvent, None] = {}
    host_events: dict[HostEvent, None] = {}
    for _, window in zip(range(windows), farm.windows(), strict=False):
        up = window.times >= window.effects.node_silent_until
        by_node.append((window.times, window.inlet, up))
        for name, column in (window.fields | {"rate": window.rates, "busy": window.busy}).items():
            fields.setdefault(name, []).append(column)
        events |= dict.fromkeys(window.moment.events)
        host_events |= dict.fromkeys(window.moment.host_events)
    times, inlet = (np.array([row[at] for row in by_node]) for at in (0, 1))
    up = np.array([row[2] for row in by_node])
    arrays = {name: np.array(columns) for name, columns in fields.items()}
    return Course(farm, arrays, times, inlet, up, list(events), list(host_events))


@cache
def sound() -> Course:
    """A farm on which nothing happens."""
    return course(Farm(CARDS, SEED, "none", START, reports_share=1.0))


class Twins:
    """A farm with one fault or harmless event, its cards, and the same cards without it."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        (self.case,) = (*farm.faults, *farm.harmless)
        self.cards = list(self.case.cards)
        self.nodes = [farm.fleet.cards[at].node for at in self.cards]
        whole = course(farm)
        self.times, self.inlet, self.up = whole.times, whole.inlet, whole.up
        self.events, self.host_events = whole.events, whole.host_events
        self._mine = {name: values[:, self.cards] for name, values in whole.fields.items()}
        self.first_touched = {
            name: _first_difference(values, sound().fields[name])
            for name, values in whole.fields.items()
        }
        """By field, the window in which each card first differs from its twin, or `WINDOWS`."""

    def begin(self, settle: float = 0.0) -> int:
        """First window of the case, or the first so many seconds later."""
        return int(np.searchsorted(self.times[:, self.nodes[0]], self.case.since + settle))

    def mine(self, name: str, settle: float | None = 0.0) -> Array:
        """(windows, cards) of a field, from the beginning of the case on; None for all."""
        return self._mine[name][0 if settle is None else self.begin(settle) :]

    def other(self, name: str, settle: float | None = 0.0) -> Array:
        """The same without the case."""
        rows = slice(0 if settle is None else self.begin(settle), None)
        return np.asarray(sound().fields[name][rows, self.cards])

    def means(self, name: str, settle: float = _FIRST_SETTLED_SECONDS) -> tuple[Array, Array]:
        """Means under load of both, over windows, for those cards that work."""
        up = self.up[self.begin(settle) :][:, self.nodes]
        busy = (self.mine("busy", settle) == 1.0) & (self.other("busy", settle) == 1.0) & up
        works = busy.any(axis=0)
        one, other = (
            np.mean(values[:, works], axis=0, where=busy[:, works])
            for values in (self.mine(name, settle), self.other(name, settle))
        )
        return one, other

    def ratio(self, name: str) -> float:
        """Largest mean against its twin's."""
        mine, other = self.means(name)
        assert len(mine)
        return float(np.max(mine / other))

    def rate_ratio(self) -> float:
        """Work done against that of the twins."""
        settle = _FIRST_SETTLED_SECONDS
        return float(self.mine("rate", settle).sum() / self.other("rate", settle).sum())

    def last(self, name: str) -> tuple[float, float]:
        """Last value of a counter, of the first card and of its twin."""
        return float(self.mine(name)[-1, 0]), float(self.other(name)[-1, 0])

    def codes(self) -> list[str]:
        """Codes of Xids told of the first card."""
        return [e.code for e in self.events if e.place == self.cards[0] and e.kind == "xid"]


def _first_difference(one: Array, other: Array) -> Array:
    differs = np.vstack([one != other, np.ones(one.shape[1], bool)])
    return np.asarray(differs.argmax(axis=0))


@cache
def with_fault(kind: str, onset: str = "sudden") -> Twins:
    """A farm with one fault, and without, from the same dice."""
    return Twins(Farm(CARDS, SEED, kind, START, reports_share=1.0, onset=onset))


@cache
def with_harmless(kind: str) -> Twins:
    """A farm with one harmless event, and without, from the same dice."""
    return Twins(Farm(CARDS, SEED, "none", START, reports_share=1.0, harmless=kind))
