"""The farm as the terminal knows it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from farmhand_collector.natural import natural
from farmhand_collector.wire import SCHEMA, Changes, Snapshot
from farmhand_tui.farm import COLUMNS, Farm, ordered
from tests.tui.synthetic import SyntheticFarm


def loaded(synthetic: SyntheticFarm) -> Farm:
    farm = Farm()
    farm.load(synthetic.snapshot(list(COLUMNS)))
    return farm


def told(farm: Farm) -> dict[str, dict[str, Any]]:
    return {key: farm.row(row) for key, row in farm.rows.items()}


def changes(synthetic: SyntheticFarm, cursor: str) -> Changes:
    found = synthetic.changes(cursor, list(COLUMNS), 0.0)
    assert found is not None
    return found


def test_totals_count_every_state_and_all_power(synthetic: SyntheticFarm) -> None:
    """The pulse of the farm is the sum over its cards."""
    totals = loaded(synthetic).totals()

    power = [row["power_watts"] for row in synthetic.rows.values() if row["power_watts"]]
    assert totals.cards == 120
    assert totals.states == {"ok": 116, "lost": 1, "failing": 1, "degraded": 2}
    assert totals.power_watts == sum(power)


def test_power_of_no_card_is_not_zero() -> None:
    """Where no card tells its power, nothing is claimed."""
    assert Farm().totals().power_watts is None


def test_a_change_touches_only_its_row(synthetic: SyntheticFarm) -> None:
    """A new reading is written where it belongs, and said to be all that is new."""
    farm = loaded(synthetic)
    cursor = synthetic.cursor
    synthetic.set("card-00007", power_watts=123.0)

    change = farm.apply(changes(synthetic, cursor))

    row = farm.rows["card-00007"]
    assert change == (frozenset({row}), False)
    assert farm.number("power_watts", row) == 123.0


def test_totals_follow_changes(synthetic: SyntheticFarm) -> None:
    """A card that is lost meanwhile is counted as lost."""
    farm = loaded(synthetic)
    before = farm.totals().states["lost"]
    cursor = synthetic.cursor
    synthetic.set("card-00007", state="lost")

    farm.apply(changes(synthetic, cursor))

    assert farm.totals().states["lost"] == before + 1


def test_a_new_card_takes_its_place(synthetic: SyntheticFarm) -> None:
    """A card that the snapshot did not hold is placed by site, rack, host and slot."""
    farm = loaded(synthetic)
    cursor = synthetic.cursor
    place = {"site": "barn", "rack": "r01", "host": "node001", "slot": "slot0"}
    synthetic.set("new", state="ok", **place)

    change = farm.apply(changes(synthetic, cursor))

    assert change.layout
    assert farm.columns["key"][farm.placed[0]] == "new"


def test_a_card_that_went_is_forgotten(synthetic: SyntheticFarm) -> None:
    """A removed key leaves no row behind, and the others keep their values."""
    farm = loaded(synthetic)
    cursor = synthetic.cursor
    synthetic.remove("card-00000")

    change = farm.apply(changes(synthetic, cursor))

    assert change.layout
    assert "card-00000" not in farm.rows
    assert farm.text("host", farm.rows["card-00119"]) == "node015"


def test_a_card_that_moved_is_laid_out_anew(synthetic: SyntheticFarm) -> None:
    """A card in another slot is drawn there."""
    farm = loaded(synthetic)
    cursor = synthetic.cursor
    synthetic.set("card-00000", host="node099", rack="r99")

    assert farm.apply(changes(synthetic, cursor)).layout
    assert farm.columns["key"][farm.placed[-1]] == "card-00000"


def test_a_column_that_is_not_sent_is_unknown() -> None:
    """A collector that tells less leaves gaps, not errors."""
    farm = Farm()

    farm.load(Snapshot(SCHEMA, "1:0", None, None, {"key": ["a"], "host": ["n1"]}))

    assert farm.number("power_watts", 0) is None
    assert farm.text("state", 0) == ""


def test_worst_comes_first_then_least_delivered(synthetic: SyntheticFarm) -> None:
    """Lost before failing before degraded; within a state, who gives least."""
    farm = loaded(synthetic)

    order = ordered(range(len(farm)), farm.worst_first, farm.rank)

    states = [farm.columns["state"][row] for row in order]
    assert states[:5] == ["lost", "failing", "degraded", "degraded", "ok"]
    shares = [round(farm.columns["delivered"][row] * 100) for row in order[4:]]
    assert shares == sorted(shares)


def test_the_unknown_comes_before_the_good(synthetic: SyntheticFarm) -> None:
    """What cannot be judged is not buried among what is fine."""
    synthetic.set("card-00100", state="unknown")
    farm = loaded(synthetic)

    order = ordered(range(len(farm)), farm.worst_first, farm.rank)

    assert farm.columns["key"][order[4]] == "card-00100"


def test_rows_without_a_value_come_last_both_ways() -> None:
    """A missing reading is neither the highest nor the lowest."""
    values = [3.0, None, 1.0]

    up = ordered(range(3), values.__getitem__, [0, 1, 2])
    down = ordered(range(3), values.__getitem__, [0, 1, 2], descending=True)

    assert (up, down) == ([2, 0, 1], [0, 2, 1])


def test_names_sort_by_their_numbers() -> None:
    """Node 10 comes after node 2."""
    names = ["n10", "n2", "", "n1a", "10", "n1"]

    assert sorted(names, key=natural) == ["", "10", "n1", "n1a", "n2", "n10"]


def test_a_card_knows_what_is_said_around_it(synthetic: SyntheticFarm) -> None:
    """A finding about a node is found from each card that it explains."""
    farm = loaded(synthetic)
    farm.set_findings(synthetic.findings())

    assert [finding.key for finding in farm.findings_around("card-00008")] == ["node002"]
    assert farm.findings_around("card-00000") == []
    assert farm.finding_of("card-00005") is not None


STEP = st.tuples(
    st.sampled_from(("set", "move", "remove")), st.integers(0, 11), st.sampled_from("abc")
)


@given(st.lists(st.lists(STEP, max_size=6), max_size=6))
def test_changes_add_up_to_a_snapshot(batches: list[list[tuple[str, int, str]]]) -> None:
    """Whatever happens, following changes ends where a new snapshot would begin."""
    synthetic = SyntheticFarm(8)
    farm = loaded(synthetic)
    for batch in batches:
        cursor = synthetic.cursor
        removed: set[str] = set()
        for what, index, value in batch:
            key = f"card-{index:05d}"
            if key in removed:
                continue
            if what == "remove" and key in synthetic.rows:
                synthetic.remove(key)
                removed.add(key)
            elif what != "remove":
                synthetic.set(key, **{"host" if what == "move" else "cause": value})
        farm.apply(changes(synthetic, cursor))

    assert told(farm) == told(loaded(synthetic))
    assert sorted(farm.placed) == list(range(len(farm)))
    assert [farm.placed[rank] for rank in farm.rank] == list(range(len(farm)))
