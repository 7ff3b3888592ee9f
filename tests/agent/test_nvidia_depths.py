"""What NVIDIA cards tell beyond the usual: measured traffic, links, errors by place, events."""

import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml
import pytest

from farmhand_agent.reading import fields_of
from farmhand_agent.sources.base import Card, CardEvent
from farmhand_agent.sources.nvidia.source import NvidiaSource
from tests import standin
from tests.standin.captures import capture_state

Open = Callable[[standin.State], NvidiaSource]

GPM = {
    "gpm": 1,
    f"gpm_{pynvml.NVML_GPM_METRIC_SM_UTIL}": 90,
    f"gpm_{pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL}": 40,
    f"gpm_{pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL}": 50,
    "clock_max_memory": 2619,
    "memory_bus": 5120,
}
"""A Hopper card whose memory is half busy."""


@pytest.fixture
def opened(nvml_state: standin.State, tmp_path: Path) -> Iterator[Open]:
    """Write a state in place of the fixture's and open a source on it."""
    sources: list[NvidiaSource] = []

    def open_on(state: standin.State) -> NvidiaSource:
        state.path = nvml_state.path
        state.write()
        source = NvidiaSource(lambda _slot, _call: None, None, tmp_path)
        source.open()
        sources.append(source)
        return source

    yield open_on
    for source in sources:
        source.close()


@pytest.fixture
def h100(tmp_path: Path) -> standin.State:
    return capture_state(tmp_path / "unused", "H100")


def only_card(source: NvidiaSource) -> Card:
    (card,) = source.cards(lambda _slot: True).cards
    return card


def counted(path: Path, what: str) -> int:
    return sum(line.partition(" ")[2] == what for line in path.read_text().splitlines())


# --- units ---------------------------------------------------------------------------------------


def test_memory_traffic_is_measured_where_the_card_counts_it(
    opened: Open, h100: standin.State
) -> None:
    """Half of 2 × 2619 MHz over 5120 bits: the first window after the first sample has it."""
    h100.cards[0] |= GPM
    source = opened(h100)
    card = only_card(source)
    source.sample(card)
    slow = source.slow(card)
    assert slow["memory_bandwidth_bytes_per_second"] == pytest.approx(2619e6 * 2 * 5120 / 8 / 2)
    assert (slow["sm_active_ratio"], slow["tensor_active_ratio"]) == (0.9, 0.4)


def test_a_card_without_counters_is_asked_for_them_once(
    opened: Open, h100: standin.State, nvml_calls: Path
) -> None:
    """GeForce cards before Blackwell have none, and never derive traffic from utilisation."""
    h100.cards[0]["gpm"] = standin.NOT_SUPPORTED
    source = opened(h100)
    card = only_card(source)
    for _ in range(3):
        source.sample(card)
        assert "memory_bandwidth_bytes_per_second" not in source.slow(card)
    assert counted(nvml_calls, "nvmlGpmQueryDeviceSupport") == 1
    assert counted(nvml_calls, "nvmlGpmSampleGet") == 0


def test_a_metric_that_is_refused_leaves_the_others(opened: Open, h100: standin.State) -> None:
    """Each metric has a return code of its own."""
    h100.cards[0] |= GPM | {f"gpm_{pynvml.NVML_GPM_METRIC_SM_UTIL}": standin.NOT_SUPPORTED}
    source = opened(h100)
    card = only_card(source)
    source.sample(card)
    slow = source.slow(card)
    assert "sm_active_ratio" not in slow
    assert slow["tensor_active_ratio"] == 0.4


# --- NVLink --------------------------------------------------------------------------------------


def test_link_errors_before_hopper_are_the_totals(opened: Open, h100: standin.State) -> None:
    """Flow control and data errors are both packets that arrived damaged."""
    h100.cards[0] |= {"field_38": 3, "field_45": 4, "field_52": 5, "field_59": 6}
    source = opened(h100)
    rare = source.rare(only_card(source))
    assert rare["nvlink_crc_errors_total"] == 7.0
    assert (rare["nvlink_replay_total"], rare["nvlink_recovery_total"]) == (5.0, 6.0)


