"""What `/metrics` tells Prometheus: the farm, its cards where asked, and the collector itself.

Names end in their unit; amounts are in base units. `docs/metrics.md` lists them.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from farmhand_agent.reading import Reading
from farmhand_collector.backup import Backups
from farmhand_collector.capacity.detector import CAUSES
from farmhand_collector.exposition import Family, Labels, Sample, counter, exposition, gauge
from farmhand_collector.ingest import Counts
from farmhand_collector.store.base import StoreReader
from farmhand_collector.store.choice import FIVE_MINUTES
from farmhand_collector.store.embedded import EmbeddedStore
from farmhand_collector.view import View
from farmhand_collector.wire import (
    STATES,
    CardVerdict,
    ComponentCapacity,
    Finding,
)

AGENT_SECONDS = 3600.0
"""Agents not heard of for so long are no longer told."""
_COMPONENTS = {
    "compute": ("compute", "flops"),
    "bandwidth": ("memory_bandwidth", "bytes_per_second"),
    "memory": ("memory", "bytes"),
    "link": ("link", "bytes_per_second"),
}
"""By the component's name on the wire: its name and unit in metrics."""
_AMOUNTS = {
    "default": "made to be given at default limits",
    "expected": "expected at the limits in force",
    "delivered": "delivered by the cards that are judged",
    "unjudged": "expected of cards that are not judged",
}
_AGENT_GAUGES = {
    "spool_points": "readings not yet accepted by the store",
    "spool_bytes": "size of the readings not yet accepted by the store",
    "clock_offset_seconds": "server's clock minus the node's",
}


@dataclass(slots=True)
class JudgingCounts:
    """What judging did since the start; filled by the judging thread."""

    ticks: int = 0
    """Frames judged."""
    tick_seconds: float = 0.0
    """Time spent on them, from reading the store to the ledger's commit."""
    late_rows: int = 0
    """Rows that came when their frame was closed: kept, not judged."""


class Metrics:
    """Gathers what is told; every source but the view may be missing. Safe from any thread."""

    def __init__(
        self,
        view: View,
        store: StoreReader | None = None,
        *,
        data_dir: Path | None = None,
        ingest: Counts | None = None,
        judging: JudgingCounts | None = None,
        backups: Backups | None = None,
        connections: Callable[[], int] | None = None,
    ) -> None:
        """Tell of a view and of the store behind it.

        `data_dir` holds the files whose size is told; `connections` counts those that are open.
        """
        self._view = view
        self._store = store
        self._data_dir = data_dir
        self._ingest = ingest
        self._judging = judging
        self._backups = backups
        self._connections = connections

    def text(self, *, cards: bool = False) -> str:
        """The page; `cards` adds every card and every agent.

        Raises:
            StoreError: the store could not be read.
        """
        return exposition(self._families(cards))

    def _families(self, cards: bool) -> Iterator[Family]:
        yield from _farm(self._view)
        if cards:
            yield from _cards(self._view.state().cards)
        if self._store is not None:
            yield from _agents(_heard(self._store), each=cards)
            yield from _store(self._store)
        if self._data_dir is not None:
            yield from _sizes(self._data_dir)
        if self._ingest is not None:
            yield from _intake(self._ingest, each=cards)
        if self._judging is not None:
            yield from _pace(self._judging)
        if self._backups is not None:
            yield from _backups(self._backups)
        if self._connections is not None:
            told = "connections that are open"
            yield gauge("farmhand_collector_connections", told, Sample(self._connections()))
        yield from _process()


# --- the farm ----------------------------------------------------------------------------------


def _farm(view: View) -> Iterator[Family]:
    """Of columns rather than of verdicts in words, which take their time on a large farm."""
    columns = view.snapshot(("site", "state", "cause")).columns
    simulated = float(view.simulated is not None)
    yield gauge("farmhand_simulated", "1 where the farm is not real", Sample(simulated))
    until = [] if view.time is None else [Sample(view.time)]
    yield gauge("farmhand_judged_until_timestamp_seconds", "end of the last judged frame", *until)
    yield gauge("farmhand_cards", "cards by site and state", *_by_state(columns))
    yield gauge("farmhand_findings", "what is wrong now", *_found(columns, view.findings()))
    rows = view.capacity("site")
    judged = [
        Sample(row.judged_ratio, {"site": row.name}) for row in rows if row.judged_ratio is not None
    ]
    yield gauge("farmhand_judged_ratio", "share of the cards that are judged", *judged)
    for name in _COMPONENTS:
        yield from _component(name, {row.name: getattr(row, name) for row in rows})


