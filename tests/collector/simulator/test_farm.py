from collections import Counter, defaultdict

import numpy as np
import pytest

from farmhand_agent.reading import TAGS, Kind, Reading, fields_of, parse_line, to_line
from farmhand_collector.simulator import Farm, plan
from farmhand_collector.simulator.fleet import draw_fleet
from farmhand_collector.simulator.kinds import FAULT_KINDS
from farmhand_collector.simulator.models import Origin
from farmhand_collector.simulator.planting import COMMON_KINDS
from tests.collector.simulator.play import START, Played, play


@pytest.fixture(scope="module")
def farm() -> Played:
    """Two hours of a farm with one fault of each kind."""
    return play(Farm(64, 11, "all", START), 7200.0)


def lines(cards: int, seed: int, faults: str) -> list[str]:
    readings = Farm(cards, seed, faults, START).readings(START + 300.0)
    return [line for batch in readings for line in batch.lines()]


def test_the_same_seed_gives_the_same_lines() -> None:
    """A farm can be had again, byte for byte."""
    assert lines(24, 5, "some") == lines(24, 5, "some")


def test_another_seed_gives_another_farm() -> None:
    """Identities and readings depend on the seed."""
    assert not set(lines(24, 5, "none")) & set(lines(24, 6, "none"))


def test_a_farm_asked_in_pieces_says_what_it_says_in_one() -> None:
    """Readings go on where the last call ended, nothing lost and nothing twice."""
    whole = lines(24, 5, "some")
    farm = Farm(24, 5, "some", START)
    pieces = [
        line
        for until in (START + 3.0, START + 3.5, START + 128.0, START + 300.0)
        for batch in farm.readings(until)
        for line in batch.lines()
    ]
    assert pieces == whole


def test_every_line_is_a_reading_of_the_contract(farm: Played) -> None:
    """Lines parse to what was meant, with known tags, fields and kinds only."""
    others = [reading for reading in farm.readings if reading.measurement != "card"]
    for reading in others + farm.of("card")[::7]:
        assert parse_line(to_line(reading)) == reading
        assert set(reading.tags) <= set(TAGS[reading.measurement])
        known = fields_of(reading.measurement)
        for name, value in reading.fields.items():
            assert isinstance(value, str) == (known[name].kind is Kind.TEXT), name


def test_every_measurement_of_an_agent_is_sent(farm: Played) -> None:
    """Cards, their work, identity and events, hosts and agents all speak."""
    assert {reading.measurement for reading in farm.readings} == {
        "card",
        "work",
        "card_info",
        "card_event",
        "host",
        "agent",
    }


def test_every_slot_has_one_point_an_interval(farm: Played) -> None:
    """A card is told of every ten seconds, dead or alive."""
    assert len(farm.cards) == 64
    for points in farm.cards.values():
        steps = np.diff([point.time_ns / 1e9 for point in points])
        assert len(points) == 720
        assert steps == pytest.approx(10.0, abs=0.05)


def test_hosts_keep_their_own_time(farm: Played) -> None:
    """Times are not aligned between hosts, nor to a grid."""
    phases = {
        reading.tags["host"]: reading.time_ns / 1e9 % 10.0 for reading in farm.of("host")[-9:]
    }
    assert len(phases) > 5
    assert len({round(phase, 2) for phase in phases.values()}) == len(phases)


def test_readings_come_in_order_of_time(farm: Played) -> None:
    """Without outages nothing is late."""
    times = [reading.time_ns for reading in farm.of("host")]
    assert times == sorted(times)


def test_identity_is_told_at_start_and_hourly(farm: Played) -> None:
    """Each card that answers tells who it is in its first batch and then hour by hour."""
    first = {reading.tags["host"]: reading.time_ns for reading in reversed(farm.of("host"))}
    infos: dict[str, list[int]] = defaultdict(list)
    for reading in farm.of("card_info"):
        infos[reading.tags["card"]].append(reading.time_ns)
    for card, points in farm.cards.items():
        assert infos[card][0] == first[points[0].tags["host"]]
        if points[-1].fields["state"] == "ok":
            assert max(np.diff([*infos[card], points[-1].time_ns])) <= 3610e9


def test_agents_speak_each_minute(farm: Played) -> None:
    """An agent's own readings are slower than its cards'."""
    per_host = Counter(reading.tags["host"] for reading in farm.of("agent"))
    assert set(per_host.values()) <= {120, 121}


def test_counters_never_fall(farm: Played) -> None:
    """No driver was loaded again meanwhile."""
    for points in farm.cards.values():
        for name in ("energy_joules", "pcie_replay_total"):
            counts = [float(p.fields[name]) for p in points if name in p.fields]
            assert counts == sorted(counts)


def test_a_plan_is_what_the_farm_has_planted() -> None:
    """The plan needs no run to be known."""
    planned = plan(100, 3, "some", START)
    assert planned == Farm(100, 3, "some", START).planted
    assert planned


