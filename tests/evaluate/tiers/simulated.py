"""T4: simulated farms: a month with hardly a fault, farms full of faults, and what is none."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from farmhand_collector.capacity.detector import DEGRADED, FAILING, WATCH
from farmhand_collector.simulator import FAULT_KINDS, HARMLESS_KINDS, Farm
from farmhand_collector.simulator.effects import Array
from farmhand_collector.simulator.kinds import Fault
from farmhand_collector.simulator.reports import Window
from farmhand_collector.simulator.workload import REPORTS_SHARE
from tests.evaluate.baselines.baseline import Baseline, daily_peaks, flags, threshold
from tests.evaluate.contest import scored
from tests.evaluate.features import Table
from tests.evaluate.follow import follow
from tests.evaluate.frames import simulated
from tests.evaluate.result import Grid, TierResult
from tests.evaluate.scoring import (
    DAY_NS,
    Episode,
    History,
    Share,
    WideEpisode,
    card_days,
    middle,
    minutes,
)

START = 1.79e9
HOUR, DAY = 3600.0, 86_400.0
FAULTS_PER_CARD_DAY = 0.3 / 1000
SPARSE_INTERVAL, RICH_INTERVAL, HARMLESS_INTERVAL = 300.0, 30.0, 120.0
COST_WINDOWS = 240
CARDS_PER_FAULT = 8.0
PROBE_EVERY = 2 * HOUR
HARMLESS_CARDS, HARMLESS_HOURS = 48, 8.0
_TRIES = 20
CLASSES = (("≥ 5 %", 0.05, np.inf), ("2–5 %", 0.02, 0.05), ("< 2 %", -np.inf, 0.02))
LEVELS = {"watch or worse": WATCH, "degraded or worse": DEGRADED, "failing or lost": FAILING}
NOTES = [
    "Synthetic: it says how the core does on the physics that we could think of.",
    "The cost of a fault is measured: the share of work, memory or link that its worst card loses "
    "against a twin of the farm without faults. What costs less than 2 % is a warning of worse.",
    "Found: flagged, or listed in a wider finding that lists no sound card, after the fault began. "
    "`unknown` is missed. Cause right: as told last.",
    "False flags: of cards without a fault, or before theirs began; per 10,000 card-days, with the "
    "interval of 95 %. A flag that stands for days is one flag and several flagged card-days.",
    "Tuned: the threshold at which, on a farm of another seed without faults, there are no more "
    "flagged card-days than by farmhand.",
]


@dataclass(frozen=True)
class Sizes:
    """How much is simulated."""

    cards: int = 150
    days: float = 30.0
    rich_farms: int = 10
    rich_cards: int = 64
    rich_hours: float = 8.0


class Played(NamedTuple):
    """A farm that was judged; cards are numbered as in its fleet."""

    farm: Farm
    history: History
    table: Table
    costs: Mapping[Fault, float]
    tells_all: bool

    @property
    def card_days(self) -> int:
        """Cards times days, rounded."""
        days = (self.history.end_ns - self.history.begin_ns) / DAY_NS
        return round(len(self.farm.fleet.cards) * days)


def play(
    cards: int,
    seed: int,
    faults: str,
    seconds: float,
    interval: float,
    *,
    harmless: str = "some",
    cards_per_fault: float = CARDS_PER_FAULT,
    tells_all: bool = False,
    with_table: bool = True,
) -> Played:
    """Judge a farm from its start on."""

    def made(faults: str, harmless: str, interval: float) -> Farm:
        return Farm(
            cards,
            seed,
            faults,
            START,
            span_seconds=seconds,
            harmless=harmless,
            interval_seconds=interval,
            cards_per_fault=cards_per_fault,
            reports_share=1.0 if tells_all else REPORTS_SHARE,
            probe_every_seconds=PROBE_EVERY if tells_all else None,
        )

    farm = made(faults, harmless, interval)
    followed = follow(simulated(farm, START + seconds), with_table=with_table)
    coarse = max(interval, seconds / COST_WINDOWS)
    twins = made(faults, "none", coarse), made("none", "none", coarse)
    costs = _costs(*twins, seconds) if farm.faults else {}
    history = _by_place(farm, followed.history)
    return Played(farm, history, followed.table, costs, tells_all)


# --- what a fault costs ------------------------------------------------------------------------


def _costs(faulty: Farm, sound: Farm, seconds: float) -> dict[Fault, float]:
    """The share that the worst card of each fault loses, in its worst component."""
    windows = int(seconds / faulty.interval_seconds)
    begins = {fault: fault.since + fault.ramp_seconds for fault in faulty.faults}
    lost: dict[Fault, list[Array]] = defaultdict(list)
    pairs = zip(range(windows), faulty.windows(), sound.windows(), strict=False)
    for number, mine, other in pairs:
        now = START + number * faulty.interval_seconds
        for fault in faulty.faults:
            is_last = number >= windows - 3
            if begins[fault] <= now < fault.until or (is_last and not lost[fault]):
                at = list(fault.cards)
                lost[fault].append(np.stack([_given(mine, at), _given(other, at)]))
    return {fault: _cost(np.array(told)) for fault, told in lost.items() if told}


def _given(window: Window, at: list[int]) -> Array:
    """(components, cards) work, memory and link in one window; a card that is gone gives none."""
    fields, effects = window.fields, window.effects
    is_there = ~(effects.lost | effects.unreadable)[at]
    rates = np.where(is_there, window.rates[at], 0.0)
    link = fields["pcie_width"][at] * 2.0 ** fields["pcie_generation"][at]
    memory = np.where(is_there, fields["memory_total_bytes"][at], 0.0)
    return np.stack([rates, memory, np.where(rates > 0, link, 0.0)])


def _cost(told: Array) -> float:
    """Of (windows, twins, components, cards): where the sound twin worked, what was missing."""
    mine, other = told[:, 0], told[:, 1]
    works = other > 0
    given = np.where(works, mine, 0.0).sum(axis=0)
    # The link rests at its first generation where a card lost its work: compare it busy only.
    given[2] = np.where(works[:, 2] & (mine[:, 2] > 0), mine[:, 2], 0.0).sum(axis=0)
    whole = np.where(works, other, 0.0).sum(axis=0)
    whole[2] = np.where(works[:, 2] & (mine[:, 2] > 0), other[:, 2], 0.0).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        missing = 1 - given / whole
    return float(np.nanmax(missing, initial=0.0))


# --- who said what -----------------------------------------------------------------------------


def _by_place(farm: Farm, history: History) -> History:
    """A history whose cards are places of the fleet: boards come and go, and change names."""
    fleet = farm.fleet
    place = {(fleet.nodes[c.node].host, c.slot): at for at, c in enumerate(fleet.cards)}
    index = [place[key.host, key.slot] for key in history.roster]
    episodes = [replace(e, card=index[e.card]) for e in history.episodes]
    wide = [
        replace(
            w,
            cards=tuple(sorted({index[card] for card in w.cards})),
            named=None if w.named is None else index[w.named],
        )
        for w in history.wide
    ]
    return replace(history, episodes=episodes, wide=wide)


def _sound(farm: Farm) -> set[int]:
    return set(range(len(farm.fleet.cards))) - {at for fault in farm.faults for at in fault.cards}


class Finding(NamedTuple):
    """What became of one fault."""

    fault: Fault
    cost: float
    delay_seconds: float | None
    """None where it was missed."""
    cause: str

    @property
    def is_right(self) -> bool:
        """Whether the cause is the true one."""
        return self.cause == FAULT_KINDS[self.fault.kind].cause


def found(played: Played, history: History) -> Iterator[Finding]:
    """Look for each fault of a farm in what a judge said."""
    sound = _sound(played.farm)
    for fault in played.farm.faults:
        since_ns = int(fault.since * 1e9)
        told = [history.first_pointed_ns(card, sound, since_ns) for card in fault.cards]
        first = min((t for t in told if t is not None), default=None)
        delay = None if first is None else (first - since_ns) / 1e9
        cause = _last_cause(history, fault, sound) if first is not None else ""
        yield Finding(fault, played.costs.get(fault, 0.0), delay, cause)


def _last_cause(history: History, fault: Fault, sound: set[int]) -> str:
    """Of its cards or of what holds them; a gang that waits for a card gives the card's own."""
    since_ns, cards = int(fault.since * 1e9), set(fault.cards)
    told = [(e.end_ns, e.cause) for e in history.episodes if e.card in cards]
    told += [
        (w.end_ns, w.cause)
        for w in history.wide
        if w.named is None and cards & set(w.cards) and not sound & set(w.cards)
    ]
    return max(((end, cause) for end, cause in told if end >= since_ns), default=(0, ""))[1]


