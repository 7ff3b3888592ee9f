import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farmhand_agent.reading import FIELDS, parse_lines
from farmhand_agent.sources.base import (
    Card,
    CardLost,
    CardUnreadable,
    Fields,
    NothingHere,
    SourceStale,
)
from farmhand_agent.sources.nvidia.source import NvidiaSource
from farmhand_agent.sources.nvidia.values import CLUES, FAST, INFO, RARE, RATES, SLOW
from tests import standin
from tests.standin import goldens
from tests.standin.captures import MODELS, capture_state, farm_state

SECOND_NS = 1_000_000_000


class Clock:
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def pass_seconds(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND_NS)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def calls() -> list[tuple[str, str]]:
    """Slot and name of each call that the source told of."""
    return []


Open = Callable[[standin.State], NvidiaSource]


@pytest.fixture
def opened(
    nvml_state: standin.State, clock: Clock, calls: list[tuple[str, str]], tmp_path: Path
) -> Iterator[Open]:
    """Write a state in place of the fixture's and open a source on it."""
    sources: list[NvidiaSource] = []

    def open_on(state: standin.State) -> NvidiaSource:
        state.path = nvml_state.path
        state.write()
        source = NvidiaSource(lambda slot, call: calls.append((slot, call)), None, tmp_path, clock)
        source.open()
        sources.append(source)
        return source

    yield open_on
    for source in sources:
        source.close()


@pytest.fixture
def h100(tmp_path: Path) -> standin.State:
    return capture_state(tmp_path / "unused", "H100")


def all_cards(source: NvidiaSource) -> list[Card]:
    return source.cards(lambda _slot: True).cards


def only_card(source: NvidiaSource) -> Card:
    (card,) = all_cards(source)
    return card


def window(source: NvidiaSource, card: Card) -> Fields:
    """What a window of one sample gives."""
    return {**source.sample(card), **source.slow(card)}


def counted(path: Path, what: str) -> int:
    """How often the stand-in was asked for something."""
    return sum(line.partition(" ")[2] == what for line in path.read_text().splitlines())


# --- captured cards ------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_captured_card_reads_as_its_golden_file(model: str, nvml_state: standin.State) -> None:
    """Every captured model gives exactly the line protocol that was checked against its capture."""
    golden = goldens.golden_path(model)
    assert golden.exists(), f"{golden} is missing; python -m tests.standin.goldens writes it"
    assert goldens.lines(model, nvml_state.path) == golden.read_text(encoding="utf-8")


