"""What each harmless event does to readings, against the same farm without it."""

from functools import cache

import numpy as np
import pytest

from farmhand_collector.simulator import HARMLESS_KINDS, Farm
from farmhand_collector.simulator.effects import Array
from farmhand_collector.simulator.kinds import Scope
from tests.collector.simulator.course import CARDS, sound, with_harmless
from tests.collector.simulator.play import START, Played, play

ERRORS = (
    "ecc_uncorrected_total",
    "remap_pending",
    "remap_failed",
    "throttle_hardware_ratio",
    "throttle_brake_ratio",
)


def under_load(kind: str, name: str) -> tuple[Array, Array]:
    """Means of a field under load once it goes on, of the cards concerned and of their twins."""
    return with_harmless(kind).means(name, 300.0)


@cache
def played(kind: str) -> Played:
    return play(Farm(64, 5, "none", START, harmless=kind), 1800.0)


@pytest.mark.parametrize("kind", HARMLESS_KINDS)
def test_a_harmless_event_has_no_cause_and_is_not_planted(kind: str) -> None:
    """It is no fault, so nothing that looks for faults is told of it."""
    farm = with_harmless(kind).farm
    assert HARMLESS_KINDS[kind].cause is None
    assert HARMLESS_KINDS[kind].meaning
    assert farm.planted == []
    assert [case.kind for case in farm.harmless] == [kind]


@pytest.mark.parametrize("kind", HARMLESS_KINDS)
def test_a_harmless_event_raises_no_error_of_hardware(kind: str) -> None:
    """No slowdown by hardware and no memory error comes with it."""
    twins = with_harmless(kind)
    for name in ERRORS:
        assert twins.mine(name).max() == 0.0, name


@pytest.mark.parametrize(
    "kind", [kind.name for kind in HARMLESS_KINDS.values() if kind.scope is not Scope.FARM]
)
def test_it_touches_its_own_cards_alone(kind: str) -> None:
    """Other cards are as they would be; boots set back counters of their nodes."""
    twins = with_harmless(kind)
    cards = twins.farm.fleet.cards
    elsewhere = np.array([cards[at].node not in twins.nodes for at in range(CARDS)])
    others = np.array([at not in twins.cards for at in range(CARDS)])
    for name, first in twins.first_touched.items():
        counted = name.endswith("_total") or name == "energy_joules"
        if name != "rate":
            assert np.all(first[elsewhere if counted else others] == len(twins.times)), name


def test_events_and_faults_keep_apart() -> None:
    """A card with a fault is in no event of a card or a node, and faults stay what they are."""
    farm = Farm(300, 5, "every", START, harmless="all")
    faulty = {at for fault in farm.faults for at in fault.cards}
    for case in farm.harmless:
        if HARMLESS_KINDS[case.kind].scope is not Scope.FARM:
            assert not faulty & set(case.cards), case.kind
    assert farm.faults == Farm(300, 5, "every", START).faults


def test_all_events_are_one_of_each_kind() -> None:
    """A farm that is large enough has them all."""
    farm = Farm(600, 5, "none", START, harmless="all")
    assert sorted(case.kind for case in farm.harmless) == sorted(HARMLESS_KINDS)


@pytest.mark.parametrize("cards", [40, 400])
def test_some_events_are_few(cards: int) -> None:
    """One in forty cards, none of them over the whole farm."""
    farm = Farm(cards, 8, "none", START, harmless="some")
    assert 1 <= len(farm.harmless) <= cards // 40
    assert all(HARMLESS_KINDS[case.kind].scope is not Scope.FARM for case in farm.harmless)


def test_an_unknown_event_is_refused() -> None:
    """The message names what would do."""
    with pytest.raises(ValueError, match="expected none, some, all or any of limit_lowered_card"):
        Farm(8, 1, "none", START, harmless="nothing")


