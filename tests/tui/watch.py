"""Waiting for what happens inside the app, instead of sleeping."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from textual.message import Message
from textual.pilot import Pilot

from farmhand_tui.app import FarmApp
from farmhand_tui.follow import FindingsArrived
from tests.tui.server import FarmServer

PATIENCE_SECONDS = 20.0


class Watch:
    """Counts the messages of an app by kind."""

    def __init__(self) -> None:
        self.counts: Counter[type[Message]] = Counter()
        self._news = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.counts[type(message)] += 1
        self._news.set()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so; it is looked at after every message."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not true():
                self._news.clear()
                await self._news.wait()


class Opened:
    """An app with its pilot, its watch, and short words for what tests do."""

    def __init__(self, app: FarmApp, pilot: Pilot[None], watch: Watch) -> None:
        self.app = app
        self.pilot = pilot
        self.until = watch.until
        self.counts = watch.counts

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    def text(self) -> str:
        """Return what stands on the screen, line by line."""
        screen = self.app.screen
        strips = screen._compositor.render_strips(screen.size)
        return "\n".join(strip.text.rstrip() for strip in strips)


@asynccontextmanager
async def opened(server: FarmServer, size: tuple[int, int] = (160, 50)) -> AsyncIterator[Opened]:
    """Run the app against a server until the farm and its findings have arrived."""
    watch = Watch()
    app = FarmApp(server.url, server.token)
    async with app.run_test(size=size, notifications=True, message_hook=watch) as pilot:
        await watch.until(lambda: watch.counts[FindingsArrived] > 0)
        await pilot.pause()
        yield Opened(app, pilot, watch)
