"""A farm that grows: from the embedded store to InfluxDB by one command."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from farmhand_collector.simulator import Farm
from farmhand_collector.store.embedded import EmbeddedStore
from tests.servers.influxd import Influx, Influx1, Influx2

CARDS, SPAN_SECONDS = 16, 1800.0


@pytest.fixture(params=[Influx1, Influx2], ids=lambda kind: kind.version)
def influx(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Influx]:
    """A server of each version."""
    with request.param(tmp_path / "influx") as started:
        yield started


def collector(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the collector's command line."""
    command = [sys.executable, "-m", "farmhand_collector.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_all_readings_are_in_influxdb_afterwards(influx: Influx, tmp_path: Path) -> None:
    """Set up, brought over, counted; and once more changes nothing."""
    data_dir = tmp_path / "data"
    start = time.time() - SPAN_SECONDS - 600.0
    farm = Farm(CARDS, 3, "none", start, span_seconds=SPAN_SECONDS)
    readings = [r for batch in farm.readings(start + SPAN_SECONDS) for r in batch.readings]
    data_dir.mkdir()
    with closing(EmbeddedStore(data_dir / "readings")) as store:
        store.write(readings)
    token = tmp_path / "token"
    token.write_text(influx.token or "nobody:asks", encoding="utf-8")
    config = tmp_path / "collector.toml"
    config.write_text(
        f"""
data_dir = "{data_dir}"
[store]
kind = "influxdb"
[store.influxdb]
url = "{influx.url}"
database = "my farm"
org = "{influx.org}"
token_file = "{token}"
""",
        encoding="utf-8",
    )
    assert collector("init", "--config", str(config)).returncode == 0

    first = collector("migrate", "--config", str(config))
    second = collector("migrate", "--config", str(config))

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert f"{len(readings)} readings brought over" in first.stderr
    assert "every hour has as many readings as before" in first.stderr
    assert "readings: 0 readings brought over" in second.stderr
    told = influx.influxql('SELECT count("power_watts") FROM "card"', db="my farm")
    cards = [r for r in readings if r.measurement == "card" and "power_watts" in r.fields]
    assert told.strip().endswith(f",{len(cards)}")
