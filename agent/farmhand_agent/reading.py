"""The contract of readings: what may be measured, in which unit, and how it is written down.

One table, `FIELDS`, names every measurement and field. Validation, window aggregation, the
store's columns, the documentation page and the wire format are all derived from it. Numbers are
floats always; a value that a card did not give is left out, never written as zero.
"""

import math
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

SCHEMA = 1
"""Version of the contract; readers accept the one before and the one after their own."""

MAX_LINE_BYTES = 8192
MAX_TAG_VALUE_CHARACTERS = 256

Value = float | str


class Kind(StrEnum):
    """How a field's samples combine over a window."""

    GAUGE = "gauge"
    """Mean, weighted by length."""
    PEAK = "peak"
    """Largest value."""
    COUNTER = "counter"
    """Last value; differences over time count, resets allowed."""
    FLAG = "flag"
    """1 if it was ever 1."""
    TEXT = "text"
    """Last value."""


class Field(NamedTuple):
    """One row of the contract."""

    measurement: str
    name: str
    kind: Kind
    unit: str
    meaning: str


class Reading(NamedTuple):
    """One point: what was measured, where, which values, and when (wall clock, nanoseconds)."""

    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, Value]
    time_ns: int


class LineError(ValueError):
    """A line is not a valid reading; the message says where and why in one line."""


CARD_TAGS = ("site", "rack", "host", "slot", "card", "vendor", "model")
HOST_TAGS = ("site", "rack", "host")

TAGS: Mapping[str, tuple[str, ...]] = {
    "card": CARD_TAGS,
    "work": (*CARD_TAGS, "lane"),
    "card_info": CARD_TAGS,
    "card_event": CARD_TAGS,
    "probe": CARD_TAGS,
    "host": HOST_TAGS,
    "host_event": HOST_TAGS,
    "agent": HOST_TAGS,
    "collector": ("site",),
    "increase": CARD_TAGS,
    "verdict": CARD_TAGS,
    "capacity": ("site", "scope", "name", "component"),
}
"""The tags that make a series, by measurement; an empty tag is left out on the wire."""


def _rows(measurement: str, kind: Kind, *rows: tuple[str, str, str]) -> list[Field]:
    return [Field(measurement, name, kind, unit, meaning) for name, unit, meaning in rows]


