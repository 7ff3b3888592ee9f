"""The long memory: what is made one when, and which store answers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from farmhand_agent.reading import Reading
from farmhand_collector.five_minutes import SLICE_NS
from farmhand_collector.history import DELAYS_SECONDS, History, Roller
from farmhand_collector.store.embedded import EmbeddedStore
from tests.collector.store.examples import DAY_NS, NOON_NS, SECOND_NS, card, card_tags


class Clock:
    """A clock that is told the time."""

    def __init__(self) -> None:
        self.ns = NOON_NS

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock() -> Clock:
    """Noon."""
    return Clock()


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """Readings as they came."""
    store = EmbeddedStore(tmp_path / "raw")
    yield store
    store.close()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """Five minutes made one."""
    store = EmbeddedStore(tmp_path / "kept")
    yield store
    store.close()


def roller(raw: EmbeddedStore, kept: EmbeddedStore, clock: Clock, memory: Path) -> Roller:
    """A roller that began at noon."""
    memory.write_text(f'{{"next_ns": {[NOON_NS] * 3}}}', encoding="utf-8")
    raw.write([info(NOON_NS)])
    return Roller(raw, kept, memory, raw_days=30, clock=clock)


def info(time_ns: int) -> Reading:
    """What a card tells of itself, hourly."""
    return Reading("card_info", card_tags(), {"name": "RTX 3090", "fans": 2.0}, time_ns)


def powers(store: EmbeddedStore) -> list[tuple[int, float]]:
    """Seconds after noon and power of all rows."""
    block = store.between("card", NOON_NS - DAY_NS, NOON_NS + 2 * DAY_NS)
    seconds = (block.time_ns - NOON_NS) // SECOND_NS
    return list(zip(seconds.tolist(), block.values["power_watts"].tolist(), strict=True))


def test_a_slice_is_made_one_some_minutes_after_it_ended(
    raw: EmbeddedStore, kept: EmbeddedStore, clock: Clock, tmp_path: Path
) -> None:
    """Not before: agents have spools."""
    raw.write([card(NOON_NS + n * 10 * SECOND_NS, power_watts=100.0 + n) for n in range(60)])
    made = roller(raw, kept, clock, tmp_path / "memory")
    clock.ns = NOON_NS + SLICE_NS + SECOND_NS
    made.work()
    assert powers(kept) == []

    clock.ns = NOON_NS + DELAYS_SECONDS[0] * SECOND_NS
    made.work()

    assert powers(kept) == [(0, 114.5)]


def test_what_comes_late_is_made_one_again(
    raw: EmbeddedStore, kept: EmbeddedStore, clock: Clock, tmp_path: Path
) -> None:
    """An hour of outage, made up for."""
    made = roller(raw, kept, clock, tmp_path / "memory")
    raw.write([card(NOON_NS, power_watts=100.0)])
    clock.ns = NOON_NS + DELAYS_SECONDS[0] * SECOND_NS
    made.work()
    raw.write([card(NOON_NS + SECOND_NS, power_watts=200.0)])

    clock.ns = NOON_NS + DELAYS_SECONDS[1] * SECOND_NS
    made.work()

    assert powers(kept) == [(0, 150.0)]


def test_it_goes_on_where_it_stopped(
    raw: EmbeddedStore, kept: EmbeddedStore, clock: Clock, tmp_path: Path
) -> None:
    """After a restart no slice is left out, and none made twice."""
    memory = tmp_path / "memory"
    raw.write([card(NOON_NS + n * SLICE_NS, power_watts=float(n + 1)) for n in range(4)])
    made = roller(raw, kept, clock, memory)
    clock.ns = NOON_NS + SLICE_NS + DELAYS_SECONDS[0] * SECOND_NS
    assert made.work() == 2

    again = Roller(raw, kept, memory, raw_days=30, clock=clock)
    clock.ns += 2 * SLICE_NS
    assert again.work() == 2

    assert powers(kept) == [(300 * n, float(n + 1)) for n in range(4)]


def test_a_damaged_memory_costs_time_and_nothing_else(
    raw: EmbeddedStore, kept: EmbeddedStore, clock: Clock, tmp_path: Path
) -> None:
    """All that the raw store holds is made one again."""
    memory = tmp_path / "memory"
    memory.write_text("{", encoding="utf-8")
    raw.write([card(NOON_NS - 3600 * SECOND_NS, power_watts=7.0), info(NOON_NS - 3600 * SECOND_NS)])

    Roller(raw, kept, memory, raw_days=1, clock=clock).work()

    assert powers(kept) == [(-3600, 7.0)]


def test_weeks_of_nothing_are_passed_over(
    raw: EmbeddedStore, kept: EmbeddedStore, clock: Clock, tmp_path: Path
) -> None:
    """A new farm has a month of slices in which there was none."""
    made = Roller(raw, kept, tmp_path / "memory", raw_days=30, clock=clock)

    assert made.work() == 0


def test_events_are_kept_as_they_are(
    raw: EmbeddedStore, kept: EmbeddedStore, clock: Clock, tmp_path: Path
) -> None:
    """They are few, and each is news."""
    told = {"kind": "xid", "code": "79", "text": "fallen"}
    event = Reading("card_event", card_tags(), told, NOON_NS + SECOND_NS)
    raw.write([event])
    made = roller(raw, kept, clock, tmp_path / "memory")
    clock.ns = NOON_NS + DELAYS_SECONDS[0] * SECOND_NS

    made.work()

    assert list(kept.between("card_event", NOON_NS, NOON_NS + SLICE_NS).readings()) == [event]


def test_a_counter_rises_over_the_border_of_a_slice(
    raw: EmbeddedStore, kept: EmbeddedStore, clock: Clock, tmp_path: Path
) -> None:
    """From the last reading of the slice before."""
    totals = [(-10, 90.0), (0, 100.0), (200, 130.0)]
    raw.write([card(NOON_NS + s * SECOND_NS, pcie_replay_total=total) for s, total in totals])
    made = roller(raw, kept, clock, tmp_path / "memory")
    clock.ns = NOON_NS + DELAYS_SECONDS[0] * SECOND_NS

    made.work()

    (risen,) = kept.between("increase", NOON_NS, NOON_NS + SLICE_NS).readings()
    assert risen.fields == {"pcie_replay_total": 40.0}


def test_events_are_those_of_both(raw: EmbeddedStore, kept: EmbeddedStore, clock: Clock) -> None:
    """The old ones are kept, the newest are not copied yet."""
    told = {"kind": "xid", "code": "79", "text": "fallen"}
    old, new = (
        Reading("card_event", card_tags(), told, NOON_NS - days * DAY_NS) for days in (40, 0)
    )
    kept.write([old])
    raw.write([new])

    history = History(raw, kept, raw_days=30, clock=clock)

    assert list(history.between("card_event", 0, 2**63 - 1).readings()) == [old, new]


@pytest.mark.parametrize(
    ("since_days", "until_days", "answer"),
    [(1.0, 0.0, "raw"), (5.0, 4.0, "raw"), (10.0, 0.0, "kept"), (40.0, 39.0, "kept")],
)
def test_short_and_recent_questions_are_for_raw_readings(
    raw: EmbeddedStore,
    kept: EmbeddedStore,
    clock: Clock,
    since_days: float,
    until_days: float,
    answer: str,
) -> None:
    """A plot of ten days has more readings than anybody can see; older ones are gone."""
    history = History(raw, kept, raw_days=30, clock=clock)
    since_ns, until_ns = (NOON_NS - round(days * DAY_NS) for days in (since_days, until_days))
    raw.write([card(since_ns, power_watts=1.0)])
    kept.write([card(since_ns, power_watts=2.0)])

    block = history.between("card", since_ns, until_ns)

    assert block.values["power_watts"].tolist() == [1.0 if answer == "raw" else 2.0]