def _by_state(columns: Mapping[str, Sequence[str]]) -> Iterator[Sample]:
    """Every state of every site, also those that no card is in: a series must not come and go."""
    counted = Counter(zip(columns["site"], columns["state"], strict=True))
    for site in sorted(set(columns["site"])):
        for state in STATES:
            yield Sample(counted[site, state], {"site": site, "state": state})


def _found(columns: Mapping[str, Sequence[str]], findings: Sequence[Finding]) -> Iterator[Sample]:
    """Cards and wider scopes with something wrong, counted by what and how bad it is."""
    cards = zip(columns["state"], columns["cause"], strict=True)
    found = [("card", state, cause) for state, cause in cards if cause]
    found += [(f.scope, f.state, f.cause) for f in findings if f.scope != "card"]
    for (scope, state, cause), count in sorted(Counter(found).items()):
        yield Sample(count, {"scope": scope, "state": state, "cause": cause})


def _component(name: str, by_site: Mapping[str, ComponentCapacity]) -> Iterator[Family]:
    told, unit = _COMPONENTS[name]
    for amount, meaning in _AMOUNTS.items():
        known = [(site, getattr(capacity, amount)) for site, capacity in by_site.items()]
        samples = [Sample(value, {"site": site}) for site, value in known if value is not None]
        yield gauge(f"farmhand_{told}_{amount}_{unit}", f"{told}: {meaning}", *samples)
    missing = [
        Sample(value, {"site": site, "cause": cause})
        for site, capacity in by_site.items()
        if capacity.missing is not None
        for cause in CAUSES
        for value in (capacity.missing_by_cause.get(cause, 0.0),)
    ]
    meaning = f"{told}: expected of cards that are judged and not delivered"
    yield gauge(f"farmhand_{told}_missing_{unit}", meaning, *missing)


def _cards(cards: Sequence[CardVerdict]) -> Iterator[Family]:
    places = [_place(card) for card in cards]
    states = [
        Sample(float(card.state == state), {**place, "state": state})
        for card, place in zip(cards, places, strict=True)
        for state in STATES
    ]
    yield gauge("farmhand_card_state", "1 for the state that the card is in", *states)
    delivered = [
        Sample(share, {**place, "component": component})
        for card, place in zip(cards, places, strict=True)
        for component, share in card.delivered.items()
    ]
    told = "share of what is expected that the card gives"
    yield gauge("farmhand_card_delivered_ratio", told, *delivered)


def _place(card: CardVerdict) -> Labels:
    names = ("site", "rack", "host", "slot", "model", "card")
    return {name: getattr(card, name) for name in names}


# --- agents ------------------------------------------------------------------------------------


def _heard(store: StoreReader) -> list[Reading]:
    since_ns = int((time.time() - AGENT_SECONDS) * 1e9)
    return list(store.latest("agent", since_ns=since_ns).readings())


def _agents(heard: Sequence[Reading], *, each: bool) -> Iterator[Family]:
    yield gauge("farmhand_agents", "agents heard of in the last hour", Sample(len(heard)))
    for name in ("spool_points", "dropped_points_total"):
        total = sum(_number(reading, name) or 0.0 for reading in heard)
        told = f"all agents' {name} added up"
        yield gauge(f"farmhand_agents_{name.removesuffix('_total')}", told, Sample(total))
    if not each:
        return
    for name, meaning in _AGENT_GAUGES.items():
        yield gauge(f"farmhand_agent_{name}", meaning, *_of_each(heard, name))
    dropped = "readings dropped because the spool was full or they were refused"
    name = "dropped_points_total"
    yield counter(f"farmhand_agent_{name}", dropped, *_of_each(heard, name))
    last = [Sample(reading.time_ns / 1e9, _host(reading)) for reading in heard]
    yield gauge("farmhand_agent_last_reading_timestamp_seconds", "time of its last word", *last)


