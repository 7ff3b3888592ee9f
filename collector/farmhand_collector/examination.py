"""What the doctor examines, and what it says of it: types, the setup, and a run over all checks."""

import ipaddress
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
import urllib3

from farmhand_agent import __version__
from farmhand_agent.command import one_line
from farmhand_agent.reading import Reading
from farmhand_agent.settings import ConfigError, read_secret
from farmhand_collector import config
from farmhand_collector.nagios import CRITICAL, OK, UNKNOWN, WARNING
from farmhand_collector.store.base import StoreReader
from farmhand_collector.store.choice import places
from farmhand_collector.store.reader import EmbeddedReader

SCHEMA = 1
"""Version of the report as JSON."""
ANSWER_SECONDS = 10.0
AGENT_DAYS = 7.0
"""An agent not heard of for longer was taken away."""


class Level(StrEnum):
    """How it is with what a check looks at."""

    OK = "ok"
    WARNING = "warning"
    BAD = "bad"
    CANNOT_TELL = "cannot tell"


_EXIT_STATUS = {
    Level.OK: OK,
    Level.CANNOT_TELL: UNKNOWN,
    Level.WARNING: WARNING,
    Level.BAD: CRITICAL,
}
"""From best to worst; what cannot be told is worse than what is known to be good."""


class Result(NamedTuple):
    """What was seen, and in one sentence what to do about it."""

    level: Level
    seen: str
    remedy: str = ""


class CannotTell(Exception):
    """What a check would look at is not to be had here; the message says why in one line."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.remedy = remedy


class Check(NamedTuple):
    """One thing that is looked at; `id` is stable, scripts may rely on it.

    `examine` may raise: that is told as `cannot tell`, and the other checks go on.
    """

    id: str
    title: str
    examine: Callable[["Setup"], Result]


class Told(msgspec.Struct, frozen=True):
    """One check's result, as JSON has it."""

    id: str
    title: str
    level: str
    seen: str
    remedy: str


class Report(msgspec.Struct, frozen=True):
    """All results, as `farmhand doctor --json` prints them."""

    schema: int
    version: str
    time: float
    level: str
    checks: list[Told]


