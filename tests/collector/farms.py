"""Readings of farms, simulated or written by hand, and the ticks that they give."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from farmhand_agent.reading import Reading, Value
from farmhand_collector.block import block_of
from farmhand_collector.judging import Judge, Tick
from farmhand_collector.simulator import Farm
from farmhand_collector.wire import Planted
from tests.collector.capacity.farm import HEALTHY

START = 1_790_000_100.0
PIECE_READINGS = 997
"""Readings pushed at once: of no round number, so that frames end in the middle of pieces."""

Place = tuple[str, str]


class Simulated(NamedTuple):
    """What a simulated farm sent, in order of arrival, and what is wrong with it."""

    readings: tuple[Reading, ...]
    planted: Mapping[Place, Planted]


@cache
def simulated(cards: int, seed: int, faults: str, seconds: float = 3600.0) -> Simulated:
    """A simulated farm from `START` on."""
    farm = Farm(cards, seed, faults, START)
    batches = farm.readings(START + seconds)
    readings = tuple(reading for batch in batches for reading in batch.readings)
    return Simulated(readings, {(fault.host, fault.slot): fault for fault in farm.planted})


def ticks(readings: Iterable[Reading]) -> Iterator[Tick]:
    """All ticks that readings give in their order, those of open frames left out."""
    judge, readings = Judge(), list(readings)
    for begin in range(0, len(readings), PIECE_READINGS):
        yield from judge.feed(block_of(readings[begin : begin + PIECE_READINGS], begin + 1))


def card_tags(card: int, per_node: int = 4) -> dict[str, str]:
    """Tags of a card of a farm written by hand."""
    place = {"host": f"node-{card // per_node}", "slot": f"{card % per_node}"}
    kind = {"vendor": "nvidia", "model": "GeForce RTX 3090"}
    return {"site": "barn", **place, "card": f"GPU-{card}", **kind}


def healthy(card: int, seconds: float, **changed: Value) -> Reading:
    """A reading of a card that works and lacks nothing but what is changed."""
    fields: dict[str, Value] = {"state": "ok", **HEALTHY, **changed}
    return Reading("card", card_tags(card), fields, int((START + seconds) * 1e9))


def gone(card: int, seconds: float) -> Reading:
    """What the agent says of a card that fell off the bus."""
    return Reading("card", card_tags(card), {"state": "lost"}, int((START + seconds) * 1e9))


def times(until: float, every: float, since: float = 0.0) -> Sequence[float]:
    """Times of an agent's readings."""
    return [since + every * number for number in range(int((until - since) / every))]