def test_every_golden_file_belongs_to_a_capture() -> None:
    """No golden file is left over from a capture that is gone."""
    assert set(goldens.DIRECTORY.iterdir()) == {goldens.golden_path(model) for model in MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_a_golden_file_keeps_to_the_contract(model: str) -> None:
    """All fields of a reading are fields of the contract."""
    known = {(field.measurement, field.name) for field in FIELDS}
    for reading in parse_lines(goldens.golden_path(model).read_text(encoding="utf-8")):
        assert {(reading.measurement, name) for name in reading.fields} <= known


def test_what_is_read_is_in_the_contract() -> None:
    """Each table gives fields of its measurement, besides the clues and counters of rates."""
    card = {field.name for field in FIELDS if field.measurement == "card"}
    info = {field.name for field in FIELDS if field.measurement == "card_info"}
    clues = {given.field for row in CLUES for given in row.gives}
    inner = clues | {*RATES, "mig_mode", "reasons"}
    assert {given.field for row in (*FAST, *SLOW, *RARE) for given in row.gives} - inner <= card
    assert {given.field for row in INFO for given in row.gives} <= info
    assert not inner & card


# --- identity and place --------------------------------------------------------------------------


def test_the_tags_name_card_and_model(opened: Open, h100: standin.State) -> None:
    """The card tag is the UUID, the model the driver's name without the maker."""
    h100.cards[0]["uuid"] = "GPU-1"
    card = only_card(opened(h100))
    assert card[:4] == ("0000:00:09.0", "GPU-1", "nvidia", "H100 80GB HBM3")


def test_a_card_without_uuid_is_unidentified(opened: Open, h100: standin.State) -> None:
    """A card that does not say who it is still has its place."""
    h100.cards[0]["uuid"] = standin.error(999)
    card = only_card(opened(h100))
    assert (card.slot, card.card) == ("0000:00:09.0", "unidentified")


def test_a_card_that_cannot_be_opened_is_not_enumerated(opened: Open, tmp_path: Path) -> None:
    """One dead card does not hide its neighbours."""
    state = farm_state(tmp_path, ["RTX 3090", ("RTX 3080", {"card": standin.LOST}), "T4"])
    assert [card.model for card in all_cards(opened(state))] == ["GeForce RTX 3090", "Tesla T4"]


def test_a_known_card_is_not_asked_again_who_it_is(
    opened: Open, h100: standin.State, nvml_calls: Path
) -> None:
    """A later enumeration cannot be held up by a card that hangs by now."""
    source = opened(h100)
    first = only_card(source)
    assert only_card(source) is first
    assert counted(nvml_calls, "nvmlDeviceGetHandleByIndex_v2") == 1


def test_cards_are_identified_anew_when_their_number_changes(opened: Open, tmp_path: Path) -> None:
    """A vanished neighbour shifts the driver's order; nobody takes another's name."""
    state = farm_state(tmp_path, ["RTX 3090", "RTX 3080"])
    source = opened(state)
    both = [card.card for card in all_cards(source)]
    state.change(0, absent=1)
    assert [card.card for card in all_cards(source)] == both[1:]


def test_each_call_is_told_with_its_slot(
    opened: Open, h100: standin.State, calls: list[tuple[str, str]]
) -> None:
    """The watch learns of every call before it is made, and which card it is for."""
    source = opened(h100)
    source.sample(only_card(source))
    assert calls[0] == ("", "nvmlInit")
    assert ("0000:00:09.0", "nvmlDeviceGetTemperatureV") in calls
    slots = {slot for slot, call in calls if call not in ("nvmlInit", "nvmlSystemGetDriverVersion")}
    assert slots == {"", "0000:00:09.0"}


# --- what a card does not give -------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [standin.NOT_SUPPORTED, standin.MISSING, standin.DEPRECATED, standin.error(2)],
)
def test_a_refused_value_is_asked_for_once(
    refusal: str, opened: Open, h100: standin.State, nvml_calls: Path
) -> None:
    """A value that a card does not have costs one call in a card's life, not one a second."""
    h100.cards[0] |= {"utilization": refusal, "field_82": refusal}
    source = opened(h100)
    card = only_card(source)
    samples = [source.sample(card) for _ in range(3)]
    assert not any("utilization_ratio" in sample for sample in samples)
    assert not any("memory_temperature_celsius" in sample for sample in samples)
    assert counted(nvml_calls, "nvmlDeviceGetUtilizationRates") == 1
    assert counted(nvml_calls, "field 82") == 1


def test_reopening_asks_for_refused_values_again(opened: Open, h100: standin.State) -> None:
    """A driver that was updated may give what the one before did not."""
    h100.cards[0]["power_limit_enforced"] = standin.NOT_SUPPORTED
    source = opened(h100)
    assert "power_limit_watts" not in source.slow(only_card(source))
    h100.change(0, power_limit_enforced=300_000)
    source.close()
    source.open()
    assert source.slow(only_card(source))["power_limit_watts"] == 300.0


@pytest.mark.parametrize(
    ("missing", "field", "value"),
    [
        ({"field_186": standin.NOT_SUPPORTED, "power_usage": 250_000}, "power_watts", 250.0),
        ({"field_values": standin.MISSING, "power_usage": 250_000}, "power_watts", 250.0),
        ({"temperature_v": standin.MISSING, "temperature": 61}, "core_temperature_celsius", 61.0),
        (
            {"memory_v2": standin.MISSING, "memory_used": 700, "memory_reserved": 77},
            "memory_used_bytes",
            777.0,
        ),
        ({"energy": 5_000, "field_83": standin.NOT_SUPPORTED}, "energy_joules", 5.0),
    ],
)
def test_an_older_way_gives_the_same_value(
    missing: standin.Entries, field: str, value: float, opened: Open, h100: standin.State
) -> None:
    """Where the newer call is missing, the older one is asked in the same window."""
    h100.cards[0] |= dict(missing)
    source = opened(h100)
    assert window(source, only_card(source))[field] == value


