"""Every finding has words, in every language, that say the same."""

import tomllib
from importlib.resources import files
from string import Formatter
from typing import Any

import pytest

from farmhand_collector.capacity.detector import Detector
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.catalogue import findings
from farmhand_collector.catalogue.findings import Meaning, meanings
from farmhand_collector.catalogue.words import LANGUAGES, UnknownLanguage

FILES = {
    file.name.removesuffix(".toml"): file
    for file in files(findings.__package__ or "").joinpath("meanings").iterdir()
}
IN_EVERY_LANGUAGE = pytest.mark.parametrize("language", LANGUAGES)
OF_EVERY_FINDING = pytest.mark.parametrize("name", sorted(FILES))


def places(text: str) -> dict[str, str]:
    """The `{value}` places of a text with their formats."""
    return {name: spec or "" for _, name, spec, _ in Formatter().parse(text) if name is not None}


def samples(meaning: Meaning) -> dict[str, Any]:
    """A value for each place of the sentence: a number where a format wants one."""
    return {
        name: "sample" if spec in ("", "s") else 42 for name, spec in places(meaning.text).items()
    }


@pytest.mark.parametrize("detector", all_detectors(), ids=lambda detector: detector.name)
def test_a_detector_has_a_meaning(detector: Detector) -> None:
    """A finding without words could not be shown to anyone."""
    assert detector.name in meanings()


@OF_EVERY_FINDING
def test_a_file_is_written_in_exactly_our_languages(name: str) -> None:
    """A language that is left out would fail at the keeper who reads it."""
    tables = tomllib.loads(FILES[name].read_text(encoding="utf-8"))

    assert tuple(tables) == LANGUAGES


@OF_EVERY_FINDING
@IN_EVERY_LANGUAGE
def test_a_finding_says_the_same_in_every_language(name: str, language: str) -> None:
    """The same values in the same formats, and as many steps."""
    english, meaning = meanings()[name], meanings(language)[name]

    assert places(meaning.text) == places(english.text)
    assert len(meaning.steps) == len(english.steps)


@OF_EVERY_FINDING
@IN_EVERY_LANGUAGE
def test_a_finding_leaves_nothing_unsaid(name: str, language: str) -> None:
    """Title, sentence, brief and at least one step for the hands."""
    meaning = meanings(language)[name]

    assert meaning.steps
    assert all(map(str.strip, (meaning.title, meaning.text, meaning.brief, *meaning.steps)))


@OF_EVERY_FINDING
@IN_EVERY_LANGUAGE
def test_only_the_sentence_has_places_for_values(name: str, language: str) -> None:
    """The others are shown as they are, and a brace would stand there as one."""
    meaning = meanings(language)[name]

    assert not any("{" in told for told in (meaning.title, meaning.brief, *meaning.steps))


@OF_EVERY_FINDING
@IN_EVERY_LANGUAGE
def test_a_sentence_is_filled_in(name: str, language: str) -> None:
    """Values of the right kind give the sentence itself, not what stands in for it."""
    meaning = meanings(language)[name]
    values = samples(meaning)

    assert meaning.sentence(values) == meaning.text.format_map(values)
    assert "{" not in meaning.sentence(values)


@IN_EVERY_LANGUAGE
def test_the_brief_stands_in_for_a_missing_value(language: str) -> None:
    """A sentence with a hole helps nobody."""
    meaning = meanings(language)["link_width"]

    assert meaning.sentence({"width": 4.0}) == meaning.brief
    assert meaning.sentence({"width": 4.0, "expected_width": None}) == meaning.brief


def test_english_is_what_is_spoken_unless_asked() -> None:
    """Scripts that read the text do not change with a farm's language."""
    assert meanings() == meanings("en")


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("en", "The PCIe link runs at x4 where x16 is expected."),
        ("zh", "PCIe 链路现在是 x4，应为 x16。"),
        ("ko", "PCIe 링크가 현재 x4입니다. 정상은 x16입니다."),
    ],
)
def test_a_language_is_its_own(language: str, sentence: str) -> None:
    """A narrow link in the words of each language."""
    values = {"width": 4.0, "expected_width": 16.0}

    assert meanings(language)["link_width"].sentence(values) == sentence


@pytest.mark.parametrize("language", ["", "fr", "EN", "zh-CN", "../words", "en\nzh"])
def test_an_unknown_language_is_one_clear_error(language: str) -> None:
    """The one line says what was given and what is expected."""
    with pytest.raises(UnknownLanguage) as error:
        meanings(language)

    assert str(error.value) == f"language {language!r}: expected one of en, zh, ko"
    assert "\n" not in str(error.value)
