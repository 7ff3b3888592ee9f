"""A farm that can be asked for the readings its agents would send."""

from collections.abc import Iterator
from itertools import count

import numpy as np

from farmhand_collector.simulator.air import Air
from farmhand_collector.simulator.delivery import Delivery
from farmhand_collector.simulator.faults import (
    FAULT_KINDS,
    Boards,
    Fault,
    draw_faults,
)
from farmhand_collector.simulator.fleet import Fleet, draw_fleet
from farmhand_collector.simulator.physics import (
    Array,
    Demand,
    Effects,
    Hardware,
    Operation,
    Physics,
)
from farmhand_collector.simulator.reports import Batch, Reports, Window
from farmhand_collector.simulator.sensors import Sensors
from farmhand_collector.simulator.workload import JOB_KINDS, Assignment, Workload
from farmhand_collector.wire import Planted

INTERVAL_SECONDS = 10.0
DEFAULT_SPAN_SECONDS = 3600.0
_WARM_UP_STEPS = 60
_TIME_JITTER_SECONDS = 0.02


class Farm:
    """A simulated farm; the same arguments give the same readings.

    `faults` is `none`, `some` (about one card in twelve), `all` (one of each kind) or kinds with
    commas between. `start` is
    in seconds since 1970. Faults that do not exist from the start begin in the first third of
    `span_seconds`. `duplicates` is the share of batches that arrive twice.

    Raises:
        ValueError: fewer than one card, or `faults` is none of these.
    """

    def __init__(
        self,
        cards: int,
        seed: int,
        faults: str,
        start: float,
        *,
        span_seconds: float = DEFAULT_SPAN_SECONDS,
        duplicates: float = 0.0,
    ) -> None:
        self.start = start
        self.fleet = draw_fleet(cards, seed)
        self.faults = draw_faults(self.fleet, seed, faults, start, span_seconds)
        """What was planted, in order of time, with kind and severity."""
        self._delivery = Delivery(seed, duplicates)
        self._simulation = _Simulation(self.fleet, seed, self.faults, start)
        self._live = self._simulation.batches()
        self._next: Batch | None = None

    @property
    def planted(self) -> list[Planted]:
        """What was planted, as the interfaces tell it."""
        return _planted(self.fleet, self.faults)

    def outage(self, host: str, begin: float, end: float) -> None:
        """Hold back the readings of a host; they follow late, after its first live ones."""
        self._delivery.add_outage(host, begin, end)

    def readings(self, until: float) -> Iterator[Batch]:
        """Batches of all hosts in the order they arrive, up to a time; going on from there."""
        while self.next_time() < until:
            batch, self._next = self._next, None
            assert batch is not None  # next_time() fetched it
            yield from self._delivery.deliver(batch)

    def next_time(self) -> float:
        """Time of the batch that an agent takes next."""
        if self._next is None:
            self._next = next(self._live)
        return self._next.time


def plan(
    cards: int,
    seed: int,
    faults: str,
    start: float,
    span_seconds: float = DEFAULT_SPAN_SECONDS,
) -> list[Planted]:
    """What a `Farm` of the same arguments has planted, without running it.

    Raises:
        ValueError: as `Farm` does.
    """
    fleet = draw_fleet(cards, seed)
    return _planted(fleet, draw_faults(fleet, seed, faults, start, span_seconds))


def _planted(fleet: Fleet, faults: tuple[Fault, ...]) -> list[Planted]:
    planted = []
    for fault in faults:
        card = fleet.cards[fault.index]
        host = fleet.nodes[card.node].host
        planted.append(Planted(card.card, host, card.slot, fault.kind, fault.since))
    return planted


