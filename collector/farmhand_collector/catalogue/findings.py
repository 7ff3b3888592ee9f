"""What each finding means in words, and what the keeper's hands do about it.

One file in `meanings/` per finding, named by it, with a table for each language.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import msgspec

from farmhand_collector.catalogue.words import known_language


class Meaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One finding in one language.

    `text` is a sentence with `{value}` places; `brief` stands in where a value is not known.
    """

    title: str
    text: str
    brief: str
    steps: tuple[str, ...]

    def sentence(self, values: Mapping[str, Any]) -> str:
        """The sentence with its values filled in."""
        try:
            return self.text.format_map(values)
        except (KeyError, ValueError, TypeError):
            return self.brief


@cache
def meanings(language: str = "en") -> Mapping[str, Meaning]:
    """All findings of the catalogue by id.

    Raises:
        UnknownLanguage: the catalogue is not written in it.
    """
    known_language(language)
    folder = files(__package__).joinpath("meanings")
    found = sorted(folder.iterdir(), key=lambda file: file.name)
    return MappingProxyType(
        {
            file.name.removesuffix(".toml"): _meaning(file.read_text(encoding="utf-8"), language)
            for file in found
            if file.name.endswith(".toml")
        }
    )


def _meaning(text: str, language: str) -> Meaning:
    return msgspec.convert(tomllib.loads(text)[language], Meaning)
