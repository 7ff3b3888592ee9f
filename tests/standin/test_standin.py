"""Each call of the stand-in, through the binding that the agent uses."""

import ctypes
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests import standin
from tests.standin import LOST, Counter, State
from tests.standin.conftest import Open, code_of


def test_the_binding_loads_the_stand_in_by_its_soname(nvml_library: Path) -> None:
    """A library that is loaded already answers to its SONAME, wherever the file lies."""
    by_name, by_path = ctypes.CDLL(standin.SONAME), ctypes.CDLL(str(nvml_library))
    assert by_name._handle == by_path._handle


NUMBERS = [
    ("clock_graphics", lambda h: pynvml.nvmlDeviceGetClockInfo(h, 0)),
    ("clock_sm", lambda h: pynvml.nvmlDeviceGetClockInfo(h, 1)),
    ("clock_memory", lambda h: pynvml.nvmlDeviceGetClockInfo(h, 2)),
    ("clock_video", lambda h: pynvml.nvmlDeviceGetClockInfo(h, 3)),
    ("clock_max_graphics", lambda h: pynvml.nvmlDeviceGetMaxClockInfo(h, 0)),
    ("clock_max_video", lambda h: pynvml.nvmlDeviceGetMaxClockInfo(h, 3)),
    ("power_usage", pynvml.nvmlDeviceGetPowerUsage),
    ("power_limit_enforced", pynvml.nvmlDeviceGetEnforcedPowerLimit),
    ("power_limit_default", pynvml.nvmlDeviceGetPowerManagementDefaultLimit),
    ("temperature", lambda h: pynvml.nvmlDeviceGetTemperature(h, 0)),
    ("temperature_v", lambda h: pynvml.nvmlDeviceGetTemperatureV(h, 0)),
    ("hotspot", lambda h: pynvml.nvmlDeviceGetTemperatureV(h, 1)),
    ("memory_total", lambda h: pynvml.nvmlDeviceGetMemoryInfo(h).total),
    ("bar1_total", lambda h: pynvml.nvmlDeviceGetBAR1MemoryInfo(h).bar1Total),
    ("memory_bus", pynvml.nvmlDeviceGetMemoryBusWidth),
    ("cores", pynvml.nvmlDeviceGetNumGpuCores),
    ("fans", pynvml.nvmlDeviceGetNumFans),
    ("fan", pynvml.nvmlDeviceGetFanSpeed),
    ("fan_0", lambda h: pynvml.nvmlDeviceGetFanSpeed_v2(h, 0)),
    ("fan_3", lambda h: pynvml.nvmlDeviceGetFanSpeed_v2(h, 3)),
    ("event_reasons", pynvml.nvmlDeviceGetCurrentClocksEventReasons),
    ("throttle_reasons", pynvml.nvmlDeviceGetCurrentClocksThrottleReasons),
    ("pcie_generation", pynvml.nvmlDeviceGetCurrPcieLinkGeneration),
    ("pcie_width", pynvml.nvmlDeviceGetCurrPcieLinkWidth),
    ("pcie_generation_max", pynvml.nvmlDeviceGetMaxPcieLinkGeneration),
    ("pcie_width_max", pynvml.nvmlDeviceGetMaxPcieLinkWidth),
    ("pcie_replay", pynvml.nvmlDeviceGetPcieReplayCounter),
    ("ecc_corrected_volatile", lambda h: pynvml.nvmlDeviceGetTotalEccErrors(h, 0, 0)),
    ("ecc_corrected_aggregate", lambda h: pynvml.nvmlDeviceGetTotalEccErrors(h, 0, 1)),
    ("ecc_uncorrected_volatile", lambda h: pynvml.nvmlDeviceGetTotalEccErrors(h, 1, 0)),
    ("ecc_uncorrected_aggregate", lambda h: pynvml.nvmlDeviceGetTotalEccErrors(h, 1, 1)),
    ("mig_devices_max", pynvml.nvmlDeviceGetMaxMigDeviceCount),
    ("energy", pynvml.nvmlDeviceGetTotalEnergyConsumption),
    ("minor_number", pynvml.nvmlDeviceGetMinorNumber),
    ("brand", pynvml.nvmlDeviceGetBrand),
    ("architecture", pynvml.nvmlDeviceGetArchitecture),
    ("inforom_checksum", pynvml.nvmlDeviceGetInforomConfigurationChecksum),
    ("persistence_mode", pynvml.nvmlDeviceGetPersistenceMode),
    ("performance_state", pynvml.nvmlDeviceGetPerformanceState),
    ("power_limit", pynvml.nvmlDeviceGetPowerManagementLimit),
    ("pcie_generation_max_card", pynvml.nvmlDeviceGetGpuMaxPcieLinkGeneration),
    ("pcie_tx_kilobytes", lambda h: pynvml.nvmlDeviceGetPcieThroughput(h, 0)),
    ("pcie_rx_kilobytes", lambda h: pynvml.nvmlDeviceGetPcieThroughput(h, 1)),
    ("temperature_margin", pynvml.nvmlDeviceGetMarginTemperature),
    ("threshold_shutdown", lambda h: pynvml.nvmlDeviceGetTemperatureThreshold(h, 0)),
    ("threshold_slowdown", lambda h: pynvml.nvmlDeviceGetTemperatureThreshold(h, 1)),
    ("threshold_memory_max", lambda h: pynvml.nvmlDeviceGetTemperatureThreshold(h, 2)),
    ("threshold_gpu_max", lambda h: pynvml.nvmlDeviceGetTemperatureThreshold(h, 3)),
    ("threshold_acoustic_current", lambda h: pynvml.nvmlDeviceGetTemperatureThreshold(h, 5)),
    ("threshold_gps", lambda h: pynvml.nvmlDeviceGetTemperatureThreshold(h, 7)),
    ("ecc_mode", lambda h: pynvml.nvmlDeviceGetEccMode(h)[0]),
    ("mig_mode", lambda h: pynvml.nvmlDeviceGetMigMode(h)[1]),
    ("ecc_corrected_volatile_l1", lambda h: pynvml.nvmlDeviceGetMemoryErrorCounter(h, 0, 0, 0)),
    ("ecc_corrected_aggregate_dram", lambda h: pynvml.nvmlDeviceGetMemoryErrorCounter(h, 0, 1, 2)),
    ("ecc_uncorrected_volatile_sram", lambda h: pynvml.nvmlDeviceGetMemoryErrorCounter(h, 1, 0, 7)),
    ("ecc_uncorrected_aggregate_cbu", lambda h: pynvml.nvmlDeviceGetMemoryErrorCounter(h, 1, 1, 6)),
    ("retired_pages_pending", pynvml.nvmlDeviceGetRetiredPagesPendingStatus),
    ("memory_unrepairable", pynvml.nvmlDeviceGetUnrepairableMemoryFlag_v1),
    ("power_on_seconds", lambda h: pynvml.nvmlDeviceGetBBXTimeData_v1(h).timeRun),
    ("fan_rpm_0", pynvml.nvmlDeviceGetFanSpeedRPM),
    ("nvlink_0", lambda h: pynvml.nvmlDeviceGetNvLinkState(h, 0)),
    ("supported_events", pynvml.nvmlDeviceGetSupportedEventTypes),
]
FIELDS = [
    ("field_186", lambda h: pynvml.nvmlDeviceGetFieldValues(h, [186])[0].value.uiVal),
    ("field_74", lambda h: pynvml.nvmlDeviceGetFieldValues(h, [74])[0].value.ullVal),
]


