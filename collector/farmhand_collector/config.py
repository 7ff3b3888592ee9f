"""The collector's configuration; the text under each key says what it does."""

import ipaddress
from pathlib import Path

import msgspec

from farmhand_agent import settings
from farmhand_collector.wire import Simulated


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where agents write and terminals read."""

    address: str = "127.0.0.1"
    """IP address to listen on; another than loopback needs both token files."""
    port: int = 8428
    """TCP port."""
    write_token_file: str | None = None
    """File with the token that agents must show; None accepts any writer."""
    read_token_file: str | None = None
    """File with the token that terminals must show; None accepts any reader."""


class Keep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much history is kept."""

    days: int = 30
    """Days of readings."""
    disk_bytes: int = 20 * 2**30
    """Most disk space for readings; the oldest day goes first."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file `collector.toml`."""

    site: str = "home"
    """Name of the farm that this collector judges."""
    data_dir: str = "/var/lib/farmhand-collector"
    """Where readings and the ledger are kept."""
    listen: Listen = Listen()
    keep: Keep = Keep()
    simulated: Simulated | None = None
    """Set by `farmhand up` where the farm is not real; said in every view."""


def load(path: Path | None) -> Config:
    """Read and check a configuration file; defaults where no path is given.

    Raises:
        settings.ConfigError: with file, key and what was expected.
    """
    return settings.load(path, Config, _check)


def _check(config: Config) -> None:
    settings.in_range(config.listen.port, "listen.port", 1, 65535)
    settings.in_range(config.keep.days, "keep.days", 1, 3650)
    settings.in_range(config.keep.disk_bytes, "keep.disk_bytes", 2**20, 2**50)
    settings.check_name(config.site, "site")
    settings.check_path(config.data_dir, "data_dir")
    write, read = tokens(config)
    if not _loopback(config.listen.address) and (write is None or read is None):
        raise settings.ConfigError(
            f"listen.address: {config.listen.address} is reachable from outside, "
            "expected listen.write_token_file and listen.read_token_file to be set"
        )


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
