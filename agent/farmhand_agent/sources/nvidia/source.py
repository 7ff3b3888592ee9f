"""NVIDIA cards, read through NVML; what is asked of them stands in `values`."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from ctypes import byref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pynvml

from farmhand_agent.reading import UNIDENTIFIED, Value, fields_of
from farmhand_agent.sources import pci
from farmhand_agent.sources.base import (
    Card,
    CardLost,
    CardUnreadable,
    Enumeration,
    Fields,
    OnCall,
    SourceStale,
    Tell,
)
from farmhand_agent.sources.nvidia.driver import Driver, NotThere, Refused, fault
from farmhand_agent.sources.nvidia.units import Units
from farmhand_agent.sources.nvidia.values import (
    CLUES,
    COUNTERS,
    FAST,
    HARDWARE,
    HARDWARE_THERMAL,
    INFO,
    POWER_BRAKE,
    RARE,
    RATES,
    SENTINELS,
    SHARE_MAX,
    SLOW,
    THROTTLES,
    Call,
    Each,
    FieldIds,
    PerLink,
    Row,
    Throttle,
    Way,
)
from farmhand_agent.sources.nvidia.xids import Xids

_Batch = Mapping[int, Any] | None
"""Answers by field number; None where the driver has no such call."""

_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Member of a field value's union, by its type number."""

_TABLES = {"sample": FAST, "clues": CLUES, "slow": SLOW, "rare": RARE, "info": INFO}
_BLOCKING = frozenset(rate.field for rate in RATES.values())
"""Fields whose rare way blocks; it is not gone where the byte counters give them."""


