"""Whatever is written, in whatever pieces, the embedded store reads back as its naive twin."""

import random
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from farmhand_agent.reading import Reading, Value
from farmhand_collector.store.embedded import EmbeddedStore
from tests.collector.store.examples import (
    DAY_NS,
    NOON_NS,
    Row,
    Twin,
    card,
    card_tags,
    read_all,
    row_of,
)

_numbers = st.floats(allow_nan=False, allow_infinity=False)
_values = {
    "power_watts": _numbers,
    "fan_ratio": _numbers | st.just("half"),
    "energy_joules": st.integers(0, 2**53).map(float),
    "state": st.sampled_from(["ok", "lost", 'a "b", c\\', "karta č. 7"]) | st.just(1.0),
    "rate": _numbers,
    "job": st.text(max_size=4),
    "not_yet_known": _numbers,
}
_fields = st.lists(st.sampled_from(sorted(_values)), min_size=1, max_size=5, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: _values[name] for name in names})
)
_times = st.builds(
    lambda day, second: NOON_NS - day * DAY_NS + second * 10**9,
    st.integers(0, 6),
    st.sampled_from([0, 1, 10, 299, 300, 40_000]),
)
_readings = st.builds(
    Reading,
    st.sampled_from(["card", "card", "work", "weather"]),
    st.integers(0, 2).map(card_tags),
    _fields,
    _times,
)
_writes = st.lists(st.lists(_readings, max_size=12), min_size=1, max_size=6)


def _written(store: EmbeddedStore, twin: Twin, writes: Sequence[Sequence[Reading]]) -> None:
    for write in writes:
        store.write(write)
        twin.write(write)


@settings(max_examples=40)
@given(writes=_writes, more=_writes, limit=st.integers(1, 20))
def test_the_store_reads_back_what_its_twin_holds(
    writes: list[list[Reading]], more: list[list[Reading]], limit: int
) -> None:
    """Late, repeated, partly unknown, over a restart, in pieces of any size: the same rows."""
    twin = Twin()
    with tempfile.TemporaryDirectory() as directory:
        store = EmbeddedStore(Path(directory))
        _written(store, twin, writes)
        store.close()
        store = EmbeddedStore(Path(directory))
        _written(store, twin, more)
        assert read_all(store) == twin.rows()
        assert read_all(store, limit) == twin.rows()
        store.close()


@settings(max_examples=40)
@given(
    writes=_writes,
    since=_times,
    until=_times,
    tags=st.sampled_from([{}, {"slot": "1"}, {"host": "shelf-3", "slot": "2"}, {"host": "none"}]),
)
def test_history_and_latest_are_those_of_the_twin(
    writes: list[list[Reading]], since: int, until: int, tags: dict[str, str]
) -> None:
    """A range of time and the last rows are as a scan over all rows finds them."""
    twin = Twin()
    with tempfile.TemporaryDirectory() as directory:
        store = EmbeddedStore(Path(directory))
        _written(store, twin, writes)
        between = [
            row_of(reading) for reading in store.between("card", since, until, tags).readings()
        ]
        latest = [row_of(reading) for reading in store.latest("card", tags, None, since).readings()]
        store.close()
    rows = [
        row
        for row in twin.rows()
        if row.measurement == "card" and tags.items() <= dict(row.tags).items()
    ]
    assert sorted(between) == sorted(row for row in rows if since <= row.time_ns < until)
    assert [row.time_ns for row in between] == sorted(row.time_ns for row in between)
    assert sorted(latest) == sorted(_last_of_each(row for row in rows if row.time_ns >= since))


def _last_of_each(rows: Iterable[Row]) -> list[Row]:
    last: dict[tuple[tuple[str, str], ...], Row] = {}
    for row in rows:
        if row.tags not in last or row.time_ns > last[row.tags].time_ns:
            last[row.tags] = row
    return list(last.values())


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_no_damage_keeps_the_store_from_opening_and_going_on(seed: int) -> None:
    """Bytes flipped, zeroed or cut off anywhere: it opens, reads, writes and reads that back."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        store = EmbeddedStore(directory)
        store.write([card(NOON_NS + n, n % 3, state="ok", power_watts=n + 0.5) for n in range(200)])
        store.close()
        _spoil(next(directory.glob("*.sqlite")), chance)
        store = EmbeddedStore(directory)
        read_all(store)
        position = store.last_arrival()
        later = card(NOON_NS + 10**9, power_watts=chance.random())
        store.write([later])
        assert row_of(later) in read_all(store)
        assert store.last_arrival() > position
        store.close()


def _spoil(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = chance.randrange(len(content))
    length = chance.choice([1, 8, 100, 4096])
    match chance.randrange(3):
        case 0:
            content[start : start + length] = chance.randbytes(len(content[start : start + length]))
        case 1:
            content[start : start + length] = bytes(len(content[start : start + length]))
        case _:
            del content[start:]
    path.write_bytes(content)


def test_values_come_back_to_the_last_bit() -> None:
    """Numbers pass through text on their way out; none may change."""
    chance = random.Random(7)
    values: list[Value] = [
        chance.uniform(-1, 1) * 10 ** chance.randrange(-300, 300) for _ in range(5000)
    ]
    with tempfile.TemporaryDirectory() as directory:
        store = EmbeddedStore(Path(directory))
        store.write([card(NOON_NS + n, power_watts=value) for n, value in enumerate(values)])
        (block,), _ = store.readings(0)
        store.close()
    assert block.values["power_watts"].tolist() == values
