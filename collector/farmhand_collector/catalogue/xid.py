"""What NVIDIA's error numbers (XIDs) say about a card, and when they say it.

An XID that belongs to the application blames no board by itself: only repeats on one card do.
"""

import csv
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import msgspec

from farmhand_collector.capacity.detector import Action, Cause

BURST_SECONDS = 180.0
"""Events of one code on one card within this time are one occurrence (NVSentinel)."""
HOUR_SECONDS = 3600.0


class Severity(StrEnum):
    """How bad an event is for its card; the last three are states of a card."""

    IGNORE = "ignore"
    """Kept in the history and counted, nothing more."""
    WATCH = "watch"
    DEGRADED = "degraded"
    FAILING = "failing"


class FaultKind(StrEnum):
    """What an event is about."""

    APPLICATION = "application"
    MEMORY = "memory"
    HARDWARE = "hardware"
    DRIVER = "driver"
    LINK = "link"
    THERMAL = "thermal"
    POWER = "power"
    INFO = "info"


class Repeat(msgspec.Struct, frozen=True):
    """When repeats on one card mean more than one event does, and what they mean.

    `count` occurrences within `within_seconds`, during at least `jobs` different jobs.
    """

    count: int
    within_seconds: float
    jobs: int
    severity: Severity
    cause: Cause
    action: Action


class Fault(msgspec.Struct, frozen=True):
    """One code of a vendor's list: what a single event means, and what repeats mean."""

    code: str
    name: str
    kind: FaultKind
    severity: Severity
    cause: Cause
    action: Action
    source: str
    repeat: Repeat | None = None


UNLISTED_XID = Fault(
    code="",
    name="unlisted XID",
    kind=FaultKind.DRIVER,
    severity=Severity.WATCH,
    cause="driver",
    action="look-at-node",
    source="NVSentinel: an unlisted code is one to ask about",
)
"""What is said of a code that the catalogue does not hold."""


@cache
def xids() -> Mapping[str, Fault]:
    """All listed XIDs by code, as `card_event.code` writes it."""
    return MappingProxyType({fault.code: fault for fault in read_faults("xid.csv")})


def xid(code: str) -> Fault:
    """What is known of a code, listed or not."""
    return xids().get(code) or msgspec.structs.replace(UNLISTED_XID, code=code)


# --- tables of faults ----------------------------------------------------------------------------


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    """One line of a table of faults; `codes` are one or more, `39-41` being a span of numbers."""

    codes: str
    name: str
    kind: FaultKind
    severity: Severity
    cause: Cause
    action: Action
    source: str
    repeat_count: int = 0
    repeat_hours: float = 0.0
    repeat_jobs: int = 1
    repeat_severity: Severity | None = None
    repeat_cause: Cause | None = None
    repeat_action: Action | None = None


def read_faults(name: str) -> Iterator[Fault]:
    """Faults of a table of this package, one for each code.

    Raises:
        msgspec.ValidationError: a line holds something unknown, or lacks a column.
    """
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    for line in csv.DictReader(text.splitlines()):
        given = {column: value for column, value in line.items() if value}
        row = msgspec.convert(given, _Row, strict=False)
        for code in _codes(row.codes):
            yield Fault(
                code=code,
                name=row.name,
                kind=row.kind,
                severity=row.severity,
                cause=row.cause,
                action=row.action,
                source=row.source,
                repeat=_repeat(row),
            )


def _codes(text: str) -> Iterator[str]:
    for part in text.split():
        first, dash, last = part.partition("-")
        if dash:
            yield from map(str, range(int(first), int(last) + 1))
        else:
            yield part


def _repeat(row: _Row) -> Repeat | None:
    if not row.repeat_count:
        return None
    return Repeat(
        count=row.repeat_count,
        within_seconds=row.repeat_hours * HOUR_SECONDS,
        jobs=row.repeat_jobs,
        severity=row.repeat_severity or row.severity,
        cause=row.repeat_cause or row.cause,
        action=row.repeat_action or row.action,
    )
