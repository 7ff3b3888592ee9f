"""A post from its header to its answer."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farmhand_agent.reading import Reading
from farmhand_collector.access import Access, Grant
from farmhand_collector.ingest import body as bodies
from farmhand_collector.ingest.gate import Gate
from farmhand_collector.ingest.limits import Counts, Limits
from farmhand_collector.ingest.refusal import (
    VERSION_HEADERS,
    RefusalError,
    answer,
    malformed,
    unavailable,
)
from farmhand_collector.ingest.sorting import Sorted, sort, told
from farmhand_collector.ingest.source import source_of
from farmhand_collector.ingest.strangers import Strangers
from farmhand_collector.store.base import Store, StoreBusyError, StoreError

_NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
_BUSY_RETRY_SECONDS = 2
_STORE_RETRY_SECONDS = 30


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
        self._gate = Gate(self._limits)
        self._strangers = Strangers(self._limits.failed_tokens_per_minute)
        self._threads: anyio.CapacityLimiter | None = None
        self._parsers = threading.BoundedSemaphore(self._limits.parsers)
        self._posts = 0
        self._commits: dict[object, float] = {}
        """When each call of the store under way began, the oldest first."""
        self.counts = Counts()

    def routes(self) -> list[Route]:
        """Routes for a Starlette application."""
        return [
            Route("/api/v2/write", self.write, methods=["POST"]),
            Route("/ping", self.ping, methods=["GET", "HEAD"]),
        ]

    async def ping(self, _request: Request) -> Response:
        """Answer that the collector is there; asks for no token."""
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=VERSION_HEADERS)

    async def write(self, request: Request) -> Response:
        """Take one post of line protocol.

        204 all kept; 422 some readings refused, the others kept; 400, 401, 408, 413, 415 nothing
        kept and sending the same again will not help; 429 and 503 with Retry-After not now.
        """
        grant = None
        try:
            grant = self._authorise(request)
            with self._place():
                return await self._write(request, grant)
        except RefusalError as refusal:
            self.counts.refuse(refusal.reason, grant and grant.name)
            return answer(refusal.status, str(refusal), refusal.headers)

    def _authorise(self, request: Request) -> Grant:
        peer = request.client.host if request.client else None
        source = source_of(peer, loopback_exempt=self._limits.loopback_exempt)
        if seconds := self._strangers.wait_seconds(source):
            raise RefusalError(
                "throttled",
                HTTPStatus.TOO_MANY_REQUESTS,
                "too many wrong tokens from this address",
                {"Retry-After": str(seconds)},
            )
        grant = self._access.grant(request.headers.get("Authorization", ""))
        if grant is None:
            self._strangers.failed(source)
            raise RefusalError(
                "unauthorized",
                HTTPStatus.UNAUTHORIZED,
                "unauthorized access",
                {"WWW-Authenticate": 'Token realm="farmhand"'},
            )
        return grant

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A place among the posts at work; without one the body is not even read."""
        if self._posts >= self._limits.posts:
            raise unavailable("busy", f"{self._posts} posts at work", _BUSY_RETRY_SECONDS)
        behind = self._seconds_behind()
        if behind > self._limits.behind_seconds:
            message = f"the store has been writing for {behind:.0f} s"
            raise unavailable("behind", message, _BUSY_RETRY_SECONDS)
        self._posts += 1
        try:
            yield
        finally:
            self._posts -= 1

    def _seconds_behind(self) -> float:
        """Age of the oldest call of the store that is under way."""
        # A copy of the values, in one step: worker threads add and remove some.
        return time.monotonic() - min(list(self._commits.values()), default=float("inf"))

    async def _write(self, request: Request, grant: Grant) -> Response:
        unit_ns = _unit_ns(request)
        coding = bodies.coding(request)
        body = await bodies.receive(request, self._limits)
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(self._limits.threads)
        result = await anyio.to_thread.run_sync(
            self._keep, body, coding, unit_ns, grant, limiter=self._threads
        )
        self.counts.take(grant.name, len(result.good), result.refused)
        if result.refused:
            return told(result)
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=VERSION_HEADERS)

    # --- in a worker thread

    def _keep(self, body: bytes, coding: str, unit_ns: int, grant: Grant) -> Sorted:
        with self._parsers:
            readings = bodies.parse(bodies.inflate(body, coding, self._limits), self._limits)
            result = sort(readings, unit_ns, self._clock(), self._gate, grant, self._limits)
        if result.good:
            self._commit(result.good)
        return result

    def _commit(self, readings: list[Reading]) -> None:
        call = object()
        self._commits[call] = time.monotonic()
        try:
            self._store.write(readings)
        except StoreBusyError as error:
            raise unavailable("busy", str(error), _BUSY_RETRY_SECONDS) from None
        except StoreError as error:
            raise unavailable("store", str(error), _STORE_RETRY_SECONDS) from None
        finally:
            del self._commits[call]


def _unit_ns(request: Request) -> int:
    precision = request.query_params.get("precision", "ns")
    if precision not in _NANOSECONDS:
        raise malformed(f"precision {precision!r}, expected one of {', '.join(_NANOSECONDS)}")
    return _NANOSECONDS[precision]
