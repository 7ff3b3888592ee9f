"""Curves from dots: two columns and four rows of dots in each character."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

_BRAILLE = (
    (0x01, 0x08),
    (0x02, 0x10),
    (0x04, 0x20),
    (0x40, 0x80),
)
_GAP_STEPS = 3
"""Points further apart than this many of the usual step are not joined: nothing is known there."""


class Span(NamedTuple):
    """Least and greatest value within one column of dots."""

    low: float
    high: float


def column_spans(
    times: Sequence[float],
    values: Sequence[float | None],
    since: float,
    until: float,
    count: int,
) -> list[Span | None]:
    """Spans of `count` columns between two times; None where nothing was measured."""
    spans: list[Span | None] = [None] * count
    seconds = (until - since) / max(1, count)
    for moment, value in zip(times, values, strict=True):
        column = math.floor((moment - since) / seconds) if seconds > 0 else -1
        if value is not None and math.isfinite(value) and 0 <= column < count:
            span = spans[column] or Span(value, value)
            spans[column] = Span(min(span.low, value), max(span.high, value))
    return _bridged(spans, _reach(times, seconds))


def _reach(times: Sequence[float], seconds: float) -> int:
    """How many columns may lie between two points that belong together."""
    steps = [later - earlier for earlier, later in pairwise(times)]
    usual = median(steps) if steps else 0.0
    return max(1, math.ceil(_GAP_STEPS * usual / seconds)) if seconds > 0 else 1


def _bridged(spans: list[Span | None], reach: int) -> list[Span | None]:
    """Columns between neighbouring points, filled along a straight line."""
    filled = list(spans)
    known = [column for column, span in enumerate(spans) if span is not None]
    for left, right in pairwise(known):
        first, last = spans[left], spans[right]
        if right - left > reach or first is None or last is None:
            continue
        start, end = (first.low + first.high) / 2, (last.low + last.high) / 2
        for column in range(left + 1, right):
            value = start + (end - start) * (column - left) / (right - left)
            filled[column] = Span(value, value)
    return filled


class Canvas:
    """Dots on a grid of characters; row 0 of dots is the bottom."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._bits = [[0] * width for _ in range(height)]

    @property
    def columns(self) -> int:
        """Columns of dots."""
        return 2 * self.width

    def draw(self, spans: Sequence[Span | None], low: float, high: float) -> None:
        """Draw a curve, its neighbouring columns joined, with `low` at the bottom."""
        previous: tuple[int, int] | None = None
        for column, span in enumerate(spans[: self.columns]):
            if span is None:
                previous = None
                continue
            bottom, top = self._dot(span.low, low, high), self._dot(span.high, low, high)
            start, end = bottom, top
            if previous is not None:
                start, end = min(start, previous[1] + 1), max(end, previous[0] - 1)
            for dot in range(start, end + 1):
                self._set(column, dot)
            previous = bottom, top

    def meet(self, other: "Canvas") -> None:
        """Add the dots of another canvas of this size where both have some in one character."""
        for mine, theirs in zip(self._bits, other._bits, strict=True):
            mine[:] = [bits | more if bits else 0 for bits, more in zip(mine, theirs, strict=True)]

    def lines(self, *, blocks: bool = False) -> list[str]:
        """Return the picture from the top, in braille or, for fonts without it, in half blocks."""
        write = _half_block if blocks else _braille
        return ["".join(map(write, bits)) for bits in self._bits]

    def _dot(self, value: float, low: float, high: float) -> int:
        share = (value - low) / (high - low) if high > low else 0.0
        return round(min(1.0, max(0.0, share)) * (4 * self.height - 1))

    def _set(self, column: int, dot: int) -> None:
        row, inside = divmod(4 * self.height - 1 - dot, 4)
        self._bits[row][column // 2] |= _BRAILLE[inside][column % 2]


def _braille(bits: int) -> str:
    return chr(0x2800 + bits) if bits else " "


def _half_block(bits: int) -> str:
    upper, lower = bool(bits & 0x1B), bool(bits & 0xE4)
    return {(False, False): " ", (True, False): "▀", (False, True): "▄"}.get((upper, lower), "█")
