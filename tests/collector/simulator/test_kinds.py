"""What each kind of fault does to readings, against the same farm without it."""

import numpy as np
import pytest

from farmhand_collector.simulator import FAULT_KINDS, Farm
from farmhand_collector.simulator.fleet import Profile
from farmhand_collector.simulator.kinds import Case, Fault, Scope
from farmhand_collector.simulator.planting import COMMON_KINDS
from tests.collector.simulator.course import CARDS, SEED, sound, with_fault
from tests.collector.simulator.play import START, Played, play

CAUSES = {
    "thermal",
    "power",
    "link",
    "memory",
    "compute",
    "driver",
    "identity",
    "host",
    "unreachable",
}
RAMPING = sorted(kind.name for kind in FAULT_KINDS.values() if kind.ramp_seconds[1] > 0)
COUNTERS_OF_A_DRIVER = {"energy_joules", "pcie_replay_total", "ecc_corrected_total"}


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_shows_on_its_own_cards_alone(kind: str) -> None:
    """Other cards are as they would be, but for rates of its gang and counters at a boot."""
    twins = with_fault(kind)
    cards = twins.farm.fleet.cards
    elsewhere = np.array([cards[at].node not in twins.nodes for at in range(CARDS)])
    others = np.array([at not in twins.cards for at in range(CARDS)])
    for name, first in twins.first_touched.items():
        boots = bool(twins.host_events) and name in COUNTERS_OF_A_DRIVER
        if name != "rate":
            assert np.all(first[elsewhere if boots else others] == len(twins.times)), name
    assert {event.place for event in twins.events} <= set(twins.cards)


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_nothing_is_seen_of_a_fault_before_its_time(kind: str) -> None:
    """Until then the farm is a sound one."""
    twins = with_fault(kind)
    for name, first in twins.first_touched.items():
        assert first.min() >= twins.begin(), name
    assert all(event.time >= twins.case.since for event in twins.events)


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_every_kind_says_what_it_is(kind: str) -> None:
    """A meaning, a true cause in the words of verdicts, and how far it reaches."""
    told = FAULT_KINDS[kind]
    assert told.meaning
    assert told.cause in CAUSES
    assert told.scope in set(Scope) - {Scope.FARM}


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_of_a_node_is_planted_on_each_of_its_cards(kind: str) -> None:
    """One entry a card, so that a script can ask card by card."""
    farm = with_fault(kind).farm
    (fault,) = farm.faults
    fleet = farm.fleet
    assert [planted.card for planted in farm.planted] == [
        fleet.cards[at].card for at in fault.cards
    ]
    (node,) = {fleet.cards[at].node for at in fault.cards}
    size = fleet.nodes[node].size
    expected = {Scope.CARD: {1}, Scope.NODE: {size}, Scope.POWER_GROUP: {size // 2, size}}
    assert len(fault.cards) in expected[FAULT_KINDS[kind].scope]


@pytest.mark.parametrize("kind", RAMPING)
def test_a_gradual_fault_grows_within_the_span(kind: str) -> None:
    """Wear takes days; in a short simulation it is done by the middle."""
    (fault,) = Farm(CARDS, SEED, kind, START, onset="gradual").faults
    assert fault.ramp_seconds == pytest.approx(1800.0)
    assert fault.since > START


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("thermal", "core_temperature_celsius"),
        ("paste_pump_out", "core_temperature_celsius"),
        ("slow_node", "utilization_ratio"),
        ("clock_stuck", "core_clock_mhz"),
        ("low_power", "power_watts"),
        ("supply_brake", "throttle_brake_ratio"),
        ("memory_bandwidth", "memory_utilization_ratio"),
    ],
)
def test_a_ramp_ramps(kind: str, field: str) -> None:
    """Early on little is to be seen, later more, at last all of it."""
    twins = with_fault(kind, "gradual")
    gap = np.abs(twins.mine(field) - twins.other(field))[:150, 0]
    steps = np.median(gap.reshape(5, 30), axis=1)
    assert steps[0] < 0.35 * steps[-1]
    assert steps[1] < steps[-1]
    assert steps[-1] > 0


# --- cooling ---------------------------------------------------------------------------------


