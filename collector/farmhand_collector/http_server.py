"""Connections: how many there may be, and how long each may take over what.

uvicorn bounds neither. `BoundedProtocol` puts one absolute deadline on each stage of a connection;
an absolute one, since a time-out of each read does not end a sender that trickles. It relies on
insides of uvicorn that `tests/collector/test_http_server.py` pins.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from farmhand_collector.ingest.source import source_of

# uvicorn warns of each bad request and each Upgrade header; a stranger could fill the log.
_quiet = logging.getLogger(f"{__name__}.uvicorn")
_quiet.setLevel(logging.ERROR)

_Message = MutableMapping[str, Any]
_App = Callable[
    [Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What connections may take; `docs/ingest.md` tells them to the keeper."""

    header_seconds: float = 10
    """From the connection, or the first byte of a further request, to the end of the header."""
    body_seconds: float = 15
    """From the end of the header to that of the body; ingest waits less, since it can answer."""
    idle_seconds: float = 75
    """Longer than the interval of an agent, so that each post need not connect anew."""
    stall_seconds: float = 30
    """For a peer that does not take its answer."""
    connections: int = 2000
    per_source: int = 64
    """From one address; a node needs one, and several share one behind a translated address."""
    loopback_exempt: bool = True
    """Whether the machine itself, which may be a proxy for all, may have any number."""
    header_bytes: int = 16_384
    """An agent's header has some 400."""
    headers: int = 64
    unread_bytes: int = 4 << 20
    """Of a body that is not wanted; so much is thrown away, so that the sender sees its answer."""


@dataclass(slots=True)
class ConnectionCounts:
    """How connections fared, since the start. Used in the event loop alone."""

    open: int = 0
    """Now."""
    turned_away: Counter[str] = field(default_factory=Counter)
    """By reason: `connections`, `source`."""
    closed: Counter[str] = field(default_factory=Counter)
    """By us, by reason: `header_slow`, `body_slow`, `idle`, `stalled`, `unread`, `lingering`."""
    refused: Counter[str] = field(default_factory=Counter)
    """Requests by reason: `malformed`, `header_large`."""


class Door:
    """Lets connections in as long as there is room; must be used by one server alone."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        """Let in as many as the limits say."""
        self.limits = limits or ConnectionLimits()
        self.counts = ConnectionCounts()
        self._by_source: Counter[str] = Counter()

    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn takes as `http`."""
        return cast(
            type[asyncio.Protocol], type("BoundedProtocol", (BoundedProtocol,), {"door": self})
        )

    def idle_limit_of_server(self) -> int:
        """What uvicorn takes as `timeout_keep_alive`: so long that our own limit comes first."""
        return math.ceil(self.limits.idle_seconds) + 1

    def enter(self, source: str | None) -> bool:
        """Take in a connection; False where there is no room."""
        if self.counts.open >= self.limits.connections:
            self.counts.turned_away["connections"] += 1
            return False
        if source is not None:
            if self._by_source[source] >= self.limits.per_source:
                self.counts.turned_away["source"] += 1
                return False
            self._by_source[source] += 1
        self.counts.open += 1
        return True

    def leave(self, source: str | None) -> None:
        """Take a connection out that was let in."""
        self.counts.open -= 1
        if source is not None:
            self._by_source[source] -= 1
            if not self._by_source[source]:
                del self._by_source[source]


class Stage(Enum):
    """What a connection is about; the value is the reason for which it may be closed."""

    HEADER = "header_slow"
    BODY = "body_slow"
    ANSWER = "answer"
    """Ours to give: no deadline."""
    IDLE = "idle"
    CLOSING = "lingering"


