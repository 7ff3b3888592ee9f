"""The agent as a service: watches, schedule, spool and shipper put together."""

import logging
import queue
import resource
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from apscheduler.schedulers.background import BackgroundScheduler

from farmhand_agent import __version__, config, systemd
from farmhand_agent.boots import Boots, machine_is_going_down
from farmhand_agent.child import PATIENCE, Pace, Patience
from farmhand_agent.events.watch import EventWatch
from farmhand_agent.hung import HungReaders
from farmhand_agent.inventory import Inventory
from farmhand_agent.publisher import Publisher
from farmhand_agent.reading import SCHEMA, Value
from farmhand_agent.shipper import Shipper
from farmhand_agent.slots import Slots
from farmhand_agent.sources.base import CardEvent
from farmhand_agent.sources.host import HostSource
from farmhand_agent.sources.work import WorkSource
from farmhand_agent.spool import Spool
from farmhand_agent.watch import Watch

log = logging.getLogger(__name__)

AGENT_SECONDS = 60.0
LINK_SECONDS = 60.0
FLUSH_SECONDS = 5.0
WATCHDOG_SECONDS = 10.0


class Service:
    """One agent; `run` returns when it is told to stop."""

    def __init__(self, settings: config.Config, patience: Patience = PATIENCE) -> None:
        self._settings = settings
        state_dir, sysfs, vendors = (
            Path(settings.state_dir),
            Path(settings.sysfs),
            _vendors(settings),
        )
        self._spool = Spool(state_dir / "spool.sqlite", settings.ship.spool_bytes)
        self._shipper = Shipper(self._spool, settings.ship)
        inventory = Inventory(state_dir / "inventory.json")
        self._slots = Slots(inventory, vendors, sysfs)
        expected = [place for vendor in vendors for place in inventory.expected(vendor)]
        self._publisher = Publisher(
            _node_tags(settings), self._spool.put, expected, self._slots.errors
        )
        self._boots = Boots(state_dir / "boots.json")
        self._host = HostSource(state_dir, sysfs)
        self._work = WorkSource(Path(settings.work.dir), settings.work.stale_seconds)
        self._events = EventWatch(
            state_dir / "events.json", self._publisher.card_events, self._slots.locate
        )
        pace = Pace(settings.interval_seconds, settings.sample_seconds, sysfs)
        deliver = self._publisher.cards
        self._watches = [
            Watch(
                vendor,
                pace,
                inventory,
                deliver,
                self._driver_told,
                HungReaders(state_dir / f"hung-{vendor}.json"),
                patience,
            )
            for vendor in vendors
        ]
        pool = {"default": {"type": "threadpool", "max_workers": 2}}
        self._scheduler = BackgroundScheduler(executors=pool, timezone="UTC")
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
            if self._is_well():
                systemd.notify(f"WATCHDOG=1\nSTATUS={self._status()}")
        systemd.notify("STOPPING=1")
        self._end()

    def _told_to_stop(self) -> bool:
        """Wait for a signal, no longer than the watchdog allows."""
        try:
            self._signals.get(timeout=WATCHDOG_SECONDS)
        except queue.Empty:
            return False
        return True

    def _is_well(self) -> bool:
        watches_are = all(watch.is_alive for watch in self._watches)
        return watches_are and self._shipper.is_alive and self._events.is_alive

    def _pace(self) -> tuple[float, str]:
        return self._settings.interval_seconds, self._settings.ship.url

    def _status(self) -> str:
        """One line for those who ask the service manager."""
        apart = sum(len(watch.apart) for watch in self._watches)
        bad = f", {apart} set apart" if apart else ""
        return (
            f"{len(self._slots.cards())} cards{bad}; {self._shipper.state.value}; "
            f"{self._spool.points} readings wait"
        )

    # --- starting and ending ---

    def _start(self) -> None:
        self._boots.start(self._publisher.host_event)
        self._shipper.start()
        self._events.start()
        for watch in self._watches:
            watch.start()
        interval_seconds = self._settings.interval_seconds
        self._each(interval_seconds, self._read_host)
        self._each(interval_seconds, self._read_work)
        self._each(LINK_SECONDS, self._count_errors)
        self._each(AGENT_SECONDS, self._read_self)
        self._count_errors()
        self._read_self()
        self._scheduler.start()

    def _each(self, seconds: float, job: Callable[[], None]) -> None:
        self._scheduler.add_job(
            job, "interval", seconds=seconds, coalesce=True, max_instances=1, misfire_grace_time=60
        )

    def _end(self) -> None:
        self._scheduler.shutdown(wait=False)
        for watch in self._watches:
            watch.stop()
        self._events.stop()
        self._boots.stop(self._publisher.host_event, machine_is_going_down())
        self._shipper.stop(FLUSH_SECONDS)
        self._spool.close()

    # --- what is read here ---

    def _read_host(self) -> None:
        self._publisher.host(time.time_ns(), self._host.read())

    def _read_work(self) -> None:
        self._publisher.work(time.time_ns(), self._work.read(self._slots.cards()))

    def _count_errors(self) -> None:
        self._events.links_counted(self._slots.count_errors(), time.time_ns())

    def _driver_told(self, events: Sequence[CardEvent]) -> None:
        for event in events:
            tags = self._slots.at(event.slot)
            if tags is not None:
                self._events.driver_told(tags, event.code, event.time_ns)

    def _read_self(self) -> None:
        readers = [pid for watch in self._watches for pid in watch.pids()]
        fields = _usage([*readers, *self._events.pids()]) | self._backlog()
        fields["kernel_log"] = self._events.how
        fields["readers"] = float(len(readers))
        fields["cards_apart"] = float(sum(len(watch.apart) for watch in self._watches))
        self._publisher.agent(time.time_ns(), fields)

    def _backlog(self) -> dict[str, Value]:
        fields: dict[str, Value] = {
            "version": __version__,
            "schema": float(SCHEMA),
            "shipping": self._shipper.state.value,
            "spool_points": float(self._spool.points),
            "spool_bytes": float(self._spool.bytes),
            "spool_degraded": float(self._spool.degraded is not None),
            "spool_quarantined_total": float(self._spool.quarantined_total),
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


def _usage(others: Sequence[int]) -> dict[str, Value]:
    """Processor time and memory of the agent and its children, the time of ended ones included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds, rss_bytes = ended.ru_utime + ended.ru_stime, 0.0
    for pid in (None, *others):
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            cpu_seconds += times.user + times.system
            rss_bytes += process.memory_info().rss
        except psutil.Error:
            continue
    return {"cpu_seconds_total": cpu_seconds, "rss_bytes": rss_bytes}
