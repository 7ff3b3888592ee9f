"""Steps all cards of a farm together, interval by interval."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import NamedTuple

import numpy as np

from farmhand_collector.simulator.air import Air
from farmhand_collector.simulator.effects import Array, Effects
from farmhand_collector.simulator.fleet import Fleet
from farmhand_collector.simulator.kinds import (
    FAULT_KINDS,
    HARMLESS_KINDS,
    Boards,
    Case,
    Fault,
    Moment,
)
from farmhand_collector.simulator.physics import Demand, Hardware, Operation, Physics
from farmhand_collector.simulator.probes import Probes
from farmhand_collector.simulator.reports import Window
from farmhand_collector.simulator.sensors import Sensors
from farmhand_collector.simulator.workload import JOB_KINDS, REPORTS_SHARE, Assignment, Workload

_WARM_UP_STEPS = 60
_WARM_UP_SECONDS = 10.0
_TIME_JITTER_SECONDS = 0.02
_RATE_NOISE = 0.001
"""Rates of one card repeat within it, as V100s of a fleet do within 0.1 %."""


class Conduct(NamedTuple):
    """How a farm is run.

    `reports_share` of the jobs report their rates. Each card is tested every
    `probe_every_seconds`, where that is given. `gang_drag` lets cards that wait for the slowest
    of their gang draw less power, at the same utilisation and clock, as they do while they spin.
    """

    interval_seconds: float = 10.0
    reports_share: float = REPORTS_SHARE
    probe_every_seconds: float | None = None
    gang_drag: bool = False


class Simulation:
    """All state of a running farm; `windows` goes on for ever."""

    def __init__(
        self,
        fleet: Fleet,
        seed: int,
        cases: tuple[Fault, ...],
        start: float,
        conduct: Conduct,
    ) -> None:
        self.fleet = fleet
        self._rng = np.random.default_rng([seed, 10])
        self._start = start
        self._interval = interval = conduct.interval_seconds
        self._gang_drag = conduct.gang_drag
        self.hardware = Hardware(fleet, seed)
        self._air = Air(fleet, seed)
        count = self.hardware.count
        self.effects = Effects.none(count, len(fleet.nodes))
        self._waiting = [
            Case(fault, np.random.default_rng([seed, 11, number]))
            for number, fault in enumerate(cases)
        ]
        self._acting: list[Case] = []
        self._boards = Boards(self.hardware, self.hardware.full_clock(), self._air.typical())
        self._physics = Physics(self.hardware)
        self._workload = Workload(fleet, seed, start, conduct.reports_share)
        self._sensors = Sensors(fleet, self.hardware, seed)
        self._phase = self._rng.uniform(0.0, 0.98, len(fleet.nodes)) * interval
        every = conduct.probe_every_seconds
        self._probes = Probes(fleet, self.hardware, seed, interval, every) if every else None
        self._node_of_card = np.array([card.node for card in fleet.cards])
        self._tflops = np.array([card.model.fp16_tflops for card in fleet.cards])
        self._unlocked_share = np.array([card.unlocked_share for card in fleet.cards])
        self._temperature = np.full(count, np.nan)
        self._warming = np.zeros(count)
        self._last: Moment | None = None
        self._unheard = np.ones(len(fleet.nodes), bool)
        """Nodes that did not speak since the last moment."""

    def windows(self) -> Iterator[Window]:
        """Every interval's window, beginning after a warm-up."""
        self._act(np.full(len(self.fleet.nodes), self._start))
        self._warm_up()
        for number in count():
            yield self._window(number)

    def _warm_up(self) -> None:
        """Let heat and fans settle, as on a farm that has been running."""
        times = self._start + self._phase
        demand, _ = self._demand(times, self._interval)
        air = self._air.typical()
        for _ in range(_WARM_UP_STEPS):
            self._temperature = self._physics.step(
                demand, air, self.effects, _WARM_UP_SECONDS
            ).temperature

    def _window(self, number: int) -> Window:
        jitter = self._rng.uniform(0.0, _TIME_JITTER_SECONDS, len(self._phase))
        times = self._start + number * self._interval + self._phase + jitter
        moment = self._act(times)
        self._unheard = times < self.effects.node_silent_until
        inlet = self._air.inlet(times, self._interval) + self.effects.room_kelvin
        demand, assignment = self._demand(times, self._interval)
        air = self._air.at_slots(inlet)
        operation = self._physics.step(demand, air, self.effects, self._interval)
        self._warming = operation.temperature - self._temperature
        self._temperature = operation.temperature
        return Window(
            number=number,
            times=times,
            fields=self._sensors.read(demand, operation, self.effects, self._interval),
            effects=self.effects,
            assignment=assignment,
            rates=self._rates(demand, assignment, operation),
            inlet=inlet,
            busy=demand.busy,
            probes=self._probes.results(number, self.effects) if self._probes else {},
            moment=moment,
        )

    def _demand(self, times: Array, seconds: float) -> tuple[Demand, Assignment]:
        """What jobs ask for, less what faults and idle times take from it."""
        demand, assignment = self._workload.demand(times, seconds)
        scale = self.effects.utilization_scale
        demand = replace(
            demand,
            busy=np.where(self.effects.resting, 0.0, demand.busy),
            utilization=demand.utilization * scale,
            memory_utilization=demand.memory_utilization * scale,
        )
        return demand, assignment

    def _act(self, times: Array) -> Moment:
        """Let every case act whose time has come at its own node."""
        moment = self._moment(times)
        begun = [c for c in self._waiting if c.fault.since <= moment.time(c.fault.index)]
        self._waiting = [c for c in self._waiting if c.fault.since > moment.time(c.fault.index)]
        acting = [*self._acting, *begun]
        for case in acting:
            _let_act(case, moment)
        self._acting = [case for case in acting if not _is_done(case)]
        self._apply(moment)
        self._last = moment
        return moment

    def _moment(self, times: Array) -> Moment:
        """A new window's moment, with what nodes that were down could not tell in the last."""
        moment = Moment(
            fleet=self.fleet,
            boards=self._boards,
            effects=self.effects,
            seconds=self._interval,
            times=times,
            warming=self._warming,
        )
        if self._last is not None:
            last, down = self._last, set(np.flatnonzero(self._unheard).tolist())
            moment.events += [e for e in last.events if moment.node(e.place) in down]
            moment.host_events += [e for e in last.host_events if e.node in down]
            moment.told |= {at for at in last.told if moment.node(at) in down}
        return moment

    def _apply(self, moment: Moment) -> None:
        for node in sorted(moment.restarts):
            self._sensors.restart(self.fleet.nodes[node].card_range, self.effects)
        for one, other in moment.swaps:
            self.hardware.swap(one, other)
            self._sensors.swap(one, other)
            places = [one, other]
            self.effects.board_at[places] = self.effects.board_at[places[::-1]]

    def _rates(self, demand: Demand, assignment: Assignment, operation: Operation) -> Array:
        """Useful work of each card; a gang goes at the pace of its slowest."""
        job = assignment.job[self._node_of_card]
        _, per_tflops, trains = _JOB_COLUMNS[:, job]
        pace = self._pace(job, operation)
        silent = self.effects.lost | self.effects.unreadable
        works = (demand.busy > 0) & ~silent
        leader = assignment.leader[self._node_of_card]
        slowest = np.full(len(assignment.job), np.inf)
        np.minimum.at(slowest, leader, np.where(works, pace, np.inf))
        held = np.where((trains > 0) & works, slowest[leader], pace)
        if self._gang_drag:
            self.effects.waiting_share = 1.0 - held / np.maximum(pace, 1e-9)
        use = demand.busy * assignment.progress
        sound = self._tflops * per_tflops / _time(_JOB_COLUMNS[0, job], self._unlocked_share)
        rate = sound * np.where(works, held, 0.0) * use
        return np.asarray(rate * (1.0 + _RATE_NOISE * self._rng.standard_normal(len(rate))))

    def _pace(self, job: Array, operation: Operation) -> Array:
        """Work of each card for itself against its kind's: time for computing, time for memory."""
        effects = self.effects
        bound, unlocked = _JOB_COLUMNS[0, job], self._unlocked_share
        core = operation.core_clock / self.hardware.sustained_clock * effects.compute_ratio
        memory = operation.memory_pace * effects.bandwidth_ratio
        time = _time(bound, unlocked * core, memory) / _time(bound, unlocked)
        return np.asarray(effects.host_ratio / time)


