"""Verdicts told in other languages."""

from typing import Any

import pytest

from farmhand_collector.catalogue.words import LANGUAGES, UnknownLanguage
from farmhand_collector.report import farm_state
from farmhand_collector.translation import in_language
from farmhand_collector.wire import FarmState
from tests.collector.capacity.farm import FARM, FAULTS, SICK, at, frame, judged


def texts(state: FarmState) -> list[str]:
    """All sentences."""
    said = [shown.text for card in state.cards for shown in card.evidence]
    return said + [shown.text for finding in state.findings for shown in finding.evidence]


@pytest.fixture
def farm() -> FarmState:
    """A hot node and a card that is lost."""
    heat: dict[str, Any] = {"throttle_thermal_ratio": at(range(8, 12), 0.5, 0.0)}
    frames = [frame(0), *(frame(n, **heat, **FAULTS["lost"]) for n in range(1, 5))]
    return farm_state(FARM, judged(frames))


def test_english_is_what_is_said_anyway(farm: FarmState) -> None:
    """Every kind of sentence comes out the same when it is told again."""
    assert in_language(farm, "en") == farm
    assert len({finding.scope for finding in farm.findings}) == 1


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_another_language_says_the_same_of_the_same_cards(farm: FarmState, language: str) -> None:
    """Only the sentences differ, and none stays English."""
    told = in_language(farm, language)

    assert [card.state for card in told.cards] == [card.state for card in farm.cards]
    assert not set(texts(told)) & set(texts(farm))
    assert told.cards[SICK].evidence[0].values == farm.cards[SICK].evidence[0].values


def test_an_idle_card_is_told_too() -> None:
    """It is not judged, and says so."""
    state = farm_state(FARM, judged([frame(0, utilization_ratio=0.0)]))

    assert not set(texts(in_language(state, "zh"))) & set(texts(state))


def test_a_language_that_nobody_wrote_is_refused(farm: FarmState) -> None:
    """In one line."""
    with pytest.raises(UnknownLanguage, match="expected one of en, zh, ko"):
        in_language(farm, "fr")