@pytest.mark.parametrize(("key", "question"), [*NUMBERS, *FIELDS])
def test_each_number_comes_back_through_the_binding(
    key: str, question: Callable[[Any], int], opened: Open
) -> None:
    """The state's number is the call's answer, and the layout is the binding's."""
    assert question(opened({key: 123, "memory_used": 0, "memory_reserved": 0})) == 123


@pytest.mark.parametrize("question", [question for _, question in NUMBERS])
def test_what_the_state_does_not_name_is_not_supported(
    question: Callable[[Any], int], opened: Open
) -> None:
    """A card gives nothing that it was not given."""
    handle = opened({"uuid": "GPU-1"})
    assert code_of(lambda: question(handle)) == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_structures_come_back_through_the_binding(opened: Open) -> None:
    """Answers of several values keep them apart."""
    handle = opened(
        {
            "utilization": 90,
            "memory_utilization": 30,
            "memory_total": 1000,
            "memory_used": 300,
            "memory_reserved": 100,
            "remapped_correctable": 1,
            "remapped_uncorrectable": 2,
            "remap_pending": 1,
            "remap_failed": 0,
        }
    )
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    assert (rates.gpu, rates.memory) == (90, 30)
    first = pynvml.nvmlDeviceGetMemoryInfo(handle)
    assert (first.total, first.free, first.used) == (1000, 600, 400)
    second = pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2)
    assert (second.total, second.reserved, second.free, second.used) == (1000, 100, 600, 300)
    assert pynvml.nvmlDeviceGetRemappedRows(handle) == (1, 2, 1, 0)