FIELDS: tuple[Field, ...] = (
    *_rows(
        "card",
        Kind.TEXT,
        ("state", "", "`ok`, `unreadable` (present, but does not answer) or `lost` (gone)"),
        (
            "recovery_action",
            "",
            "what the driver asks for: `none`, `reset`, `reboot`, `drain-p2p`, `drain-and-reset` …",
        ),
        ("process_ids", "", "process numbers of running work, the lowest few"),
    ),
    *_rows(
        "card",
        Kind.GAUGE,
        ("window_seconds", "s", "length of the window that the values cover"),
        ("samples", "", "samples in the window"),
        ("read_seconds", "s", "slowest read of this card in the window"),
        ("utilization_ratio", "0..1", "share of time in which a kernel ran"),
        ("memory_utilization_ratio", "0..1", "share of time in which memory was accessed"),
        ("memory_used_bytes", "B", "device memory in use, reserved memory included"),
        ("memory_total_bytes", "B", "device memory that the card reports"),
        ("core_clock_mhz", "MHz", "clock of the compute units"),
        ("memory_clock_mhz", "MHz", "memory clock as the driver names it"),
        ("performance_state", "", "P-state: 0 is the fastest; GeForce cards compute in 2"),
        ("power_watts", "W", "board power"),
        ("module_power_watts", "W", "power of a module whose dies share one sensor"),
        ("power_limit_watts", "W", "power limit in force"),
        ("core_temperature_celsius", "°C", "temperature of the die"),
        ("hotspot_temperature_celsius", "°C", "hottest part of the die, where the driver tells"),
        ("memory_temperature_celsius", "°C", "temperature of the memory, where a sensor exists"),
        ("temperature_margin_celsius", "°C", "degrees left until the card slows itself down"),
        ("fan_ratio", "0..1", "intended fan speed; a stalled fan still shows its intention"),
        ("pcie_generation", "", "generation of the link now; falls at idle to save power"),
        ("pcie_width", "lanes", "width of the link now"),
        ("pcie_rx_bytes_per_second", "B/s", "traffic from the host to the card"),
        ("pcie_tx_bytes_per_second", "B/s", "traffic from the card to the host"),
        (
            "memory_bandwidth_bytes_per_second",
            "B/s",
            "measured memory traffic; never derived from utilisation",
        ),
        ("sm_active_ratio", "0..1", "share of time in which compute units had work, measured"),
        ("tensor_active_ratio", "0..1", "share of time in which tensor units worked, measured"),
        ("nvlink_active", "", "NVLink links that are up"),
        ("processes", "", "processes that compute on the card"),
        ("process_memory_bytes", "B", "device memory that processes hold"),
        ("remap_banks_max", "", "memory banks that have all their spare rows left"),
        ("remap_banks_high", "", "memory banks that have many spare rows left"),
        ("remap_banks_partial", "", "memory banks that have some spare rows left"),
        ("remap_banks_low", "", "memory banks that have few spare rows left"),
        ("remap_banks_none", "", "memory banks that have no spare row left"),
        ("throttle_power_ratio", "0..1", "share of time held back by the power limit"),
        ("throttle_thermal_ratio", "0..1", "share of time held back by temperature"),
        ("throttle_hardware_ratio", "0..1", "share of time in a hardware slowdown"),
        ("throttle_brake_ratio", "0..1", "share of time under the external power brake"),
    ),
    *_rows(
        "card",
        Kind.PEAK,
        ("core_temperature_max_celsius", "°C", "highest die temperature in the window"),
        ("hotspot_temperature_max_celsius", "°C", "highest hotspot temperature in the window"),
        ("memory_temperature_max_celsius", "°C", "highest memory temperature in the window"),
        ("power_max_watts", "W", "highest board power in the window"),
    ),
    *_rows(
        "card",
        Kind.COUNTER,
        ("energy_joules", "J", "energy since the driver was loaded"),
        ("pcie_replay_total", "", "packets sent again over PCIe"),
        ("pcie_recovery_total", "", "times that the link trained again while in use"),
        ("pcie_correctable_total", "", "PCIe errors corrected, at the card and the port above it"),
        ("pcie_nonfatal_total", "", "PCIe errors that cost a packet, at the card and that port"),
        ("pcie_fatal_total", "", "PCIe errors that cost the link, at the card and that port"),
        ("ecc_corrected_total", "", "memory errors that were corrected"),
        ("ecc_uncorrected_total", "", "memory errors that could not be corrected"),
        ("ecc_dram_corrected_total", "", "of these, corrected in device memory"),
        ("ecc_dram_uncorrected_total", "", "of these, not correctable in device memory"),
        ("ecc_sram_corrected_total", "", "of these, corrected in caches and registers"),
        ("ecc_sram_uncorrected_total", "", "of these, not correctable in caches and registers"),
        ("nvlink_crc_errors_total", "", "NVLink packets that arrived damaged, over all links"),
        ("nvlink_replay_total", "", "NVLink packets sent again, over all links"),
        ("nvlink_recovery_total", "", "times that an NVLink link trained again"),
        ("power_on_seconds_total", "s", "how long a driver has run this card in its life"),
        ("remapped_rows_total", "", "memory rows replaced by spare rows"),
        ("retired_pages_total", "", "memory pages taken out of use"),
    ),
    *_rows(
        "card",
        Kind.FLAG,
        ("remap_pending", "0/1", "a row waits for a reset to be replaced"),
        ("remap_failed", "0/1", "a row could not be replaced: no spare is left"),
        ("retired_pages_pending", "0/1", "a page waits for a reset to be taken out of use"),
        ("sram_threshold_exceeded", "0/1", "caches had more errors than the maker allows"),
        ("memory_unrepairable", "0/1", "device memory has a fault that no spare mends"),
    ),
    *_rows("work", Kind.GAUGE, ("rate", "", "useful work per second, in `unit`")),
    *_rows(
        "work",
        Kind.TEXT,
        ("unit", "", "what `rate` counts"),
        ("job", "", "kind of work; cards of the same job are compared"),
        ("gang", "", "group of cards that go in lock step"),
    ),
    *_rows(
        "card_info",
        Kind.TEXT,
        ("name", "", "the name that the driver gives"),
        ("serial", "", "serial number of the board, where one is stored"),
        ("vbios", "", "version of the video BIOS"),
        ("device_id", "", "PCI vendor and device, as `10de:2204`"),
        ("subsystem_id", "", "PCI subsystem vendor and device: the maker of the board"),
        ("module", "", "module that carries this die, where several share one"),
        ("pci_address", "", "PCI address at the moment; it may change when neighbours vanish"),
        ("root_port", "", "PCI address of the root port that the card hangs on"),
        ("slot_label", "", "what the firmware calls the slot, where it has a name"),
        ("driver", "", "version of the driver"),
        ("inforom", "", "version of the InfoROM image"),
        ("part_number", "", "the maker's part number of the board"),
        ("brand", "", "product line that the driver tells"),
        ("architecture", "", "GPU architecture that the driver tells"),
        ("compute_capability", "", "CUDA compute capability, as `8.6`"),
        ("gsp_firmware", "", "version of the firmware on the card, where it runs one"),
    ),
    *_rows(
        "card_info",
        Kind.GAUGE,
        ("memory_total_bytes", "B", "device memory that the card reports"),
        ("memory_bus_bits", "bit", "width of the memory bus"),
        ("bar1_bytes", "B", "size of the BAR1 aperture"),
        ("core_count", "", "CUDA cores or AI cores"),
        ("pcie_generation_max", "", "highest generation that card and slot can do"),
        ("pcie_width_max", "lanes", "widest link that card and slot can do"),
        ("pcie_generation_max_card", "", "highest generation that the card itself can do"),
        ("pcie_generation_max_slot", "", "highest generation that the port above can do"),
        ("pcie_width_max_slot", "lanes", "widest link that the port above can do"),
        ("numa_node", "", "NUMA node that the slot belongs to"),
        ("power_limit_default_watts", "W", "power limit as the board was made"),
        ("power_limit_min_watts", "W", "lowest power limit that can be set"),
        ("power_limit_max_watts", "W", "highest power limit that can be set"),
        ("core_clock_max_mhz", "MHz", "highest core clock the driver would set"),
        ("memory_clock_max_mhz", "MHz", "highest memory clock the driver would set"),
        (
            "core_clock_offset_mhz",
            "MHz",
            "overclock of the core that is set, below 0 an underclock",
        ),
        ("memory_clock_offset_mhz", "MHz", "overclock of the memory that is set"),
        ("temperature_shutdown_celsius", "°C", "die temperature at which the card turns off"),
        ("temperature_slowdown_celsius", "°C", "die temperature at which hardware slows it down"),
        ("temperature_target_celsius", "°C", "die temperature that the driver keeps below"),
        ("memory_temperature_limit_celsius", "°C", "memory temperature that slows the card down"),
        ("fans", "", "fans that the card controls"),
        ("ecc_enabled", "0/1", "error correction of device memory; left out where there is none"),
        ("persistence_enabled", "0/1", "the driver stays loaded while nobody uses the card"),
        ("mig_enabled", "0/1", "the card is cut into instances; left out where it cannot be"),
        ("inforom_checksum", "", "checksum of the configuration stored on the board"),
        ("nvlink_links", "", "NVLink links that the card has"),
        ("mig_instances", "", "MIG instances; 0 where MIG is off or unknown to the card"),
    ),
    *_rows(
        "card_event",
        Kind.TEXT,
        (
            "kind",
            "",
            "`xid`, `npu_fault`, `off_bus`, `init_failed`, `aer`, `lost`, `returned` or `identity`",
        ),
        ("code", "", "number of the event in its vendor's list; of `aer`, the name of the error"),
        ("text", "", "what the driver or the agent said"),
    ),
    *_rows("card_event", Kind.GAUGE, ("count", "", "how many times, when several are told as one")),
    *_rows(
        "probe",
        Kind.GAUGE,
        ("memory_bandwidth_bytes_per_second", "B/s", "measured by a copy kernel"),
        ("fp16_flops", "1/s", "measured by a matrix product"),
        ("fp32_flops", "1/s", "measured by a matrix product"),
        ("host_to_device_bytes_per_second", "B/s", "measured by a pinned copy"),
        ("device_to_host_bytes_per_second", "B/s", "measured by a pinned copy"),
        ("memory_errors", "", "wrong words found"),
        ("duration_seconds", "s", "how long the probe ran"),
    ),
    *_rows(
        "host",
        Kind.GAUGE,
        ("cpu_ratio", "0..1", "share of processor time in use"),
        ("cpu_wait_ratio", "0..1", "share of processor time spent waiting for disks"),
        ("cpu_count", "", "logical processors"),
        ("load1", "", "load average over a minute"),
        ("memory_used_bytes", "B", "main memory in use"),
        ("memory_total_bytes", "B", "main memory"),
        ("swap_used_bytes", "B", "swap in use"),
        ("swap_total_bytes", "B", "swap"),
        ("inlet_temperature_celsius", "°C", "air at the inlet, where a sensor exists"),
        ("board_temperature_celsius", "°C", "warmest sensor of the main board"),
        ("cpu_temperature_celsius", "°C", "warmest sensor of the processors"),
        ("fan_rpm_min", "1/min", "slowest fan of the chassis that turns or should"),
        ("fans", "", "fans of the chassis whose speed is measured"),
        ("fans_stopped", "", "of these, those that have turned since boot and stand still"),
        ("disk_free_bytes", "B", "free space where the agent keeps its state"),
        ("disk_total_bytes", "B", "size of that file system"),
        ("disk_read_bytes_per_second", "B/s", "read from disks"),
        ("disk_write_bytes_per_second", "B/s", "written to disks"),
        ("network_rx_bytes_per_second", "B/s", "received by network ports of the machine"),
        ("network_tx_bytes_per_second", "B/s", "sent by them"),
        ("uptime_seconds", "s", "time since boot"),
    ),
    *_rows(
        "host",
        Kind.COUNTER,
        ("network_errors_total", "", "packets that network ports lost or found damaged"),
        ("memory_corrected_total", "", "errors of main memory that were corrected"),
        ("memory_uncorrected_total", "", "errors of main memory that could not be corrected"),
    ),
    *_rows(
        "host_event",
        Kind.TEXT,
        ("kind", "", "`boot`, `shutdown`, `agent_start` or `agent_stop`"),
        ("text", "", "what the agent knows about it, such as a shutdown that was not clean"),
    ),
    *_rows(
        "agent",
        Kind.TEXT,
        ("version", "", "version of farmhand on the node"),
        ("shipping", "", "how shipping goes: `shipping`, `retrying` or `held`"),
        ("kernel_log", "", "how it is read: `kmsg`, `lent`, `journal` or `none`"),
    ),
    *_rows(
        "agent",
        Kind.GAUGE,
        ("schema", "", "version of this contract that the agent writes"),
        ("rss_bytes", "B", "memory of the agent and its readers"),
        ("spool_points", "", "readings not yet accepted by the store"),
        ("spool_bytes", "B", "their size"),
        ("clock_offset_seconds", "s", "server's clock minus the node's"),
        ("readers", "", "reader processes, those that hang among them"),
        ("cards_apart", "", "cards that have a reader of their own because they hung or crashed"),
    ),
    *_rows(
        "agent",
        Kind.COUNTER,
        ("cpu_seconds_total", "s", "processor time of the agent and its readers"),
        (
            "dropped_points_total",
            "",
            "readings dropped because the spool was full or they were refused",
        ),
        ("spool_quarantined_total", "", "times that a damaged spool was set aside since the start"),
    ),
    *_rows(
        "agent",
        Kind.FLAG,
        ("spool_degraded", "0/1", "the spool cannot use the disk: readings wait in memory"),
    ),
    *_rows(
        "collector", Kind.COUNTER, ("ticks_total", "", "the collector's pulse: it closes windows")
    ),
    *_rows(
        "verdict",
        Kind.TEXT,
        ("state", "", "`ok`, `watch`, `degraded`, `failing`, `lost` or `unknown`"),
        ("cause", "", "what is behind it, empty where nothing is wrong"),
        ("component", "", "what is missing: `compute`, `bandwidth`, `memory` or `link`"),
        ("action", "", "what to do about it"),
        ("finding", "", "the finding that explains the others"),
        ("reason", "", "one line of evidence, in English"),
    ),
    *_rows(
        "verdict",
        Kind.GAUGE,
        ("state_level", "", "0 ok, 1 watch, 2 degraded, 3 failing, 4 lost, 5 unknown"),
        ("delivered_ratio", "0..1", "share of what is expected, of the worst component"),
        ("confidence_ratio", "0..1", "how sure the verdict is"),
        ("since_seconds", "s", "when the state began, since 1970"),
    ),
    *_rows(
        "capacity",
        Kind.GAUGE,
        ("cards", "", "cards that are added up"),
        ("judged", "", "of these, cards of which something is known"),
        ("default", "", "what they are made to give, in FLOP/s, B/s or B"),
        ("expected", "", "what the limits in force allow"),
        ("delivered", "", "what they give"),
        ("missing", "", "what they do not give, though expected"),
        ("by_choice", "", "what limits take, on purpose"),
        ("expected_a100_equivalents", "", "expected, in cards of the kind A100 SXM of 80 GB"),
        ("delivered_a100_equivalents", "", "delivered, in cards of that kind"),
    ),
)
FIELDS += tuple(
    Field("increase", told.name, Kind.GAUGE, told.unit, f"rise within five minutes: {told.meaning}")
    for told in FIELDS
    if told.measurement == "card" and told.kind is Kind.COUNTER
)

