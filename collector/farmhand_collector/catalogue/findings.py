"""What each finding means in words, and what the keeper's hands do about it."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec


class Meaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One finding in one language.

    `text` is a sentence with `{value}` places; `brief` stands in where a value is not known.
    """

    title: str
    text: str
    brief: str
    steps: list[str]

    def sentence(self, values: Mapping[str, Any]) -> str:
        """The sentence with its values filled in."""
        try:
            return self.text.format_map(values)
        except (KeyError, ValueError, TypeError):
            return self.brief


@cache
def meanings(language: str = "en") -> Mapping[str, Meaning]:
    """All findings of the catalogue by id."""
    text = files(__package__).joinpath("findings.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    return {
        finding: msgspec.convert(languages[language], Meaning)
        for finding, languages in content.items()
    }