def test_identity_comes_back_through_the_binding(opened: Open) -> None:
    """Texts, and the address taken apart as the driver does."""
    handle = opened(
        {
            "uuid": "GPU-1",
            "name": "NVIDIA Test",
            "serial": "42",
            "vbios": "94.02",
            "part_number": "900-2G133-0080-000",
            "inforom": "G133.0210.00.04",
            "gsp_firmware": "595.80",
            "compute_capability": "8.6",
            "pci_address": "00000000:0C:00.0",
            "pci_device_id": 0x220410DE,
            "pci_subsystem_id": 0x16131043,
        }
    )
    assert pynvml.nvmlDeviceGetUUID(handle) == "GPU-1"
    assert pynvml.nvmlDeviceGetName(handle) == "NVIDIA Test"
    assert pynvml.nvmlDeviceGetSerial(handle) == "42"
    assert pynvml.nvmlDeviceGetVbiosVersion(handle) == "94.02"
    assert pynvml.nvmlDeviceGetBoardPartNumber(handle) == "900-2G133-0080-000"
    assert pynvml.nvmlDeviceGetInforomImageVersion(handle) == "G133.0210.00.04"
    assert pynvml.nvmlDeviceGetGspFirmwareVersion(handle) == b"595.80"
    assert pynvml.nvmlDeviceGetCudaComputeCapability(handle) == (8, 6)
    info = pynvml.nvmlDeviceGetPciInfo(handle)
    assert (info.busId, info.bus, info.device) == ("00000000:0C:00.0", 12, 0)
    assert (info.pciDeviceId, info.pciSubSystemId) == (0x220410DE, 0x16131043)


def test_limits_and_modes_come_back_as_pairs(opened: Open) -> None:
    """A mode that waits for a reset differs from the one in force."""
    handle = opened(
        {
            "power_limit_min": 100_000,
            "power_limit_max": 350_000,
            "ecc_mode": 0,
            "ecc_mode_pending": 1,
            "mig_mode": 1,
        }
    )
    assert pynvml.nvmlDeviceGetPowerManagementLimitConstraints(handle) == [100_000, 350_000]
    assert pynvml.nvmlDeviceGetEccMode(handle) == [0, 1]
    assert pynvml.nvmlDeviceGetMigMode(handle) == [1, 1]


def test_a_margin_may_be_negative(opened: Open) -> None:
    """A card above its limit has less than nothing left."""
    assert pynvml.nvmlDeviceGetMarginTemperature(opened({"temperature_margin": -3})) == -3


