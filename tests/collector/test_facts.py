"""What the catalogue says of the cards of a frame."""

import numpy as np
import pytest

from farmhand_collector.capacity.detector import EXPECTED, FAILING
from farmhand_collector.capacity.frame import NO_READING, code_of
from farmhand_collector.facts import UNLISTED, Expectations, catalogue_facts
from tests.collector.capacity.farm import FARM, GIB, cards, frame

UNKNOWN = "Some Card"


def expected(seen: object, name: str) -> list[float]:
    column: list[float] = seen.expected[name].tolist()  # type: ignore[attr-defined]
    return column


def test_a_known_card_is_expected_to_give_what_it_is_made_for() -> None:
    """By its name and memory."""
    seen = Expectations(catalogue_facts()).of(frame(0, cards(2, model="GeForce RTX 3090")))

    assert seen.of_cards("memory_bandwidth_bytes_per_second", 2) == pytest.approx(936e9, rel=0.01)
    assert set(seen.expected) == set(EXPECTED)


def test_a_reworked_card_is_told_by_its_memory() -> None:
    """More memory, the same chip."""
    facts = {"memory_total_bytes": 22 * GIB}
    roster = cards(1, model="GeForce RTX 2080 Ti")

    seen = Expectations(catalogue_facts()).of(
        frame(0, roster, facts=facts, memory_total_bytes=22 * GIB)
    )

    assert seen.of_cards("memory_bytes", 1)[0] == pytest.approx(22 * GIB, rel=0.03)


def test_an_unknown_card_is_computed_from_what_it_says() -> None:
    """Two transfers a clock, over the width of its bus."""
    facts = {"memory_clock_max_mhz": 9000.0, "memory_bus_bits": 256.0}

    seen = Expectations(catalogue_facts()).of(frame(0, cards(1, model=UNKNOWN), facts=facts))

    bandwidth = seen.of_cards("memory_bandwidth_bytes_per_second", 1)[0]
    assert bandwidth == pytest.approx(2 * 9000e6 * 256 / 8)


def test_a_card_of_which_nothing_is_known_has_no_expectation() -> None:
    """Not zero."""
    seen = Expectations(catalogue_facts()).of(frame(0, cards(1, model=UNKNOWN)))

    assert np.isnan(seen.of_cards("fp16_flops", 1)[0])


def test_a_card_that_falls_silent_is_still_the_card_that_it_was() -> None:
    """And is not matched anew by what it does not say."""
    expectations = Expectations(catalogue_facts())
    roster = cards(1, model="GeForce RTX 3080")
    before = expectations.of(frame(0, roster, memory_total_bytes=12 * GIB))

    after = expectations.of(frame(1, roster, read=NO_READING))

    assert after.of_cards("memory_bytes", 1) == before.of_cards("memory_bytes", 1)


def test_cards_that_join_are_matched_and_the_others_are_left() -> None:
    """What is known of them stays."""
    expectations = Expectations(catalogue_facts())
    few = expectations.of(frame(0, cards(4, model="GeForce RTX 3090")))

    more = expectations.of(frame(1, cards(6, model="GeForce RTX 3090")))

    assert len(few.of_cards("fp32_flops", 4)) == 4
    assert not np.isnan(more.of_cards("fp32_flops", 6)).any()


def test_a_mining_card_is_taken_for_locked() -> None:
    """Nothing tells whether it was unlocked."""
    seen = Expectations(catalogue_facts()).of(
        frame(0, cards(1, model="CMP 50HX"), memory_total_bytes=10 * GIB)
    )

    assert seen.of_cards("locked", 1)[0] == 1.0


def test_a_device_id_tells_cards_of_one_name_apart() -> None:
    """It stands in a frame as a number."""
    facts = {"device_id": float(code_of("10de:2184"))}

    seen = Expectations(catalogue_facts()).of(
        frame(0, cards(1, model="Graphics Device"), facts=facts, memory_total_bytes=6 * GIB)
    )

    assert not np.isnan(seen.of_cards("fp32_flops", 1)[0])


def test_events_have_rules() -> None:
    """A code of no list has one too."""
    xids = catalogue_facts().xids

    assert max(rule.level for rule in xids["64"]) == FAILING
    assert all(rule.times > 1 for rule in xids["13"])
    assert xids[UNLISTED]
    assert len(FARM) == 16
