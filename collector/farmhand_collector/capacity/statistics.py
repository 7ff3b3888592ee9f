"""Statistics that hold on small, quantised, correlated groups of cards."""

import math

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.frame import Bools, Floats

Groups = NDArray[np.int64]

LEAST_PEERS = 3
"""Fewer others than this say nothing: their median is one card's whim."""
LEAST_SIGMA = 0.015
"""Floor of the pooled spread, as a share: healthy cards of one kind never agree better than
1–1.5 %, and quantised fields would make the spread zero."""


def others_median(values: Floats, groups: Groups) -> Floats:
    """Median of the other members of each card's group, the card itself left out.

    Args:
        values: (n,) NaN where a card takes no part.
        groups: (n,) group of each card, negative for none.

    Returns:
        (n,) NaN where a card takes no part or has fewer than `LEAST_PEERS` others.
    """
    result = np.full(len(values), np.nan)
    members = np.flatnonzero(~np.isnan(values) & (groups >= 0))
    order = _by_group(members, values, groups)
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(order)))
    size = np.repeat(sizes, sizes)
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    judged = size > LEAST_PEERS
    order, size, rank = order[judged], size[judged], rank[judged]
    ranked = values[order]
    first = np.arange(len(order)) - rank
    low, high = (size - 2) // 2, (size - 1) // 2
    # Among the others, everyone from the card's own rank on moves down by one.
    result[order] = (
        ranked[first + low + (low >= rank)] + ranked[first + high + (high >= rank)]
    ) / 2
    return result


def group_medians(values: Floats, groups: Groups, count: int) -> tuple[Floats, Floats]:
    """(count,) median of the given values of each group, NaN for none, and how many they are."""
    order = np.lexsort((values, groups))  # NaN comes last of its group
    order = order[~np.isnan(values[order])]
    sizes = np.bincount(groups[order], minlength=count)
    starts = np.cumsum(sizes) - sizes
    medians = np.full(count, np.nan)
    some = sizes > 0
    low = starts[some] + (sizes[some] - 1) // 2
    high = starts[some] + sizes[some] // 2
    medians[some] = (values[order[low]] + values[order[high]]) / 2
    return medians, sizes.astype(float)


def _by_group(members: NDArray[np.intp], values: Floats, groups: Groups) -> NDArray[np.intp]:
    """Members group by group, those of a group by value; equal values in any order.

    Sorting twice, the second time by short codes, takes a quarter of the time of `lexsort`.
    """
    order = members[np.argsort(values[members])]
    codes = groups[order]
    if len(codes) and codes.max() < 1 << 16:
        codes = codes.astype(np.uint16)
    sorted_order: NDArray[np.intp] = order[np.argsort(codes, kind="stable")]
    return sorted_order


def pooled_sigma(residuals: Floats, floor: float = LEAST_SIGMA) -> float:
    """Robust spread of residuals of the whole fleet: 1.4826 × median of their absolute values.

    In groups of eight a group's own spread fires ten times as often on healthy cards and finds
    fewer bad ones; with half of a group bad it finds none.
    """
    given = residuals[np.isfinite(residuals)]
    if not len(given):
        return floor
    return max(floor, 1.4826 * float(np.median(np.abs(given))))


def lower_tail(z: Floats) -> Floats:
    """(n,) one-sided p-value of a deviation of z standard deviations downwards.

    Nobody asks how likely a card is that does not stand out: above -1 it is given as 0.5.
    """
    p_value = np.where(np.isnan(z), np.nan, 0.5)
    low = z < -1
    p_value[low] = [0.5 * math.erfc(value) for value in (-z[low] / math.sqrt(2)).tolist()]
    return p_value


def discoveries(p_values: Floats, rate: float) -> Bools:
    """(n,) which deviations stand out over all that were tested together (Benjamini–Hochberg).

    Args:
        p_values: (n,) NaN where not tested.
        rate: accepted share of false ones among those found.
    """
    tested = np.flatnonzero(~np.isnan(p_values))
    found = np.zeros(len(p_values), bool)
    if not len(tested):
        return found
    order = tested[np.argsort(p_values[tested], kind="stable")]
    limits = rate * np.arange(1, len(order) + 1) / len(order)
    passed = np.flatnonzero(p_values[order] <= limits)
    if len(passed):
        found[order[: passed[-1] + 1]] = True
    return found


def grouped(*columns: NDArray[np.generic]) -> Groups:
    """(n,) a number for each distinct combination of the columns."""
    groups = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        _, codes = np.unique(column, return_inverse=True)
        groups = groups * (int(codes.max(initial=0)) + 1) + codes
        _, groups = np.unique(groups, return_inverse=True)
    return groups


def clustered(values: Floats, groups: Groups, ratio: float) -> Groups:
    """(n,) groups split wherever two neighbouring values are further apart than a ratio."""
    order = np.lexsort((values, groups))
    ordered = values[order]
    begins = np.ones(len(values), bool)
    begins[1:] = (np.diff(groups[order]) != 0) | (ordered[1:] > ordered[:-1] * ratio)
    clusters = np.empty(len(values), np.int64)
    clusters[order] = np.cumsum(begins) - 1
    return clusters