def false_episodes(played: Played, history: History, least: int = WATCH) -> list[Episode]:
    """Flags of a level or worse on cards without a fault, or that began before theirs did."""
    since = {at: fault.since * 1e9 for fault in played.farm.faults for at in fault.cards}
    return [
        replace(e, begin_ns=e.reached_ns[least])
        for e in history.episodes
        if least in e.reached_ns and e.reached_ns[least] < since.get(e.card, np.inf)
    ]


def _false_wide(played: Played, history: History, least: int) -> list[WideEpisode]:
    sound = _sound(played.farm)
    return [w for w in history.wide if w.level >= least and set(w.blamed) <= sound]


# --- baselines ---------------------------------------------------------------------------------


@dataclass
class Rivals:
    """What each judge said of each farm, farmhand first."""

    said: dict[str, list[History]]


def _rivals(choose: Played, farms: Sequence[Played], baselines: Sequence[Baseline]) -> Rivals:
    rivals = Rivals(said={"farmhand": [played.history for played in farms]})
    quiet = card_days(choose.history.episodes, choose.history.end_ns)
    everyone = np.ones(len(choose.table.roster), bool)
    for baseline in baselines:
        tables = [choose.table, *(played.table for played in farms)]
        scores = scored(baseline, tables, [(choose.table, everyone)])
        if scores is None:
            continue
        tuned = threshold(daily_peaks(scores[0], choose.table.end_ns), quiet)
        for least, word in ((baseline.usual, ""), (tuned, ", tuned")):
            if least is not None:
                name = f"{baseline.name}{word} ≥ {least:.3g}"
                rivals.said[name] = [
                    _by_place(played.farm, flags(played.table, told, least))
                    for played, told in zip(farms, scores[1:], strict=True)
                ]
    return rivals