@dataclass(slots=True)
class _Device:
    """A card as the library knows it, and what was learned about it since it was enumerated."""

    handle: Any
    units: Units
    rows: dict[str, tuple[Row, ...]]
    """What is still asked, by table: neither the ways unknown to the driver nor those refused."""
    counted: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Last value of each counter that is read as a difference, and when (nanoseconds)."""
    reasons: list[int] = field(default_factory=list)
    """What held the clocks back at each sample since the last window."""
    links: int | None = None
    """NVLink links; None before they were counted."""
    mig_mode: Value | None = None
    has_begun: bool = False
    has_changed: bool = False
    is_lost: bool = False
    """Whether the driver called it lost: after a reset it takes another handle."""

    def growth(self, counter: str, value: float | None, now_ns: int) -> float | None:
        """Growth per second since the last call; None without one, and after a reset."""
        before = self.counted.pop(counter, None)
        if value is None:
            return None
        self.counted[counter] = (now_ns, value)
        if before is None or value < before[1] or now_ns <= before[0]:
            return None
        return (value - before[1]) * 1e9 / (now_ns - before[0])


GRANTED = Path("/proc/driver/nvidia/gpus")
"""Where the driver has a directory for each card; a container sees those that were given to it."""


REOPEN_NS = 600 * 10**9
"""How long a connection to the driver is kept although a card in it is lost and answers."""


class _Withheld(NamedTuple):
    """A card of the bus that the driver does not hand out, and what that makes of it."""

    is_lost: bool
    reason: str


class NvidiaSource:
    """Reads all NVIDIA cards that the driver enumerates.

    `on_call` is told of every call; the slot is empty while the card is not known yet. `tell` is
    told of XIDs; without it the driver is not listened to. `clock` is a monotonic clock in
    nanoseconds.
    """

    vendor = "nvidia"

    def __init__(
        self,
        on_call: OnCall,
        tell: Tell | None = None,
        sysfs: Path = Path("/sys"),
        clock: Callable[[], int] = time.monotonic_ns,
        granted: Path = GRANTED,
    ) -> None:
        self._sysfs = sysfs
        self._granted = granted
        self._clock = clock
        self._driver = Driver(on_call)
        self._xids = Xids(self._driver, tell) if tell else None
        self._count = 0
        self._opened_ns = 0
        self._identified: dict[str | int, Card] = {}

    def open(self) -> None:
        """Load the library and connect to the driver.

        Raises:
            NothingHere: there is no library or no driver, or one from before 2019.
            SourceStale: library and driver do not fit, or the driver refuses for now.
        """
        self._identified = {}
        self._driver.open()
        self._opened_ns = self._clock()

    def close(self) -> None:
        """Let go of the library."""
        if self._xids:
            self._xids.close()
        self._driver.close()

    # --- who is there ---

    def cards(self, wanted: Callable[[str], bool]) -> Enumeration:
        """Cards in the slots that are wanted, in the driver's order.

        The bus says which cards there are, so that one that hangs when it is opened is known by
        its slot, and so that one that the driver does not hand out is seen at all. Where the bus
        shows none, as in some virtual machines, the driver's own list is taken. A card is
        identified once: a later enumeration asks only those that did not answer before.

        Raises:
            SourceStale: the driver was replaced or reset.
        """
        count = self._driver.ask("", "nvmlDeviceGetCount")
        if count != self._count:
            self._count, self._identified = count, {}
        self._let_go_of_the_lost()
        addresses = self._addresses()
        if not addresses:
            return self._listed(count, wanted)
        slots = {address: pci.slot_of(address, self._sysfs) for address in addresses}
        chosen = [(address, slot) for address, slot in slots.items() if wanted(slot)]
        cards = [self._identified.get(a) or self._open(a, slot) for a, slot in chosen]
        return Enumeration(cards, list(slots.values()))

    def _let_go_of_the_lost(self) -> None:
        """Ask for another handle of each card that is lost; it may have been reset meanwhile.

        Raises:
            SourceStale: one answers on the bus, and other handles have not helped for long.
        """
        lost = [key for key, card in self._identified.items() if card.handle.is_lost]
        for key in lost:
            del self._identified[key]
        is_old = self._clock() - self._opened_ns > REOPEN_NS
        if is_old and any(pci.answers(str(key), self._sysfs) for key in lost):
            raise SourceStale("a card that the driver calls lost answers on the bus")

    def _addresses(self) -> list[str]:
        """Cards on the bus; in a container only those that were given to it."""
        addresses = pci.devices(self._sysfs)
        try:
            granted = {entry.name for entry in self._granted.iterdir()}
        except OSError:
            return addresses
        return [address for address in addresses if address in granted]

    def _listed(self, count: int, wanted: Callable[[str], bool]) -> Enumeration:
        found = [self._identified.get(index) or self._at(index) for index in range(count)]
        there = [card for card in found if card is not None]
        return Enumeration(
            [card for card in there if wanted(card.slot)], [card.slot for card in there]
        )

    def _at(self, index: int) -> Card | None:
        """Card at a place of the driver's list; None where it does not say where it sits."""
        try:
            handle = self._driver.ask("", "nvmlDeviceGetHandleByIndex", index)
            info = self._driver.ask("", "nvmlDeviceGetPciInfo", handle)
            slot = pci.slot_of(pci.normal_address(info.busId), self._sysfs)
        except (Refused, CardLost, CardUnreadable, ValueError):
            return None
        return self._identify(index, slot, handle)

    def _open(self, address: str, slot: str) -> Card:
        """Card at an address of the bus, whether the driver hands it out or not."""
        try:
            handle = self._driver.ask(slot, "nvmlDeviceGetHandleByPciBusId", address.encode())
        except (Refused, CardLost, CardUnreadable) as error:
            is_lost = isinstance(error, CardLost) or pci.answers(address, self._sysfs) is False
            withheld = _Withheld(is_lost, f"the driver does not hand out the card: {error}")
            return Card(slot, UNIDENTIFIED, self.vendor, "", withheld)
        return self._identify(address, slot, handle)

    def _identify(self, key: str | int, slot: str, handle: Any) -> Card:
        uuid = self._driver.text(slot, "nvmlDeviceGetUUID", handle)
        model = self._driver.text(slot, "nvmlDeviceGetName", handle).removeprefix("NVIDIA ")
        device = _Device(handle, Units(self._driver, slot, handle), self._tables())
        card = Card(slot, uuid or UNIDENTIFIED, self.vendor, model, device)
        if uuid and model:
            self._identified[key] = card
        if self._xids:
            with suppress(CardLost, CardUnreadable):
                self._xids.add(card, handle)
        return card

    def _tables(self) -> dict[str, tuple[Row, ...]]:
        return {name: _known(rows, self._driver.branch) for name, rows in _TABLES.items()}

    # --- what they say ---

    def info(self, card: Card) -> Fields:
        """Fields of `card_info`.

        Raises:
            CardLost, SourceStale: see there.
        """
        card.handle.has_changed = False
        fields: dict[str, Value] = {"mig_instances": 0.0}
        if self._driver.version:
            fields["driver"] = self._driver.version
        fields |= self._read(card, "info")
        address = fields.get("pci_address")
        return {**fields, **(pci.facts(address, self._sysfs) if isinstance(address, str) else {})}

    def sample(self, card: Card) -> Fields:
        """Fast fields of `card`.

        Raises:
            CardLost, CardUnreadable, SourceStale: see there.
        """
        if isinstance(card.handle, _Withheld):
            raise (CardLost if card.handle.is_lost else CardUnreadable)(card.handle.reason)
        try:
            values = self._read(card, "sample")
        except CardLost:
            card.handle.is_lost = True
            raise
        reasons = _number(values.pop("reasons", None))
        if not values:
            raise CardUnreadable("the card gives no value at all")
        if reasons is not None:
            card.handle.reasons.append(int(reasons))
        if not card.handle.has_begun:
            self._begin(card)
        return values

    def _begin(self, card: Card) -> None:
        """Take the first look at what is read as a difference."""
        card.handle.has_begun = True
        card.handle.units.begin()
        self._growths(card)

    def slow(self, card: Card) -> Fields:
        """Fields of `card` that are dear or rarely change, and shares of the time since the last.

        Raises:
            CardLost, CardUnreadable, SourceStale: see there.
        """
        values = self._read(card, "slow")
        values |= self._throttles(card)
        for counter, rate in RATES.items():
            growth = card.handle.growth(counter, _number(values.pop(counter, None)), self._clock())
            value = None if growth is None else rate.value(growth)
            if value is not None:
                values[rate.field] = value
        self._note_mig(card.handle, values.pop("mig_mode", None))
        return {**values, **card.handle.units.read()}

    def rare(self, card: Card) -> Fields:
        """Fields of `card` that are dearest.

        Raises:
            CardLost, SourceStale: see there.
        """
        device = card.handle
        if _gives(device.rows["slow"], RATES):
            device.rows["rare"] = tuple(
                r for r in device.rows["rare"] if not _gives([r], _BLOCKING)
            )
        return self._read(card, "rare")

    def has_changed(self, card: Card) -> bool:
        """Whether the card was cut into instances, or put together again."""
        return bool(card.handle.has_changed)

    def lacks(self, card: Card) -> Sequence[str]:
        """Fields that this card, with this driver, does not give; in the contract's order."""
        rows = card.handle.rows
        lacking = set[str]()
        for name, table in _TABLES.items():
            lacking |= _names(table) - _names(rows[name])
        lacking -= _BLOCKING if _gives(rows["slow"], RATES) else set()
        if not card.handle.units.supported:
            lacking |= Units.FIELDS
        return [n for n in (*fields_of("card"), *fields_of("card_info")) if n in lacking]

    def _note_mig(self, device: _Device, mode: Value | None) -> None:
        """Ask everything anew once the card's instances are made or dissolved."""
        if device.mig_mode is not None and mode is not None and mode != device.mig_mode:
            device.rows = self._tables()
            device.units = device.units.anew()
            device.has_begun, device.has_changed = False, True
        device.mig_mode = mode if mode is not None else device.mig_mode

    # --- asking ---

    def _read(self, card: Card, table: str) -> dict[str, Value]:
        rows = card.handle.rows[table]
        batch = self._batch(card, [row.ways[0] for row in rows])
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
            except Refused:
                row = row._replace(ways=row.ways[1:])
            except CardUnreadable:
                if row.core:
                    raise
                break
        return row, ()

    def _answer(self, card: Card, way: Way, batch: _Batch) -> tuple[Any, ...]:
        match way:
            case Call():
                return way.take(self._called(card, way))
            case FieldIds():
                return _field_sum(way, batch)
            case PerLink():
                return (sum(self._per_link(card, way.asked)),)
            case Each():
                return way.join(self._each(card, way))

    def _called(self, card: Card, way: Call) -> Any:
        handle = card.handle.handle
        if way.filled is None:
            return self._driver.ask(card.slot, way.name, handle, *way.arguments)
        structure = way.filled()
        self._driver.ask(card.slot, way.name, handle, byref(structure))
        return structure

    def _each(self, card: Card, way: Each) -> list[Any]:
        answers = []
        for index in range(self._driver.ask(card.slot, way.counted_by, card.handle.handle)):
            with suppress(NotThere):
                answers.append(self._driver.ask(card.slot, way.name, card.handle.handle, index))
        return answers

    def _per_link(self, card: Card, asked: int | str) -> list[Any]:
        """What each link answers; a link that is not there answers nothing."""
        answers = []
        for link in range(self._links(card)):
            with suppress(Refused):
                if isinstance(asked, int):
                    answers.append(self._field(card, asked, link))
                else:
                    answers.append(self._driver.ask(card.slot, asked, card.handle.handle, link))
        if not answers:
            raise Refused("no link answers")
        return answers

    def _links(self, card: Card) -> int:
        if card.handle.links is None:
            count = self._field(card, pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT, 0)
            card.handle.links = count if count not in SENTINELS else 0
        return int(card.handle.links)

    def _field(self, card: Card, number: int, scope: int) -> Any:
        (answer,) = self._fields(card, [(number, scope)])
        return _field_value(number, answer)

    def _fields(self, card: Card, ids: list[tuple[int, int]]) -> Any:
        return self._driver.ask(card.slot, "nvmlDeviceGetFieldValues", card.handle.handle, ids)

    def _batch(self, card: Card, ways: Iterable[Way]) -> _Batch:
        """Values of all fields among the ways, by field number, asked for in one call."""
        # Pairs with a scope: the binding takes bare numbers by way of an exception for each.
        ids = [(number, 0) for way in ways if isinstance(way, FieldIds) for number in way.ids]
        if not ids:
            return {}
        try:
            answers = self._fields(card, ids)
        except Refused:
            return None
        except CardUnreadable:
            return {}
        return {number: answer for (number, _), answer in zip(ids, answers, strict=True)}

    def _throttles(self, card: Card) -> dict[str, Value]:
        shares = {name: None if g is None else g / 1e9 for name, g in self._growths(card).items()}
        reasons, card.handle.reasons = card.handle.reasons, []
        ratios = {t.field: _throttle_ratio(t, reasons, shares) for t in THROTTLES}
        return {name: ratio for name, ratio in ratios.items() if ratio is not None}

    def _growths(self, card: Card) -> dict[str, float | None]:
        """Growth per second of each time counter since the last call."""
        values, now_ns = self._read(card, "clues"), self._clock()
        growth = card.handle.growth
        return {name: growth(name, _number(values.get(name)), now_ns) for name in COUNTERS}


