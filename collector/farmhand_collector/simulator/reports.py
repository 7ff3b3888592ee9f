"""Readings of the simulated farm, as an agent on each node would word them."""

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from farmhand_agent.reading import SCHEMA, Reading, Value, to_line
from farmhand_collector.simulator.effects import Array, Effects, Flags
from farmhand_collector.simulator.fleet import Fleet
from farmhand_collector.simulator.kinds.kind import CardEvent, Moment
from farmhand_collector.simulator.models import MIB, OPTIONAL_FIELDS
from farmhand_collector.simulator.physics import Hardware
from farmhand_collector.simulator.sensors import DECIMALS
from farmhand_collector.simulator.workload import JOB_KINDS, Assignment

QUIET_FIELDS = ("window_seconds", "samples", "read_seconds")
INFO_EVERY_SECONDS = 3600.0
_AGENT_EVERY_SECONDS = 60.0
_VERSION = "simulated"
_HARMLESS_EVENTS_PER_SECOND = 1.0 / 720_000.0


class Batch(NamedTuple):
    """What one host's agent sends for one interval."""

    host: str
    time: float
    readings: list[Reading]
    late_seconds: float = 0.0
    """How much later than it was taken it arrives."""

    def lines(self) -> list[str]:
        """The readings as line protocol."""
        return [to_line(reading) for reading in self.readings]


class Window(NamedTuple):
    """All that the agents may tell of one interval."""

    number: int
    times: Array
    fields: dict[str, Array]
    effects: Effects
    assignment: Assignment
    rates: Array
    inlet: Array
    busy: Array
    probes: dict[int, dict[str, float]]
    """Results of active tests, by card."""
    moment: Moment
    """What faults and harmless events have to tell."""


