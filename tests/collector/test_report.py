"""Which cards are spoken of, by which name, in which order."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.reading import UNIDENTIFIED
from farmhand_collector.capacity.frame import NO_READING, READ_LOST, READ_OK
from farmhand_collector.capacity.rollup import LastHeard, capacity_of
from farmhand_collector.capacity.roster import CardKey, Roster
from farmhand_collector.capacity.step import Verdicts
from farmhand_collector.report import capacity_rows, card_verdict, farm_state, keys, shown
from farmhand_collector.wire import CAPACITY_SCOPES, CapacityRow
from tests.collector.capacity.farm import (
    FARM,
    FAULTS,
    IDLE,
    SICK,
    at,
    cards,
    faulty,
    frame,
    judged,
)
from tests.collector.capacity.test_rollup import RTX_3090, facts_of


def key(host: str = "node-0", slot: str = "0", card: str = "GPU-0", site: str = "barn") -> CardKey:
    """A card of a rack."""
    return CardKey(site, "a", host, slot, card, "nvidia", "RTX 3090")


def heard(roster: Sequence[CardKey], *rounds: Sequence[int]) -> tuple[Roster, Verdicts]:
    """Verdicts after frames in which these rows of the roster gave a reading."""
    known = Roster(roster)
    read = [at(list(rows), READ_OK, NO_READING, len(known)) for rows in rounds]
    return known, judged([frame(number, known, read=r) for number, r in enumerate(read)])


class TestKeys:
    """Names of cards in the API."""

    def test_a_card_is_named_by_its_identity(self) -> None:
        """It keeps its name when it moves."""
        assert keys([key(), key(slot="1", card="GPU-1")], [0, 1]) == {0: "GPU-0", 1: "GPU-1"}

    def test_a_card_without_identity_is_named_by_its_place(self) -> None:
        """An NPU before its driver is there, a lost card that nobody ever knew."""
        roster = [key(card=UNIDENTIFIED), key(slot="1", card="")]

        assert keys(roster, [0, 1]) == {0: "node-0:0", 1: "node-0:1"}

    def test_one_identity_at_two_places_is_named_by_them(self) -> None:
        """Cloned boards carry one identity."""
        assert keys([key(), key(slot="1")], [0, 1]) == {0: "node-0:0", 1: "node-0:1"}

    def test_two_cards_that_change_places_keep_apart(self) -> None:
        """Until the old rows are silent all four are spoken of."""
        roster = [
            *(key(slot="0", card="A"), key(slot="1", card="B")),
            *(key(slot="1", card="A"), key(slot="0", card="B")),
        ]

        assert len(set(keys(roster, range(4)).values())) == 4

    def test_rows_that_are_not_spoken_of_take_no_name(self) -> None:
        """The old place of a card that was moved does not cost it its name."""
        assert keys([key(), key(slot="1")], [1]) == {1: "GPU-0"}

    def test_a_name_is_one_element_of_a_path_and_of_a_list(self) -> None:
        """Slots may be chains of bridges."""
        (name,) = keys([key(slot="00:01.0/00.0,1", card=UNIDENTIFIED)], [0]).values()

        assert "/" not in name
        assert "," not in name

    @given(
        st.lists(
            st.builds(
                key,
                host=st.sampled_from(["a", "a/b", "a,b", "a_b"]),
                slot=st.sampled_from(["0", "1", "1:A"]),
                card=st.sampled_from(["", UNIDENTIFIED, "A", "a:0", "A/B"]),
                site=st.sampled_from(["x", "y"]),
            ),
            unique=True,
        )
    )
    def test_no_two_names_are_alike(self, roster: list[CardKey]) -> None:
        """Whatever cards and places are called, and none is empty."""
        names = keys(roster, range(len(roster)))

        assert list(names) == list(range(len(roster)))
        assert len(set(names.values())) == len(roster)
        assert all(name and not {"/", ","} & set(name) for name in names.values())


class TestShown:
    """Which rows of the roster are spoken of."""

    def test_a_card_that_moved_is_shown_at_its_new_place(self) -> None:
        """The old row fell silent when the new one spoke."""
        assert shown(*heard([key(), key(slot="1")], [0], [1])) == [1]

    def test_a_card_that_was_replaced_is_not_shown(self) -> None:
        """Another one sits in its slot."""
        assert shown(*heard([key(), key(card="GPU-9")], [0], [1])) == [1]

    def test_a_card_that_fell_silent_is_shown(self) -> None:
        """Nothing took its place: something is wrong."""
        assert shown(*heard([key(), key(slot="1", card="GPU-1")], [0, 1], [1])) == [0, 1]

    def test_unidentified_cards_at_two_places_do_not_hide_one_another(self) -> None:
        """They share a tag, not an identity."""
        roster = [key(card=UNIDENTIFIED), key(slot="1", card=UNIDENTIFIED)]

        assert shown(*heard(roster, [0, 1], [1])) == [0, 1]

    def test_a_row_without_any_reading_is_not_shown(self) -> None:
        """A card of which only facts came is not there yet."""
        assert shown(*heard([key(), key(slot="1", card="GPU-1")], [0])) == [0]

    def test_places_are_in_the_order_in_which_people_count(self) -> None:
        """Slot 10 comes after slot 9, node-2 before node-10."""
        places = [("node-10", "1"), ("node-2", "10"), ("node-2", "9")]
        roster = [key(host, slot, f"GPU-{host}-{slot}") for host, slot in places]

        assert shown(*heard(roster, [0, 1, 2])) == [2, 1, 0]


class TestVerdicts:
    """What is said of one card."""

    def test_every_fault_has_words_an_action_and_figures_that_json_can_carry(self) -> None:
        """NaN and infinity are no JSON."""
        for name in FAULTS:
            verdicts = judged([frame(0), *(faulty(name, number) for number in range(1, 5))])

            said = card_verdict(FARM[SICK], SICK, verdicts)

            assert said.evidence[0].finding == name
            assert said.evidence[0].text
            assert said.action
            assert b"null" not in msgspec.json.encode([said.delivered, said.confidence])
            assert msgspec.json.decode(msgspec.json.encode(said), type=type(said)) == said

    def test_a_lost_card_delivers_nothing(self) -> None:
        """Of no component."""
        verdicts = judged([frame(0), faulty("lost", 1)])

        assert set(card_verdict(FARM[SICK], SICK, verdicts).delivered.values()) == {0.0}

    def test_a_silent_card_is_unreachable(self) -> None:
        """Whatever was wrong with it before."""
        silent = frame(3, read=at(SICK, NO_READING, READ_OK))
        verdicts = judged([frame(0), *(faulty("unreadable", n) for n in (1, 2)), silent])

        said = card_verdict(FARM[SICK], SICK, verdicts)

        assert (said.state, said.cause, said.action) == ("unknown", "unreachable", "look-at-node")
        assert said.evidence[0].finding == "silent"

    def test_an_idle_card_is_unknown_without_a_cause(self) -> None:
        """There is nothing to do about it."""
        said = card_verdict(FARM[0], 0, judged([frame(0, **IDLE)]))

        assert (said.state, said.cause, said.action) == ("unknown", None, None)
        assert said.evidence[0].finding == "idle"

    def test_a_card_of_a_slow_node_points_to_it(self) -> None:
        """It is fine itself."""
        heat = at(range(4, 8), 0.5, 0.0)
        verdicts = judged([frame(number, throttle_thermal_ratio=heat) for number in range(3)])

        state = farm_state(FARM, verdicts)

        assert state.cards[5].state == "ok"
        assert state.cards[5].evidence[0].values == {"host": "node-1"}
        assert state.findings[0].cards == ["GPU-4", "GPU-5", "GPU-6", "GPU-7"]
        assert "4 cards of the node" in state.findings[0].evidence[0].text

    def test_a_farm_before_its_first_frame_has_no_cards(self) -> None:
        """And no time."""
        state = farm_state((), None)

        assert (state.cards, state.time) == ([], None)


def test_the_worst_share_of_a_component_is_delivered() -> None:
    """Two findings about memory do not average."""
    shrunk: dict[str, Any] = {
        "memory_total_bytes": np.where(np.arange(16) == SICK, 6.0, 24.0) * 2**30
    }
    verdicts = judged([frame(number, cards(16), **shrunk) for number in range(3)])

    assert card_verdict(FARM[SICK], SICK, verdicts).delivered == {"memory": 0.25}


TERA = 1e12


def capacity_by(
    by: str,
    roster: Roster = FARM,
    rows: Sequence[int] | None = None,
    batches: Mapping[str, str] | None = None,
    expected: Mapping[str, float] = RTX_3090,
    frames: int = 1,
    **changed: Any,
) -> list[CapacityRow]:
    """Capacity of a farm after some frames in which these values were as they are."""
    facts = facts_of(len(roster), **expected)
    seen = [frame(number, roster, **changed) for number in range(frames)]
    amounts = capacity_of(seen[-1], facts, judged(seen), LastHeard.nothing().after(seen[-1]))
    groups = {"batch": batches or {}}
    return capacity_rows(by, roster, range(len(roster)) if rows is None else rows, amounts, groups)


class TestCapacity:
    """Amounts in words."""

    def test_a_farm_in_which_nothing_is_missing(self) -> None:
        """It gives what is expected, in FLOP/s and as so many A100."""
        (row,) = capacity_by("farm")

        assert (row.scope, row.name, row.cards, row.judged_ratio) == ("farm", "", 16, 1.0)
        assert row.compute.delivered == row.compute.expected == 16 * 71 * TERA
        assert row.compute.delivered_a100_equivalents == pytest.approx(16 * 71 / 312)
        assert row.compute.missing_by_cause == {}
        assert (
            row.text == "delivers 3.64 of 3.64 A100 equivalents of compute; 100 % of cards judged"
        )

    def test_what_is_missing_is_told_with_its_cause(self) -> None:
        """Of the component that lacks it, and in the sentence."""
        (row,) = capacity_by("farm", frames=9, core_clock_mhz=at(SICK, 1275.0, 1700.0))

        assert row.compute.missing == pytest.approx(0.25 * 71 * TERA)
        assert row.compute.missing_by_cause == {"compute": row.compute.missing}
        assert row.bandwidth.missing == 0
        assert "delivers 3.58 of 3.64" in row.text
        assert "(missing by cause: compute 0.0569)" in row.text

    def test_cards_without_work_are_not_judged_and_not_missing(self) -> None:
        """The share of cards that are judged says how far to trust the rest."""
        (row,) = capacity_by("farm", utilization_ratio=at(range(12), 0.0, 1.0))

        assert (row.judged, row.judged_ratio) == (4, 0.25)
        assert row.compute.unjudged == 12 * 71 * TERA
        assert row.compute.missing == 0
        assert "2.73 not judged" in row.text
        assert row.text.endswith("25 % of cards judged")

    def test_a_farm_of_which_nothing_is_judged_delivers_nobody_knows_what(self) -> None:
        """Not zero."""
        (row,) = capacity_by("farm", **IDLE)

        assert row.compute.delivered is None
        assert row.compute.missing is None
        assert row.text.startswith("should deliver 3.64 A100 equivalents of compute (3.64 not")

    def test_a_farm_of_unknown_models_has_no_figures(self) -> None:
        """Each card is counted as such."""
        (row,) = capacity_by("farm", expected=dict.fromkeys(RTX_3090, math.nan))

        assert (row.unknown_models, row.compute.unknown_cards) == (16, 16)
        assert row.compute.expected is row.compute.delivered is row.compute.by_choice is None
        assert "not known; 100 % of cards judged" in row.text

    def test_limits_lowered_on_purpose_are_a_choice(self) -> None:
        """The farm could do more if its keeper wanted."""
        told = {"power_limit_default_watts": 350.0}

        (row,) = capacity_by("farm", facts=told, power_limit_watts=280.0)

        assert row.compute.default == 16 * 71 * TERA
        assert row.compute.by_choice == pytest.approx(16 * 71 * TERA * (1 - 0.8 ** (1 / 3)))
        assert "less by choice" in row.text

    def test_cards_counted_by_fp32_are_told(self) -> None:
        """A sum of two kinds says so."""
        (row,) = capacity_by("farm", expected={"fp16_flops": math.nan})

        assert row.fp32_cards == 16
        assert "16 cards by fp32" in row.text

    def test_rows_are_in_the_order_in_which_people_count(self) -> None:
        """And what nobody told comes last, under no name."""
        places = [("node-10", "b"), ("node-2", "a"), ("node-2", "")]
        roster = Roster(key(h, r or "0", f"{h}{r}")._replace(rack=r) for h, r in places)

        assert [row.name for row in capacity_by("node", roster)] == ["node-2", "node-10"]
        assert [(row.site, row.name) for row in capacity_by("rack", roster)] == [
            *(("barn", "a"), ("barn", "b"), ("", ""))
        ]

    def test_batches_are_as_the_keeper_named_them(self) -> None:
        """By the identity of the card."""
        found = capacity_by("batch", batches={"GPU-0": "spring", "GPU-1": "spring"})

        assert [(row.name, row.cards) for row in found] == [("spring", 2), ("", 14)]

    def test_models_are_added_up_over_all_nodes(self) -> None:
        """Whatever the site."""
        roster = Roster([*cards(2), *cards(1, model="RTX 3080")])

        found = capacity_by("model", roster)

        assert [(row.name, row.cards) for row in found] == [("RTX 3080", 1), ("RTX 3090", 2)]

    @pytest.mark.parametrize("by", CAPACITY_SCOPES)
    def test_rows_of_each_scope_add_up_to_the_farm(self, by: str) -> None:
        """No card that is spoken of is in two of them, or in none."""
        read = at(SICK, READ_LOST, READ_OK)
        (farm,) = capacity_by("farm", rows=range(1, 16), read=read)

        found = capacity_by(by, rows=range(1, 16), read=read)

        assert sum(row.cards for row in found) == farm.cards == 15
        for name in ("expected", "delivered", "missing"):
            amounts = [getattr(row.compute, name) or 0.0 for row in found]
            assert sum(amounts) > 0
            assert getattr(farm.compute, name) == pytest.approx(sum(amounts))

    def test_a_farm_without_cards_has_no_rows(self) -> None:
        """Nothing to add up."""
        assert capacity_by("farm", Roster()) == []

    def test_figures_are_json(self) -> None:
        """NaN and infinity are none."""
        (row,) = capacity_by("farm", expected={"link_bytes_per_second": math.nan})

        said = msgspec.json.encode(row)

        assert msgspec.json.decode(said, type=CapacityRow) == row
        assert row.link.expected is None
