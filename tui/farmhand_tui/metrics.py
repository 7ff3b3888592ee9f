"""What a cell of the farm view can show: the state, or one number in levels."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from . import numbers
from .farm import Farm
from .palette import LEVEL_LOOKS, NO_DATA, STATE_LOOKS, Look, state_look


class Shown(NamedTuple):
    """One cell: its look, and its text of up to 4 characters where there is room."""

    look: Look
    text: str


class Metric(NamedTuple):
    """One thing to show; `bounds` are in shown units and split the numbers into levels."""

    name: str
    unit: str
    column: str
    scale: float
    bounds: Sequence[float]
    falling: bool = False
    """The less, the brighter: for what should be high."""

    def shown(self, farm: Farm, row: int) -> Shown:
        """How this card's cell looks; a lost card looks lost whatever is shown."""
        state = farm.columns["state"][row]
        if not self.bounds:
            return self._shown_state(farm, row, state)
        value = farm.columns[self.column][row]
        if state == "lost":
            return Shown(STATE_LOOKS["lost"], "lost")
        if value is None:
            return Shown(NO_DATA, "")
        level = bisect_right(self.bounds, value * self.scale)
        if self.falling:
            level = len(self.bounds) - level
        return Shown(LEVEL_LOOKS[level], numbers.whole(value, self.scale))

    def _shown_state(self, farm: Farm, row: int, state: str) -> Shown:
        delivered = farm.columns["delivered"][row]
        look = state_look(state)
        if state == "lost" or delivered is None or not farm.flagged(row):
            return Shown(look, "lost" if state == "lost" else "")
        return Shown(look, f"{look.glyph}{numbers.percent(delivered):>3}")

    def legend(self, farm: Farm) -> list[tuple[Look, str]]:
        """Every look with what it stands for: counts of states, or the bounds of levels."""
        states = farm.totals().states
        if not self.bounds:
            return [(look, f"{name} {states[name]}") for name, look in STATE_LOOKS.items()]
        edges = list(map(_edge, self.bounds))
        spans = [f"<{edges[0]}", *map(_span, edges, edges[1:]), f">{edges[-1]}"]
        looks = reversed(LEVEL_LOOKS) if self.falling else LEVEL_LOOKS
        levels = list(zip(looks, spans, strict=True))
        return [*levels, (NO_DATA, "no data"), (STATE_LOOKS["lost"], f"lost {states['lost']}")]


def _edge(bound: float) -> str:
    return f"{bound:g}"


def _span(low: str, high: str) -> str:
    return f"{low}-{high}"


METRICS: Sequence[Metric] = (
    Metric("state", "", "state", 1, ()),
    Metric("delivered", "%", "delivered", 100, (50, 70, 80, 90, 95, 98), falling=True),
    Metric("temperature", "°C", "core_temperature_celsius", 1, (40, 50, 60, 70, 80, 90)),
    Metric("power", "W", "power_watts", 1, (50, 100, 150, 200, 250, 300)),
    Metric("utilisation", "%", "utilization_ratio", 100, (5, 25, 50, 75, 90, 97)),
    Metric("clock", "MHz", "core_clock_mhz", 1, (500, 900, 1200, 1500, 1700, 1900)),
)