def test_clock_offsets_come_back_by_clock(opened: Open) -> None:
    """An overclock of the memory beside an underclock of the core."""
    handle = opened(
        {
            "clock_offset_graphics": -150,
            "clock_offset_memory": 1200,
            "clock_offset_memory_min": -2000,
            "clock_offset_memory_max": 6000,
        }
    )
    told = {}
    for clock in (pynvml.NVML_CLOCK_GRAPHICS, pynvml.NVML_CLOCK_MEM):
        info = pynvml.c_nvmlClockOffset_t(version=pynvml.nvmlClockOffset_v1, type=clock, pstate=0)
        pynvml.nvmlDeviceGetClockOffsets(handle, ctypes.byref(info))
        told[clock] = (info.clockOffsetMHz, info.minClockOffsetMHz, info.maxClockOffsetMHz)
    assert told == {0: (-150, 0, 0), 2: (1200, -2000, 6000)}


def test_remapping_comes_back_through_the_binding(opened: Open) -> None:
    """Rows, what waits for a reset, and the spare rows that are left."""
    rows = {
        "remapped_correctable": 1,
        "remapped_uncorrectable": 2,
        "remapped_correctable_inactive": 3,
        "remapped_uncorrectable_inactive": 4,
        "remap_pending": 1,
        "remap_failed": 0,
    }
    banks = {"max": 190, "high": 1, "partial": 2, "low": 3, "none": 4}
    handle = opened({**rows, **{f"remap_banks_{name}": count for name, count in banks.items()}})
    info = pynvml.c_nvmlRemappedRowsInfo_v2_t()
    pynvml.nvmlDeviceGetRemappedRows_v2(handle, ctypes.byref(info))
    assert [getattr(info, name) for name, _ in info._fields_] == [1, 3, 2, 4, 1, 0]
    histogram = pynvml.nvmlDeviceGetRowRemapperHistogram(handle)
    assert {name: getattr(histogram, name) for name in banks} == banks


def test_a_call_that_shares_its_values_can_be_missing_alone(opened: Open) -> None:
    """An older driver has the first version of a call and not the second."""
    rows = ("remapped_correctable", "remapped_uncorrectable", "remap_pending", "remap_failed")
    handle = opened({**dict.fromkeys(rows, 0), "remapped_rows_v2": standin.MISSING})
    info = pynvml.c_nvmlRemappedRowsInfo_v2_t()
    ask = pynvml.nvmlDeviceGetRemappedRows_v2
    assert pynvml.nvmlDeviceGetRemappedRows(handle) == (0, 0, 0, 0)
    assert code_of(lambda: ask(handle, ctypes.byref(info))) == pynvml.NVML_ERROR_FUNCTION_NOT_FOUND


def test_errors_of_caches_come_back_by_their_source(opened: Open) -> None:
    """The threshold flag makes the answer; what is not named is 0."""
    handle = opened(
        {
            "sram_threshold_exceeded": 1,
            "sram_parity_volatile": 2,
            "sram_secded_aggregate": 3,
            "ecc_corrected_aggregate_sram": 4,
            "sram_sm": 5,
            "sram_other": 6,
        }
    )
    status = pynvml.c_nvmlEccSramErrorStatus_v1_t()
    pynvml.nvmlDeviceGetSramEccErrorStatus(handle, ctypes.byref(status))
    told = {name: getattr(status, name) for name, _ in status._fields_[1:]}
    assert {name: count for name, count in told.items() if count} == {
        "bThresholdExceeded": 1,
        "volatileUncParity": 2,
        "aggregateUncSecDed": 3,
        "aggregateCor": 4,
        "aggregateUncBucketSm": 5,
        "aggregateUncBucketOther": 6,
    }


def test_repairs_that_wait_come_back_through_the_binding(opened: Open) -> None:
    """Of memory channels and of compute clusters."""
    handle = opened({"channel_repair_pending": 1, "tpc_repair_pending": 0})
    assert pynvml.nvmlDeviceGetRepairStatus(handle) == [1, 0]


def test_a_corrupted_inforom_is_an_error_of_its_check(opened: Open, nvml_state: State) -> None:
    """A valid one passes in silence."""
    handle = opened({"inforom_valid": 1})
    pynvml.nvmlDeviceValidateInforom(handle)
    nvml_state.change(0, inforom_valid=standin.error(14))
    assert code_of(lambda: pynvml.nvmlDeviceValidateInforom(handle)) == 14


