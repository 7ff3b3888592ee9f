"""What is asked of an NVIDIA card: which fields, by which driver calls, within which ranges."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

import pynvml

from farmhand_agent.reading import clean
from farmhand_agent.sources.pci import normal_address

# --- what a value may be -------------------------------------------------------------------------

SENTINELS = frozenset({2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1})
"""What the driver answers in place of a number that it does not have."""

_NO_TEXT = frozenset({"", "n/a", "[n/a]", "unknown", "none"})


class Number(NamedTuple):
    """A number that an answer gives: raw over `per_unit`, left out when not in `low`..`high`.

    A plausible value above `ceiling` is cut down to it.
    """

    field: str
    per_unit: float = 1.0
    low: float = 0.0
    high: float = 1e15
    ceiling: float = inf

    def value(self, raw: Any) -> float | None:
        """Value in our unit, or None where it cannot be one."""
        if raw in SENTINELS:
            return None
        scaled = float(raw) / self.per_unit
        return min(scaled, self.ceiling) if self.low <= scaled <= self.high else None


class Text(NamedTuple):
    """A text that an answer gives; placeholders such as a serial of zeros are left out."""

    field: str

    def value(self, raw: Any) -> str | None:
        """Text, or None where it says nothing."""
        text = clean(raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw))
        return None if text.lower() in _NO_TEXT or set(text) <= {"0", "-"} else text


class Word(NamedTuple):
    """A text by the number that an answer gives; a number without a word is told as it is."""

    field: str
    words: Mapping[int, str]

    def value(self, raw: Any) -> str | None:
        """Word, or None where the number stands for nothing."""
        return None if raw in SENTINELS else self.words.get(raw, str(raw))


# --- how to ask ----------------------------------------------------------------------------------


def _alone(answer: Any) -> tuple[Any, ...]:
    return (answer,)


class Call(NamedTuple):
    """Ask by a driver call of its own; drivers before branch `since` are not asked.

    A call that fills a structure is given a fresh one, made by `filled`, which is the answer.
    """

    name: str
    arguments: tuple[int, ...] = ()
    take: Callable[[Any], tuple[Any, ...]] = _alone
    since: int = 0
    before: float = inf
    filled: Callable[[], Any] | None = None


class FieldIds(NamedTuple):
    """Ask by field numbers, whose values are added; all fields of a card go in one driver call."""

    ids: tuple[int, ...]
    since: int = 0
    before: float = inf


class PerLink(NamedTuple):
    """Ask a field, or a call, of every NVLink link of the card, and add the answers."""

    asked: int | str
    since: int = 0
    before: float = inf


class Each(NamedTuple):
    """Ask one by one for all that `counted_by` counts; what is not there is passed over."""

    counted_by: str
    name: str
    join: Callable[[list[Any]], tuple[Any, ...]]
    since: int = 0
    before: float = inf


Way = Call | FieldIds | PerLink | Each


class Row(NamedTuple):
    """Fields that one answer gives, and the ways to get it, best first.

    Any living card answers a `core` row; one that fails there is unreadable.
    """

    gives: tuple[Number | Text | Word, ...]
    ways: tuple[Way, ...]
    core: bool = False


def _used_with_reserved(memory: Any) -> tuple[int, int]:
    return memory.used + memory.reserved, memory.total


def _used(memory: Any) -> tuple[int, int]:
    """Take the first version's answer, which counts reserved memory as used."""
    return memory.used, memory.total


def _rates(utilization: Any) -> tuple[int, int]:
    return utilization.gpu, utilization.memory


def _rows(remapped: Sequence[int]) -> tuple[int, int, int]:
    correctable, uncorrectable, pending, failed = remapped
    return correctable + uncorrectable, pending, failed


def _mean(values: list[Any]) -> tuple[float, ...]:
    return (sum(values) / len(values),) if values else ()


def _how_many(values: list[Any]) -> tuple[int]:
    return (len(values),)


def _pci_texts(info: Any) -> tuple[str, str, str]:
    address = normal_address(info.busId)
    return _pair_of_ids(info.pciDeviceId), _pair_of_ids(info.pciSubSystemId), address


