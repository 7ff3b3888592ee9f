"""The farm as columns, and what changed in them."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farmhand_collector.capacity.frame import NO_READING, READ_LOST, READ_OK, READ_UNREADABLE, Frame
from farmhand_collector.capacity.roster import CardKey, Roster
from farmhand_collector.judging import Tick
from farmhand_collector.view import COLUMNS, StaleCursorError, UnknownError, View
from farmhand_collector.wire import Changes, Snapshot
from tests.collector.capacity.farm import (
    FARM,
    FAULTS,
    IDLE,
    SICK,
    at,
    cards,
    faulty,
    frame,
    stepped,
    working,
)
from tests.collector.capacity.test_rollup import facts_of

Row = dict[str, Any]


def ticks(*frames: Frame) -> Iterator[Tick]:
    """Ticks of frames."""
    for seen, (_, verdicts) in zip(frames, stepped(frames), strict=True):
        yield Tick(seen, verdicts, facts_of(len(seen)))


def view_of(*frames: Frame) -> View:
    """A view after these frames."""
    view = View(None)
    for tick in ticks(*frames):
        view.update(tick)
    return view


def rows(answer: Snapshot | Changes) -> dict[str, Row]:
    """Rows of an answer by key."""
    names = list(answer.columns)
    listed = [
        dict(zip(names, row, strict=True)) for row in zip(*answer.columns.values(), strict=True)
    ]
    return {row["key"]: row for row in listed}


def test_a_view_without_a_tick_is_an_empty_farm() -> None:
    """It answers all the same."""
    view = View(None)

    snapshot = view.snapshot(COLUMNS)

    assert snapshot.time is None
    assert set(snapshot.columns) == set(COLUMNS)
    assert not any(snapshot.columns.values())
    assert view.findings() == []
    assert view.changes(snapshot.cursor, COLUMNS).columns["key"] == []


def test_a_snapshot_holds_the_columns_asked_for_and_the_key() -> None:
    """All of equal length, in the order of places."""
    snapshot = view_of(frame()).snapshot(["state", "power_watts"])

    assert list(snapshot.columns) == ["key", "state", "power_watts"]
    assert snapshot.columns["key"][:3] == ["GPU-0", "GPU-1", "GPU-2"]
    assert {len(column) for column in snapshot.columns.values()} == {16}


def test_a_row_tells_the_verdict_in_words() -> None:
    """Why, what to do, how much is left."""
    row = rows(
        view_of(frame(0), faulty("memory_size", 1), faulty("memory_size", 2)).snapshot(COLUMNS)
    )

    assert row["GPU-5"]["state"] == "degraded"
    assert row["GPU-5"]["action"] == "reflash-vbios"
    assert row["GPU-5"]["reason"].startswith("The card shows 12 GiB")
    assert row["GPU-5"]["delivered"] == 0.5
    assert row["GPU-4"]["delivered"] == 1.0
    assert row["GPU-4"]["reason"] == ""


def test_values_that_are_not_given_are_none() -> None:
    """JSON has no NaN; zero would be a lie."""
    row = rows(view_of(frame(fan_ratio=np.nan)).snapshot(COLUMNS))["GPU-0"]

    assert row["fan_ratio"] is None
    assert row["memory_temperature_celsius"] is None
    assert b"NaN" not in msgspec.json.encode(row)


def test_noise_below_any_display_is_no_change() -> None:
    """A mean that differs in the twelfth digit need not be sent."""
    view = view_of(frame(0))
    cursor = view.snapshot(COLUMNS).cursor

    view.update(next(ticks(frame(1, power_watts=300.0 + 1e-9))))

    assert view.changes(cursor, ["power_watts"]).columns["key"] == []


def test_only_rows_of_which_asked_columns_changed_are_sent() -> None:
    """Who shows states need not hear of watts."""
    frames = [frame(0), frame(1, power_watts=at(SICK, 290.0, 300.0)), faulty("lost", 2)]
    view, (first, second, third) = View(None), ticks(*frames)
    view.update(first)
    cursor = view.snapshot(COLUMNS).cursor

    view.update(second)

    assert view.changes(cursor, ["power_watts"]).columns["key"] == ["GPU-5"]
    assert view.changes(cursor, ["state"]).columns["key"] == []

    view.update(third)

    assert view.changes(cursor, ["state"]).columns == {"key": ["GPU-5"], "state": ["lost"]}


def test_a_new_card_is_sent_with_every_column_asked_for() -> None:
    """It was not in the snapshot."""
    view, (first, second) = View(None), ticks(frame(0, cards(15)), frame(1))
    view.update(first)
    cursor = view.snapshot(["model"]).cursor

    view.update(second)

    assert view.changes(cursor, ["model"]).columns == {"key": ["GPU-15"], "model": ["RTX 3090"]}


def moved() -> Sequence[Frame]:
    """A card that is taken out of its slot and put into another node."""
    roster = Roster([*cards(4), cards(1)[0]._replace(host="node-9", slot="7")])
    return [
        frame(0, roster, read=np.array([0, 0, 0, 0, NO_READING])),
        frame(1, roster, read=np.array([NO_READING, 0, 0, 0, NO_READING])),
        frame(2, roster, read=np.array([NO_READING, 0, 0, 0, 0])),
    ]


def test_a_card_that_moved_stays_one_row() -> None:
    """Its key stays, its place changes, nothing is removed."""
    view, (first, second, third) = View(None), ticks(*moved())
    view.update(first)
    cursor = view.snapshot(COLUMNS).cursor
    view.update(second)
    view.update(third)

    changes = view.changes(cursor, ["host", "slot"])

    assert rows(changes) == {"GPU-0": {"key": "GPU-0", "host": "node-9", "slot": "7"}}
    assert changes.removed == []


def test_a_row_that_went_is_removed_and_may_come_back() -> None:
    """A replaced card is gone; put back, it is a new row again."""
    roster = Roster([*cards(4), cards(1)[0]._replace(card="GPU-9")])
    out, back = np.array([NO_READING, 0, 0, 0, 0]), np.array([0, 0, 0, 0, NO_READING])
    view, seen = (
        View(None),
        list(ticks(*(frame(n, roster, read=r) for n, r in enumerate([back, out, back])))),
    )
    view.update(seen[0])
    first = view.snapshot(["state"]).cursor
    view.update(seen[1])
    second = view.snapshot(["state"]).cursor

    assert view.changes(first, ["state"]).removed == ["GPU-0"]
    assert view.changes(first, ["state"]).columns["key"] == ["GPU-9"]
    assert view.changes(second, ["state"]).removed == []

    view.update(seen[2])

    assert view.changes(second, ["state"]).removed == ["GPU-9"]
    assert view.changes(second, ["state"]).columns["key"] == ["GPU-0"]
    assert view.changes(first, ["state"]).removed == ["GPU-9"]


@pytest.mark.parametrize(
    "cursor",
    ["", ":", "x:0", "{epoch}:", "{epoch}:2", "{epoch}:-1", "{epoch}:x", "{epoch}:" + "9" * 5000],
)
def test_a_cursor_that_is_not_ours_is_stale(cursor: str) -> None:
    """Of another life of the collector, of the future, or none at all."""
    view = view_of(frame(0))
    epoch = view.snapshot(["state"]).cursor.partition(":")[0]

    with pytest.raises(StaleCursorError):
        view.changes(cursor.replace("{epoch}", epoch), COLUMNS)


def test_a_restart_makes_all_cursors_stale() -> None:
    """Another collector counts from the beginning."""
    cursor = view_of(frame(0)).snapshot(COLUMNS).cursor

    with pytest.raises(StaleCursorError):
        view_of(frame(0)).changes(cursor, COLUMNS)


def test_news_are_told_of_once() -> None:
    """A tick after the cursor is news."""
    view = view_of(frame(0))
    cursor = view.snapshot(COLUMNS).cursor

    assert not view.is_news(cursor)
    view.update(next(ticks(frame(1))))
    assert view.is_news(cursor)


def test_findings_are_listed_worst_first() -> None:
    """Lost before failing before degraded; nodes among them, idle cards not."""
    heat = at(range(8, 12), 0.5, 0.0)
    read = at(1, READ_LOST, READ_OK)
    read[2] = READ_UNREADABLE
    use = at(15, 0.0, 1.0)
    changed: dict[str, Any] = {
        **FAULTS["memory_size"],
        **{"throttle_thermal_ratio": heat, "read": read, "utilization_ratio": use},
    }
    view = view_of(*(frame(number, **changed) for number in range(4)))

    found = view.findings()

    assert [(f.state, f.scope, f.key) for f in found] == [
        ("lost", "card", "GPU-1"),
        ("failing", "card", "GPU-2"),
        ("degraded", "node", "node-2"),
        ("degraded", "card", "GPU-5"),
    ]
    assert all(f.steps and f.text for f in found)
    assert found[2].cards == ["GPU-8", "GPU-9", "GPU-10", "GPU-11"]


def test_cards_are_found_by_their_key() -> None:
    """And none by another."""
    view = view_of(frame(0))

    found = view.card("GPU-3")

    assert found is not None
    assert found[0] == FARM[3]
    assert found[1].state == "ok"
    assert view.card("GPU-99") is None


class TestCapacity:
    """What the farm gives of what it should."""

    def test_a_view_without_a_tick_has_no_capacity(self) -> None:
        """And knows no card to repair."""
        view = View(None)

        assert view.state().capacity is None
        assert view.capacity("farm") == []
        with pytest.raises(UnknownError, match="no such card: 'GPU-1'"):
            view.what_if(["GPU-1"])
        with pytest.raises(UnknownError, match="no card is known yet"):
            view.what_if([], "llm")

    def test_the_state_holds_the_row_of_the_farm(self) -> None:
        """The share of cards that are judged goes with every state."""
        view = view_of(frame(0), faulty("lost", 1))

        assert [view.state().capacity] == view.capacity("farm")
        assert [row.cards for row in view.capacity("node")] == [4] * 4

    def test_a_card_that_moved_is_counted_once(self) -> None:
        """Its old row is no longer spoken of."""
        (row,) = view_of(*moved()).capacity("farm")

        assert row.cards == 4

    def test_a_lost_card_keeps_its_limit(self) -> None:
        """What it should give is what it gave, not what its board could."""
        told = {"power_limit_default_watts": 350.0}
        capped = frame(0, facts=told, power_limit_watts=280.0)
        gone = frame(1, facts=told, power_limit_watts=280.0, read=at(SICK, READ_LOST, READ_OK))

        before, after = (
            view.capacity("farm")[0].compute for view in (view_of(capped), view_of(capped, gone))
        )

        assert after.by_choice == pytest.approx(before.by_choice)
        assert after.delivered == pytest.approx(15 / 16 * (before.delivered or 0))

    def test_a_repaired_card_brings_back_what_it_lacks(self) -> None:
        """Named by its key, once however often it is named."""
        view = view_of(frame(0), *(faulty("memory_size", number) for number in range(1, 4)))

        answer = view.what_if(["GPU-5", "GPU-1", "GPU-5"])

        assert answer.cards == ["GPU-5", "GPU-1"]
        assert answer.unjudged == []
        assert answer.returns == {"compute": 0, "bandwidth": 0, "memory": 12 * 2**30, "link": 0}
        assert answer.returns_a100_equivalents["memory"] == pytest.approx(12 / 80)
        assert answer.gang is None

    def test_a_card_that_is_not_judged_is_named(self) -> None:
        """Nothing is promised of it."""
        answer = view_of(frame(0, utilization_ratio=at(SICK, 0.0, 1.0))).what_if(["GPU-5"])

        assert answer.unjudged == ["GPU-5"]
        assert not any(answer.returns.values())

    def test_a_gang_goes_at_the_pace_of_its_slowest(self) -> None:
        """It is known by the name that its job told, also after it told nothing more."""
        gang = working(1.0, gang=at(range(4, 8), 9, 0).astype(np.int64))
        slow = at(SICK, 850.0, 1700.0)
        told = [frame(n, work=gang, core_clock_mhz=slow) for n in range(8)]

        answer = view_of(*told, frame(8, core_clock_mhz=slow)).what_if([], "name 9").gang

        assert answer is not None
        assert answer.cards == ["GPU-4", "GPU-5", "GPU-6", "GPU-7"]
        assert (answer.unjudged, answer.left_out) == ([], 1)
        assert answer.now == pytest.approx(4 * 0.5 * 71e12)
        assert answer.without_slowest == answer.best == 3 * 71e12

    def test_of_a_gang_that_is_not_judged_no_pace_is_told(self) -> None:
        """It is not zero."""
        gang = working(math.nan, gang=at([1, 2], 9, 0).astype(np.int64))

        answer = view_of(frame(0, work=gang, **IDLE)).what_if([], "name 9").gang

        assert answer is not None
        assert answer.unjudged == answer.cards == ["GPU-1", "GPU-2"]
        assert answer.now is answer.without_slowest is answer.best is None

    def test_an_unknown_card_or_gang_is_named(self) -> None:
        """So that a slip of the finger is found."""
        view = view_of(frame(0))

        with pytest.raises(UnknownError, match="no such card: 'GPU-99'"):
            view.what_if(["GPU-1", "GPU-99"])
        with pytest.raises(UnknownError, match="no such gang: 'llm'"):
            view.what_if(["GPU-1"], "llm")


def wandering(seed: int, count: int) -> list[Frame]:
    """Frames of cards that come, go, change places, have faults and change their values."""
    rng = np.random.default_rng(seed)
    places = [CardKey("barn", "a", f"n{p % 2}", f"{p}", "", "nvidia", "RTX 3090") for p in range(5)]
    identities = ["A", "B", "C", "unidentified"]
    roster = [place._replace(card=card) for place in places for card in identities]
    rng.shuffle(roster)
    frames = []
    for number in range(count):
        n = int(len(roster) * (number + 3) / (count + 3))
        read = rng.choice(
            [NO_READING, READ_OK, READ_LOST, READ_UNREADABLE], n, p=[0.6, 0.3, 0.05, 0.05]
        )
        changed: dict[str, Any] = {
            "power_watts": rng.choice([300.0, 290.0, np.nan], n),
            "memory_total_bytes": rng.choice([24.0, 12.0], n) * 2**30,
        }
        frames.append(frame(number, Roster(roster[:n]), read=read, **changed))
    return frames


@settings(max_examples=25)
@given(
    st.integers(0, 10**6),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.sets(st.sampled_from(COLUMNS), min_size=1),
)
def test_snapshot_and_changes_are_the_snapshot(
    seed: int, polls: list[bool], asked: set[str]
) -> None:
    """A client that follows, now and then, knows what a new snapshot would tell it."""
    columns, view = sorted(asked), View(None)
    snapshot = view.snapshot(columns)
    known, cursor = rows(snapshot), snapshot.cursor

    for tick, polled in zip(ticks(*wandering(seed, 8)), polls, strict=True):
        view.update(tick)
        if polled:
            changes = view.changes(cursor, columns)
            cursor = changes.cursor
            for key in changes.removed:
                known.pop(key, None)  # one that came and went is among them
            known |= rows(changes)
            assert known == rows(view.snapshot(columns))
            assert all(known[key] == row for key, row in rows(changes).items())