@pytest.mark.parametrize(
    ("key", "ask"),
    [
        ("compute_processes", pynvml.nvmlDeviceGetComputeRunningProcesses),
        ("graphics_processes", pynvml.nvmlDeviceGetGraphicsRunningProcesses),
        ("mps_processes", pynvml.nvmlDeviceGetMPSComputeRunningProcesses),
    ],
)
def test_processes_come_back_with_their_memory(
    key: str, ask: Callable[[Any], list[Any]], opened: Open, nvml_state: State
) -> None:
    """None is a list without entries; memory may not be told."""
    handle = opened({key: standin.process_list({725: 23_068_672, 4_194_304: None})})
    assert [(process.pid, process.usedGpuMemory) for process in ask(handle)] == [
        (725, 23_068_672),
        (4_194_304, None),
    ]
    nvml_state.change(0, **{key: standin.process_list({})})
    assert ask(handle) == []
    del nvml_state.cards[0][key]
    nvml_state.write()
    assert code_of(lambda: ask(handle)) == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_links_are_asked_one_by_one(opened: Open) -> None:
    """A link that the card does not have is a wrong argument, not a card without links."""
    handle = opened({"nvlink_0": 1, "nvlink_1": 0, "nvlink_version": 5})
    assert [pynvml.nvmlDeviceGetNvLinkState(handle, link) for link in range(2)] == [1, 0]
    assert pynvml.nvmlDeviceGetNvLinkVersion(handle, 1) == 5
    assert code_of(lambda: pynvml.nvmlDeviceGetNvLinkState(handle, 2)) == 2


def test_pcie_throughput_blocks_while_it_counts(opened: Open) -> None:
    """The driver counts for 20 ms before it answers."""
    handle = opened({"pcie_tx_kilobytes": 5})
    started = time.monotonic()
    pynvml.nvmlDeviceGetPcieThroughput(handle, pynvml.NVML_PCIE_UTIL_TX_BYTES)
    assert time.monotonic() - started >= 0.02


# --- field values --------------------------------------------------------------------------------


def test_a_field_has_a_value_for_each_scope(opened: Open, nvml_calls: Path) -> None:
    """A link, a lane, a power domain; a value without scope stands for all that have none."""
    handle = opened(
        {"field_161_3": 7, "field_161_4294967295": 70, "field_186": 9, "field_186_2": 1}
    )
    asked = [(161, 3), (161, 4_294_967_295), (161, 4), (186, 0), (186, 1), (186, 2)]
    batch = pynvml.nvmlDeviceGetFieldValues(handle, asked)
    assert [(field.nvmlReturn, field.value.ullVal) for field in batch[:3]] == [
        (0, 7),
        (0, 70),
        (3, 0),
    ]
    assert [field.value.uiVal for field in batch[3:]] == [9, 9, 1]
    assert "0 field 161 3" in nvml_calls.read_text().splitlines()


@pytest.mark.parametrize(
    ("kind", "entry", "member", "number"),
    [
        ("double", 2.5, "dVal", 0),
        ("uint", 7, "uiVal", 1),
        ("ulong", 2**40, "ulVal", 2),
        ("ulonglong", 2**64 - 1, "ullVal", 3),
        ("longlong", -(2**40), "sllVal", 4),
        ("int", -7, "siVal", 5),
        ("ushort", 7, "usVal", 6),
    ],
)
def test_a_field_comes_in_the_type_that_it_is_given(
    kind: str, entry: float, member: str, number: int, opened: Open
) -> None:
    """Drivers answer the same field in one type or another."""
    handle = opened({"field_83": standin.typed(kind, entry)})
    (field,) = pynvml.nvmlDeviceGetFieldValues(handle, [83])
    assert (field.valueType, getattr(field.value, member)) == (number, entry)


def test_temperature_limits_of_fields_have_a_sign(opened: Open) -> None:
    """They are degrees relative to the margin."""
    (field,) = pynvml.nvmlDeviceGetFieldValues(opened({"field_193": -8}), [193])
    assert (field.valueType, field.value.siVal) == (pynvml.NVML_VALUE_TYPE_SIGNED_INT, -8)