def test_lifetime_error_counts_are_preferred(opened: Open, h100: standin.State) -> None:
    """Errors before the driver's last start count; without a lifetime count, those since do."""
    h100.cards[0] |= {"ecc_uncorrected_aggregate": 5, "ecc_uncorrected_volatile": 1}
    source = opened(h100)
    card = only_card(source)
    assert source.slow(card)["ecc_uncorrected_total"] == 5.0
    h100.change(0, ecc_uncorrected_aggregate=standin.NOT_SUPPORTED)
    assert source.slow(card)["ecc_uncorrected_total"] == 1.0


def test_the_fan_value_is_the_mean_of_all_fans(opened: Open, h100: standin.State) -> None:
    """Two fans at different speeds give one ratio."""
    h100.cards[0] |= {"fans": 2, "fan_0": 40, "fan_1": 50}
    source = opened(h100)
    assert source.slow(only_card(source))["fan_ratio"] == 0.45


def test_a_passive_card_has_no_fan_value(opened: Open, h100: standin.State) -> None:
    """No fan is not a fan at rest."""
    h100.cards[0]["fans"] = 0
    source = opened(h100)
    assert "fan_ratio" not in source.slow(only_card(source))


def test_an_odd_sensor_alone_leaves_its_value_out(opened: Open, h100: standin.State) -> None:
    """A power sensor that errs does not make the card unreadable, and is asked again."""
    h100.cards[0] |= {"field_186": standin.error(999), "power_usage": standin.error(999)}
    source = opened(h100)
    card = only_card(source)
    assert "power_watts" not in source.sample(card)
    h100.change(0, field_186=90_000)
    assert source.sample(card)["power_watts"] == 90.0


def test_mig_instances_are_counted_as_they_come_and_go(opened: Open, tmp_path: Path) -> None:
    """Instances are made and removed while the agent runs; utilisation is not given then."""
    state = capture_state(tmp_path, "A100 MIG")
    state.cards[0]["mig_devices"] = 0
    source = opened(state)
    card = only_card(source)
    assert source.info(card)["mig_instances"] == 0.0
    state.change(0, mig_devices=3)
    assert source.info(card)["mig_instances"] == 3.0
    assert "utilization_ratio" not in source.sample(card)


# --- absurd values -------------------------------------------------------------------------------


def everything(source: NvidiaSource) -> Fields:
    card = only_card(source)
    return {**source.info(card), **source.sample(card), **source.slow(card)}


@pytest.mark.parametrize(
    ("key", "absurd", "field"),
    [
        ("temperature_v", 0, "core_temperature_celsius"),
        ("temperature_v", 151, "core_temperature_celsius"),
        ("field_82", 0, "memory_temperature_celsius"),
        ("field_186", 4_294_967_295, "power_watts"),
        ("field_186", 0, "power_watts"),
        ("field_186", 2_500_000, "power_watts"),
        ("field_83", 2**63 - 1, "energy_joules"),
        ("utilization", 101, "utilization_ratio"),
        ("clock_sm", 0, "core_clock_mhz"),
        ("clock_memory", 4_294_967_295, "memory_clock_mhz"),
        ("memory_total", 0, "memory_total_bytes"),
        ("memory_used", 2**64 - 1, "memory_used_bytes"),
        ("pcie_width", 0, "pcie_width"),
        ("pcie_generation", 255, "pcie_generation"),
        ("pcie_replay", 4_294_967_295, "pcie_replay_total"),
        ("ecc_corrected_aggregate", 2**64 - 1, "ecc_corrected_total"),
        ("remapped_correctable", 4_294_967_295, "remapped_rows_total"),
        ("remap_pending", 7, "remap_pending"),
        ("power_limit_enforced", 0, "power_limit_watts"),
        ("fan_0", 200, "fan_ratio"),
        ("memory_bus", 0, "memory_bus_bits"),
        ("serial", "0000000000000", "serial"),
        ("serial", "N/A", "serial"),
    ],
)
def test_an_absurd_value_is_left_out(
    key: str, absurd: standin.Entry, field: str, opened: Open, h100: standin.State
) -> None:
    """What cannot be is not written, whatever the driver says; the plausible value is."""
    sane: dict[str, standin.Entry] = {
        "field_83": 1_000_000,
        "fans": 1,
        "fan_0": 40,
        "memory_bus": 5120,
        "serial": "1650522003820",
    }
    h100.cards[0] |= sane
    source = opened(h100)
    assert field in everything(source)
    h100.change(0, **{key: absurd})
    assert field not in everything(source)


