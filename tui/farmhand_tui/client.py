"""The collector's HTTP API from the terminal's side.

Errors:
    ClientError
    ├── CollectorUnreachable   no connection, or it broke
    ├── Unauthorized           the token is missing or wrong (401, 403)
    ├── NotFound               no such card or gang (404)
    ├── StaleCursor            take a new snapshot (410)
    ├── BadAnswer              what came back is not the collector's answer
    └── Aborted                another thread broke the call off
"""

import contextlib
import http.client
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from farmhand_collector.wire import (
    NUMBER_COLUMNS,
    CapacityRow,
    CardDetail,
    Changes,
    FarmState,
    Finding,
    Series,
    Snapshot,
    WhatIf,
)

from .escape import safe

TIMEOUT_SECONDS = 10.0

Answer = TypeVar("Answer")


class ClientError(Exception):
    """The collector could not be asked, or did not answer; the message is one line."""


class CollectorUnreachable(ClientError):
    """No connection to the collector, or it broke."""


class Unauthorized(ClientError):
    """The collector wants another token."""


class NotFound(ClientError):
    """The collector knows no such card or gang."""


class StaleCursor(ClientError):
    """The collector cannot tell what changed since this cursor."""


class BadAnswer(ClientError):
    """The answer is not one of the collector's API."""


class Aborted(ClientError):
    """Another thread broke the call off."""


_ERRORS: Mapping[int, type[ClientError]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    410: StaleCursor,
}


