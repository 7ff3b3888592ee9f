"""What the farm computes: jobs on nodes, shared by their cards, drawn by seed."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farmhand_collector.simulator.effects import Array
from farmhand_collector.simulator.fleet import Fleet, Profile
from farmhand_collector.simulator.physics import Demand


class JobKind(NamedTuple):
    """A kind of work.

    `intensity` is its power against a full load. `memory_bound` is the share of its time that
    goes with the memory clock. `rate_per_tflops` is its useful work a second for a TFLOP/s.
    """

    name: str
    trains: bool
    intensity: float
    utilization: float
    memory_utilization: float
    memory_share: float
    memory_bound: float
    unit: str
    rate_per_tflops: float


JOB_KINDS = (
    JobKind("llm-finetune", True, 1.01, 0.99, 0.55, 0.9, 0.3, "tokens", 62.0),
    JobKind("image-lora", True, 1.0, 0.985, 0.45, 0.75, 0.2, "images", 0.11),
    JobKind("resnet-train", True, 0.98, 0.975, 0.5, 0.6, 0.25, "images", 9.5),
    JobKind("llm-serve", False, 0.62, 0.7, 0.6, 0.92, 0.7, "tokens", 18.0),
    JobKind("image-serve", False, 0.85, 0.6, 0.35, 0.6, 0.2, "images", 0.07),
    JobKind("speech-serve", False, 0.5, 0.4, 0.2, 0.35, 0.3, "seconds", 4.2),
)

_TRAINING = [index for index, kind in enumerate(JOB_KINDS) if kind.trains]
_SERVING = [index for index, kind in enumerate(JOB_KINDS) if not kind.trains]
_NO_JOB = -1
REPORTS_SHARE = 0.4
"""Share of jobs that report their rate."""
_WIDE_GANG_SHARE = 0.3
_WIDE_GANG_NODES = 3
_PAUSE_SHARE = 0.85
"""Share of its use that a training gives up while it writes a checkpoint."""

_STARVED_SHARE = 0.15
_WANDER_SECONDS = 95.0
"""How long serving remembers its requests."""


@dataclass(frozen=True)
class Assignment:
    """Which job each node runs at its time; -1 where none.

    `number` counts a node's jobs. `leader` is the first node of the gang that goes in lock step,
    the node itself where the gang is no wider. `starved` jobs wait for their data.
    """

    job: npt.NDArray[np.int64]
    number: npt.NDArray[np.int64]
    reports: npt.NDArray[np.bool_]
    leader: npt.NDArray[np.int64]
    starved: npt.NDArray[np.bool_]
    progress: Array
    """(cards,) share of its time in which the job of a card gets on."""


class _Stretch(NamedTuple):
    """A stretch of one node's time: a job, or none."""

    begin: float
    end: float
    job: int
    reports: bool
    pause_period: float
    pause_seconds: float
    fed: float = 1.0
    """Share of time in which its data are there."""


