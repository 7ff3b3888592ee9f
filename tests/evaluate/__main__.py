"""How well faults are found: simulated farms straight into the core, over seeds drawn now.

make evaluate ARGS="--farms 20 --cards 64 --hours 1"
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator

from farmhand_collector.block import block_of
from farmhand_collector.judging import Judge, Tick
from farmhand_collector.report import card_verdict
from farmhand_collector.simulator import Farm
from farmhand_collector.wire import CardVerdict, Planted

START = 1.79e9
PIECE_READINGS = 5_000

Place = tuple[str, str]

CAUSES = {
    "lost": {"unreachable"},
    "unreadable": {"driver"},
    "link_width": {"link"},
    "thermal": {"thermal"},
    "hardware_throttle": {"power"},
    "memory_shrunk": {"memory"},
    "memory_clock": {"memory"},
    "clock_stuck": {"compute"},
    # A supply that gives too little shows as a low clock at a power that fits it.
    "low_power": {"power", "compute"},
}
"""Causes that are right for each kind of planted fault."""


class Tally:
    """Sums over farms."""

    def __init__(self) -> None:
        self.planted: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.right: Counter[str] = Counter()
        self.delays: dict[str, list[float]] = {}
        self.false: list[str] = []
        self.cards = self.unknown = 0

    def count(self, seed: int, farm: Farm, ticks: Iterable[Tick]) -> None:
        """Judge one farm and count what was found, rightly and wrongly."""
        planted = {(fault.host, fault.slot): fault for fault in farm.planted}
        last, flagged_at = _followed(ticks)
        self.cards += len(last)
        self.unknown += sum(verdict.state == "unknown" for verdict in last.values())
        for place, fault in planted.items():
            self._count_fault(fault, last[place], flagged_at.get(place))
        self.false += [
            f"seed {seed}: {verdict.host} {verdict.slot} {verdict.model}: {verdict.state}"
            for place, verdict in last.items()
            if place not in planted and verdict.state not in ("ok", "unknown")
        ]

    def _count_fault(self, fault: Planted, verdict: CardVerdict, flagged: float | None) -> None:
        self.planted[fault.fault] += 1
        if verdict.state in ("ok", "unknown") or flagged is None:
            return
        self.found[fault.fault] += 1
        self.right[fault.fault] += verdict.cause in CAUSES[fault.fault]
        self.delays.setdefault(fault.fault, []).append(flagged - fault.since)

    def lines(self) -> Iterator[str]:
        """The result as text."""
        yield f"{'fault':<20}{'planted':>8}{'found':>8}{'cause right':>13}{'median delay':>14}"
        for kind in sorted(self.planted):
            delays = sorted(self.delays.get(kind, []))
            delay = f"{delays[len(delays) // 2] / 60:.1f} min" if delays else "-"
            numbers = f"{self.planted[kind]:>8}{self.found[kind]:>8}{self.right[kind]:>13}"
            yield f"{kind:<20}{numbers}{delay:>14}"
        yield f"{self.cards} cards, {self.unknown} not judged, {len(self.false)} falsely flagged"
        yield from self.false


def _followed(ticks: Iterable[Tick]) -> tuple[dict[Place, CardVerdict], dict[Place, float]]:
    """Last verdict of each place, and when it was first flagged as it stayed."""
    last: dict[Place, CardVerdict] = {}
    flagged_at: dict[Place, float] = {}
    for tick in ticks:
        for index, card in enumerate(tick.frame.roster):
            place = (card.host, card.slot)
            last[place] = card_verdict(card, index, tick.verdicts)
            if last[place].state in ("ok", "unknown"):
                flagged_at.pop(place, None)
            else:
                flagged_at.setdefault(place, tick.verdicts.end_ns / 1e9)
    return last, flagged_at


def judged(farm: Farm, seconds: float) -> Iterator[Tick]:
    """Every tick of a farm's first seconds."""
    judge, arrival = Judge(), 1
    piece = []
    for batch in farm.readings(START + seconds):
        piece += batch.readings
        if len(piece) >= PIECE_READINGS:
            yield from judge.feed(block_of(piece, arrival))
            arrival, piece = arrival + len(piece), []
    yield from judge.feed(block_of(piece, arrival))


def main() -> int:
    """Evaluate and print."""
    options = argparse.ArgumentParser(prog="evaluate", description=__doc__)
    options.add_argument("--farms", type=int, default=20)
    options.add_argument("--cards", type=int, default=64)
    options.add_argument("--hours", type=float, default=1.0)
    options.add_argument("--faults", default="some")
    options.add_argument("--seed", type=int, help="of the seeds; drawn when not given")
    chosen = options.parse_args()
    first = random.randrange(2**31) if chosen.seed is None else chosen.seed
    seeds = random.Random(first)
    tally = Tally()
    for _ in range(chosen.farms):
        seed = seeds.randrange(2**31)
        farm = Farm(chosen.cards, seed, chosen.faults, START)
        tally.count(seed, farm, judged(farm, chosen.hours * 3600))
    about = f"{chosen.farms} farms of {chosen.cards} cards, {chosen.hours:g} h, seed {first}"
    sys.stdout.write("\n".join([about, *tally.lines()]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
