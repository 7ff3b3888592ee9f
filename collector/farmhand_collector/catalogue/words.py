"""The farm's short words as the keeper says them, and what is said of several cards at once."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec

LANGUAGES = ("en", "zh", "ko")
"""English, simplified Chinese, Korean."""


class UnknownLanguage(ValueError):
    """The catalogue is not written in a language; the message says in one line which it is in."""


def known_language(language: str) -> str:
    """The language, which the catalogue is written in.

    Raises:
        UnknownLanguage: it is not.
    """
    if language not in LANGUAGES:
        raise UnknownLanguage(f"language {language!r}: expected one of {', '.join(LANGUAGES)}")
    return language


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names by the words of the wire, and sentences with `{value}` places, in one language."""

    states: Mapping[str, str]
    causes: Mapping[str, str]
    components: Mapping[str, str]
    actions: Mapping[str, str]
    scopes: Mapping[str, str]
    sentences: Mapping[str, str]

    def scope(self, scope: str) -> str:
        """What a scope is called."""
        return self.scopes.get(scope, scope)

    def explained(self, scope: str, name: str) -> str:
        """What a card shows is a wider finding's fault; the thing may be without a name."""
        subject = f"{self.scope(scope)} {name}".rstrip()
        return self.sentences["explained"].format(subject=subject)

    def shared(self, count: int, scope: str) -> str:
        """So many cards of a scope show the same."""
        return self.sentences["shared"].format(count=count, scope=self.scope(scope))

    def awaited(self, host: str, slot: str) -> str:
        """The others of a gang wait for the card of this place."""
        return self.sentences["awaited"].format(host=host, slot=slot)


@cache
def words(language: str = "en") -> Words:
    """All words in one language.

    Raises:
        UnknownLanguage: the catalogue is not written in it.
    """
    known_language(language)
    text = files(__package__).joinpath("words.toml").read_text(encoding="utf-8")
    tables = {
        table: {word: names[language] for word, names in entries.items()}
        for table, entries in tomllib.loads(text).items()
    }
    return msgspec.convert(tables, Words)
