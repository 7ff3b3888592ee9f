"""Screens that are for reading only: what a finding says to do, and the keys."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from ..farm import Farm
from ..palette import ACCENT, DIM, PLAIN, state_look
from ..widgets.bars import Hints, Keys, keys_of
from ..widgets.pulse import Health, Pulse


class ReadingScreen(Screen[None]):
    """Texts under the pulse of the farm, side by side where there is room."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "back"),
        Binding("up,k", "scroll(-1)", "up", show=False),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("pageup,ctrl+u", "scroll(-10)", "page up", show=False),
        Binding("pagedown,ctrl+d", "scroll(10)", "page down", show=False),
    ]

    def __init__(self, farm: Farm, health: Health, *texts: Text) -> None:
        super().__init__()
        self._farm = farm
        self._health = health
        self._texts = texts
        self._hints = Hints()

    def compose(self) -> ComposeResult:
        """Lay out the pulse, the text, the keys."""
        yield Pulse(self._farm, self._health)
        with VerticalScroll(id="reading", can_focus=False), Horizontal(id="texts"):
            for text in self._texts:
                yield Static(text)
        yield self._hints

    def on_mount(self) -> None:
        """Name the keys."""
        self._hints.show(self.keys())

    def keys(self) -> list[Keys]:
        """Return the keys of this screen."""
        return keys_of(self.BINDINGS, self.app.BINDINGS)

    def action_scroll(self, lines: int) -> None:
        """Scroll the text."""
        self.query_one("#reading").scroll_relative(y=lines, animate=False)


def keys_text(keys: Sequence[Keys]) -> Text:
    """Return all keys of a view."""
    text = Text(style=PLAIN)
    text.append("keys of this view\n\n", ACCENT)
    for one in keys:
        text.append(f"  {' '.join(one.names):<16}")
        text.append(f"{one.does}\n", DIM)
    return text


def meanings_text() -> Text:
    """Return what the glyphs and the filter mean."""
    text = Text(style=PLAIN)
    text.append("states, from the worst\n\n", ACCENT)
    for state, meaning in _MEANINGS.items():
        look = state_look(state)
        text.append("  ")
        text.append(f" {look.glyph} ", look.cell)
        text.append(f"  {state:<10}", look.text)
        text.append(f"{meaning}\n", DIM)
    text.append("\nfilter\n\n", ACCENT)
    for example, meaning in _FILTERS.items():
        text.append(f"  {example:<16}")
        text.append(f"{meaning}\n", DIM)
    text.append("\nmouse\n\n", ACCENT)
    text.append("  your terminal's own: select, copy, paste\n", DIM)
    return text


_MEANINGS = {
    "lost": "gone from its slot, or it no longer answers",
    "failing": "it gives wrong or far too little work",
    "degraded": "it gives clearly less than it should",
    "watch": "something is odd and not yet certain",
    "unknown": "idle, or not to be judged",
    "ok": "it gives what it should",
}

_FILTERS = {
    "word": "in card host slot model state cause",
    '"two words"': "the same, with a space",
    "!word": "not there",
    "temp>80": "a reading: temp util power clock",
    "fan_ratio<30%": "or any by its full name",
}
