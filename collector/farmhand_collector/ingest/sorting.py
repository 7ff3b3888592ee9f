"""Readings of one post: those that are kept, and why the others are not."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.responses import Response

from farmhand_agent.reading import Reading
from farmhand_collector.access import Grant
from farmhand_collector.ingest.gate import Gate
from farmhand_collector.ingest.limits import Limits
from farmhand_collector.ingest.refusal import answer, unavailable

_SECOND_NS = 10**9
_DAY_SECONDS = 86_400
_EARLIEST_SECONDS = 1_577_836_800
"""2020-01-01: no reading is older, and a clock that says so is not set."""


@dataclass(slots=True)
class Sorted:
    """Readings of one post: the good ones, and why the others are refused."""

    good: list[Reading] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    first: str = ""
    """Why the first one is refused."""
    ahead_ns: int | None = None
    """Of the readings of an absurd time the least absurd one: how far its clock is ahead."""

    def refuse(self, number: int, reason: str, message: str) -> None:
        """Count a reading that is not kept, the `number`th of its post."""
        self.first = self.first or f"reading {number}: {message}"
        self.refused[reason] += 1

    def misdated(self, ahead_ns: int) -> None:
        """Remember how far a clock is ahead."""
        if self.ahead_ns is None or abs(ahead_ns) < abs(self.ahead_ns):
            self.ahead_ns = ahead_ns

    @property
    def clock_ahead_seconds(self) -> int | None:
        """By how much the writer's clock seems ahead, where that is all that is wrong."""
        if self.good or self.ahead_ns is None or self.refused.keys() - {"time_past", "time_future"}:
            return None
        return round(self.ahead_ns / _SECOND_NS)


def sort(
    readings: Iterable[Reading],
    unit_ns: int,
    now: float,
    gate: Gate,
    grant: Grant,
    limits: Limits,
) -> Sorted:
    """Part readings into good and refused ones; times are in units of `unit_ns`.

    Raises:
        RefusalError: the clock that says `now` is not set, so no time can be judged by it.
    """
    if now < _EARLIEST_SECONDS:
        raise unavailable("clock", "the collector's own clock is not set", 60)
    oldest = max(now - limits.retention_days * _DAY_SECONDS, _EARLIEST_SECONDS)
    oldest_ns = math.floor(oldest) * _SECOND_NS
    newest_ns = math.ceil(now + limits.future_seconds) * _SECOND_NS
    now_ns = math.floor(now) * _SECOND_NS
    gate.begin(int(now // _DAY_SECONDS))
    result = Sorted()
    for number, reading in enumerate(readings, start=1):
        time_ns = reading.time_ns * unit_ns
        if time_ns < oldest_ns:
            result.refuse(number, "time_past", f"time {time_ns} is before {oldest_ns}")
            result.misdated(time_ns - now_ns)
        elif time_ns > newest_ns:
            result.refuse(number, "time_future", f"time {time_ns} is after {newest_ns}")
            result.misdated(time_ns - now_ns)
        elif reason := gate.refuses(reading, grant):
            result.refuse(number, *reason)
        else:
            result.good.append(reading if unit_ns == 1 else reading._replace(time_ns=time_ns))
    return result


def told(result: Sorted) -> Response:
    """The answer to a post of which some readings are refused: 422, so that a sender looks which.

    One whose every time is absurd is told by how much its clock seems wrong. The status is the
    same: an agent dates such readings again by the `Date` of the answer before it gives them up.
    """
    refused = result.refused.total()
    message = f"partial write: {refused} of {refused + len(result.good)} readings refused; "
    more: dict[str, object] = {"refused": dict(result.refused)}
    ahead = result.clock_ahead_seconds
    if ahead is not None:
        way = "ahead of" if ahead > 0 else "behind"
        message += f"the writer's clock seems {abs(ahead)} s {way} the collector's; "
        more["clock_offset_seconds"] = -ahead
    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, message + result.first, more=more)
