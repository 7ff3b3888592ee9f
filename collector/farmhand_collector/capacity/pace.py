"""How fast a card should get on with its job: as fast as others do, less what is by choice.

A keeper lowers limits and caps clocks; a gang in lock step goes at the pace of the card that has
least; and who asks less of a card gets less.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from farmhand_collector.capacity.caps import CAPPED_SPREAD, is_at
from farmhand_collector.capacity.detector import span_of
from farmhand_collector.capacity.frame import Bools, Floats, Frame
from farmhand_collector.capacity.peers import limit_factor, same_kind
from farmhand_collector.capacity.statistics import (
    LEAST_PEERS,
    Groups,
    group_medians,
    grouped,
    others_median,
)

LOCK_STEP_SPREAD = 0.02
"""Cards that wait for each other tell rates this equal; ranks that time themselves do not."""


LEAST_OF_LOTTERY = 0.88
"""Chips at their power limit spread by 8 % on average (Sinha et al., SC'22); a clock that is lower
by more than half as much again is told of its card."""


class Gangs(NamedTuple):
    """(n,) gang of each card, whether it goes in step with the others of its kind, their rate.

    Wide is a gang in step over several nodes: none of them is slower than the others.
    """

    gang: Groups
    is_in_one: Bools
    is_wide: Bools
    in_step: Bools
    rate: Floats

    def least(self, values: Floats) -> Floats:
        """(n,) the lowest value of all of a card's gang that go in step; its own elsewhere."""
        lowest = np.full(int(self.gang.max(initial=-1)) + 1, np.nan)
        np.fmin.at(lowest, self.gang[self.in_step], values[self.in_step])
        return np.where(self.in_step, lowest[self.gang], values)

    def is_mixed(self, equals: Groups) -> Bools:
        """(n,) whether the cards of a gang are not all equal: some may wait for others."""
        several: Bools = _parts(grouped(self.gang, equals), self.gang) > 1
        return self.is_in_one & several


@lru_cache(maxsize=1)
def gangs(frame: Frame) -> Gangs:
    """Who goes in step with whom, by the last rates told."""
    latest = span_of(frame).latest
    code = np.nan_to_num(latest["gang"])
    gang, of_kind = grouped(code), grouped(code, same_kind(frame))
    rate = np.where(latest["rate"] > 0, latest["rate"], np.nan)
    pace, _ = group_medians(rate, of_kind, int(of_kind.max(initial=-1)) + 1)
    in_step = (code > 0) & (np.abs(rate / pace[of_kind] - 1) <= LOCK_STEP_SPREAD)
    is_wide = in_step & (_parts(grouped(gang, frame.roster.nodes), gang) > 1)
    return Gangs(gang, code > 0, is_wide, in_step, pace[of_kind])


def _parts(parts: Groups, gang: Groups) -> Groups:
    """(n,) into how many parts the gang of each card falls."""
    _, first = np.unique(parts, return_index=True)
    return np.bincount(gang[first], minlength=len(gang))[gang]


class Choice(NamedTuple):
    """(n,) how fast choices let work get on, up to a constant for equal cards.

    Capped are cards whose clock is, and those whose gang waits for such a card.
    """

    factor: Floats
    is_capped: Bools


def by_choice(frame: Frame, cohort: Groups) -> Choice:
    """Power limits and clock caps that were in force when a rate was last told.

    And the lottery of chips: a gang in lock step is as slow as the slowest of many healthy ones.
    """
    latest = span_of(frame).latest
    clock = latest["rate_core_clock_mhz"]
    capped = is_at(clock, latest["capped_mhz"])
    # Where nothing holds the others either, all of them run at the highest clock there is.
    free = _reference(np.where(capped, np.nan, clock), cohort)
    highest = np.fmax(free, _highest(np.where(capped, clock, np.nan), cohort))
    lowered = capped & (clock < (1 - CAPPED_SPREAD) * highest)
    by_cap, step = np.where(lowered, clock / highest, 1.0), gangs(frame)
    lottery = np.clip(clock / free, LEAST_OF_LOTTERY, 1.0)
    lottery = np.where(step.in_step & ~np.isnan(lottery), lottery, 1.0)
    share = step.least(np.fmin(by_cap, lottery))
    factor = limit_factor(latest["rate_power_limit_watts"]) * share
    return Choice(factor, step.least(by_cap) < 1.0)


def usual(even: Floats, busy: Floats, is_capped: Bools, cohort: Groups) -> Floats:
    """(n,) what the others let expect.

    Who is asked for less does less: the lower of what they do, and of what they do in as much busy
    time, is expected. A slow card is as busy as the others, or busier.

    Args:
        even: (n,) rates or traffic, the keeper's choices taken out; NaN where none is known.
        busy: (n,) utilisation at that time, 0 to 1, NaN where none is told.
        is_capped: (n,) who is no measure for others: memory-bound work loses less than a cap takes.
        cohort: (n,) equal cards at one job, negative for none.
    """
    free = np.where(is_capped, np.nan, even)
    return np.fmin(_beside(even, free, cohort), busy * _beside(even / busy, free / busy, cohort))


def _beside(values: Floats, free: Floats, cohort: Groups) -> Floats:
    """(n,) median of the others that are free; beside capped cards alone, those of one cap."""
    capped, among_free = np.isnan(free), _reference(free, cohort)
    of_capped = np.where(np.isnan(among_free), others_median(values, cohort), among_free)
    return np.where(capped, of_capped, others_median(free, cohort))


def _highest(values: Floats, cohort: Groups) -> Floats:
    """(n,) highest value given in each card's cohort."""
    highest = np.full(int(cohort.max(initial=-1)) + 1, np.nan)
    members = cohort >= 0
    np.fmax.at(highest, cohort[members], values[members])
    of_cohort = np.full(len(values), np.nan)
    of_cohort[members] = highest[cohort[members]]
    return of_cohort


def _reference(values: Floats, cohort: Groups) -> Floats:
    """(n,) median of the values given in each card's cohort."""
    groups = np.where(cohort >= 0, cohort, cohort.max(initial=0) + 1)
    medians, counts = group_medians(values, groups, int(groups.max(initial=0)) + 1)
    medians[counts < LEAST_PEERS] = np.nan
    return np.where(cohort >= 0, medians[groups], np.nan)