def _first(values: Sequence[Any]) -> tuple[Any]:
    return (values[0],)


def _version(parts: Sequence[int]) -> tuple[str]:
    return (".".join(map(str, parts)),)


MOST_PROCESSES_NAMED = 8


def _processes(processes: Sequence[Any]) -> tuple[int, int, str]:
    numbers = sorted(process.pid for process in processes)
    held = sum(process.usedGpuMemory or 0 for process in processes)
    return len(numbers), held, " ".join(map(str, numbers[:MOST_PROCESSES_NAMED]))


def _banks(histogram: Any) -> tuple[int, ...]:
    return histogram.max, histogram.high, histogram.partial, histogram.low, histogram.none


def _sram_status() -> Any:
    status = pynvml.c_nvmlEccSramErrorStatus_v1_t()
    status.version = pynvml.nvmlEccSramErrorStatus_v1
    return status


def _offset_of(clock: int) -> Callable[[], Any]:
    """Make the structure that asks for the offset of a clock in the fastest state."""

    def made() -> Any:
        offset = pynvml.c_nvmlClockOffset_t()
        offset.version, offset.type, offset.pstate = pynvml.nvmlClockOffset_v1, clock, 0
        return offset

    return made


def _offset(offset: Any) -> tuple[Any, ...]:
    # The binding does not look at what this call returns: a structure without limits is one that
    # was not filled.
    return (offset.clockOffsetMHz,) if offset.maxClockOffsetMHz else ()


def _pair_of_ids(word: int) -> str:
    """`10de:2204`, vendor first, from a word with the vendor in its low half."""
    return f"{word & 0xFFFF:04x}:{word >> 16:04x}" if word else ""


# --- words ---------------------------------------------------------------------------------------

RECOVERY_ACTIONS = {
    pynvml.NVML_GPU_RECOVERY_ACTION_NONE: "none",
    pynvml.NVML_GPU_RECOVERY_ACTION_GPU_RESET: "reset",
    pynvml.NVML_GPU_RECOVERY_ACTION_NODE_REBOOT: "reboot",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_P2P: "drain-p2p",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET: "drain-and-reset",
    # Newer bindings only; a driver may be newer than the binding is.
    5: "recover-imex",
    6: "bus-reset",
    7: "system-reboot",
}
BRANDS = {
    pynvml.NVML_BRAND_QUADRO: "Quadro",
    pynvml.NVML_BRAND_TESLA: "Tesla",
    pynvml.NVML_BRAND_NVS: "NVS",
    pynvml.NVML_BRAND_GEFORCE: "GeForce",
    pynvml.NVML_BRAND_TITAN: "Titan",
    pynvml.NVML_BRAND_QUADRO_RTX: "Quadro RTX",
    pynvml.NVML_BRAND_NVIDIA_RTX: "NVIDIA RTX",
    pynvml.NVML_BRAND_NVIDIA: "NVIDIA",
    pynvml.NVML_BRAND_GEFORCE_RTX: "GeForce RTX",
    pynvml.NVML_BRAND_TITAN_RTX: "Titan RTX",
}
ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada",
    9: "Hopper",
    10: "Blackwell",
}

# --- what is read --------------------------------------------------------------------------------

LINK_MAX = 1.3e11
"""Bytes a second: no link is faster than generation 6 with 16 lanes."""
_TEMPERATURE = (1.0, 1.0, 150.0)
_MILLIWATTS = (1000.0, 0.1, 2000.0)
_PERCENT = (100.0, 0.0, 1.0)
_MEMORY = (1.0, 1.0, 1e13)

