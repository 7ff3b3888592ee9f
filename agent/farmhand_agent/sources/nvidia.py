"""NVIDIA cards, read through NVML; what is asked of them stands in `nvidia_values`."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pynvml

from farmhand_agent.reading import UNIDENTIFIED, Value, clean, fields_of
from farmhand_agent.sources.base import (
    Card,
    CardLost,
    CardUnreadable,
    Fields,
    NothingHere,
    OnCall,
    SourceStale,
)
from farmhand_agent.sources.nvidia_values import (
    CLUES,
    COUNTERS,
    FAST,
    HARDWARE,
    HARDWARE_THERMAL,
    INFO,
    POWER_BRAKE,
    RATES,
    SENTINELS,
    SHARE_MAX,
    SLOW,
    THROTTLES,
    Call,
    Each,
    FieldIds,
    Row,
    Throttle,
    Way,
)
from farmhand_agent.sources.pci import normal_address, slot_of

# --- faults --------------------------------------------------------------------------------------

_NOTHING = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver library on this machine",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "the NVIDIA driver library is too old or not one",
}
_STALE = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
_LOST = frozenset(
    {
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_GPU_NOT_FOUND,
    }
)
_REFUSED = frozenset(
    {
        pynvml.NVML_ERROR_INVALID_ARGUMENT,
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    }
)


class _Refused(Exception):
    """The card will not give this value, however often it is asked."""


class _NotThere(_Refused):
    """What was asked for by its place is not there now."""


def _fault(call: str, code: int) -> Exception:
    """Outcome of a call by its return code."""
    told = f"{call} returned {code}"
    if code in _STALE:
        return SourceStale(told)
    if code in _LOST:
        return CardLost(told)
    if code == pynvml.NVML_ERROR_NOT_FOUND:
        return _NotThere(told)
    return _Refused(told) if code in _REFUSED else CardUnreadable(told)


# --- the source ----------------------------------------------------------------------------------

_Batch = Mapping[int, Any] | None
"""Answers by field number; None where the driver has no such call."""

_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Member of a field value's union, by its type number."""

_CONTRACT = frozenset(fields_of("card"))
_TABLES = {"sample": (*FAST, *CLUES), "slow": SLOW, "info": INFO}