class BoundedProtocol(H11Protocol):
    """One connection, closed when a stage of it takes too long."""

    door: ClassVar[Door]
    cycle: RequestResponseCycle | None  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        limits = self.door.limits
        self.logger = _quiet
        self.app = cast(Any, _bounded_headers(cast(_App, self.app), self.door))
        self.conn = h11.Connection(h11.SERVER, limits.header_bytes)
        self._seconds = {
            Stage.HEADER: limits.header_seconds,
            Stage.BODY: limits.body_seconds,
            Stage.IDLE: limits.idle_seconds,
            Stage.CLOSING: limits.header_seconds,
        }
        self._source: str | None = None
        self._inside = False
        self._stage: tuple[Stage, object] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._unread_bytes = 0

    # --- what uvicorn and asyncio call

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection in, or close it where there is no room."""
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else None
        self._source = source_of(address, loopback_exempt=self.door.limits.loopback_exempt)
        self._inside = self.door.enter(self._source)
        if not self._inside:
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        if not self._inside:
            return
        self.door.leave(self._source)
        for timer in (self._deadline, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes in; those of a body that nobody wants only up to a bound."""
        if self._is_unwanted():
            self._unread_bytes += len(data)
            if self._unread_bytes > self.door.limits.unread_bytes:
                self._abort("unread")
                return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._unread_bytes = 0
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self.door.counts.refused["malformed"] += 1
        if self.cycle is not None and not self.cycle.response_complete:
            # The application may be about to answer what has just been answered here.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
            self._watch()
        else:
            # An answer is under way, a second one cannot be begun.
            self.transport.abort()

    def pause_writing(self) -> None:
        """Begin to watch a peer that does not take its answer."""
        super().pause_writing()
        self._expect_progress()

    def resume_writing(self) -> None:
        """Stop watching: it does."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # --- deadlines

    def _is_unwanted(self) -> bool:
        """Whether what comes is the body of a request that has been answered."""
        is_answered = self.cycle is not None and self.cycle.response_complete
        return is_answered and self.conn.their_state is h11.SEND_BODY

    def _stage_now(self) -> Stage:
        if self.transport.is_closing():
            return Stage.CLOSING
        if self.conn.their_state is h11.SEND_BODY:
            return Stage.BODY
        if self.cycle is not None and not self.cycle.response_complete:
            return Stage.ANSWER
        if self.cycle is None or self.conn.trailing_data[0]:
            return Stage.HEADER
        return Stage.IDLE

    def _watch(self) -> None:
        """Set the deadline of a stage as it begins; it stands until the stage is over."""
        stage = (self._stage_now(), self.cycle)
        if stage == self._stage:
            return
        self._stage = stage
        self._set_deadline(stage[0])

    def _set_deadline(self, stage: Stage) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds := self._seconds.get(stage):
            self._deadline = self.loop.call_later(seconds, self._late, stage)

    def _late(self, stage: Stage) -> None:
        if self._stall is not None and stage in (Stage.IDLE, Stage.CLOSING):
            # The answer is still on its way, which has a limit of its own.
            self._set_deadline(stage)
        else:
            self._abort(stage.value)

    def _expect_progress(self) -> None:
        """Close, unless some of what waits to be sent is gone by then."""
        waiting = self.transport.get_write_buffer_size()
        self._stall = self.loop.call_later(
            self.door.limits.stall_seconds, self._check_progress, waiting
        )

    def _check_progress(self, waited: int) -> None:
        if self.transport.get_write_buffer_size() < waited:
            self._expect_progress()
        else:
            self._abort("stalled")

    def _abort(self, reason: str) -> None:
        self.door.counts.closed[reason] += 1
        self.transport.abort()


def _bounded_headers(app: _App, door: Door) -> _App:
    """An application that is asked only where the header is of a sane size.

    h11 bounds a header that comes in pieces, but not one that comes in a single piece.
    """
    limits = door.limits

    async def bounded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and _is_large(scope, limits):
            door.counts.refused["header_large"] += 1
            await send(_TOO_LARGE_START)
            await send({"type": "http.response.body", "body": b"request header too large\n"})
        else:
            await app(scope, receive, send)

    return bounded


def _is_large(scope: _Message, limits: ConnectionLimits) -> bool:
    headers = scope["headers"]
    size = len(scope["raw_path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) + 4 for name, value in headers)
    return len(headers) > limits.headers or size > limits.header_bytes


_TOO_LARGE_START = {
    "type": "http.response.start",
    "status": 431,
    "headers": [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")],
}
