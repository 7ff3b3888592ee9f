"""Stores side by side in one run: the embedded one, InfluxDB 1.12 and 2.9.

    make bench-store
    make bench-store ARGS="--cards 10000"

Points in, the latest row of every card, a day of one card, and what a tick reads, with the room
that a day of a card takes and the memory of whoever holds it. The servers run on this machine
beside the measuring, as they would not in a farm: quote ratios.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from farmhand_agent.reading import Reading
from farmhand_collector.store.base import Store
from farmhand_collector.store.embedded import EmbeddedStore
from farmhand_collector.store.influx import InfluxStore
from farmhand_collector.store.influx_http import Where
from farmhand_collector.store.influx_setup import prepare
from tests.bench.__main__ import START_NS, card_readings
from tests.servers.influxd import Influx, Influx1, Influx2

SECOND_NS = 10**9
INTERVAL_NS = 10 * SECOND_NS
DAY_INTERVALS = 8_640
RUNS = 5
FIELDS = ["power_watts", "core_temperature_celsius", "core_clock_mhz"]


class Held(NamedTuple):
    """A store, how to tell it the time, where it keeps its files and which process holds it."""

    name: str
    store: Store
    clock: list[int]
    folder: Path
    pid: int


class Row(NamedTuple):
    """What was measured of one store."""

    name: str
    points_per_second: float
    latest_seconds: float
    day_seconds: float
    tick_seconds: float
    bytes_per_card_day: float
    rss_mib: float


@contextmanager
def embedded(folder: Path) -> Iterator[Held]:
    """Files of SQLite, in this process."""
    with closing(EmbeddedStore(folder)) as store:
        yield Held("embedded", store, [0], folder, psutil.Process().pid)


@contextmanager
def influx(kind: type[Influx1] | type[Influx2], folder: Path) -> Iterator[Held]:
    """A server of its own."""
    server: Influx = kind(folder)
    clock = [START_NS]
    with server:
        where = Where(server.url, "bench", server.org, server.token)
        prepare(where, 3650)
        store = InfluxStore(where, retention_days=3650, poll_seconds=0.0, clock=lambda: clock[0])
        with closing(store):
            yield Held(f"InfluxDB {server.version}", store, clock, folder, server.pid)


def measured(held: Held, cards: int, ticks: int) -> Row:
    """Write a stretch of a farm and a day of one card, and read as the collector does."""
    store, now = held.store, START_NS
    began = time.perf_counter()
    for _ in range(ticks):
        now += INTERVAL_NS
        store.write(card_readings(cards, now))
    points = cards * ticks / (time.perf_counter() - began)
    held.clock[0] = now
    taken = _size(held.folder) / (cards * ticks) * DAY_INTERVALS
    store.write(_day_of_one(now))
    position = _read_all(store)
    tick_times = []
    for _ in range(RUNS):
        now += INTERVAL_NS
        held.clock[0] = now
        store.write(card_readings(cards, now))
        began = time.perf_counter()
        _, position = store.readings(position, 10 * cards)
        tick_times.append(time.perf_counter() - began)
    one = {"card": "GPU-00000001"}
    return Row(
        held.name,
        points,
        _median(lambda: store.latest("card", None, FIELDS, now - 120 * SECOND_NS)),
        _median(lambda: store.between("card", now - 86_400 * SECOND_NS, now, one, FIELDS)),
        statistics.median(tick_times),
        taken,
        psutil.Process(held.pid).memory_info().rss / 2**20,
    )


def _day_of_one(until_ns: int) -> list[Reading]:
    first = until_ns - DAY_INTERVALS * INTERVAL_NS
    (_, card) = card_readings(2, 0)
    return [card._replace(time_ns=first + at * INTERVAL_NS) for at in range(DAY_INTERVALS - 100)]


def _read_all(store: Store) -> int:
    position = 0
    while True:
        blocks, position = store.readings(position)
        if not blocks:
            return position


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _median(work: Callable[[], object]) -> float:
    work()
    return statistics.median(_seconds(work) for _ in range(RUNS))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> int:
    """Measure each store and print a table."""
    options = argparse.ArgumentParser(
        "bench-store", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--cards", type=int, default=1_000)
    options.add_argument("--ticks", type=int, default=60, help="intervals of 10 s to write")
    chosen = options.parse_args()
    sys.stdout.write(f"{chosen.cards} cards, {chosen.ticks} intervals, 26 fields\n")
    sys.stdout.write(
        "store             points/s  latest of all  a day of one  tick read  card-day     RSS\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        made = (
            embedded(Path(folder, "embedded")),
            influx(Influx1, Path(folder, "one")),
            influx(Influx2, Path(folder, "two")),
        )
        for opened in made:
            with opened as held:
                row = measured(held, chosen.cards, chosen.ticks)
            sys.stdout.write(
                f"{row.name:<16}  {row.points_per_second:8.0f}  {row.latest_seconds:11.3f} s"
                f"  {row.day_seconds:10.3f} s  {row.tick_seconds:7.3f} s"
                f"  {row.bytes_per_card_day / 2**20:5.2f} MB  {row.rss_mib:4.0f} MB\n"
            )
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
