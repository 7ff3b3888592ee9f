"""What `farmhand-collector migrate` does: both parts of the embedded store, seen and counted."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

from farmhand_agent.command import FailedError
from farmhand_agent.settings import ConfigError
from farmhand_collector.config import Config
from farmhand_collector.migration import Difference, Progress, differences, migrate
from farmhand_collector.store.base import StoreError
from farmhand_collector.store.choice import FIVE_MINUTES, opened
from farmhand_collector.store.reader import EmbeddedReader

DAY_NS = 86_400 * 10**9
SPARE_NS = 3600 * 10**9
"""At the border of retention a server may forget what was just written."""
TOLD_SECONDS = 0.5
MOST_SHOWN = 20


def run(config: Config, named: str) -> int:
    """Bring over what the embedded store holds; 0 when all of it is there afterwards.

    Raises:
        ConfigError: the configuration names no server.
        FailedError: a store failed; calling it again goes on from there.
    """
    if config.store.kind != "influxdb":
        told = 'store.kind: "embedded", expected "influxdb" and where its server is'
        raise ConfigError(f"{named}: {told}")
    keep, data_dir = config.keep, Path(config.data_dir)
    targets = opened(
        config.store,
        data_dir,
        days=keep.days,
        kept_days=keep.kept_days,
        disk_bytes=keep.disk_bytes,
    )
    missing: list[Difference] = []
    with ExitStack() as clean_up:
        clean_up.callback(targets.close)
        parts = (
            ("readings", targets.raw, keep.days),
            (FIVE_MINUTES, targets.kept, keep.kept_days),
        )
        for name, target, days in parts:
            if not (data_dir / name).is_dir():
                continue
            source = clean_up.enter_context(closing(EmbeddedReader(data_dir / name)))
            oldest_ns = time.time_ns() - days * DAY_NS + SPARE_NS
            try:
                memory = data_dir / f"migrated-{name}.json"
                done = migrate(source, target, memory, oldest_ns=oldest_ns, told=_teller(name))
                _say(f"{name}: {done.written} readings brought over{_too_old(done)}; counting")
                missing += differences(source, target, oldest_ns, time.time_ns())
            except (StoreError, OSError) as error:
                raise FailedError(f"{name}: {error}") from None
    return _told(missing)


def _too_old(done: Progress) -> str:
    return f", {done.too_old} were past the server's retention" if done.too_old else ""


def _told(missing: Sequence[Difference]) -> int:
    for one in missing[:MOST_SHOWN]:
        hour = datetime.fromtimestamp(one.begin_ns / 1e9, UTC).strftime("%Y-%m-%d %H:00")
        _say(f"{one.measurement}, hour from {hour} UTC: {one.target} of {one.source} are there")
    if missing:
        _say(f"{len(missing)} hours have fewer readings; delete migrated-*.json and call it again")
        return 1
    _say("every hour has as many readings as before")
    return 0


def _teller(name: str) -> Callable[[Progress], None]:
    """Shows progress: one line that changes on a terminal, a line now and then elsewhere."""
    is_terminal = sys.stderr.isatty()
    began, last = time.monotonic(), 0.0

    def tell(now: Progress) -> None:
        nonlocal last
        pause = TOLD_SECONDS if is_terminal else 20 * TOLD_SECONDS
        if time.monotonic() - last < pause:
            return
        last = time.monotonic()
        share = now.position / max(now.last, 1)
        rate = now.written / max(last - began, 0.001)
        line = f"{name}: {share:4.0%}  {_bar(share)}  {now.written} readings, {rate:.0f}/s"
        sys.stderr.write(f"\r{line}\x1b[K" if is_terminal else f"{line}\n")
        sys.stderr.flush()

    return tell


def _bar(share: float, width: int = 30) -> str:
    full = min(width, int(share * width))
    return "[" + "=" * full + " " * (width - full) + "]"


def _say(line: str) -> None:
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{start}{line}\n")
