"""The filter of the terminal."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_tui.filter import Filter, FilterError

CARD: dict[str, Any] = {
    "card": "GPU-5e1f",
    "host": "node017",
    "slot": "slot3",
    "model": "NVIDIA GeForce RTX 3090",
    "state": "degraded",
    "cause": "thermal",
    "core_temperature_celsius": 91.0,
    "utilization_ratio": 0.97,
    "power_watts": None,
    "delivered": 0.78,
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "node017",
        "3090 thermal",
        "GEFORCE",
        '"rtx 3090"',
        "!ok",
        '!"rtx 4090"',
        "temp>90",
        "core_temperature_celsius>=91",
        "util>90",
        "util>90%",
        "util>0.9",
        "delivered<80",
        "temp!=90",
        "thermal temp>80 !lost",
    ],
)
def test_a_card_is_let_through(text: str) -> None:
    """Words are searched in any case; readings compare; all terms hold."""
    assert Filter.parse(text).matches(CARD)


@pytest.mark.parametrize(
    "text", ["node018", "!thermal", "3090 lost", "temp>91", "temp<91", "util<50", '"3090 rtx"']
)
def test_a_card_is_left_out(text: str) -> None:
    """One term that does not hold is enough."""
    assert not Filter.parse(text).matches(CARD)


@pytest.mark.parametrize("text", ["power>0", "power<1000", "power!=5", "clock>0"])
def test_a_card_without_the_reading_does_not_match(text: str) -> None:
    """What is not known is neither more nor less than a number."""
    assert not Filter.parse(text).matches(CARD)


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("tempp>80", 1, "'tempp'"),
        ("node017 hot>3", 9, "'hot'"),
        ("temp>hot", 6, "number"),
        ("temp>", 6, "number"),
        ('ok "rtx', 4, "not closed"),
    ],
)
def test_a_mistake_is_told_with_its_column(text: str, column: int, what: str) -> None:
    """The keeper sees where the filter cannot be read, and what was expected."""
    with pytest.raises(FilterError, match=what) as caught:
        Filter.parse(text)

    assert caught.value.column == column
    assert str(caught.value).startswith(f"column {column}: ")


def test_only_the_empty_filter_is_false() -> None:
    """A filter that lets everything through need not be applied."""
    assert not Filter.parse("  ")
    assert Filter.parse("x")


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_a_clear_mistake(text: str) -> None:
    """Nothing that can be typed breaks the screen."""
    try:
        Filter.parse(text).matches(CARD)
    except FilterError as error:
        assert 1 <= error.column <= len(text) + 1
