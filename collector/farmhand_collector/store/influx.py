"""Readings in InfluxDB 1.12 or 2.x: written as line protocol, read by InfluxQL.

InfluxDB knows no order of arrival. A position here is a time: what was given is known by the last
time of each series, and each question reaches back a little, so that a slow clock or a late post
is not missed. What comes later than that is history: it is there for whoever asks for the past,
and judges nobody.
"""

import json
import logging
import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from farmhand_agent.reading import TAGS, Kind, LineError, Reading, Value, fields_of, to_line
from farmhand_collector.block import Block
from farmhand_collector.store import influxql
from farmhand_collector.store.base import READ_LIMIT, StoreError
from farmhand_collector.store.influx_http import Server, Where, refusal, said
from farmhand_collector.store.influx_rows import block_of_table, empty, only, tables

log = logging.getLogger(__name__)

SECOND_NS = 10**9
POLL_SECONDS = 2.5
"""Between two questions for what is new; agents post every ten seconds."""
OVERLAP_SECONDS, WIDE_OVERLAP_SECONDS, WIDE_EVERY_SECONDS = 15.0, 300.0, 60.0
"""How far back each question reaches, and now and then one."""
FUTURE_SECONDS = 300
"""A clock further ahead is refused by the ingest, and not followed here."""
CHECK_SECONDS = 60.0
RETENTION_DAYS = 30
MOST_KNOWN_EVENTS = 100_000
_NEWS = ("card_event", "host_event")
"""Each of these counts whenever it comes; of the others only what is newer than the last."""
_BATCH_LINES = 5_000


