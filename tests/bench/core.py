"""One tick of the core, framing included, after an hour of history with every field given.

    make bench-core
    make bench-core ARGS="--cards 100000 --profile"

Each size runs in a process of its own on one processor, so that its memory is its own. A tick is
of thirty seconds; each tenth one ends a span of five minutes and is told apart.
"""

import argparse
import cProfile
import os
import pstats
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_agent.reading import Kind, fields_of
from farmhand_collector.block import Block, object_column
from farmhand_collector.capacity.detector import SPAN_NS
from farmhand_collector.judging import EVERY_NS, Judge

SIZES = (1_000, 10_000, 100_000)
HISTORY_TICKS = 120
MEASURED_TICKS = 20
START_NS = 1_790_000_100 * 10**9 // SPAN_NS * SPAN_NS
SPAN_TICKS = SPAN_NS // EVERY_NS


class Farm:
    """Blocks of a farm in which every card gives every field, works, and has its peers."""

    def __init__(self, cards: int) -> None:
        self._n = cards
        self._tags = tuple(
            {
                "site": "farm",
                "rack": f"rack-{card // 64}",
                "host": f"node-{card // 8}",
                "slot": f"slot{card % 8}",
                "card": f"GPU-{card:08d}",
                "vendor": "nvidia",
                "model": f"GeForce RTX {3060 + card // 64 % 4 * 10}",
            }
            for card in range(cards)
        )
        self._rng = np.random.default_rng(1)
        self._made = {name: self._block(name) for name in ("card", "work", "card_info")}

    def blocks(self, tick: int) -> list[Block]:
        """What arrives in a tick: a reading of each card, one of each job, all facts hourly."""
        names = ["card", "work", *(["card_info"] if tick % HISTORY_TICKS == 0 else [])]
        return [self._moved(self._made[name], tick, at) for at, name in enumerate(names)]

    def _moved(self, block: Block, tick: int, at: int) -> Block:
        first = (3 * tick + at) * self._n + 1
        time_ns = np.full(self._n, START_NS + tick * EVERY_NS + EVERY_NS // 2)
        return replace(block, arrival=np.arange(first, first + self._n), time_ns=time_ns)

    def _block(self, measurement: str) -> Block:
        n, known = self._n, fields_of(measurement)
        values = {
            name: self._column(name) for name, field in known.items() if field.kind is not Kind.TEXT
        }
        texts = {
            name: object_column([_TEXTS.get(name, name)] * n)
            for name, field in known.items()
            if field.kind is Kind.TEXT
        }
        series, nothing = np.arange(n, dtype=np.int32), np.zeros(n, np.int64)
        return Block(measurement, nothing, nothing, series, self._tags, values, texts)

    def _column(self, name: str) -> NDArray[np.float64]:
        if name not in _NOISY:
            return np.full(self._n, _VALUES.get(name, 0.0))
        usual = _VALUES[name]
        return usual * (1 + 0.01 * self._rng.standard_normal(self._n).clip(-2, 2))


_TEXTS = {"state": "ok", "job": "training", "gang": "", "unit": "samples"}
_VALUES = {
    "window_seconds": 10.0,
    "samples": 10.0,
    "utilization_ratio": 0.97,
    "core_clock_mhz": 1700.0,
    "memory_clock_mhz": 9501.0,
    "power_watts": 300.0,
    "power_limit_watts": 350.0,
    "core_temperature_celsius": 66.0,
    "hotspot_temperature_celsius": 76.0,
    "memory_temperature_celsius": 80.0,
    "fan_ratio": 0.6,
    "pcie_generation": 4.0,
    "pcie_width": 16.0,
    "memory_total_bytes": 24 * 2.0**30,
    "memory_bandwidth_bytes_per_second": 5e11,
    "energy_joules": 1e9,
    "rate": 100.0,
    "pcie_generation_max": 4.0,
    "pcie_width_max": 16.0,
}


_NOISY = ("core_clock_mhz", "power_watts", "core_temperature_celsius", "rate")
"""Fields that differ from card to card; the rest is as steady as it is on a farm that is well."""


class Measured(NamedTuple):
    """Seconds of ordinary ticks and of those that end a span, and memory."""

    tick_seconds: float
    span_seconds: float
    peak_mib: float


def measured(cards: int, profile: cProfile.Profile | None = None) -> Measured:
    """Let an hour pass, then measure."""
    farm, judge = Farm(cards), Judge()
    times: dict[bool, list[float]] = {True: [], False: []}
    for tick in range(HISTORY_TICKS + MEASURED_TICKS):
        blocks = farm.blocks(tick)
        if profile and tick >= HISTORY_TICKS:
            profile.enable()
        began = time.perf_counter()
        closed = [one.verdicts.end_ns % SPAN_NS == 0 for one in judge.feed(blocks)]
        seconds = time.perf_counter() - began
        if profile:
            profile.disable()
        if tick >= HISTORY_TICKS:
            times[any(closed)].append(seconds)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(statistics.median(times[False]), statistics.median(times[True]), peak_mib)


def table(sizes: tuple[int, ...]) -> Iterator[str]:
    """A line for each size, each measured in a process of its own."""
    yield f"{'cards':>8}  {'tick':>9}  {'ends span':>9}  {'mean of ten':>11}  {'peak':>9}"
    for cards in sizes:
        command = [sys.executable, "-m", "tests.bench.core", "--one", str(cards)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        one = Measured(*map(float, done.stdout.split()))
        mean = ((SPAN_TICKS - 1) * one.tick_seconds + one.span_seconds) / SPAN_TICKS
        yield (
            f"{cards:>8,}  {one.tick_seconds:>7.3f} s  {one.span_seconds:>7.3f} s"
            f"  {mean:>9.3f} s  {one.peak_mib:>5.0f} MiB"
        )


def main() -> int:
    """Print the table, or measure one size."""
    options = argparse.ArgumentParser(prog="bench-core", description=__doc__)
    options.add_argument("--cards", type=int, help="this many only")
    options.add_argument("--profile", action="store_true", help="say where the time goes")
    options.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if chosen.one:
        sys.stdout.write(" ".join(map(str, measured(chosen.one))) + "\n")
        return 0
    if chosen.profile:
        profile = cProfile.Profile()
        measured(chosen.cards or SIZES[-1], profile)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return 0
    for line in table((chosen.cards,) if chosen.cards else SIZES):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
