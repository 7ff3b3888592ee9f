"""T3: faults of known size in runs of real cards that are healthy."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from farmhand_agent.reading import Reading, Value
from farmhand_collector.capacity.detector import WATCH
from tests.evaluate.baselines.baseline import Baseline, flags, peaks, threshold
from tests.evaluate.contest import scored
from tests.evaluate.follow import Followed, follow
from tests.evaluate.frames import recorded
from tests.evaluate.real import longhorn
from tests.evaluate.real.halves import Half, card_half, half
from tests.evaluate.result import Grid, TierResult
from tests.evaluate.scoring import History, Share
from tests.evaluate.truth import Truth, in_half, truth

SHARES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.10)
KELVINS = (2.0, 5.0, 10.0, 15.0, 20.0, 30.0)
TARGET_SHARE = 0.08
"""Of the cards of a recording, those that are made faulty at once, each in its own way."""
NOTES = [
    "Each benchmark of Longhorn is a recording. Faults are put into cards of the half of nodes to "
    "report on: for ResNet in their runs on days of that half; the others ran on three days, so "
    "there it is in the second half of the recording.",
    "clock: the core clock is lower, and with it the rate of the card and of all that go in lock "
    "step with it. power: only the power drawn is lower. temperature: only the core is hotter, in "
    "kelvin. rate: only the work is slower (PageRank: elsewhere a rate cannot fall alone).",
    "Found: flagged itself, or listed in a wider finding that lists no sound card, at any time, "
    "and not so without the fault. Thresholds of baselines flag no more healthy cards of the half "
    "to choose on than farmhand does.",
]


class Kind(NamedTuple):
    """A way in which readings of a card are worsened."""

    name: str
    sizes: Sequence[float]
    parts: Sequence[str] = longhorn.PARTS


KINDS = (
    Kind("clock", SHARES),
    Kind("power", SHARES, ("resnet", "bert")),
    Kind("temperature", KELVINS, ("resnet", "bert")),
    Kind("rate", SHARES, ("pagerank",)),
)


class Fault(NamedTuple):
    """How faulty a card is made."""

    kind: str
    size: float


Faults = Mapping[str, Fault]
"""By card; at most one card of a host."""


SPLIT_BY_DAY = frozenset({"resnet"})
"""Benchmarks that ran on days enough to keep the halves apart by card and day."""


class HeldOut(NamedTuple):
    """Which runs of a benchmark may be made faulty."""

    part: str
    middle_ns: int

    @classmethod
    def of(cls, part: str, readings: Sequence[Reading]) -> "HeldOut":
        """From the readings of a benchmark in order of time."""
        return cls(part, (readings[0].time_ns + readings[-1].time_ns) // 2)

    def holds(self, reading: Reading) -> bool:
        """Whether a reading is of such a run."""
        host = reading.tags["host"]
        if self.part in SPLIT_BY_DAY:
            return half(host, reading.time_ns) is Half.REPORT
        return card_half(host) is Half.REPORT and reading.time_ns >= self.middle_ns


def injected(readings: Sequence[Reading], faults: Faults, held_out: HeldOut) -> Iterator[Reading]:
    """Readings with faults in those of the cards' runs that are held out."""
    gangs = {
        reading.fields["gang"]: fault
        for reading in readings
        if reading.measurement == "work" and "gang" in reading.fields
        if (fault := _hit(reading, faults, held_out)) is not None and fault.kind == "clock"
    }
    for reading in readings:
        waits_for = gangs.get(reading.fields.get("gang", ""))
        fault = _hit(reading, faults, held_out) or waits_for
        worse = _worse(reading, fault) if fault else {}
        yield reading._replace(fields={**reading.fields, **worse}) if worse else reading


def _hit(reading: Reading, faults: Faults, held_out: HeldOut) -> Fault | None:
    fault = faults.get(reading.tags["card"])
    return fault if fault is not None and held_out.holds(reading) else None


_WORSENED: Mapping[tuple[str, str], Sequence[str]] = {
    ("clock", "card"): ("core_clock_mhz",),
    ("clock", "work"): ("rate",),
    ("power", "card"): ("power_watts", "power_max_watts"),
    ("temperature", "card"): ("core_temperature_celsius", "core_temperature_max_celsius"),
    ("rate", "work"): ("rate",),
}


def _worse(reading: Reading, fault: Fault) -> dict[str, Value]:
    worse: dict[str, Value] = {}
    for name in _WORSENED.get((fault.kind, reading.measurement), ()):
        value = reading.fields.get(name)
        if isinstance(value, float):
            is_heat = fault.kind == "temperature"
            worse[name] = value + fault.size if is_heat else value * (1 - fault.size)
    return worse


