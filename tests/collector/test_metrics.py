"""What Prometheus reads at `/metrics`, parsed as Prometheus' own client parses it."""

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from farmhand_agent.reading import Reading
from farmhand_collector.backup import Backups
from farmhand_collector.backup_settings import Backup
from farmhand_collector.exposition import Family, Sample, exposition, gauge
from farmhand_collector.ingest import Counts
from farmhand_collector.ledger import Ledger
from farmhand_collector.metrics import JudgingCounts, Metrics
from farmhand_collector.store.embedded import EmbeddedStore
from farmhand_collector.view import View
from farmhand_collector.wire import STATES
from tests.collector.farms import card_tags, gone, healthy, ticks, times
from tests.collector.test_api import TOKEN, Server
from tests.collector.test_backup import Settings, wait_until

Told = Mapping[str, Mapping[frozenset[tuple[str, str]], float]]


def parsed(page: str) -> Told:
    """Values by name and labels; a name or a set of labels that stands twice is a mistake."""
    told: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    seen: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        seen[family.name] += 1
        assert family.documentation
        assert family.type != "unknown"
        for sample in family.samples:
            values = told.setdefault(sample.name, {})
            labels = frozenset(sample.labels.items())
            assert labels not in values
            values[labels] = sample.value
    assert set(seen.values()) <= {1}
    return told


def only(told: Told, name: str, **labels: str) -> float:
    """The value of a name and exactly these labels."""
    return told[name][frozenset(labels.items())]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Eight cards of one site, one of them lost."""
    made = Server(tmp_path, TOKEN)
    yield made
    made.close()


def page(server: Server, query: str = "") -> str:
    """What the server answers to Prometheus."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = urllib3.request("GET", f"{server.url}/metrics{query}", headers=headers)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return answer.data.decode()


def test_cards_are_counted_by_state(server: Server) -> None:
    """Every state has a series, so that an alert on one that nobody is in can be written."""
    told = parsed(page(server))

    counts = {state: only(told, "farmhand_cards", site="barn", state=state) for state in STATES}
    assert sum(counts.values()) == 8
    assert counts["lost"] == 1
    assert only(told, "farmhand_findings", scope="card", state="lost", cause="unreachable") == 1
    assert only(told, "farmhand_simulated") == 1


@pytest.mark.parametrize(
    ("component", "unit"),
    [
        ("compute", "flops"),
        ("memory_bandwidth", "bytes_per_second"),
        ("memory", "bytes"),
        ("link", "bytes_per_second"),
    ],
)
def test_what_is_expected_is_delivered_missing_or_unjudged(
    server: Server, component: str, unit: str
) -> None:
    """The parts add up, so that they can be stacked in a picture."""
    told = parsed(page(server))

    parts = {
        part: sum(told[f"farmhand_{component}_{part}_{unit}"].values())
        for part in ("expected", "delivered", "missing", "unjudged")
    }
    expected = parts.pop("expected")
    assert expected > 0
    assert parts["missing"] > 0
    assert sum(parts.values()) == pytest.approx(expected)


def test_the_share_judged_is_told(server: Server) -> None:
    """What is not judged must not look well."""
    told = parsed(page(server))

    state = server.view.capacity("site")[0]
    assert only(told, "farmhand_judged_ratio", site="barn") == state.judged_ratio


def test_cards_are_told_where_asked_for(server: Server) -> None:
    """Ten series a card are many: they are a choice. A state is an enumeration."""
    assert "farmhand_card_state" not in parsed(page(server))

    told = parsed(page(server, "?cards=1"))

    states = [dict(labels) for labels, value in told["farmhand_card_state"].items() if value == 1]
    assert sorted(labels["card"] for labels in states) == [f"GPU-{card}" for card in range(8)]
    lost = next(labels for labels in states if labels["state"] == "lost")
    assert (lost["host"], lost["slot"], lost["card"]) == ("node-1", "1", "GPU-5")
    assert lost["model"] == "GeForce RTX 3090"
    assert len(told["farmhand_card_state"]) == 8 * len(STATES)
    assert all(0 <= share <= 1 for share in told["farmhand_card_delivered_ratio"].values())


def test_a_wrong_switch_is_refused(server: Server) -> None:
    """A typing mistake does not silently give another page."""
    assert server.get("/metrics?cards=yes", TOKEN)[0] == 400


def test_a_token_is_asked_for(server: Server) -> None:
    """Names and states of a farm are for those who may read."""
    assert server.get("/metrics")[0] == 401


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """An empty store in a collector's directory."""
    made = EmbeddedStore(tmp_path / "data" / "readings")
    yield made
    made.close()