class Workload:
    """Jobs of all nodes, each node drawing its own as time goes on."""

    def __init__(
        self, fleet: Fleet, seed: int, start: float, reports_share: float = REPORTS_SHARE
    ) -> None:
        self._reports_share = reports_share
        self._profiles = [node.profile for node in fleet.nodes]
        self._leader = _leaders(fleet, np.random.default_rng([seed, 21]))
        self._followers = np.flatnonzero(self._leader != np.arange(len(fleet.nodes)))
        self._feed_dice = np.random.default_rng([seed, 22])
        self._dice = [np.random.default_rng([seed, 4, node]) for node in range(len(fleet.nodes))]
        self._rng = np.random.default_rng([seed, 5])
        self._node_of_card = np.array([card.node for card in fleet.cards])
        self._spare = np.array([card.spare for card in fleet.cards])
        self._stretches = [self._first(node, start) for node in range(len(fleet.nodes))]
        self._numbers = np.zeros(len(fleet.nodes), np.int64)
        self._columns = np.array(self._stretches, dtype=np.float64).T
        self._follow()
        count = len(fleet.cards)
        self._share = self._rng.uniform(0.85, 1.1, count)
        self._wander = self._rng.standard_normal(count)

    @property
    def spare(self) -> npt.NDArray[np.bool_]:
        """Cards that never get work."""
        return self._spare

    def demand(self, times: Array, seconds: float) -> tuple[Demand, Assignment]:
        """Work over the windows that end at each node's time; called once a window."""
        self._move_on(times)
        begin, _, job, reports, period, pause, fed = self._columns
        kinds = _KIND_COLUMNS[:, job.astype(np.int64)]
        trains, intensity, utilization, memory_utilization, memory_share = kinds
        held = np.clip((times - begin) / seconds, 0.0, 1.0) * (job != _NO_JOB)
        paused = trains * _pause_share(times - begin, period, pause, seconds)
        cards = self._node_of_card
        use = self._use(utilization[cards], trains[cards], seconds)
        running = (1.0 - _PAUSE_SHARE * paused[cards]) * fed[cards]
        progress = np.where(trains[cards] > 0, utilization[cards], use) * running
        use = use * running
        demand = Demand(
            busy=np.where(self._spare, 0.0, held[cards]),
            utilization=use,
            memory_utilization=memory_utilization[cards] * use,
            intensity=intensity[cards],
            memory_share=memory_share[cards],
        )
        assignment = Assignment(
            job=job.astype(np.int64),
            number=self._numbers[self._leader],
            reports=reports > 0,
            leader=self._leader,
            starved=fed < 1.0,
            progress=progress,
        )
        return demand, assignment

    def _use(self, utilization: Array, trains: Array, seconds: float) -> Array:
        """Utilisation by card: training is steady, serving follows its requests."""
        noise = self._rng.standard_normal(len(utilization))
        keep = np.exp(-seconds / _WANDER_SECONDS)
        self._wander = keep * self._wander + np.sqrt(1.0 - keep**2) * noise
        serving = utilization * self._share + 0.13 * self._wander
        steady = utilization + 0.006 * noise
        return np.clip(np.where(trains > 0, steady, serving), 0.03, 1.0)

    def _move_on(self, times: Array) -> None:
        for node in np.flatnonzero(times >= self._columns[1]):
            while self._stretches[node].end <= times[node]:
                self._stretches[node] = self._next(int(node), self._stretches[node])
                self._numbers[node] += self._stretches[node].job != _NO_JOB
            self._columns[:, node] = self._stretches[node]
        self._follow()

    def _follow(self) -> None:
        """Let the nodes of a wide gang do what its first node does."""
        self._columns[:, self._followers] = self._columns[:, self._leader[self._followers]]

    def _first(self, node: int, start: float) -> _Stretch:
        """A job that has been running for a while when the farm is first looked at."""
        if self._profiles[node] is Profile.IDLE:
            return _Stretch(start - 3600.0, np.inf, _NO_JOB, False, 1.0, 0.0)
        stretch = self._job(node, start)
        age = self._dice[node].uniform(0.05, 0.7) * (stretch.end - stretch.begin)
        return stretch._replace(begin=start - age, end=stretch.end - age)

    def _next(self, node: int, last: _Stretch) -> _Stretch:
        if last.job == _NO_JOB:
            return self._job(node, last.end)
        most = 300.0 if self._profiles[node] is Profile.TRAINING else 1800.0
        gap = self._dice[node].uniform(40.0, most)
        return _Stretch(last.end, last.end + gap, _NO_JOB, False, 1.0, 0.0)

    def _job(self, node: int, begin: float) -> _Stretch:
        dice = self._dice[node]
        trains = self._profiles[node] is Profile.TRAINING or dice.random() < 0.3
        job = int(dice.choice(_TRAINING if trains else _SERVING))
        starved = self._feed_dice.random() < _STARVED_SHARE
        feed = float(self._feed_dice.uniform(0.3, 0.6))
        mixed = self._profiles[node] is Profile.MIXED
        hours = float(np.clip(dice.lognormal(1.2, 0.6), 0.5, 12.0))
        return _Stretch(
            begin=begin,
            end=begin + 3600.0 * hours,
            job=job,
            reports=bool(dice.random() < self._reports_share),
            pause_period=float(dice.uniform(900.0, 2400.0)),
            pause_seconds=float(dice.uniform(10.0, 40.0)),
            fed=feed if starved and trains and mixed else 1.0,
        )


def _leaders(fleet: Fleet, dice: np.random.Generator) -> npt.NDArray[np.int64]:
    """First node of each node's gang: some trainings span nodes of one kind side by side."""
    leaders = np.arange(len(fleet.nodes))
    for at in range(1, len(fleet.nodes)):
        wide, first = dice.random() < _WIDE_GANG_SHARE, int(leaders[at - 1])
        if wide and at - first < _WIDE_GANG_NODES and _alike(fleet, first, at):
            leaders[at] = first
    return leaders


def _alike(fleet: Fleet, one: int, other: int) -> bool:
    nodes = fleet.nodes[one], fleet.nodes[other]
    batches = {fleet.cards[node.first].batch for node in nodes}
    return len(batches) == 1 and all(node.profile is Profile.TRAINING for node in nodes)


_KIND_COLUMNS = np.array(
    [
        (kind.trains, kind.intensity, kind.utilization, kind.memory_utilization, kind.memory_share)
        for kind in JOB_KINDS
    ]
    + [(0.0, 0.0, 0.0, 0.0, 0.0)],
    dtype=np.float64,
).T
"""Figures of each kind of job in a column; the last one, which -1 picks, is no job."""


def _pause_share(age: Array, period: Array, pause: Array, seconds: float) -> Array:
    """Share of the window that training spends writing its checkpoint."""
    phase = np.mod(age, period)
    paused = np.minimum(phase, pause) - np.maximum(phase - seconds, 0.0)
    return np.asarray(np.clip(paused / seconds, 0.0, 1.0))
