"""A joint that opens as the board warms or cools: errors come in episodes, and those on the ramps.

Cracked balls under a reworked chip show while the board bends with its temperature. What follows
the load or nothing at all is no joint's: errors must begin on the ramps far more often than the
share of time that ramps take would give by chance.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.detector import (
    CAUSES,
    DEGRADED,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    grown,
    levels,
    nothing_judged,
)
from farmhand_collector.capacity.detectors.link_errors import allowed_replays, most_by_chance
from farmhand_collector.capacity.frame import (
    READ_OK,
    READ_UNREADABLE,
    Bools,
    Floats,
    Frame,
    Index,
)

RAMP_CELSIUS = 10.0
"""A die that has changed by this much lately is on a ramp. Healthy dies wander by a few degrees at
steady work; a start or a stop of work is 20 and more."""
BUCKET_NS = 450 * 10**9
"""Lately is within two of these, the one in progress and the one before: at most 15 minutes, in
which heatsink and board settle (thermal constants of minutes, Rodinia captures)."""
EPISODE_NS = 900 * 10**9
"""Errors within this of the first are one episode; what goes on longer begins another, so that
errors that last through hours of steady work show as episodes off the ramps."""
SETTLING_NS = 300 * 10**9
"""After a boot the link trains and the driver loads."""
TALLY_NS = 7 * 86_400 * 10**9
"""Episodes are counted over one to two of these; gpud looks back for two weeks."""
HOURS_NS = 2 * 3600 * 10**9
"""Over less time than this, episodes may be one disturbance: own judgement."""
WATCH_EPISODES, DEGRADED_EPISODES = 3, 6
WATCH_CHANCE, DEGRADED_CHANCE = 1e-3, 1e-6
"""How likely the episodes may come on ramps by chance. Few cards have episodes at all, but those
are asked again with each one."""
LEAST_SHARE = 0.5
"""Most episodes must come on ramps, however many there are."""
LEAST_RAMP_SHARE = 0.02
"""A share of time on ramps below this is not known better, over some hours."""
LEAST_REPLAYS, LEAST_CORRECTED = 10.0, 10.0
"""Packets sent again, or memory errors corrected, within one frame that make a burst: healthy cards
show less in a day. More is asked of replays where the link's standard allows more."""
SAME_WIDTH_RATIO = 0.99

LINK_XIDS = frozenset({"32", "62", "74", "79", "80", "167"})
"""XIDs that a bad PCIe joint or supply joint brings (NVIDIA's catalogue, ethminer and others)."""
MEMORY_XIDS = frozenset({"48", "57", "58", "63", "94", "95", "140"})

TALLY = np.dtype(
    [
        ("watched_s", "f4"),
        ("ramp_s", "f4"),
        ("episodes", "u2"),
        ("on_ramps", "u2"),
        ("firm", "u2"),
        ("of_memory", "u2"),
    ]
)
"""Time watched, of it on ramps; episodes, of them those that began on ramps, and of these those
with more to show than a card that did not answer, and those of memory alone."""

_COUNTERS = (
    "pcie_replay_total",
    "pcie_recovery_total",
    "ecc_corrected_total",
    "ecc_uncorrected_total",
)

