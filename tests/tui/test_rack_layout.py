"""Where the cards of a farm are drawn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farmhand_tui.farm import COLUMNS, Farm
from farmhand_tui.rack_layout import lay_out
from tests.tui.synthetic import SyntheticFarm


def farm_of(cards: int) -> Farm:
    farm = Farm()
    farm.load(SyntheticFarm(cards).snapshot(list(COLUMNS)))
    return farm


def test_racks_stand_side_by_side_with_nodes_below() -> None:
    """A rack's name is over its nodes, a node's before its cards."""
    layout = lay_out(farm_of(128), 100, 40)

    titles = [label.text for label in layout.lines[0][0]]
    names = [label.text for label in layout.lines[1][0]]
    assert titles == ["r01", "r02"]
    assert names == ["node001", "node009"]
    assert len(layout.lines[1][1]) == 16


def test_there_is_room_for_numbers_in_a_small_farm() -> None:
    """Few cards are drawn wide, many are drawn narrow."""
    pitches = [lay_out(farm_of(cards), 160, 45).pitch for cards in (8, 1024, 4096)]

    assert pitches == [5, 2, 1]


def test_an_empty_farm_has_no_line() -> None:
    """Nothing is laid out where nothing is."""
    assert lay_out(Farm(), 80, 20).height == 0


def test_a_rack_without_a_name_has_a_title() -> None:
    """Nodes whose rack was never told stand together."""
    synthetic = SyntheticFarm(8)
    for row in synthetic.rows.values():
        row["rack"] = ""
    farm = Farm()
    farm.load(synthetic.snapshot(list(COLUMNS)))

    assert lay_out(farm, 80, 20).lines[0][0][0].text == "no rack"


def test_racks_of_two_sites_are_not_mixed() -> None:
    """The same name at another site is another rack."""
    synthetic = SyntheticFarm(16)
    synthetic.set("card-00015", site="attic")
    farm = Farm()
    farm.load(synthetic.snapshot(list(COLUMNS)))

    titles = [label.text for label in lay_out(farm, 160, 20).lines[0][0]]
    assert titles == ["attic/r01", "barn/r01"]


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(4, 200), st.integers(1, 60))
def test_every_card_has_a_place_of_its_own(cards: int, width: int, height: int) -> None:
    """Whatever the screen, no card is missing, hidden or twice on it."""
    farm = farm_of(cards)

    layout = lay_out(farm, width, height)

    assert sorted(layout.sequence) == list(range(cards))
    assert len(set(layout.spots.values())) == cards
    taken = [
        (spot.y, spot.x + offset)
        for spot in layout.spots.values()
        for offset in range(layout.pitch)
    ]
    assert len(set(taken)) == len(taken)
    if width >= 20:
        assert max(x for _, x in taken) < width


@pytest.mark.parametrize("width", [80, 160, 420])
def test_labels_do_not_run_into_cells(width: int) -> None:
    """A name ends before the first card of its line."""
    layout = lay_out(farm_of(1024), width, 50)

    for labels, cells in layout.lines:
        for label in labels:
            if not label.rack:
                first = min(x for x, _ in cells if x > label.x)
                assert label.x + len(label.text) < first