def test_a_field_tells_when_and_how_long_it_was_read(opened: Open) -> None:
    """One slow field of a batch is found by its latency."""
    handle = opened({"field_82": standin.slow(30, 60), "field_186": 90_000})
    before = time.time_ns() // 1000
    slow, quick = pynvml.nvmlDeviceGetFieldValues(handle, [82, 186])
    assert slow.latencyUsec >= 30_000 > quick.latencyUsec
    assert before <= slow.timestamp <= quick.timestamp <= time.time_ns() // 1000


def test_fields_answer_each_for_itself(opened: Open) -> None:
    """One batch, one return code for each field."""
    handle = opened({"field_82": LOST, "field_186": 90_000, "field_269": 7})
    batch = pynvml.nvmlDeviceGetFieldValues(handle, [82, 186, 75, 269])
    assert [field.nvmlReturn for field in batch] == [15, 0, 3, 0]
    assert (batch[1].valueType, batch[1].value.uiVal) == (1, 90_000)
    assert (batch[3].valueType, batch[3].value.ullVal) == (3, 7)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (standin.NOT_SUPPORTED, 3),
        (standin.LOST, 15),
        (standin.MISSING, 13),
        (standin.DEPRECATED, 26),
        (standin.error(999), 999),
    ],
)
def test_a_word_is_a_return_code(entry: str, code: int, opened: Open) -> None:
    """For one value, for a text, and for the card as a whole."""
    handle = opened({"cores": entry, "serial": entry})
    assert code_of(lambda: pynvml.nvmlDeviceGetNumGpuCores(handle)) == code
    assert code_of(lambda: pynvml.nvmlDeviceGetSerial(handle)) == code


def test_a_word_for_the_card_is_every_calls_answer(opened: Open, nvml_state: State) -> None:
    """A card falls off the bus while the library is open."""
    handle = opened({"cores": 1, "uuid": "GPU-1"})
    nvml_state.change(0, card=LOST)
    assert code_of(lambda: pynvml.nvmlDeviceGetNumGpuCores(handle)) == 15
    assert code_of(lambda: pynvml.nvmlDeviceGetUUID(handle)) == 15


def test_a_changed_state_shows_at_once(opened: Open, nvml_state: State) -> None:
    """Also when neither size nor time of the file tell the difference."""
    handle = opened({"cores": 100})
    for cores in range(101, 150):
        nvml_state.change(0, cores=cores)
        assert pynvml.nvmlDeviceGetNumGpuCores(handle) == cores


def test_an_absent_card_is_not_enumerated(opened: Open, nvml_state: State) -> None:
    """Its neighbours move up, its old handle is lost."""
    handle = opened({"uuid": "GPU-1"})
    nvml_state.cards.append({"uuid": "GPU-2"})
    nvml_state.change(0, absent=1)
    assert pynvml.nvmlDeviceGetCount() == 1
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)) == "GPU-2"
    assert code_of(lambda: pynvml.nvmlDeviceGetUUID(handle)) == 15
    assert code_of(lambda: pynvml.nvmlDeviceGetHandleByIndex(1)) == 2


@pytest.mark.parametrize("address", ["0000:0C:00.0", "00000000:0c:00.0", "0:c:0.0"])
def test_a_card_is_found_by_its_address(address: str, opened: Open, nvml_state: State) -> None:
    """In each way to write it."""
    opened({"uuid": "GPU-1", "pci_address": "00000000:01:00.0"})
    nvml_state.cards.append({"uuid": "GPU-2", "pci_address": "00000000:0C:00.0"})
    nvml_state.write()
    handle = pynvml.nvmlDeviceGetHandleByPciBusId(address)
    assert pynvml.nvmlDeviceGetUUID(handle) == "GPU-2"
    assert pynvml.nvmlDeviceGetIndex(handle) == 1