FAST = (
    Row(
        (Number("core_clock_mhz", 1.0, 1.0, 10_000.0),),
        (Call("nvmlDeviceGetClockInfo", (pynvml.NVML_CLOCK_SM,)),),
        core=True,
    ),
    Row(
        (Number("core_temperature_celsius", *_TEMPERATURE),),
        (
            Call("nvmlDeviceGetTemperatureV", (pynvml.NVML_TEMPERATURE_GPU,)),
            Call("nvmlDeviceGetTemperature", (pynvml.NVML_TEMPERATURE_GPU,)),
        ),
        core=True,
    ),
    Row(
        (
            Number("utilization_ratio", *_PERCENT),
            Number("memory_utilization_ratio", *_PERCENT),
        ),
        (Call("nvmlDeviceGetUtilizationRates", (), _rates),),
    ),
    Row(
        (Number("memory_clock_mhz", 1.0, 1.0, 30_000.0),),
        (Call("nvmlDeviceGetClockInfo", (pynvml.NVML_CLOCK_MEM,)),),
    ),
    Row(
        (Number("power_watts", *_MILLIWATTS),),
        # The call averages over a second on some boards and not on others; the field never does.
        (FieldIds((pynvml.NVML_FI_DEV_POWER_INSTANT,)), Call("nvmlDeviceGetPowerUsage")),
    ),
    Row(
        (Number("memory_temperature_celsius", *_TEMPERATURE),),
        (FieldIds((pynvml.NVML_FI_DEV_MEMORY_TEMP,)),),
    ),
    Row(
        (Number("hotspot_temperature_celsius", *_TEMPERATURE),),
        # Before branch 615 sensor 1 is no hotspot.
        (Call("nvmlDeviceGetTemperatureV", (1,), since=615),),
    ),
    Row(
        (Number("reasons"),),
        (
            Call("nvmlDeviceGetCurrentClocksEventReasons"),
            Call("nvmlDeviceGetCurrentClocksThrottleReasons"),
        ),
    ),
)
"""Fast fields, and the reasons that hold the clocks back at the moment. The core rows stand first,
so that a dead card is known by one call."""

CLUES = (
    Row((Number("power_cap_ns", high=1e19),), (FieldIds((pynvml.NVML_FI_DEV_PERF_POLICY_POWER,)),)),
    # These numbers moved in branch 580; what stood there before means something else now.
    Row(
        (Number("software_thermal_ns", high=1e19),),
        (FieldIds((269,), since=580), FieldIds((251,), since=575, before=580)),
    ),
    Row(
        (Number("hardware_thermal_ns", high=1e19),),
        (FieldIds((270,), since=580), FieldIds((252,), since=575, before=580)),
    ),
    Row(
        (Number("power_brake_ns", high=1e19),),
        (FieldIds((271,), since=580), FieldIds((253,), since=575, before=580)),
    ),
)
"""Time that reasons held the clocks back; throttle ratios are made of its growth."""

