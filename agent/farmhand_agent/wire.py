"""The way to the store: one post at a time, and what each of its answers means."""

import logging
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from farmhand_agent import settings
from farmhand_agent.clock import Clock
from farmhand_agent.config import Ship
from farmhand_agent.reading import clean
from farmhand_agent.spool_boot import EARLIEST_NS

if TYPE_CHECKING:
    from farmhand_agent.wire_client import WriteClient

log = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 12.0
"""Longest time in which nothing comes from a store that has been asked."""
POST_SECONDS = 15.0
"""Longest time for a post, its whole answer included; looking up a host name comes on top."""
MOST_ANSWER_BYTES = 256 * 1024
RETRY_AFTER_CAP_SECONDS = 300.0


class Kind(Enum):
    """What became of a post."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """There is something wrong with the body."""
    BUSY = "busy"
    UNREACHABLE = "unreachable"
    FORBIDDEN = "forbidden"
    """There is something wrong with the token, the bucket or the URL."""


TOO_LARGE = 413
_REFUSALS = (400, TOO_LARGE, 422)
_BUSY = (408, 425, 429)


_LATEST_SECONDS = 7_258_118_400
"""Year 2200: no store's clock is right that says more."""


class Answer(NamedTuple):
    """What the store said to a post, or why it said nothing."""

    kind: Kind
    reason: str = ""
    retry_after_seconds: float = 0.0
    status: int = 0


class Wire:
    """Posts line protocol through influxdb-client, with no retries of its own.

    The client is made with the first post, so that a process that does not ship need not pay for
    it.
    """

    boot_began_ns: int | None
    """When this machine booted by the store's clock, good to about a second; None before the
    first answer that tells the time."""

    def __init__(self, ship: Ship, clock: Clock) -> None:
        self._ship = ship
        self._clock = clock
        self._token = _Token(ship.token_file)
        self._client: WriteClient | None = None
        self._uncertainty_seconds = float("inf")
        self.boot_began_ns = None

    @property
    def clock_offset_seconds(self) -> float | None:
        """Store's clock minus ours as it stands now; None before the first answer."""
        if self.boot_began_ns is None:
            return None
        return (self.boot_began_ns - self._clock.boot_time_ns()) / 1e9

    def post(self, body: bytes) -> Answer:
        """Write line protocol; whatever goes wrong is an answer too."""
        sent_at = self._clock.monotonic()
        try:
            headers = self._opened().write(body, self._token.current())
        except Exception as error:
            return self._failure(error, sent_at)
        self._measure(headers, sent_at)
        if "html" in headers.get("Content-Type", ""):
            # A portal or a proxy answers anything with success; a store does not answer in HTML.
            return Answer(Kind.FORBIDDEN, f"a web page answers at {self._ship.url}")
        return Answer(Kind.ACCEPTED)

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()

    def _opened(self) -> "WriteClient":
        if self._client is None:
            from farmhand_agent.wire_client import AnswerLimit, WriteClient

            limit = AnswerLimit(POST_SECONDS, MOST_ANSWER_BYTES)
            self._client = WriteClient(self._ship, (CONNECT_SECONDS, SILENCE_SECONDS), limit)
        return self._client

    def _failure(self, error: Exception, sent_at: float) -> Answer:
        status = getattr(error, "status", None)
        if not status:
            return Answer(Kind.UNREACHABLE, _unreachable(error))
        headers = getattr(error, "headers", None) or {}
        self._measure(headers, sent_at)
        kind = _kind(status)
        reason = f"HTTP {status}: {getattr(error, 'message', '')}"
        if kind is Kind.FORBIDDEN:
            reason = f"{reason}; {self._remedy(status)}"
        return Answer(kind, clean(reason), _retry_after(headers.get("Retry-After")), status)

    def _remedy(self, status: int) -> str:
        if status in (401, 403):
            return f"check ship.token_file ({self._ship.token_file or 'none'}) for {self._ship.url}"
        return f"check ship.url ({self._ship.url}), ship.org and ship.bucket"

    def _measure(self, headers: Mapping[str, str], sent_at: float) -> None:
        """Compare the clocks by the `Date` of an answer, which is cut to whole seconds.

        A new measurement counts only where it contradicts the one before or is much better, so
        that the result stands still while the clocks do.
        """
        try:
            theirs = parsedate_to_datetime(headers["Date"]).timestamp() + 0.5
        except (LookupError, ValueError, OverflowError):
            return
        if not EARLIEST_NS / 1e9 < theirs < _LATEST_SECONDS:
            return
        took = self._clock.monotonic() - sent_at
        offset = theirs - (self._clock.time() - took / 2)
        began_ns = self._clock.boot_time_ns() + round(offset * 1e9)
        uncertainty = 0.5 + took / 2
        known_ns, known_uncertainty = self.boot_began_ns, self._uncertainty_seconds
        if known_ns is None or (
            abs(began_ns - known_ns) / 1e9 > uncertainty + known_uncertainty
            or uncertainty < known_uncertainty / 2
        ):
            self.boot_began_ns, self._uncertainty_seconds = began_ns, uncertainty


class _Token:
    """The write token; read anew when its file changes, so that rotation needs no restart."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None
        self._token: str | None = None
        self._seen: tuple[int, ...] | None = None

    def current(self) -> str | None:
        """The token as of now; the one before where its file cannot be used."""
        seen = self._identity()
        if self._path is not None and seen != self._seen:
            self._seen = seen
            try:
                self._token = settings.read_secret(self._path, "ship.token_file")
            except settings.ConfigError as error:
                log.warning("the write token stays as it was: %s", error)
        return self._token

    def _identity(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat() if self._path else None
        except OSError:
            return None
        return status and (status.st_ino, status.st_size, status.st_mtime_ns)


def _kind(status: int) -> Kind:
    if status in _REFUSALS:
        return Kind.REFUSED
    if status >= 500 or status in _BUSY:
        return Kind.BUSY
    return Kind.FORBIDDEN


def _unreachable(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        text = f"check ship.ca_file and the clock of this node: {text}"
    return clean(text)


def _retry_after(value: str | None) -> float:
    """Seconds that the store asks us to wait; it may also name a date."""
    if not value:
        return 0.0
    import urllib3

    try:
        seconds = urllib3.Retry().parse_retry_after(value)
    except urllib3.exceptions.InvalidHeader:
        return 0.0
    return min(seconds, RETRY_AFTER_CAP_SECONDS)
