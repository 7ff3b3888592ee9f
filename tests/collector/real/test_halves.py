"""Splitting the data: thresholds and reports never see the same card or the same day."""

from hypothesis import given
from hypothesis import strategies as st

from tests.evaluate.real import longhorn
from tests.evaluate.real.halves import Half, card_half, half

DAY_NS = 86_400 * 10**9
TIMES = st.integers(0, 40_000 * DAY_NS)


@given(st.text(), TIMES, TIMES)
def test_the_runs_of_a_card_never_fall_into_both_halves(card: str, one: int, other: int) -> None:
    """What a threshold was chosen on says nothing new about the same card."""
    assert {half(card, one), half(card, other)} - {None} <= {card_half(card)}


@given(st.text(), st.text(), st.integers(0, 40_000), st.integers(0, DAY_NS - 1))
def test_a_day_never_falls_into_both_halves(one: str, other: str, day: int, within: int) -> None:
    """Cards measured on one day share its air and its work."""
    halves = {half(one, day * DAY_NS), half(other, day * DAY_NS + within)}
    assert halves != {Half.CHOOSE, Half.REPORT}


def test_both_halves_hold_about_half_of_the_hosts() -> None:
    """The split is even enough to choose on one and report on the other."""
    hosts = {reading.tags["host"] for reading in longhorn.readings()}
    chosen = sum(card_half(host) is Half.CHOOSE for host in hosts)
    assert 0.4 < chosen / len(hosts) < 0.6
