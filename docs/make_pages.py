"""Write the pages that are made from tables of the code, so that the two cannot drift apart."""

import sys
from collections.abc import Mapping
from pathlib import Path

from farmhand_agent.reading import SCHEMA, TAGS, Kind, fields_of
from farmhand_collector.capacity.detector import SPAN_NS, Detector
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.catalogue.findings import Meaning, meanings
from farmhand_collector.catalogue.words import LANGUAGES, words

DOCS = Path(__file__).parent

_READINGS = f"""\
# Readings

<!-- Made by `make docs` from agent/farmhand_agent/reading.py: change that file, not this one. -->

This is the contract between agents, stores and collector: schema {SCHEMA}, line protocol.

* Numbers are floats always. A value that a card did not give is left out, never written as zero.
* Identity is measurement, tags and time stamp: sending a reading again changes nothing.
* Time stamps are wall-clock nanoseconds taken when the window was closed.
* `slot` is the physical place: the board's slot label where the firmware gives one, else root port
  and bridge chain. `card` is the vendor's UUID, `unidentified` where a slot shows none.
* Readers pass over measurements and fields that they do not know.

How the samples of a window combine follows from the kind of a field:

| kind | over a window |
|---|---|
| gauge | mean, weighted by length |
| peak | largest value |
| counter | last value; differences count, resets are allowed |
| flag | 1 if it was ever 1 |
| text | last value |
"""


_FINDINGS = """\
# Findings

<!-- Made by `make docs` from the catalogue of the collector: change that, not this page. -->

What each finding means, and what the keeper's hands do about it. A card's findings are listed in
the order in which they explain one another: the first names the cause. A detector may name a
nearer cause and action than those given here where its evidence shows one.
"""

_WORDS = """\
## Words

What the keeper is told, by the words of the API.
"""


def readings_page() -> str:
    """The contract of readings."""
    return "\n".join([_READINGS, *(_measurement(measurement) for measurement in TAGS)])


def _measurement(measurement: str) -> str:
    tags = ", ".join(f"`{tag}`" for tag in TAGS[measurement])
    rows = [
        f"| `{f.name}` | {f.kind} | {f.unit or ('text' if f.kind is Kind.TEXT else 'count')} "
        f"| {f.meaning} |"
        for f in fields_of(measurement).values()
    ]
    head = ["| field | kind | unit | meaning |", "|---|---|---|---|"]
    return "\n".join([f"## `{measurement}`", "", f"Tags: {tags}.", "", *head, *rows, ""])


def findings_page() -> str:
    """The findings of the catalogue, and the words in which they are told."""
    detectors = {detector.name: detector for detector in all_detectors()}
    known = meanings()
    order = [name for name in detectors if name in known]
    order += [name for name in known if name not in detectors]
    entries = (_finding(name, known[name], detectors.get(name)) for name in order)
    return "\n".join([_FINDINGS, *entries, _WORDS, *_tables()])


def _finding(name: str, meaning: Meaning, detector: Detector | None) -> str:
    steps = [f"{number}. {step}" for number, step in enumerate(meaning.steps, start=1)]
    verdict = _verdict(detector) if detector else []
    lines = [f"## `{name}`: {meaning.title}", "", meaning.brief, *verdict, "", *steps, ""]
    return "\n".join(lines)


def _verdict(detector: Detector) -> list[str]:
    told = f"Cause `{detector.cause}`, action `{detector.action}`"
    told += f", component `{detector.component}`." if detector.component else "."
    length = f" of {SPAN_NS // (60 * 10**9)} minutes" if detector.per_span else ""
    after, until = detector.raise_after, detector.clear_after
    row = f"windows{length} in a row" if after > 1 else f"window{length}"
    return ["", told, f"Raised after {after} judged {row}, cleared after {until}."]


def _tables() -> list[str]:
    told = [words(language) for language in LANGUAGES]
    return [
        _table("action", [one.actions for one in told]),
        _table("cause", [one.causes for one in told]),
        _table("component", [one.components for one in told]),
        _table("state", [one.states for one in told]),
        _table("scope", [one.scopes for one in told]),
    ]


def _table(head: str, told: list[Mapping[str, str]]) -> str:
    rows = [f"| `{word}` | {' | '.join(names[word] for names in told)} |" for word in told[0]]
    return "\n".join([f"| {head} | English | 中文 | 한국어 |", "|---|---|---|---|", *rows, ""])


PAGES = {"readings.md": readings_page, "findings.md": findings_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        DOCS.joinpath(name).write_text(page(), encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")
