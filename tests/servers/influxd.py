"""InfluxDB servers on loopback ports, of the versions that `build` makes.

    with Influx2(tmp_path / "influx") as influx:
        client = InfluxDBClient(url=influx.url, token=influx.token, org=influx.org)

A server's data and its log outlive it in its folder. The server itself ends with its block, or with
the thread that started it, however that ends.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import urlencode

from tests.servers import build

START_SECONDS = 60.0
STOP_SECONDS = 30.0
REQUEST_SECONDS = 30.0
LOOK_SECONDS = 0.05
TOKEN = "a-token-for-tests"
LOG_BYTES = 4_000
"""Of the end of the log that are told when a server fails."""


class ServerFailed(Exception):
    """A server ended by itself, never answered, or refused what it was asked."""


class Influx(ABC):
    """A server and what a client has to know of it.

    `database` and `retention_policy` name in InfluxQL what `bucket` names in `/api/v2/write`.
    """

    version: ClassVar[str]

    def __init__(
        self, folder: Path, token: str, org: str, bucket: str, database: str, retention_policy: str
    ) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / "influxd.log"
        self.token = token
        self.org = org
        self.bucket = bucket
        self.database = database
        self.retention_policy = retention_policy
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = int(found.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._is_set_up = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Process id of the server that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers; the first time, set it up.

        Raises ServerFailed, with the end of its log, when that does not come about.
        """
        assert self._process is None, "it runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        # Whatever ends a test run, a server of this thread does not outlive it.
        command = ["setpriv", "--pdeathsig", "KILL", str(build.binary(self.version))]
        # Settings in the caller's environment or folder are not for this server.
        environment = {"HOME": str(self.folder), "PATH": os.environ.get("PATH", os.defpath)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._arguments()],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait()
            if not self._is_set_up:
                self._set_up()
                self._is_set_up = True
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server as a service manager would; nothing is done when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a power cut would; nothing is done when it does not run."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server if it runs, and start it on the same port with the same data."""
        self.stop()
        self.start()

    def influxql(self, statement: str, **parameters: str) -> str:
        """Answer to an InfluxQL statement as CSV, times in nanoseconds; empty where nothing is.

        Raises ServerFailed when the server refuses it. Of what it understands but cannot do, as
        with a database that is not there, it tells in JSON alone: in CSV that too is empty.
        """
        form = {"db": self.database, "epoch": "ns", "q": statement} | parameters
        headers = {
            "Accept": "application/csv",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        status, answer = self._request("POST", "/query", urlencode(form).encode(), headers)
        if status != http.HTTPStatus.OK or answer.startswith("error"):
            raise ServerFailed(f"{statement!r} was refused: {status} {answer!r}")
        return answer

    @abstractmethod
    def _arguments(self) -> Sequence[str]:
        """What the server is started with."""

    @abstractmethod
    def _set_up(self) -> None:
        """Make the database, and who may use it; called once, while the server runs."""

    def _wait(self) -> None:
        assert self._process is not None
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                raise ServerFailed(f"{self._name()} ended by itself; {self._last_words()}")
            if time.monotonic() > end:
                raise ServerFailed(f"{self._name()} never answered; {self._last_words()}")
            time.sleep(LOOK_SECONDS)

    def _answers(self) -> bool:
        try:
            status, _ = self._request("GET", "/health", b"", {})
        except (OSError, http.client.HTTPException):
            return False
        return status == http.HTTPStatus.OK

    def _end(self, by: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(by)
        try:
            self._process.wait(STOP_SECONDS)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None

    def _request(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, str]:
        authorization = {"Authorization": f"Token {self.token}"} if self.token else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS)
        try:
            connection.request(method, path, body, {**headers, **authorization})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def _name(self) -> str:
        return f"InfluxDB {self.version} at {self.url}"

    def _last_words(self) -> str:
        text = self.log.read_bytes()[-LOG_BYTES:].decode(errors="replace")
        return f"{self.log} ends with\n{text}"


class Influx1(Influx):
    """InfluxDB 1.x. Everyone may do everything unless there is a user.

    `token` is what it takes for one: `user:password`, or nothing. It takes none with a space in it.
    """

    version = "1.12.4"

    def __init__(
        self,
        folder: Path,
        database: str = "farmhand",
        retention_policy: str = "autogen",
        user: str = "",
        password: str = "",
    ) -> None:
        self.user = user
        self.password = password
        token = f"{user}:{password}" if user else ""
        bucket = f"{database}/{retention_policy}"
        super().__init__(folder, token, "", bucket, database, retention_policy)

    def _arguments(self) -> Sequence[str]:
        config = self.folder / "influxdb.conf"
        config.write_text(self._config())
        return ("-config", str(config))

    def _config(self) -> str:
        meta, data, wal = (json.dumps(str(self.folder / name)) for name in ("meta", "data", "wal"))
        return f"""\
reporting-disabled = true
bind-address = "127.0.0.1:0"  # of backups
[meta]
dir = {meta}
[data]
dir = {data}
wal-dir = {wal}
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{self.port}"
auth-enabled = {json.dumps(bool(self.user))}
"""

    def _set_up(self) -> None:
        if self.user:
            name, password = _quoted(self.user, '"'), _quoted(self.password, "'")
            # Without a user yet, this is the one statement that anybody may make.
            self.influxql(f"CREATE USER {name} WITH PASSWORD {password} WITH ALL PRIVILEGES")
        database, policy = _quoted(self.database, '"'), _quoted(self.retention_policy, '"')
        self.influxql(f"CREATE DATABASE {database} WITH DURATION INF NAME {policy}")


class Influx2(Influx):
    """InfluxDB 2.x. Nobody may do anything without the token.

    For InfluxQL it takes a bucket for a database of the same name.
    """

    version = "2.9.1"

    def __init__(
        self,
        folder: Path,
        org: str = "farmhand",
        bucket: str = "farmhand",
        token: str = TOKEN,
    ) -> None:
        super().__init__(folder, token, org, bucket, bucket, "autogen")

    def _arguments(self) -> Sequence[str]:
        return (
            f"--http-bind-address=127.0.0.1:{self.port}",
            f"--bolt-path={self.folder / 'influxd.bolt'}",
            f"--sqlite-path={self.folder / 'influxd.sqlite'}",
            f"--engine-path={self.folder / 'engine'}",
            "--reporting-disabled",
        )

    def _set_up(self) -> None:
        wanted = {
            "username": "keeper",
            "password": "a-password-for-tests",
            "org": self.org,
            "bucket": self.bucket,
            "token": self.token,
        }
        headers = {"Content-Type": "application/json"}
        body = json.dumps(wanted).encode()
        status, answer = self._request("POST", "/api/v2/setup", body, headers)
        if status != http.HTTPStatus.CREATED:
            raise ServerFailed(f"{self._name()} was not set up: {status} {answer!r}")


def _quoted(text: str, quote: str) -> str:
    """A name or a text as InfluxQL writes it."""
    escaped = text.replace("\\", "\\\\").replace(quote, f"\\{quote}").replace("\n", "\\n")
    return f"{quote}{escaped}{quote}"
