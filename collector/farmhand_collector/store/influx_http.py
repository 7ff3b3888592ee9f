"""Talking to an InfluxDB server: where it is, what it is, questions, refusals."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import urllib3

from farmhand_collector.store.base import StoreBusyError, StoreError

_TIMEOUT = urllib3.Timeout(connect=3.0, read=60.0)
_SHOWN_CHARACTERS = 300


class Where(NamedTuple):
    """A database in a server.

    `database` is the bucket of a 2.x server, and `database/retention policy` or `database` of a
    1.x server. `token` is `user:password` there, None where the server asks for none.
    """

    url: str
    database: str
    org: str = ""
    token: str | None = None
    verify_tls: bool = True
    ca_file: str | None = None


class Server:
    """A server, asked over HTTP. Safe to use from any thread."""

    def __init__(self, where: Where) -> None:
        """Know a server; nothing is asked of it yet."""
        self._where = where
        self._pool = _pool(where)

    def version(self) -> str:
        """What it calls itself, such as `1.12.4`; empty where it does not tell.

        Raises:
            StoreError: it does not answer.
        """
        answer = self._answer("GET", "/ping")
        return str(answer.headers.get("X-Influxdb-Version", "")).removeprefix("v")

    def query(self, statements: Sequence[str], form: str) -> str:
        """Answers to InfluxQL statements, as CSV or JSON.

        Raises:
            StoreBusyError: not now.
            StoreError: it does not answer, or refuses.
        """
        database, _, policy = self._where.database.partition("/")
        fields = {"db": database, "epoch": "ns", "q": "; ".join(statements)}
        if policy:
            fields["rp"] = policy
        headers = {"Accept": form}
        answer = self._answer(
            "POST", "/query", headers=headers, fields=fields, encode_multipart=False
        )
        return _text(answer)

    def call(self, method: str, path: str, told: Mapping[str, Any] | None = None) -> Any:
        """What an endpoint of the 2.x interface answers, as JSON.

        Raises:
            StoreBusyError: not now.
            StoreError: it does not answer, or refuses.
        """
        answer = self._answer(method, path, json=told)
        return json.loads(_text(answer) or "null")

    def close(self) -> None:
        """Let go of the connections."""
        self._pool.clear()

    def _answer(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> urllib3.BaseHTTPResponse:
        authorised = dict(headers or {})
        if self._where.token:
            authorised["Authorization"] = f"Token {self._where.token}"
        url = self._where.url.rstrip("/") + path
        try:
            return self._pool.request(method, url, headers=authorised, **more)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreError(f"{self._where.url}: {said(error)}") from None


def _text(answer: urllib3.BaseHTTPResponse) -> str:
    body = answer.data.decode("utf-8", "replace")
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise refusal(answer.status, body)
    return body


def _pool(where: Where) -> urllib3.PoolManager:
    settings: dict[str, Any] = {"timeout": _TIMEOUT, "retries": False, "maxsize": 4}
    if where.url.startswith("https"):
        settings["cert_reqs"] = "CERT_REQUIRED" if where.verify_tls else "CERT_NONE"
        settings["ca_certs"] = where.ca_file
    return urllib3.PoolManager(**settings)


def refusal(status: int, body: str) -> StoreError:
    """The error that an answer stands for."""
    told = f"InfluxDB answers {status}: {_message(body)}"
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return StoreBusyError(told)
    return StoreError(told)


def _message(body: str) -> str:
    try:
        told = json.loads(body)
        message = str(told.get("message") or told.get("error") or body)
    except (ValueError, AttributeError):
        message = body
    return _short(message)


def said(error: BaseException) -> str:
    """What an error of the connection says, in one line."""
    return _short(str(error))


def _short(text: str) -> str:
    return " ".join(text.split())[:_SHOWN_CHARACTERS]