SLOW = (
    Row(
        (Number("memory_used_bytes", 1.0, 0.0, 1e13), Number("memory_total_bytes", *_MEMORY)),
        (
            Call("nvmlDeviceGetMemoryInfo", (pynvml.nvmlMemory_v2,), _used_with_reserved),
            Call("nvmlDeviceGetMemoryInfo", (), _used),
        ),
        core=True,
    ),
    Row(
        (Number("energy_joules", 1000.0, 0.0, 1e12),),
        (
            FieldIds((pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,)),
            Call("nvmlDeviceGetTotalEnergyConsumption"),
        ),
    ),
    Row(
        (Number("pcie_generation", 1.0, 1.0, 8.0),),
        (Call("nvmlDeviceGetCurrPcieLinkGeneration"),),
    ),
    Row(
        (Number("power_limit_watts", 1000.0, 1.0, 2000.0),),
        (Call("nvmlDeviceGetEnforcedPowerLimit"),),
    ),
    Row(
        # Above 100 % is allowed: the driver counts from the loudest speed that is still pleasant.
        (Number("fan_ratio", 100.0, 0.0, 1.5, ceiling=1.0),),
        (
            Each("nvmlDeviceGetNumFans", "nvmlDeviceGetFanSpeed_v2", _mean),
            Call("nvmlDeviceGetFanSpeed"),
        ),
    ),
    Row((Number("pcie_width", 1.0, 1.0, 32.0),), (Call("nvmlDeviceGetCurrPcieLinkWidth"),)),
    Row((Number("pcie_replay_total"),), (Call("nvmlDeviceGetPcieReplayCounter"),)),
    Row(
        (Number("pcie_recovery_total"),),
        (FieldIds((pynvml.NVML_FI_DEV_PCIE_L0_TO_RECOVERY_COUNTER,), since=535),),
    ),
    Row((Number("performance_state", high=15.0),), (Call("nvmlDeviceGetPerformanceState"),)),
    Row(
        (Number("temperature_margin_celsius", 1.0, -60.0, 120.0),),
        (Call("nvmlDeviceGetMarginTemperature"),),
    ),
    Row(
        (Word("recovery_action", RECOVERY_ACTIONS),),
        (FieldIds((pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,), since=565),),
    ),
    Row((Number("mig_mode", high=1.0),), (Call("nvmlDeviceGetMigMode", (), _first),)),
    # Lifetime counts first: an error that took the driver down with it still shows afterwards,
    # while the counts since the driver's start begin again at zero.
    Row(
        (Number("ecc_corrected_total"),),
        (
            Call("nvmlDeviceGetTotalEccErrors", (0, pynvml.NVML_AGGREGATE_ECC)),
            Call("nvmlDeviceGetTotalEccErrors", (0, pynvml.NVML_VOLATILE_ECC)),
        ),
    ),
    Row(
        (Number("ecc_uncorrected_total"),),
        (
            Call("nvmlDeviceGetTotalEccErrors", (1, pynvml.NVML_AGGREGATE_ECC)),
            Call("nvmlDeviceGetTotalEccErrors", (1, pynvml.NVML_VOLATILE_ECC)),
        ),
    ),
    Row(
        (
            Number("remapped_rows_total", high=1e6),
            Number("remap_pending", high=1.0),
            Number("remap_failed", high=1.0),
        ),
        (Call("nvmlDeviceGetRemappedRows", (), _rows),),
    ),
    Row(
        (Number("retired_pages_total", high=1e6),),
        (FieldIds((pynvml.NVML_FI_DEV_RETIRED_SBE, pynvml.NVML_FI_DEV_RETIRED_DBE)),),
    ),
    Row(
        (Number("retired_pages_pending", high=1.0),),
        (Call("nvmlDeviceGetRetiredPagesPendingStatus"),),
    ),
    Row(
        (Number("pcie_tx_bytes", high=1e19),),
        (FieldIds((pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES,), since=555),),
    ),
    Row(
        (Number("pcie_rx_bytes", high=1e19),),
        (FieldIds((pynvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES,), since=555),),
    ),
)
"""Fields that are dear or rarely change; the two byte counters become rates."""


def _errors(kind: int, location: int) -> tuple[Call, ...]:
    """Ways to the count of memory errors at a location: of its life, else since driver start."""
    return tuple(
        Call("nvmlDeviceGetMemoryErrorCounter", (kind, counter, location))
        for counter in (pynvml.NVML_AGGREGATE_ECC, pynvml.NVML_VOLATILE_ECC)
    )


