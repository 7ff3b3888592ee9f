"""The embedded store: durable, ordered, forgetful by the day, never in the way."""

import logging
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import numpy as np
import pytest

from farmhand_agent.reading import Reading, parse_lines
from farmhand_collector.block import block_of
from farmhand_collector.store.base import StoreBusyError, StoreError, export
from farmhand_collector.store.embedded import EmbeddedStore
from farmhand_collector.store.reader import EmbeddedReader
from tests.collector.store.examples import (
    DAY_NS,
    NOON_NS,
    SECOND_NS,
    card,
    card_tags,
    read_all,
    row_of,
    rows_of,
)

TODAY = "2026-11-24.sqlite"
YESTERDAY = "2026-11-23.sqlite"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """An empty store."""
    store = EmbeddedStore(tmp_path / "readings")
    yield store
    store.close()


@pytest.fixture
def directory(store: EmbeddedStore, tmp_path: Path) -> Path:
    """Where the store keeps its files."""
    assert store.last_arrival() == 0
    return tmp_path / "readings"


def day_files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.sqlite"))


# --- order and identity


def test_a_block_from_the_store_is_as_one_made_of_readings(store: EmbeddedStore) -> None:
    """Live judging and the replay of a file see the same columns."""
    readings = [card(NOON_NS + n, power_watts=200.0 + n, state="ok") for n in range(3)]
    store.write(readings)
    (stored,), _ = store.readings(0)
    (made,) = block_of(readings, int(stored.arrival[0]))
    assert list(stored.values) == list(made.values)
    for name, column in made.values.items():
        np.testing.assert_array_equal(stored.values[name], column)
    assert stored.texts["state"].tolist() == made.texts["state"].tolist()
    assert stored.arrival.tolist() == made.arrival.tolist()
    assert stored.time_ns.tolist() == made.time_ns.tolist()
    assert stored.tags == made.tags


def test_a_reading_sent_again_changes_nothing(store: EmbeddedStore) -> None:
    """An agent that lost an answer sends twice; nobody sees it."""
    store.write([card()])
    _, position = store.readings(0)
    store.write([card()])
    assert store.readings(position) == ([], store.last_arrival())
    assert read_all(store) == [row_of(card())]


def test_further_fields_join_the_row_at_its_place(store: EmbeddedStore) -> None:
    """Two points of one series and time are one row."""
    store.write([card(power_watts=250.0)])
    store.write([card(fan_ratio=0.4)])
    assert read_all(store) == [row_of(card(power_watts=250.0, fan_ratio=0.4))]


def test_the_later_value_of_one_post_wins_whatever_else_it_brings(store: EmbeddedStore) -> None:
    """Rows are inserted by the fields they have; that must not turn their order round."""
    store.write(
        [card(power_watts=1.0), card(fan_ratio=0.5, power_watts=2.0), card(power_watts=3.0)]
    )
    assert read_all(store) == [row_of(card(power_watts=3.0, fan_ratio=0.5))]


def test_positions_rise_over_all_measurements_and_days(store: EmbeddedStore) -> None:
    """One number is enough to go on from."""
    info = Reading("card_info", card_tags(), {"name": "RTX 3090"}, NOON_NS)
    store.write([card(), info])
    store.write([card(NOON_NS - DAY_NS)])
    store.write([card(NOON_NS + SECOND_NS)])
    blocks, position = store.readings(0)
    assert sorted(np.concatenate([block.arrival for block in blocks]).tolist()) == [1, 2, 3, 4]
    assert position == store.last_arrival() == 4


def test_a_reader_goes_on_where_it_stopped(store: EmbeddedStore) -> None:
    """What was read is not read again."""
    store.write([card()])
    _, position = store.readings(0)
    store.write([card(NOON_NS + SECOND_NS)])
    blocks, _ = store.readings(position)
    assert rows_of(blocks) == [row_of(card(NOON_NS + SECOND_NS))]


def test_a_late_reading_goes_to_the_file_of_its_day(store: EmbeddedStore, directory: Path) -> None:
    """A node that was cut off for a day fills its gap."""
    store.write([card()])
    store.write([card(NOON_NS - DAY_NS)])
    assert day_files(directory) == [YESTERDAY, TODAY]


