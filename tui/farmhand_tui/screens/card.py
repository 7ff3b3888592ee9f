"""One card: how it is and why, what to do, and how it has been."""

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from ..client import Client
from ..escape import safe
from ..farm import Farm
from ..follow import CardArrived, CardFollower, CardLost
from ..prose import events_text, identity_text, verdict_text
from ..widgets.bars import CardLine, Hints, Keys, keys_of
from ..widgets.plot import Plot, Scale, TimeAxis
from ..widgets.pulse import Health, Pulse

RANGES = {"1": ("1 h", 3600.0), "2": ("6 h", 6 * 3600.0), "3": ("24 h", 86400.0)} | {
    "4": ("7 d", 7 * 86400.0)
}

SCALES = {
    "utilization_ratio": Scale("utilisation", "%", 100.0, high=100.0),
    "core_clock_mhz": Scale("core clock", "MHz"),
    "power_watts": Scale("power", "W"),
    "core_temperature_celsius": Scale("temperature", "°C", low=20.0, high=90.0),
    "memory_clock_mhz": Scale("memory clock", "MHz"),
}
LIMITS = {"power_watts": "power_limit_watts"}


class CardScreen(Screen[None]):
    """Follows one card for as long as it is open."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "back"),
        Binding("1", "range('1')", "1 h, 6 h, 24 h, 7 d", key_display="1-4"),
        *(Binding(key, f"range('{key}')", show=False) for key in "234"),
        Binding("c", "copy", "copy card id"),
        Binding("up,k", "scroll(-1)", "up", show=False),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("pageup,ctrl+u", "scroll(-10)", "page up", show=False),
        Binding("pagedown,ctrl+d", "scroll(10)", "page down", show=False),
    ]

    def __init__(
        self, farm: Farm, health: Health, key: str, client: Client, now: Callable[[], float]
    ) -> None:
        super().__init__()
        self._farm = farm
        self._health = health
        self._key = key
        self._range = "1"
        self._card_line = CardLine(farm)
        self._plots = {name: Plot(scale) for name, scale in SCALES.items()}
        self._axis = TimeAxis()
        self._hints = Hints()
        span = RANGES[self._range][1]
        self._follower = CardFollower(client, key, self.post_message, now, span)

    def compose(self) -> ComposeResult:
        """Text at the left, curves at the right; one below the other where it is narrow."""
        yield Pulse(self._farm, self._health)
        yield self._card_line
        with VerticalScroll(id="card", can_focus=False), Horizontal(id="halves"):
            with VerticalScroll(id="facts", can_focus=False):
                yield Static("asking the collector", id="verdict", markup=False)
                yield Static(id="events")
                yield Static(id="identity")
            with Vertical(id="curves"):
                yield from self._plots.values()
                yield self._axis
        yield self._hints

    def on_mount(self) -> None:
        """Begin to follow the card."""
        self._card_line.show(self._farm.rows.get(self._key))
        self._hints.show(self.keys())
        self._follower.start()

    def on_unmount(self) -> None:
        """Follow it no more."""
        self._follower.stop()

    def keys(self) -> list[Keys]:
        """Return the keys of this screen."""
        return keys_of(self.BINDINGS, self.app.BINDINGS)

    def on_card_arrived(self, message: CardArrived) -> None:
        """Show what is known now."""
        detail, series = message.detail, message.series
        finding = self._farm.finding_of(self._key)
        around = self._farm.findings_around(self._key)
        self._card_line.show(self._farm.rows.get(self._key))
        self.query_one("#verdict", Static).update(verdict_text(detail.verdict, finding, around))
        self.query_one("#events", Static).update(events_text(detail.events, message.until))
        self.query_one("#identity", Static).update(identity_text(detail))
        nothing: list[float | None] = [None] * len(series.times)
        for name, plot in self._plots.items():
            values = series.fields.get(name, nothing)
            limit = series.fields.get(LIMITS.get(name, ""), ())
            plot.show(series.times, values, message.since, message.until, limit)
        self._axis.show(RANGES[self._range][0], message.since, message.until)

    def on_card_lost(self, message: CardLost) -> None:
        """Say why there is nothing new."""
        self.query_one("#verdict", Static).update(safe(str(message.error)))

    def action_range(self, key: str) -> None:
        """Show another span of time."""
        self._range = key
        self._follower.show(RANGES[key][1])

    def action_scroll(self, lines: int) -> None:
        """Scroll whichever part is longer than the screen."""
        for name in ("#card", "#facts"):
            self.query_one(name).scroll_relative(y=lines, animate=False)

    def action_copy(self) -> None:
        """Copy the card's id by OSC 52."""
        row = self._farm.rows.get(self._key)
        card = safe(self._key) if row is None else self._farm.text("card", row)
        self.app.copy_to_clipboard(card)
        self.app.notify(f"copied {card}", markup=False)