def test_what_was_not_taken_or_not_judged_is_counted(store: EmbeddedStore, tmp_path: Path) -> None:
    """Whatever the collector passes over is seen by those who only look at Prometheus."""
    strange = Reading("card", card_tags(0), {"state": "ok", "no_such_field": 1.0}, 10**18)
    store.write([strange])
    counts = Counts(accepted=7)
    counts.refused_readings.update({"time_past": 2})
    counts.refused_posts.update({"unauthorized": 3, "busy": 1})
    metrics = Metrics(
        View(None),
        store,
        data_dir=tmp_path / "data",
        ingest=counts,
        judging=JudgingCounts(ticks=4, tick_seconds=0.5, late_rows=9),
        connections=lambda: 11,
    )

    told = parsed(metrics.text())

    assert only(told, "farmhand_store_passed_over_values_total") == 1
    assert only(told, "farmhand_ingest_readings_accepted_total") == 7
    assert only(told, "farmhand_ingest_readings_refused_total", reason="time_past") == 2
    assert only(told, "farmhand_ingest_posts_refused_total", reason="unauthorized") == 3
    assert only(told, "farmhand_ingest_posts_refused_total", reason="busy") == 1
    assert only(told, "farmhand_tick_seconds_count") == 4
    assert only(told, "farmhand_tick_seconds_sum") == 0.5
    assert only(told, "farmhand_late_rows_total") == 9
    assert only(told, "farmhand_collector_connections") == 11
    assert only(told, "farmhand_store_bytes", part="readings") > 0
    assert only(told, "process_resident_memory_bytes") > 10e6


def test_agents_are_added_up_and_told_each_where_asked(store: EmbeddedStore) -> None:
    """Spools that fill up are seen without naming every node; an agent of last week is not told."""
    now = time.time_ns()

    def word(host: str, spool: float, age_seconds: float) -> Reading:
        fields: dict[str, float | str] = {"spool_points": spool, "dropped_points_total": 2.0}
        return Reading("agent", {"host": host}, fields, now - int(age_seconds * 1e9))

    store.write([word("n1", 30.0, 20.0), word("n1", 40.0, 5.0), word("n2", 2.0, 5.0)])
    store.write([word("gone", 999.0, 7 * 86_400.0)])
    metrics = Metrics(View(None), store)

    summed, each = parsed(metrics.text()), parsed(metrics.text(cards=True))

    assert only(summed, "farmhand_agents") == 2
    assert only(summed, "farmhand_agents_spool_points") == 42
    assert only(summed, "farmhand_agents_dropped_points") == 4
    assert "farmhand_agent_spool_points" not in summed
    assert only(each, "farmhand_agent_spool_points", site="", rack="", host="n1") == 40


def test_backups_are_told(tmp_path: Path) -> None:
    """The age of the newest backup can be alerted on."""
    Ledger(tmp_path / "data" / "farm.sqlite").close()
    backups = Backups(Settings(tmp_path / "data", Backup(directory=str(tmp_path / "kept"))))
    backups.start()
    wait_until(lambda: backups.made == 1)
    backups.stop()

    told = parsed(Metrics(View(None), backups=backups).text())

    assert only(told, "farmhand_backups_total", result="good") == 1
    assert only(told, "farmhand_backups_total", result="failed") == 0
    assert abs(time.time() - only(told, "farmhand_backup_timestamp_seconds")) < 600
    assert only(told, "farmhand_backup_bytes") > 0


def test_a_farm_of_which_nothing_is_known_has_a_page() -> None:
    """Prometheus asks from the first second on."""
    told = parsed(Metrics(View(None)).text(cards=True))

    assert "farmhand_judged_until_timestamp_seconds" not in told
    assert only(told, "farmhand_simulated") == 0


def test_names_that_a_host_gives_are_escaped() -> None:
    """A host may call itself what it likes and cannot forge a series by it."""
    evil = 'n1"} 1\nfarmhand_cards{state="lost"} 99\\'
    readings = [healthy(0, at) for at in times(600, 10.0)] + [gone(0, 600 + 30)]
    readings = [r._replace(tags={**r.tags, "host": evil}) for r in readings]
    view = View(None)
    for tick in ticks(readings):
        view.update(tick)

    told = parsed(Metrics(view).text(cards=True))

    assert {dict(labels)["host"] for labels in told["farmhand_card_state"]} == {evil}
    assert sum(told["farmhand_cards"].values()) == 1


@given(st.text(st.characters(exclude_categories=["Cs"])), st.floats())
def test_any_label_and_any_number_comes_back(text: str, number: float) -> None:
    """The format is written so that the parser reads what was meant."""
    family = gauge("farmhand_x", "some help", Sample(number, {"label": text, "other": "b"}))

    (read,) = text_string_to_metric_families(exposition([family]))

    (sample,) = read.samples
    assert sample.labels == {"label": text, "other": "b"}
    assert sample.value == number or (math.isnan(number) and math.isnan(sample.value))


def test_a_family_without_samples_is_left_out() -> None:
    """A head without values would say that there is something."""
    assert exposition([Family("farmhand_x", "gauge", "some help", [])]) == ""