def test_many_days_of_late_readings_keep_few_files_open(
    store: EmbeddedStore, directory: Path
) -> None:
    """Open files are bounded however late the readings are."""
    store.write([card(NOON_NS - days * DAY_NS) for days in range(20)])
    targets = [str(link.resolve()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert 0 < sum(target.endswith(".sqlite") for target in targets) <= 5
    assert len(read_all(store)) == len(day_files(directory)) == 20


def test_what_the_contract_does_not_know_is_counted(store: EmbeddedStore) -> None:
    """A newer agent is served as far as it is understood."""
    unknown = Reading("weather", {"site": "barn"}, {"rain": 1.0}, NOON_NS)
    store.write([unknown, card(power_watts=250.0, flux_capacity=1.21, fan_ratio="half")])
    assert read_all(store) == [row_of(card(power_watts=250.0))]
    assert store.passed_over == {"readings": 1, "values": 2}


def test_infinity_and_nan_are_values_not_given(store: EmbeddedStore) -> None:
    """A number that no card can give does not spoil the rows around it."""
    store.write(
        [
            card(power_watts=float("inf"), fan_ratio=-float("inf"), core_clock_mhz=float("nan")),
            card(NOON_NS + 1, power_watts=1e308, fan_ratio=0.1),
        ]
    )
    (block,), _ = store.readings(0)
    np.testing.assert_array_equal(block.values["power_watts"], [np.nan, 1e308])
    np.testing.assert_array_equal(block.values["fan_ratio"], [np.nan, 0.1])


def test_writers_side_by_side_lose_nothing(store: EmbeddedStore) -> None:
    """Posts that come together share a commit and each waits for it."""

    def write(host: int) -> None:
        for step in range(20):
            time_ns = NOON_NS + step * SECOND_NS - (step % 2) * DAY_NS
            store.write([Reading("card", card_tags(host=f"h{host}"), {"samples": 1.0}, time_ns)])
            done[host] = step

    done = dict.fromkeys(range(8), -1)
    threads = [threading.Thread(target=write, args=(host,)) for host in done]
    for thread in threads:
        thread.start()
    seen, position = [], 0
    while any(thread.is_alive() for thread in threads) or store.last_arrival() > position:
        blocks, position = store.readings(position)
        seen += rows_of(blocks)
    assert set(done.values()) == {19}
    assert len(seen) == len(set(seen)) == 8 * 20


# --- history


def test_history_is_cut_by_time_and_tags(store: EmbeddedStore) -> None:
    """A plot asks for one card between two times; the end is not included."""
    hour = 3600 * SECOND_NS
    store.write([card(NOON_NS + n * hour, slot) for n in range(-30, 3) for slot in (0, 1)])
    block = store.between("card", NOON_NS - 20 * hour, NOON_NS, {"card": "GPU-shelf-3-1"})
    assert block.time_ns.tolist() == [NOON_NS + n * hour for n in range(-20, 0)]
    assert [tags["slot"] for tags in block.tags] == ["1"]
    assert len(store.between("card", NOON_NS - 20 * hour, NOON_NS)) == 40


def test_history_brings_only_the_fields_asked_for(store: EmbeddedStore) -> None:
    """A plot of power does not read forty columns."""
    store.write([card(power_watts=250.0, state="ok")])
    block = store.between("card", NOON_NS, NOON_NS + 1, fields=["power_watts"])
    assert block.values.keys() == {"power_watts"}
    assert block.texts == {}


def test_history_of_nothing_is_an_empty_block(store: EmbeddedStore) -> None:
    """No rows, but every column."""
    block = store.between("card", 0, NOON_NS, {"host": "shelf-3"})
    assert len(block) == 0
    assert block.values["power_watts"].tolist() == []


def test_a_tag_that_no_measurement_has_is_refused(store: EmbeddedStore) -> None:
    """Names go into the query, so only known ones do."""
    store.write([card()])
    with pytest.raises(StoreError, match=r"OR 1.*, expected one of card, "):
        store.between("card", 0, NOON_NS + 1, {"a' OR 1 --": "x"})
    with pytest.raises(StoreError, match="expected one of"):
        store.latest("card", {"job": "x"})


def test_the_latest_row_is_by_time_not_by_arrival(store: EmbeddedStore) -> None:
    """What a backlog brings later does not become the present."""
    store.write([card(NOON_NS, 0, power_watts=300.0), card(NOON_NS - DAY_NS, 1, power_watts=100.0)])
    store.write([card(NOON_NS - 3600 * SECOND_NS, 0, power_watts=200.0)])
    block = store.latest("card")
    found = {
        block.tags[series]["slot"]: power
        for series, power in zip(block.series, block.values["power_watts"], strict=True)
    }
    assert found == {"0": 300.0, "1": 100.0}


def test_the_latest_row_may_be_asked_for_by_tags_and_age(store: EmbeddedStore) -> None:
    """Old rows and other cards are left out."""
    store.write(
        [card(NOON_NS, 0), card(NOON_NS - 2 * DAY_NS, 1), card(NOON_NS - 60 * SECOND_NS, 2)]
    )
    assert len(store.latest("card", {"host": "shelf-3"})) == 3
    assert len(store.latest("card", {"slot": "1"}, since_ns=NOON_NS - DAY_NS)) == 0
    assert len(store.latest("card", since_ns=NOON_NS - 60 * SECOND_NS)) == 2
    assert len(store.latest("card", since_ns=NOON_NS - 59 * SECOND_NS)) == 1


def test_an_export_is_line_protocol_in_arrival_order(store: EmbeddedStore) -> None:
    """What leaves can be judged, or posted to another store, as it is."""
    odd = dict(card_tags(), model="RTX 3090, own=made", rack='a "b"')
    readings = [
        card(power_watts=0.1 + 0.2, state='say "ok", then go'),
        Reading("work", odd, {"rate": 3.0, "job": "train a\\b"}, NOON_NS),
        card(NOON_NS + 1),
    ]
    store.write(readings)
    lines = list(export(store))
    assert [row_of(reading) for reading in parse_lines("\n".join(lines))] == [
        row_of(reading) for reading in readings
    ]
    assert len(list(export(store, after=2))) == 1


# --- age and size


def test_days_past_the_retention_are_removed(tmp_path: Path) -> None:
    """Forgetting is unlinking."""
    store = EmbeddedStore(tmp_path, retention_days=2)
    store.write([card(NOON_NS - days * DAY_NS) for days in range(5)])
    store.expire(NOON_NS)
    assert day_files(tmp_path) == ["2026-11-22.sqlite", YESTERDAY, TODAY]
    assert len(read_all(store)) == 3
    store.close()


def test_the_oldest_days_go_when_the_cap_is_reached(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The cap holds, but the newest day stays whatever its size."""
    store = EmbeddedStore(tmp_path, most_bytes=1)
    store.write([card(NOON_NS - days * DAY_NS) for days in range(3)])
    store.expire(NOON_NS)
    assert day_files(tmp_path) == [TODAY]
    assert "the newest day alone takes" in caplog.text
    store.write([card(NOON_NS + SECOND_NS)])
    assert len(read_all(store)) == 2
    store.close()


def test_a_position_is_never_given_twice(tmp_path: Path) -> None:
    """A reader that resumes after its rows were forgotten still gets all that is new."""
    store = EmbeddedStore(tmp_path)
    store.write([card(NOON_NS + n) for n in range(10)])
    position = store.last_arrival()
    store.close()
    (tmp_path / TODAY).unlink()
    store = EmbeddedStore(tmp_path)
    store.write([card(NOON_NS + SECOND_NS)])
    blocks, _ = store.readings(position)
    assert rows_of(blocks) == [row_of(card(NOON_NS + SECOND_NS))]
    store.close()


def test_a_log_without_its_file_is_not_played_into_the_next(tmp_path: Path) -> None:
    """A crash between the removal of a file and of its log leaves no ghosts."""
    store = EmbeddedStore(tmp_path)
    store.write([card()])
    log = (tmp_path / f"{TODAY}-wal").read_bytes()
    store.close()
    (tmp_path / TODAY).unlink()
    (tmp_path / f"{TODAY}-wal").write_bytes(log)
    store = EmbeddedStore(tmp_path)
    store.write([card(NOON_NS + SECOND_NS)])
    assert read_all(store) == [row_of(card(NOON_NS + SECOND_NS))]
    store.close()


# --- damage


def test_a_damaged_day_is_set_aside_and_a_new_one_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The store opens whatever happened to the disk, and says what it did."""
    store = EmbeddedStore(tmp_path)
    store.write([card(), card(NOON_NS - DAY_NS)])
    store.close()
    (tmp_path / TODAY).write_bytes(b"not a database, whatever it was" * 200)
    store = EmbeddedStore(tmp_path)
    assert (tmp_path / f"{TODAY}.corrupt-1").exists()
    assert "is damaged" in caplog.text
    store.write([card(NOON_NS + 1)])
    assert read_all(store) == [row_of(card(NOON_NS - DAY_NS)), row_of(card(NOON_NS + 1))]
    store.close()


def test_three_damaged_files_are_kept(tmp_path: Path) -> None:
    """A disk that damages every file does not fill itself with the remains."""
    for _ in range(5):
        store = EmbeddedStore(tmp_path)
        store.write([card()])
        store.close()
        (tmp_path / TODAY).write_bytes(b"x" * 8192)
    EmbeddedStore(tmp_path).close()
    assert sorted(path.name for path in tmp_path.glob("*.corrupt-*")) == [
        f"{TODAY}.corrupt-{number}" for number in (3, 4, 5)
    ]


def test_damage_met_while_reading_costs_one_day_not_the_store(tmp_path: Path) -> None:
    """A page that goes bad at night does not stop the judging of what comes in."""
    store = EmbeddedStore(tmp_path)
    yesterday = [card(NOON_NS - DAY_NS + n, state="ok" * 100) for n in range(500)]
    store.write([*yesterday, card()])
    store.close()
    with (tmp_path / YESTERDAY).open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 4096 * 10)
    store = EmbeddedStore(tmp_path)
    assert read_all(store) == [row_of(card())]
    assert (tmp_path / f"{YESTERDAY}.corrupt-1").exists()
    store.write([card(NOON_NS - DAY_NS)])
    assert len(store.between("card", 0, NOON_NS + 1)) == 2
    store.close()


def test_a_day_that_cannot_be_written_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """Each post fails or passes by its own days; positions go on."""
    (tmp_path / YESTERDAY).mkdir()
    store = EmbeddedStore(tmp_path)
    with pytest.raises(StoreError, match="not written"):
        store.write([card(NOON_NS - DAY_NS)])
    store.write([card()])
    (tmp_path / YESTERDAY).rmdir()
    store.write([card(NOON_NS - DAY_NS)])
    assert read_all(store) == [row_of(card()), row_of(card(NOON_NS - DAY_NS))]
    store.close()


def test_a_time_no_calendar_has_fails_alone(store: EmbeddedStore) -> None:
    """The writing thread survives what it is given."""
    with pytest.raises(StoreError, match="not written"):
        store.write([card(2**80)])
    store.write([card()])
    assert read_all(store) == [row_of(card())]


# --- files and neighbours


def test_a_file_of_an_older_contract_gets_the_missing_columns(tmp_path: Path) -> None:
    """An upgrade in the middle of a day goes on in the same file."""
    connection = apsw.Connection(str(tmp_path / TODAY))
    connection.execute(
        "CREATE TABLE card (arrival INTEGER PRIMARY KEY, series INTEGER NOT NULL,"
        " time INTEGER NOT NULL, power_watts REAL, gone REAL) STRICT;"
        "CREATE TABLE series (id INTEGER PRIMARY KEY, measurement TEXT NOT NULL,"
        " tags TEXT NOT NULL, UNIQUE (measurement, tags)) STRICT;"
        """INSERT INTO series VALUES (1, 'card', '{"host":"old"}');"""
    )
    connection.execute("INSERT INTO card VALUES (5, 1, ?, 100, 1)", (NOON_NS,))
    connection.close()
    with_reader = EmbeddedReader(tmp_path)
    (old,), _ = with_reader.readings(0)
    assert np.isnan(old.values["fan_ratio"]).all()
    with_reader.close()
    store = EmbeddedStore(tmp_path)
    store.write([card(fan_ratio=0.4)])
    (block,), _ = store.readings(0)
    np.testing.assert_array_equal(block.values["power_watts"], [100.0, np.nan])
    np.testing.assert_array_equal(block.values["fan_ratio"], [np.nan, 0.4])
    store.close()


def test_nobody_else_may_read_the_files(store: EmbeddedStore, directory: Path) -> None:
    """Directory and files are their owner's alone, log and index of the log too."""
    store.write([card()])
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert {f"{TODAY}-wal", f"{TODAY}-shm", "lock", "positions"} < modes.keys()
    assert set(modes.values()) == {0o600}


def test_two_stores_do_not_share_a_directory(store: EmbeddedStore, directory: Path) -> None:
    """A second collector started by mistake is told so."""
    with pytest.raises(StoreError, match="in use by another collector"):
        EmbeddedStore(directory)
    store.write([card()])


def test_a_directory_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    """The keeper reads which path it was."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/readings: Not a directory"):
        EmbeddedStore(tmp_path / "file" / "readings")


def test_a_reader_beside_a_running_store_sees_what_is_committed(
    store: EmbeddedStore, directory: Path
) -> None:
    """An export runs while the collector does."""
    reader = EmbeddedReader(directory)
    assert reader.readings(0) == ([], 0)
    store.write([card(), card(NOON_NS - DAY_NS)])
    assert read_all(reader) == read_all(store)
    store.write([card(NOON_NS + 1)])
    assert len(list(export(reader))) == 3
    assert reader.last_arrival() == store.last_arrival()
    reader.close()


def test_a_closed_store_takes_nothing(tmp_path: Path) -> None:
    """Whoever comes too late is told, not left waiting."""
    store = EmbeddedStore(tmp_path)
    store.write([card()])
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.write([card()])
    store.close()


def test_a_full_queue_is_refused_at_once(tmp_path: Path) -> None:
    """When the disk hangs, posts are turned away instead of piling up in memory."""
    store = EmbeddedStore(tmp_path, most_queued=3)
    store.write([card()])
    blocker = apsw.Connection(str(tmp_path / TODAY))
    blocker.execute("BEGIN IMMEDIATE")
    waiting = threading.Thread(target=store.write, args=([card(NOON_NS + 1), card(NOON_NS + 2)],))
    waiting.start()
    while store.queued < 2:
        assert waiting.is_alive()
    with pytest.raises(StoreBusyError, match="2 readings wait"):
        store.write([card(NOON_NS + 3), card(NOON_NS + 4)])
    blocker.execute("ROLLBACK")
    waiting.join()
    assert len(read_all(store)) == 3
    blocker.close()
    store.close()


def test_the_version_of_sqlite_is_one_without_the_log_reset_race() -> None:
    """The store asks for it when it opens; here it must be there."""
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)


_VICTIM = """
import sys
from pathlib import Path
from farmhand_collector.store.embedded import EmbeddedStore
from tests.collector.store.examples import DAY_NS, NOON_NS, card
store = EmbeddedStore(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), 1_000_000):
    today = [card(NOON_NS + number, slot) for slot in range(4)]
    store.write([*today, card(NOON_NS - DAY_NS + number)])
    print(number, flush=True)
"""


def test_a_killed_store_loses_nothing_it_acknowledged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed at random moments of writing, each post that was answered is there, whole, once."""
    caplog.set_level(logging.ERROR)
    acknowledged = -1
    for round_number in range(4):
        victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, str(tmp_path), str(acknowledged + 1)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert victim.stdout is not None
        with victim, victim.stdout:
            for _ in range(30 + 17 * round_number):
                acknowledged = int(victim.stdout.readline())
            victim.send_signal(signal.SIGKILL)
            for line in victim.stdout:
                acknowledged = int(line)
    store = EmbeddedStore(tmp_path)
    rows = read_all(store)
    store.close()
    assert len(rows) == len(set(rows))
    today = [row.time_ns - NOON_NS for row in rows if row.time_ns >= NOON_NS]
    yesterday = [row.time_ns + DAY_NS - NOON_NS for row in rows if row.time_ns < NOON_NS]
    expected = set(range(acknowledged + 1))
    assert expected <= set(today) <= expected | {acknowledged + 1}
    assert expected <= set(yesterday) <= expected | {acknowledged + 1}
    assert all(today.count(number) == 4 for number in expected)
    assert "damaged" not in caplog.text
