"""The API over HTTP, from a real server on a loopback port."""

import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
import urllib3
import uvicorn
from starlette.applications import Starlette

from farmhand_agent.reading import Reading
from farmhand_collector.access import of_token
from farmhand_collector.api import Api, thinned
from farmhand_collector.block import block_of
from farmhand_collector.changes import ChangeLog
from farmhand_collector.history import History
from farmhand_collector.judging import Tick
from farmhand_collector.ledger import Ledger
from farmhand_collector.store.embedded import EmbeddedStore
from farmhand_collector.view import COLUMNS, View
from farmhand_collector.wire import (
    SCHEMA,
    CapacityRow,
    CardDetail,
    Changes,
    FarmState,
    Finding,
    Planted,
    Series,
    Simulated,
    Snapshot,
    WhatIf,
)
from tests.collector.farms import START, card_tags, gone, healthy, ticks, times

T = TypeVar("T")
TOKEN = "read-only"
PATIENCE_SECONDS = 30.0
HELD = Simulated(7, [Planted("GPU-5", "node-1", "1", "lost", START)])


def farm() -> list[Reading]:
    """Eight cards; one is lost after a while, and told why."""
    readings = []
    for at in times(1200, 10.0):
        readings += [
            healthy(card, at, power_watts=300 + at / 100) for card in range(8) if card != 5
        ]
        readings.append(gone(5, at) if at > 900 else healthy(5, at))
    where = card_tags(5)
    fall: dict[str, float | str] = {"kind": "xid", "code": "79", "text": "GPU has fallen off"}
    info: dict[str, float | str] = {"driver": "550.54", "pcie_width_max": 16.0}
    readings.append(Reading("card_event", where, fall, int((START + 899) * 1e9)))
    readings.append(Reading("card_info", where, info, int(START * 1e9)))
    return sorted(readings, key=lambda reading: reading.time_ns)


class Server:
    """A collector's API over a farm that was judged up to its last tick but one."""

    def __init__(self, directory: Path, token: str | None) -> None:
        self.store = EmbeddedStore(directory / "readings")
        self.ledger = Ledger(directory / "farm.sqlite")
        self.view = View(HELD)
        self._log = ChangeLog()
        readings = farm()
        self.store.write(readings)
        *earlier, self.last = ticks(readings)
        for tick in earlier:
            self.tell(tick)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._started = threading.Event()
        self._server = uvicorn.Server(self._config(token))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        assert self._started.wait(PATIENCE_SECONDS)

    def tell(self, tick: Tick) -> None:
        """Judge on, as the judging thread does."""
        self.ledger.commit(tick.frame.end_ns, self._log.of(tick))
        self.view.update(tick)

    def _config(self, token: str | None) -> uvicorn.Config:
        api = Api(
            self.view,
            self.ledger,
            self.store,
            History(self.store, self.store, raw_days=30),
            of_token(token),
        )

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            api.listen()
            self._started.set()
            yield

        app = Starlette(routes=api.routes(), lifespan=lifespan)
        return uvicorn.Config(
            app, http="h11", ws="none", log_config=None, timeout_graceful_shutdown=1
        )

    def close(self) -> None:
        """End the server's thread and let go of the files."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self.store.close()
        self.ledger.close()

    def get(self, path: str, token: str | None = None) -> tuple[int, bytes]:
        """Status and body of an answer."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = urllib3.request("GET", self.url + path, headers=headers, retries=False)
        if answer.status != 404 or answer.data.startswith(b"{"):
            assert answer.headers["Content-Type"] == "application/json"
        return answer.status, answer.data

    def told(self, path: str, kind: type[T]) -> T:
        """An answer as the type that the wire promises."""
        status, body = self.get(path)
        assert status == 200, body
        return msgspec.json.decode(body, type=kind, strict=True)

    def error(self, path: str, token: str | None = None) -> tuple[int, str]:
        """Status and line of an error."""
        status, body = self.get(path, token)
        answer = msgspec.json.decode(body, type=dict[str, str])
        assert list(answer) == ["error"]
        assert "\n" not in answer["error"]
        return status, answer["error"]