RARE = (
    *(
        Row((Number(f"ecc_{place}_{word}_total"),), _errors(kind, location))
        for place, location in (
            ("dram", pynvml.NVML_MEMORY_LOCATION_DRAM),
            ("sram", pynvml.NVML_MEMORY_LOCATION_SRAM),
        )
        for word, kind in (("corrected", 0), ("uncorrected", 1))
    ),
    Row(
        (Number("sram_threshold_exceeded", high=1.0),),
        (
            Call(
                "nvmlDeviceGetSramEccErrorStatus",
                take=lambda status: (status.bThresholdExceeded,),
                filled=_sram_status,
            ),
        ),
    ),
    Row(
        (Number("memory_unrepairable", high=1.0),),
        (Call("nvmlDeviceGetUnrepairableMemoryFlag_v1", since=590),),
    ),
    Row(
        tuple(
            Number(f"remap_banks_{left}", high=1e6)
            for left in ("max", "high", "partial", "low", "none")
        ),
        (Call("nvmlDeviceGetRowRemapperHistogram", (), _banks),),
    ),
    Row(
        (Number("power_on_seconds_total", high=1e10),),
        (Call("nvmlDeviceGetBBXTimeData_v1", (), lambda told: (told.timeRun,), since=595),),
    ),
    Row(
        (
            Number("processes", high=1e5),
            Number("process_memory_bytes", 1.0, 0.0, 1e13),
            Text("process_ids"),
        ),
        (
            Call("nvmlDeviceGetComputeRunningProcesses_v3", (), _processes),
            Call("nvmlDeviceGetComputeRunningProcesses_v2", (), _processes),
        ),
    ),
    Row((Number("nvlink_active", high=64.0),), (PerLink("nvmlDeviceGetNvLinkState"),)),
    # Totals over all links until Hopper, then one number a link.
    Row(
        (Number("nvlink_crc_errors_total"),),
        (
            FieldIds(
                (
                    pynvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL,
                    pynvml.NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL,
                )
            ),
            PerLink(pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_CRC),
        ),
    ),
    Row(
        (Number("nvlink_replay_total"),),
        (
            FieldIds((pynvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL,)),
            PerLink(pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY),
        ),
    ),
    Row(
        (Number("nvlink_recovery_total"),),
        (
            FieldIds((pynvml.NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL,)),
            PerLink(pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY),
        ),
    ),
    # Each of these waits 20 ms for a sample of that length: they are asked only of cards that do
    # not count bytes.
    Row(
        (Number("pcie_tx_bytes_per_second", 1e-3, high=LINK_MAX),),
        (Call("nvmlDeviceGetPcieThroughput", (pynvml.NVML_PCIE_UTIL_TX_BYTES,)),),
    ),
    Row(
        (Number("pcie_rx_bytes_per_second", 1e-3, high=LINK_MAX),),
        (Call("nvmlDeviceGetPcieThroughput", (pynvml.NVML_PCIE_UTIL_RX_BYTES,)),),
    ),
)
"""Fields that are dear and rarely change."""