def test_a_farm_without_faults_has_none() -> None:
    """Nothing is planted unasked."""
    assert plan(100, 3, "none", START) == []


@pytest.mark.parametrize("cards", [1, 5, 12, 100, 1000])
def test_some_faults_are_one_card_in_twelve(cards: int) -> None:
    """About a twelfth of the cards is faulty, at least one, each card once."""
    planted = plan(cards, 8, "some", START)
    assert len(planted) == max(1, round(cards / 12))
    assert len({fault.card for fault in planted}) == len(planted)


def test_all_faults_are_one_of_each_kind() -> None:
    """Every common kind is there once."""
    assert sorted(fault.fault for fault in plan(64, 2, "all", START)) == sorted(COMMON_KINDS)


def test_every_fault_is_one_of_each_kind_there_is() -> None:
    """A farm that is large enough has all of them, no card twice."""
    planted = plan(600, 2, "every", START)
    assert {fault.fault for fault in planted} == set(FAULT_KINDS)
    assert len({fault.card for fault in planted}) == len(planted)


def test_mixed_faults_are_of_all_kinds() -> None:
    """About a twelfth of the cards, and more than the common kinds."""
    kinds = {fault.kind for fault in Farm(600, 4, "mixed", START).faults}
    assert len(kinds) > 25
    assert len(Farm(600, 4, "mixed", START).faults) == 50


def test_faults_begin_in_the_first_third_of_the_span() -> None:
    """They leave time to be seen."""
    planted = plan(1000, 4, "some", START, span_seconds=900.0)
    assert all(0.0 <= fault.since - START <= 300.0 for fault in planted)
    assert any(fault.since == START for fault in planted)


def test_faults_can_begin_all_over_a_month() -> None:
    """None from the start, the last ones late in the span."""
    month = 30 * 86400.0
    farm = Farm(
        600,
        4,
        "mixed",
        START,
        span_seconds=month,
        at_start_share=0.0,
        begins_within=(0.1, 0.9),
    )
    shares = np.array([(fault.since - START) / month for fault in farm.faults])
    assert 0.1 <= shares.min() < 0.25
    assert 0.75 < shares.max() <= 0.9


def test_performance_faults_stand_on_loaded_cards_among_peers() -> None:
    """A fault that only load shows is planted where load and peers are."""
    farm = Farm(200, 9, "some", START)
    cohorts = Counter((card.model, card.model.memory_mib) for card in farm.fleet.cards)
    for fault in farm.faults:
        card = farm.fleet.cards[fault.index]
        if FAULT_KINDS[fault.kind].needs_load:
            assert farm.fleet.nodes[card.node].profile == "training"
            assert not card.spare
            assert cohorts[card.model, card.model.memory_mib] >= 6


@pytest.mark.parametrize(("cards", "faults"), [(0, "none"), (8, "many")])
def test_a_farm_that_cannot_be_is_refused(cards: int, faults: str) -> None:
    """No cards, or an unknown choice of faults, is an error of the caller."""
    with pytest.raises(ValueError, match="expected"):
        Farm(cards, 1, faults, START)


@pytest.mark.parametrize("cards", [1, 7, 64, 997])
def test_a_farm_has_as_many_cards_as_asked(cards: int) -> None:
    """Slots and identities are unique."""
    fleet = draw_fleet(cards, 1)
    assert len({card.card for card in fleet.cards}) == cards
    assert len({(card.node, card.slot) for card in fleet.cards}) == cards
    assert max(node.size for node in fleet.nodes) <= 8


def test_a_farm_mixes_origins_and_gives_most_cards_peers() -> None:
    """Gaming, reworked, mining and data-centre cards stand in groups of equals."""
    fleet = draw_fleet(64, 1)
    cohorts = Counter((card.model.model, card.model.memory_mib) for card in fleet.cards)
    among_peers = sum(size for size in cohorts.values() if size >= 6)
    assert {card.model.origin for card in fleet.cards} == set(Origin)
    assert among_peers >= 0.9 * 64


def test_reworked_cards_show_the_same_name_as_stock_ones() -> None:
    """Only the memory tells a reworked card from a stock one."""
    sizes: dict[str, set[int]] = defaultdict(set)
    for card in draw_fleet(500, 1).cards:
        sizes[card.model.model].add(card.model.memory_mib)
    assert sizes["GeForce RTX 4090"] == {24564, 49140}
    assert sizes["GeForce RTX 3080"] == {10240, 20480}


def test_a_gang_goes_at_the_pace_of_its_slowest(farm: Played) -> None:
    """Cards that train together report nearly one rate."""
    gangs: dict[tuple[str, int], list[Reading]] = defaultdict(list)
    for reading in farm.of("work"):
        if "gang" in reading.fields:
            gangs[str(reading.fields["gang"]), reading.time_ns].append(reading)
    assert gangs
    for members in gangs.values():
        if len({member.tags["model"] for member in members}) == 1:
            rates = np.array([member.fields["rate"] for member in members], dtype=np.float64)
            assert np.ptp(rates) < 0.1 * rates.mean()