@contextmanager
def serving(directory: Path, token: str | None = None) -> Iterator[Server]:
    """A server, ended in order."""
    server = Server(directory, token)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that any reader may ask; its farm stands still."""
    with serving(tmp_path_factory.mktemp("collector")) as opened:
        yield opened


class TestAnswers:
    """Every route answers with its type."""

    def test_status(self, server: Server) -> None:
        """The whole farm in words, labelled as simulated."""
        state = server.told("/v1/status", FarmState)

        assert state.simulated == HELD
        assert [card.state for card in state.cards].count("lost") == 1
        assert len(state.cards) == 8

    def test_snapshot(self, server: Server) -> None:
        """All columns, where none are named."""
        snapshot = server.told("/v1/snapshot", Snapshot)

        assert snapshot.schema == SCHEMA
        assert set(snapshot.columns) == set(COLUMNS)
        assert {len(column) for column in snapshot.columns.values()} == {8}

    def test_snapshot_of_some_columns(self, server: Server) -> None:
        """And the key with them."""
        snapshot = server.told("/v1/snapshot?columns=state,power_watts", Snapshot)

        assert list(snapshot.columns) == ["key", "state", "power_watts"]
        assert snapshot.columns["power_watts"][5] is None

    def test_changes(self, server: Server) -> None:
        """Nothing new comes without waiting."""
        cursor = server.told("/v1/snapshot", Snapshot).cursor

        changes = server.told(f"/v1/changes?cursor={cursor}&columns=state", Changes)

        assert changes.columns == {"key": [], "state": []}
        assert changes.cursor == cursor

    def test_findings(self, server: Server) -> None:
        """What is wrong, with steps for the keeper's hands."""
        (found,) = server.told("/v1/findings", list[Finding])

        assert (found.key, found.state, found.action) == ("GPU-5", "lost", "reseat")
        assert found.steps

    def test_capacity(self, server: Server) -> None:
        """What the farm gives, as its state says it too; and each node."""
        (farm,) = server.told("/v1/capacity", list[CapacityRow])
        nodes = server.told("/v1/capacity?by=node", list[CapacityRow])

        assert server.told("/v1/status", FarmState).capacity == farm
        assert (farm.cards, farm.unknown_models) == (8, 0)
        assert farm.compute.delivered == pytest.approx(7 / 8 * (farm.compute.expected or 0))
        assert [(row.name, list(row.compute.missing_by_cause)) for row in nodes] == [
            *(("node-0", []), ("node-1", ["unreachable"]))
        ]

    def test_what_if(self, server: Server) -> None:
        """A card that is lost brings all of itself back."""
        answer = server.told("/v1/what-if?cards=GPU-5,GPU-1", WhatIf)

        (farm,) = server.told("/v1/capacity", list[CapacityRow])
        assert answer.cards == ["GPU-5", "GPU-1"]
        assert answer.returns["compute"] == pytest.approx(farm.compute.missing)

    def test_card(self, server: Server) -> None:
        """Verdict, facts, and what happened, newest first."""
        detail = server.told("/v1/cards/GPU-5", CardDetail)

        assert detail.verdict.state == "lost"
        assert detail.info["driver"] == "550.54"
        told = [(event.kind, event.code) for event in detail.events]
        assert ("xid", "79") in told
        assert ("verdict", "lost") in told
        assert [e.time for e in detail.events] == sorted(
            (e.time for e in detail.events), reverse=True
        )

    def test_series(self, server: Server) -> None:
        """Means over equal stretches, at most as many as asked for."""
        asked = f"fields=power_watts,fan_ratio&since={START}&until={START + 600}&points=6"

        series = server.told(f"/v1/cards/GPU-1/series?{asked}", Series)

        assert series.times == [START + 50 + 100 * number for number in range(6)]
        assert series.fields["power_watts"] == pytest.approx(
            [300 + (45 + 100 * n) / 100 for n in range(6)]
        )
        assert series.fields["fan_ratio"] == [0.6] * 6

    def test_series_of_more_points_than_readings(self, server: Server) -> None:
        """Stretches without a reading are left out, not drawn as zero."""
        asked = f"fields=power_watts&since={START}&until={START + 100}&points=2000"

        series = server.told(f"/v1/cards/GPU-1/series?{asked}", Series)

        assert series.fields["power_watts"] == pytest.approx([300 + n / 10 for n in range(10)])

    def test_series_ends_with_the_last_tick_where_nothing_else_is_asked(
        self, server: Server
    ) -> None:
        """The last hour."""
        series = server.told("/v1/cards/GPU-1/series?fields=power_watts", Series)

        assert series.times[-1] <= (server.view.time or 0)
        assert len(series.times) > 90

    def test_series_of_a_field_that_the_card_does_not_give(self, server: Server) -> None:
        """Times without values."""
        path = f"/v1/cards/GPU-1/series?fields=hotspot_temperature_celsius&since={START}&points=3"

        assert set(server.told(path, Series).fields["hotspot_temperature_celsius"]) == {None}

    @pytest.mark.parametrize("query", ["", "?fields=", "?fields=power_watts&since=5&until=4"])
    def test_series_of_nothing(self, server: Server, query: str) -> None:
        """No field, or no time: an empty answer."""
        series = server.told(f"/v1/cards/GPU-1/series{query}", Series)

        assert not any(series.fields.values())


