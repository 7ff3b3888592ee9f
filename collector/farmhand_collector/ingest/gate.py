"""Which tag sets may pass: of the right host, keys of the contract, and not too many in a day."""

from collections import Counter
from collections.abc import Mapping

from farmhand_agent.reading import MAX_TAG_VALUE_CHARACTERS, TAGS, Reading
from farmhand_collector.access import Grant
from farmhand_collector.ingest.limits import Limits

Reason = tuple[str, str]
"""A word to count by, and a message."""


class Gate:
    """Looks at the tags and the size of readings.

    Safe to use from several threads: at worst a few tag sets more pass than told.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._day = 0
        self._seen: set[int] = set()
        self._brought: Counter[str] = Counter()
        """Tag sets of today by the writer that came with them first."""

    def begin(self, day: int) -> None:
        """Start to count anew on a new day, as the store does."""
        if day != self._day:
            self._day, self._seen, self._brought = day, set(), Counter()

    def refuses(self, reading: Reading, grant: Grant) -> Reason | None:
        """Why a reading may not pass; None when it may.

        A measurement that the contract does not know passes if its size is bounded: the store
        passes it over.
        """
        if len(reading.fields) > self._limits.fields:
            return "fields", f"{len(reading.fields)} fields, expected at most {self._limits.fields}"
        expected = TAGS.get(reading.measurement)
        if expected is None:
            return self._oversized(reading.tags)
        if grant.host is not None and reading.tags.get("host") != grant.host:
            # To write the granted host over it would mix the cards of two nodes into one.
            shown = reading.tags.get("host", "")[:MAX_TAG_VALUE_CHARACTERS]
            return "host", f"host {shown!r}, expected {grant.host!r} with this token"
        key = hash((reading.measurement, *reading.tags.items()))
        if key in self._seen:
            return None
        reason = self._foreign(reading, expected) or self._beyond_budget(grant)
        if reason is None:
            self._seen.add(key)
            self._brought[grant.name] += 1
        return reason

    def _oversized(self, tags: Mapping[str, str]) -> Reason | None:
        if len(tags) > self._limits.tags:
            return "tags", f"{len(tags)} tags, expected at most {self._limits.tags}"
        longest = max((len(name.encode()) for name in tags), default=0)
        if longest > self._limits.tag_key_bytes:
            most = self._limits.tag_key_bytes
            return "tags", f"tag key of {longest} bytes, expected at most {most}"
        return None

    def _foreign(self, reading: Reading, expected: tuple[str, ...]) -> Reason | None:
        if reason := self._oversized(reading.tags):
            return reason
        for name, value in reading.tags.items():
            if name not in expected:
                told = f"tag {name!r} of {reading.measurement}, expected {', '.join(expected)}"
                return "tags", told
            if len(value) > MAX_TAG_VALUE_CHARACTERS:
                most = MAX_TAG_VALUE_CHARACTERS
                return "tags", f"tag {name} of {len(value)} characters, expected at most {most}"
        return None

    def _beyond_budget(self, grant: Grant) -> Reason | None:
        if len(self._seen) >= self._limits.series_per_day:
            most = self._limits.series_per_day
            return "series", f"more than {most} different tag sets of the farm in a day"
        if grant.host is not None and self._brought[grant.name] >= self._limits.host_series_per_day:
            most = self._limits.host_series_per_day
            return "series", f"more than {most} different tag sets of a host in a day"
        return None