@dataclass
class Tally:
    """Found by judge, and planted."""

    found: Counter[tuple[str, Fault]] = field(default_factory=Counter)
    planted: Counter[Fault] = field(default_factory=Counter)
    false: dict[str, Share] = field(default_factory=dict)

    def count(
        self, judge: str, faults: Faults, history: History, before: History, known: Truth
    ) -> None:
        """Count the faults of one replay that a judge found."""
        targets = {i: faults[k.card] for i, k in enumerate(history.roster) if k.card in faults}
        found = history.pointed_at(known.healthy - set(targets))
        for card in found - before.pointed_at(known.healthy):
            if card in targets:
                self.found[judge, targets[card]] += 1

    def add_false(self, judge: str, history: History, known: Truth) -> None:
        """Count the flags of a clean replay, in the half to report on."""
        chosen = in_half(history.roster, known.healthy, Half.REPORT)
        flagged = sum(bool(chosen[card]) for card in history.flagged(WATCH))
        before = self.false.get(judge, Share(0, 0))
        self.false[judge] = Share(before.hits + flagged, before.of + int(chosen.sum()))


def run(baselines: Sequence[Baseline], seed: int, rounds: int = 12) -> TierResult:
    """Replay each benchmark of Longhorn clean, and in rounds with many faults of many sizes."""
    tally, dice = Tally(), random.Random(seed)
    for part in longhorn.PARTS:
        _play(part, baselines, dice, rounds, tally)
    judges = list(tally.false)
    result = TierResult(
        "T3", f"faults of known size in real, healthy cards, seed {seed}", notes=NOTES
    )
    result.grids = [_grid(kind, judges, tally) for kind in KINDS]
    result.numbers = {
        f"{judge}, {kind.name}": {
            str(size): [tally.found[judge, Fault(kind.name, size)], planted]
            for size in kind.sizes
            if (planted := tally.planted[Fault(kind.name, size)])
        }
        for judge in judges
        for kind in KINDS
    }
    return result


def _play(
    part: str, baselines: Sequence[Baseline], dice: random.Random, rounds: int, tally: Tally
) -> None:
    readings = list(longhorn.readings([part]))
    clean = follow(recorded(readings))
    known = truth(longhorn.labels(), clean.history.roster)
    held_out = HeldOut.of(part, readings)
    by_host = _eligible(readings, held_out, clean, known)
    drawn = list(_drawn(part, by_host, len(clean.history.roster), dice, rounds))
    played = [follow(recorded(injected(readings, faults, held_out))) for faults in drawn]
    tally.add_false("farmhand", clean.history, known)
    for faults, followed in zip(drawn, played, strict=True):
        tally.planted.update(faults.values())
        tally.count("farmhand", faults, followed.history, clean.history, known)
    tables = [clean.table, *(followed.table for followed in played)]
    chosen = in_half(clean.table.roster, known.healthy, Half.CHOOSE)
    most = sum(bool(chosen[card]) for card in clean.history.flagged())
    for baseline in baselines:
        scores = scored(baseline, tables, [(clean.table, chosen)])
        if scores is not None:
            least = threshold(peaks(scores[0], chosen), most)
            said = [flags(table, told, least) for table, told in zip(tables, scores, strict=True)]
            tally.add_false(baseline.name, said[0], known)
            for faults, history in zip(drawn, said[1:], strict=True):
                tally.count(baseline.name, faults, history, said[0], known)


def _drawn(
    part: str, by_host: Mapping[str, set[str]], cards: int, dice: random.Random, rounds: int
) -> Iterator[Faults]:
    """Faults for each round, every kind and size as often as the others."""
    count = min(max(1, round(TARGET_SHARE * cards)), len(by_host))
    every = [Fault(kind.name, s) for kind in KINDS if part in kind.parts for s in kind.sizes]
    waiting: list[Fault] = []
    for _ in range(rounds):
        faults = {}
        for host in dice.sample(sorted(by_host), count):
            waiting = waiting or dice.sample(every, len(every))
            faults[dice.choice(sorted(by_host[host]))] = waiting.pop()
        yield faults


def _eligible(
    readings: Sequence[Reading], held_out: HeldOut, clean: Followed, known: Truth
) -> dict[str, set[str]]:
    """By host, healthy cards with a run that is held out."""
    healthy = {clean.history.roster[card].card for card in known.healthy}
    found: dict[str, set[str]] = defaultdict(set)
    for reading in readings:
        if reading.tags["card"] in healthy and held_out.holds(reading):
            found[reading.tags["host"]].add(reading.tags["card"])
    return found


_BARS = "▁▂▃▄▅▆▇█"


def _grid(kind: Kind, judges: Sequence[str], tally: Tally) -> Grid:
    unit = "+{:g} K" if kind.name == "temperature" else "-{:.0%}"
    faults = [Fault(kind.name, size) for size in kind.sizes]
    rows = [
        [judge, tally.false[judge].text(), *(_cell(judge, fault, tally) for fault in faults)]
        for judge in judges
    ]
    counts = [tally.planted[fault] for fault in faults]
    title = f"{kind.name}: found of {min(counts)} to {max(counts)} cards a size, % (95 %)"
    return Grid(title, ["judge", "healthy flagged", *(unit.format(s) for s in kind.sizes)], rows)


def _cell(judge: str, fault: Fault, tally: Tally) -> str:
    share = Share(tally.found[judge, fault], tally.planted[fault])
    if not share.of:
        return "-"
    bar = _BARS[min(len(_BARS) - 1, int(share.value * len(_BARS)))]
    low, high = share.interval()
    return f"{bar} {100 * share.value:.0f} ({100 * low:.0f}–{100 * high:.0f})"