UNIDENTIFIED = "unidentified"
"""The `card` tag of a slot whose card shows no identity."""


def fields_of(measurement: str) -> Mapping[str, Field]:
    """Fields of one measurement by name, in the table's order; empty when it is unknown."""
    return _BY_MEASUREMENT.get(measurement, {})


_BY_MEASUREMENT: dict[str, dict[str, Field]] = {name: {} for name in TAGS}
for _field in FIELDS:
    _BY_MEASUREMENT[_field.measurement][_field.name] = _field


# --- line protocol -----------------------------------------------------------------------------

_TAG_ESCAPES = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_TEXT_ESCAPES = str.maketrans({'"': r"\"", "\\": "\\\\"})
_TAIL = re.compile(r"[\\\s]+\Z")
_BEFORE_ESCAPED = re.compile(r"\\+(?=[,= ])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of characters: these cannot be encoded."""


def clean(text: str) -> str:
    """Text without control characters and of bounded length, fit for a tag or a text field.

    A trailing backslash would escape the separator that follows it, so it goes too.
    """
    return _TAIL.sub("", _CONTROL.sub(" ", text)[:MAX_TAG_VALUE_CHARACTERS].strip())


def tag_value(text: str) -> str:
    """Text as it comes out of a tag again.

    The format has no escape for a backslash: one before a comma, an equals sign or a space would
    be read as theirs, so it goes.
    """
    return _BEFORE_ESCAPED.sub("", clean(text)).strip()


def tag_prefix(measurement: str, tags: Mapping[str, str]) -> str:
    """Measurement and tags as line protocol, tags sorted by key, empty ones left out."""
    parts = [measurement]
    for key in sorted(tags):
        value = tag_value(tags[key])
        if value:
            parts.append(f"{key}={value.translate(_TAG_ESCAPES)}")
    return ",".join(parts)


def _field_text(value: Value) -> str:
    if isinstance(value, str):
        return f'"{clean(value).translate(_TEXT_ESCAPES)}"'
    return repr(float(value))


def to_line(reading: Reading) -> str:
    """One line of line protocol, without the newline.

    Raises:
        LineError: no field is left, or a number is not finite.
    """
    parts = []
    for name, value in reading.fields.items():
        if not isinstance(value, str) and not math.isfinite(value):
            raise LineError(f"{reading.measurement}.{name} is {value}, expected a finite number")
        parts.append(f"{name}={_field_text(value)}")
    if not parts:
        raise LineError(f"{reading.measurement} has no fields, expected at least one")
    prefix = tag_prefix(reading.measurement, reading.tags)
    return f"{prefix} {','.join(parts)} {reading.time_ns}"


def parse_lines(text: str) -> Iterator[Reading]:
    """Readings of a text in line protocol; blank lines and comments are passed over.

    Raises:
        LineError: naming the first bad line by its number.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line and not line.isspace() and not line.startswith("#"):
            try:
                yield parse_line(line.rstrip("\r"))
            except LineError as error:
                raise LineError(f"line {number}: {error}") from None


def parse_line(line: str) -> Reading:
    """One reading from one line of line protocol.

    Unknown measurements, tags and fields are kept: readers ignore what they do not know.

    Raises:
        LineError: the line is too long, malformed, carries control characters, a number that is
            not finite or a time outside of 64 bits.
    """
    if len(line) > MAX_LINE_BYTES:
        raise LineError(f"{len(line)} characters, expected at most {MAX_LINE_BYTES}")
    if _CONTROL.search(line):
        raise LineError("control character, expected printable text")
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise LineError("expected `measurement,tags fields time` with the time in nanoseconds")
    head, body, time_text = parts.groups()
    measurement, tags = _parsed_head(head)
    fields = {}
    for part in _split_body(body):
        name, text = _pair(part)
        if "\\" in name:
            name = _ESCAPED.sub(r"\1\2", name)
        fields[name] = _field_value(name, text)
    time_ns = int(time_text)
    if not -_TIMES <= time_ns < _TIMES:
        raise LineError(f"time {time_text}, expected nanoseconds in 64 bits")
    return Reading(measurement, tags, fields, time_ns)


_TIMES = 2**63
# Possessive quantifiers: a hostile line must not make the match walk back.
_LINE = re.compile(
    r'((?:[^\\ ]++|\\.)++) ((?:[^"\\ ]++|\\.|"(?:[^"\\]++|\\.)*+")++) (-?[0-9]{1,19})'
)
_HEAD_PART = re.compile(r"(?:[^\\,]++|\\.)++")
_BODY_PART = re.compile(r'(?:[^"\\,]++|\\.|"(?:[^"\\]++|\\.)*+")++')
_KEY_WITH_ESCAPES = re.compile(r"((?:[^\\=]++|\\.)++)=(.+)")
_QUOTED = re.compile(r'"(?:[^"\\]++|\\.)*+"')
# A backslash behind a backslash is no escape of what follows, as in the patterns that split.
_ESCAPED = re.compile(r"(\\\\)|\\([,= ])")
_ESCAPED_TEXT = re.compile(r'\\(["\\])')


_MOST_REMEMBERED = 512
"""Characters of a head; those of agents are half as long, and 65,536 are remembered."""


def _parsed_head(head: str) -> tuple[str, Mapping[str, str]]:
    return _parse_head(head) if len(head) <= _MOST_REMEMBERED else _parse_head.__wrapped__(head)


@lru_cache(maxsize=65536)
def _parse_head(head: str) -> tuple[str, Mapping[str, str]]:
    plain = "\\" not in head
    measurement, *parts = head.split(",") if plain else _split(_HEAD_PART, head)
    if not measurement:
        raise LineError("no measurement")
    tags = {}
    for part in parts:
        key, value = _pair(part)
        tags[_ESCAPED.sub(r"\1\2", key)] = _ESCAPED.sub(r"\1\2", value)
    return _ESCAPED.sub(r"\1\2", measurement), MappingProxyType(tags)


def _split_body(body: str) -> list[str]:
    """Fields of a body; commas inside quoted text do not separate."""
    plain = body.split(",")
    if "\\" not in body and ('"' not in body or all(part.count('"') in (0, 2) for part in plain)):
        return plain
    return _split(_BODY_PART, body)


def _split(part: re.Pattern[str], text: str) -> list[str]:
    """Parts between the commas that separate.

    Raises:
        LineError: nothing stands before, between or behind them.
    """
    parts = part.findall(text)
    if ",".join(parts) != text:
        raise LineError("a comma too many, expected something on both sides of each")
    return parts


def _pair(part: str) -> tuple[str, str]:
    key, equals, value = part.partition("=")
    if key.endswith("\\"):
        match = _KEY_WITH_ESCAPES.fullmatch(part)
        key, value = match.groups() if match else ("", "")
    if not (key and equals and value):
        raise LineError(f"{part!r}, expected key=value")
    return key, value


def _field_value(name: str, text: str) -> Value:
    try:
        value = float(text)
    except ValueError:
        return _other_value(name, text)
    if not math.isfinite(value):
        raise LineError(f"field {name} is {text!r}, expected a finite number or quoted text")
    return value


def _other_value(name: str, text: str) -> Value:
    """Quoted text, a boolean, or an integer as other writers of line protocol mark it."""
    if _QUOTED.fullmatch(text):
        return _ESCAPED_TEXT.sub(r"\1", text[1:-1])
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return float(text[:-1])
    raise LineError(f"field {name} is {text!r}, expected a finite number or quoted text")


_INTEGER = re.compile(r"-?[0-9]{1,20}[iu]")
_BOOLEANS = dict.fromkeys(("t", "T", "true", "True", "TRUE"), 1.0) | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), 0.0
)