MEMORY = np.dtype(
    [(name, "f8") for name in _COUNTERS]
    + [
        ("bucket", "i8"),
        ("lowest", "f4", 2),
        ("highest", "f4", 2),
        ("loaded", "f4"),
        ("generation", "f4"),
        ("widest", "f4"),
        ("fastest", "f4"),
        ("booted_ns", "i8"),
        ("episode_ns", "i8"),
        ("first_ramp_ns", "i8"),
        ("last_ramp_ns", "i8"),
        ("tally_number", "i8"),
        ("tallies", TALLY, 2),
    ]
)
"""Of each counter the last value plus one; extremes of the die's temperature in the bucket in
progress and the one before; load and generation of the frame before, plus one; the widest and the
fastest link seen under load; tallies of the week in progress and of the one before."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Exact binomial test of episodes on ramps against the share of time that ramps take."""
    del facts
    if frame.end_ns - frame.start_ns > 2 * BUCKET_NS:
        return nothing_judged(len(frame)), memory
    memory = memory.copy()
    ramp = _on_ramp(frame, memory)
    signs = _signs(frame, memory)
    _tally(frame, memory, ramp, signs)
    tested = _tested(memory)
    sums = {name: _summed(memory, name, tested) for name in TALLY.names or ()}
    episodes, on_ramps = sums["episodes"], sums["on_ramps"]
    share = np.fmax(sums["ramp_s"] / sums["watched_s"], LEAST_RAMP_SHARE)
    chance = upper_tail(on_ramps, episodes, share)
    shows = (on_ramps >= LEAST_SHARE * episodes) & (sums["firm"] >= 2)
    watch = shows & (chance <= WATCH_CHANCE)
    degraded = shows & (on_ramps >= DEGRADED_EPISODES) & (chance <= DEGRADED_CHANCE)
    n = len(frame)
    level = levels(
        _judged(frame, memory),
        (WATCH, _spread(watch, tested, n) == 1),
        (DEGRADED, _spread(degraded, tested, n) == 1),
    )
    evidence = {"episodes": episodes, "on_ramps": on_ramps, "ramp_share": share}
    spread = {name: _spread(values, tested, n) for name, values in evidence.items()}
    of_memory = _spread(sums["of_memory"] > on_ramps / 2, tested, n) == 1
    cause = np.where(of_memory, CAUSES.index("memory"), -1).astype(np.int8)
    return Score(level, spread, p_value=_spread(chance, tested, n), cause=cause), memory


def _tested(memory: Memory) -> Index:
    """Cards with enough episodes on ramps, over enough time, to be worth a test."""
    on_ramps = memory["tallies"]["on_ramps"]
    cards = np.flatnonzero(on_ramps[:, 0] + on_ramps[:, 1] >= WATCH_EPISODES)
    lasted_ns = memory["last_ramp_ns"][cards] - memory["first_ramp_ns"][cards]
    tested: Index = cards[lasted_ns >= HOURS_NS]
    return tested


def _summed(memory: Memory, name: str, cards: Index) -> Floats:
    """(cards,) this week's and last week's tally together."""
    summed: Floats = memory["tallies"][name][cards].sum(axis=1).astype(float)
    return summed


def _spread(values: NDArray[Any], cards: Index, n: int) -> Floats:
    """(n,) values of some cards, NaN for the others."""
    column = np.full(n, np.nan)
    column[cards] = values
    return column


def _judged(frame: Frame, memory: Memory) -> Bools:
    """(n,) whether the die's temperature is known."""
    known: Bools = frame.present & (memory["highest"][:, 0] > 0)
    return known


# --- ramps ---------------------------------------------------------------------------------------


def _on_ramp(frame: Frame, memory: Memory) -> Bools:
    """(n,) whether the die warmed or cooled lately; `memory` is changed in place."""
    bucket = frame.start_ns // BUCKET_NS
    _turn_over(memory, bucket)
    # Kelvin, so that nought is free to mean that nothing was told.
    kelvin = frame.values["core_temperature_celsius"] + 273.15
    lowest, highest = memory["lowest"], memory["highest"]
    low, high = lowest[:, 0], highest[:, 0]
    lowest[:, 0] = np.fmin(np.where(low > 0, low, np.nan), kelvin)
    highest[:, 0] = np.fmax(high, kelvin)
    bottom = np.fmin(lowest[:, 0], np.where(lowest[:, 1] > 0, lowest[:, 1], np.nan))
    on_ramp: Bools = np.fmax(highest[:, 0], highest[:, 1]) - bottom >= RAMP_CELSIUS
    return on_ramp


