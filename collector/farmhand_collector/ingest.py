"""HTTP in: line protocol at `/api/v2/write`, checked, bounded, and answered as InfluxDB 2 does."""

import asyncio
import math
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from farmhand_agent import __version__
from farmhand_agent.reading import (
    MAX_TAG_VALUE_CHARACTERS,
    TAGS,
    LineError,
    Reading,
    parse_lines,
)
from farmhand_collector.access import Access
from farmhand_collector.store.base import Store, StoreBusyError, StoreError

_NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
_SECOND_NS = 10**9
_DAY_SECONDS = 86_400
_EARLIEST_SECONDS = 1_577_836_800
"""2020-01-01: no reading is older, and a clock that says so is not set."""
_GZIP = 31
"""Window bits of zlib that accept the gzip format alone."""
_MESSAGE_CHARACTERS = 500
_CODES = {
    HTTPStatus.BAD_REQUEST: "invalid",
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request too large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "unprocessable entity",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}
_VERSION_HEADERS = {"X-Influxdb-Build": "farmhand", "X-Influxdb-Version": f"farmhand-{__version__}"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a post may be."""

    wire_bytes: int = 1 << 20
    inflated_bytes: int = 8 << 20
    lines: int = 20_000
    body_seconds: float = 10
    """Time in which a body must have arrived."""
    posts: int = 128
    """Posts at work at once, waiting for the store included."""
    threads: int = 32
    series_per_day: int = 500_000
    """Different tag sets seen in one day; more are likely garbage, and each costs memory."""
    retention_days: int = 30
    """Age of the oldest reading that the store would keep."""
    future_seconds: int = 300


@dataclass(slots=True)
class Counts:
    """What was taken in and what was not, since the start."""

    accepted: int = 0
    """Readings."""
    refused_readings: Counter[str] = field(default_factory=Counter)
    """By reason: `time_past`, `time_future`, `tags`, `series`."""
    refused_posts: Counter[str] = field(default_factory=Counter)
    """By reason: `unauthorized`, `malformed`, `too_large`, `encoding`, `slow`, `disconnected`,
    `busy`, `store`, `clock`."""


class RefusalError(Exception):
    """A post that is not taken, with the answer to give."""

    def __init__(
        self,
        reason: str,
        status: HTTPStatus,
        message: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.headers = headers


@dataclass(slots=True)
class _Sorted:
    """Readings of one post: the good ones, and why the others are refused."""

    good: list[Reading] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    first: str = ""
    """Why the first one is refused."""

    def refuse(self, number: int, reason: str, message: str) -> None:
        self.first = self.first or f"reading {number}: {message}"
        self.refused[reason] += 1


class Ingest:
    """Endpoints that take readings for a store."""

    def __init__(
        self,
        store: Store,
        access: Access,
        clock: Callable[[], float] = time.time,
        limits: Limits | None = None,
    ) -> None:
        """Take readings for a store, from those to whom access is granted."""
        self._store = store
        self._access = access
        self._clock = clock
        self._limits = limits or Limits()
        self._gate = TagGate(self._limits.series_per_day)
        self._threads: anyio.CapacityLimiter | None = None
        self._posts = 0
        self.counts = Counts()

    def routes(self) -> list[Route]:
        """Routes for a Starlette application."""
        return [
            Route("/api/v2/write", self.write, methods=["POST"]),
            Route("/ping", self.ping, methods=["GET", "HEAD"]),
        ]

    async def ping(self, _request: Request) -> Response:
        """Answer that the collector is there; asks for no token."""
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=_VERSION_HEADERS)

    async def write(self, request: Request) -> Response:
        """Take one post of line protocol.

        204 all kept; 422 some readings refused, the others kept; 400, 401, 408, 413, 415 nothing
        kept and sending the same again will not help; 503 with Retry-After not now.
        """
        try:
            self._authorise(request)
            with self._place():
                return await self._write(request)
        except RefusalError as refusal:
            self.counts.refused_posts[refusal.reason] += 1
            return _answer(refusal.status, str(refusal), refusal.headers)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A place among the posts at work; without one the body is not even read."""
        if self._posts >= self._limits.posts:
            raise _unavailable("busy", f"{self._posts} posts at work", 2)
        self._posts += 1
        try:
            yield
        finally:
            self._posts -= 1

    async def _write(self, request: Request) -> Response:
        unit_ns = _unit_ns(request)
        coding = _coding(request)
        body = await self._body(request)
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(self._limits.threads)
        result = await anyio.to_thread.run_sync(
            self._keep, body, coding, unit_ns, limiter=self._threads
        )
        self.counts.accepted += len(result.good)
        self.counts.refused_readings.update(result.refused)
        if not result.refused:
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=_VERSION_HEADERS)
        return _partial(result)

    def _authorise(self, request: Request) -> None:
        if self._access.grant(request.headers.get("Authorization", "")) is None:
            raise RefusalError(
                "unauthorized",
                HTTPStatus.UNAUTHORIZED,
                "unauthorized access",
                {"WWW-Authenticate": 'Token realm="farmhand"'},
            )

    async def _body(self, request: Request) -> bytes:
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                return await self._read(request)
        except TimeoutError:
            raise RefusalError(
                "slow",
                HTTPStatus.REQUEST_TIMEOUT,
                f"no whole body within {self._limits.body_seconds:g} s",
                {"Connection": "close"},
            ) from None
        except ClientDisconnect:
            raise RefusalError("disconnected", HTTPStatus.BAD_REQUEST, "no whole body") from None

    async def _read(self, request: Request) -> bytes:
        most = self._limits.wire_bytes
        announced = request.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > most:
            raise _too_large(f"body of {announced} bytes, expected at most {most}")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise _too_large(f"body of more than {most} bytes")
        return bytes(body)

    # --- in a worker thread

    def _keep(self, body: bytes, coding: str, unit_ns: int) -> _Sorted:
        result = self._sort(self._parse(self._inflate(body, coding)), unit_ns)
        if result.good:
            self._commit(result.good)
        return result

    def _inflate(self, body: bytes, coding: str) -> bytes:
        if coding != "gzip":
            return body
        most = self._limits.inflated_bytes
        inflater = zlib.decompressobj(_GZIP)
        try:
            text = inflater.decompress(body, most + 1)
        except zlib.error as error:
            raise _malformed(f"gzip: {error}") from None
        if len(text) > most:
            raise _too_large(f"body inflates to more than {most} bytes")
        if not inflater.eof or inflater.unused_data:
            raise _malformed("gzip: expected one whole member")
        return text

    def _parse(self, body: bytes) -> list[Reading]:
        if body.count(b"\n") > self._limits.lines:
            raise _too_large(f"more than {self._limits.lines} lines")
        try:
            return list(parse_lines(body.decode()))
        except UnicodeDecodeError as error:
            raise _malformed(f"byte {error.start}: expected UTF-8") from None
        except LineError as error:
            raise _malformed(str(error)) from None

    def _sort(self, readings: list[Reading], unit_ns: int) -> _Sorted:
        now = self._clock()
        if now < _EARLIEST_SECONDS:
            raise _unavailable("clock", "the collector's own clock is not set", 60)
        oldest = max(now - self._limits.retention_days * _DAY_SECONDS, _EARLIEST_SECONDS)
        oldest_ns = math.floor(oldest) * _SECOND_NS
        newest_ns = math.ceil(now + self._limits.future_seconds) * _SECOND_NS
        self._gate.begin(int(now // _DAY_SECONDS))
        result = _Sorted()
        for number, reading in enumerate(readings, start=1):
            time_ns = reading.time_ns * unit_ns
            if time_ns < oldest_ns:
                result.refuse(number, "time_past", f"time {time_ns} is before {oldest_ns}")
            elif time_ns > newest_ns:
                result.refuse(number, "time_future", f"time {time_ns} is after {newest_ns}")
            elif reason := self._gate.refuses(reading.measurement, reading.tags):
                result.refuse(number, *reason)
            else:
                result.good.append(reading if unit_ns == 1 else reading._replace(time_ns=time_ns))
        return result

    def _commit(self, readings: list[Reading]) -> None:
        try:
            self._store.write(readings)
        except StoreBusyError as error:
            raise _unavailable("busy", str(error), 2) from None
        except StoreError as error:
            raise _unavailable("store", str(error), 30) from None


class TagGate:
    """Which tag sets may pass: keys of the contract, short values, not too many in a day.

    Safe to use from several threads: at worst a few tag sets more pass than told.
    """

    def __init__(self, most_series: int) -> None:
        self._most = most_series
        self._day = 0
        self._seen: set[int] = set()

    def begin(self, day: int) -> None:
        """Start to count anew on a new day, as the store does."""
        if day != self._day:
            self._day, self._seen = day, set()

    def refuses(self, measurement: str, tags: Mapping[str, str]) -> tuple[str, str] | None:
        """Reason and message when the tags may not pass; None when they may."""
        key = hash((measurement, *tags.items()))
        if key in self._seen:
            return None
        expected = TAGS.get(measurement)
        if expected is None:
            return None
        for name, value in tags.items():
            if name not in expected:
                return "tags", f"tag {name!r} of {measurement}, expected {', '.join(expected)}"
            if len(value) > MAX_TAG_VALUE_CHARACTERS:
                return (
                    "tags",
                    f"tag {name} of {len(value)} characters, "
                    f"expected at most {MAX_TAG_VALUE_CHARACTERS}",
                )
        if len(self._seen) >= self._most:
            return "series", f"more than {self._most} different tag sets in a day"
        self._seen.add(key)
        return None


def _unit_ns(request: Request) -> int:
    precision = request.query_params.get("precision", "ns")
    if precision not in _NANOSECONDS:
        raise _malformed(f"precision {precision!r}, expected one of {', '.join(_NANOSECONDS)}")
    return _NANOSECONDS[precision]


def _coding(request: Request) -> str:
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip"):
        raise RefusalError(
            "encoding",
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"content encoding {coding!r}, expected gzip or none",
            {"Accept-Encoding": "gzip"},
        )
    return coding


def _malformed(message: str) -> RefusalError:
    return RefusalError("malformed", HTTPStatus.BAD_REQUEST, message)


def _too_large(message: str) -> RefusalError:
    return RefusalError("too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def _unavailable(reason: str, message: str, seconds: int) -> RefusalError:
    headers = {"Retry-After": str(seconds)}
    return RefusalError(reason, HTTPStatus.SERVICE_UNAVAILABLE, message, headers)


def _partial(result: _Sorted) -> Response:
    refused = result.refused.total()
    message = (
        f"partial write: {refused} of {refused + len(result.good)} readings refused; {result.first}"
    )
    return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, message, refused=dict(result.refused))


def _answer(
    status: HTTPStatus,
    message: str,
    headers: Mapping[str, str] | None = None,
    **more: Mapping[str, int],
) -> Response:
    code = _CODES.get(status, status.phrase.lower())
    told = message[:_MESSAGE_CHARACTERS]
    return JSONResponse({"code": code, "message": told, **more}, status, headers)
