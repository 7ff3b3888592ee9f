"""Curves from dots."""

from hypothesis import given
from hypothesis import strategies as st

from farmhand_tui.canvas import Canvas, Span, column_spans


def test_a_column_keeps_least_and_most() -> None:
    """A short drop is not averaged away."""
    spans = column_spans([0, 1, 2, 3], [5.0, 1.0, 9.0, 5.0], 0.0, 4.0, 1)

    assert spans == [Span(1.0, 9.0)]


def test_points_that_belong_together_are_joined() -> None:
    """Between two neighbouring points the curve is a straight line."""
    spans = column_spans([0.5, 2.5], [0.0, 2.0], 0.0, 3.0, 3)

    assert spans == [Span(0.0, 0.0), Span(1.0, 1.0), Span(2.0, 2.0)]


def test_a_gap_stays_a_gap() -> None:
    """Where nothing was measured for long, nothing is drawn."""
    times = [0.5, 1.5, 2.5, 10.5, 11.5]

    spans = column_spans(times, [1.0] * 5, 0.0, 12.0, 12)

    assert [span is None for span in spans] == [False] * 3 + [True] * 7 + [False] * 2


def test_points_outside_the_range_are_left_out() -> None:
    """The picture holds what its axis says."""
    assert column_spans([-1.0, 5.0], [1.0, 1.0], 0.0, 4.0, 4) == [None] * 4


def test_a_rising_line_rises() -> None:
    """The first value is at the bottom left, the last at the top right."""
    canvas = Canvas(2, 1)
    canvas.draw([Span(value, value) for value in (0.0, 1.0, 2.0, 3.0)], 0.0, 3.0)

    assert canvas.lines() == ["⡠⠊"]


def test_half_blocks_take_the_place_of_braille() -> None:
    """Where the font has no braille, the same picture is coarser."""
    canvas = Canvas(2, 2)
    canvas.draw([Span(0.0, 0.0), Span(0.0, 0.0), None, Span(3.0, 3.0)], 0.0, 3.0)

    assert canvas.lines(blocks=True) == [" ▀", "▄ "]


def test_two_curves_meet_in_one_character() -> None:
    """A limit goes on through a character that the curve touches too."""
    curve, limit = Canvas(2, 1), Canvas(2, 1)
    curve.draw([Span(0.0, 0.0), Span(0.0, 0.0)], 0.0, 3.0)
    limit.draw([Span(3.0, 3.0)] * 4, 0.0, 3.0)

    curve.meet(limit)

    assert (curve.lines(), limit.lines()) == (["⣉ "], ["⠉⠉"])


NUMBERS = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))


@given(st.lists(st.tuples(st.floats(0, 100), NUMBERS), max_size=30), st.integers(1, 20))
def test_any_history_can_be_drawn(points: list[tuple[float, float | None]], width: int) -> None:
    """No reading, however absurd, breaks the picture or its size."""
    points.sort(key=lambda point: point[0])
    canvas = Canvas(width, 3)
    times, values = [time for time, _ in points], [value for _, value in points]
    canvas.draw(column_spans(times, values, 0.0, 100.0, canvas.columns), 0.0, 10.0)

    lines = canvas.lines()

    assert [len(line) for line in lines] == [width] * 3
