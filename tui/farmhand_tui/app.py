"""The terminal UI of a farm."""

import sys
import time
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.theme import Theme

from .client import Client
from .farm import Farm
from .follow import (
    ChangesArrived,
    CollectorLost,
    FarmFollower,
    FindingsArrived,
    SnapshotArrived,
)
from .palette import PAGE
from .prose import finding_text
from .screens.card import CardScreen
from .screens.main import MainScreen
from .screens.reading import ReadingScreen, keys_text, meanings_text
from .widgets.pulse import Health, Pulse, Trouble

BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]

NO_TERMINAL = 78
"""Exit code where there is no terminal to draw on: the command line is the wrong one."""

THEME = Theme(
    name="farmhand",
    dark=True,
    primary="#7fb7e6",
    secondary="#63c3cf",
    accent="#7fb7e6",
    warning="#e9ae45",
    error="#ff9c6e",
    success="#63c3cf",
    foreground="#c6d0d6",
    background=PAGE,
    surface="#182027",
    panel="#182027",
)


class FarmApp(App[None]):
    """Follows the collector at `url` and shows its farm until the keeper leaves."""

    CSS_PATH = "theme.tcss"
    ENABLE_COMMAND_PALETTE = False
    TITLE = "farmhand"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "pause", show=False),
        Binding("ctrl+r,f5", "reload", "ask the collector anew", show=False),
        Binding("question_mark,h,f1", "help", "help"),
        Binding("q", "leave", "back", show=False),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
    ]

    def __init__(self, url: str, token: str | None = None, ca_file: str | None = None) -> None:
        super().__init__()
        self.animation_level = "none"
        self.register_theme(THEME)
        self.theme = THEME.name
        self.farm = Farm()
        self.health = Health()
        self._address = url, token, ca_file
        self._main = MainScreen(self.farm, self.health)
        self._follower = FarmFollower(Client(*self._address), self.post_message)

    def get_default_screen(self) -> MainScreen:
        """Return the three views of the farm."""
        return self._main

    def on_mount(self) -> None:
        """Begin to follow the farm."""
        self.call_after_refresh(self._follower.start)

    def on_unmount(self) -> None:
        """Follow it no more."""
        self._follower.stop()

    def on_snapshot_arrived(self, message: SnapshotArrived) -> None:
        """Show the farm anew."""
        self.health.trouble = None
        self._main.farm_changed(self.farm.load(message.snapshot))
        self._tell_pulse()

    def on_changes_arrived(self, message: ChangesArrived) -> None:
        """Show what changed."""
        self.health.trouble = None
        self._main.farm_changed(self.farm.apply(message.changes))
        self._tell_pulse()

    def on_findings_arrived(self, message: FindingsArrived) -> None:
        """Show other findings."""
        self.farm.set_findings(message.findings)
        self._main.findings_changed()

    def on_collector_lost(self, message: CollectorLost) -> None:
        """Say that what is shown is only what was known."""
        before = self.health.trouble
        since = time.time() if before is None else before.since
        self.health.trouble = Trouble(since, str(message.error))
        self._tell_pulse()

    def on_main_screen_card_wanted(self, message: MainScreen.CardWanted) -> None:
        """Open a card."""
        client = Client(*self._address)
        self.push_screen(CardScreen(self.farm, self.health, message.key, client, self._now))

    def on_main_screen_finding_wanted(self, message: MainScreen.FindingWanted) -> None:
        """Open a finding."""
        text = finding_text(message.finding, self.farm)
        self.push_screen(ReadingScreen(self.farm, self.health, text))

    def action_leave(self) -> None:
        """Go back, or leave from the top."""
        if len(self.screen_stack) > 1:
            self.pop_screen()
        else:
            self.exit()

    def action_help(self) -> None:
        """Name all keys of the screen that is open."""
        screen = self.screen
        if isinstance(screen, MainScreen | CardScreen):
            texts = keys_text(screen.keys()), meanings_text()
            self.push_screen(ReadingScreen(self.farm, self.health, *texts))

    def action_pause(self) -> None:
        """Let nothing new in, or let it in again."""
        self.health.paused = not self.health.paused
        self._follower.pause(self.health.paused)
        self._tell_pulse()

    def action_reload(self) -> None:
        """Take a new snapshot at once."""
        if self.health.paused:
            self.action_pause()
        self._follower.refresh()

    def _now(self) -> float:
        """Return the farm's own time, which for a simulated farm is not ours."""
        return time.time() if self.farm.time is None else self.farm.time

    def _tell_pulse(self) -> None:
        for pulse in self.screen.query(Pulse):
            pulse.update()


def run(url: str, token: str | None, ca_file: str | None = None) -> None:
    """Show the farm of the collector at `url` until the keeper leaves.

    Raises:
        SystemExit: There is no terminal to draw on.
        CollectorUnreachable: `url` is not an address.

    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        sys.stderr.write("farmhand: the UI needs a terminal; `farmhand status` does not\n")
        raise SystemExit(NO_TERMINAL)
    FarmApp(url, token, ca_file).run(mouse=False)
