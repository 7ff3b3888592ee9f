"""Public data as readings: all of it, nothing beyond it, and labels that fit it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from statistics import median

import pytest

from farmhand_agent.reading import TAGS, Kind, Reading, fields_of, parse_line
from tests.evaluate.real import ascend, bytedance, frontera, lonestar, longhorn
from tests.evaluate.real.datasets import DATASETS, Dataset

RUNS_AND_CARDS = {
    ("ascend", "npu_smi"): (184, 8),
    ("bytedance", "AR"): (44 * 16, 16),
    ("bytedance", "SE"): (43 * 64, 64),
    ("bytedance", "ST"): (32 * 8, 8),
    ("frontera", "bert"): (1656, 276),
    ("frontera", "resnet"): (1480, 296),
    ("frontera", "pagerank"): (1240, 248),
    ("lonestar", "resnet"): (219, 219),
    ("longhorn", "resnet"): (1404, 336),
    ("longhorn", "bert"): (1096, 136),
    ("longhorn", "pagerank"): (880, 172),
}
SENSORS = {
    "ascend": {"core_clock_mhz", "core_temperature_celsius", "power_watts"},
    "bytedance": set(),
    "frontera": set(),
    "lonestar": set(),
    "longhorn": {
        "core_clock_mhz",
        "memory_clock_mhz",
        "core_temperature_celsius",
        "core_temperature_max_celsius",
        "power_watts",
        "power_max_watts",
        "power_limit_watts",
        "utilization_ratio",
    },
}
FRACTIONS = {"utilization_ratio"}
BUILT_NS, RETIRED_NS = 1_600_000_000 * 10**9, 1_750_000_000 * 10**9
"""2020 and 2025: all times, those made up too, lie between."""

every_dataset = pytest.mark.parametrize("name", DATASETS)


@cache
def parsed(name: str) -> Sequence[Reading]:
    """Readings of a dataset, back from line protocol."""
    return tuple(parse_line(line) for line in DATASETS[name].lines())


@pytest.mark.parametrize(("name", "part"), RUNS_AND_CARDS)
def test_every_run_of_the_data_gives_one_reading_of_its_card(name: str, part: str) -> None:
    """No row is dropped unseen: the counts are those that the sources state."""
    cards = [r.tags["card"] for r in DATASETS[name].readings([part]) if r.measurement == "card"]
    assert (len(cards), len(set(cards))) == RUNS_AND_CARDS[name, part]
    assert DATASETS[name].tables([part])[part].dropped == 0


@every_dataset
def test_every_line_reads_back_as_the_reading_it_was(name: str) -> None:
    """The text loses nothing."""
    assert parsed(name) == tuple(DATASETS[name].readings())


@every_dataset
def test_every_reading_keeps_the_contract(name: str) -> None:
    """Only fields and tags that the contract knows, of the kind that it states."""
    for reading in parsed(name):
        known = fields_of(reading.measurement)
        assert set(reading.tags) <= set(TAGS[reading.measurement])
        assert BUILT_NS < reading.time_ns < RETIRED_NS
        for field, value in reading.fields.items():
            assert isinstance(value, str) == (known[field].kind is Kind.TEXT), field


@every_dataset
def test_numbers_lie_in_the_range_of_real_cards(name: str) -> None:
    """No sentinel and no empty cell has become a measurement."""
    for reading in parsed(name):
        numbers = {k: v for k, v in reading.fields.items() if not isinstance(v, str)}
        assert all(value > 0 for value in numbers.values())
        assert all(numbers[field] <= 1 for field in FRACTIONS & set(numbers))


@every_dataset
def test_cards_show_only_what_their_data_hold(name: str) -> None:
    """Sensors that nobody read stay left out."""
    told = {"state", "window_seconds"} | SENSORS[name]
    cards = [reading for reading in parsed(name) if reading.measurement == "card"]
    assert {field for reading in cards for field in reading.fields} == told


@every_dataset
def test_readings_come_in_order_of_time_and_none_twice(name: str) -> None:
    """A recording that is out of order would be judged as late."""
    readings = parsed(name)
    assert all(one.time_ns <= other.time_ns for one, other in pairwise(readings))
    series = Counter((r.measurement, tuple(sorted(r.tags.items())), r.time_ns) for r in readings)
    assert max(series.values()) == 1


@every_dataset
def test_labels_name_cards_and_hosts_that_exist(name: str) -> None:
    """A label with a slip of the pen would count as a miss for ever."""
    tags = [reading.tags for reading in parsed(name)]
    labels = DATASETS[name].labels()
    named = {*labels.cards, *labels.mates, *labels.unclear_cards}
    assert named <= {tag["card"] for tag in tags}
    assert {*labels.nodes, *labels.unclear_nodes} <= {tag["host"] for tag in tags}


@every_dataset
def test_labels_say_one_thing_of_each_card(name: str) -> None:
    """A card is at fault, waits, or is in doubt."""
    labels = DATASETS[name].labels()
    cards = Counter([*labels.cards, *labels.mates, *labels.unclear_cards])
    hosts = Counter([*labels.nodes, *labels.unclear_nodes])
    assert max((cards | hosts).values()) == 1


def medians(readings: Iterator[Reading], measurement: str, field: str) -> dict[str, float]:
    """Median of a field for each card."""
    values: dict[str, list[float]] = {}
    for reading in readings:
        value = reading.fields.get(field)
        if reading.measurement == measurement and isinstance(value, float):
            values.setdefault(reading.tags["card"], []).append(value)
    return {card: median(found) for card, found in values.items()}


def slow_nodes(dataset: Dataset, job: str) -> set[str]:
    """Hosts whose median card is more than 5 % slower than the median card of all."""
    rates = medians(dataset.readings([job]), "work", "rate")
    hosts: dict[str, list[float]] = {}
    for card, host in {(r.tags["card"], r.tags["host"]) for r in dataset.readings([job])}:
        hosts.setdefault(host, []).append(rates[card])
    usual = median(rates.values())
    return {host for host, found in hosts.items() if usual / median(found) > 1.05}


@pytest.mark.parametrize("job", frontera.PARTS)
def test_the_slow_nodes_of_frontera_are_those_of_its_labels(job: str) -> None:
    """More than 5 % slower in that benchmark, and in no other."""
    labelled = {host for host, named in frontera.labels().nodes.items() if named == job}
    assert slow_nodes(frontera, job) == labelled


def test_cards_of_lonestar_that_are_slow_alone_are_in_doubt() -> None:
    """Two are more than 8 % slower than the median card while their node is not."""
    rates = medians(lonestar.readings(), "work", "rate")
    usual = median(rates.values())
    labels = lonestar.labels()
    slow = {card for card, rate in rates.items() if usual / rate > 1.08}
    alone = {card for card in slow if card.rpartition("-")[0] not in labels.nodes}
    assert alone == labels.unclear_cards


def test_the_slow_nodes_of_lonestar_are_those_of_its_labels() -> None:
    """Two nodes at less than half of the usual rate."""
    assert slow_nodes(lonestar, "resnet") == set(lonestar.labels().nodes)


def test_every_card_of_longhorn_that_clocks_down_has_a_label() -> None:
    """Thirteen cards have a mean clock below 1480 MHz, eight of them in one cabinet."""
    clocks = medians(longhorn.readings(["resnet"]), "card", "core_clock_mhz")
    slow = {card for card, clock in clocks.items() if clock < 1480}
    labels = longhorn.labels()
    assert slow == {*labels.cards, *labels.unclear_cards}
    assert sum(card.startswith("c008-") for card in slow) == 8


def test_every_node_of_longhorn_that_trains_slowly_has_a_label() -> None:
    """Each holds a card at fault, or is in doubt itself."""
    labels = longhorn.labels()
    at_fault = {card.rpartition("-")[0] for card in labels.cards}
    assert slow_nodes(longhorn, "resnet") <= at_fault | labels.unclear_nodes
    assert at_fault <= slow_nodes(longhorn, "resnet")


def test_only_pagerank_tells_how_busy_it_keeps_a_card() -> None:
    """Its kernels fill the run; how much of their time the others compute is not in the data."""
    busy = [
        reading.fields["utilization_ratio"]
        for reading in longhorn.readings()
        if "utilization_ratio" in reading.fields
    ]
    assert len(busy) == RUNS_AND_CARDS["longhorn", "pagerank"][0]
    assert all(isinstance(ratio, float) and ratio > 0.97 for ratio in busy)


def test_the_cards_of_a_training_node_of_longhorn_share_a_gang() -> None:
    """Four cards go in lock step in each run."""
    gangs = Counter(
        reading.fields["gang"]
        for reading in longhorn.readings(["resnet", "bert"])
        if reading.measurement == "work"
    )
    assert set(gangs.values()) == {4}


def test_only_the_slowed_worker_of_bytedance_lags_behind_its_stage() -> None:
    """Rank 0 computes at less than half of the rate of the others of stage 0."""
    rates = {
        reading.tags["card"]: float(reading.fields["rate"])
        for reading in bytedance.readings(["AR"])
        if reading.fields.get("job") == "AR forward-compute stage 0"
    }
    usual = median(rates.values())
    assert {card for card, rate in rates.items() if rate < 0.5 * usual} == {"AR-0"}


def test_the_npus_that_clock_down_are_those_of_the_labels() -> None:
    """The others stay at their rated clock throughout."""
    slow = {
        reading.tags["card"]
        for reading in ascend.readings()
        if reading.fields["core_clock_mhz"] == 800
    }
    assert slow == set(ascend.labels().cards)
