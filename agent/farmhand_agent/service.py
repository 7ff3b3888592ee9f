"""The agent as a service: watches, schedule, spool and shipper put together."""

import logging
import queue
import signal
import time
from pathlib import Path

import psutil
from apscheduler.schedulers.background import BackgroundScheduler

from farmhand_agent import __version__, config, systemd
from farmhand_agent.child import Pace
from farmhand_agent.inventory import Inventory
from farmhand_agent.publisher import Publisher
from farmhand_agent.reading import SCHEMA, Value
from farmhand_agent.shipper import Shipper
from farmhand_agent.sources.host import HostSource
from farmhand_agent.spool import Spool
from farmhand_agent.watch import Watch

log = logging.getLogger(__name__)

AGENT_SECONDS = 60.0
FLUSH_SECONDS = 5.0
WATCHDOG_SECONDS = 10.0


class Service:
    """One agent; `run` returns when it is told to stop."""

    def __init__(self, settings: config.Config) -> None:
        self._settings = settings
        state_dir = Path(settings.state_dir)
        self._spool = Spool(state_dir / "spool.sqlite", settings.ship.spool_bytes)
        self._shipper = Shipper(
            self._spool,
            settings.ship.url,
            config.token(settings),
            settings.ship.org,
            settings.ship.bucket,
        )
        inventory = Inventory(state_dir / "inventory.json")
        expected = [place for vendor in _vendors(settings) for place in inventory.expected(vendor)]
        self._publisher = Publisher(_node_tags(settings), self._spool.put, expected)
        self._host = HostSource(state_dir)
        self._watches = _watches(settings, inventory, self._publisher)
        self._scheduler = BackgroundScheduler(timezone="UTC")
        # An Event must not be set by a signal handler: it may be locked by what was interrupted.
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def run(self) -> None:
        """Read and ship until SIGTERM or SIGINT; what is spooled is flushed first."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: self._signals.put(number))
        self._start()
        systemd.notify("READY=1")
        log.info("reading each %g s, shipping to %s", *self._pace())
        while not self._told_to_stop():
            # A part that ended would go unnoticed while this loop goes on: systemd starts us anew.
            if self._shipper.is_alive and all(watch.is_alive for watch in self._watches):
                systemd.notify("WATCHDOG=1")
        systemd.notify("STOPPING=1")
        self._end()

    def _told_to_stop(self) -> bool:
        """Wait for a signal, no longer than the watchdog allows."""
        try:
            self._signals.get(timeout=WATCHDOG_SECONDS)
        except queue.Empty:
            return False
        return True

    def _pace(self) -> tuple[float, str]:
        return self._settings.interval_seconds, self._settings.ship.url

    def _start(self) -> None:
        self._shipper.start()
        for watch in self._watches:
            watch.start()
        jobs = (
            (self._read_host, self._settings.interval_seconds),
            (self._read_self, AGENT_SECONDS),
        )
        for job, seconds in jobs:
            self._scheduler.add_job(
                job,
                "interval",
                seconds=seconds,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=60,
            )
        self._read_self()
        self._scheduler.start()

    def _end(self) -> None:
        self._scheduler.shutdown(wait=False)
        for watch in self._watches:
            watch.stop()
        self._shipper.stop(FLUSH_SECONDS)
        self._spool.close()

    def _read_host(self) -> None:
        self._publisher.host(time.time_ns(), self._host.read())

    def _read_self(self) -> None:
        usage = _usage([pid for watch in self._watches for pid in watch.pids()])
        self._publisher.agent(time.time_ns(), usage | self._backlog())

    def _backlog(self) -> dict[str, Value]:
        fields: dict[str, Value] = {
            "version": __version__,
            "schema": float(SCHEMA),
            "spool_points": float(self._spool.points),
            "spool_bytes": float(self._spool.bytes),
            "dropped_points_total": float(self._spool.dropped_points_total),
        }
        if self._shipper.clock_offset_seconds is not None:
            fields["clock_offset_seconds"] = self._shipper.clock_offset_seconds
        return fields


def _node_tags(settings: config.Config) -> dict[str, str]:
    return {"site": settings.site, "rack": settings.rack, "host": settings.host}


def _vendors(settings: config.Config) -> list[str]:
    enabled = {"nvidia": settings.nvidia.enabled}
    return [vendor for vendor, wanted in enabled.items() if wanted]


def _watches(settings: config.Config, inventory: Inventory, publisher: Publisher) -> list[Watch]:
    pace = Pace(settings.interval_seconds, settings.sample_seconds, Path(settings.sysfs))
    return [Watch(v, pace, inventory, publisher.cards, lambda _: None) for v in _vendors(settings)]


def _usage(readers: list[int]) -> dict[str, Value]:
    """Processor time and memory of the agent and its readers; one that ended counts nothing."""
    cpu_seconds = rss_bytes = 0.0
    for pid in (None, *readers):
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            cpu_seconds += times.user + times.system
            rss_bytes += process.memory_info().rss
        except psutil.Error:
            continue
    return {"cpu_seconds_total": cpu_seconds, "rss_bytes": rss_bytes}
