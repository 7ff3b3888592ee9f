"""A real HTTP server on loopback that serves a synthetic farm as the collector does."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from tests.tui.synthetic import SyntheticFarm


class FarmServer(ThreadingHTTPServer):
    """Serves in a thread of its own from `start` to `stop`; counts connections and requests."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, farm: SyntheticFarm, token: str | None = None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.farm = farm
        self.token = token
        self.connections = 0
        self.requests: list[str] = []
        self.answer: tuple[int, bytes] | None = None
        """Given instead of the farm's answers, where it is set."""
        self._open: set[Any] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self) -> "FarmServer":
        self._thread.start()
        return self

    def stop(self) -> None:
        """Take the server away, connections that are open included."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        self.drop_connections()
        self.farm.restart()

    def drop_connections(self) -> None:
        """Close what is open, as a proxy or a restart does."""
        for request in list(self._open):
            super().shutdown_request(request)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report nothing when a client goes away in the middle."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FarmServer

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.server.token and self.headers["Authorization"] != f"Token {self.server.token}":
            self._fail(401, "the token is wrong")
        elif self.server.answer is not None:
            self._send(*self.server.answer)
        else:
            self._route()

    def _route(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        farm = self.server.farm
        match [unquote(part) for part in parts.path.split("/")[1:]]:
            case ["v1", "status"]:
                self._tell(farm.status())
            case ["v1", "snapshot"]:
                self._tell(farm.snapshot(query["columns"].split(",")))
            case ["v1", "changes"]:
                names, wait = query["columns"].split(","), float(query["wait"])
                changes = farm.changes(query["cursor"], names, wait)
                self._tell(changes, 410, "take a new snapshot")
            case ["v1", "findings"]:
                self._tell(farm.findings())
            case ["v1", "capacity"]:
                self._tell(farm.capacity(query["by"]))
            case ["v1", "what-if"]:
                keys = [key for key in query.get("cards", "").split(",") if key]
                answer = farm.what_if(keys, query.get("gang", ""))
                self._tell(answer, 404, "no such card or gang")
            case ["v1", "cards", key]:
                self._tell(farm.detail(key), 404, "no such card")
            case ["v1", "cards", key, "series"]:
                fields, points = query["fields"].split(","), int(query["points"])
                since, until = float(query["since"]), float(query["until"])
                self._tell(farm.series(key, fields, since, until, points), 404, "no such card")
            case _:
                self._fail(404, "no such path")

    def _tell(self, answer: Any, missing: int = 500, why: str = "nothing") -> None:
        if answer is None:
            self._fail(missing, why)
        else:
            self._send(200, msgspec.json.encode(answer))

    def _fail(self, status: int, why: str) -> None:
        self._send(status, msgspec.json.encode({"error": why}))

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""