def test_a_fan_told_to_run_above_its_pleasant_maximum_is_full(
    opened: Open, h100: standin.State
) -> None:
    """The driver allows somewhat more than 100 %; the ratio ends at 1."""
    h100.cards[0] |= {"fans": 1, "fan_0": 110}
    source = opened(h100)
    assert source.slow(only_card(source))["fan_ratio"] == 1.0


def test_text_that_is_none_is_left_out(opened: Open, h100: standin.State) -> None:
    """A damaged InfoROM gives bytes that are no text; the other facts are still told."""
    h100.cards[0]["serial"] = "DAMAGED"
    source = opened(h100)
    h100.path.write_bytes(h100.path.read_bytes().replace(b"DAMAGED", b"\xff\xfe\xfd"))
    info = source.info(only_card(source))
    assert "serial" not in info
    assert info["name"] == "NVIDIA H100 80GB HBM3"


# --- throttling ----------------------------------------------------------------------------------


def test_throttle_ratios_are_shares_of_the_time_since_the_last_window(
    opened: Open, h100: standin.State, clock: Clock
) -> None:
    """Counted time over passed time, however short the throttling within it was."""
    times = {"field_74": 0, "field_269": 0, "field_270": 0, "field_271": 0}
    h100.cards[0] |= times
    source = opened(h100)
    card = only_card(source)
    source.sample(card)
    clock.pass_seconds(2.0)
    h100.change(
        0,
        field_74=1 * SECOND_NS,
        field_269=SECOND_NS // 2,
        field_270=SECOND_NS // 4,
        field_271=SECOND_NS // 8,
    )
    sample = window(source, card)
    assert sample["throttle_power_ratio"] == 0.5
    assert sample["throttle_thermal_ratio"] == 0.375
    assert sample["throttle_hardware_ratio"] == 0.1875
    assert sample["throttle_brake_ratio"] == 0.0625


def test_overlapping_throttle_reasons_make_no_more_than_all_the_time(
    opened: Open, h100: standin.State, clock: Clock
) -> None:
    """Software and hardware slowdown at once are not twice the time."""
    source = opened(h100)
    card = only_card(source)
    source.sample(card)
    clock.pass_seconds(1.0)
    h100.change(0, field_269=SECOND_NS, field_270=SECOND_NS)
    assert window(source, card)["throttle_thermal_ratio"] == 1.0


def test_a_counter_that_runs_faster_than_time_is_no_share(
    opened: Open, h100: standin.State, clock: Clock
) -> None:
    """A counter in another unit must not look like a card that throttles all the time."""
    source = opened(h100)
    card = only_card(source)
    source.sample(card)
    clock.pass_seconds(1.0)
    h100.change(0, field_74=1000 * SECOND_NS)
    assert "throttle_power_ratio" not in window(source, card)


def test_a_counter_that_was_reset_starts_anew(
    opened: Open, h100: standin.State, clock: Clock
) -> None:
    """A smaller count than before says nothing about the time between."""
    h100.cards[0] |= {"field_74": 5 * SECOND_NS, "event_reasons": 0x4}
    source = opened(h100)
    card = only_card(source)
    source.sample(card)
    clock.pass_seconds(1.0)
    h100.change(0, field_74=0)
    assert window(source, card)["throttle_power_ratio"] == 1.0, "as the samples have it"
    clock.pass_seconds(1.0)
    h100.change(0, field_74=SECOND_NS // 4)
    assert window(source, card)["throttle_power_ratio"] == 0.25


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (0x1, (0.0, 0.0, 0.0, 0.0)),
        (0x4, (1.0, 0.0, 0.0, 0.0)),
        (0x20, (0.0, 1.0, 0.0, 0.0)),
        (0x8 | 0x40, (0.0, 1.0, 1.0, 0.0)),
        (0x8 | 0x80, (0.0, 0.0, 1.0, 1.0)),
        (0x8, (0.0, 0.0, 1.0, 0.0)),
    ],
)
def test_without_counters_the_reasons_at_the_samples_count(
    reasons: int, expected: tuple[float, ...], opened: Open, tmp_path: Path
) -> None:
    """An older driver tells only what holds the card back right now."""
    state = capture_state(tmp_path, "RTX 3090")
    state.cards[0]["throttle_reasons"] = reasons
    source = opened(state)
    card = only_card(source)
    state.change(0, throttle_reasons=0)
    source.sample(card)
    state.change(0, throttle_reasons=reasons)
    sample = window(source, card)
    names = ("power", "thermal", "hardware", "brake")
    assert tuple(2 * sample[f"throttle_{name}_ratio"] for name in names) == expected