class Setup:
    """The installation that is examined: a collector's configuration, its data, its API.

    Each part may be missing; what needs it raises `CannotTell`.
    """

    def __init__(
        self,
        settings: config.Config | None = None,
        *,
        path: Path | None = None,
        error: str = "",
        url: str | None = None,
        token: str | None = None,
    ) -> None:
        """Examine by a configuration, which may be faulty (`error` says how), and an address.

        Without a URL the address is the configuration's, without a token its read token is shown.
        """
        self.path = path
        self.error = error
        self.now = time.time()
        self._settings = settings
        self._url = url
        self._token = token

    @property
    def config(self) -> config.Config:
        """The collector's configuration."""
        if self._settings is None:
            why = self.error and "the collector's configuration is faulty"
            raise CannotTell(
                why or "no configuration of a collector on this machine",
                "Run this on the collector's machine, or name its file with --config.",
            )
        return self._settings

    @property
    def data_dir(self) -> Path:
        """The collector's data, which is there."""
        directory = Path(self.config.data_dir)
        if not directory.is_dir():
            raise CannotTell(
                f"data_dir {directory} is not there, or this user may not see it",
                "Run this as the collector's user or as root.",
            )
        return directory

    @property
    def url(self) -> str:
        """Where the collector answers."""
        if self._url is not None:
            return self._url
        listen = self.config.listen
        address = ipaddress.ip_address(listen.address)
        if address.is_unspecified:
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        host = f"[{address}]" if address.version == 6 else str(address)
        scheme = "https" if config.speaks_tls(self.config) else "http"
        return f"{scheme}://{host}:{listen.port}"

    @property
    def is_local_address(self) -> bool:
        """Whether the collector is reached without a network."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def day_files(self) -> Path:
        """The folder of the collector's own store, where it is the one that is used."""
        if self.config.store.kind != "embedded":
            raise CannotTell(f"readings are kept in {self.config.store.kind}, look there")
        directory = self.data_dir / "readings"
        if not directory.is_dir():
            raise CannotTell(f"no readings in {directory}")
        return directory

    @cached_property
    def readings(self) -> StoreReader:
        """The collector's store of readings."""
        if self.config.store.kind == "embedded":
            return EmbeddedReader(self.day_files)
        from farmhand_collector.store.influx import InfluxStore

        raw, _ = places(self.config.store.influxdb)
        return InfluxStore(raw, retention_days=self.config.keep.days)

    @cached_property
    def agents(self) -> Sequence[Reading]:
        """The last word of each agent of the last days."""
        since_ns = int((self.now - AGENT_DAYS * 86_400) * 1e9)
        heard = list(self.readings.latest("agent", since_ns=since_ns).readings())
        if not heard:
            raise CannotTell(
                "no agent has been heard of", "Point ship.url of an agent at this collector."
            )
        return heard

    def agent_history(self, seconds: float, *fields: str) -> dict[str, list[Reading]]:
        """What each host's agent told in the last so many seconds, oldest first."""
        since, until = int((self.now - seconds) * 1e9), int((self.now + 60) * 1e9)
        by_host: dict[str, list[Reading]] = {}
        for reading in self.readings.between("agent", since, until, None, fields).readings():
            by_host.setdefault(host_of(reading), []).append(reading)
        return by_host

    @property
    def has_token(self) -> bool:
        """Whether there is a token to show to the collector."""
        return self._read_token() is not None

    def get(self, path: str) -> bytes:
        """What the collector answers to a question.

        Raises:
            CannotTell: it does not answer, or not with 200.
        """
        status, body = self.ask(path)
        if status != 200:
            raise CannotTell(f"the collector answered {status} to {path}")
        return body

    def ask(self, path: str) -> tuple[int, bytes]:
        """Status and body of an answer.

        Raises:
            CannotTell: there is no connection.
        """
        headers = {"Authorization": f"Token {token}"} if (token := self._read_token()) else {}
        try:
            answer = self._pool.request(
                "GET", self.url.rstrip("/") + path, headers=headers, redirect=False
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise CannotTell(f"{self.url} does not answer: {error}") from None
        return answer.status, answer.data

    @cached_property
    def _pool(self) -> urllib3.PoolManager:
        """Connections that trust this collector's own authority, where it is on this machine."""
        if urlsplit(self.url).scheme != "https":
            return urllib3.PoolManager(retries=False, timeout=ANSWER_SECONDS)
        context = urllib3.util.create_urllib3_context()
        context.load_default_certs()
        authority = Path(self._settings.data_dir) / "tls" / "ca.pem" if self._settings else None
        if authority is not None and authority.is_file():
            context.load_verify_locations(authority)
        return urllib3.PoolManager(ssl_context=context, retries=False, timeout=ANSWER_SECONDS)

    def _read_token(self) -> str | None:
        if self._token is not None or self._settings is None:
            return self._token
        path = self._settings.listen.read_token_file
        try:
            return None if path is None else read_secret(Path(path), "listen.read_token_file")
        except ConfigError as error:
            raise CannotTell(str(error)) from None

    def close(self) -> None:
        """Let go of the store's files."""
        if "readings" in self.__dict__:
            self.readings.close()


def host_of(reading: Reading) -> str:
    """The host that a reading is of."""
    return reading.tags.get("host", "")


def number(reading: Reading, field: str) -> float | None:
    """A number that a reading gives; None where it does not."""
    value = reading.fields.get(field)
    return None if value is None or isinstance(value, str) else float(value)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for a sentence, the first few of many."""
    shown = sorted(names)[:most]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def loaded(path: Path, url: str | None = None, token: str | None = None) -> Setup:
    """The setup by a configuration file; one that is faulty is a finding, not an error.

    Raises:
        ConfigError: there is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: cannot be read, expected the collector's configuration")
    try:
        return Setup(config.load(path), path=path, url=url, token=token)
    except ConfigError as error:
        return Setup(path=path, error=str(error), url=url, token=token)


def examined(setup: Setup, checks: Sequence[Check]) -> Report:
    """Run all checks; one that fails in any way does not keep the others from being made."""
    told = [_told(check, _result(check, setup)) for check in checks]
    levels = {Level(result.level) for result in told}
    worst = [level for level in _EXIT_STATUS if level in levels]
    level = worst[-1] if worst else Level.CANNOT_TELL
    return Report(SCHEMA, __version__, setup.now, level, told)


def _result(check: Check, setup: Setup) -> Result:
    try:
        return check.examine(setup)
    except CannotTell as error:
        return Result(Level.CANNOT_TELL, str(error), error.remedy)
    except Exception as error:
        seen = f"{type(error).__name__}: {error}"
        return Result(Level.CANNOT_TELL, seen, "See what the message names.")


def _told(check: Check, result: Result) -> Told:
    seen, remedy = one_line(result.seen), one_line(result.remedy)
    return Told(check.id, check.title, result.level, seen, remedy)


def exit_status(report: Report) -> int:
    """As a Nagios check has it: 0 ok, 1 warning, 2 bad, 3 something could not be told."""
    return _EXIT_STATUS[Level(report.level)]