def _turn_over(memory: Memory, bucket: int) -> None:
    """Begin a new bucket where it is time; `memory` is changed in place."""
    passed = bucket - memory["bucket"]
    if not passed.any():
        return
    for name in ("lowest", "highest"):
        before = memory[name]
        before[:, 1] = np.where(passed == 1, before[:, 0], np.where(passed > 1, 0, before[:, 1]))
        before[passed > 0, 0] = 0
    memory["bucket"] = bucket


# --- signs of a joint that opened ----------------------------------------------------------------


class Signs:
    """(n,) what a frame shows of an open joint: of the link, of memory, or no answer at all."""

    def __init__(self, link: Bools, memory: Bools, silence: Bools) -> None:
        self.link, self.memory, self.silence = link, memory, silence

    @property
    def any(self) -> Bools:
        """(n,) whether there is any sign."""
        return self.link | self.memory | self.silence

    @property
    def firm(self) -> Bools:
        """(n,) whether there is more than silence, which a driver may be to blame for."""
        return self.link | self.memory


def _signs(frame: Frame, memory: Memory) -> Signs:
    """What is seen while neither a boot nor, where that could be, a change of load explains it."""
    settled = _settled(frame, memory)
    steady = _steady(frame, memory)
    growth = {name: _growth(frame, memory, name) for name in _COUNTERS}
    narrow, slow = _weak(frame, memory)
    trained = growth["pcie_recovery_total"] > 0
    link = settled & (_bursts(frame, memory, growth) | narrow | (steady & (trained | slow)))
    corrected = growth["ecc_corrected_total"] >= LEAST_CORRECTED
    errors = settled & steady & (corrected | (growth["ecc_uncorrected_total"] > 0))
    _told(frame, link, errors)
    return Signs(link, errors & ~link, settled & _silent(frame))


def _growth(frame: Frame, memory: Memory, name: str) -> Floats:
    """(n,) growth of a counter, 0 where none can be told; `memory` is changed in place."""
    now = frame.values[name]
    if np.isnan(now).all():
        return np.zeros(len(frame))
    growth: Floats = np.nan_to_num(grown(memory, name, now))
    return growth


def _settled(frame: Frame, memory: Memory) -> Bools:
    """(n,) whether the last boot is over; `memory` is changed in place."""
    memory["booted_ns"][frame.booted] = frame.end_ns
    settled: Bools = frame.start_ns - memory["booted_ns"] >= SETTLING_NS
    return settled


def _steady(frame: Frame, memory: Memory) -> Bools:
    """(n,) whether load and link speed are as in the frame before; `memory` is changed in place.

    Links train again when power management changes their speed, as work begins and ends.
    """
    loaded, generation = frame.loaded_share + 1, frame.values["pcie_generation"] + 1
    same_load = np.isnan(loaded) | (memory["loaded"] == loaded)
    same_speed = np.isnan(generation) | (memory["generation"] == generation)
    memory["loaded"] = np.where(np.isnan(loaded), memory["loaded"], loaded)
    memory["generation"] = np.where(np.isnan(generation), memory["generation"], generation)
    # Under full load power management leaves the link alone.
    steady: Bools = same_load & (same_speed | (frame.loaded_share == 1))
    return steady


def _bursts(frame: Frame, memory: Memory, growth: dict[str, Floats]) -> Bools:
    """(n,) whether packets were sent again in a burst."""
    replays = growth["pcie_replay_total"]
    bursts = np.zeros(len(frame), bool)
    cards = np.flatnonzero(replays >= LEAST_REPLAYS)
    width, speed = (frame.values[name][cards] for name in ("pcie_width", "pcie_generation"))
    fastest = np.fmax(memory["fastest"][cards].astype(float), speed)
    minutes = (frame.end_ns - frame.start_ns) / 60e9
    allowed = np.nan_to_num(allowed_replays(fastest, width, minutes))
    bursts[cards] = replays[cards] > most_by_chance(allowed)
    return bursts


