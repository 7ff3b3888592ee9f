"""Numbers as they are written."""

import pytest

from farmhand_tui import numbers


def test_what_is_not_known_is_a_dash() -> None:
    """A missing value never looks like zero."""
    assert numbers.percent(None) == numbers.whole(None) == numbers.age(None) == "-"
    assert numbers.pair(None, None) == numbers.gibibytes(None, None) == numbers.link(None, None)


def test_a_limit_shows_without_its_reading() -> None:
    """Half a pair is shown as half."""
    assert numbers.pair(None, 350.0) == "-/350"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (45, "45 s"), (600, "10 min"), (7200, "2 h"), (3 * 86400, "3 d")],
)
def test_ages_take_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    """An age is short and never negative, whatever the clocks say."""
    assert numbers.age(seconds) == text


def test_memory_is_in_gibibytes() -> None:
    """Bytes in use and in all are told in GiB."""
    assert numbers.gibibytes(12.5 * 2**30, 24 * 2**30) == "12.5/24"


def test_a_time_of_another_day_has_its_date() -> None:
    """A time of day alone always means today."""
    assert len(numbers.clock(1_790_000_000.0, 1_790_000_000.0)) == len("09:33:20")
    assert numbers.clock(1_790_000_000.0, 1_791_000_000.0).startswith("2026-")


def test_an_absurd_time_is_a_dash() -> None:
    """A time beyond the calendar does not break the screen."""
    assert numbers.clock(1e300) == "-"
