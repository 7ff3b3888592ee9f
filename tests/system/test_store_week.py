"""The same readings give the same verdicts, whichever store they come through."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from farmhand_agent.reading import Reading
from farmhand_collector.changes import Change, ChangeLog
from farmhand_collector.judging import Judge
from farmhand_collector.simulator import Farm
from farmhand_collector.store.base import Store
from farmhand_collector.store.embedded import EmbeddedStore
from farmhand_collector.store.influx import InfluxStore
from farmhand_collector.store.influx_http import Where
from farmhand_collector.store.influx_setup import prepare
from tests.servers.influxd import Influx, Influx1, Influx2

START = 1_795_000_000.0
CARDS, SEED = 24, 11
SPAN_SECONDS = 5400.0
_BATCH = 5_000


@pytest.fixture(scope="module")
def readings() -> list[Reading]:
    """An hour and a half of a farm in which many things go wrong, in order of time."""
    farm = Farm(CARDS, SEED, "all", START, span_seconds=SPAN_SECONDS)
    told = [r for batch in farm.readings(START + SPAN_SECONDS) for r in batch.readings]
    return sorted(told, key=lambda reading: reading.time_ns)


def changes(store: Store, readings: list[Reading]) -> list[Change]:
    """Write all, follow from the begin, and say what changed."""
    for at in range(0, len(readings), _BATCH):
        store.write(readings[at : at + _BATCH])
    judge, log, position = Judge(), ChangeLog(), 0
    said: list[Change] = []
    while True:
        blocks, position = store.readings(position)
        if not blocks:
            break
        for tick in judge.feed(blocks):
            said += log.of(tick)
    for tick in judge.finish():
        said += log.of(tick)
    return said


@pytest.fixture(scope="module")
def embedded(readings: list[Reading], tmp_path_factory: pytest.TempPathFactory) -> list[Change]:
    """What is said of what the embedded store gives."""
    with closing(EmbeddedStore(tmp_path_factory.mktemp("embedded"))) as store:
        return changes(store, readings)


@pytest.fixture(params=[Influx1, Influx2], ids=lambda kind: kind.version)
def influx(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Influx]:
    """A server of each version."""
    with request.param(tmp_path / "influx") as started:
        yield started


def test_influxdb_gives_the_same_verdicts(
    readings: list[Reading], embedded: list[Change], influx: Influx
) -> None:
    """To the frame, with the same words."""
    where = Where(influx.url, "farm", influx.org, influx.token)
    prepare(where, 3650)
    now_ns = int((START + SPAN_SECONDS + 60) * 1e9)
    store = InfluxStore(where, retention_days=3650, poll_seconds=0.0, clock=lambda: now_ns)

    with closing(store):
        said = changes(store, readings)

    assert len(embedded) > CARDS
    assert said == embedded
