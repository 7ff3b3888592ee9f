"""Where a capture tells the value of each key, and what its words mean."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.standin import DEPRECATED, NOT_SUPPORTED, Entry, process_list

Look = Callable[["Told"], str | None]
"""What a capture says at the place of a key; None where it does not tell."""

_MIB = 1024.0 * 1024.0
_NOT_TOLD = re.compile(r"\[?(N/A|REDACTED|Unknown Error|)\]?|Not available in .* driver model")
_NUMBER = re.compile(r"P?(-?[0-9]+(?:\.[0-9]+)?)")

# --- words ---------------------------------------------------------------------------------------

_STATES = {"Yes": 1, "No": 0, "Enabled": 1, "Disabled": 0, "valid": 1}
_BRANDS = {"Quadro": 1, "Tesla": 2, "GeForce": 5, "Titan": 6, "NVIDIA RTX": 13, "NVIDIA": 14}
_ARCHITECTURES = {"Pascal": 4, "Turing": 6, "Ampere": 7, "Ada Lovelace": 8, "Hopper": 9}
_RECOVERY_ACTIONS = {
    "None": 0,
    "Reset": 1,
    "Reboot": 2,
    "Drain P2P": 3,
    "Drain and Reset": 4,
}


def is_told(text: str | None) -> bool:
    """Whether a capture gives a value, and not that there is none."""
    return text is not None and not _NOT_TOLD.fullmatch(text)


def number(text: str | None, scale: float = 1.0, words: Mapping[str, int] = _STATES) -> Entry:
    """Entry for what a capture says, such as `27.23 W`, `16x`, `P8`, `No` or `[N/A]`."""
    if text is None or not is_told(text):
        return NOT_SUPPORTED
    if "deprecated" in text:
        return DEPRECATED
    if text in words:
        return words[text]
    found = _NUMBER.match(text)
    assert found is not None, f"{text!r} is no value of a capture"
    return round(float(found[1]) * scale)


def pci_ids(text: str | None) -> Entry:
    """PCI device and vendor; a capture may hide them."""
    word = 0 if text is None or "REDACTED" in text else int(text, 16)
    return word if word >> 16 else 0


# --- places --------------------------------------------------------------------------------------


class Told(NamedTuple):
    """Where a capture tells a key: paths in the XML, a column of the CSV, a path in the report."""

    key: str
    xml: tuple[str, ...] = ()
    column: str = ""
    report: tuple[str, ...] = ()
    scale: float = 1.0
    words: Mapping[str, int] = _STATES


def entries(look: Look) -> dict[str, Entry]:
    """Entries of all keys that stand at one place each."""
    texts = {told.key: look(told) for told in TEXTS}
    return {
        **{key: text if text and is_told(text) else NOT_SUPPORTED for key, text in texts.items()},
        **{told.key: number(look(told), told.scale, told.words) for told in NUMBERS},
    }


_NEW_POWER = "gpu_power_readings"
_POWER = (_NEW_POWER, "power_readings")


def _power(*names: str) -> tuple[str, ...]:
    return tuple(f"{group}/{name}" for name in names for group in _POWER)


def _watts(key: str, xml: tuple[str, ...], column: str = "", report: str = "") -> Told:
    return Told(key, xml, column, (report,) if report else (), 1000.0)


TEXTS = (
    Told("name", ("product_name",), "name"),
    Told("uuid", ("uuid",), "uuid"),
    Told("serial", ("serial",), "serial"),
    Told("vbios", ("vbios_version",), "vbios_version"),
    Told("pci_address", ("pci/pci_bus_id",), "pci.bus_id"),
    Told("inforom", ("inforom_version/img_version",), "inforom.img"),
    Told("gsp_firmware", ("gsp_firmware_version",), report=("GSP Firmware Version",)),
    Told("part_number", ("board_part_number",), report=("Board Part Number",)),
    Told("compute_capability", column="compute_cap"),
)

_LINK = "pci/pci_gpu_link_info"
_BANKS = ("max", "high", "partial", "low", "none")
_LIVES = ("volatile", "aggregate")

_IDENTITY = (
    Told("minor_number", ("minor_number",), report=("Minor Number",)),
    Told("brand", ("product_brand",), report=("Product Brand",), words=_BRANDS),
    Told(
        "architecture",
        ("product_architecture",),
        report=("Product Architecture",),
        words=_ARCHITECTURES,
    ),
    Told("inforom_valid", column="inforom.checksum_validation"),
    Told("power_on_seconds", report=("Inforom Time Data/Time Run",)),
)
_MODES = (
    Told("persistence_mode", ("persistence_mode",), "persistence_mode"),
    Told("mig_mode", ("mig_mode/current_mig",), "mig.mode.current"),
    Told("mig_mode_pending", ("mig_mode/pending_mig",), "mig.mode.pending"),
    Told("ecc_mode", ("ecc_mode/current_ecc",), "ecc.mode.current"),
    Told("ecc_mode_pending", ("ecc_mode/pending_ecc",), "ecc.mode.pending"),
    Told("performance_state", ("performance_state",), "pstate"),
    Told("field_230", ("gpu_recovery_action",), "gpu_recovery_action", words=_RECOVERY_ACTIONS),
)
_CLOCKS = (
    Told("utilization", ("utilization/gpu_util",), "utilization.gpu [%]"),
    Told("memory_utilization", ("utilization/memory_util",), "utilization.memory [%]"),
    Told("clock_graphics", ("clocks/graphics_clock",), "clocks.current.graphics [MHz]"),
    Told("clock_sm", ("clocks/sm_clock",), "clocks.current.sm [MHz]"),
    Told("clock_memory", ("clocks/mem_clock",), "clocks.current.memory [MHz]"),
    Told("clock_video", ("clocks/video_clock",), "clocks.current.video [MHz]"),
    Told("clock_max_graphics", ("max_clocks/graphics_clock",), "clocks.max.graphics [MHz]"),
    Told("clock_max_sm", ("max_clocks/sm_clock",), "clocks.max.sm [MHz]"),
    Told("clock_max_memory", ("max_clocks/mem_clock",), "clocks.max.memory [MHz]"),
    Told("clock_max_video", ("max_clocks/video_clock",), report=("Max Clocks/Video",)),
)
# The second number of a field is the domain: 1 the module, 2 the memory.
_POWERS = (
    _watts("power_usage", _power("average_power_draw", "power_draw"), "power.draw [W]"),
    _watts("field_185", (f"{_NEW_POWER}/average_power_draw",), "power.draw.average [W]"),
    _watts("field_186", _power("instant_power_draw"), "power.draw.instant [W]"),
    _watts(
        "field_185_1",
        ("module_power_readings/average_power_draw",),
        "module.power.draw.average [W]",
    ),
    _watts(
        "field_186_1",
        ("module_power_readings/instant_power_draw",),
        "module.power.draw.instant [W]",
    ),
    _watts(
        "field_185_2",
        ("gpu_memory_power_readings/average_power_draw",),
        report="GPU Memory Power Readings/Average Power Draw",
    ),
    _watts(
        "field_186_2",
        ("gpu_memory_power_readings/instant_power_draw",),
        report="GPU Memory Power Readings/Instantaneous Power Draw",
    ),
    _watts(
        "power_limit_enforced",
        _power("enforced_power_limit", "current_power_limit"),
        "enforced.power.limit [W]",
    ),
    _watts("power_limit", _power("requested_power_limit", "power_limit"), "power.limit [W]"),
    _watts("power_limit_default", _power("default_power_limit"), "power.default_limit [W]"),
    _watts("power_limit_min", _power("min_power_limit"), "power.min_limit [W]"),
    _watts("power_limit_max", _power("max_power_limit"), "power.max_limit [W]"),
)
_TEMPERATURES = (
    Told("temperature", ("temperature/gpu_temp",), "temperature.gpu"),
    Told("field_82", ("temperature/memory_temp",), "temperature.memory"),
    Told("temperature_margin", ("temperature/gpu_temp_tlimit",), "temperature.gpu.tlimit"),
    *(
        Told(key, (f"temperature/{path}",), report=tuple(f"Temperature/{name}" for name in names))
        for key, path, *names in (
            ("threshold_shutdown", "gpu_temp_max_threshold", "GPU Shutdown Temp"),
            ("threshold_slowdown", "gpu_temp_slow_threshold", "GPU Slowdown Temp"),
            ("threshold_gpu_max", "gpu_temp_max_gpu_threshold", "GPU Max Operating Temp"),
            ("threshold_memory_max", "gpu_temp_max_mem_threshold", "Memory Max Operating Temp"),
            (
                "threshold_acoustic_current",
                "gpu_target_temperature",
                "GPU Target Temperature",
                "GPU Target Temperature Specification",
            ),
            ("field_193", "gpu_temp_max_tlimit_threshold", "GPU Shutdown T.Limit Temp"),
            ("field_194", "gpu_temp_slow_tlimit_threshold", "GPU Slowdown T.Limit Temp"),
            (
                "field_195",
                "gpu_temp_max_mem_tlimit_threshold",
                "Memory Max Operating T.Limit Temp",
            ),
            ("field_196", "gpu_temp_max_gpu_tlimit_threshold", "GPU Max Operating T.Limit Temp"),
        )
    ),
)
_MEMORY = (
    Told("memory_total", ("fb_memory_usage/total",), "memory.total [MiB]", scale=_MIB),
    Told("memory_used", ("fb_memory_usage/used",), "memory.used [MiB]", scale=_MIB),
    Told("memory_reserved", ("fb_memory_usage/reserved",), "memory.reserved [MiB]", scale=_MIB),
    Told(
        "bar1_total",
        ("bar1_memory_usage/total",),
        report=("BAR1 Memory Usage/Total",),
        scale=_MIB,
    ),
)
_PCIE = (
    Told("pcie_generation", (f"{_LINK}/pcie_gen/current_link_gen",), "pcie.link.gen.current"),
    Told("pcie_generation_max", (f"{_LINK}/pcie_gen/max_link_gen",), "pcie.link.gen.max"),
    Told(
        "pcie_generation_max_card",
        (f"{_LINK}/pcie_gen/max_device_link_gen",),
        "pcie.link.gen.gpumax",
    ),
    Told("pcie_width", (f"{_LINK}/link_widths/current_link_width",), "pcie.link.width.current"),
    Told("pcie_width_max", (f"{_LINK}/link_widths/max_link_width",), "pcie.link.width.max"),
    Told("pcie_replay", ("pci/replay_counter",), report=("PCI/Replays Since Reset",)),
    Told("field_95", ("pci/replay_rollover_counter",), report=("PCI/Replay Number Rollovers",)),
    Told("pcie_tx_kilobytes", ("pci/tx_util",), report=("PCI/Tx Throughput",)),
    Told("pcie_rx_kilobytes", ("pci/rx_util",), report=("PCI/Rx Throughput",)),
)
_SRAM = "ecc_errors/aggregate_uncorrectable_sram_sources"
_UNCORRECTED = "ecc.errors.uncorrected"
_WEAR = (
    *(
        Told(
            f"sram_{kind}_{life}",
            (f"ecc_errors/{life}/sram_uncorrectable_{kind}",),
            f"{_UNCORRECTED}.{life}.sram.{kind}",
        )
        for kind in ("parity", "secded")
        for life in _LIVES
    ),
    *(
        Told(
            f"sram_{source}",
            (f"{_SRAM}/sram_{source}",),
            f"{_UNCORRECTED}.aggregate.sram.{source.replace('microcontroller', 'mcu')}",
        )
        for source in ("l2", "sm", "pcie", "microcontroller", "other")
    ),
    Told(
        "sram_threshold_exceeded",
        ("ecc_errors/aggregate/sram_threshold_exceeded",),
        f"{_UNCORRECTED}.aggregate.sram.thresholdExceeded",
    ),
    *(
        Told(key, (f"ecc_errors/{path}",), report=(f"ECC Errors/{name}",))
        for key, path, name in (
            ("channel_repair_pending", "channel_repair_pending", "Channel Repair Pending"),
            ("tpc_repair_pending", "tpc_repair_pending", "TPC Repair Pending"),
            ("memory_unrepairable", "unrepairable_memory", "Unrepairable Memory"),
        )
    ),
    *(
        Told(key, (f"remapped_rows/remapped_row_{path}",), column and f"remapped_rows.{column}")
        for key, path, column in (
            ("remapped_correctable", "corr", "correctable"),
            ("remapped_uncorrectable", "unc", "uncorrectable"),
            ("remapped_correctable_inactive", "corr_inactive", ""),
            ("remapped_uncorrectable_inactive", "unc_inactive", ""),
            ("remap_pending", "pending", "pending"),
            ("remap_failed", "failure", "failure"),
        )
    ),
    *(
        Told(
            f"remap_banks_{bank}",
            (f"remapped_rows/row_remapper_histogram/row_remapper_histogram_{bank}",),
            f"remapped_rows.histogram.{bank}",
        )
        for bank in _BANKS
    ),
    Told(
        "field_29",
        ("retired_pages/multiple_single_bit_retirement/retired_count",),
        "retired_pages.single_bit_ecc.count",
    ),
    Told(
        "field_30",
        ("retired_pages/double_bit_retirement/retired_count",),
        "retired_pages.double_bit.count",
    ),
    Told(
        "retired_pages_pending",
        ("retired_pages/pending_blacklist", "retired_pages/pending_retirement"),
        "retired_pages.pending",
    ),
)
NUMBERS = (
    *_IDENTITY,
    *_MODES,
    *_CLOCKS,
    *_POWERS,
    *_TEMPERATURES,
    *_MEMORY,
    Told("fan", ("fan_speed",), "fan.speed [%]"),
    *_PCIE,
    *_WEAR,
)

TIMES = {
    "field_74": ("sw_power_cap", "sw_power_cap"),
    "field_76": ("sync_boost", "sync_boost"),
    "field_269": ("sw_therm_slowdown", "sw_thermal_slowdown"),
    "field_270": ("hw_therm_slowdown", "hw_thermal_slowdown"),
    "field_271": ("hw_power_brake", "hw_power_brake_slowdown"),
}
"""Time counters by the names that the XML and the CSV give them, in microseconds."""

SAME = {
    "field_1": "ecc_mode",
    "field_2": "ecc_mode_pending",
    "field_3": "ecc_corrected_volatile",
    "field_4": "ecc_uncorrected_volatile",
    "field_5": "ecc_corrected_aggregate",
    "field_6": "ecc_uncorrected_aggregate",
    "field_31": "retired_pages_pending",
    "field_94": "pcie_replay",
    "field_142": "remapped_correctable",
    "field_143": "remapped_uncorrectable",
    "field_144": "remap_pending",
    "field_145": "remap_failed",
    "field_187": "power_limit_min",
    "field_188": "power_limit_max",
    "field_189": "power_limit_default",
    "field_190": "power_limit_enforced",
    "field_192": "power_limit",
    "field_301": "remapped_correctable_inactive",
    "field_302": "remapped_uncorrectable_inactive",
    "temperature_v": "temperature",
    "event_reasons": "throttle_reasons",
}
"""Values that the library gives in a second way."""


def processes(told: list[tuple[str, int, str | None]] | None) -> dict[str, Entry]:
    """Entries of the lists of processes, from type (`C`, `G`, `M`, or several), number, memory."""
    lists = {"compute_processes": "C", "graphics_processes": "G", "mps_processes": "M"}
    if told is None:
        return dict.fromkeys(lists, NOT_SUPPORTED)
    return {
        key: _process_list([(pid, used) for kind, pid, used in told if letter in kind])
        for key, letter in lists.items()
    }


def _process_list(told: list[tuple[int, str | None]]) -> Entry:
    memory = {pid: number(used, _MIB) for pid, used in told}
    entries = {pid: used if isinstance(used, int) else None for pid, used in memory.items()}
    return process_list(entries)