def test_an_address_without_a_card_is_not_found(opened: Open, nvml_state: State) -> None:
    """Neither is a card that the driver does not enumerate; what is no address is refused."""
    opened({"pci_address": "00000000:01:00.0"})
    find = pynvml.nvmlDeviceGetHandleByPciBusId
    assert code_of(lambda: find("0000:02:00.0")) == pynvml.NVML_ERROR_NOT_FOUND
    assert code_of(lambda: find("the second")) == pynvml.NVML_ERROR_INVALID_ARGUMENT
    nvml_state.change(0, absent=1)
    assert code_of(lambda: find("0000:01:00.0")) == pynvml.NVML_ERROR_NOT_FOUND


def test_a_card_that_does_not_open_says_why(opened: Open, nvml_state: State) -> None:
    """By its place and by its address; what was opened before still answers."""
    handle = opened({"uuid": "GPU-1", "pci_address": "00000000:01:00.0"})
    nvml_state.change(0, handle=standin.error(999))
    assert code_of(lambda: pynvml.nvmlDeviceGetHandleByIndex(0)) == 999
    assert code_of(lambda: pynvml.nvmlDeviceGetHandleByPciBusId("0000:01:00.0")) == 999
    assert pynvml.nvmlDeviceGetUUID(handle) == "GPU-1"


def test_a_slow_card_takes_its_time(opened: Open) -> None:
    """Each call on it takes at least the delay."""
    handle = opened({"cores": 1, "delay_ms": 20})
    started = time.monotonic()
    pynvml.nvmlDeviceGetNumGpuCores(handle)
    assert time.monotonic() - started >= 0.02


def test_a_counter_grows_with_the_clock(opened: Open) -> None:
    """A live agent sees increments, and every process the same count."""
    started = time.monotonic()
    handle = opened({"energy": Counter(5_000, 1e6, started)})
    low = (time.monotonic() - started) * 1e6
    count = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - 5_000
    assert low - 1 <= count <= (time.monotonic() - started) * 1e6


def test_a_counter_keeps_its_count_when_its_speed_changes() -> None:
    """A card that starts to throttle goes on from where it was."""
    fast = Counter(10, 1e9, time.monotonic() - 1.0)
    slow = fast.at(0.0)
    assert slow.base >= 10 + 1e9
    assert slow.per_second == 0.0


def test_a_reload_voids_what_was_opened_before(opened: Open, nvml_state: State) -> None:
    """After the driver was reloaded the library must be opened anew."""
    handle = opened({"cores": 1})
    nvml_state.library["reload"] = 1
    nvml_state.write()
    assert code_of(lambda: pynvml.nvmlDeviceGetNumGpuCores(handle)) == 1
    pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    assert pynvml.nvmlDeviceGetNumGpuCores(pynvml.nvmlDeviceGetHandleByIndex(0)) == 1
    nvml_state.library["calls"] = standin.error(18)
    nvml_state.write()
    assert code_of(pynvml.nvmlDeviceGetCount) == 18


def test_mig_devices_end_with_not_found(opened: Open) -> None:
    """A place without an instance is not there."""
    handle = opened({"mig_devices_max": 7, "mig_devices": 2})
    pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 1)
    assert code_of(lambda: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 2)) == 6


@pytest.mark.usefixtures("nvml_library")
def test_without_a_state_there_is_no_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A missing file is a driver that is not loaded."""
    monkeypatch.setenv("FARMHAND_NVML_STATE", str(tmp_path / "none"))
    assert code_of(pynvml.nvmlInit) == 9


@pytest.mark.parametrize("line", ["colour = red", "[card 0]\ncors = 5", "[card 0]\ncores = many"])
def test_a_wrong_state_stops_the_process(line: str, nvml_library: Path, tmp_path: Path) -> None:
    """A misspelt key must not pass for a card that does not support the value."""
    state = tmp_path / "state"
    state.write_text(line + "\n")
    done = subprocess.run(
        [sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"],
        env=standin.environment(nvml_library, state),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -6
    assert done.stderr.startswith(f"{state}:{line.count(chr(10)) + 1}: ")


def test_a_missing_compiler_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who runs the tests learns what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"^gcc is missing: .*apt-get install gcc"):
        standin.build(tmp_path)
