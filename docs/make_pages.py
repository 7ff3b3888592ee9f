"""Write the pages that are made from tables of the code, so that the two cannot drift apart."""

import sys
from pathlib import Path

from farmhand_agent.reading import SCHEMA, TAGS, Kind, fields_of
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.catalogue.findings import Meaning, meanings

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
the order in which they explain one another: the first names the cause.
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
    """The findings of the catalogue."""
    return "\n".join([_FINDINGS, *(_finding(*entry) for entry in meanings().items())])


def _finding(name: str, meaning: Meaning) -> str:
    steps = [f"{number}. {step}" for number, step in enumerate(meaning.steps, start=1)]
    lines = [f"## `{name}`: {meaning.title}", "", meaning.brief, *_verdict(name), "", *steps, ""]
    return "\n".join(lines)


def _verdict(name: str) -> list[str]:
    known = {detector.name: detector for detector in all_detectors()}
    if name not in known:
        return []
    detector = known[name]
    told = f"Cause `{detector.cause}`, action `{detector.action}`"
    told += f", component `{detector.component}`." if detector.component else "."
    patience = f"Raised after {detector.raise_after} judged windows in a row, "
    return ["", told, f"{patience}cleared after {detector.clear_after}."]


PAGES = {"readings.md": readings_page, "findings.md": findings_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        DOCS.joinpath(name).write_text(page(), encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")