# --- tables ------------------------------------------------------------------------------------


def run(baselines: Sequence[Baseline], seed: int, sizes: Sizes) -> TierResult:
    """Simulate and judge all farms; the seeds of the farms are drawn from `seed`."""
    seeds = random.Random(seed)
    with_table = bool(baselines)
    wanted = round(sizes.cards * sizes.days * FAULTS_PER_CARD_DAY)
    sparse = play(
        sizes.cards,
        seeds.randrange(2**31),
        "mixed" if wanted else "none",
        sizes.days * DAY,
        SPARSE_INTERVAL,
        cards_per_fault=sizes.cards / max(1, wanted),
        with_table=with_table,
    )
    rich = [
        play(
            sizes.rich_cards,
            seeds.randrange(2**31),
            "mixed",
            sizes.rich_hours * HOUR,
            RICH_INTERVAL,
            tells_all=number % 2 == 1,
            with_table=with_table,
        )
        for number in range(sizes.rich_farms)
    ]
    choose = play(
        sizes.cards,
        seeds.randrange(2**31),
        "none",
        min(sizes.days, 7.0) * DAY,
        SPARSE_INTERVAL,
        with_table=with_table,
    )
    rivals = _rivals(choose, [sparse, *rich], baselines)
    title = f"simulated farms, seed {seed}"
    result = TierResult("T4", title, notes=NOTES)
    result.grids = [
        _false_grid(sparse),
        _culprit_grid([sparse, *rich]),
        *_rich_grids(rich),
        _rival_grid([sparse, *rich], rivals),
        _harmless_grid(seeds),
    ]
    result.numbers = _numbers(sparse, rich, rivals, seed)
    return result


