"""The terminal's configuration; the text under each key says what it does."""

import os
from pathlib import Path

import msgspec

from farmhand_agent import settings


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file `farmhand.toml`."""

    url: str = "http://127.0.0.1:8428"
    """Where the collector answers."""
    token_file: str | None = None
    """File with the read token; None shows no token."""
    ca_file: str | None = None
    """File with the certificate of the authority that vouches for the collector, such as its
    `/ca.pem`; None trusts those that the system trusts."""


def usual_path() -> Path | None:
    """The configuration file that is read when none is named: the user's own, else the system's."""
    own = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    places = (Path(own) / "farmhand" / "farmhand.toml", Path("/etc/farmhand/farmhand.toml"))
    return next((path for path in places if path.is_file()), None)


def load(path: Path | None) -> Config:
    """Read and check a configuration file; where none is named, the usual one or defaults.

    Raises:
        settings.ConfigError: with file, key and what was expected.
    """
    return settings.load(path or usual_path(), Config, _check)


def _check(config: Config) -> None:
    settings.check_url(config.url, "url")
    token(config)
    if config.ca_file is not None:
        settings.check_path(config.ca_file, "ca_file")
        if not Path(config.ca_file).is_file():
            raise settings.ConfigError(f"ca_file: {config.ca_file}, expected a file")


def token(config: Config) -> str | None:
    """The read token, or None where none is configured.

    Raises:
        settings.ConfigError: its file cannot be read.
    """
    return settings.optional_secret(config.token_file, "token_file")
