"""Frames of the core straight from a simulated farm, without readings on the way."""

from collections.abc import Iterator

import numpy as np

from farmhand_agent.reading import Kind, fields_of
from farmhand_collector.capacity.frame import (
    HOST_FIELDS,
    LOADED,
    LOADED_RATIO,
    MARKS,
    Event,
    Floats,
    Frame,
    Work,
    code_of,
)
from farmhand_collector.capacity.roster import CardKey, Roster
from farmhand_collector.judging import EVERY_NS, LAG_NS
from farmhand_collector.simulator import Farm
from farmhand_collector.simulator.frames import Columns, Told, columns

_GAUGES = [name for name, told in fields_of("card").items() if told.kind is Kind.GAUGE]
_NUMBERS = [name for name, told in fields_of("card").items() if told.kind is not Kind.TEXT]


def frames(
    farm: Farm, until: float, every_ns: int = EVERY_NS, lag_ns: int = LAG_NS
) -> Iterator[Frame]:
    """Frames of a farm that has not been asked before, up to a time."""
    roster, texts, codes = Roster(), None, dict[str, Floats]()
    for stretch in columns(farm, until, every_ns / 1e9, lag_ns / 1e9, LOADED_RATIO):
        if len(stretch.keys) != len(roster):
            roster = Roster(CardKey(*key) for key in stretch.keys)
        if stretch.texts is not texts:
            texts, codes = stretch.texts, {name: _codes(stretch.texts[name]) for name in MARKS}
        yield _frame(stretch, roster, codes)


def _codes(texts: list[str]) -> Floats:
    return np.array([code_of(text) or np.nan for text in texts], np.float64)


def _frame(stretch: Columns, roster: Roster, codes: dict[str, Floats]) -> Frame:
    nothing = np.full(len(roster), np.nan)
    return Frame(
        start_ns=stretch.start_ns,
        end_ns=stretch.end_ns,
        roster=roster,
        read=stretch.read,
        values=dict.fromkeys(_NUMBERS, nothing) | stretch.values,
        loaded={name: stretch.loaded.get(name, nothing) for name in LOADED},
        loaded_share=stretch.loaded_share,
        facts=stretch.numbers | {name: column.copy() for name, column in codes.items()},
        events=tuple(Event(*news) for news in stretch.events),
        work=_work(stretch.told),
        host={name: stretch.host.get(name, nothing) for name in HOST_FIELDS},
        probe=stretch.probe,
        booted=stretch.booted,
        late=stretch.late,
    )


def _work(told: Told) -> Work:
    names: dict[int, str] = {}
    jobs, gangs = [], []
    for job, unit, gang in zip(told.job, told.unit, told.gang, strict=True):
        jobs.append(code_of(f"{job}\n{unit}") if job else 0)
        gangs.append(code_of(gang))
        if job:
            names[jobs[-1]], names[gangs[-1]] = job, gang
    rate: Floats = told.rate
    return Work(rate, np.array(jobs, np.int64), np.array(gangs, np.int64), names)
