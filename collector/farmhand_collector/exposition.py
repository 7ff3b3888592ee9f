"""Prometheus' text format, version 0.0.4: what `/metrics` is written in."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]
NO_LABELS: Labels = MappingProxyType({})

_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})
_IN_LABEL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Sample(NamedTuple):
    """One value; `suffix` stands after the family's name, as `_sum` of a summary does."""

    value: float
    labels: Labels = NO_LABELS
    suffix: str = ""


class Family(NamedTuple):
    """Samples of one name, which differ by their labels."""

    name: str
    kind: Literal["counter", "gauge", "summary"]
    help: str
    samples: Sequence[Sample]


def gauge(name: str, help_text: str, *samples: Sample) -> Family:
    """A value that goes up and down."""
    return Family(name, "gauge", help_text, samples)


def counter(name: str, help_text: str, *samples: Sample) -> Family:
    """A value that only grows, and begins at zero when the collector does."""
    return Family(name, "counter", help_text, samples)


def exposition(families: Iterable[Family]) -> str:
    """All families as one page; one without samples is left out.

    Names are ours and taken as they are; help and the values of labels may be any text.
    """
    return "".join(line for family in families if family.samples for line in _lines(family))


def _lines(family: Family) -> Iterable[str]:
    yield f"# HELP {family.name} {family.help.translate(_IN_HELP)}\n"
    yield f"# TYPE {family.name} {family.kind}\n"
    for sample in family.samples:
        yield f"{family.name}{sample.suffix}{_labels(sample.labels)} {_number(sample.value)}\n"


def _labels(labels: Labels) -> str:
    told = ",".join([f'{name}="{_escaped(value)}"' for name, value in labels.items()])
    return f"{{{told}}}" if told else ""


@lru_cache(maxsize=2**15)
def _escaped(value: str) -> str:
    """The same few names stand in thousands of lines."""
    return value.translate(_IN_LABEL)


def _number(value: float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'+' if value > 0 else '-'}Inf"
    return repr(value)