def _known(rows: Iterable[Row], branch: int) -> tuple[Row, ...]:
    """Rows with the ways that drivers of a branch know."""
    known = (
        row._replace(ways=tuple(way for way in row.ways if way.since <= branch < way.before))
        for row in rows
    )
    return tuple(row for row in known if row.ways)


def _names(rows: Iterable[Row]) -> set[str]:
    return {given.field for row in rows for given in row.gives}


def _gives(rows: Iterable[Row], names: Iterable[str]) -> bool:
    return not _names(rows).isdisjoint(names)


def _field_sum(way: FieldIds, batch: _Batch) -> tuple[Any, ...]:
    """Sum of the way's fields; nothing where one of them was not told this time.

    Raises:
        CardLost, CardUnreadable, SourceStale, Refused: what the card said of one of the fields.
    """
    if batch is None:
        raise Refused("the driver has no field values")
    values = [_field_value(number, batch[number]) for number in way.ids if number in batch]
    told = [value for value in values if value not in SENTINELS]
    return (sum(told),) if len(told) == len(way.ids) else ()


def _field_value(number: int, answer: Any) -> Any:
    code = answer.nvmlReturn
    if code != pynvml.NVML_SUCCESS:
        raise fault(f"field {number}", code)
    return getattr(answer.value, _MEMBERS[answer.valueType])


def _number(value: Value | None) -> float | None:
    return value if isinstance(value, float) else None


def _throttle_ratio(
    throttle: Throttle, reasons: Sequence[int], shares: Mapping[str, float | None]
) -> float | None:
    """Share of the time since the last window; where it is not counted, share of the samples."""
    counted = [shares[name] for name in throttle.counters]
    sure = [share for share in counted if share is not None]
    if len(sure) < len(counted):
        return _share(reasons, lambda now: bool(now & throttle.reasons))
    if sum(sure) > SHARE_MAX:
        return None
    uncounted = _share(reasons, _uncounted_slowdown) if throttle.reasons & HARDWARE else None
    return min(max(sum(sure), uncounted or 0.0), 1.0)


def _share(reasons: Sequence[int], is_on: Callable[[int], bool]) -> float | None:
    """Share of samples; None without one."""
    return sum(map(is_on, reasons)) / len(reasons) if reasons else None


def _uncounted_slowdown(now: int) -> bool:
    """Whether a hardware slowdown is on that no time counter covers."""
    return bool(now & HARDWARE) and not now & (HARDWARE_THERMAL | POWER_BRAKE)