class _Simulation:
    """Steps all cards together, interval by interval."""

    def __init__(self, fleet: Fleet, seed: int, faults: tuple[Fault, ...], start: float) -> None:
        self._fleet = fleet
        self._rng = np.random.default_rng([seed, 10])
        self._start = start
        self._hardware = Hardware(fleet, seed)
        self._air = Air(fleet, seed)
        self._effects = Effects.none(self._hardware.count)
        self._pending = list(faults)
        full_clock = self._hardware.full_clock()
        self._boards = Boards(self._hardware, full_clock, self._air.typical())
        self._physics = Physics(self._hardware)
        self._workload = Workload(fleet, seed, start)
        self._sensors = Sensors(fleet, self._hardware, seed)
        self._reports = Reports(fleet, self._hardware, seed, INTERVAL_SECONDS)
        self._phase = self._rng.uniform(0.0, 0.98, len(fleet.nodes)) * INTERVAL_SECONDS
        self._node_of_card = np.array([card.node for card in fleet.cards])
        self._node_starts = np.array([node.first for node in fleet.nodes])
        self._tflops = np.array(
            [card.model.fp16_tflops * card.model.lock_ratio for card in fleet.cards]
        )

    def batches(self) -> Iterator[Batch]:
        self._begin_faults(np.full(len(self._fleet.nodes), self._start))
        self._warm_up()
        for number in count():
            yield from self._reports.batches(self._window(number))

    def _warm_up(self) -> None:
        """Let heat and fans settle, as on a farm that has been running."""
        times = self._start + self._phase
        demand, _ = self._workload.demand(times, INTERVAL_SECONDS)
        for _ in range(_WARM_UP_STEPS):
            self._physics.step(demand, self._boards.air, self._effects, INTERVAL_SECONDS)

    def _window(self, number: int) -> Window:
        jitter = self._rng.uniform(0.0, _TIME_JITTER_SECONDS, len(self._phase))
        times = self._start + number * INTERVAL_SECONDS + self._phase + jitter
        began = self._begin_faults(times)
        inlet = self._air.inlet(times, INTERVAL_SECONDS)
        demand, assignment = self._workload.demand(times, INTERVAL_SECONDS)
        air = self._air.at_slots(inlet)
        operation = self._physics.step(demand, air, self._effects, INTERVAL_SECONDS)
        return Window(
            number=number,
            times=times,
            fields=self._sensors.read(demand, operation, self._effects, INTERVAL_SECONDS),
            effects=self._effects,
            assignment=assignment,
            rates=self._rates(demand, assignment, operation),
            inlet=inlet,
            began=began,
        )

    def _begin_faults(self, times: Array) -> dict[int, list[tuple[str, float]]]:
        """Let every fault act whose time has come at its own node."""
        began: dict[int, list[tuple[str, float]]] = {}
        waiting = []
        for fault in self._pending:
            if fault.since <= times[self._node_of_card[fault.index]]:
                FAULT_KINDS[fault.kind].apply(self._effects, self._boards, fault)
                began.setdefault(fault.index, []).append((fault.kind, fault.since))
            else:
                waiting.append(fault)
        self._pending = waiting
        return began

    def _rates(self, demand: Demand, assignment: Assignment, operation: Operation) -> Array:
        """Useful work of each card; a gang goes at the pace of its slowest."""
        job = assignment.job[self._node_of_card]
        bound, per_tflops, trains = _JOB_COLUMNS[:, job]
        core = operation.core_clock / self._hardware.sustained_clock
        memory = operation.memory_clock / self._hardware.memory_clock
        pace = core ** (1.0 - bound) * memory**bound
        silent = self._effects.lost | self._effects.unreadable
        works = (demand.busy > 0) & ~silent
        slowest = np.minimum.reduceat(np.where(works, pace, np.inf), self._node_starts)
        pace = np.where(trains > 0, slowest[self._node_of_card], pace)
        use = demand.busy * demand.utilization
        rate = self._tflops * per_tflops * np.where(works, pace, 0.0) * use
        return np.asarray(rate * (1.0 + 0.004 * self._rng.standard_normal(len(rate))))


_JOB_COLUMNS = np.array(
    [(kind.memory_bound, kind.rate_per_tflops, kind.trains) for kind in JOB_KINDS]
    + [(0.0, 0.0, 0.0)],
    dtype=np.float64,
).T
"""Figures of each kind of job in a column; the last one, which -1 picks, is no job."""
