"""One reading over time, drawn in dots."""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

from rich.style import Style

from .. import numbers
from ..canvas import Canvas, Span, column_spans
from ..palette import ACCENT, DIM, FAINT, STRONG
from .lines import LineWidget, Piece, spread

_AXIS = 6
"""Cells that the scale at the left takes, its rule included."""

CURVE = Style(color="#7fb7e6")
LIMIT = Style(color="#e9ae45")


class Scale(NamedTuple):
    """How a plot is titled and ruled; it holds at least `low` to `high`."""

    title: str
    unit: str
    factor: float = 1.0
    low: float = 0.0
    high: float = 1.0


class Plot(LineWidget):
    """A curve with its scale, and a second one, such as a limit, behind it."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self._scale = scale
        self._times: Sequence[float] = ()
        self._values: Sequence[float | None] = ()
        self._limit: Sequence[float | None] = ()
        self._since = self._until = 0.0
        self._blocks = os.environ.get("TERM") == "linux"
        self._drawn: tuple[int, int] = (0, 0)
        self._lines: list[list[Piece]] = []

    def show(
        self,
        times: Sequence[float],
        values: Sequence[float | None],
        since: float,
        until: float,
        limit: Sequence[float | None] = (),
    ) -> None:
        """Draw this history; `limit` has a value for each time too, where it is given."""
        factor = self._scale.factor
        self._times = times
        self._values = [None if value is None else value * factor for value in values]
        self._limit = [None if value is None else value * factor for value in limit]
        self._since, self._until = since, until
        self._drawn = (0, 0)
        self.refresh()

    def pieces(self, width: int) -> Sequence[Sequence[Piece]]:
        """Return the title, then the picture."""
        size = (width, self.size.height)
        if size != self._drawn:
            self._drawn = size
            self._lines = self._draw(*size)
        return self._lines

    def _draw(self, width: int, height: int) -> list[list[Piece]]:
        rows = height - 1
        known = [v for v in (*self._values, *self._limit) if v is not None and math.isfinite(v)]
        title = spread([(f" {self._scale.title}", STRONG)], self._summary(), width)
        if rows < 1 or width <= _AXIS or not known:
            nothing: list[Piece] = [(" " * _AXIS + " no reading in this time", DIM)]
            return [title, nothing][: max(1, height)]
        top, most = self._scale.high, max(known)
        if most > top:
            top = _nice(1.04 * most)
        low = min(self._scale.low, min(known))
        curve = self._canvas(self._values, width - _AXIS, rows, low, top)
        behind = self._canvas(self._limit, width - _AXIS, rows, low, top)
        curve.meet(behind)
        pairs = zip(
            curve.lines(blocks=self._blocks), behind.lines(blocks=self._blocks), strict=True
        )
        lines = [_overlaid(*pair) for pair in pairs]
        labels = _labels(low, top, rows)
        return [title, *([label, *line] for label, line in zip(labels, lines, strict=True))]

    def _canvas(
        self, values: Sequence[float | None], width: int, rows: int, low: float, top: float
    ) -> Canvas:
        canvas = Canvas(width, rows)
        spans: list[Span | None] = []
        if values:
            spans = column_spans(self._times, values, self._since, self._until, canvas.columns)
        canvas.draw(spans, low, top)
        return canvas

    def _summary(self) -> list[Piece]:
        known = [value for value in self._values if value is not None]
        if not known:
            return []
        unit = self._scale.unit
        pieces: list[Piece] = [(f"{known[-1]:.0f} {unit}", ACCENT)]
        limits = [value for value in self._limit if value is not None]
        if limits:
            pieces.append((f"   limit {limits[-1]:.0f}", LIMIT))
        pieces.append((f"   least {min(known):.0f}  most {max(known):.0f} ", DIM))
        return pieces


class TimeAxis(LineWidget):
    """The times under the plots."""

    def __init__(self) -> None:
        super().__init__()
        self._name = ""
        self._since = self._until = 0.0

    def show(self, name: str, since: float, until: float) -> None:
        """Rule between these times, and name the span between them."""
        self._name = name
        self._since, self._until = since, until
        self.refresh()

    def pieces(self, width: int) -> Sequence[Sequence[Piece]]:
        """First, middle and last time at their places."""
        if self._until <= self._since:
            return [()]
        middle = (self._since + self._until) / 2
        first, half, last = (
            numbers.minute(moment, self._until) for moment in (self._since, middle, self._until)
        )
        room = width - _AXIS - len(first) - len(half) - len(last)
        name: Piece = (f" {self._name}".ljust(_AXIS), ACCENT)
        if room < 2:
            return [spread([name, (first, DIM)], [(last, DIM)], width)]
        left = max(1, (width - _AXIS - len(half)) // 2 - len(first))
        gaps = " " * left, " " * max(1, room - left)
        return [[name, (first + gaps[0] + half + gaps[1] + last, DIM)]]


def _labels(low: float, top: float, rows: int) -> list[Piece]:
    labels = [" " * (_AXIS - 1) + "│"] * rows
    labels[-1] = f"{low:>{_AXIS - 1}.0f}│"
    labels[0] = f"{top:>{_AXIS - 1}.0f}│"
    return [(label, DIM) for label in labels]


def _overlaid(curve: str, behind: str) -> list[Piece]:
    """Characters of the curve, with those behind it where it leaves room."""
    pieces: list[Piece] = []
    for over, under in zip(curve, behind, strict=True):
        if over != " ":
            pieces.append((over, CURVE))
        else:
            pieces.append((under, LIMIT if under != " " else FAINT))
    return pieces


def _nice(value: float) -> float:
    """Return the next round number above, so that a scale does not jump with every reading."""
    if value <= 0:
        return value
    step = 10.0 ** math.floor(math.log10(value)) / 2
    return math.ceil(value / step) * step