class InfluxStore:
    """A database of an InfluxDB server as the place where readings are kept."""

    def __init__(
        self,
        where: Where,
        *,
        retention_days: int = RETENTION_DAYS,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Know a server; nothing is asked of it yet."""
        self._where = where
        self._retention_ns = retention_days * 86_400 * SECOND_NS
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._server = Server(where)
        self._client = InfluxDBClient(
            url=where.url,
            token=where.token or "",
            org=where.org,
            verify_ssl=where.verify_tls,
            ssl_ca_cert=where.ca_file,
            timeout=60_000,
        )
        self._write_api = self._client.write_api(write_options=SYNCHRONOUS)
        self._follower = _Follower()
        self._lock = threading.Lock()
        self._passed_over: Counter[str] = Counter()
        self._next_poll = self._next_wide = self._next_check = 0.0
        self._closed = False

    @property
    def passed_over(self) -> dict[str, int]:
        """Whole `readings` and single `values` that the contract does not know, since the start."""
        return dict(self._passed_over)

    # --- writing

    def write(self, readings: Sequence[Reading]) -> None:
        """Keep readings; see `Store.write`."""
        lines = [line for line in map(self._line, readings) if line]
        for begin in range(0, len(lines), _BATCH_LINES):
            self._post("\n".join(lines[begin : begin + _BATCH_LINES]))

    def _line(self, reading: Reading) -> str | None:
        contract = fields_of(reading.measurement) if reading.measurement in TAGS else {}
        known: dict[str, Value] = {
            name: value
            for name, value in reading.fields.items()
            if name in contract and isinstance(value, str) == (contract[name].kind is Kind.TEXT)
        }
        self._passed_over["values"] += len(reading.fields) - len(known)
        finite = {n: v for n, v in known.items() if isinstance(v, str) or math.isfinite(v)}
        try:
            return to_line(reading._replace(fields=finite))
        except LineError:
            self._passed_over["readings"] += not known
            return None

    def _post(self, lines: str) -> None:
        self._check_open()
        try:
            self._write_api.write(self._where.database, self._where.org, lines.encode())
        except ApiException as error:
            raise refusal(int(error.status or 0), str(error.body or error.reason)) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreError(f"{self._where.url}: {said(error)}") from None

    # --- following

    def readings(self, after: int, limit: int = READ_LIMIT) -> tuple[list[Block], int]:
        """Rows newer than a position, oldest first; see `StoreReader.readings`.

        A position is a time. Once all is read, the server is asked again after a while only.
        """
        with self._lock:
            self._follower.begin(after)
            now = self._clock()
            if now - after > WIDE_OVERLAP_SECONDS * SECOND_NS:
                return self._page(after, now, limit)
            if time.monotonic() < self._next_poll:
                return [], after
            self._next_poll = time.monotonic() + self._poll_seconds
            return self._tail(after, now)

    def _page(self, after: int, now: int, limit: int) -> tuple[list[Block], int]:
        """What comes next in a past that is longer than one question should hold."""
        oldest = max(after + 1, now - self._retention_ns)
        until = now + FUTURE_SECONDS * SECOND_NS
        asked = [influxql.rows(name, oldest, until, limit=limit + 1) for name in TAGS]
        blocks = list(self._asked(asked))
        end = _page_end(blocks, limit)
        if end is not None:
            blocks = [block.take(block.time_ns < end) for block in blocks]
        return self._given(blocks, after)

    def _tail(self, after: int, now: int) -> tuple[list[Block], int]:
        back = OVERLAP_SECONDS
        if time.monotonic() >= self._next_wide:
            self._next_wide = time.monotonic() + WIDE_EVERY_SECONDS
            back = WIDE_OVERLAP_SECONDS
        # A node whose clock runs ahead must not carry the question past the others.
        since = min(after + 1, now) - int(back * SECOND_NS)
        until = now + FUTURE_SECONDS * SECOND_NS
        return self._given(list(self._asked([influxql.rows(n, since, until) for n in TAGS])), after)

    def _given(self, blocks: Sequence[Block], after: int) -> tuple[list[Block], int]:
        new = [block for block in map(self._follower.new_of, blocks) if len(block)]
        return new, max([after, *(int(block.time_ns[-1]) for block in new)])

    # --- asking

    def between(
        self,
        measurement: str,
        since_ns: int,
        until_ns: int,
        tags: Mapping[str, str] | None = None,
        fields: Collection[str] | None = None,
    ) -> Block:
        """Rows of a stretch of time, oldest first; see `StoreReader.between`."""
        since_ns = max(since_ns, self._clock() - self._retention_ns)
        asked = influxql.rows(measurement, since_ns, until_ns, tags=tags, fields=fields)
        for block in self._asked([asked]):
            return only(block, fields)
        return empty(measurement, fields)

    def latest(
        self,
        measurement: str,
        tags: Mapping[str, str] | None = None,
        fields: Collection[str] | None = None,
        since_ns: int = 0,
    ) -> Block:
        """The last row of each series; see `StoreReader.latest`."""
        # Without a bound a server looks through all that it ever kept.
        since_ns = max(since_ns, self._clock() - self._retention_ns)
        asked = influxql.last_rows(measurement, since_ns, tags=tags, fields=fields)
        header, rows = _grouped(json.loads(self._query([asked], "application/json")))
        return (
            only(block_of_table(measurement, header, rows), fields)
            if rows
            else empty(measurement, fields)
        )

    def last_arrival(self) -> int:
        """Time of the newest row that was given to whoever follows."""
        return self._follower.newest

    def _asked(self, statements: Sequence[str]) -> Iterator[Block]:
        answer = self._query(statements, "application/csv")
        if not answer.strip():
            self._check_there()
        for header, rows in tables(answer):
            if rows[0][0] in TAGS:
                yield block_of_table(rows[0][0], header, rows)

    def _check_there(self) -> None:
        """See that there is a database at all: of one that is missing, CSV says nothing."""
        if time.monotonic() >= self._next_check:
            asked = influxql.rows("card", 0, 1, limit=1)
            _grouped(json.loads(self._query([asked], "application/json")))
            self._next_check = time.monotonic() + CHECK_SECONDS

    def _query(self, statements: Sequence[str], form: str) -> str:
        self._check_open()
        return self._server.query(statements, form)

    # --- the rest

    def expire(self, now_ns: int) -> None:
        """Nothing: the server forgets what is past the retention of its database."""
        del now_ns

    def close(self) -> None:
        """Let go of the connections."""
        self._closed = True
        self._write_api.close()  # type: ignore[no-untyped-call]
        self._client.close()  # type: ignore[no-untyped-call]
        self._server.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")


class _Follower:
    """What was given already: the last time of each series, and the last events."""

    def __init__(self) -> None:
        self._begun: int | None = None
        self._last: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        self._events: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self.newest = 0

    def begin(self, after: int) -> None:
        """Go on from a position; from an earlier one all that follows it is given again."""
        if self._begun is None or after < self.newest:
            self._begun = self.newest = after
            self._last.clear()
            self._events.clear()

    def new_of(self, block: Block) -> Block:
        """The rows of a block that were not given yet."""
        keys = [(block.measurement, tuple(sorted(tags.items()))) for tags in block.tags]
        last = np.array([self._last.get(key, self._begun or 0) for key in keys], np.int64)
        is_new = block.time_ns > last[block.series]
        if block.measurement in _NEWS:
            is_new = self._new_events(block, keys)
        new = block.take(is_new)
        np.maximum.at(last, new.series, new.time_ns)
        self._last.update(zip(keys, last.tolist(), strict=True))
        if len(new):
            self.newest = max(self.newest, int(new.time_ns.max()))
        return new

    def _new_events(
        self, block: Block, keys: Sequence[tuple[str, tuple[tuple[str, str], ...]]]
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        is_new = np.zeros(len(block), bool)
        for row, (series, time_ns) in enumerate(
            zip(block.series.tolist(), block.time_ns.tolist(), strict=True)
        ):
            known = (keys[series], time_ns)
            is_new[row] = known not in self._events and time_ns > (self._begun or 0)
            self._events[known] = None
        while len(self._events) > MOST_KNOWN_EVENTS:
            self._events.popitem(last=False)
        return is_new


def _page_end(blocks: Sequence[Block], limit: int) -> int | None:
    """Time before which all rows are at hand and no more than `limit`; None when that is all."""
    times = np.sort(np.concatenate([block.time_ns for block in blocks] or [np.empty(0, np.int64)]))
    cut_off = [int(block.time_ns[-1]) for block in blocks if len(block) > limit]
    if len(times) <= limit and not cut_off:
        return None
    end = min([int(times[min(limit, len(times) - 1)]), *cut_off])
    # So many rows of one time must be given together, or nobody would ever pass them.
    return end if end > times[0] else int(times[0]) + 1


def _grouped(answer: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of an answer in JSON, tags as columns."""
    result = answer["results"][0]
    if "error" in result:
        raise StoreError(f"InfluxDB: {result['error']}")
    header: list[str] = []
    rows: list[list[str]] = []
    for series in result.get("series", []):
        tags = cast(Mapping[str, str], series.get("tags", {}))
        header = [*series["columns"], *tags]
        rows += [
            [*("" if value is None else str(value) for value in row), *tags.values()]
            for row in series["values"]
        ]
    return header, rows