def test_dead_fans_show_their_intention() -> None:
    """Full speed is asked for, and the card is hot and slow all the same."""
    twins = with_fault("fan_dead")
    assert twins.means("fan_ratio")[0] == pytest.approx(1.0, abs=0.02)
    assert twins.means("throttle_thermal_ratio")[0] > 0.8
    assert twins.ratio("core_clock_mhz") < 0.9


def test_a_pegged_fan_stays_slow_on_a_hot_card() -> None:
    """Its speed is one number whatever the temperature."""
    twins = with_fault("fan_pegged")
    assert np.ptp(twins.mine("fan_ratio")) == 0.0
    hot, cool = twins.means("core_temperature_celsius")
    assert hot > cool + 5.0


def test_pumped_out_paste_raises_thermal_resistance() -> None:
    """More kelvin for each watt."""
    twins = with_fault("paste_pump_out")
    hot, cool = twins.means("core_temperature_celsius")
    power, twin_power = twins.means("power_watts")
    assert (hot - 25.0) / power > 1.15 * (cool - 25.0) / twin_power


def test_bad_pads_heat_the_memory_and_not_the_core() -> None:
    """The memory sits at its limit with its clock lowered; the core is as cool as before."""
    twins = with_fault("pads")
    limit = twins.farm.fleet.cards[twins.cards[0]].model.memory_limit_celsius
    assert twins.means("memory_temperature_celsius")[0] == pytest.approx(limit, abs=2.0)
    assert twins.ratio("memory_clock_mhz") < 0.9
    hot, cool = twins.means("core_temperature_celsius")
    assert hot < cool + 2.0


def test_a_broken_chassis_fan_heats_the_whole_node() -> None:
    """All of its cards at once, the inlet as before."""
    twins = with_fault("chassis_fan")
    hot, cool = twins.means("core_temperature_celsius")
    assert len(hot) > 2
    assert np.all(hot > cool + 5.0)
    assert np.array_equal(twins.inlet, sound().inlet)


def test_a_leaking_chip_is_seen_at_rest() -> None:
    """More watts and a warmer die than it had, while nothing runs."""
    twins = with_fault("idle_hot")
    for name in ("power_watts", "core_temperature_celsius"):
        assert twins.mine(name, 600.0).mean() > 1.05 * twins.other(name, 600.0).mean()
    assert not twins.mine("busy").any()


# --- power -----------------------------------------------------------------------------------


def test_a_weak_supply_brakes_all_of_its_cards_alike() -> None:
    """The same share of the brake on each card of the group, in the same windows."""
    twins = with_fault("supply_brake")
    shares, _ = twins.means("throttle_brake_ratio")
    assert len(shares) > 1
    assert shares == pytest.approx(twins.case.severity, abs=0.02)
    assert twins.ratio("core_clock_mhz") < 0.95


def test_a_sagging_supply_keeps_all_of_its_cards_below_their_limits() -> None:
    """Power and clock end low together; some boards tell that power holds them."""
    twins = with_fault("supply_deficit")
    assert twins.ratio("power_watts") < 0.92
    assert twins.ratio("core_clock_mhz") < 0.95
    assert (twins.means("throttle_power_ratio")[0] > 0).all() == twins.case.variant
    for name in ("thermal", "hardware", "brake"):
        assert np.all(twins.means(f"throttle_{name}_ratio")[0] == 0.0)


# --- links -----------------------------------------------------------------------------------


def test_a_link_at_its_lowest_generation_under_load() -> None:
    """Generation and traffic are low, the width is not."""
    twins = with_fault("link_generation")
    assert twins.means("pcie_generation")[0] == 1.0
    assert twins.ratio("pcie_rx_bytes_per_second") < 0.6
    assert twins.ratio("pcie_width") == 1.0


def test_replays_come_in_bursts() -> None:
    """Some minutes with many, most with none."""
    steps = np.diff(with_fault("replay_bursts").mine("pcie_replay_total")[:, 0])
    loud = steps > 3.0
    assert loud[:20].all()
    assert 0.05 < loud.mean() < 0.9


