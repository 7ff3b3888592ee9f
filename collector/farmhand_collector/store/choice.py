"""Which store a collector uses: its own files, or a database of an InfluxDB server."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from farmhand_agent import settings
from farmhand_collector.config import Chosen, InfluxDB
from farmhand_collector.store.base import Store, StoreError
from farmhand_collector.store.embedded import EmbeddedStore

if TYPE_CHECKING:
    from farmhand_collector.store.influx_http import Where

FIVE_MINUTES = "five_minutes"
"""Name of the retention policy, or of the folder, of readings of five minutes made one."""


class Stores(NamedTuple):
    """The store of raw readings, and that of five minutes made one."""

    raw: Store
    kept: Store

    def close(self) -> None:
        """Let go of both."""
        with suppress(StoreError):
            self.raw.close()
        self.kept.close()


def opened(chosen: Chosen, data_dir: Path, *, days: int, kept_days: int, disk_bytes: int) -> Stores:
    """Open what was chosen; nothing is made on a server.

    Raises:
        StoreError: the files cannot be used.
        settings.ConfigError: the token cannot be read.
    """
    if chosen.kind == "influxdb":
        return _influxdb(chosen.influxdb, days, kept_days)
    raw = EmbeddedStore(data_dir / "readings", retention_days=days, most_bytes=disk_bytes)
    try:
        kept = EmbeddedStore(
            data_dir / FIVE_MINUTES, retention_days=kept_days, most_bytes=disk_bytes
        )
    except StoreError:
        raw.close()
        raise
    return Stores(raw, kept)


def places(server: InfluxDB) -> "tuple[Where, Where]":
    """The database of raw readings, and that of five minutes made one.

    On a 1.x server the latter is a retention policy, on a 2.x server a bucket: both are asked for
    by the same name.

    Raises:
        settings.ConfigError: the token cannot be read.
    """
    from farmhand_collector.store.influx_http import Where

    token = settings.optional_secret(server.token_file, "store.influxdb.token_file")
    raw = Where(server.url, server.database, server.org, token, server.verify_tls, server.ca_file)
    name = server.database.partition("/")[0]
    return raw, raw._replace(database=f"{name}/{FIVE_MINUTES}")


def _influxdb(server: InfluxDB, days: int, kept_days: int) -> Stores:
    from farmhand_collector.store.influx import InfluxStore

    raw, kept = places(server)
    return Stores(
        InfluxStore(raw, retention_days=days), InfluxStore(kept, retention_days=kept_days)
    )
