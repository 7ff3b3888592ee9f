"""What every store does, whatever keeps the readings; each kind of store is put through all of it.

A store gives rows in one order of its own: that of arrival, or that of time. Both are right.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from farmhand_agent.reading import Reading
from farmhand_collector.block import block_of
from farmhand_collector.store.base import Store, StoreError
from tests.collector.store.examples import (
    DAY_NS,
    NOON_NS,
    SECOND_NS,
    Row,
    Twin,
    card,
    card_tags,
    read_all,
    row_of,
    rows_of,
)

HOUR_NS = 3600 * SECOND_NS


class Keeper(Protocol):
    """Makes stores that hold nothing."""

    def empty_store(self) -> Store:
        """A store of its own for each call."""


_numbers = st.floats(allow_nan=False, allow_infinity=False)
_values = {
    "power_watts": _numbers,
    "fan_ratio": _numbers | st.just("half"),
    "energy_joules": st.integers(0, 2**53).map(float),
    "state": st.sampled_from(["ok", "lost", 'a "b", c\\d', "karta č. 7"]),
    "rate": _numbers,
    "job": st.text('ab"\\,= č', min_size=1, max_size=4).map(lambda text: f"x{text}x"),
    "not_yet_known": _numbers,
}
_fields = st.lists(st.sampled_from(sorted(_values)), min_size=1, max_size=5, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: _values[name] for name in names})
)
_hosts = st.sampled_from(["shelf-3", "a'b", 'say "x"', "back\\slash", "eq=ual, com ma", "кот"])
_times = st.integers(0, 400).map(lambda second: NOON_NS - second * SECOND_NS)
_readings = st.builds(
    Reading,
    st.sampled_from(["card", "card", "work", "weather"]),
    st.builds(card_tags, st.integers(0, 2), _hosts),
    _fields,
    _times,
)
_writes = st.lists(st.lists(_readings, max_size=12), min_size=1, max_size=4)
_few = settings(
    max_examples=15,
    # Each example is a database on a real server: shrinking one takes minutes.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


class StoreConformance:
    """Mixed into a test class that has a fixture `keeper`."""

    @pytest.fixture
    def store(self, keeper: Keeper) -> Store:
        """An empty store."""
        return keeper.empty_store()

    def test_what_is_read_is_as_made_of_readings(self, store: Store) -> None:
        """Live judging and the replay of a file see the same columns."""
        readings = [card(NOON_NS + n, power_watts=200.0 + n, state="ok") for n in range(3)]
        store.write(readings)

        (stored,), _ = store.readings(0)

        (made,) = block_of(readings, 1)
        assert list(stored.values) == list(made.values)
        for name, column in made.values.items():
            np.testing.assert_array_equal(stored.values[name], column)
        assert stored.texts["state"].tolist() == made.texts["state"].tolist()
        assert stored.time_ns.tolist() == made.time_ns.tolist()
        assert stored.tags == made.tags

    def test_a_reading_sent_again_changes_nothing(self, store: Store) -> None:
        """An agent that lost an answer sends twice; nobody sees it."""
        store.write([card()])
        _, position = store.readings(0)
        store.write([card()])

        assert store.readings(position)[0] == []
        assert read_all(store) == [row_of(card())]

    def test_further_fields_join_their_row(self, store: Store) -> None:
        """Two points of one series and time are one row."""
        store.write([card(power_watts=250.0)])
        store.write([card(fan_ratio=0.4)])

        assert read_all(store) == [row_of(card(power_watts=250.0, fan_ratio=0.4))]

    def test_the_later_value_wins(self, store: Store) -> None:
        """Within one write as between two."""
        store.write([card(power_watts=1.0), card(fan_ratio=0.5, power_watts=2.0)])
        store.write([card(power_watts=3.0)])

        assert read_all(store) == [row_of(card(power_watts=3.0, fan_ratio=0.5))]

    def test_who_follows_goes_on_where_it_stopped(self, store: Store) -> None:
        """What was given is not given again, of any measurement."""
        info = Reading("card_info", card_tags(), {"name": "RTX 3090"}, NOON_NS)
        store.write([card(), info])
        blocks, position = store.readings(0)
        assert sorted(rows_of(blocks)) == sorted([row_of(card()), row_of(info)])
        assert store.readings(position)[0] == []

        store.write([card(NOON_NS + SECOND_NS)])

        blocks, position = store.readings(position)
        assert rows_of(blocks) == [row_of(card(NOON_NS + SECOND_NS))]
        assert position == store.last_arrival()

    def test_a_slow_node_is_followed_too(self, store: Store) -> None:
        """Its clock, or its line, is some seconds behind the others'."""
        store.write([card(NOON_NS, 0)])
        _, position = store.readings(0)

        store.write([card(NOON_NS - 10 * SECOND_NS, 1)])

        assert rows_of(store.readings(position)[0]) == [row_of(card(NOON_NS - 10 * SECOND_NS, 1))]

    def test_an_event_that_comes_late_is_given_once(self, store: Store) -> None:
        """It happened before other readings of its card, and came after them."""
        told = {"kind": "xid", "code": "79", "text": "fallen"}
        event = Reading("card_event", card_tags(), told, NOON_NS - 5 * SECOND_NS)
        later = Reading("card_event", card_tags(), {**told, "code": "31"}, NOON_NS)
        store.write([later])
        _, position = store.readings(0)

        store.write([event])

        blocks, position = store.readings(position)
        assert rows_of(blocks) == [row_of(event)]
        assert store.readings(position)[0] == []

    def test_a_long_past_is_read_in_pieces(self, store: Store) -> None:
        """A collector that was down for hours catches up without holding them all."""
        readings = [card(NOON_NS - n * HOUR_NS, slot) for n in range(12) for slot in (0, 1)]
        store.write([r._replace(time_ns=r.time_ns + i) for i, r in enumerate(readings)])

        pieces, position = [], 0
        while True:
            blocks, position = store.readings(position, 7)
            if not blocks:
                break
            pieces.append(rows_of(blocks))

        assert max(map(len, pieces)) <= 7
        assert len({row for piece in pieces for row in piece}) == sum(map(len, pieces)) == 24

    def test_what_the_contract_does_not_know_is_passed_over(self, store: Store) -> None:
        """A newer agent is served as far as it is understood."""
        unknown = Reading("weather", {"site": "barn"}, {"rain": 1.0}, NOON_NS)
        store.write([unknown, card(power_watts=250.0, flux_capacity=1.21, fan_ratio="half")])

        assert read_all(store) == [row_of(card(power_watts=250.0))]

    def test_infinity_and_nan_are_values_not_given(self, store: Store) -> None:
        """A number that no card can give does not spoil the rows around it."""
        store.write([card(power_watts=float("inf"), fan_ratio=0.1), card(NOON_NS + 1)])

        assert sorted(read_all(store)) == sorted(
            [row_of(card(fan_ratio=0.1)), row_of(card(NOON_NS + 1))]
        )

    def test_writers_side_by_side_lose_nothing(self, store: Store) -> None:
        """Posts that come together."""

        def write(host: int) -> None:
            for step in range(10):
                tags = card_tags(host=f"h{host}")
                store.write([Reading("card", tags, {"samples": 1.0}, NOON_NS + step * SECOND_NS)])

        threads = [threading.Thread(target=write, args=(host,)) for host in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(set(read_all(store))) == 8 * 10

    # --- history

    def test_history_is_cut_by_time_and_tags(self, store: Store) -> None:
        """A plot asks for one card between two times; the end is not included."""
        store.write([card(NOON_NS + n * HOUR_NS, slot) for n in range(-30, 0) for slot in (0, 1)])

        block = store.between("card", NOON_NS - 20 * HOUR_NS, NOON_NS, {"card": "GPU-shelf-3-1"})

        assert block.time_ns.tolist() == [NOON_NS + n * HOUR_NS for n in range(-20, 0)]
        assert [tags["slot"] for tags in block.tags] == ["1"]
        assert len(store.between("card", NOON_NS - 20 * HOUR_NS, NOON_NS)) == 40

    def test_history_may_be_asked_for_without_bounds(self, store: Store) -> None:
        """All events of a card, whenever."""
        store.write([card()])

        assert len(store.between("card", 0, 2**63 - 1, {"card": "GPU-shelf-3-0"})) == 1

    def test_history_brings_only_the_fields_asked_for(self, store: Store) -> None:
        """A plot of power does not read forty columns."""
        store.write([card(power_watts=250.0, state="ok")])

        block = store.between("card", NOON_NS, NOON_NS + 1, fields=["power_watts"])

        assert block.values.keys() == {"power_watts"}
        assert block.texts == {}
        assert block.tags == (card_tags(),)

    def test_history_of_nothing_is_an_empty_block(self, store: Store) -> None:
        """No rows, but every column."""
        block = store.between("card", 0, NOON_NS, {"host": "shelf-3"})

        assert len(block) == 0
        assert block.values["power_watts"].tolist() == []

    @pytest.mark.parametrize("host", ["a' OR 1=1 --", 'say "x"', "back\\slash", "eq=ual, com ma"])
    def test_a_host_may_be_called_anything(self, store: Store, host: str) -> None:
        """It is data, in writing and in asking."""
        store.write([Reading("card", card_tags(host=host), {"power_watts": 1.0}, NOON_NS), card()])

        block = store.between("card", NOON_NS, NOON_NS + 1, {"host": host})

        assert [tags["host"] for tags in block.tags] == [host]

    def test_a_tag_that_no_measurement_has_is_refused(self, store: Store) -> None:
        """Names go into the question, so only known ones do."""
        store.write([card()])
        with pytest.raises(StoreError, match=r"OR 1.*, expected one of "):
            store.between("card", 0, NOON_NS + 1, {"a' OR 1 --": "x"})
        with pytest.raises(StoreError, match="expected one of"):
            store.latest("card", {"job": "x"})

    def test_the_latest_row_is_by_time_not_by_arrival(self, store: Store) -> None:
        """What a backlog brings later does not become the present."""
        store.write([card(NOON_NS, 0, power_watts=300.0), card(NOON_NS - DAY_NS, 1)])
        store.write([card(NOON_NS - HOUR_NS, 0, power_watts=200.0)])

        latest = [row_of(reading) for reading in store.latest("card").readings()]

        assert sorted(latest) == sorted(
            [row_of(card(NOON_NS, 0, power_watts=300.0)), row_of(card(NOON_NS - DAY_NS, 1))]
        )

    def test_the_latest_row_may_be_asked_for_by_tags_and_age(self, store: Store) -> None:
        """Old rows and other cards are left out."""
        times = [NOON_NS, NOON_NS - 2 * DAY_NS, NOON_NS - 60 * SECOND_NS]
        store.write([card(time_ns, slot) for slot, time_ns in enumerate(times)])

        assert len(store.latest("card", {"host": "shelf-3"})) == 3
        assert len(store.latest("card", {"slot": "1"}, since_ns=NOON_NS - DAY_NS)) == 0
        assert len(store.latest("card", since_ns=NOON_NS - 60 * SECOND_NS)) == 2
        assert len(store.latest("card", since_ns=NOON_NS - 59 * SECOND_NS)) == 1

    # --- beside a naive twin

    def test_it_reads_back_what_a_twin_holds(self, keeper: Keeper) -> None:
        """Repeated, partly unknown, oddly named: the same rows, whole and by time and tags."""

        @_few
        @given(writes=_writes, since=_times, until=_times, host=_hosts)
        def holds(writes: list[list[Reading]], since: int, until: int, host: str) -> None:
            store, twin = keeper.empty_store(), Twin()
            _written(store, twin, writes)
            rows = [row for row in twin.rows() if row.measurement == "card"]
            of_host = [row for row in rows if dict(row.tags)["host"] == host]
            between = store.between("card", since, until, {"host": host})
            latest = store.latest("card", {"host": host}, None, since)
            assert sorted(read_all(store)) == sorted(twin.rows())
            assert sorted(map(row_of, between.readings())) == sorted(
                row for row in of_host if since <= row.time_ns < until
            )
            assert sorted(map(row_of, latest.readings())) == sorted(
                _last_of_each(row for row in of_host if row.time_ns >= since)
            )
            store.close()

        holds()

    def test_a_closed_store_takes_nothing(self, store: Store) -> None:
        """And says so."""
        store.close()

        with pytest.raises(StoreError, match="closed"):
            store.write([card()])


def _written(store: Store, twin: Twin, writes: Sequence[Sequence[Reading]]) -> None:
    for write in writes:
        store.write(write)
        twin.write(write)


def _last_of_each(rows: Iterable[Row]) -> list[Row]:
    last: dict[tuple[tuple[str, str], ...], Row] = {}
    for row in rows:
        if row.tags not in last or row.time_ns > last[row.tags].time_ns:
            last[row.tags] = row
    return list(last.values())