def test_link_errors_from_hopper_on_are_added_over_the_links(
    opened: Open, h100: standin.State
) -> None:
    """A link that is not there is passed over."""
    names = ("field_38", "field_45", "field_52", "field_59")
    totals: standin.Entries = dict.fromkeys(names, standin.NOT_SUPPORTED)
    links: dict[str, standin.Entry] = {"field_91": 3, "nvlink_0": 1, "nvlink_1": 0}
    links["nvlink_2"] = standin.NOT_SUPPORTED
    errors = {"field_163_0": 10, "field_163_1": 1, "field_161_0": 2}
    h100.cards[0] |= {**totals, **links, **errors}
    source = opened(h100)
    rare = source.rare(only_card(source))
    assert rare["nvlink_crc_errors_total"] == 11.0
    assert rare["nvlink_replay_total"] == 2.0
    assert rare["nvlink_active"] == 1.0
    assert "nvlink_recovery_total" not in rare


def test_a_card_without_links_is_asked_for_them_once(
    opened: Open, h100: standin.State, nvml_calls: Path
) -> None:
    """Most cards of a rough farm have none."""
    fields = ("field_38", "field_45", "field_52", "field_59", "field_91")
    h100.cards[0] |= dict.fromkeys(fields, standin.NOT_SUPPORTED)
    source = opened(h100)
    card = only_card(source)
    for _ in range(3):
        assert not any(name.startswith("nvlink") for name in source.rare(card))
    assert counted(nvml_calls, "nvmlDeviceGetNvLinkState") == 0


# --- errors by place -----------------------------------------------------------------------------


def test_memory_errors_are_told_by_place(opened: Open, h100: standin.State) -> None:
    """A bad chip and a bad cache are different repairs."""
    h100.cards[0] |= {
        "ecc_corrected_aggregate_dram": 12,
        "ecc_uncorrected_aggregate_dram": 1,
        "ecc_corrected_aggregate_sram": 0,
        "ecc_uncorrected_aggregate_sram": 2,
        "sram_threshold_exceeded": 1,
    }
    source = opened(h100)
    rare = source.rare(only_card(source))
    assert rare["ecc_dram_corrected_total"] == 12.0
    assert rare["ecc_dram_uncorrected_total"] == 1.0
    assert rare["ecc_sram_uncorrected_total"] == 2.0
    assert rare["sram_threshold_exceeded"] == 1.0


def test_spare_rows_are_told_by_bank(opened: Open, h100: standin.State) -> None:
    """How near the card is to its last spare row."""
    banks = {"max": 2550, "high": 7, "partial": 2, "low": 1, "none": 0}
    h100.cards[0] |= {f"remap_banks_{left}": count for left, count in banks.items()}
    source = opened(h100)
    rare = source.rare(only_card(source))
    assert {left: rare[f"remap_banks_{left}"] for left in banks} == banks


# --- processes -----------------------------------------------------------------------------------


def test_processes_are_counted_with_what_they_hold(opened: Open, h100: standin.State) -> None:
    """Memory that no process holds although it is in use has leaked."""
    h100.cards[0]["compute_processes"] = standin.process_list({4711: 2**30, 42: 2**29})
    source = opened(h100)
    rare = source.rare(only_card(source))
    assert rare["processes"] == 2.0
    assert rare["process_memory_bytes"] == 1.5 * 2**30
    assert rare["process_ids"] == "42 4711"


def test_an_idle_card_has_no_process(opened: Open, h100: standin.State) -> None:
    """None is a count, not a gap."""
    h100.cards[0]["compute_processes"] = standin.process_list({})
    source = opened(h100)
    rare = source.rare(only_card(source))
    assert (rare["processes"], rare["process_memory_bytes"]) == (0.0, 0.0)
    assert "process_ids" not in rare


# --- PCIe traffic --------------------------------------------------------------------------------


def test_blocking_traffic_calls_are_left_to_cards_without_byte_counters(
    opened: Open, h100: standin.State, nvml_calls: Path
) -> None:
    """Each such call stands still for 20 ms."""
    h100.cards[0] |= {"field_197": 1000, "field_198": 1000, "pcie_tx_kilobytes": 5}
    source = opened(h100)
    card = only_card(source)
    source.slow(card)
    source.rare(card)
    assert counted(nvml_calls, "nvmlDeviceGetPcieThroughput") == 0


