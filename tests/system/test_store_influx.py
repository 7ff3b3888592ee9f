"""InfluxDB 1.12 and 2.9 do what every store does, and are set up, killed and missed."""

import itertools
from collections.abc import Iterator

import pytest

from farmhand_collector.store.base import Store, StoreError
from farmhand_collector.store.influx import InfluxStore
from farmhand_collector.store.influx_http import Where
from farmhand_collector.store.influx_setup import prepare, probe
from tests.collector.store.conformance import Keeper, StoreConformance
from tests.collector.store.examples import NOON_NS, card, read_all, row_of
from tests.servers.influxd import Influx, Influx1, Influx2


class _Databases:
    """Databases of one server, each for a store of its own."""

    _numbers = itertools.count()

    def __init__(self, influx: Influx) -> None:
        self._influx = influx
        self._made: list[InfluxStore] = []

    def where(self, name: str = "") -> Where:
        name = name or f"farm {next(self._numbers)}"
        return Where(self._influx.url, name, self._influx.org, self._influx.token)

    def empty_store(self) -> Store:
        where = self.where()
        prepare(where, 3650)
        store = InfluxStore(
            where, retention_days=3650, poll_seconds=0.0, clock=lambda: NOON_NS + 60 * 10**9
        )
        self._made.append(store)
        return store

    def close(self) -> None:
        for store in self._made:
            store.close()


@pytest.fixture(scope="module", params=[Influx1, Influx2], ids=lambda kind: kind.version)
def influx(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Influx]:
    """A server of each version."""
    with request.param(tmp_path_factory.mktemp("influx")) as started:
        yield started


class TestInflux(StoreConformance):
    """Real servers."""

    @pytest.fixture
    def keeper(self, influx: Influx) -> Iterator[Keeper]:
        """Each store has a database of its own."""
        databases = _Databases(influx)
        yield databases
        databases.close()

    def test_it_says_what_it_is(self, influx: Influx) -> None:
        """Versions that were tried carry no note."""
        found = probe(_Databases(influx).where("any"))

        assert (str(found.generation), found.version, found.note) == (
            influx.version[0],
            influx.version,
            "",
        )

    def test_a_database_is_made_once_and_its_retention_changed(self, influx: Influx) -> None:
        """Asking again changes nothing; asking for more days does."""
        where = _Databases(influx).where("set up")

        said = [prepare(where, days).done[0] for days in (30, 30, 90)]

        assert [words.split(" ", 1)[0] for words in said] == [
            "made",
            said[1].split()[0],
            said[2].split()[0],
        ]
        assert "is there and keeps 30 days" in said[1]
        assert "keeps 90 days now" in said[2]

    def test_the_long_memory_has_a_place_of_its_own(self, influx: Influx) -> None:
        """And what is written without naming it still goes to the readings as they come."""
        where = _Databases(influx).where("two places")
        kept = where._replace(database="two places/five_minutes")
        for place, days in ((where, 30), (kept, 365)):
            prepare(place, days)
        stores = [
            InfluxStore(place, poll_seconds=0.0, clock=lambda: NOON_NS) for place in (where, kept)
        ]

        stores[0].write([card(power_watts=1.0)])
        stores[1].write([card(power_watts=2.0)])

        told = [store.between("card", NOON_NS, NOON_NS + 1) for store in stores]
        assert [block.values["power_watts"].tolist() for block in told] == [[1.0], [2.0]]
        for store in stores:
            store.close()

    def test_what_was_written_survives_a_kill(self, influx: Influx) -> None:
        """As the server promises with its answer."""
        databases = _Databases(influx)
        store = databases.empty_store()
        store.write([card(power_watts=1.5)])

        influx.kill()
        influx.start()

        assert read_all(store) == [row_of(card(power_watts=1.5))]
        databases.close()

    def test_a_server_that_is_gone_is_told_in_one_line(self, influx: Influx) -> None:
        """And is found again when it is back."""
        databases = _Databases(influx)
        store = databases.empty_store()
        influx.stop()
        try:
            for ask in (lambda: store.write([card()]), lambda: store.readings(0)):
                with pytest.raises(StoreError, match=influx.url) as told:
                    ask()
                assert "\n" not in str(told.value)
        finally:
            influx.start()

        store.write([card()])

        assert read_all(store) == [row_of(card())]
        databases.close()

    def test_a_database_that_is_missing_is_told(self, influx: Influx) -> None:
        """A bucket that somebody deleted."""
        store = InfluxStore(_Databases(influx).where("nowhere"), clock=lambda: NOON_NS)

        for ask in (lambda: store.write([card()]), lambda: store.readings(0)):
            with pytest.raises(StoreError, match="not found"):
                ask()
        store.close()
