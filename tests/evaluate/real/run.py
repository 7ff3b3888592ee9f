"""One run of a job on one card, and the readings that tell of it.

A run gives one `card` reading at its end, whose window is the whole run, and one `work` reading
for each kind of work in it. Only what the data hold is written; each dataset says what it knows
beyond its table.
"""

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import NamedTuple

from farmhand_agent.reading import Reading, Value, to_line

DAY_SECONDS = 86_400.0


class Work(NamedTuple):
    """What a run achieved."""

    rate: float
    """Per second, in `unit`."""
    unit: str
    job: str
    gang: str = ""
    """Cards with an equal gang went in lock step; empty where each went alone."""


class Run(NamedTuple):
    """One run."""

    tags: Mapping[str, str]
    end_seconds: float
    """Since 1970."""
    seconds: float
    sensors: Mapping[str, float] = {}
    work: tuple[Work, ...] = ()

    def readings(self) -> Iterator[Reading]:
        """All readings of the run."""
        time_ns = round(self.end_seconds * 1e9)
        card: dict[str, Value] = {"state": "ok", "window_seconds": self.seconds, **self.sensors}
        yield Reading("card", self.tags, card, time_ns)
        for lane, work in enumerate(self.work):
            tags = {**self.tags, "lane": str(lane)}
            told = {name: value for name, value in work._asdict().items() if value != ""}
            yield Reading("work", tags, told, time_ns)


def in_order(runs: Iterable[Run], facts: Mapping[str, float] | None = None) -> Iterator[Reading]:
    """Readings of runs in the order in which the runs ended.

    Args:
        runs: in any order.
        facts: fields of a `card_info` that each card gives with its first run.
    """
    known: set[str] = set()
    for run in sorted(runs, key=attrgetter("end_seconds")):
        if facts and run.tags["card"] not in known:
            known.add(run.tags["card"])
            told: dict[str, Value] = {"name": run.tags["model"], **facts}
            yield Reading("card_info", run.tags, told, round(run.end_seconds * 1e9))
        yield from run.readings()


def lines(readings: Iterable[Reading]) -> Iterator[str]:
    """Readings in line protocol, without newlines."""
    return map(to_line, readings)