def test_a_card_without_byte_counters_tells_its_traffic_rarely(
    opened: Open, h100: standin.State
) -> None:
    """Kilobytes a second, over 20 ms."""
    h100.cards[0] |= {
        "field_197": standin.NOT_SUPPORTED,
        "field_198": standin.NOT_SUPPORTED,
        "pcie_tx_kilobytes": 5_000,
        "pcie_rx_kilobytes": 900_000_000,
    }
    source = opened(h100)
    card = only_card(source)
    source.slow(card)
    rare = source.rare(card)
    assert rare["pcie_tx_bytes_per_second"] == 5e6
    assert "pcie_rx_bytes_per_second" not in rare, "faster than any link"


# --- MIG -----------------------------------------------------------------------------------------


def test_a_card_that_is_cut_into_instances_is_asked_anew(opened: Open, h100: standin.State) -> None:
    """What it refused or gave as a whole says nothing about what it does now."""
    h100.cards[0] |= {"mig_mode": 0, "utilization": standin.NOT_SUPPORTED}
    source = opened(h100)
    card = only_card(source)
    source.sample(card)
    source.slow(card)
    assert not source.has_changed(card)
    state = h100
    state.change(0, mig_mode=1, utilization=50, mig_devices_max=7, mig_devices=2)
    source.slow(card)
    assert source.has_changed(card)
    assert source.sample(card)["utilization_ratio"] == 0.5
    info = source.info(card)
    assert (info["mig_enabled"], info["mig_instances"]) == (1.0, 2.0)
    assert not source.has_changed(card)


# --- words ---------------------------------------------------------------------------------------


def test_what_the_driver_asks_for_is_a_word(opened: Open, h100: standin.State) -> None:
    """One health word of the driver; a number that is newer than we are is told as it is."""
    h100.cards[0]["field_230"] = 4
    source = opened(h100)
    card = only_card(source)
    assert source.slow(card)["recovery_action"] == "drain-and-reset"
    h100.change(0, field_230=99)
    assert source.slow(card)["recovery_action"] == "99"


def test_an_overclock_that_came_with_the_board_shows(opened: Open, h100: standin.State) -> None:
    """Offsets are told for both clocks; a card that has none says nothing."""
    h100.cards[0] |= {
        "clock_offset_graphics": 150,
        "clock_offset_graphics_max": 1000,
        "clock_offset_memory": standin.NOT_SUPPORTED,
    }
    source = opened(h100)
    info = source.info(only_card(source))
    assert info["core_clock_offset_mhz"] == 150.0
    assert "memory_clock_offset_mhz" not in info


# --- what a card has not -------------------------------------------------------------------------


def test_what_a_card_does_not_have_is_named(opened: Open, h100: standin.State) -> None:
    """In the words of the contract, once everything was asked."""
    h100.cards[0] |= {"field_82": standin.NOT_SUPPORTED, "gpm": standin.NOT_SUPPORTED}
    source = opened(h100)
    card = only_card(source)
    for ask in (source.sample, source.slow, source.rare, source.info):
        ask(card)
    lacking = source.lacks(card)
    assert "memory_temperature_celsius" in lacking
    assert "memory_bandwidth_bytes_per_second" in lacking
    assert "core_clock_mhz" not in lacking
    assert set(lacking) <= {*fields_of("card"), *fields_of("card_info")}


# --- events --------------------------------------------------------------------------------------


def test_an_xid_is_told_with_its_card(nvml_state: standin.State, h100: standin.State) -> None:
    """The driver hands it out the moment it happens."""
    h100.cards[0]["supported_events"] = pynvml.nvmlEventTypeXidCriticalError
    h100.path = nvml_state.path
    h100.write()
    told: queue.SimpleQueue[CardEvent] = queue.SimpleQueue()
    source = NvidiaSource(lambda _slot, _call: None, told.put, nvml_state.path.parent)
    source.open()
    card = only_card(source)
    h100.raise_xid(0, 79)
    event = told.get(timeout=10)
    assert (event.slot, event.code) == (card.slot, "79")
    source.close()


def test_a_card_that_tells_no_events_is_read_all_the_same(
    nvml_state: standin.State, h100: standin.State
) -> None:
    """Some drivers refuse the registration."""
    h100.cards[0]["supported_events"] = standin.NOT_SUPPORTED
    h100.path = nvml_state.path
    h100.write()
    source = NvidiaSource(lambda _slot, _call: None, lambda _event: None, nvml_state.path.parent)
    source.open()
    assert source.sample(only_card(source))
    source.close()
