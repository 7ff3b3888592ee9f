"""A mining card has lost its unlock: it starts up throttled again, to a tenth and less.

Such cards compute only while a patched driver or a boot program has set their speed registers;
a boot, a new kernel or a new driver takes that away (owners' reports). The clock does not show
it, so the card looks well and does next to nothing.
"""

import numpy as np

from farmhand_collector.capacity.boards import mining_cards
from farmhand_collector.capacity.detector import (
    DEGRADED,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
    nothing_judged,
)
from farmhand_collector.capacity.frame import Bools, Floats, Frame
from farmhand_collector.capacity.statistics import grouped

LEAST_FALL, MOST_FALL = 8.0, 40.0
"""Locks slow single precision by 15 to 32 times (rework 1 and 2); work that is not all of that kind
falls by less, and what falls by more has stopped."""
RECOVERED_RATIO = 0.25
"""From this share of the rate before on, the card is not locked."""
NORMAL_CLOCK_RATIO = 0.8
"""A clock that fell, too, is another fault."""
LOCKED_POWER_RATIO = 0.85
"""A locked chip draws about half of what it should; cards of one gang differ by a few percent."""
LEARNING = 0.1
"""Weight of the newest value in the rate that is remembered."""

TRACK = [("before", "f8"), ("restarted", "?"), ("share", "f8")]
MEMORY = np.dtype(
    [("driver", "f8"), ("job", "i8"), ("clock", "f8"), ("work", TRACK), ("probe", TRACK)]
)
"""`before` is what the card gave when it was well, `restarted` whether it has started since, and
`share` what it gives of it now that it is locked, else 0. `work` is the rate of one job, `probe`
the single precision that a probe measured."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """A fall by the factor of a lock after a start, by the same job or by a probe."""
    is_mining = mining_cards(frame.roster) | (facts.of_cards("locked", len(frame)) == 1)
    if not is_mining.any():
        return nothing_judged(len(frame)), memory
    memory = memory.copy()
    started = is_mining & (frame.booted | _driver_changed(frame, memory))
    clock = frame.loaded["core_clock_mhz"]
    same_clock = ~(clock < NORMAL_CLOCK_RATIO * memory["clock"])
    told = np.zeros(len(frame), bool)
    for name, now in (("work", _rate(frame, memory, is_mining)), ("probe", _probed(frame))):
        now = np.where(is_mining & (now > 0), now, np.nan)
        told |= (memory[name]["before"] > 0) & ~np.isnan(now)
        _follow(memory[name], now, started, same_clock)
    waits = _waits(frame, memory["work"]["share"] > 0)
    share = np.fmax(np.where(waits, 0.0, memory["work"]["share"]), memory["probe"]["share"])
    share = np.where(share > 0, share, np.nan)
    well = ~np.isnan(clock) & np.isnan(share) & ~memory["work"]["restarted"]
    memory["clock"] = np.where(well, clock, memory["clock"])
    # A probe is rare and holds until the next; a job tells of itself all the time.
    judged = frame.present & (told | (memory["probe"]["share"] > 0))
    level = levels(judged, (DEGRADED, share > 0))
    return Score(level, {"share": share, "fall": 1 / share}, share), memory


def _waits(frame: Frame, fell: Bools) -> Bools:
    """(n,) whose work fell because their gang waits for a card that is locked.

    A locked chip draws much less; where none of a gang draws as much as before, all are locked.
    """
    gang, power = frame.work.gang, np.nan_to_num(frame.loaded["power_watts"])
    members = np.flatnonzero(fell & (gang > 0))
    groups = grouped(gang[members], frame.roster.kinds[members])
    highest, locked = np.zeros(len(members)), np.zeros(len(members), bool)
    np.maximum.at(highest, groups, power[members])
    draws_less = power[members] < LOCKED_POWER_RATIO * highest[groups]
    np.logical_or.at(locked, groups, draws_less)
    waits = np.zeros(len(frame), bool)
    waits[members] = locked[groups] & ~draws_less
    return waits


def _probed(frame: Frame) -> Floats:
    return frame.probe["fp32_flops"]


def _rate(frame: Frame, memory: Memory, is_mining: Bools) -> Floats:
    """(n,) rate of the job that is followed; another job is followed from now on.

    Except for a card whose lock is known from the job before; `memory` is changed in place.
    """
    job, track = frame.work.job, memory["work"]
    told = is_mining & (job > 0) & (frame.work.rate > 0)
    other = told & (job != memory["job"]) & (track["share"] == 0)
    memory["job"] = np.where(other, job, memory["job"])
    for name, _ in TRACK:
        track[name][other] = 0
    return np.where(told & (memory["job"] == job), frame.work.rate, np.nan)


def _driver_changed(frame: Frame, memory: Memory) -> Bools:
    driver = np.nan_to_num(frame.facts["driver"])
    changed: Bools = (driver > 0) & (memory["driver"] > 0) & (driver != memory["driver"])
    memory["driver"] = np.where(driver > 0, driver, memory["driver"])
    return changed


def _follow(track: Memory, now: Floats, started: Bools, same_clock: Bools) -> None:
    """Compare a value with the one before the last start; `track` is changed in place."""
    # What a frame with a start tells may be of before it.
    restarted = track["restarted"] & ~started
    track["restarted"] |= started
    track["share"][started] = 0
    ratio = now / np.where(track["before"] > 0, track["before"], np.nan)
    fell = restarted & same_clock & (ratio <= 1 / LEAST_FALL) & (ratio >= 1 / MOST_FALL)
    track["share"][fell] = ratio[fell]
    is_well = ratio > RECOVERED_RATIO
    track["share"][is_well] = 0
    track["restarted"][is_well & restarted] = False
    mean = track["before"] + LEARNING * (now - track["before"])
    track["before"] = np.where(is_well, mean, track["before"])
    first = (track["before"] == 0) & ~np.isnan(now)
    track["before"][first] = now[first]


DETECTOR = Detector(
    name="unlock_lost",
    cause="driver",
    component="compute",
    # The unlock is a driver or a boot program of the node; the board needs no new VBIOS.
    action="look-at-node",
    precedence=4,
    # Five minutes of live frames: a job that loads its data after a start is slow, too.
    raise_after=10,
    clear_after=4,
    memory=MEMORY,
    score=score,
    shared_by=frozenset({"node"}),
)
