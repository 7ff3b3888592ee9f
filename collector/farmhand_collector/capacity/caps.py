"""Clocks that a keeper capped: the same on every card of a node or kind.

What ails a node ails each of its cards in its own measure; a cap is one number.
"""

from collections.abc import Mapping

import numpy as np

from farmhand_collector.capacity.frame import Bools, Floats, Frame
from farmhand_collector.capacity.peers import at_power_limit
from farmhand_collector.capacity.statistics import Groups, grouped

CAPPED_SPREAD, LEAST_CAPPED = 0.01, 2
LIMITED_SPREAD = 0.001
"""Power limits let each chip run at a clock of its own: a cap shows where they are the same."""


def caps_mhz(
    frame: Frame, means: Mapping[str, Floats], latest: Mapping[str, Floats], before: Floats
) -> Floats:
    """(n,) the clock that all working cards of a node, or those of a kind, share; 0 for none.

    Where fewer than two work, what was known before is kept, or what they last ran at counts.

    Args:
        frame: of the span's end.
        means: of the span, while loaded.
        latest: likewise, of the last span in which each card worked.
        before: (n,) caps as they were, NaN where unknown.
    """
    nodes = grouped(frame.roster.nodes)
    kinds = grouped(frame.roster.kinds, nodes)
    now, last = (np.fmax(_shared(kinds, told), _shared(nodes, told)) for told in (means, latest))
    known = np.where(before > 0, before, last)
    return np.where(np.isnan(now), known, now)


def _shared(groups: Groups, means: Mapping[str, Floats]) -> Floats:
    """(n,) the clock that all working cards of a group share, 0 for none; NaN where few work."""
    clock = means["core_clock_mhz"]
    works = ~np.isnan(clock)
    n = int(groups.max(initial=-1)) + 1
    lowest, highest = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(lowest, groups[works], clock[works])
    np.maximum.at(highest, groups[works], clock[works])
    several = np.bincount(groups, weights=works, minlength=n) >= LEAST_CAPPED
    limited = np.bincount(groups, weights=works & at_power_limit(means), minlength=n) > 0
    equal = highest <= lowest * (1 + np.where(limited, LIMITED_SPREAD, CAPPED_SPREAD))
    return np.where(several, np.where(equal, highest, 0.0), np.nan)[groups]


def is_at(clock_mhz: Floats, caps: Floats) -> Bools:
    """(n,) whether a clock is the one to which its card is capped."""
    capped: Bools = (caps > 0) & (np.abs(clock_mhz - caps) <= CAPPED_SPREAD * caps)
    return capped
