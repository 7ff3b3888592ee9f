"""The line on top of every screen: how the farm is, how old that is, and whether it is real."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .. import numbers
from ..farm import Farm
from ..palette import ACCENT, ALARM, BAR, DIM, MARK, PLAIN, STATE_LOOKS, STRONG
from .lines import LineWidget, Piece, spread, width_of


class Trouble(NamedTuple):
    """Why the collector cannot be asked, and since when."""

    since: float
    what: str


@dataclass
class Health:
    """How the terminal itself is: whether it hears of the farm, and whether it listens."""

    trouble: Trouble | None = None
    paused: bool = False


class Pulse(LineWidget):
    """Sums over the farm; a second line says when the collector is not reachable."""

    ground = BAR

    def __init__(self, farm: Farm, health: Health) -> None:
        super().__init__()
        self._farm = farm
        self._health = health

    def on_mount(self) -> None:
        """Let the age of the data grow by the second."""
        self.set_interval(1.0, self.refresh)
        self.update()

    def update(self) -> None:
        """Say what is new of the farm and of the terminal."""
        self.styles.height = 1 if self._health.trouble is None else 2
        self.refresh()

    def pieces(self, width: int) -> Sequence[Sequence[Piece]]:
        """Return the sums in the longest form that fits, then the trouble, if any."""
        trouble = self._health.trouble
        marks = self._marks()
        room = width - width_of(marks)
        forms = [self._sums(long=True), self._sums(long=False)]
        sums = next((form for form in forms if width_of(form) <= room), forms[-1])
        lines = [spread(sums, marks, width)]
        if trouble is not None:
            said = f" collector unreachable since {numbers.clock(trouble.since)}"
            known = ", showing what was known" if self._farm.loaded else ", nothing is known yet"
            text = f"{said}{known}  ({trouble.what})"
            lines.append([(text.ljust(width), ALARM)])
        return lines

    def _marks(self) -> list[Piece]:
        marks: list[Piece] = []
        if self._health.paused:
            marks.append((" PAUSED ", ALARM))
        if self._farm.simulated is not None:
            marks.append((f" SIMULATED (seed {self._farm.simulated.seed}) ", MARK))
        return marks

    def _sums(self, *, long: bool) -> list[Piece]:
        name: list[Piece] = [(" farmhand ", ACCENT)] if long else []
        if not self._farm.loaded:
            return [*name, (" waiting for the collector", DIM)]
        totals = self._farm.totals()
        gap = "  " if long else " "
        sums = [*name, (f" {totals.cards:,}{' cards' if long else ''}{gap}", STRONG)]
        for state, look in STATE_LOOKS.items():
            count = totals.states[state]
            text = f"{look.glyph} {count} {state}{gap}" if long else f"{look.glyph}{count}{gap}"
            sums.append((text, look.text if count else DIM))
        return [*sums, (numbers.kilowatts(totals.power_watts) + gap, PLAIN), *self._age(long=long)]

    def _age(self, *, long: bool) -> list[Piece]:
        if self._farm.time is None:
            return [("no data yet" if long else "-", DIM)]
        seconds = max(0.0, time.time() - self._farm.time)
        shown = numbers.age(seconds)
        style = DIM if seconds < 60 else STATE_LOOKS["degraded"].text
        return [(f"data {shown} old " if long else shown.replace(" ", ""), style)]
