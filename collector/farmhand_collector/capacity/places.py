"""Places: what a card's slot and rack do to its temperature, taken out before it is judged.

The second and fourth card of a chassis sit 7 °C above the first and third, and one cabinet of a
hall 6 °C above the others (Longhorn): that is where a card stands, not how it is.
"""

import numpy as np

from farmhand_collector.capacity.frame import Bools, Floats, Frame
from farmhand_collector.capacity.peers import same_kind
from farmhand_collector.capacity.roster import Roster
from farmhand_collector.capacity.statistics import (
    LEAST_PEERS,
    Groups,
    group_medians,
    grouped,
    others_median,
)


def same_boards(frame: Frame, kinds: Groups | None = None) -> Groups:
    """(n,) cards of one kind, and of one maker of the board, form one group.

    Makers put different coolers on one chip. A maker that a reworked board only claims to have
    splits groups and never joins them, except for boards that have no name of their own.
    """
    makers = np.nan_to_num(frame.facts["subsystem_id"])
    return grouped(same_kind(frame) if kinds is None else kinds, makers)


def beyond_equals(values: Floats, equals: Groups, roster: Roster) -> Floats:
    """(n,) how far each value lies above the others of its group, without what its place does.

    The median deviation of the others in slots of the same name of the same rack is taken off.
    Where these are too few, that of slots of the same name is, then that of the rack (of the site,
    where no rack is told), each where there are enough. The card itself is always left out, so
    that it cannot hide behind its own weight.
    """
    deviation = values - others_median(values, equals)
    racks = _racks(roster)
    beside = deviation - others_median(deviation, joined(roster.slots, racks))
    apart = np.isnan(beside) & ~np.isnan(deviation)
    if not apart.any():
        return beside
    for places in (roster.slots, racks):
        deviation = deviation - np.nan_to_num(others_median(deviation, places))
    return np.where(apart, deviation, beside)


def joined(one: Groups, other: Groups) -> Groups:
    """(n,) a number for each combination of two codes, neither of them negative."""
    return one * (int(other.max(initial=0)) + 1) + other


def _racks(roster: Roster) -> Groups:
    racks = roster.racks
    return np.where(racks >= 0, racks, racks.max(initial=0) + 1 + roster.sites)


def shared_median(values: Floats, groups: Groups) -> Floats:
    """(n,) median of each card's group; NaN where fewer cards gave a value than make a median.

    Unlike `others_median` it is told to the cards that gave no value, too.
    """
    medians, sizes = group_medians(values, groups, int(groups.max(initial=-1)) + 1)
    return np.where(sizes > LEAST_PEERS, medians, np.nan)[groups]


def others_least(values: Floats, groups: Groups) -> Floats:
    """(n,) the smallest value among the others of each card's group; NaN where there are none."""
    known = np.flatnonzero(~np.isnan(values))
    result = np.full(len(values), np.nan)
    if not len(known):
        return result
    order = known[np.argsort(groups[known], kind="stable")]
    begins = np.diff(groups[order], prepend=-1) != 0
    starts, group = np.flatnonzero(begins), np.cumsum(begins) - 1
    given = values[order]
    is_least = given == np.minimum.reduceat(given, starts)[group]
    next_least = np.minimum.reduceat(np.where(is_least, np.inf, given), starts)[group]
    is_only = is_least & (np.add.reduceat(is_least, starts, dtype=np.intp)[group] == 1)
    least = np.where(is_only, next_least, np.minimum.reduceat(given, starts)[group])
    result[order] = np.where(np.isinf(least), np.nan, least)
    return result


def has_any(which: Bools, groups: Groups) -> Bools:
    """(n,) whether any card of a card's group is one of those."""
    found: Bools = np.bincount(groups, weights=which, minlength=1)[groups] > 0
    return found