def _weak(frame: Frame, memory: Memory) -> tuple[Bools, Bools]:
    """(n,) whether the link has fewer lanes than it had; under load, a lower generation."""
    width, generation = frame.values["pcie_width"], frame.loaded["pcie_generation"]
    narrow: Bools = width < SAME_WIDTH_RATIO * memory["widest"]
    slow: Bools = generation < SAME_WIDTH_RATIO * memory["fastest"]
    memory["widest"] = np.fmax(memory["widest"], np.nan_to_num(width))
    memory["fastest"] = np.fmax(memory["fastest"], np.nan_to_num(generation))
    return narrow, slow


def _told(frame: Frame, link: Bools, errors: Bools) -> None:
    """Add what XIDs tell."""
    for event in frame.events:
        if event.kind == "off_bus" or (event.kind == "xid" and event.code in LINK_XIDS):
            link[event.card] = True
        elif event.kind == "xid" and event.code in MEMORY_XIDS:
            errors[event.card] = True


def _silent(frame: Frame) -> Bools:
    """(n,) whether a card does not answer while most of its node does."""
    silent: Bools = frame.read == READ_UNREADABLE
    if not silent.any():
        return silent
    nodes = frame.roster.nodes
    dumb, well = (
        np.bincount(nodes[those], minlength=int(nodes.max()) + 1)
        for those in (silent, frame.read == READ_OK)
    )
    alone: Bools = silent & (dumb <= well)[nodes]
    return alone


# --- episodes ------------------------------------------------------------------------------------


def _tally(frame: Frame, memory: Memory, ramp: Bools, signs: Signs) -> None:
    """Count time and episodes of the week; `memory` is changed in place."""
    number = frame.start_ns // TALLY_NS
    tallies = memory["tallies"]
    passed = number - memory["tally_number"]
    if passed.any():
        tallies[passed == 1, 1] = tallies[passed == 1, 0]
        tallies[passed > 1, 1] = 0
        tallies[passed > 0, 0] = 0
        memory["tally_number"] = number
    seconds = np.where(_judged(frame, memory), (frame.end_ns - frame.start_ns) / 1e9, 0.0)
    tallies["watched_s"][:, 0] += seconds
    tallies["ramp_s"][:, 0] += np.where(ramp, seconds, 0.0)
    begins = np.flatnonzero(signs.any & (frame.start_ns - memory["episode_ns"] >= EPISODE_NS))
    memory["episode_ns"][begins] = frame.start_ns
    hits = begins[ramp[begins]]
    for name, cards in (
        ("episodes", begins),
        ("on_ramps", hits),
        ("firm", hits[signs.firm[hits]]),
        ("of_memory", hits[signs.memory[hits]]),
    ):
        tallies[name][cards, 0] += 1
    memory["last_ramp_ns"][hits] = frame.start_ns
    forgotten = tallies["on_ramps"][hits].sum(axis=1) == 1
    memory["first_ramp_ns"][hits[forgotten]] = frame.start_ns


def upper_tail(hits: Floats, trials: Floats, share: Floats) -> Floats:
    """(n,) probability of so many hits or more in independent trials (exact binomial tail)."""
    if not len(hits):
        return np.zeros(0)
    most = int(trials.max())
    logs: NDArray[np.float64] = np.concatenate(
        [[0.0], np.cumsum(np.log(np.arange(1, most + 1, dtype=float)))]
    )
    count = np.arange(most + 1)
    total = trials.astype(np.intp)[:, np.newaxis]
    missed = np.maximum(total - count, 0)
    chance = np.clip(share, 1e-12, 1 - 1e-12)[:, np.newaxis]
    terms = logs[total] - logs[count] - logs[missed]
    terms = terms + count * np.log(chance) + missed * np.log1p(-chance)
    counted = (count >= hits[:, np.newaxis]) & (count <= total)
    tail: Floats = np.where(counted, np.exp(terms), 0.0).sum(axis=1)
    return np.minimum(tail, 1.0)


DETECTOR = Detector(
    name="solder",
    cause="link",
    component="link",
    action="reball",
    # It explains why the link is narrow now and then.
    precedence=2,
    raise_after=1,
    # Tallies change slowly enough by themselves.
    clear_after=1,
    memory=MEMORY,
    score=score,
)
