"""Every question of the dashboards is asked of real servers, and answers as the API does."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import pytest

from farmhand_agent.reading import fields_of
from farmhand_collector.judging import Judge
from farmhand_collector.simulator import Farm
from farmhand_collector.store.influx import InfluxStore
from farmhand_collector.store.influx_http import Where
from farmhand_collector.store.influx_setup import prepare
from farmhand_collector.view import View
from farmhand_collector.wire import CAPACITY_SCOPES, STATES
from farmhand_collector.write_back import WriteBack, capacities
from tests.servers.influxd import Influx, Influx1, Influx2
from tests.test_dashboards import PAGES, statements

START = 1_795_000_000.0
SPAN_SECONDS = 1800.0


class Shown(NamedTuple):
    """A server with a farm in it, and what the API shows of that farm."""

    influx: Influx
    view: View
    told: set[tuple[str, str]]
    """Measurement and field of what some card or node told."""

    def ask(self, statement: str) -> list[dict[str, str]]:
        """Rows of an answer, as Grafana would ask for them."""
        begin, end = int(START * 1e9), int((START + SPAN_SECONDS) * 1e9)
        chosen = statement.replace("$timeFilter", f"time >= {begin} AND time < {end}")
        chosen = chosen.replace("$__interval", "10m")
        chosen = re.sub(r"\$(site|host|card)\b", ".*", chosen)
        assert "$" not in chosen.replace("/^.*$/", "")
        answer = self.influx.influxql(chosen, db="farm")
        rows: list[dict[str, str]] = []
        header: list[str] = []
        for row in csv.reader(io.StringIO(answer)):
            if row[:1] == ["name"]:
                header = row
            elif row:
                rows.append(dict(zip(header, row, strict=True)))
        return rows


@pytest.fixture(scope="module", params=[Influx1, Influx2], ids=lambda kind: kind.version)
def shown(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shown]:
    """Half an hour of a farm, judged and written back as the collector does."""
    farm = Farm(24, 7, "all", START, span_seconds=SPAN_SECONDS)
    readings = [r for batch in farm.readings(START + SPAN_SECONDS) for r in batch.readings]
    readings.sort(key=lambda reading: reading.time_ns)
    now_ns = int((START + SPAN_SECONDS + 60) * 1e9)
    with request.param(tmp_path_factory.mktemp("influx")) as influx:
        where = Where(influx.url, "farm", influx.org, influx.token)
        prepare(where, 3650)
        store = InfluxStore(where, retention_days=3650, poll_seconds=0.0, clock=lambda: now_ns)
        with closing(store):
            store.write(readings)
            view, back, judge, position = View(None), WriteBack(), Judge(), 0
            while True:
                blocks, position = store.readings(position)
                if not blocks:
                    break
                for tick in judge.feed(blocks):
                    view.update(tick)
            end_ns = tick.verdicts.end_ns
            back_again = back.verdicts(end_ns, view.said())
            rows = {scope: view.capacity(scope) for scope in CAPACITY_SCOPES}
            rows_again = capacities(end_ns, rows)
            store.write([*back_again, *rows_again])
            written = [*readings, *back_again, *rows_again]
            told = {(r.measurement, name) for r in written for name in r.fields}
            yield Shown(influx, view, told)


@pytest.mark.parametrize(
    "statement",
    [statement for page in PAGES for statement in statements(page)],
    ids=lambda statement: statement[:60],
)
def test_each_question_has_an_answer(shown: Shown, statement: str) -> None:
    """Where some card told what is asked for."""
    (measurement,) = set(re.findall(r'FROM "(\w+)"', statement))
    asked = set(re.findall(r'"(\w+)"', statement)) & fields_of(measurement).keys()
    was_told = all((measurement, name) in shown.told for name in asked)

    rows = shown.ask(statement)

    assert bool(rows) is was_told


def test_the_farm_delivers_what_the_api_says(shown: Shown) -> None:
    """In each component, in absolute units."""
    (farm,) = shown.view.capacity("farm")
    rows = shown.ask(
        'SELECT last("expected") AS "e", last("delivered") AS "d" FROM "capacity" '
        'WHERE $timeFilter AND "scope" = \'farm\' GROUP BY "component"'
    )

    told = {row["tags"].partition("=")[2]: (row["e"], row["d"]) for row in rows}
    for component in ("compute", "bandwidth", "memory", "link"):
        amounts = getattr(farm, component)
        found = tuple(float(value) if value else None for value in told[component])
        assert found == (
            pytest.approx(amounts.expected) if amounts.expected is not None else None,
            pytest.approx(amounts.delivered) if amounts.delivered is not None else None,
        )


def test_cards_are_in_the_states_that_the_api_says(shown: Shown) -> None:
    """Place by place."""
    rows = shown.ask(
        'SELECT last("state_level") AS "level" FROM "verdict" WHERE $timeFilter '
        'GROUP BY "host", "slot"'
    )

    found = {}
    for row in rows:
        tags = dict(pair.split("=", 1) for pair in row["tags"].split(","))
        found[tags["host"], tags["slot"]] = STATES[int(float(row["level"]))]
    assert found == {
        (card.host, card.slot): verdict.state for card, verdict in shown.view.said().values()
    }
