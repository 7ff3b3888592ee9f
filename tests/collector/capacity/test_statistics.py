"""Each statistic against a twin that anyone can read."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_collector.capacity.statistics import (
    LEAST_PEERS,
    LEAST_SIGMA,
    clustered,
    discoveries,
    grouped,
    lower_tail,
    others_median,
    pooled_sigma,
)

numbers = st.sampled_from([math.nan, 0.0, 1.0, 1.0, 2.0, 3.5, 10.0, -4.0])
shares = st.one_of(st.just(math.nan), st.sampled_from([0.0, 1e-9, 0.002, 0.01, 0.5, 1.0]))
cells = st.lists(st.tuples(numbers, st.integers(-1, 2)), max_size=14)


def naive_others_median(values: list[float], groups: list[int]) -> list[float]:
    """For each card, gather the others of its group and take their median."""
    result = []
    for card, (value, group) in enumerate(zip(values, groups, strict=True)):
        others = [
            values[other]
            for other in range(len(values))
            if other != card and groups[other] == group and not math.isnan(values[other])
        ]
        takes_part = not math.isnan(value) and group >= 0
        known = takes_part and len(others) >= LEAST_PEERS
        result.append(statistics.median(others) if known else math.nan)
    return result


@given(cells)
def test_the_median_of_the_others_leaves_each_card_itself_out(
    cells: list[tuple[float, int]],
) -> None:
    """Equals the twin, whatever is missing, equal or alone."""
    values, groups = [value for value, _ in cells], [group for _, group in cells]

    medians = others_median(np.array(values, np.float64), np.array(groups, np.int64))

    np.testing.assert_allclose(medians, naive_others_median(values, groups))


def naive_discoveries(p_values: list[float], rate: float) -> list[bool]:
    """The largest k such that k cards have p ≤ rate × k / tested; those k cards."""
    tested = [p for p in p_values if not math.isnan(p)]
    most = 0.0
    found = False
    for k in range(1, len(tested) + 1):
        limit = rate * k / len(tested)
        if sum(p <= limit for p in tested) >= k:
            most, found = limit, True
    return [found and p <= most for p in p_values]


@given(st.lists(shares, max_size=12), st.sampled_from([0.01, 0.05, 0.5]))
def test_discoveries_are_those_of_benjamini_and_hochberg(
    p_values: list[float], rate: float
) -> None:
    """Equals the twin; a p-value of zero and one of nothing tested are no special cases."""
    found = discoveries(np.array(p_values, np.float64), rate)

    assert found.tolist() == naive_discoveries(p_values, rate)


def test_a_card_of_p_zero_is_a_discovery_among_any_number() -> None:
    """A p-value that underflows to zero passes every limit."""
    p_values = np.full(100_000, 0.5)
    p_values[7] = 0.0

    assert np.flatnonzero(discoveries(p_values, 0.01)).tolist() == [7]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), max_size=10))
def test_cards_are_of_one_group_when_all_columns_agree(rows: list[tuple[str, int]]) -> None:
    """Two rows have the same number exactly when they are the same combination."""
    columns = np.array([text for text, _ in rows], "U1"), np.array([n for _, n in rows], np.int64)

    groups = grouped(*columns).tolist()

    for one, first in enumerate(rows):
        for other, second in enumerate(rows):
            assert (groups[one] == groups[other]) == (first == second)


def naive_clusters(values: list[float], groups: list[int], ratio: float) -> list[set[int]]:
    """Within each group, walk up the values and begin anew at each large step."""
    clusters: list[set[int]] = []
    for group in sorted(set(groups)):
        members = sorted((v, i) for i, v in enumerate(values) if groups[i] == group)
        last = None
        for value, card in members:
            if last is None or value > last * ratio:
                clusters.append(set())
            clusters[-1].add(card)
            last = value
    return clusters


@given(st.lists(st.tuples(st.sampled_from([0.0, 100.0, 105.0, 112.0, 250.0]), st.integers(0, 1))))
def test_clusters_end_where_neighbours_are_further_apart_than_the_ratio(
    cells: list[tuple[float, int]],
) -> None:
    """Equals the twin: 100, 105 and 112 are a chain at 7 %, two clusters at 6 %."""
    values, groups = [value for value, _ in cells], [group for _, group in cells]

    numbers = clustered(np.array(values), np.array(groups, np.int64), 1.06).tolist()

    together = [{i for i, n in enumerate(numbers) if n == number} for number in set(numbers)]
    assert sorted(map(sorted, together)) == sorted(
        map(sorted, naive_clusters(values, groups, 1.06))
    )


@given(st.lists(st.one_of(st.just(math.nan), st.floats(-1, 1)), max_size=9))
def test_pooled_sigma_is_the_median_residual_with_a_floor(residuals: list[float]) -> None:
    """NaN takes no part; nothing given, or all equal, gives the floor."""
    given = [abs(r) for r in residuals if not math.isnan(r)]
    expected = max(LEAST_SIGMA, 1.4826 * statistics.median(given)) if given else LEAST_SIGMA

    assert pooled_sigma(np.array(residuals, np.float64)) == pytest.approx(expected)


def test_a_dead_clock_does_not_make_the_pooled_spread_infinite() -> None:
    """The logarithm of a clock of zero is minus infinity and says nothing of the spread."""
    assert pooled_sigma(np.array([-np.inf, -np.inf, 0.1])) == pytest.approx(0.14826)


@given(st.lists(st.one_of(st.just(math.nan), st.floats(-40, 40)), max_size=9))
def test_the_lower_tail_is_that_of_the_normal_distribution(z: list[float]) -> None:
    """Equals the distribution of the standard library where it matters; NaN stays NaN."""
    normal = statistics.NormalDist()
    expected = [value if math.isnan(value) else 0.5 for value in z]
    expected = [normal.cdf(v) if v < -1 else e for v, e in zip(z, expected, strict=True)]

    np.testing.assert_allclose(lower_tail(np.array(z, np.float64)), expected, atol=1e-12)


def test_the_lower_tail_tells_far_deviations_apart() -> None:
    """Ten sigmas are rarer than eight: no rounding to nought in between."""
    nine, ten = lower_tail(np.array([-9.0, -10.0])).tolist()

    assert 0 < ten < nine < 1e-15


def test_the_lower_tail_of_minus_infinity_is_nothing() -> None:
    """A clock of zero is infinitely far down."""
    assert lower_tail(np.array([-np.inf])).tolist() == [0.0]
