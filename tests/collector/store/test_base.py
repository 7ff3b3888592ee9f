"""Blocks of readings."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.reading import FIELDS, Kind, Reading, Value
from farmhand_collector.block import block_of, number_fields, text_fields
from tests.collector.store.examples import NOON_NS, SECOND_NS, card, card_tags, row_of, rows_of


def test_a_block_holds_every_field_of_the_contract() -> None:
    """Columns are there whether given or not, so that a reader need not ask."""
    (block,) = block_of([card(power_watts=250.0, state="ok")], 1)
    assert list(block.values) == number_fields("card")
    assert list(block.texts) == text_fields("card")
    assert block.values["power_watts"].tolist() == [250.0]
    assert block.texts["state"].tolist() == ["ok"]


def test_a_value_that_was_not_given_is_nan_or_none() -> None:
    """Nothing stands for nothing; zero is a value."""
    first, second = card(power_watts=0.0), card(NOON_NS + SECOND_NS, state="lost")
    (block,) = block_of([first, second], 1)
    assert block.values["power_watts"][0] == 0.0
    assert math.isnan(block.values["power_watts"][1])
    assert block.texts["state"].tolist() == [None, "lost"]


def test_each_reading_takes_a_position_whether_known_or_not() -> None:
    """Positions count what came, so that a file's readings keep theirs."""
    unknown = Reading("weather", {"site": "barn"}, {"rain": 1.0}, NOON_NS)
    (block,) = block_of([card(), unknown, card(NOON_NS + SECOND_NS)], 7)
    assert block.arrival.tolist() == [7, 9]


def test_rows_of_one_tag_set_share_a_series_whatever_the_order_of_the_tags() -> None:
    """A series is its tags; an empty tag is none."""
    tags = card_tags()
    turned = dict(reversed(tags.items())) | {"lane": ""}
    readings = [Reading("card", each, {"power_watts": 1.0}, NOON_NS) for each in (tags, turned)]
    (block,) = block_of(readings, 1)
    assert block.series.tolist() == [0, 0]
    assert block.tags == (dict(sorted(tags.items())),)


def test_a_value_of_the_wrong_kind_is_passed_over() -> None:
    """Text in a numeric field is not data, even when it reads like a number."""
    (block,) = block_of([card(power_watts="250", state="ok", fan_ratio=0.5)], 1)
    assert math.isnan(block.values["power_watts"][0])
    assert block.values["fan_ratio"].tolist() == [0.5]


def test_taken_rows_keep_all_their_columns() -> None:
    """A mask or an index chooses rows of every column alike."""
    (block,) = block_of([card(NOON_NS + n, power_watts=float(n)) for n in range(5)], 1)
    taken = block.take(np.array([3, 1]))
    assert taken.arrival.tolist() == [4, 2]
    assert taken.values["power_watts"].tolist() == [3.0, 1.0]
    assert len(block.take(block.time_ns > NOON_NS + 2)) == 2


_numbers = st.floats(allow_nan=False, allow_infinity=False)
_texts = st.text(max_size=8)


@st.composite
def _readings(draw: st.DrawFn) -> Reading:
    measurement = draw(st.sampled_from(["card", "work", "host"]))
    fields: dict[str, Value] = {}
    for field in draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=4)):
        if field.measurement == measurement:
            value: Value = draw(_texts) if field.kind is Kind.TEXT else draw(_numbers)
            fields[field.name] = value
    return Reading(measurement, {"host": draw(st.sampled_from("ab"))}, fields, NOON_NS)


@given(st.lists(_readings(), max_size=8))
def test_blocks_give_back_the_readings_they_were_made_of(readings: list[Reading]) -> None:
    """From readings to blocks and back nothing changes but the order of fields."""
    kept = [reading for reading in readings if reading.fields]
    assert rows_of(block_of(kept, 1)) == [row_of(reading) for reading in kept]