def _let_act(case: Case, moment: Moment) -> None:
    """Bring a case to its size at its time; kinds that do not last act when it changes."""
    fault, time = case.fault, moment.time(case.fault.index)
    kind = FAULT_KINDS.get(fault.kind) or HARMLESS_KINDS[fault.kind]
    case.ended = time >= fault.until
    size = fault.severity * _grown(fault, time)
    if case.first or kind.lasting or size != case.size:
        case.size = size
        kind.act(moment, case)
    case.first = False


def _grown(fault: Fault, time: float) -> float:
    """Share of its severity that a case has reached; what passes goes as it came."""
    if time >= fault.until:
        return 0.0
    if not fault.ramp_seconds:
        return 1.0
    return min(
        1.0, (time - fault.since) / fault.ramp_seconds, (fault.until - time) / fault.ramp_seconds
    )


def _is_done(case: Case) -> bool:
    """Whether nothing of a case will change any more."""
    fault = case.fault
    kind = FAULT_KINDS.get(fault.kind) or HARMLESS_KINDS[fault.kind]
    settled = case.size == fault.severity and not kind.lasting and fault.until == np.inf
    return case.ended or settled


def _time(bound: Array, core: Array, memory: Array | float = 1.0) -> Array:
    """Time for a piece of work: a share of it is bound by memory, the rest by the core."""
    return np.asarray((1.0 - bound) / np.maximum(core, 1e-3) + bound / memory)


_JOB_COLUMNS = np.array(
    [(kind.memory_bound, kind.rate_per_tflops, kind.trains) for kind in JOB_KINDS]
    + [(0.0, 0.0, 0.0)],
    dtype=np.float64,
).T
"""Figures of each kind of job in a column; the last one, which -1 picks, is no job."""