class Reports:
    """Words readings host by host."""

    def __init__(self, fleet: Fleet, hardware: Hardware, seed: int, interval: float) -> None:
        self._fleet = fleet
        self._hardware = hardware
        self._rng = np.random.default_rng([seed, 8])
        self._interval = interval
        self._host_tags = [fleet.host_tags(node) for node in fleet.nodes]
        self._columns: dict[tuple[frozenset[str], frozenset[str]], _Columns] = {}
        self._tags: list[dict[str, str]] = []
        self._agent_start = self._rng.uniform(100.0, 4000.0, len(fleet.nodes))

    def batches(self, window: Window) -> list[Batch]:
        """One batch a host that is up, in order of time."""
        self._refresh_tags(window)
        rows: list[list[float]] = rounded(window.fields).T.tolist()
        chance = self.draw(window)
        awake = window.times >= window.effects.node_silent_until
        order = [int(node) for node in np.argsort(window.times, kind="stable") if awake[node]]
        return [self._batch(window, rows, node, chance) for node in order]

    def draw(self, window: Window) -> "Chance":
        """What chance adds to a window; called once for each, in order."""
        host_dice = self._rng.random((4, len(self._fleet.nodes)))
        card_dice = self._rng.random(len(self._fleet.cards))
        likely = _HARMLESS_EVENTS_PER_SECOND * self._interval
        stray = (card_dice < likely) & (window.rates > 0) & ~window.effects.lost
        works = np.logical_or.reduceat(window.busy > 0, [node.first for node in self._fleet.nodes])
        return Chance(host_dice, set(np.flatnonzero(stray).tolist()), works)

    def stray_event(self, window: Window, index: int) -> CardEvent:
        """An Xid of a program that failed, as happens on any farm now and then."""
        card = self._fleet.cards[index]
        text = f"Xid (PCI:{card.pci_address[4:]}): 43, a channel was reset, the program failed"
        return CardEvent(index, float(window.times[card.node]) - 1.0, "xid", "43", text)

    def _batch(
        self,
        window: Window,
        rows: list[list[float]],
        node: int,
        chance: "Chance",
    ) -> Batch:
        time = float(window.times[node])
        time_ns = round(time * 1e9)
        readings = [*self._infos(window, node, time_ns), *self._events(window, node, chance)]
        readings += self._host_events(window, node)
        node_of = self._fleet.nodes[node]
        effects = window.effects
        readings += [self._card(effects, rows[at], at, time_ns) for at in node_of.card_range]
        readings += self._works(window, node, time_ns)
        readings += [
            Reading("probe", self._tags[at], {**window.probes[at]}, time_ns)
            for at in node_of.card_range
            if at in window.probes
        ]
        readings.append(self._host(window, node, chance, time_ns))
        if is_due(window.number, node, _AGENT_EVERY_SECONDS, self._interval):
            readings.append(self._agent(window.number, node, chance.host[:, node], time_ns))
        return Batch(node_of.host, time, readings, float(effects.node_late_seconds[node]))

    def _card(self, effects: Effects, row: list[float], index: int, time_ns: int) -> Reading:
        state, columns = "ok", self._columns_of(index, effects)
        if effects.lost[index] or effects.unreadable[index]:
            state, columns = "lost" if effects.lost[index] else "unreadable", _QUIET_COLUMNS
        fields: dict[str, Value] = dict(zip(columns.names, columns.pick(row), strict=True))
        fields["state"] = state
        return Reading("card", self._tags[index], fields, time_ns)

    def _refresh_tags(self, window: Window) -> None:
        """Tags change only where identity is to be told again."""
        places = window.moment.told if self._tags else range(len(self._fleet.cards))
        self._tags += [{} for _ in range(len(self._fleet.cards) - len(self._tags))]
        for place in places:
            self._tags[place] = card_tags(self._fleet, place, window.effects)

    def _columns_of(self, index: int, effects: Effects) -> "_Columns":
        """Names and places of the fields that the card gives."""
        key = self._fleet.cards[index].model.gives, effects.withheld.get(index, frozenset())
        columns = self._columns.get(key)
        if columns is None:
            columns = self._columns[key] = _columns(given_fields(*key))
        return columns

    def _infos(self, window: Window, node: int, time_ns: int) -> list[Reading]:
        """Identity and limits: at start, hourly, and when something of it is another."""
        node_of = self._fleet.nodes[node]
        due = is_due(window.number, node, INFO_EVERY_SECONDS, self._interval)
        totals = window.fields["memory_total_bytes"]
        effects = window.effects
        gone = effects.lost | effects.unreadable
        return [
            Reading(
                "card_info",
                self._tags[at],
                card_info(self._fleet, self._hardware, effects, at, float(totals[at])),
                time_ns,
            )
            for at in node_of.card_range
            if (due or at in window.moment.told) and not gone[at]
        ]

    def _events(self, window: Window, node: int, chance: "Chance") -> list[Reading]:
        cards = self._fleet.nodes[node].card_range
        events = [event for event in window.moment.events if event.place in cards]
        events += [self.stray_event(window, at) for at in cards if at in chance.strays]
        return [self._event(event) for event in events]

    def _event(self, event: CardEvent) -> Reading:
        fields: dict[str, Value] = {
            "kind": event.kind,
            "code": event.code,
            "text": event.text,
            "count": 1.0,
        }
        tags = self._tags[event.place]
        return Reading("card_event", tags, fields, round(event.time * 1e9))

    def _host_events(self, window: Window, node: int) -> list[Reading]:
        return [
            Reading(
                "host_event",
                self._host_tags[node],
                {"kind": event.kind, "text": event.text},
                round(event.time * 1e9),
            )
            for event in window.moment.host_events
            if event.node == node
        ]

    def _works(self, window: Window, node: int, time_ns: int) -> list[Reading]:
        assignment = window.assignment
        if assignment.job[node] < 0 or not assignment.reports[node]:
            return []
        node_of = self._fleet.nodes[node]
        kind = JOB_KINDS[int(assignment.job[node])]
        fields: dict[str, Value] = {"unit": kind.unit, "job": kind.name}
        if kind.trains:
            leader, number = int(assignment.leader[node]), int(assignment.number[node])
            fields["gang"] = gang_name(self._fleet, kind.name, leader, number)
        return [
            Reading(
                "work",
                self._tags[index] | {"lane": "0"},
                {"rate": float(f"{window.rates[index]:.5g}"), **fields},
                time_ns,
            )
            for index in node_of.card_range
            if window.rates[index] > 0
        ]

    def _host(self, window: Window, node: int, chance: "Chance", time_ns: int) -> Reading:
        node_of = self._fleet.nodes[node]
        works, dice = bool(chance.works[node]), chance.host[:, node]
        cpu = float(chance.cpu_ratio()[node])
        memory = node_of.memory_gib * 2.0**30
        fields: dict[str, Value] = {
            "cpu_ratio": cpu,
            "load1": round(cpu * 32.0, 2),
            "memory_used_bytes": round(memory * ((0.4 if works else 0.08) + 0.02 * float(dice[1]))),
            "memory_total_bytes": memory,
            "disk_free_bytes": 180e9 - 1e3 * window.number,
        }
        if node_of.has_inlet_sensor:
            fields["inlet_temperature_celsius"] = float(np.round(window.inlet[node]))
        return Reading("host", self._host_tags[node], fields, time_ns)

    def _agent(self, number: int, node: int, dice: Array, time_ns: int) -> Reading:
        fields: dict[str, Value] = {
            "version": _VERSION,
            "schema": float(SCHEMA),
            "rss_bytes": round(46e6 + 1e6 * float(dice[2])),
            "spool_points": 0.0,
            "spool_bytes": 0.0,
            "clock_offset_seconds": round(0.02 * float(dice[3]) - 0.01, 4),
            "cpu_seconds_total": round(float(self._agent_start[node]) + 0.015 * number, 2),
            "dropped_points_total": 0.0,
        }
        return Reading("agent", self._host_tags[node], fields, time_ns)


