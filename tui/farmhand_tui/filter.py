"""The filter of the terminal: which cards are shown.

A filter is a list of terms with spaces between, all of which must hold:

* `word` or `"two words"`: found in card, host, slot, model, state or cause, in any case;
* `!word`: not found there;
* `field>number`, also `>= < <= = !=`: a reading compares so; a card without it does not match;
* `field=word` and `field!=word`: a text such as `host`, `state` or `model` is so, in any case.

Short names are `temp`, `power`, `util` and `clock`. A ratio may be written 0.8, 80 or 80%.
"""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from farmhand_collector.wire import NUMBER_COLUMNS, TEXT_COLUMNS

from .escape import safe
from .farm import COLUMNS

SEARCHED = ("card", "host", "slot", "model", "state", "cause")

ALIASES: Mapping[str, str] = {
    "temp": "core_temperature_celsius",
    "power": "power_watts",
    "util": "utilization_ratio",
    "clock": "core_clock_mhz",
}

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}

_TERM = re.compile(r'(?P<not>!?)(?:"(?P<quoted>[^"]*)(?P<end>"?)|(?P<word>\S+))')
_COMPARISON = re.compile(r"(?P<field>[^<>=!]*)(?P<operator>>=|<=|!=|>|<|=)(?P<number>.*)")

FIELDS = tuple(name for name in COLUMNS if name in NUMBER_COLUMNS)
"""Readings that can be compared."""

_RATIOS = frozenset({"delivered"})

Test = Callable[[Mapping[str, Any]], bool]


class FilterError(ValueError):
    """A filter cannot be read; `column` counts from 1."""

    def __init__(self, column: int, what: str) -> None:
        super().__init__(f"column {column}: {what}")
        self.column = column


class Filter(NamedTuple):
    """A parsed filter; the empty one matches every card."""

    text: str = ""
    tests: tuple[Test, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Filter":
        """Read a filter.

        Raises:
            FilterError: A quote is not closed, a field is unknown, or no number follows.

        """
        return cls(text.strip(), tuple(_test(term) for term in _TERM.finditer(text)))

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether all terms hold for a card's values by column."""
        return all(test(row) for test in self.tests)

    def __bool__(self) -> bool:
        return bool(self.tests)


def _test(term: re.Match[str]) -> Test:
    word = term["word"]
    if word is None:
        if not term["end"]:
            raise FilterError(term.start() + 1, 'a " is not closed')
        return _search(term["quoted"], wanted=not term["not"])
    comparison = _COMPARISON.fullmatch(word)
    if comparison is not None and not term["not"]:
        return _compare(comparison, term.start("word"))
    return _search(word, wanted=not term["not"])


def _search(word: str, *, wanted: bool) -> Test:
    needle = word.casefold()

    def found(row: Mapping[str, Any]) -> bool:
        return any(needle in str(row.get(name) or "").casefold() for name in SEARCHED) is wanted

    return found


def _compare(comparison: re.Match[str], offset: int) -> Test:
    name = comparison["field"]
    field = ALIASES.get(name, name)
    if field in TEXT_COLUMNS and comparison["operator"] in ("=", "!="):
        return _equal(field, comparison["number"], wanted=comparison["operator"] == "=")
    if field not in FIELDS:
        raise FilterError(offset + 1, f"no reading is called '{safe(name, 40)}'")
    bound = _number(comparison["number"], offset + comparison.start("number") + 1)
    if (field.endswith("_ratio") or field in _RATIOS) and bound > 1:
        bound /= 100
    compares = _OPERATORS[comparison["operator"]]

    def holds(row: Mapping[str, Any]) -> bool:
        value = row.get(field)
        return value is not None and compares(value, bound)

    return holds


def _equal(field: str, word: str, *, wanted: bool) -> Test:
    needle = word.casefold()

    def holds(row: Mapping[str, Any]) -> bool:
        return (str(row.get(field) or "").casefold() == needle) is wanted

    return holds


def _number(text: str, column: int) -> float:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise FilterError(column, "a number is expected here") from None
