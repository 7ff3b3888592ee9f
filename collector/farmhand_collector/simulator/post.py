"""Posts a simulated farm to a collector: its past as fast as the wire takes, then live."""

import http.client
import signal
import sys
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from farmhand_collector.simulator.farm import DEFAULT_SPAN_SECONDS, Farm
from farmhand_collector.simulator.planting import NONE
from farmhand_collector.simulator.reports import Batch

DEFAULT_HISTORY_SECONDS = 3600.0
_BYTES_PER_REQUEST = 500_000
"""Half of what a collector takes at once."""
_WRITE_PATH = "/api/v2/write?org=farmhand&bucket=farmhand&precision=ns"
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 5.0
_TIMEOUT_SECONDS = 10.0
_LIVE_WITHIN_SECONDS = 1.0
_LEAST_PAUSE_SECONDS = 0.2
"""Live batches that fall due within it share a request."""
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


class RefusedError(Exception):
    """The collector answered that it will never take these readings; the message says why."""


class Wire:
    """A kept connection to one write address.

    Raises:
        ValueError: `url` is not an http or https address of a host.
    """

    def __init__(self, url: str, token: str, stop: threading.Event) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r}, expected http://HOST:PORT or https://HOST:PORT")
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        self._connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS)
        self._path = parts.path.rstrip("/") + _WRITE_PATH
        self._headers = {
            "Authorization": f"Token {token}",
            "Content-Type": "text/plain; charset=utf-8",
        }
        self._stop = stop

    def send(self, lines: list[str]) -> bool:
        """Post lines until they are accepted; False where the stop came first.

        Raises:
            RefusedError: the answer says that trying again is useless.
        """
        body = "\n".join(lines).encode()
        wait = _FIRST_WAIT_SECONDS
        while not self._stop.is_set():
            if self._accepted(body):
                return True
            self._stop.wait(wait)
            wait = min(2.0 * wait, _LONGEST_WAIT_SECONDS)
        return False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _accepted(self, body: bytes) -> bool:
        """Whether the collector took it; False where it is not there or not ready."""
        try:
            self._connection.request("POST", self._path, body, self._headers)
            answer = self._connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return False
        if answer.status in _TRY_AGAIN:
            return False
        if answer.status >= 300:
            reason = said[:200].decode(errors="replace")
            raise RefusedError(f"the collector answered {answer.status}: {reason!r}")
        return True


def post(farm: Farm, wire: Wire, stop: threading.Event) -> None:
    """Send the farm's readings from its start to now, then each as it is due, until the stop.

    Raises:
        RefusedError: as `Wire.send` does.
    """
    live = False
    while not stop.is_set():
        for lines in _requests(farm.readings(time.time())):
            if not wire.send(lines):
                return
        ahead = farm.next_time() - time.time()
        if not live and ahead > -_LIVE_WITHIN_SECONDS:
            live = True
            sys.stderr.write("simulator: history posted, readings are live now\n")
            sys.stderr.flush()
        if live:
            stop.wait(max(_LEAST_PAUSE_SECONDS, ahead))


def _requests(batches: Iterator[Batch]) -> Iterator[list[str]]:
    """Lines of whole batches, so many together as one request should carry."""
    lines: list[str] = []
    size = 0
    for batch in batches:
        more = batch.lines()
        lines += more
        size += sum(map(len, more))
        if size >= _BYTES_PER_REQUEST:
            yield lines
            lines, size = [], 0
    if lines:
        yield lines


def run(
    cards: int,
    seed: int,
    faults: str,
    url: str,
    token: str,
    history_seconds: float = DEFAULT_HISTORY_SECONDS,
    stop: threading.Event | None = None,
    *,
    start: float | None = None,
    span_seconds: float = DEFAULT_SPAN_SECONDS,
    harmless: str = NONE,
) -> None:
    """Simulate a farm and post it until `stop`; without one, until SIGTERM or SIGINT.

    `start` is when the simulated past begins, `history_seconds` before now where it is not
    given. What is planted is `plan` of the same cards, seed, faults, start and `span_seconds`.
    Without `stop` it must be called in the main thread.

    Raises:
        RefusedError: the collector will never take these readings.
        ValueError: a bad argument, as `Farm` and `Wire` say.
    """
    if stop is None:
        stop = _stop_on_signal()
    begin = time.time() - history_seconds if start is None else start
    farm = Farm(cards, seed, faults, begin, span_seconds=span_seconds, harmless=harmless)
    wire = Wire(url, token, stop)
    try:
        post(farm, wire, stop)
    finally:
        wire.close()


def _stop_on_signal() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
