"""Frames to judge: of recorded readings, and straight from simulated farms."""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from farmhand_agent.reading import Kind, Reading, fields_of
from farmhand_collector.capacity.frame import (
    HOST_FIELDS,
    LOADED_RATIO,
    MARKS,
    Event,
    Floats,
    Frame,
    Framer,
    Work,
    code_of,
)
from farmhand_collector.capacity.roster import CardKey, Roster
from farmhand_collector.judging import LAG_NS
from farmhand_collector.replay import cadence_ns, frame_length_ns, in_order, pieces
from farmhand_collector.simulator import Farm
from farmhand_collector.simulator.frames import Columns, columns

_CARD = fields_of("card")
_GAUGES = [name for name, told in _CARD.items() if told.kind is Kind.GAUGE]
_NUMBERS = [name for name, told in _CARD.items() if told.kind is not Kind.TEXT]
_FACTS = [name for name, told in fields_of("card_info").items() if told.kind is not Kind.TEXT]
_PROBE = list(fields_of("probe"))


def recorded(readings: Iterable[Reading]) -> Iterator[Frame]:
    """Frames of readings in order of time, cut as `farmhand-collector judge` cuts a file."""
    pushes = list(pieces(iter(readings)))
    every_ns = frame_length_ns(cadence_ns(chain.from_iterable(pushes)))
    lag_ns = max(LAG_NS, every_ns // 2)
    framer = Framer(every_ns, lag_ns)
    for blocks in in_order(pushes, every_ns + lag_ns):
        yield from framer.push(blocks)
    yield from framer.flush()


def simulated(farm: Farm, until: float) -> Iterator[Frame]:
    """Frames of a farm up to a time, as long as its interval but at least 30 s."""
    every_seconds = max(30.0, farm.interval_seconds)
    lag_seconds = max(LAG_NS / 1e9, every_seconds / 2)
    before = Roster()
    for told in columns(farm, until, every_seconds, lag_seconds, LOADED_RATIO):
        if told.keys != before:
            before = Roster(CardKey(*key) for key in told.keys)
        yield _frame(told, before)


def _frame(told: Columns, roster: Roster) -> Frame:
    n = len(roster)
    return Frame(
        start_ns=told.start_ns,
        end_ns=told.end_ns,
        roster=roster,
        read=told.read,
        values=_filled(_NUMBERS, told.values, n),
        loaded=_filled(_GAUGES, told.loaded, n),
        loaded_share=told.loaded_share,
        facts=_facts(told, n),
        events=tuple(Event(*news) for news in told.events),
        work=_work(told),
        host=_filled(HOST_FIELDS, told.host, n),
        probe=_filled(_PROBE, told.probe, n),
        booted=told.booted,
        late=told.late,
    )


def _filled(names: Iterable[str], given: dict[str, Floats], n: int) -> dict[str, Floats]:
    nothing = np.full(n, np.nan)
    return {name: given.get(name, nothing) for name in names}


def _facts(told: Columns, n: int) -> dict[str, Floats]:
    facts = _filled((*_FACTS, *MARKS), told.numbers, n)
    for name in MARKS:
        codes = [float(code_of(text)) or np.nan for text in told.texts.get(name, [""] * n)]
        facts[name] = np.array(codes, np.float64)
    return facts


def _work(told: Columns) -> Work:
    names: dict[int, str] = {}
    jobs, gangs = [], []
    for job, unit, gang in zip(told.told.job, told.told.unit, told.told.gang, strict=True):
        jobs.append(code_of(f"{job}\n{unit}") if job else 0)
        gangs.append(code_of(gang))
        names[jobs[-1]], names[gangs[-1]] = job, gang
    names.pop(0, None)
    return Work(told.told.rate, np.array(jobs, np.int64), np.array(gangs, np.int64), names)