@pytest.mark.parametrize("kind", ["limit_lowered_card", "limit_lowered_node", "limit_lowered_farm"])
def test_a_lowered_limit_is_told_and_kept(kind: str) -> None:
    """The limit in force falls by what was chosen; power stays below it."""
    twins = with_harmless(kind)
    limit, before = twins.mine("power_limit_watts")[30:], twins.other("power_limit_watts")[30:]
    assert np.allclose(limit, before * (1.0 - twins.case.severity), atol=0.6)
    power = twins.mine("power_watts")[30:]
    assert np.all(power < 1.02 * limit[0])


def test_clocks_capped_on_purpose_are_equal() -> None:
    """No card of the node goes above one clock."""
    twins = with_harmless("clocks_capped")
    most = twins.mine("core_clock_mhz", 30.0).max(axis=0)
    assert np.ptp(most[twins.mine("busy").any(axis=0)]) < 3.0
    lower, usual = under_load("clocks_capped", "core_clock_mhz")
    assert np.all(lower < usual)


def test_a_slow_chip_draws_full_power() -> None:
    """A clock 3 to 4 % low where the limit binds, at the power and temperature of the others."""
    slow, usual = under_load("slow_tail", "core_clock_mhz")
    assert slow / usual == pytest.approx(0.965, abs=0.005)
    for name in ("power_watts", "core_temperature_celsius"):
        mine, twins = under_load("slow_tail", name)
        assert mine == pytest.approx(twins, rel=0.005)


def test_an_undervolted_card_is_faster() -> None:
    """A higher clock at the same power."""
    mine, twin = under_load("undervolted", "core_clock_mhz")
    assert mine > 1.01 * twin


def test_a_locked_mining_card_has_always_been_slow() -> None:
    """Its rate is a fraction from the first window on, nothing else is other than usual."""
    twins = with_harmless("locked_mining")
    works = twins.other("rate", None) > 0
    assert np.all(twins.mine("rate", None)[works] < 0.2 * twins.other("rate", None)[works])
    assert np.array_equal(twins.mine("core_clock_mhz"), twins.other("core_clock_mhz"))


def test_a_riser_of_one_lane_was_always_one() -> None:
    """One lane in every window, and no replays with it."""
    twins = with_harmless("narrow_riser")
    assert np.all(twins.mine("pcie_width", None) == 1.0)
    assert np.array_equal(twins.mine("pcie_replay_total"), twins.other("pcie_replay_total"))


def test_an_idle_farm_works_again_later() -> None:
    """All cards rest at once, for a part of the span."""
    twins = with_harmless("idle_farm")
    times, busy = twins.times, twins.mine("busy", None)
    idle = (times.min(axis=1) > twins.case.since + 20.0) & (times.max(axis=1) < twins.case.until)
    assert idle.sum() > 10
    assert not busy[idle].any()
    assert busy[times.min(axis=1) > twins.case.until + 20.0].any()


def test_a_hot_week_warms_every_inlet() -> None:
    """All nodes by the same, coming and going slowly."""
    twins = with_harmless("hot_week")
    warmer = twins.inlet - sound().inlet
    assert np.allclose(warmer.max(axis=0), twins.case.severity, atol=0.2)
    assert np.abs(np.diff(warmer, axis=0)).max() < 0.1 * twins.case.severity
    assert np.all(warmer[-1] == 0.0)


def test_a_driver_upgrade_shifts_all_clocks_a_little() -> None:
    """One to two percent everywhere, another version in the identity, and a boot each."""
    twins = with_harmless("driver_upgrade")
    shifted, usual = under_load("driver_upgrade", "core_clock_mhz")
    assert np.median(shifted / usual) == pytest.approx(1.0 - twins.case.severity, abs=0.004)
    boots = {event.node for event in twins.host_events if event.kind == "boot"}
    assert boots == set(range(len(twins.farm.fleet.nodes)))
    drivers = {
        str(reading.fields["driver"]) for reading in played("driver_upgrade").of("card_info")
    }
    assert len(drivers) == 2