class TestErrors:
    """Every error is one line, with its status."""

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("/v1/snapshot?columns=state,speed", "columns: 'speed' is unknown"),
            ("/v1/changes?cursor=x:1&wait=long", "wait: 'long', expected a number from 0 to 60"),
            ("/v1/changes?cursor=x:1&wait=nan", "wait: 'nan', expected a number from 0 to 60"),
            ("/v1/changes?cursor=x:1&wait=61", "wait: '61', expected a number from 0 to 60"),
            ("/v1/cards/GPU-1/series?fields=state", "fields: 'state' is no number of a card"),
            ("/v1/cards/GPU-1/series?points=0", "points: '0', expected a number from 1 to 2000"),
            (
                "/v1/capacity?by=shelf",
                "by: 'shelf', expected one of farm, site, rack, node, model, batch",
            ),
            (
                "/v1/what-if?cards=,",
                "cards: missing, expected keys of cards or the name of a gang",
            ),
            ("/v1/cards/GPU-1/series?since=inf", "since: 'inf', expected a number from 0 to 1e+11"),
        ],
    )
    def test_bad_questions(self, server: Server, path: str, message: str) -> None:
        """The key and what was expected."""
        assert server.error(path) == (400, message)

    @pytest.mark.parametrize("path", ["/v1/cards/GPU-99", "/v1/cards/GPU-99/series?fields=state"])
    def test_cards_that_are_not_there(self, server: Server, path: str) -> None:
        """Whatever is asked of them."""
        assert server.error(path) == (404, "no such card")

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("cards=GPU-1,GPU-99", "no such card: 'GPU-99'"),
            ("cards=%0a", "no such card: '\\n'"),
            ("gang=llm", "no such gang: 'llm'"),
        ],
    )
    def test_repairs_of_what_is_not_there(self, server: Server, query: str, message: str) -> None:
        """The first one that is not known is named."""
        assert server.error(f"/v1/what-if?{query}") == (404, message)

    @pytest.mark.parametrize("wait", ["", "&wait=30"])
    @pytest.mark.parametrize("cursor", ["", "0:0", "x", "deadbeef:" + "9" * 6000])
    def test_stale_cursors(self, server: Server, cursor: str, wait: str) -> None:
        """At once, although the client would wait."""
        assert server.error(f"/v1/changes?cursor={cursor}{wait}") == (
            *(410, "stale cursor, take a new snapshot"),
        )

    def test_a_store_that_cannot_be_read_is_said(self, tmp_path: Path) -> None:
        """The farm's state is known all the same."""
        with serving(tmp_path) as server:
            server.ledger.close()

            status, line = server.error("/v1/cards/GPU-1")

            assert status == 503
            assert line.startswith("cannot be read")
            assert server.told("/v1/status", FarmState).cards