def _false_grid(sparse: Played) -> Grid:
    days = sparse.card_days
    rows = []
    for name, level in LEVELS.items():
        false = false_episodes(sparse, sparse.history, level)
        flagged = Share(min(days, card_days(false, sparse.history.end_ns)), days)
        onsets = Share(min(days, len(false)), days)
        wide = str(len(_false_wide(sparse, sparse.history, level)))
        rows.append([name, str(len(false)), onsets.per(10_000), flagged.per(10_000), wide])
    findings = list(found(sparse, sparse.history))
    right = sum(one.delay_seconds is not None for one in findings)
    judged = sparse.history.judged
    title = (
        f"(a) {len(sparse.farm.fleet.cards)} cards, {days} card-days, {right} of {len(findings)} "
        f"faults found, {100 * judged.value:.1f} % of readings judged"
    )
    head = ["false flags", "flags", "per 10,000 card-days", "card-days per 10,000", "wider"]
    return Grid(title, head, rows)


def _culprit_grid(farms: Sequence[Played]) -> Grid:
    """Which findings are behind false flags, and beside which harmless events."""
    counts: Counter[tuple[str, str]] = Counter()
    for played in farms:
        harmless = {at: case.kind for case in played.farm.harmless for at in case.cards}
        for level, name in ((WATCH, "watch"), (DEGRADED, "degraded")):
            for episode in false_episodes(played, played.history, level):
                beside = harmless.get(episode.card, "nothing")
                counts[f"{episode.finding}, beside {beside}", name] += 1
    rows = [
        [what, str(counts[what, "watch"]), str(counts[what, "degraded"])]
        for what in sorted({what for what, _ in counts})
    ]
    return Grid("(a) and (b): false flags by finding", ["finding", "watch", "degraded"], rows)


def _rich_grids(rich: Sequence[Played]) -> list[Grid]:
    findings = [one for played in rich for one in found(played, played.history)]
    some, all_tell = (
        [played for played in rich if played.tells_all is wanted] for wanted in (False, True)
    )
    return [
        _class_grid(some, f"{100 * REPORTS_SHARE:.0f} % of jobs tell their rate"),
        _class_grid(all_tell, "all jobs tell their rate, cards are probed every two hours"),
        _cause_grid(findings),
        _kind_grid(findings),
    ]


def _class_grid(rich: Sequence[Played], said: str) -> Grid:
    findings = [one for played in rich for one in found(played, played.history)]
    rows = []
    for name, low, high in CLASSES:
        mine = [one for one in findings if low <= one.cost < high]
        hits = [one for one in mine if one.delay_seconds is not None]
        right = Share(sum(one.is_right for one in hits), len(hits))
        rows.append([name, Share(len(hits), len(mine)).text(), right.text()])
    days = sum(played.card_days for played in rich)
    counts = [
        f"{sum(len(false_episodes(p, p.history, level)) for p in rich)} {name}"
        for name, level in LEVELS.items()
    ]
    cards = sum(len(played.farm.fleet.cards) for played in rich)
    size = f"{len(rich)} farms, {cards} cards, {days} card-days"
    title = f"(b) {size}, {said}; false: {', '.join(counts)}"
    return Grid(title, ["faults that cost", "found", "cause right"], rows)


def _cause_grid(findings: Sequence[Finding]) -> Grid:
    by_cause: dict[str, list[Finding]] = defaultdict(list)
    for one in findings:
        by_cause[FAULT_KINDS[one.fault.kind].cause or "-"].append(one)
    rows = [[cause, *_cells(mine)] for cause, mine in sorted(by_cause.items())]
    head = ["true cause", "found", "cause right", "median delay"]
    return Grid("(b) by cause, faults of any cost", head, rows)


def _kind_grid(findings: Sequence[Finding]) -> Grid:
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for one in findings:
        by_kind[one.fault.kind].append(one)
    rows = []
    for kind, mine in sorted(by_kind.items()):
        cost = f"{100 * middle([one.cost for one in mine]):.0f} %"
        wrong = sorted({one.cause for one in mine if one.cause and not one.is_right})
        rows.append([kind, cost, *_cells(mine), ", ".join(wrong) or "-"])
    head = ["kind", "median cost", "found", "cause right", "median delay", "wrongly called"]
    return Grid("(b) by kind", head, rows)


