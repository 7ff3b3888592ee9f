"""Occurrences: events of one code on one card that are one trouble, and what their rules say.

Events of a code that follow one another closely are told by one fault; what counts is how often
that came. Of each card a few occurrences are remembered, each with what it means and until when.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.detector import (
    ACTIONS,
    CAUSES,
    DEGRADED,
    FAILING,
    OK,
    WATCH,
    Memory,
    Rule,
    Score,
    levels,
)
from farmhand_collector.capacity.frame import READ_OK, Bools, Frame, Index, code_of

NANOSECONDS = 10**9
BURST_SECONDS = 180
"""Events of one code on one card this close after one another are one occurrence (NVSentinel)."""
APART_SECONDS = 6 * 3600
"""Occurrences this far apart count as of different jobs where no job tells its name: an own
judgement, few jobs that crash on a fault are started again for longer than that."""
DAY_SECONDS = 86_400
HOLD_SECONDS = {WATCH: DAY_SECONDS, DEGRADED: DAY_SECONDS, FAILING: 7 * DAY_SECONDS}
"""How long an occurrence is held against a card at least. A day is the window in which a second one
counts (NVSentinel, Ascend/mind-cluster). A failing card is not mended by the reset that hides it:
a week of work without another one is asked, an own judgement; gpud looks back for two."""
UNLISTED = ""
"""The code under which rules for codes of no list stand."""
UNKNOWN_EVENT = (Rule(WATCH, 1, BURST_SECONDS * NANOSECONDS, 1, "driver", "look-at-node"),)
"""Where no rules are given at all, an event is worth a look: unlisted ones are to be asked about
(NVSentinel)."""

SHARED = -1
"""Level of an occurrence that other cards had too: known, but not counted against the card."""

SLOTS = 8
"""Occurrences remembered of a card. No rule of the catalogue counts to more than five."""

OCCURRENCE = np.dtype(
    [
        ("code", "i8"),
        ("job", "i4"),
        ("first_s", "u4"),
        ("last_s", "u4"),
        ("until_s", "u4"),
        ("times", "u2"),
        ("level", "i1"),
        ("cause", "i1"),
        ("action", "i1"),
    ]
)
"""An occurrence; `last_s` is 0 in a slot that is free. `level` is what it means, held until
`until_s`, `times` how many of its code it was counted with. Whole seconds keep this small."""

MEMORY = np.dtype([("until_s", "u4"), ("slots", OCCURRENCE, SLOTS)])
"""Occurrences of a card, and until when any of them is held against it."""

_LATEST_NS = 4 * 10**9 * NANOSECONDS
"""Of the year 2096: seconds up to here, and what is held from then on, fit the memory."""

Rules = Mapping[str, Sequence[Rule]]
Slots = NDArray[np.void]


class Told(NamedTuple):
    """One event: which card, which code, when."""

    card: int
    code: str
    time_ns: int


class Burst(NamedTuple):
    """Events of one code on one card, each close after the one before, in seconds."""

    card: int
    code: str
    first_s: int
    last_s: int


def bursts(events: Iterable[Told]) -> list[Burst]:
    """Events gathered to bursts, the oldest first."""
    times: dict[tuple[int, str], list[int]] = defaultdict(list)
    for card, code, time_ns in events:
        if 0 < time_ns < _LATEST_NS:
            times[card, code].append(time_ns // NANOSECONDS)
    found = [
        Burst(card, code, run[0], run[-1])
        for (card, code), seconds in times.items()
        for run in _runs(sorted(seconds))
    ]
    return sorted(found, key=lambda burst: (burst.first_s, burst.card, burst.code))


def _runs(seconds: Sequence[int]) -> list[list[int]]:
    runs = [[seconds[0]]]
    for time_s in seconds[1:]:
        if time_s - runs[-1][-1] <= BURST_SECONDS:
            runs[-1].append(time_s)
        else:
            runs.append([time_s])
    return runs


def noted(memory: Memory, told: Sequence[Burst], frame: Frame, rules: Rules) -> Memory:
    """The memory with the bursts of a frame in it; the one that is given stays as it is."""
    if not told:
        return memory
    memory = memory.copy()
    shared = _of_several_cards(told, frame)
    for burst in told:
        those = rules_of(burst.code, rules)
        if not those:
            continue
        of_application = any(rule.jobs > 1 for rule in those)
        # An application that crashes on several cards blames none of them.
        is_shared = of_application and (burst in shared or _is_seen_around(memory, burst, frame))
        slots = memory["slots"][burst.card]
        _note(slots, burst, int(frame.work.job[burst.card]) & 0x7FFFFFFF, those, is_shared)
        memory["until_s"][burst.card] = slots["until_s"].max()
    return memory


def rules_of(code: str, rules: Rules) -> Sequence[Rule]:
    """Rules for a code: its own, those of its family, or those for codes of no list.

    A family is written with an `x` for each of the last digits that do not matter.
    """
    for known in range(len(code), 0, -1):
        found = rules.get(code[:known] + "x" * (len(code) - known))
        if found is not None:
            return found
    return rules.get(UNLISTED, () if rules else UNKNOWN_EVENT)


def _of_several_cards(told: Sequence[Burst], frame: Frame) -> set[Burst]:
    """Bursts that came together with the same code on another card of the node or of the job.

    NVSentinel takes one code on different cards as no card's fault.
    """
    together: dict[tuple[str, str, int], list[Burst]] = defaultdict(list)
    for burst in told:
        together["node", burst.code, int(frame.roster.nodes[burst.card])].append(burst)
        job = int(frame.work.job[burst.card])
        if job:
            together["job", burst.code, job].append(burst)
    shared: set[Burst] = set()
    for those in together.values():
        for cluster in _clusters(those):
            if len({burst.card for burst in cluster}) > 1:
                shared.update(cluster)
    return shared


def _is_seen_around(memory: Memory, burst: Burst, frame: Frame) -> bool:
    """Whether other cards of the node had the same code within a day: two, or the only other."""
    nodes = frame.roster.nodes
    others = np.flatnonzero(nodes == nodes[burst.card])
    others = others[others != burst.card]
    slots = memory["slots"][others]
    lately = np.abs(slots["last_s"].astype(np.int64) - burst.last_s) <= DAY_SECONDS
    seen = (lately & (slots["code"] == number_of(burst.code))).any(axis=1).sum()
    return bool(seen and seen >= min(2, len(others)))


def _clusters(told: Sequence[Burst]) -> list[list[Burst]]:
    """Bursts, the oldest first, that overlap or follow one another closely."""
    clusters: list[list[Burst]] = []
    until_s = -BURST_SECONDS
    for burst in told:
        if not clusters or burst.first_s - until_s > BURST_SECONDS:
            clusters.append([])
            until_s = burst.last_s
        clusters[-1].append(burst)
        until_s = max(until_s, burst.last_s)
    return clusters


# --- one card's slots ----------------------------------------------------------------------------


def number_of(code: str) -> int:
    """A number for a code: itself where it is one, decimal or as eight digits and more of hex."""
    hexadecimal = len(code) >= 8
    try:
        number = int(code, 16 if hexadecimal else 10)
    except ValueError:
        return code_of(code)
    return number if 0 <= number < 2**48 else code_of(code)


def _note(slots: Slots, burst: Burst, job: int, rules: Sequence[Rule], is_shared: bool) -> None:
    """Enter a burst: it goes on with an occurrence, or is a new one."""
    code = number_of(burst.code)
    mine = np.flatnonzero((slots["code"] == code) & (slots["last_s"] > 0)).tolist()
    for at in mine:
        begins, ends = int(slots["first_s"][at]), int(slots["last_s"][at])
        if burst.first_s - ends <= BURST_SECONDS and begins - burst.last_s <= BURST_SECONDS:
            slots["first_s"][at] = min(begins, burst.first_s)
            slots["last_s"][at] = max(ends, burst.last_s)
            break
    else:
        within_s = max(rule.within_ns for rule in rules) // NANOSECONDS
        most = 2 + max(rule.times for rule in rules)
        newest_s = max([burst.last_s, *(int(slots["last_s"][other]) for other in mine)])
        at = _room(slots, mine, most, newest_s - within_s)
        slots[at] = (code, job, burst.first_s, burst.last_s, 0, 0, OK, -1, -1)
        mine = sorted({*mine, at})
    if is_shared:
        slots["level"][at] = slots["level"][at] or SHARED
        return
    own = [other for other in mine if slots["code"][other] == code]
    own = [other for other in own if slots["level"][other] != SHARED]
    for other in own:
        _judge(slots, other, own, rules)


def _room(slots: Slots, mine: Sequence[int], most: int, since_s: int) -> int:
    """Where a new occurrence goes, of whose code at most so many are kept.

    The newest stays, and the oldest since `since_s`, so that occurrences hours apart are seen to
    be; those before count no more.
    """
    free = np.flatnonzero(slots["last_s"] == 0)
    if len(free) and len(mine) < most:
        return int(free[0])
    lesser = range(SLOTS) if len(mine) < most else mine
    by_time = sorted(mine, key=lambda at: int(slots["last_s"][at]))
    counting = [at for at in by_time if int(slots["last_s"][at]) >= since_s]
    if len(mine) >= most and len(counting) < len(mine):
        return by_time[0]
    kept = {*counting[:1], *by_time[-1:]}
    return min(
        (at for at in lesser if at not in kept),
        key=lambda at: (int(slots["level"][at]), int(slots["last_s"][at])),
    )


def _judge(slots: Slots, at: int, same: Sequence[int], rules: Sequence[Rule]) -> None:
    """What an occurrence means with those before it; it never comes to mean less."""
    last_s = int(slots["last_s"][at])
    for rule in rules:
        within_s = rule.within_ns // NANOSECONDS
        window = [
            other for other in same if last_s - within_s <= int(slots["last_s"][other]) <= last_s
        ]
        if len(window) < rule.times or _different(slots, window) < rule.jobs:
            continue
        held_s = max(HOLD_SECONDS[rule.level], within_s if rule.times > 1 else 0)
        if rule.level >= slots["level"][at]:
            slots["level"][at] = rule.level
            slots["until_s"][at] = max(int(slots["until_s"][at]), last_s + held_s)
            slots["times"][at] = len(window)
            slots["cause"][at] = CAUSES.index(rule.cause)
            slots["action"][at] = ACTIONS.index(rule.action)


def _different(slots: Slots, window: Sequence[int]) -> int:
    """How many occurrences came during jobs that differ."""
    counted: list[int] = []
    for at in sorted(window, key=lambda other: -int(slots["last_s"][other])):
        if all(_differ(slots[at], slots[other]) for other in counted):
            counted.append(at)
    return len(counted)


def _differ(one: np.void, other: np.void) -> bool:
    if one["job"] and other["job"]:
        return bool(one["job"] != other["job"])
    return abs(int(one["last_s"]) - int(other["last_s"])) >= APART_SECONDS


# --- all cards -----------------------------------------------------------------------------------


def held(
    memory: Memory, frame: Frame, heeded: Callable[[Index, Slots], Bools] | None = None
) -> Score:
    """What the worst occurrence that is held against each card means.

    Args:
        memory: as `noted` gives it.
        frame: its begin is the time.
        heeded: says of some cards, given with their slots, which occurrences count now; by default
            all do.
    """
    n, now_s = len(frame), frame.start_ns // NANOSECONDS
    level, code, times = np.zeros(n, np.int8), np.full(n, np.nan), np.full(n, np.nan)
    cause, action = np.full(n, -1, np.int8), np.full(n, -1, np.int8)
    cards = np.flatnonzero(memory["until_s"] > now_s)
    if len(cards):
        slots = memory["slots"][cards]
        counts = (slots["until_s"] > now_s) & (slots["level"] > OK)
        if heeded is not None:
            counts &= heeded(cards, slots)
        order = np.where(counts, slots["level"].astype(np.int64) << 32 | slots["last_s"], -1)
        at = order.argmax(axis=1)
        cards, worst = cards[counts.any(axis=1)], slots[np.arange(len(at)), at]
        worst = worst[counts.any(axis=1)]
        level[cards], code[cards], times[cards] = worst["level"], worst["code"], worst["times"]
        cause[cards], action[cards] = worst["cause"], worst["action"]
    level = levels((frame.read == READ_OK) | (level > OK), *((at, level == at) for at in _LEVELS))
    return Score(level, {"code": code, "times": times}, cause=cause, action=action)


_LEVELS = (WATCH, DEGRADED, FAILING)