def test_uneven_batches_leave_rates_equal() -> None:
    """The first rank works as before; the others show less use and the same rate."""
    twins = with_harmless("uneven_batches")
    use, usual = under_load("uneven_batches", "utilization_ratio")
    assert use[0] == usual[0]
    assert np.all(use[1:] < 0.9 * usual[1:])
    assert np.allclose(twins.mine("rate"), twins.other("rate"))


def test_a_card_in_instances_tells_no_use() -> None:
    """Utilisation is left out, and its identity says how many instances there are."""
    told = played("mig")
    (case,) = told.farm.harmless
    card = told.farm.fleet.cards[case.index]
    assert all("utilization_ratio" not in r.fields for r in told.cards[card.card])
    infos = [r.fields for r in told.of("card_info") if r.tags["card"] == card.card]
    assert infos
    assert all(info["mig_instances"] == 7.0 for info in infos)


def test_a_boot_is_silence_an_event_and_counters_from_zero() -> None:
    """Nothing for a minute and a half; then a boot is told, and energy is counted anew."""
    told = played("reboot")
    (case,) = told.farm.harmless
    card = told.farm.fleet.cards[case.index]
    times = np.array([point.time_ns / 1e9 for point in told.cards[card.card]])
    gap = np.argmax(np.diff(times))
    assert 85.0 < np.diff(times)[gap] < 115.0
    energy = told.values(card, "energy_joules")
    if np.isfinite(energy).any():
        assert energy[gap + 1] < 0.01 * energy[gap]
    host = told.farm.fleet.nodes[card.node].host
    kinds = [r.fields["kind"] for r in told.of("host_event") if r.tags["host"] == host]
    assert kinds == ["boot", "agent_start"]
    infos = [r.time_ns / 1e9 for r in told.of("card_info") if r.tags["card"] == card.card]
    assert any(times[gap] < time <= times[gap + 1] for time in infos)


def test_moved_boards_keep_their_identity_and_their_chips() -> None:
    """Each shows up in the other's slot, with its serial, counters and clock."""
    told = played("cards_moved")
    (case,) = told.farm.harmless
    fleet = told.farm.fleet
    one, other = (fleet.cards[at] for at in case.cards)
    for mine, place in ((one, other), (other, one)):
        points = told.cards[mine.card]
        slots = [(p.tags["host"], p.tags["slot"]) for p in points]
        assert slots[0] == (fleet.nodes[mine.node].host, mine.slot)
        assert slots[-1] == (fleet.nodes[place.node].host, place.slot)
        infos = [r.fields for r in told.of("card_info") if r.tags["card"] == mine.card]
        assert {info["vbios"] for info in infos} == {mine.vbios}


def test_refused_sensors_are_never_there() -> None:
    """A group of fields that the rest of the kind gives is missing, in every reading."""
    told = played("sensors_refused")
    (case,) = told.farm.harmless
    card = told.farm.fleet.cards[case.index]
    given = {name for r in told.cards[card.card] for name in r.fields}
    peers = {
        name
        for r in told.of("card")
        if r.tags["model"] == card.model.model and r.tags["card"] != card.card
        for name in r.fields
    }
    assert 1 <= len(peers - given) <= 3


def test_a_faulty_program_crashes_on_many_cards() -> None:
    """Application Xids only, and not on one card alone."""
    twins = with_harmless("application_crashes")
    assert {event.code for event in twins.events} <= {"13", "31", "43", "45"}
    assert len({event.place for event in twins.events}) > 1
    assert {event.place for event in twins.events} <= set(twins.cards)


def test_fans_at_full_speed_cool() -> None:
    """Full speed at once and a cooler die."""
    assert np.all(with_harmless("fans_at_full").mine("fan_ratio") == 1.0)
    cool, usual = under_load("fans_at_full", "core_temperature_celsius")
    assert np.all(cool < usual)