def _of_each(heard: Sequence[Reading], name: str) -> Iterator[Sample]:
    for reading in heard:
        value = _number(reading, name)
        if value is not None:
            yield Sample(value, _host(reading))


def _number(reading: Reading, name: str) -> float | None:
    value = reading.fields.get(name)
    return None if value is None or isinstance(value, str) else float(value)


def _host(reading: Reading) -> Labels:
    return {name: reading.tags.get(name, "") for name in ("site", "rack", "host")}


# --- the collector -----------------------------------------------------------------------------


def _intake(counts: Counts, *, each: bool) -> Iterator[Family]:
    accepted = Sample(counts.accepted)
    yield counter("farmhand_ingest_readings_accepted_total", "readings taken in", accepted)
    for what, refused in (
        ("readings", counts.refused_readings),
        ("posts", counts.refused_posts),
    ):
        samples = [Sample(n, {"reason": reason}) for reason, n in sorted(dict(refused).items())]
        told = f"{what} that were not taken, by reason"
        yield counter(f"farmhand_ingest_{what}_refused_total", told, *samples)
    if each:
        by_writer = [
            Sample(count, {"writer": writer, "reason": reason})
            for writer, refused in list(counts.by_writer.items())
            for reason, count in sorted(dict(refused).items())
        ]
        told = "posts and readings that were not taken of a token, by reason"
        yield counter("farmhand_ingest_refused_by_writer_total", told, *by_writer)


def _store(store: StoreReader) -> Iterator[Family]:
    """What only a store of our own counts."""
    if not isinstance(store, EmbeddedStore):
        return
    passed_over = store.passed_over
    for what in ("readings", "values"):
        told = f"{what} passed over because the contract does not know them"
        name = f"farmhand_store_passed_over_{what}_total"
        yield counter(name, told, Sample(passed_over.get(what, 0)))
    told = "readings that wait to be committed"
    yield gauge("farmhand_store_queued_readings", told, Sample(store.queued))


def _sizes(data_dir: Path) -> Iterator[Family]:
    patterns = {"readings": "readings/*", FIVE_MINUTES: f"{FIVE_MINUTES}/*"}
    patterns["ledger"] = "farm.sqlite*"
    samples = [
        Sample(sum(map(_size, data_dir.glob(pattern))), {"part": part})
        for part, pattern in patterns.items()
    ]
    yield gauge("farmhand_store_bytes", "size of the collector's files", *samples)
    try:
        free = psutil.disk_usage(str(data_dir)).free
    except OSError:
        return
    yield gauge("farmhand_disk_free_bytes", "free on the disk of the data", Sample(free))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # removed meanwhile


def _pace(counts: JudgingCounts) -> Iterator[Family]:
    spent = (Sample(counts.tick_seconds, suffix="_sum"), Sample(counts.ticks, suffix="_count"))
    yield Family("farmhand_tick_seconds", "summary", "time spent on judging a frame", spent)
    told = "rows that came when their frame was closed: kept, not judged"
    yield counter("farmhand_late_rows_total", told, Sample(counts.late_rows))


def _backups(backups: Backups) -> Iterator[Family]:
    made = [Sample(backups.made, {"result": "good"}), Sample(backups.failed, {"result": "failed"})]
    yield counter("farmhand_backups_total", "backups tried", *made)
    last = backups.last
    if last is None:
        return
    told = "when the newest good backup was made"
    yield gauge("farmhand_backup_timestamp_seconds", told, Sample(last.time))
    yield gauge("farmhand_backup_bytes", "size of the newest backup", Sample(last.bytes))


def _process() -> Iterator[Family]:
    """Under the names that Prometheus' own clients give them."""
    process = psutil.Process()
    with process.oneshot():
        cpu, memory = process.cpu_times(), process.memory_info()
        started, files = process.create_time(), process.num_fds()
    told = "processor time of the collector"
    yield counter("process_cpu_seconds_total", told, Sample(cpu.user + cpu.system))
    yield gauge("process_resident_memory_bytes", "memory of the collector", Sample(memory.rss))
    yield gauge("process_open_fds", "files and connections that are open", Sample(files))
    yield gauge("process_start_time_seconds", "when the collector started", Sample(started))
