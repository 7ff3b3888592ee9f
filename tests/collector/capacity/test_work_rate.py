"""Slow work: by card, by node, and who is compared with whom."""

import numpy as np

from farmhand_collector.capacity.detector import NOT_JUDGED, OK
from farmhand_collector.capacity.detectors.work_rate import DETECTOR
from farmhand_collector.capacity.frame import Frame
from tests.collector.capacity.farm import FARM, SICK, Array, at, cards, frame, scored, working


def levels(*frames: Frame) -> list[int]:
    """What the last frame gives."""
    level: list[int] = scored(DETECTOR, frames).scores[-1].level.tolist()
    return level


def slow(level: list[int]) -> list[int]:
    """Cards that are slow."""
    return [card for card, of_card in enumerate(level) if of_card > OK]


def spread(sigma: float, n: int = len(FARM)) -> Array:
    """Rates around a hundred."""
    noise: Array = 100 * (1 + sigma * np.random.default_rng(4).standard_normal(n).clip(-2, 2))
    return noise


def test_a_card_a_fifth_slower_is_told() -> None:
    """Its sensors may show nothing."""
    assert slow(levels(frame(0, work=working(at(SICK, 80.0, 100.0))))) == [SICK]


def test_cards_are_not_alike_by_eight_percent() -> None:
    """That is how healthy ones of one kind spread."""
    rates = at(SICK, 92.0, 100.0) * spread(0.02) / 100

    assert slow(levels(frame(0, work=working(rates)))) == []


def test_beside_cards_that_agree_very_well_half_as_much_is_told() -> None:
    """There is work at which cards do not differ."""
    farm = cards(32)
    rates = at(SICK, 93.5, 100.0, n=32) * spread(0.001, 32) / 100

    assert slow(levels(frame(0, farm, work=working(rates, n=32)))) == [SICK]


def test_a_node_six_percent_slower_is_told_with_all_its_cards() -> None:
    """Each alone would pass."""
    rates = at(range(4, 8), 94.0, 100.0) * spread(0.003) / 100

    assert slow(levels(frame(0, work=working(rates)))) == [4, 5, 6, 7]


def test_jobs_are_not_compared_with_each_other() -> None:
    """One does less a second than the other, and is not slower."""
    half = np.arange(len(FARM)) < 8
    rates, jobs = np.where(half, 100.0, 20.0), np.where(half, 1, 2)

    assert levels(frame(0, work=working(rates, jobs))) == [OK] * len(FARM)


def test_a_job_on_few_cards_is_not_judged() -> None:
    """Two cards differ: either may be the slow one."""
    jobs = np.array([1, 1, *[2] * 14])

    level = levels(frame(0, work=working(at(1, 50.0, 100.0), jobs)))

    assert level[:2] == [NOT_JUDGED] * 2


def test_work_without_a_job_says_nothing() -> None:
    """Nobody knows what a hundred a second are a hundred of."""
    assert set(levels(frame(0, work=working(at(SICK, 50.0, 100.0), 0)))) == {NOT_JUDGED}


def test_jobs_that_run_one_after_the_other_are_compared() -> None:
    """Runs on a shared machine come a few cards at a time."""
    first = at(range(8), 100.0, np.nan)
    second = at(SICK + 5, 70.0, np.nan)

    level = levels(frame(0, work=working(first)), frame(1, work=working(second)))

    assert slow(level) == [SICK + 5]


def test_cards_of_another_model_in_the_job_are_no_peers() -> None:
    """A slower model is slower."""
    mixed = cards(8) + cards(8, model="RTX 3060")
    roster = type(FARM)(key._replace(host=f"{key.model} {key.host}") for key in mixed)
    rates = np.where(np.arange(16) < 8, 100.0, 40.0)

    assert slow(levels(frame(0, roster, work=working(rates)))) == []


# --- what is by choice --------------------------------------------------------------------------

CAPPED = [4, 5, 6, 7]


def capped(mhz: float) -> Array:
    """A clock that the keeper gave to one node."""
    return at(CAPPED, mhz, 1700.0)


def test_a_node_whose_clocks_are_capped_may_be_slower_by_as_much() -> None:
    """The rate goes with the clock at most."""
    rates = at(CAPPED, 82.0, 100.0)

    assert slow(levels(frame(0, work=working(rates), core_clock_mhz=capped(1360.0)))) == []


def test_a_capped_card_that_is_slower_still_is_told() -> None:
    """A cap of a fifth does not explain half."""
    rates = at(CAPPED, 82.0, 100.0)
    rates[SICK] = 50.0

    assert slow(levels(frame(0, work=working(rates), core_clock_mhz=capped(1360.0)))) == [SICK]


def test_memory_bound_work_on_capped_cards_makes_no_others_look_slow() -> None:
    """They lose less than the cap takes, so they are no measure."""
    rates = at(CAPPED, 98.0, 100.0)

    assert slow(levels(frame(0, work=working(rates), core_clock_mhz=capped(1360.0)))) == []


def test_a_gang_over_two_nodes_waits_for_the_capped_one() -> None:
    """Its other cards run at their own clocks, and get on no faster."""
    rates = at(range(8), 82.0, 100.0)
    gangs = np.where(np.arange(16) < 8, 1, 2)

    level = levels(
        frame(0, work=working(rates, gang=gangs), core_clock_mhz=capped(1360.0)),
    )

    assert slow(level) == []


def test_a_card_of_a_gang_that_tells_no_limit_takes_nothing_from_the_others() -> None:
    """Its limit is unknown, not another."""
    limits = at(SICK, np.nan, 350.0)
    gangs = np.where(np.arange(16) < 8, 1, 2)

    level = levels(frame(0, work=working(100.0, gang=gangs), power_limit_watts=limits))

    assert slow(level) == []


# --- what is asked ------------------------------------------------------------------------------


def test_a_card_that_is_asked_for_less_does_less() -> None:
    """As much in its busy time as the others do in theirs."""
    rates, busy = at(SICK, 75.0, 100.0), at(SICK, 0.6, 0.8)

    assert slow(levels(frame(0, work=working(rates), utilization_ratio=busy))) == []


def test_a_card_that_is_as_busy_and_does_less_is_slow() -> None:
    """Requests wait for it."""
    rates, busy = at(SICK, 75.0, 100.0), at(SICK, 0.85, 0.8)

    assert slow(levels(frame(0, work=working(rates), utilization_ratio=busy))) == [SICK]


def test_a_rank_with_more_to_do_is_not_slow() -> None:
    """The others of its gang wait for it, and get on as it does."""
    busy = at(SICK, 1.0, 0.7)

    assert slow(levels(frame(0, work=working(100.0, gang=1), utilization_ratio=busy))) == []
