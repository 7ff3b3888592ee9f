"""Frames of a small farm in which one card has a fault, built by hand."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_agent.reading import Kind, fields_of
from farmhand_collector.capacity.detector import SPAN_NS, Detector, Facts, Memory, Score
from farmhand_collector.capacity.frame import (
    HOST_FIELDS,
    LOADED,
    LOADED_RATIO,
    MARKS,
    READ_LOST,
    READ_OK,
    READ_UNREADABLE,
    Event,
    Frame,
    Work,
)
from farmhand_collector.capacity.roster import CardKey, Roster
from farmhand_collector.capacity.span import Spans, gathered, with_load
from farmhand_collector.capacity.state import State
from farmhand_collector.capacity.step import Verdicts, step

Array = NDArray[Any]

GIB = 2.0**30
START_NS = 1_790_000_100 * 10**9 // SPAN_NS * SPAN_NS
FACTS = Facts({"RTX 3090": (24 * GIB,), "RTX 3080": (10 * GIB, 12 * GIB)})
SICK = 5
"""The card that has the fault."""

HEALTHY: Mapping[str, Any] = {
    "window_seconds": 10.0,
    "read_seconds": 0.01,
    "utilization_ratio": 1.0,
    "memory_total_bytes": 24 * GIB,
    "core_clock_mhz": 1700.0,
    "memory_clock_mhz": 9501.0,
    "power_watts": 300.0,
    "power_limit_watts": 350.0,
    "core_temperature_celsius": 68.0,
    "fan_ratio": 0.6,
    "pcie_generation": 3.0,
    "pcie_width": 16.0,
    "throttle_power_ratio": 0.0,
    "throttle_thermal_ratio": 0.0,
    "throttle_hardware_ratio": 0.0,
    "throttle_brake_ratio": 0.0,
}
"""A card under full load that lacks nothing."""

IDLE: Mapping[str, Any] = {
    "utilization_ratio": 0.0,
    "core_clock_mhz": 210.0,
    "memory_clock_mhz": 405.0,
    "power_watts": 22.0,
    "pcie_generation": 1.0,
}
"""How a healthy card without work differs from one with work."""


def cards(count: int, per_node: int = 4, model: str = "RTX 3090") -> Roster:
    """Cards of one model, side by side in nodes."""
    return Roster(
        CardKey(
            "barn", "a", f"node-{at // per_node}", f"{at % per_node}", f"GPU-{at}", "nvidia", model
        )
        for at in range(count)
    )


FARM = cards(16)


def frame(
    number: int = 0,
    roster: Roster = FARM,
    *,
    length_ns: int = SPAN_NS,
    start_ns: int | None = None,
    read: Array | int = READ_OK,
    events: Sequence[Event] = (),
    width_max: float = 16.0,
    work: Work | None = None,
    facts: Mapping[str, Array | float] | None = None,
    host: Mapping[str, Array | float] | None = None,
    probe: Mapping[str, Array | float] | None = None,
    booted: Array | bool = False,
    late: Array | float = 0.0,
    **changed: Array | float,
) -> Frame:
    """The frame of a number; all cards are healthy and loaded except for what is changed.

    A frame is as long as a span, so that each is a window to every detector.
    """
    n = len(roster)
    start_ns = START_NS + number * length_ns if start_ns is None else start_ns
    read = np.broadcast_to(np.asarray(read, np.int8), n).copy()
    if "core_clock_mhz" not in changed:
        changed["core_clock_mhz"] = _clock(changed.get("throttle_thermal_ratio", 0.0))
    columns = {name: np.full(n, np.nan) for name in _numbers("card")}
    for name, value in {**HEALTHY, **changed}.items():
        columns[name] = np.where(
            read == READ_OK, np.broadcast_to(np.asarray(value, float), n), np.nan
        )
    use = columns["utilization_ratio"]
    loaded = use >= LOADED_RATIO
    known: dict[str, Array | float] = dict.fromkeys((*_numbers("card_info"), *MARKS), np.nan)
    known |= {"pcie_width_max": width_max, **(facts or {})}
    return Frame(
        start_ns=start_ns,
        end_ns=start_ns + length_ns,
        roster=roster,
        read=read,
        values=columns,
        loaded={name: np.where(loaded, columns[name], np.nan) for name in LOADED},
        loaded_share=np.where(np.isnan(use), np.nan, loaded),
        facts=_columns(known, n),
        events=tuple(events),
        work=work or Work.none(n),
        host=_columns(dict.fromkeys(HOST_FIELDS, np.nan) | dict(host or {}), n),
        probe=_columns(dict.fromkeys(_numbers("probe"), np.nan) | dict(probe or {}), n),
        booted=np.broadcast_to(np.asarray(booted, bool), n).copy(),
        late=np.broadcast_to(np.asarray(late, float), n).copy(),
    )


def _columns(values: Mapping[str, Array | float], n: int) -> dict[str, Array]:
    return {
        name: np.broadcast_to(np.asarray(value, float), n).copy() for name, value in values.items()
    }


def working(rate: Array | float, job: Array | int = 1, gang: Array | int = 0, n: int = 16) -> Work:
    """What jobs tell: rates, and numbers that stand for names of jobs and gangs."""
    rates = np.broadcast_to(np.asarray(rate, float), n).copy()
    jobs, gangs = (np.broadcast_to(np.asarray(c, np.int64), n).copy() for c in (job, gang))
    names = {code: f"name {code}" for code in {*jobs.tolist(), *gangs.tolist()} - {0}}
    return Work(rates, jobs, gangs, names)


def _clock(throttled: Array | float) -> Array:
    """What a card that heat holds back gives of its clock: more than a step, less than a fault."""
    return np.where(np.asarray(throttled) > 0, 1640.0, HEALTHY["core_clock_mhz"])


def _numbers(measurement: str) -> list[str]:
    return [name for name, f in fields_of(measurement).items() if f.kind is not Kind.TEXT]


def at(card: int | Sequence[int], value: float, usual: float, n: int = len(FARM)) -> Array:
    """(n,) one value at a card, or some, and another everywhere else."""
    column = np.full(n, usual)
    column[card] = value
    return column


def sick(name: str, value: float) -> dict[str, Any]:
    """A column in which only the sick card differs from health."""
    return {name: at(SICK, value, HEALTHY.get(name, np.nan))}


FAULTS: Mapping[str, Mapping[str, Any]] = {
    "lost": {"read": at(SICK, READ_LOST, READ_OK)},
    "unreadable": {"read": at(SICK, READ_UNREADABLE, READ_OK)},
    "memory_size": sick("memory_total_bytes", 12 * GIB),
    "link_width": sick("pcie_width", 4.0),
    "throttle_hardware": sick("throttle_hardware_ratio", 0.3),
    "throttle_thermal": sick("throttle_thermal_ratio", 0.5),
    "peer_memory_clock": sick("memory_clock_mhz", 5001.0),
    "peer_power": sick("power_watts", 120.0),
    "peer_core_clock": sick("core_clock_mhz", 1200.0),
}
"""For each detector, how a frame shows the fault that it is there to find."""


Story = Callable[[], list[Frame]]
"""Frames of which the last shows a fault of the sick card, and no other card shows any."""


@cache
def stories() -> Mapping[str, Story]:
    """A story for each detector: those of `FAULTS`, and those of the modules `stories_*`."""
    told: dict[str, Story] = {name: partial(_fallen, name) for name in FAULTS}
    for module in iter_modules(__import__(__package__, fromlist=["_"]).__path__):
        if module.name.startswith("stories_"):
            told |= import_module(f"{__package__}.{module.name}").STORIES
    return told


def _fallen(name: str) -> list[Frame]:
    # The frame before is good, so that there is something to fall from.
    return [frame(0), faulty(name, 1)]


def faulty(detector: str, number: int = 0) -> Frame:
    """A frame in which the sick card shows the fault of a detector."""
    return frame(number, **FAULTS[detector])


class Scored(NamedTuple):
    """What a detector said of each frame, and what it remembers in the end."""

    scores: list[Score]
    memory: Memory


def fresh_memory(detector: Detector, n: int) -> Memory:
    """What a detector remembers of cards that are new."""
    return np.zeros(n, detector.memory)


def scored(detector: Detector, frames: Sequence[Frame], facts: Facts = FACTS) -> Scored:
    """Let a detector see frames one after another, as `step` does."""
    memory = fresh_memory(detector, len(frames[0]))
    scores, spans = [], Spans()
    for framed in frames:
        seen, spans = gathered(with_load(framed, facts), spans)
        if detector.per_span and seen.span is None:
            continue
        grown = fresh_memory(detector, len(seen))
        grown[: len(memory)] = memory
        with np.errstate(divide="ignore", invalid="ignore"):
            score, memory = detector.score(seen, grown, facts)
        scores.append(score)
    return Scored(scores, memory)


def stepped(
    frames: Sequence[Frame], state: State | None = None
) -> Iterator[tuple[State, Verdicts]]:
    """State and verdicts after each frame."""
    state = state or State()
    for seen in frames:
        state, verdicts = step(state, seen, FACTS)
        yield state, verdicts


def judged(frames: Sequence[Frame], state: State | None = None) -> Verdicts:
    """Verdicts after the last frame."""
    *_, (_, verdicts) = stepped(frames, state)
    return verdicts


def found(verdicts: Verdicts) -> dict[int, list[str]]:
    """Detectors that raised something, by card."""
    return {
        card: [finding.detector.name for finding in raised]
        for card, raised in verdicts.findings.items()
        if raised
    }
