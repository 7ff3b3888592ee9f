"""Readings of the simulated farm, as an agent on each node would word them."""

from typing import NamedTuple

import numpy as np

from farmhand_agent.reading import SCHEMA, Reading, Value, to_line
from farmhand_collector.simulator.fleet import Card, Fleet
from farmhand_collector.simulator.models import MIB, OPTIONAL_FIELDS
from farmhand_collector.simulator.physics import Array, Effects, Hardware
from farmhand_collector.simulator.sensors import DECIMALS
from farmhand_collector.simulator.workload import JOB_KINDS, Assignment

_QUIET_FIELDS = ("window_seconds", "samples", "read_seconds")
_INFO_EVERY_SECONDS = 3600.0
_AGENT_EVERY_SECONDS = 60.0
_VERSION = "simulated"
_HARMLESS_EVENTS_PER_SECOND = 1.0 / 720_000.0


class Batch(NamedTuple):
    """What one host's agent sends for one interval."""

    host: str
    time: float
    readings: list[Reading]

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
    began: dict[int, list[tuple[str, float]]]
    """Kinds and times of faults that began in the window, by card."""


class Reports:
    """Words readings host by host."""

    def __init__(self, fleet: Fleet, hardware: Hardware, seed: int, interval: float) -> None:
        self._fleet = fleet
        self._hardware = hardware
        self._rng = np.random.default_rng([seed, 8])
        self._interval = interval
        self._tags = [fleet.tags(card) for card in fleet.cards]
        self._host_tags = [fleet.host_tags(node) for node in fleet.nodes]
        self._names = [_names(card) for card in fleet.cards]
        self._columns = [_columns(names) for names in self._names]
        self._quiet = _columns(_QUIET_FIELDS)
        self._agent_start = self._rng.uniform(100.0, 4000.0, len(fleet.nodes))

    def batches(self, window: Window) -> list[Batch]:
        """One batch a host, in order of time."""
        rows = self._rows(window.fields)
        host_dice = self._rng.random((4, len(self._fleet.nodes)))
        card_dice = self._rng.random(len(self._fleet.cards))
        stray = np.flatnonzero(
            (card_dice < _HARMLESS_EVENTS_PER_SECOND * self._interval) & (window.rates > 0)
        )
        strays = {int(index) for index in stray}
        order = [int(node) for node in np.argsort(window.times, kind="stable")]
        return [self._batch(window, rows, node, host_dice[:, node], strays) for node in order]

    def _rows(self, fields: dict[str, Array]) -> list[list[float]]:
        columns = [np.round(fields[name], digits) for name, digits in DECIMALS.items()]
        # Rounding can leave a negative zero, which would be written as -0.0.
        rows: list[list[float]] = (np.column_stack(columns) + 0.0).tolist()
        return rows

    def _batch(
        self,
        window: Window,
        rows: list[list[float]],
        node: int,
        dice: Array,
        strays: set[int],
    ) -> Batch:
        time = float(window.times[node])
        time_ns = round(time * 1e9)
        readings = [*self._infos(window, node, time_ns), *self._events(window, node, strays)]
        node_of = self._fleet.nodes[node]
        effects = window.effects
        readings += [self._card(effects, rows[at], at, time_ns) for at in node_of.card_range]
        readings += self._works(window, node, time_ns)
        readings.append(self._host(window, node, dice, time_ns))
        if self._due(window.number, node, _AGENT_EVERY_SECONDS):
            readings.append(self._agent(window.number, node, dice, time_ns))
        return Batch(node_of.host, time, readings)

    def _due(self, number: int, node: int, every: float) -> bool:
        """Whether a slow report of a node falls into a window; nodes take turns."""
        return number == 0 or (number + node) % round(every / self._interval) == 0

    def _card(self, effects: Effects, row: list[float], index: int, time_ns: int) -> Reading:
        fields: dict[str, Value] = {"state": "ok"}
        names, columns = self._names[index], self._columns[index]
        if effects.lost[index] or effects.unreadable[index]:
            fields["state"] = "lost" if effects.lost[index] else "unreadable"
            names, columns = _QUIET_FIELDS, self._quiet
        for name, column in zip(names, columns, strict=True):
            fields[name] = row[column]
        return Reading("card", self._tags[index], fields, time_ns)

    def _infos(self, window: Window, node: int, time_ns: int) -> list[Reading]:
        """Identity and limits: at start, hourly, and when the memory is another."""
        node_of = self._fleet.nodes[node]
        due = self._due(window.number, node, _INFO_EVERY_SECONDS)
        totals = window.fields["memory_total_bytes"]
        gone = window.effects.lost | window.effects.unreadable
        return [
            Reading("card_info", self._tags[at], self._info(at, float(totals[at])), time_ns)
            for at in node_of.card_range
            if (due or at in window.began) and not gone[at]
        ]

    def _info(self, index: int, memory_total: float) -> dict[str, Value]:
        card = self._fleet.cards[index]
        model = card.model
        fields: dict[str, Value] = {"serial": card.serial} if card.serial else {}
        return fields | {
            "name": model.name,
            "vbios": card.vbios,
            "device_id": model.device_id,
            "subsystem_id": f"{card.maker.subsystem_vendor}:{model.device_id[-4:]}",
            "pci_address": card.pci_address,
            "driver": self._fleet.nodes[card.node].driver,
            "memory_total_bytes": memory_total,
            "memory_bus_bits": float(model.memory_bus_bits),
            "bar1_bytes": model.bar1_mib * MIB,
            "core_count": float(model.core_count),
            "pcie_generation_max": float(model.pcie_generation),
            "pcie_width_max": float(card.pcie_width_max),
            "power_limit_default_watts": float(self._hardware.power_limit_default[index]),
            "core_clock_max_mhz": model.core_clock_max_mhz,
            "memory_clock_max_mhz": model.memory_clock_max_mhz,
        }

    def _events(self, window: Window, node: int, strays: set[int]) -> list[Reading]:
        node_of = self._fleet.nodes[node]
        events = []
        for index in node_of.card_range:
            address = self._fleet.cards[index].pci_address[4:]
            for kind, since in window.began.get(index, []):
                if kind == "lost":
                    text = f"Xid (PCI:{address}): 79, GPU has fallen off the bus."
                    events.append(self._event(index, since, "xid", "79", text))
                    events.append(self._event(index, since + 0.5, "lost", "", "GPU is lost"))
            if index in strays and not window.effects.lost[index]:
                text = f"Xid (PCI:{address}): 43, a channel was reset, the program failed"
                time = float(window.times[node]) - 1.0
                events.append(self._event(index, time, "xid", "43", text))
        return events

    def _event(self, index: int, time: float, kind: str, code: str, text: str) -> Reading:
        fields: dict[str, Value] = {"kind": kind, "code": code, "text": text, "count": 1.0}
        return Reading("card_event", self._tags[index], fields, round(time * 1e9))

    def _works(self, window: Window, node: int, time_ns: int) -> list[Reading]:
        assignment = window.assignment
        if assignment.job[node] < 0 or not assignment.reports[node]:
            return []
        node_of = self._fleet.nodes[node]
        kind = JOB_KINDS[int(assignment.job[node])]
        fields: dict[str, Value] = {"unit": kind.unit, "job": kind.name}
        if kind.trains:
            fields["gang"] = f"{kind.name}-{node_of.host}-{assignment.number[node]}"
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

    def _host(self, window: Window, node: int, dice: Array, time_ns: int) -> Reading:
        node_of = self._fleet.nodes[node]
        works = window.assignment.job[node] >= 0
        cpu = (0.25 if works else 0.02) + 0.1 * float(dice[0])
        memory = node_of.memory_gib * 2.0**30
        fields: dict[str, Value] = {
            "cpu_ratio": round(cpu, 3),
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


def _names(card: Card) -> tuple[str, ...]:
    """Numeric fields that a card gives, in the contract's order."""
    withheld = OPTIONAL_FIELDS - card.model.gives
    return tuple(name for name in DECIMALS if name not in withheld)


def _columns(names: tuple[str, ...]) -> tuple[int, ...]:
    position = {name: at for at, name in enumerate(DECIMALS)}
    return tuple(position[name] for name in names)
