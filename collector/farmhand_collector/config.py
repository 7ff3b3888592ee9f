"""The collector's configuration; the text under each key says what it does."""

import ipaddress
import re
from pathlib import Path
from typing import Literal

import msgspec

from farmhand_agent import settings
from farmhand_collector import tokens as token_file
from farmhand_collector.backup_settings import Backup
from farmhand_collector.backup_settings import check as check_backup
from farmhand_collector.wire import Simulated


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where agents write and terminals read."""

    address: str = "127.0.0.1"
    """IP address to listen on; another than loopback needs tokens and TLS, which
    `farmhand-collector init` makes."""
    port: int = 8428
    """TCP port."""
    names: tuple[str, ...] = ()
    """Names and addresses under which agents reach this machine, the first one told to new nodes;
    the server's certificate holds for these and for what the machine itself knows."""
    tls: bool | None = None
    """Whether to speak TLS; None speaks it wherever others than this machine can listen."""
    insecure: bool = False
    """Lets anything but loopback do without TLS: tokens and readings are there for all to see."""
    write_token_file: str | None = None
    """File with a token that agents may share. Without it and without tokens of `init`, anyone
    writes."""
    read_token_file: str | None = None
    """File with a token that terminals may share. Without it and without tokens of `init`, anyone
    reads."""


class Keep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much history is kept."""

    days: int = 30
    """Days of readings as they came."""
    kept_days: int = 365
    """Days of the long memory, in which five minutes of readings are one."""
    disk_bytes: int = 20 * 2**30
    """Most disk space for each of the two; the oldest day goes first. A server has its own
    limits."""


class InfluxDB(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A database of an InfluxDB server."""

    url: str = "http://127.0.0.1:8086"
    """Its address."""
    database: str = "farmhand"
    """Bucket of a 2.x server, database of a 1.x server; that of five minutes is named after it."""
    org: str = ""
    """Organisation on a 2.x server."""
    token_file: str | None = None
    """File with a token that may read and write; on a 1.x server with `user:password`."""
    ca_file: str | None = None
    """File with the certificate of the authority that vouches for the server."""
    verify_tls: bool = True
    """Whether the server must prove who it is."""


class Chosen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where readings are kept."""

    kind: Literal["embedded", "influxdb"] = "embedded"
    """`embedded` keeps them in files of its own, `influxdb` on a server."""
    influxdb: InfluxDB = InfluxDB()
    """The server, where one is used."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file `collector.toml`."""

    site: str = "home"
    """Name of the farm that this collector judges."""
    data_dir: str = "/var/lib/farmhand-collector"
    """Where readings and the ledger are kept."""
    listen: Listen = Listen()
    keep: Keep = Keep()
    store: Chosen = Chosen()
    backup: Backup = Backup()
    simulated: Simulated | None = None
    """Set by `farmhand up` where the farm is not real; said in every view."""


def load(path: Path | None) -> Config:
    """Read and check a configuration file; defaults where no path is given.

    Raises:
        settings.ConfigError: with file, key and what was expected.
    """
    return settings.load(path, Config, _check)


def load_unguarded(path: Path | None) -> Config:
    """As `load`, for what makes the tokens and certificates that it would ask for.

    Raises:
        settings.ConfigError: with file, key and what was expected.
    """
    return settings.load(path, Config, _check_values)


def _check(config: Config) -> None:
    _check_values(config)
    # Whether they can be used, should there be any.
    token_file.read(token_file.path_in(Path(config.data_dir)))
    write, read = tokens(config)
    address = config.listen.address
    if _loopback(address):
        return
    outside = f"listen.address: {address} is reachable from outside, expected"
    if not has_tokens(config) and (write is None or read is None):
        raise settings.ConfigError(
            f"{outside} tokens: run `farmhand-collector init` (or set listen.write_token_file and "
            "listen.read_token_file)"
        )
    if not speaks_tls(config) and not config.listen.insecure:
        raise settings.ConfigError(f"{outside} TLS, or listen.insecure = true to do without")


def _check_values(config: Config) -> None:
    settings.in_range(config.listen.port, "listen.port", 1, 65535)
    settings.in_range(config.keep.days, "keep.days", 1, 3650)
    settings.in_range(config.keep.kept_days, "keep.kept_days", config.keep.days, 3650)
    _check_store(config.store)
    check_backup(config)
    settings.in_range(config.keep.disk_bytes, "keep.disk_bytes", 2**20, 2**50)
    settings.check_name(config.site, "site")
    settings.check_path(config.data_dir, "data_dir")
    for name in config.listen.names:
        _check_host(name)
    _loopback(config.listen.address)


def _check_store(chosen: Chosen) -> None:
    if chosen.kind == "influxdb":
        server = chosen.influxdb
        settings.check_url(server.url, "store.influxdb.url")
        settings.optional_secret(server.token_file, "store.influxdb.token_file")
        for name in ("database", "org"):
            if any(not character.isprintable() for character in getattr(server, name)):
                told = f"store.influxdb.{name}: {getattr(server, name)!r}, expected printable text"
                raise settings.ConfigError(told)
        if not server.database:
            raise settings.ConfigError("store.influxdb.database: empty, expected a name")


_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


def _check_host(name: str) -> None:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        if not _HOST.fullmatch(name):
            told = f"{name!r}, expected host names and IP addresses"
            raise settings.ConfigError(f"listen.names: {told}") from None


def has_tokens(config: Config) -> bool:
    """Whether `init` made tokens, from when on everybody must show one.

    Raises:
        settings.ConfigError: the directory may not be looked into.
    """
    path = token_file.path_in(Path(config.data_dir))
    try:
        return path.exists()
    except OSError as error:
        raise settings.ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def speaks_tls(config: Config) -> bool:
    """Whether the collector serves https."""
    listen = config.listen
    if listen.tls is not None:
        return listen.tls
    return not listen.insecure and not _loopback(listen.address)


def is_exposed(config: Config) -> bool:
    """Whether others than this machine can reach it, without TLS."""
    return not _loopback(config.listen.address) and not speaks_tls(config)


def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise settings.ConfigError(f"listen.address: {address!r}, expected an IP address") from None


def tokens(config: Config) -> tuple[str | None, str | None]:
    """The tokens for writing and for reading, None where none is configured.

    Raises:
        settings.ConfigError: a file cannot be read.
    """
    listen = config.listen
    return (
        settings.optional_secret(listen.write_token_file, "listen.write_token_file"),
        settings.optional_secret(listen.read_token_file, "listen.read_token_file"),
    )