INFO = (
    Row((Text("name"),), (Call("nvmlDeviceGetName"),)),
    Row((Text("serial"),), (Call("nvmlDeviceGetSerial"),)),
    Row((Text("vbios"),), (Call("nvmlDeviceGetVbiosVersion"),)),
    Row(
        (Text("device_id"), Text("subsystem_id"), Text("pci_address")),
        (Call("nvmlDeviceGetPciInfo", (), _pci_texts),),
    ),
    Row(
        (Number("memory_total_bytes", *_MEMORY),),
        (Call("nvmlDeviceGetMemoryInfo", (), lambda memory: (memory.total,)),),
    ),
    Row((Number("memory_bus_bits", 1.0, 1.0, 16384.0),), (Call("nvmlDeviceGetMemoryBusWidth"),)),
    Row(
        (Number("bar1_bytes", *_MEMORY),),
        (Call("nvmlDeviceGetBAR1MemoryInfo", (), lambda bar1: (bar1.bar1Total,)),),
    ),
    Row((Number("core_count", 1.0, 1.0, 1e6),), (Call("nvmlDeviceGetNumGpuCores"),)),
    Row(
        (Number("pcie_generation_max", 1.0, 1.0, 8.0),),
        (Call("nvmlDeviceGetMaxPcieLinkGeneration"),),
    ),
    Row((Number("pcie_width_max", 1.0, 1.0, 32.0),), (Call("nvmlDeviceGetMaxPcieLinkWidth"),)),
    Row(
        (Number("power_limit_default_watts", 1000.0, 1.0, 2000.0),),
        (Call("nvmlDeviceGetPowerManagementDefaultLimit"),),
    ),
    Row(
        (
            Number("power_limit_min_watts", 1000.0, 1.0, 2000.0),
            Number("power_limit_max_watts", 1000.0, 1.0, 2000.0),
        ),
        (Call("nvmlDeviceGetPowerManagementLimitConstraints", (), tuple),),
    ),
    Row(
        (Number("pcie_generation_max_card", 1.0, 1.0, 8.0),),
        (Call("nvmlDeviceGetGpuMaxPcieLinkGeneration"),),
    ),
    Row(
        (Number("core_clock_max_mhz", 1.0, 1.0, 10_000.0),),
        (Call("nvmlDeviceGetMaxClockInfo", (pynvml.NVML_CLOCK_SM,)),),
    ),
    Row(
        (Number("memory_clock_max_mhz", 1.0, 1.0, 30_000.0),),
        (Call("nvmlDeviceGetMaxClockInfo", (pynvml.NVML_CLOCK_MEM,)),),
    ),
    *(
        Row(
            (Number(f"{name}_clock_offset_mhz", 1.0, -20_000.0, 20_000.0),),
            (Call("nvmlDeviceGetClockOffsets", take=_offset, since=555, filled=_offset_of(clock)),),
        )
        for name, clock in (
            ("core", pynvml.NVML_CLOCK_GRAPHICS),
            ("memory", pynvml.NVML_CLOCK_MEM),
        )
    ),
    *(
        Row(
            (Number(name, *_TEMPERATURE),),
            (Call("nvmlDeviceGetTemperatureThreshold", (threshold,)),),
        )
        for name, threshold in (
            ("temperature_shutdown_celsius", pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
            ("temperature_slowdown_celsius", pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
            ("temperature_target_celsius", pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX),
            ("memory_temperature_limit_celsius", pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX),
        )
    ),
    Row((Number("fans", high=16.0),), (Call("nvmlDeviceGetNumFans"),)),
    Row((Number("ecc_enabled", high=1.0),), (Call("nvmlDeviceGetEccMode", (), _first),)),
    Row((Number("persistence_enabled", high=1.0),), (Call("nvmlDeviceGetPersistenceMode"),)),
    Row((Number("mig_enabled", high=1.0),), (Call("nvmlDeviceGetMigMode", (), _first),)),
    Row((Text("inforom"),), (Call("nvmlDeviceGetInforomImageVersion"),)),
    Row((Number("inforom_checksum"),), (Call("nvmlDeviceGetInforomConfigurationChecksum"),)),
    Row((Text("part_number"),), (Call("nvmlDeviceGetBoardPartNumber"),)),
    Row((Word("brand", BRANDS),), (Call("nvmlDeviceGetBrand"),)),
    Row((Word("architecture", ARCHITECTURES),), (Call("nvmlDeviceGetArchitecture"),)),
    Row(
        (Text("compute_capability"),),
        (Call("nvmlDeviceGetCudaComputeCapability", (), _version),),
    ),
    Row((Text("gsp_firmware"),), (Call("nvmlDeviceGetGspFirmwareVersion"),)),
    Row(
        (Number("nvlink_links", 1.0, 1.0, 64.0),),
        (FieldIds((pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT,)),),
    ),
    Row(
        (Number("mig_instances", high=64.0),),
        (Each("nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex", _how_many),),
    ),
)
"""Identity and limits."""

# --- throttling ----------------------------------------------------------------------------------

POWER_CAP = pynvml.nvmlClocksEventReasonSwPowerCap
SOFTWARE_THERMAL = pynvml.nvmlClocksEventReasonSwThermalSlowdown
HARDWARE_THERMAL = pynvml.nvmlClocksEventReasonHwThermalSlowdown
POWER_BRAKE = pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
HARDWARE = pynvml.nvmlClocksEventReasonHwSlowdown


class Throttle(NamedTuple):
    """A throttle ratio: the reasons it counts, and the time counters of those reasons."""

    field: str
    reasons: int
    counters: tuple[str, ...]


THROTTLES = (
    Throttle("throttle_power_ratio", POWER_CAP, ("power_cap_ns",)),
    Throttle(
        "throttle_thermal_ratio",
        SOFTWARE_THERMAL | HARDWARE_THERMAL,
        ("software_thermal_ns", "hardware_thermal_ns"),
    ),
    Throttle(
        "throttle_hardware_ratio",
        HARDWARE | HARDWARE_THERMAL | POWER_BRAKE,
        ("hardware_thermal_ns", "power_brake_ns"),
    ),
    Throttle("throttle_brake_ratio", POWER_BRAKE, ("power_brake_ns",)),
)
COUNTERS = tuple({name: None for throttle in THROTTLES for name in throttle.counters})

RATES = {
    "pcie_tx_bytes": Number("pcie_tx_bytes_per_second", high=LINK_MAX),
    "pcie_rx_bytes": Number("pcie_rx_bytes_per_second", high=LINK_MAX),
}
"""Byte counters and the rates they become."""

SHARE_MAX = 2.0
"""The driver books throttle time in steps, so a share may pass 1 a little; more is no share."""