class Chance(NamedTuple):
    """What is drawn for one window besides what the cards do.

    `host` are dice of (4, nodes), `strays` cards whose program fails, `works` the nodes on which
    any card has work.
    """

    host: Array
    strays: set[int]
    works: Flags

    def cpu_ratio(self) -> Array:
        """(nodes,) processor use."""
        return np.asarray(np.round(np.where(self.works, 0.25, 0.02) + 0.1 * self.host[0], 3))


def rounded(fields: Mapping[str, Array]) -> Array:
    """(fields, cards) with the decimals worth writing, in the order of `DECIMALS`."""
    columns = [np.round(fields[name], digits) for name, digits in DECIMALS.items()]
    # Rounding can leave a negative zero, which would be written as -0.0.
    return np.stack(columns) + 0.0


def gang_name(fleet: Fleet, job: str, leader: int, number: int) -> str:
    """Name of a lock-step group: its job, its first node, and which job of that node it is."""
    return f"{job}-{fleet.nodes[leader].host}-{number}"


def is_due(number: int, node: int, every: float, interval: float) -> bool:
    """Whether a slow report of a node falls into a window; nodes take turns."""
    return number == 0 or (number + node) % max(1, round(every / interval)) == 0


_COLUMN_OF = {name: at for at, name in enumerate(DECIMALS)}


class _Columns(NamedTuple):
    """Names of fields, and what picks their values from a row of all fields."""

    names: tuple[str, ...]
    pick: Callable[[list[float]], tuple[float, ...]]


def _columns(names: Iterable[str]) -> _Columns:
    ordered = tuple(sorted(names, key=_COLUMN_OF.__getitem__))
    return _Columns(ordered, itemgetter(*(_COLUMN_OF[name] for name in ordered)))


_QUIET_COLUMNS = _columns(QUIET_FIELDS)


def given_fields(gives: frozenset[str], withheld: frozenset[str] = frozenset()) -> set[str]:
    """Numeric fields of `card` that a kind of card gives, less those that one card refuses."""
    return set(DECIMALS) - (OPTIONAL_FIELDS - gives) - withheld


def card_tags(fleet: Fleet, place: int, effects: Effects) -> dict[str, str]:
    """Tags of the card that stands in a place now."""
    board = fleet.cards[int(effects.board_at[place])]
    tags = fleet.tags(fleet.cards[place])
    tags["card"] = effects.shown_card.get(place, board.card)
    return tags


def card_info(
    fleet: Fleet, hardware: Hardware, effects: Effects, place: int, memory_total: float
) -> dict[str, Value]:
    """Identity and limits of the card that stands in a place now."""
    slot, board = fleet.cards[place], fleet.cards[int(effects.board_at[place])]
    model = board.model
    fields: dict[str, Value] = {"serial": board.serial} if board.serial else {}
    return fields | {
        "name": model.name,
        "vbios": board.vbios,
        "device_id": model.device_id,
        "subsystem_id": f"{board.maker.subsystem_vendor}:{model.device_id[-4:]}",
        "pci_address": slot.pci_address,
        "driver": effects.driver.get(slot.node, fleet.nodes[slot.node].driver),
        "memory_total_bytes": memory_total,
        "memory_bus_bits": float(model.memory_bus_bits),
        "bar1_bytes": model.bar1_mib * MIB,
        "core_count": float(model.core_count),
        "pcie_generation_max": float(model.pcie_generation),
        "pcie_width_max": float(slot.pcie_width_max),
        "power_limit_default_watts": float(hardware.power_limit_default[place]),
        "core_clock_max_mhz": model.core_clock_max_mhz,
        "memory_clock_max_mhz": model.memory_clock_max_mhz,
        **effects.identity.get(place, {}),
    }
