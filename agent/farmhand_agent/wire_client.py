"""influxdb-client as a node can afford it: few modules, and an answer that has an end.

The client's packages import every part of InfluxDB's API as they are imported, batching and
(where it is installed) numpy with it: 14 to 25 MB for one request that a node makes. Here their
`__init__` waits until something asks for what only it provides, so that a write loads the write.
"""

import functools
import http.client
import importlib.util
import io
import socket
import sys
import time
from types import ModuleType
from typing import Any

import urllib3
from urllib3.connectionpool import HTTPConnectionPool

from farmhand_agent.config import Ship

_PACKAGES = (
    "influxdb_client",
    "influxdb_client.client",
    "influxdb_client.domain",
    "influxdb_client.service",
)


class AnswerLimit:
    """What the answer to one request may take in all, headers included.

    A time-out of the socket is for each read anew: it does not end an answer that trickles.
    """

    def __init__(self, seconds: float, most_bytes: int) -> None:
        self._seconds = seconds
        self._most_bytes = most_bytes
        self.start()

    def start(self) -> None:
        """Begin a request."""
        self._end = time.monotonic() + self._seconds
        self._bytes_left = self._most_bytes

    def seconds_left(self) -> float:
        """Time for the next read; more than 0.

        Raises:
            TimeoutError: there is none left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no complete answer within {self._seconds:g} s")
        return left

    def spend(self, size: int) -> None:
        """Count what came.

        Raises:
            OSError: it is too much.
        """
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise OSError(f"the answer is longer than {self._most_bytes} B")


class WriteClient:
    """Writes to `/api/v2/write` through influxdb-client, over one kept connection.

    Proxies of the environment are not used: readings go where the configuration says. Redirects
    are not followed.
    """

    def __init__(
        self, ship: Ship, timeout_seconds: tuple[float, float], limit: AnswerLimit
    ) -> None:
        """Make a client; the time-outs are for connecting and for each read."""
        api_client, configuration, write_service = _client_classes()
        settings = configuration()
        settings.host = ship.url.rstrip("/")
        settings.timeout = tuple(int(seconds * 1000) for seconds in timeout_seconds)
        settings.verify_ssl = ship.verify_tls
        settings.ssl_ca_cert = ship.ca_file
        settings.connection_pool_maxsize = 1
        self._target = {"org": ship.org, "bucket": ship.bucket, "precision": "ns"}
        self._limit = limit
        self._client = api_client(settings)
        self._connections = self._client.rest_client.pool_manager
        self._connections.pool_classes_by_scheme = _limited_pools(limit)
        self._service = write_service(self._client)
        if not ship.verify_tls:
            # Said once by the shipper, instead of with each request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def write(self, body: bytes, token: str | None) -> urllib3.HTTPHeaderDict:
        """Write line protocol; returns the headers of the answer.

        Raises:
            Exception: of influxdb-client with a `status`, when the store answered otherwise than
                with success; of urllib3 when it did not answer.
        """
        if token:
            self._client.set_default_header("Authorization", f"Token {token}")
        self._limit.start()
        _, _, headers = self._service.post_write_with_http_info(body=body, **self._target)
        return headers  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the connection."""
        self._connections.clear()


# --- an answer that has an end -----------------------------------------------------------------


class _LimitedReader(io.RawIOBase):
    """Reads from a socket within the limit."""

    def __init__(self, sock: socket.socket, limit: AnswerLimit) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._limit = limit
        self._silence = sock.gettimeout() or float("inf")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(min(self._silence, self._limit.seconds_left()))
        size = self._raw.readinto(buffer)
        self._limit.spend(size or 0)
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _LimitedResponse(http.client.HTTPResponse):
    def __init__(self, limit: AnswerLimit, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_LimitedReader(sock, limit))


def _limited_pools(limit: AnswerLimit) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's pools, whose connections read their answers within a limit."""
    response = functools.partial(_LimitedResponse, limit)
    pools = urllib3.poolmanager.pool_classes_by_scheme
    return {scheme: _limited_pool(pool, response) for scheme, pool in pools.items()}


def _limited_pool(pool: type[HTTPConnectionPool], response: Any) -> type[HTTPConnectionPool]:
    connection = type("LimitedConnection", (pool.ConnectionCls,), {"response_class": response})
    return type("LimitedPool", (pool,), {"ConnectionCls": connection})


# --- few modules -------------------------------------------------------------------------------


class _Deferred(ModuleType):
    """A package whose `__init__` runs when it is asked for what nobody has put in yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert self.__spec__ is not None and self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _defer(name: str) -> None:
    """Put a package in place without running it, unless it is there already."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Deferred
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def _client_classes() -> tuple[Any, Any, Any]:
    """The client's classes that a write goes through: ApiClient, Configuration, WriteService."""
    for name in _PACKAGES:
        _defer(name)
    from influxdb_client.service.signin_service import SigninService
    from influxdb_client.service.signout_service import SignoutService
    from influxdb_client.version import VERSION

    # These are what the client itself takes from its package; anything else would run it.
    taken = {"SigninService": SigninService, "SignoutService": SignoutService, "VERSION": VERSION}
    vars(sys.modules["influxdb_client"]).update(taken)

    from influxdb_client._sync.api_client import ApiClient
    from influxdb_client.configuration import Configuration
    from influxdb_client.service.write_service import WriteService

    return ApiClient, Configuration, WriteService
