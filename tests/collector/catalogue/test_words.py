"""The farm's short words have a name in every language, and several cards a sentence."""

import tomllib
from importlib.resources import files
from string import Formatter
from typing import Any, get_args

import pytest

from farmhand_collector.capacity.attribution import SCOPES
from farmhand_collector.capacity.detector import ACTIONS, CAUSES, STATE_NAMES, Action, Cause
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.catalogue import words as module
from farmhand_collector.catalogue.words import LANGUAGES, UnknownLanguage, words

TABLES: dict[str, dict[str, dict[str, Any]]] = tomllib.loads(
    files(module.__package__ or "").joinpath("words.toml").read_text(encoding="utf-8")
)
WORDS = [(table, word) for table, entries in TABLES.items() for word in entries]
NAMES = [(table, word) for table, word in WORDS if table != "sentences"]
SENTENCES = sorted(TABLES["sentences"])
IN_EVERY_LANGUAGE = pytest.mark.parametrize("language", LANGUAGES)


def places(text: str) -> set[tuple[str, str]]:
    """The `{value}` places of a text with their formats."""
    return {(name, spec or "") for _, name, spec, _ in Formatter().parse(text) if name is not None}


class TestTable:
    """The table itself."""

    @pytest.mark.parametrize(("table", "word"), WORDS)
    def test_a_word_has_a_name_in_exactly_our_languages(self, table: str, word: str) -> None:
        """None is left out, and none is empty."""
        names = TABLES[table][word]

        assert tuple(names) == LANGUAGES
        assert all(name.strip() for name in names.values())

    @pytest.mark.parametrize(("table", "word"), NAMES)
    def test_a_name_is_shown_as_it_is(self, table: str, word: str) -> None:
        """A brace would stand in it as one."""
        assert not any("{" in name for name in TABLES[table][word].values())

    @pytest.mark.parametrize("sentence", SENTENCES)
    def test_a_sentence_has_the_same_values_in_every_language(self, sentence: str) -> None:
        """A language that drops one would not say which node."""
        english, *others = (places(TABLES["sentences"][sentence][name]) for name in LANGUAGES)

        assert english
        assert all(other == english for other in others)

    @IN_EVERY_LANGUAGE
    @pytest.mark.parametrize("table", [table for table in TABLES if table != "sentences"])
    def test_two_words_have_two_names(self, table: str, language: str) -> None:
        """What the keeper reads says which it is."""
        names = [names[language] for names in TABLES[table].values()]

        assert len(set(names)) == len(names)


class TestCompleteness:
    """Nothing that the farm can say is without a word, and no word is left over."""

    def test_every_state(self) -> None:
        """Those of the core."""
        assert set(words().states) == set(STATE_NAMES)

    def test_every_cause(self) -> None:
        """Those of detectors and of lists of faults."""
        assert set(words().causes) == set(CAUSES) == set(get_args(Cause))

    def test_every_action(self) -> None:
        """Those of detectors and of lists of faults."""
        assert set(words().actions) == set(ACTIONS) == set(get_args(Action))

    def test_every_scope(self) -> None:
        """The ladder of attribution, from a card on it to what it works on."""
        assert set(words().scopes) == {"card", *SCOPES, "gang", "job"}

    def test_every_scope_that_a_detector_shares(self) -> None:
        """A detector may not blame what has no name."""
        shared = {scope for detector in all_detectors() for scope in detector.shared_by}

        assert shared <= set(words().scopes)

    def test_every_component(self) -> None:
        """What detectors say is delivered in part."""
        delivered = {detector.component for detector in all_detectors()} - {None}

        assert delivered <= set(words().components)
        assert set(words().components) == {"compute", "bandwidth", "memory", "link"}


class TestSentences:
    """What is said of several cards at once."""

    @pytest.mark.parametrize(
        ("language", "sentence"),
        [
            ("en", "Explained by a finding about power group psu-2."),
            ("zh", "由更大范围的问题引起：电源组 psu-2。"),
            ("ko", "더 넓은 범위의 문제 때문입니다: 전원 그룹 psu-2."),
        ],
    )
    def test_a_wider_finding_explains(self, language: str, sentence: str) -> None:
        """The card is told whose fault it is."""
        assert words(language).explained("power_group", "psu-2") == sentence

    @IN_EVERY_LANGUAGE
    def test_a_thing_without_a_name_leaves_no_gap(self, language: str) -> None:
        """A farm of one site need not name it."""
        told = words(language)

        assert f"{told.scope('site')}{'。' if language == 'zh' else '.'}" in told.explained(
            "site", ""
        )

    @pytest.mark.parametrize(
        ("language", "sentence"),
        [
            ("en", "4 cards of the node show it together."),
            ("zh", "同一节点有 4 张卡同时出现这个问题。"),
            ("ko", "같은 노드의 카드 4장에서 함께 나타납니다."),
        ],
    )
    def test_cards_show_it_together(self, language: str, sentence: str) -> None:
        """The wider finding is told how many."""
        assert words(language).shared(4, "node") == sentence

    @pytest.mark.parametrize(
        ("language", "sentence"),
        [
            ("en", "They wait for the card in node-07 slot-3."),
            ("zh", "它们都在等 node-07 slot-3 的卡。"),
            ("ko", "모두 node-07 slot-3의 카드를 기다립니다."),
        ],
    )
    def test_a_gang_waits_for_one_card(self, language: str, sentence: str) -> None:
        """The place says where the hands go."""
        assert words(language).awaited("node-07", "slot-3") == sentence

    @IN_EVERY_LANGUAGE
    def test_a_name_with_braces_stands_as_it_is(self, language: str) -> None:
        """Host and job names come from outside and are no templates."""
        told = words(language)

        assert "{0.__class__}" in told.explained("job", "{0.__class__}")
        assert "{host}" in told.awaited("{host}", "{slot}")


def test_english_is_what_is_spoken_unless_asked() -> None:
    """Scripts that read the text do not change with a farm's language."""
    assert words() == words("en")


@IN_EVERY_LANGUAGE
def test_words_are_those_of_the_language(language: str) -> None:
    """Names come from the column of the language asked for."""
    assert words(language).actions["repaste"] == TABLES["actions"]["repaste"][language]


@pytest.mark.parametrize("language", ["", "fr", "EN", "zh-CN", "en\nzh"])
def test_an_unknown_language_is_one_clear_error(language: str) -> None:
    """The one line says what was given and what is expected."""
    with pytest.raises(UnknownLanguage) as error:
        words(language)

    assert str(error.value) == f"language {language!r}: expected one of en, zh, ko"
    assert "\n" not in str(error.value)
