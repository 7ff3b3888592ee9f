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