@dataclass(slots=True)
class _Device:
    """A card as the library knows it, and what was learned about it since it was enumerated."""

    handle: Any
    rows: dict[str, tuple[Row, ...]]
    """What is still asked, by table: neither the ways unknown to the driver nor those refused."""
    counted: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Last value of each counter that is read as a difference, and when (nanoseconds)."""

    def growth(self, counter: str, value: float | None, now_ns: int) -> float | None:
        """Growth per second since the last call; None without one, and after a reset."""
        before = self.counted.pop(counter, None)
        if value is None:
            return None
        self.counted[counter] = (now_ns, value)
        if before is None or value < before[1] or now_ns <= before[0]:
            return None
        return (value - before[1]) * 1e9 / (now_ns - before[0])


class NvidiaSource:
    """Reads all NVIDIA cards that the driver enumerates.

    `on_call` is told of every call; the slot is empty while the card is not known yet. `clock` is
    a monotonic clock in nanoseconds.
    """

    vendor = "nvidia"

    def __init__(
        self,
        on_call: OnCall,
        sysfs: Path = Path("/sys"),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._on_call = on_call
        self._sysfs = sysfs
        self._clock = clock
        self._driver = ""
        self._branch = 0
        self._count = 0
        self._identified: dict[int, Card] = {}

    def open(self) -> None:
        """Load the library and connect to the driver.

        Raises:
            NothingHere: there is no library or no driver, or one from before 2019.
            SourceStale: library and driver do not fit, or the driver refuses for now.
        """
        self._identified = {}
        try:
            self._call("", "nvmlInit")
        except pynvml.NVMLError as error:
            if error.value in _NOTHING:
                raise NothingHere(_NOTHING[error.value]) from None
            raise SourceStale(f"nvmlInit returned {error.value}") from None
        self._driver = self._text("", "nvmlSystemGetDriverVersion")
        branch = self._driver.partition(".")[0]
        self._branch = int(branch) if branch.isdecimal() else 0

    def close(self) -> None:
        """Let go of the library."""
        with suppress(pynvml.NVMLError):
            self._call("", "nvmlShutdown")

    def cards(self) -> list[Card]:
        """Cards that the driver enumerates and that say where they sit, in its order.

        A card is identified once: a later enumeration asks only those that did not answer before,
        so that it does not wait for a card that hangs.

        Raises:
            SourceStale: the driver was replaced or reset.
        """
        count = self._ask("", "nvmlDeviceGetCount")
        if count != self._count:
            self._count, self._identified = count, {}
        found = [self._identified.get(index) or self._identify(index) for index in range(count)]
        return [card for card in found if card is not None]

    def info(self, card: Card) -> Fields:
        """Fields of `card_info`.

        Raises:
            CardLost, SourceStale: see there.
        """
        fields: dict[str, Value] = {"mig_instances": 0.0}
        if self._driver:
            fields["driver"] = self._driver
        return fields | self._read(card, "info")

    def sample(self, card: Card) -> Fields:
        """Fast fields of `card`.

        Raises:
            CardLost, CardUnreadable, SourceStale: see there.
        """
        values = self._read(card, "sample")
        fields = {name: value for name, value in values.items() if name in _CONTRACT}
        if not fields:
            raise CardUnreadable("the card gives no value at all")
        return fields | self._throttles(card.handle, values)

    def slow(self, card: Card) -> Fields:
        """Fields of `card` that are dear or rarely change.

        Raises:
            CardLost, SourceStale: see there.
        """
        values = self._read(card, "slow")
        for counter, rate in RATES.items():
            growth = card.handle.growth(counter, _number(values.pop(counter, None)), self._clock())
            value = None if growth is None else rate.value(growth)
            if value is not None:
                values[rate.field] = value
        return values

    def _call(self, slot: str, name: str, *arguments: Any) -> Any:
        """Call the library; nothing else here does."""
        self._on_call(slot, name)
        return getattr(pynvml, name)(*arguments)

    def _ask(self, slot: str, name: str, *arguments: Any) -> Any:
        try:
            return self._call(slot, name, *arguments)
        except pynvml.NVMLError as error:
            raise _fault(name, error.value) from None
        except UnicodeDecodeError:
            raise _Refused(f"{name} returned bytes that are no text") from None

    def _text(self, slot: str, name: str, *arguments: Any) -> str:
        """Answer as text; empty where there is none."""
        try:
            return clean(self._ask(slot, name, *arguments))
        except (_Refused, CardLost, CardUnreadable):
            return ""

    def _identify(self, index: int) -> Card | None:
        try:
            handle = self._ask("", "nvmlDeviceGetHandleByIndex", index)
            info = self._ask("", "nvmlDeviceGetPciInfo", handle)
            slot = slot_of(normal_address(info.busId), self._sysfs)
        except (_Refused, CardLost, CardUnreadable, ValueError):
            return None
        uuid = self._text(slot, "nvmlDeviceGetUUID", handle)
        model = self._text(slot, "nvmlDeviceGetName", handle).removeprefix("NVIDIA ")
        card = Card(slot, uuid or UNIDENTIFIED, self.vendor, model, self._device(handle))
        if uuid and model:
            self._identified[index] = card
        return card

    def _device(self, handle: Any) -> _Device:
        tables = {name: _known(rows, self._branch) for name, rows in _TABLES.items()}
        return _Device(handle, tables)

    def _read(self, card: Card, table: str) -> dict[str, Value]:
        rows = card.handle.rows[table]
        batch = self._batch(card, rows)
        values: dict[str, Value] = {}
        live = []
        for asked in rows:
            row, answers = self._row(card, asked, batch)
            live.append(row)
            for given, raw in zip(row.gives, answers, strict=False):
                value = given.value(raw)
                if value is not None:
                    values[given.field] = value
        card.handle.rows[table] = tuple(row for row in live if row.ways)
        return values

    def _row(self, card: Card, row: Row, batch: _Batch) -> tuple[Row, tuple[Any, ...]]:
        """Row without the ways that the card refuses, and the raw answers of the best left."""
        while row.ways:
            try:
                return row, self._answer(card, row.ways[0], batch)
            except _Refused:
                row = row._replace(ways=row.ways[1:])
            except CardUnreadable:
                if row.core:
                    raise
                break
        return row, ()

    def _answer(self, card: Card, way: Way, batch: _Batch) -> tuple[Any, ...]:
        match way:
            case Call():
                return way.take(self._ask(card.slot, way.name, card.handle.handle, *way.arguments))
            case FieldIds():
                return _field_sum(way, batch)
            case Each():
                return way.join(self._each(card, way))

    def _each(self, card: Card, way: Each) -> list[Any]:
        answers = []
        for index in range(self._ask(card.slot, way.counted_by, card.handle.handle)):
            with suppress(_NotThere):
                answers.append(self._ask(card.slot, way.name, card.handle.handle, index))
        return answers

    def _batch(self, card: Card, rows: Iterable[Row]) -> _Batch:
        """Values of all fields that rows begin with, by field number, asked for in one call."""
        first = [row.ways[0] for row in rows]
        # Pairs with a scope: the binding takes bare numbers by way of an exception for each.
        ids = [(number, 0) for way in first if isinstance(way, FieldIds) for number in way.ids]
        if not ids:
            return {}
        try:
            answers = self._ask(card.slot, "nvmlDeviceGetFieldValues", card.handle.handle, ids)
        except _Refused:
            return None
        except CardUnreadable:
            return {}
        return {number: answer for (number, _), answer in zip(ids, answers, strict=True)}

    def _throttles(self, device: _Device, values: Mapping[str, Value]) -> dict[str, Value]:
        now_ns = self._clock()
        growths = {
            name: device.growth(name, _number(values.get(name)), now_ns) for name in COUNTERS
        }
        shares = {name: None if g is None else g / 1e9 for name, g in growths.items()}
        reasons = _number(values.get("reasons"))
        ratios = {t.field: _throttle_ratio(t, reasons, shares) for t in THROTTLES}
        return {name: ratio for name, ratio in ratios.items() if ratio is not None}


def _known(rows: Iterable[Row], branch: int) -> tuple[Row, ...]:
    """Rows with the ways that drivers of a branch know."""
    known = (
        row._replace(ways=tuple(way for way in row.ways if way.since <= branch < way.before))
        for row in rows
    )
    return tuple(row for row in known if row.ways)


def _field_sum(way: FieldIds, batch: _Batch) -> tuple[Any, ...]:
    """Sum of the way's fields; nothing where one of them was not told this time.

    Raises:
        CardLost, CardUnreadable, SourceStale, _Refused: what the card said of one of the fields.
    """
    if batch is None:
        raise _Refused("the driver has no field values")
    values = [_field_value(number, batch[number]) for number in way.ids if number in batch]
    told = [value for value in values if value not in SENTINELS]
    return (sum(told),) if len(told) == len(way.ids) else ()


def _field_value(number: int, answer: Any) -> Any:
    code = answer.nvmlReturn
    if code != pynvml.NVML_SUCCESS:
        raise _fault(f"field {number}", code)
    return getattr(answer.value, _MEMBERS[answer.valueType])


def _number(value: Value | None) -> float | None:
    return value if isinstance(value, float) else None


def _throttle_ratio(
    throttle: Throttle, reasons: float | None, shares: Mapping[str, float | None]
) -> float | None:
    """Share of the time since the last sample; where it is not counted, 0 or 1 for this moment."""
    counted = [shares[name] for name in throttle.counters]
    sure = [share for share in counted if share is not None]
    if len(sure) < len(counted):
        return None if reasons is None else float(bool(int(reasons) & throttle.reasons))
    if throttle.reasons & HARDWARE and _uncounted_slowdown(reasons):
        return 1.0
    return min(sum(sure), 1.0) if sum(sure) <= SHARE_MAX else None


def _uncounted_slowdown(reasons: float | None) -> bool:
    """Whether a hardware slowdown is on that no time counter covers."""
    now = int(reasons or 0)
    return bool(now & HARDWARE) and not now & (HARDWARE_THERMAL | POWER_BRAKE)