def test_cracked_solder_comes_and_goes() -> None:
    """Fewer lanes for minutes with replays, then all of them again; an Xid with the first."""
    twins = with_fault("solder")
    width, full = twins.mine("pcie_width")[:, 0], twins.other("pcie_width")[0, 0]
    assert width[0] < full
    assert width.max() == full
    assert twins.codes()
    mine, twin = twins.last("pcie_replay_total")
    assert mine > twin + 20


def test_cracked_solder_opens_when_the_die_warms_or_cools() -> None:
    """On ramps of temperature it opens many times as often as on a steady card."""
    opened = []
    for kelvin in (0.0, 8.0):
        farm = Farm(64, SEED, "solder", START)
        (fault,) = farm.faults
        window = next(farm.windows())
        moment = window.moment
        moment.times = moment.times + 7200.0
        moment.warming = np.full(64, kelvin)
        act = FAULT_KINDS["solder"].act
        begun = 0
        for number in range(400):
            case = Case(fault, np.random.default_rng(number), first=False, size=1.0)
            act(moment, case)
            begun += "until" in case.notes
        opened.append(begun)
    steady, ramping = opened
    assert ramping > 5 * steady


# --- memory ----------------------------------------------------------------------------------


def test_low_bandwidth_slows_work_at_a_normal_clock() -> None:
    """The memory clock reads as before, memory is busier, work slower."""
    twins = with_fault("memory_bandwidth")
    assert twins.ratio("memory_clock_mhz") == 1.0
    assert twins.ratio("memory_utilization_ratio") > 1.1
    assert twins.rate_ratio() < 0.95


def test_memory_without_ecc_shows_as_crashes_on_one_card() -> None:
    """Application Xids again and again, no counter."""
    codes = with_fault("memory_crashes").codes()
    assert len(codes) >= 2
    assert set(codes) <= {"8", "13", "31"}


def test_corrected_errors_come_in_bursts_and_cost_nothing() -> None:
    """The counter jumps; rate and clock stay."""
    twins = with_fault("ecc_corrected")
    mine, twin = twins.last("ecc_corrected_total")
    assert mine > twin + 30
    assert twins.ratio("core_clock_mhz") == 1.0
    assert twins.rate_ratio() == 1.0


def test_an_uncorrected_error_is_counted_and_told() -> None:
    """Xid 48, with 94 or 95 where the chip contains errors."""
    twins = with_fault("ecc_uncorrected")
    mine, twin = twins.last("ecc_uncorrected_total")
    assert mine - twin == twins.codes().count("48") >= 1
    assert set(twins.codes()) <= {"48", "94", "95"}


def test_a_pending_row_waits_for_a_reset() -> None:
    """One row more, the flag, and Xid 63."""
    twins = with_fault("row_remap_pending")
    assert twins.last("remap_pending") == (1.0, 0.0)
    mine, twin = twins.last("remapped_rows_total")
    assert mine == twin + 1
    assert twins.codes() == ["63"]


def test_a_failed_row_ends_the_service() -> None:
    """The flag and Xid 64."""
    twins = with_fault("row_remap_failed")
    assert twins.last("remap_failed") == (1.0, 0.0)
    assert twins.codes() == ["64"]


def test_pages_retire_one_after_the_other() -> None:
    """As many Xid 63 as pages."""
    twins = with_fault("page_retirement")
    mine, twin = twins.last("retired_pages_total")
    assert mine - twin == len(twins.codes()) >= 2


# --- compute ---------------------------------------------------------------------------------


def test_slow_compute_shows_in_the_rate_alone() -> None:
    """The clock is no lower than before, no throttle, less work."""
    twins = with_fault("slow_compute")
    assert twins.ratio("core_clock_mhz") >= 0.999
    assert twins.rate_ratio() < 1.0 - 0.5 * twins.case.severity


def test_a_lost_unlock_costs_work_by_a_factor() -> None:
    """After a boot the card does a small part of its work at the clock it had."""
    twins = with_fault("unlock_lost")
    assert twins.ratio("core_clock_mhz") > 0.99
    assert 1 / 40 < twins.rate_ratio() < 1 / 8
    boots = [event.time for event in twins.host_events if event.kind == "boot"]
    assert boots == [twins.case.since]


# --- identity --------------------------------------------------------------------------------


