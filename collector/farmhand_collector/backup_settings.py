"""The section `[backup]` of the collector's configuration."""

from pathlib import Path
from typing import Protocol

import msgspec

from farmhand_agent import settings


class Backup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Copies of the ledger, the tokens and the certificates; the section `[backup]`."""

    directory: str | None = None
    """Where they are kept, best on another disk or machine; None makes none."""
    every_seconds: float = 3600.0
    """Time from one to the next."""
    hours: int = 24
    """Of so many hours the newest one is kept."""
    days: int = 7
    """And of so many days."""


class Settings(Protocol):
    """What of the collector's configuration is looked at here."""

    @property
    def data_dir(self) -> str:
        """Where the collector keeps its files."""

    @property
    def backup(self) -> Backup:
        """How they are copied."""


def check(config: Settings) -> None:
    """Check the section `[backup]`.

    Raises:
        settings.ConfigError: with key and what was expected.
    """
    backup = config.backup
    settings.in_range(backup.every_seconds, "backup.every_seconds", 60, 86_400)
    settings.in_range(backup.hours, "backup.hours", 1, 1000)
    settings.in_range(backup.days, "backup.days", 0, 1000)
    if backup.directory is None:
        return
    settings.check_path(backup.directory, "backup.directory")
    kept, data = Path(backup.directory).absolute(), Path(config.data_dir).absolute()
    if kept == data or data in kept.parents:
        raise settings.ConfigError(
            f"backup.directory: {kept} is inside of data_dir, expected another place"
        )