class Client:
    """One kept connection to a collector, for one thread at a time; only `abort` may cross.

    Every call raises a `ClientError`.
    """

    def __init__(self, url: str, token: str | None = None, ca_file: str | None = None) -> None:
        self.url = safe(url)
        self._connection, self._path = _connection(url, ca_file)
        self._headers = {"Authorization": f"Token {token}"} if token else {}
        self._aborted = False

    def status(self) -> FarmState:
        """Return the whole farm with the evidence behind each verdict."""
        return self._get("/v1/status", FarmState)

    def snapshot(self, columns: Sequence[str]) -> Snapshot:
        """Return the farm as columns, with the cursor from which changes are told."""
        snapshot = self._get("/v1/snapshot", Snapshot, {"columns": ",".join(columns)})
        return msgspec.structs.replace(snapshot, columns=_checked(snapshot.columns))

    def changes(self, cursor: str, columns: Sequence[str], wait: float) -> Changes:
        """Rows that changed since `cursor`; answers when there are some or after `wait` seconds.

        Raises:
            StaleCursor: The collector has forgotten this cursor; take a new snapshot.

        """
        query = {"cursor": cursor, "columns": ",".join(columns), "wait": f"{wait:g}"}
        changes = self._get("/v1/changes", Changes, query, TIMEOUT_SECONDS + wait)
        return msgspec.structs.replace(changes, columns=_checked(changes.columns))

    def card(self, key: str) -> CardDetail:
        """Everything known of one card.

        Raises:
            NotFound: No such card is known.

        """
        return self._get(f"/v1/cards/{quote(key, safe='')}", CardDetail)

    def series(
        self, key: str, fields: Sequence[str], since: float, until: float, points: int
    ) -> Series:
        """Return readings of one card between two times, thinned to `points`."""
        query = {
            "fields": ",".join(fields),
            "since": f"{since:.3f}",
            "until": f"{until:.3f}",
            "points": str(points),
        }
        series = self._get(f"/v1/cards/{quote(key, safe='')}/series", Series, query)
        if any(len(values) != len(series.times) for values in series.fields.values()):
            raise BadAnswer("the collector sent a series of unequal lengths")
        return series

    def findings(self) -> list[Finding]:
        """All findings, worst and newest first."""
        return self._get("/v1/findings", list[Finding])

    def capacity(self, by: str) -> list[CapacityRow]:
        """What the cards give of what they should, added up by site, rack, node and so on."""
        return self._get("/v1/capacity", list[CapacityRow], {"by": by})

    def what_if(self, cards: Sequence[str], gang: str = "") -> WhatIf:
        """What comes back when these cards are repaired, and the pace of a gang, if one is named.

        Raises:
            NotFound: No such card or gang is known.

        """
        return self._get("/v1/what-if", WhatIf, {"cards": ",".join(cards), "gang": gang})

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()

    def abort(self) -> None:
        """Break off the call that another thread waits in, or its next one.

        That call raises `Aborted`.
        """
        self._aborted = True
        waiting = self._connection.sock
        if waiting is not None:
            with contextlib.suppress(OSError):
                waiting.shutdown(socket.SHUT_RDWR)

    def _get(
        self,
        path: str,
        kind: type[Answer],
        query: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Answer:
        target = self._path + path + (f"?{urlencode(query)}" if query else "")
        status, body = self._exchange(target, timeout)
        if status != 200:
            raise _ERRORS.get(status, BadAnswer)(_complaint(status, body))
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, RecursionError) as error:
            what = f"{self.url} does not answer as a farmhand collector: {safe(str(error))}"
            raise BadAnswer(what) from error

    def _exchange(self, target: str, timeout: float) -> tuple[int, bytes]:
        """One request; a kept connection that the other side closed meanwhile is opened anew."""
        for kept in (self._connection.sock is not None, False):
            self._raise_if_aborted()
            try:
                return self._request(target, timeout)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                self._give_up(None if kept else error)
            except (OSError, ValueError, http.client.HTTPException) as error:
                self._give_up(error)
        raise AssertionError("unreachable: the second try returns or raises")

    def _give_up(self, error: Exception | None) -> None:
        self.close()
        self._raise_if_aborted()
        if error is not None:
            raise CollectorUnreachable(f"{self.url}: {_why(error)}") from error

    def _raise_if_aborted(self) -> None:
        if self._aborted:
            self._aborted = False
            raise Aborted("broken off")

    def _request(self, target: str, timeout: float) -> tuple[int, bytes]:
        self._connection.timeout = timeout
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout)
        self._connection.request("GET", target, headers=self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()


def _connection(url: str, ca_file: str | None) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection that is not open yet, and the path that all requests begin with."""
    kinds: dict[str, Callable[..., http.client.HTTPConnection]] = {
        "http": http.client.HTTPConnection,
        "https": partial(http.client.HTTPSConnection, context=_trusting(ca_file)),
    }
    try:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        connection = kinds[parts.scheme](parts.hostname or " ", parts.port, timeout=TIMEOUT_SECONDS)
    except (KeyError, ValueError, http.client.InvalidURL) as error:
        raise CollectorUnreachable(f"not the address of a collector: {safe(url)}") from error
    return connection, parts.path.rstrip("/")


def _trusting(ca_file: str | None) -> ssl.SSLContext | None:
    """Whom to believe; None for those that the system believes."""
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise CollectorUnreachable(f"{safe(ca_file)}: no certificate of an authority") from error


def _why(error: Exception) -> str:
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return safe(text or type(error).__name__).lower()


def _complaint(status: int, body: bytes) -> str:
    try:
        said = msgspec.json.decode(body, type=dict[str, Any]).get("error")
    except msgspec.DecodeError:
        said = None
    known = f"the collector answered {status} {http.client.responses.get(status, '')}".strip()
    return f"{known}: {safe(said)}" if isinstance(said, str) else known


def _shared(values: list[Any]) -> list[str]:
    """Return texts with one object for all that are equal: thousands of cards say `ok`."""
    known: dict[str, str] = {}
    texts = ("" if value is None else str(value) for value in values)
    return [known.setdefault(text, text) for text in texts]


def _checked(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Columns of equal length that hold what their names promise; text that is null is empty."""
    length = len(columns.get("key", ()))
    for name, values in columns.items():
        if len(values) != length:
            raise BadAnswer(f"the collector sent {len(values)} of {length} values of {safe(name)}")
        if name in NUMBER_COLUMNS:
            if not all(value is None or isinstance(value, int | float) for value in values):
                raise BadAnswer(f"the collector sent something else than numbers as {safe(name)}")
        else:
            columns[name] = _shared(values)
    columns.setdefault("key", [])
    return columns