def played(kind: str) -> tuple[Played, Fault]:
    told = play(Farm(64, SEED, kind, START), 1500.0)
    (fault,) = told.farm.faults
    return told, fault


def test_a_changed_fingerprint_keeps_its_uuid() -> None:
    """Another VBIOS under the same name, told when it happens."""
    told, fault = played("fingerprint_changed")
    card = told.farm.fleet.cards[fault.index]
    infos = [r for r in told.of("card_info") if r.tags["card"] == card.card]
    first, last = infos[0], infos[-1]
    assert first.fields["vbios"] == card.vbios
    assert last.fields["vbios"] != card.vbios
    assert 0 <= last.time_ns / 1e9 - fault.since < 10.1
    events = [r.fields["kind"] for r in told.of("card_event") if r.tags["card"] == card.card]
    assert "identity" in events


def test_a_doubled_uuid_stands_in_two_places() -> None:
    """From its time on two slots show the same card."""
    told, fault = played("uuid_duplicate")
    fleet = told.farm.fleet
    mine = fleet.cards[fault.index]
    place = (fleet.nodes[mine.node].host, mine.slot)
    shown = [r.tags["card"] for r in told.of("card") if (r.tags["host"], r.tags["slot"]) == place]
    other = shown[-1]
    assert shown[0] == mine.card
    assert other in {card.card for card in fleet.cards} - {mine.card}
    newest = told.cards[other][-20:]
    assert len({(r.tags["host"], r.tags["slot"]) for r in newest}) == 2


# --- cards that do not answer ----------------------------------------------------------------


def test_a_card_falls_off_and_comes_back() -> None:
    """Each fall has its Xid 79 and, when it is over, a return."""
    twins = with_fault("off_and_on")
    samples = twins.mine("samples")
    assert samples[0] == 0.0
    assert samples.max() == 10.0
    assert set(twins.codes()) == {"79"}
    kinds = [event.kind for event in twins.events]
    assert kinds.count("returned") >= 1
    assert kinds.count("lost") - kinds.count("returned") in (0, 1)


def test_a_hanging_firmware_makes_a_card_silent_for_a_while() -> None:
    """Xid 119, reads that run into their deadline, then answers again."""
    twins = with_fault("firmware_hang")
    reads = twins.mine("read_seconds")
    assert reads[0] >= 10.0
    assert reads.min() < 0.1
    assert set(twins.codes()) == {"119"}


# --- nodes -----------------------------------------------------------------------------------


def test_a_slow_node_works_slowly_at_normal_clocks() -> None:
    """The rates of all of its cards fall together."""
    twins = with_fault("slow_node")
    assert twins.ratio("core_clock_mhz") < 1.005
    assert np.min(np.divide(*twins.means("core_clock_mhz"))) > 0.995
    assert twins.rate_ratio() == pytest.approx(1.0 - twins.case.severity, abs=0.02)
    assert twins.farm.fleet.nodes[twins.nodes[0]].profile is Profile.TRAINING


def test_late_readings_arrive_in_order_and_complete() -> None:
    """What a node measured arrives by its delay later, nothing lost; other nodes are on time."""
    farm = Farm(64, SEED, "late_readings", START)
    (fault,) = farm.faults
    host = farm.planted[0].host
    newest = 0.0
    delays = []
    for batch in farm.readings(START + 2400.0):
        newest = max(newest, batch.time)
        if batch.host == host:
            delays.append((batch.time, newest - batch.time))
        else:
            assert newest - batch.time == 0.0
    times = [time for time, _ in delays]
    assert times == sorted(times)
    assert np.diff(times) == pytest.approx(10.0, abs=0.05)
    late = np.array([delay for time, delay in delays if time >= fault.since])
    assert len(late) > 30
    assert late == pytest.approx(fault.severity, abs=2.0)
    assert max(delay for time, delay in delays if time < fault.since) == 0.0


def test_common_kinds_are_known() -> None:
    """What `some` and `all` draw from is a part of all kinds, each on one card."""
    assert set(COMMON_KINDS) <= set(FAULT_KINDS)
    assert {FAULT_KINDS[name].scope for name in COMMON_KINDS} == {Scope.CARD}
