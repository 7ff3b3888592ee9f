"""What is asked of an NVIDIA card: which fields, by which driver calls, within which ranges."""

from collections.abc import Callable, Sequence
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
        text = clean(str(raw))
        return None if text.lower() in _NO_TEXT or set(text) <= {"0"} else text


# --- how to ask ----------------------------------------------------------------------------------


def _alone(answer: Any) -> tuple[Any, ...]:
    return (answer,)


class Call(NamedTuple):
    """Ask by a driver call of its own; drivers before branch `since` are not asked."""

    name: str
    arguments: tuple[int, ...] = ()
    take: Callable[[Any], tuple[Any, ...]] = _alone
    since: int = 0
    before: float = inf


class FieldIds(NamedTuple):
    """Ask by field numbers, whose values are added; all fields of a card go in one driver call."""

    ids: tuple[int, ...]
    since: int = 0
    before: float = inf


class Each(NamedTuple):
    """Ask one by one for all that `counted_by` counts; what is not there is passed over."""

    counted_by: str
    name: str
    join: Callable[[list[Any]], tuple[Any, ...]]
    since: int = 0
    before: float = inf


Way = Call | FieldIds | Each


class Row(NamedTuple):
    """Fields that one answer gives, and the ways to get it, best first.

    Any living card answers a `core` row; one that fails there is unreadable.
    """

    gives: tuple[Number | Text, ...]
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


def _pair_of_ids(word: int) -> str:
    """`10de:2204`, vendor first, from a word with the vendor in its low half."""
    return f"{word & 0xFFFF:04x}:{word >> 16:04x}" if word else ""


# --- what is read --------------------------------------------------------------------------------

_TEMPERATURE = (1.0, 1.0, 150.0)
_MILLIWATTS = (1000.0, 0.1, 2000.0)
_PERCENT = (100.0, 0.0, 1.0)
_MEMORY = (1.0, 1.0, 1e13)

FAST = (
    Row(
        (Number("memory_used_bytes", 1.0, 0.0, 1e13), Number("memory_total_bytes", *_MEMORY)),
        (
            Call("nvmlDeviceGetMemoryInfo", (pynvml.nvmlMemory_v2,), _used_with_reserved),
            Call("nvmlDeviceGetMemoryInfo", (), _used),
        ),
        core=True,
    ),
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
        (Number("pcie_generation", 1.0, 1.0, 8.0),),
        (Call("nvmlDeviceGetCurrPcieLinkGeneration"),),
    ),
    Row(
        (Number("energy_joules", 1000.0, 0.0, 1e12),),
        (
            FieldIds((pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,)),
            Call("nvmlDeviceGetTotalEnergyConsumption"),
        ),
    ),
)
"""Fast fields. The core rows stand first, so that a dead card is known by one call."""

CLUES = (
    Row(
        (Number("reasons"),),
        (
            Call("nvmlDeviceGetCurrentClocksEventReasons"),
            Call("nvmlDeviceGetCurrentClocksThrottleReasons"),
        ),
    ),
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
"""Read with the fast fields; throttle ratios are made of them."""

SLOW = (
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
        (Number("pcie_tx_bytes", high=1e19),),
        (FieldIds((pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES,), since=555),),
    ),
    Row(
        (Number("pcie_rx_bytes", high=1e19),),
        (FieldIds((pynvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES,), since=555),),
    ),
)
"""Fields that are dear or rarely change; the two byte counters become rates."""

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
        (Number("core_clock_max_mhz", 1.0, 1.0, 10_000.0),),
        (Call("nvmlDeviceGetMaxClockInfo", (pynvml.NVML_CLOCK_SM,)),),
    ),
    Row(
        (Number("memory_clock_max_mhz", 1.0, 1.0, 30_000.0),),
        (Call("nvmlDeviceGetMaxClockInfo", (pynvml.NVML_CLOCK_MEM,)),),
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
    "pcie_tx_bytes": Number("pcie_tx_bytes_per_second", high=1.3e11),
    "pcie_rx_bytes": Number("pcie_rx_bytes_per_second", high=1.3e11),
}
"""Byte counters and the rates they become; no link is faster than generation 6 with 16 lanes."""

SHARE_MAX = 2.0
"""The driver books throttle time in steps, so a share may pass 1 a little; more is no share."""