class TestTokens:
    """Where a token is set, only who has it may read."""

    PATHS = (
        *("/v1/status", "/v1/snapshot", "/v1/changes?cursor=x:1", "/v1/findings"),
        *("/v1/cards/GPU-1", "/v1/cards/GPU-1/series?fields=power_watts"),
        *("/v1/capacity", "/v1/what-if?cards=GPU-1"),
    )

    @pytest.mark.parametrize("token", [None, "wrong", "read-only-too"])
    def test_others_are_refused_everything(self, tmp_path: Path, token: str | None) -> None:
        """Before anything else is looked at."""
        with serving(tmp_path, TOKEN) as server:
            for path in self.PATHS:
                assert server.error(path, token) == (401, "wrong or missing token")

    def test_who_shows_it_is_answered(self, tmp_path: Path) -> None:
        """In the header that everyone uses."""
        with serving(tmp_path, TOKEN) as server:
            assert server.get("/v1/status", TOKEN)[0] == 200
            assert server.get("/v1/changes?cursor=x:1", TOKEN)[0] == 410


class TestLongPoll:
    """Who waits is answered when a tick comes."""

    def test_a_tick_ends_the_wait(self, tmp_path: Path) -> None:
        """All who wait hear of it; long before they would give up."""
        with serving(tmp_path) as server:
            cursor = server.told("/v1/snapshot", Snapshot).cursor
            path = f"/v1/changes?cursor={cursor}&columns=seen&wait=60"
            answers: list[Any] = []
            waiting = [
                threading.Thread(target=lambda: answers.append(server.told(path, Changes)))
                for _ in range(3)
            ]
            for thread in waiting:
                thread.start()

            server.tell(server.last)
            for thread in waiting:
                thread.join(PATIENCE_SECONDS)

            assert len(answers) == 3
            assert {answer.time for answer in answers} == {server.last.frame.end_ns / 1e9}
            assert all(len(answer.columns["key"]) == 8 for answer in answers)

    def test_news_that_are_there_are_not_waited_for(self, tmp_path: Path) -> None:
        """A client that was away asks with an old cursor."""
        with serving(tmp_path) as server:
            cursor = server.told("/v1/snapshot", Snapshot).cursor
            server.tell(server.last)

            changes = server.told(f"/v1/changes?cursor={cursor}&wait=60", Changes)

            assert changes.cursor != cursor

    def test_a_wait_without_a_tick_ends_with_nothing(self, server: Server) -> None:
        """The client asks again with the same cursor."""
        cursor = server.told("/v1/snapshot", Snapshot).cursor

        changes = server.told(f"/v1/changes?cursor={cursor}&wait=0.05", Changes)

        assert changes.columns["key"] == []
        assert changes.cursor == cursor


class TestThinned:
    """Readings as a line that can be drawn."""

    def test_a_reading_at_the_very_end_is_in_the_last_stretch(self) -> None:
        """No reading falls off the edge."""
        (block,) = block_of([healthy(0, 0.0), healthy(0, 100.0)], 1)

        series = thinned("k", block, ["power_watts"], START, START + 100, 10)

        assert series.times == [START + 5, START + 95]

    def test_a_stretch_in_which_one_field_is_missing_is_none_in_it_alone(self) -> None:
        """The others are drawn."""
        first, second = healthy(0, 1.0), healthy(0, 11.0, power_watts=310.0)
        less = {name: v for name, v in first.fields.items() if name != "power_watts"}
        readings = [first._replace(fields=less), second]
        (block,) = block_of(readings, 1)

        series = thinned("k", block, ["power_watts", "fan_ratio"], START, START + 20, 2)

        assert series.fields == {"power_watts": [None, 310.0], "fan_ratio": [0.6, 0.6]}

    def test_no_readings_give_no_points(self) -> None:
        """And no warning."""
        (block,) = block_of([healthy(0, 1.0)], 1)

        series = thinned("k", block.take(np.array([], np.intp)), ["power_watts"], 0.0, 1.0, 5)

        assert series.times == []
        assert series.fields == {"power_watts": []}