def test_a_slowdown_that_no_counter_covers_still_shows(
    opened: Open, h100: standin.State, clock: Clock
) -> None:
    """A fast power trip sets the general hardware bit, and no time counter moves."""
    h100.cards[0]["event_reasons"] = 0x8
    source = opened(h100)
    card = only_card(source)
    source.sample(card)
    clock.pass_seconds(1.0)
    sample = window(source, card)
    assert (sample["throttle_hardware_ratio"], sample["throttle_brake_ratio"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("driver", "brake_field"),
    [("570.124.04", None), ("575.57.08", 253), ("579.10", 253), ("580.65.06", 271), ("615.1", 271)],
)
def test_throttle_counters_are_asked_by_the_numbers_of_the_driver(
    driver: str, brake_field: int | None, opened: Open, h100: standin.State, nvml_calls: Path
) -> None:
    """The numbers moved in branch 580; the old ones are other counters since."""
    h100.driver = driver
    source = opened(h100)
    source.sample(only_card(source))
    asked = {number for number in (253, 271) if counted(nvml_calls, f"field {number}")}
    assert asked == ({brake_field} if brake_field else set())


@pytest.mark.parametrize(("driver", "told"), [("610.57.04", False), ("615.71", True)])
def test_a_hotspot_is_read_from_branch_615_on(
    driver: str, told: bool, opened: Open, h100: standin.State
) -> None:
    """Sensor 1 was something else before; its number is not taken for a hotspot."""
    h100.driver = driver
    h100.cards[0]["hotspot"] = 88
    source = opened(h100)
    assert ("hotspot_temperature_celsius" in source.sample(only_card(source))) is told


def test_byte_counters_become_rates(opened: Open, h100: standin.State, clock: Clock) -> None:
    """Traffic is the growth over the time between two slow reads; a wrap is no traffic."""
    h100.cards[0] |= {"field_197": 1_000, "field_198": 5_000_000}
    source = opened(h100)
    card = only_card(source)
    assert "pcie_tx_bytes_per_second" not in source.slow(card)
    clock.pass_seconds(10.0)
    h100.change(0, field_197=2_001_000, field_198=10)
    slow = source.slow(card)
    assert slow["pcie_tx_bytes_per_second"] == 200_000.0
    assert "pcie_rx_bytes_per_second" not in slow


# --- cards and drivers that fail -----------------------------------------------------------------


@pytest.mark.parametrize("code", [15, 16])
@pytest.mark.parametrize("key", ["card", "pcie_generation", "field_186"])
def test_a_lost_card_is_lost_whichever_call_says_so(
    key: str, code: int, opened: Open, h100: standin.State
) -> None:
    """Lost, or in need of a reset, ends the window."""
    source = opened(h100)
    card = only_card(source)
    h100.change(0, **{key: standin.error(code)})
    with pytest.raises(CardLost):
        window(source, card)


@pytest.mark.parametrize("code", [999, 10])
@pytest.mark.parametrize("key", ["memory_total", "clock_sm", "temperature_v"])
def test_a_card_that_fails_a_core_read_is_unreadable(
    key: str, code: int, opened: Open, h100: standin.State
) -> None:
    """Any living card tells its memory, clock and temperature."""
    source = opened(h100)
    card = only_card(source)
    h100.change(0, **{key: standin.error(code)})
    with pytest.raises(CardUnreadable):
        window(source, card)


def test_an_unreadable_card_may_come_back(opened: Open, h100: standin.State) -> None:
    """A time-out is no refusal: the next sample asks again."""
    source = opened(h100)
    card = only_card(source)
    h100.change(0, card=standin.error(10))
    with pytest.raises(CardUnreadable):
        source.sample(card)
    del h100.cards[0]["card"]
    h100.write()
    assert source.sample(card)["core_clock_mhz"] == 1980.0


def test_a_card_that_refuses_everything_is_unreadable(opened: Open, h100: standin.State) -> None:
    """No value at all is not a reading."""
    source = opened(h100)
    card = only_card(source)
    h100.change(0, card=standin.NOT_SUPPORTED)
    with pytest.raises(CardUnreadable):
        source.sample(card)


@pytest.mark.parametrize("code", [1, 9, 18])
def test_a_replaced_driver_makes_the_source_stale(
    code: int, opened: Open, h100: standin.State
) -> None:
    """No card is blamed for a driver that was replaced under the agent."""
    source = opened(h100)
    card = only_card(source)
    h100.library["calls"] = standin.error(code)
    h100.write()
    for question in (source.sample, source.slow, source.info):
        with pytest.raises(SourceStale):
            question(card)
    with pytest.raises(SourceStale):
        all_cards(source)


def test_a_stale_source_reads_again_after_reopening(opened: Open, h100: standin.State) -> None:
    """After a driver reload old handles are void; new ones read as before."""
    source = opened(h100)
    card = only_card(source)
    h100.library["reload"] = 1
    h100.write()
    with pytest.raises(SourceStale):
        source.sample(card)
    source.close()
    source.open()
    assert source.sample(only_card(source))["core_clock_mhz"] == 1980.0


def test_a_driver_that_is_not_loaded_is_nothing_here(opened: Open, h100: standin.State) -> None:
    """A library without its driver is a fact, not a failure."""
    h100.library["init"] = standin.error(9)
    with pytest.raises(NothingHere):
        opened(h100)


def test_a_library_that_does_not_fit_its_driver_is_stale(opened: Open, h100: standin.State) -> None:
    """An update without a reboot: there are cards, they just cannot be read yet."""
    h100.library["init"] = standin.error(18)
    with pytest.raises(SourceStale):
        opened(h100)


OPEN = """
from farmhand_agent.sources.base import NothingHere
from farmhand_agent.sources.nvidia.source import NvidiaSource
source = NvidiaSource(lambda slot, call: print(slot, call, flush=True))
try:
    source.open()
except NothingHere as nothing:
    print("nothing here:", nothing)
else:
    for card in source.cards(lambda slot: True).cards:
        print(card.model, source.sample(card)["core_temperature_celsius"], flush=True)
"""


def in_a_process_of_its_own(environment: dict[str, str]) -> "subprocess.Popen[str]":
    """Start a process that opens a source and samples each card, telling each call."""
    path = os.pathsep.join(sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", OPEN],
        env=environment | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_a_machine_without_the_library_has_nothing_here(tmp_path: Path) -> None:
    """No driver installed: the loader finds no library."""
    (tmp_path / standin.SONAME).write_bytes(b"no library")
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    out, _ = in_a_process_of_its_own(environment).communicate()
    assert "nothing here: no NVIDIA driver library on this machine" in out


def test_the_loader_finds_the_stand_in_as_it_would_the_driver(
    nvml_library: Path, tmp_path: Path
) -> None:
    """A process that knows nothing of tests reads the stand-in's cards."""
    state = farm_state(tmp_path / "state", ["RTX 3090", "T4"])
    state.write()
    out, _ = in_a_process_of_its_own(standin.environment(nvml_library, state.path)).communicate()
    assert [line for line in out.splitlines() if "nvml" not in line] == [
        "GeForce RTX 3090 37.0",
        "Tesla T4 40.0",
    ]


def test_a_crash_leaves_the_name_of_the_call(nvml_library: Path, tmp_path: Path) -> None:
    """The last call that was told is the one that the process died in."""
    state = farm_state(tmp_path / "state", ["T4", ("RTX 3090", {"clock_sm": standin.CRASH})])
    state.write()
    process = in_a_process_of_its_own(standin.environment(nvml_library, state.path))
    out, _ = process.communicate()
    assert process.returncode == -11
    assert out.splitlines()[-1] == "0000:02:00.0 nvmlDeviceGetClockInfo"


def test_a_hang_leaves_the_name_of_the_call(nvml_library: Path, tmp_path: Path) -> None:
    """The call is told before it is made, so a reader that never returns is understood."""
    state = farm_state(tmp_path / "state", [("T4", {"temperature_v": standin.HANG})])
    state.write()
    process = in_a_process_of_its_own(standin.environment(nvml_library, state.path))
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line == "0000:01:00.0 nvmlDeviceGetTemperatureV\n":
                break
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