def _cells(mine: Sequence[Finding]) -> list[str]:
    delays = [one.delay_seconds for one in mine if one.delay_seconds is not None]
    right = sum(one.is_right for one in mine if one.delay_seconds is not None)
    return [f"{len(delays)}/{len(mine)}", f"{right}/{len(delays)}", minutes(middle(delays))]


def _rival_grid(farms: Sequence[Played], rivals: Rivals) -> Grid:
    days = sum(played.card_days for played in farms)
    rows = []
    for name, histories in rivals.said.items():
        told = list(zip(farms, histories, strict=True))
        findings = [one for played, history in told for one in found(played, history)]
        false = sum(card_days(false_episodes(p, h), h.end_ns) for p, h in told)
        shares = []
        for _, low, high in CLASSES:
            mine = [one for one in findings if low <= one.cost < high]
            hits = sum(one.delay_seconds is not None for one in mine)
            shares.append(Share(hits, len(mine)).text())
        rows.append([name, Share(min(false, days), days).per(10_000), *shares])
    head = ["judge", "false card-days per 10,000", *(f"found {name}" for name, *_ in CLASSES)]
    return Grid("(a) and (b), all judges, faults by cost", head, rows)


def _harmless_grid(seeds: random.Random) -> Grid:
    rows = [_harmless_row(kind, _harmless(kind, seeds)) for kind in HARMLESS_KINDS]
    clean = sum(row[-1] == "clean" for row in rows)
    title = f"(c) what is no fault: {clean} of {len(rows)} kinds clean"
    head = ["harmless", "cards", "watch", "degraded", "wider", "elsewhere", "by", ""]
    return Grid(title, head, rows)


def _harmless_row(kind: str, played: Played | None) -> list[str]:
    """Flags of the cards that an event touches, of what holds them, and of the others."""
    if played is None:
        return [kind, "0", "-", "-", "-", "-", "-", "no place"]
    touched = {at for case in played.farm.harmless for at in case.cards}
    watch, degraded = (
        {e.card for e in false_episodes(played, played.history, level)}
        for level in (WATCH, DEGRADED)
    )
    wide = [w for w in played.history.wide if touched & set(w.blamed)]
    found = {e.finding for e in played.history.episodes if e.card in touched}
    found |= {f"{w.scope} {w.finding}" for w in wide}
    groups = (touched, watch & touched, degraded & touched, wide, watch - touched)
    said = "FLAGGED" if watch & touched or wide else "clean"
    return [kind, *(str(len(group)) for group in groups), ", ".join(sorted(found)) or "-", said]


def _harmless(kind: str, seeds: random.Random) -> Played | None:
    """A farm on which only this happens; None where no fleet had a place for it."""
    for _ in range(_TRIES):
        seed = seeds.randrange(2**31)
        span = HARMLESS_HOURS * HOUR
        plan = Farm(HARMLESS_CARDS, seed, "none", START, span_seconds=span, harmless=kind)
        if plan.harmless:
            return play(
                HARMLESS_CARDS,
                seed,
                "none",
                span,
                HARMLESS_INTERVAL,
                harmless=kind,
                with_table=False,
            )
    return None


def _numbers(
    sparse: Played, rich: Sequence[Played], rivals: Rivals, seed: int
) -> dict[str, object]:
    findings = [
        {
            "kind": one.fault.kind,
            "cost": one.cost,
            "delay_seconds": one.delay_seconds,
            "cause": one.cause,
        }
        for played in (sparse, *rich)
        for one in found(played, played.history)
    ]
    false: dict[str, object] = {
        name: len(false_episodes(sparse, sparse.history, level)) for name, level in LEVELS.items()
    }
    return {
        "seed": seed,
        "card_days": sparse.card_days,
        "false": false,
        "judged": sparse.history.judged._asdict(),
        "findings": findings,
        "judges": list(rivals.said),
    }
