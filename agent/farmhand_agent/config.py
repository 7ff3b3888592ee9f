"""The agent's configuration; the comment under each key says what it does."""

import socket
from pathlib import Path

import msgspec

from farmhand_agent import settings
from farmhand_agent.spool_disk import MINIMUM_CAP_BYTES


def host_name() -> str:
    """What this machine calls itself, without its domain."""
    return socket.gethostname().split(".")[0] or "localhost"


class Ship(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where readings go: any server that takes line protocol at `/api/v2/write`."""

    url: str = "http://127.0.0.1:8428"
    """Base URL of the collector or of InfluxDB."""
    token_file: str | None = None
    """File with the write token, read again when it changes; None sends no token."""
    org: str = "farmhand"
    """InfluxDB organisation; the collector ignores it."""
    bucket: str = "farmhand"
    """InfluxDB bucket, or `database/policy` for InfluxDB 1."""
    verify_tls: bool = True
    """Whether an https server must prove who it is; false lets anyone on the way take the token."""
    ca_file: str | None = None
    """Certificates (PEM) that may vouch for the server, in place of the system's."""
    spool_bytes: int = 64 * 2**20
    """Most that is kept on disk while the server does not answer, and no more than half of what is
    free there; the oldest goes first."""


class Nvidia(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cards read through NVML."""

    enabled: bool = True
    """Whether to look for NVIDIA cards at all."""


class Work(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rates that jobs report by dropping files."""

    dir: str = "/run/farmhand/work"
    """Directory that jobs write into; one that is not there is no mistake."""
    stale_seconds: float = 120.0
    """A file that was not written for so long counts no more."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file `agent.toml`."""

    site: str = "home"
    """Which farm."""
    rack: str = ""
    """Which rack or shelf, if any."""
    host: str = msgspec.field(default_factory=host_name)
    """Name of this node; must be unique in the farm."""
    interval_seconds: float = 10.0
    """Length of a window: one reading of each card is shipped per window."""
    sample_seconds: float = 1.0
    """How often each card is sampled within a window."""
    state_dir: str = "/var/lib/farmhand-agent"
    """Where spool and inventory are kept."""
    sysfs: str = "/sys"
    """Where the kernel's sysfs is mounted; a container may see the host's elsewhere."""
    ship: Ship = Ship()
    nvidia: Nvidia = Nvidia()
    work: Work = Work()


def load(path: Path | None) -> Config:
    """Read and check a configuration file; defaults where no path is given.

    Raises:
        settings.ConfigError: with file, key and what was expected.
    """
    return settings.load(path, Config, _check)


def _check(config: Config) -> None:
    settings.in_range(config.interval_seconds, "interval_seconds", 0.2, 600)
    settings.in_range(config.sample_seconds, "sample_seconds", 0.05, config.interval_seconds)
    settings.in_range(config.ship.spool_bytes, "ship.spool_bytes", MINIMUM_CAP_BYTES, 2**30)
    settings.check_url(config.ship.url, "ship.url")
    settings.check_name(config.site, "site")
    settings.check_name(config.rack or "none", "rack")
    settings.check_name(config.host, "host")
    settings.check_path(config.state_dir, "state_dir")
    settings.check_path(config.sysfs, "sysfs")
    settings.check_path(config.work.dir, "work.dir")
    settings.in_range(config.work.stale_seconds, "work.stale_seconds", 1, 86_400)
    token(config)
    _check_certificates(config.ship.ca_file, "ship.ca_file")


def _check_certificates(path: str | None, key: str) -> None:
    if path is None:
        return
    settings.check_path(path, key)
    # Only here: few need it, and it costs a process that does not ship 5 MB.
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise settings.ConfigError(f"{key}: {path} holds no certificates, expected PEM") from None
    except OSError as error:
        raise settings.ConfigError(f"{key}: {path} cannot be read: {error.strerror}") from None


def token(config: Config) -> str | None:
    """The write token, or None where none is configured.

    Raises:
        settings.ConfigError: its file cannot be read.
    """
    return settings.optional_secret(config.ship.token_file, "ship.token_file")
