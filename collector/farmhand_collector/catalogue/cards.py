"""Card models: what a card of a name is made to give, and what of it a healthy one reaches.

A card is found by what it shows of itself. Names are shared by different cards, and some lie:
reworked boards keep the name of the board they were, the lock of a mining card is invisible, and
a foreign VBIOS brings a foreign name. So `match` says not only the model but how sure it is.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from farmhand_agent.reading import Value

MIB = 2.0**20

SAME_MEMORY_RATIO = 0.03
"""Drivers report one memory size up to 3 % apart."""
ECC_RATIO = 15 / 16
"""ECC on boards with GDDR memory takes a sixteenth."""
SAME_CLOCK_RATIO = 0.02
"""Memory clocks of one kind of memory; of two kinds under one name they are 4 % apart or more."""
UNLOCKED_RATIO = 5.0
"""A mining card that computes five times what a locked one can is not locked."""
UNLOCKED_SHARE = 1 / 3
"""The same where nobody measured a locked one: five times the weakest known lock is 28 %."""
CUBE_FLOPS_PER_CLOCK = 8192
"""An Ascend AI core: 16 x 16 x 16 multiply-adds a clock."""
REFERENCE_NAME = "A100 SXM4 80GB"
"""The model whose capacity is one A100 equivalent in each component."""

NVIDIA, HUAWEI = "nvidia", "huawei"
Confidence = Literal["high", "medium", "low", "computed"]


class CardModel(msgspec.Struct, frozen=True, kw_only=True):
    """What cards of one kind are made to be; None where nobody knows.

    `reported_name` is the driver's name without the maker's prefix, empty where it was never read.
    `memory_clock_max_mhz` is the driver's figure, a half or a quarter of the data rate. Compute is
    dense at the rated boost clock, tensor figures with accumulation in 32 bits. `locked` is
    whether the maker's limit on a mining card's compute is in force, None where that is not known.
    `reworked` boards are not as their maker made them: other memory or another card's VBIOS. Where
    `units_per_module` is above 1, that many such cards share a module, its power and its sensors.
    """

    name: str
    vendor: str
    confidence: Confidence
    source: str
    reported_name: str = ""
    architecture: str = ""
    memory_type: str = ""
    memory_bytes: float | None = None
    memory_bus_bits: float | None = None
    memory_bandwidth_bytes_per_second: float | None = None
    memory_clock_max_mhz: float | None = None
    fp32_flops: float | None = None
    fp16_tensor_flops: float | None = None
    board_power_watts: float | None = None
    boost_clock_mhz: float | None = None
    pcie_generation: int | None = None
    pcie_lanes: int | None = None
    slowdown_temperature_celsius: float | None = None
    has_ecc: bool = False
    locked: bool | None = False
    reworked: bool = False
    units_per_module: int = 1
    device_ids: frozenset[str] = frozenset()
    fraction_class: str = "other"
    notes: str = ""

    @property
    def link_bytes_per_second(self) -> float | None:
        """Line rate of the widest link in one direction, encoding taken off."""
        if self.pcie_generation is None or self.pcie_lanes is None:
            return None
        lane = PCIE_LANE_BYTES_PER_SECOND.get(self.pcie_generation)
        return None if lane is None else lane * self.pcie_lanes


PCIE_LANE_BYTES_PER_SECOND: Mapping[int, float] = MappingProxyType(
    {
        1: 2.5e9 * 8 / 10 / 8,
        2: 5e9 * 8 / 10 / 8,
        3: 8e9 * 128 / 130 / 8,
        4: 16e9 * 128 / 130 / 8,
        5: 32e9 * 128 / 130 / 8,
    }
)
"""Line rate of one lane in one direction by generation, encoding taken off."""


# --- the table -----------------------------------------------------------------------------------


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    """One line of `cards.csv`, in the units of data sheets."""

    vendor: Literal["NVIDIA", "Huawei"]
    canonical_name: str
    architecture: str
    units_per_module: int
    reworked: Literal["yes", "no"]
    locked: Literal["yes", "no", "unknown"]
    memory_type: str
    fraction_class: str
    source: str
    confidence: Confidence
    name_match: str = ""
    other_names: str = ""
    compute_capability: str = ""
    device_ids: str = ""
    memory_mib: float | None = None
    memory_bus_bits: float | None = None
    memory_bandwidth_gbs: float | None = None
    fp32_tflops: float | None = None
    fp16_tensor_tflops_dense_fp32acc: float | None = None
    bf16_tensor_tflops_dense: float | None = None
    int8_tops_dense: float | None = None
    board_power_w: float | None = None
    boost_clock_mhz: float | None = None
    max_mem_clock_mhz_nvml: float | None = None
    pcie_gen: int | None = None
    pcie_lanes: int | None = None
    nvlink_gbs: float | None = None
    slowdown_temp_c: float | None = None
    memory_temp_available_nvml: Literal["yes", "no"] | None = None
    ecc: Literal["yes", "no", "optional"] = "no"
    notes: str = ""

    @property
    def names(self) -> list[str]:
        """Every name that drivers give such a card."""
        return [name for name in (self.name_match, *self.other_names.split("|")) if name]


def _lines(name: str) -> Iterator[dict[str, str]]:
    """Lines of a table of this package without their empty cells."""
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    for line in csv.DictReader(text.splitlines()):
        yield {column: cell for column, cell in line.items() if cell}


@cache
def _rows() -> tuple[_Row, ...]:
    return tuple(msgspec.convert(line, _Row, strict=False) for line in _lines("cards.csv"))


@cache
def card_models() -> tuple[CardModel, ...]:
    """All models of the table, in its order: as made before reworked, locked before unlocked."""
    return tuple(map(_model, _rows()))


def _model(row: _Row) -> CardModel:
    return CardModel(
        name=row.canonical_name,
        reported_name=row.name_match.removeprefix("NVIDIA "),
        vendor=row.vendor.lower(),
        architecture=row.architecture,
        memory_type=row.memory_type,
        memory_bytes=_scaled(row.memory_mib, MIB),
        memory_bus_bits=row.memory_bus_bits,
        memory_bandwidth_bytes_per_second=_scaled(row.memory_bandwidth_gbs, 1e9),
        memory_clock_max_mhz=row.max_mem_clock_mhz_nvml,
        fp32_flops=_scaled(row.fp32_tflops, 1e12),
        fp16_tensor_flops=_scaled(row.fp16_tensor_tflops_dense_fp32acc, 1e12),
        board_power_watts=row.board_power_w,
        boost_clock_mhz=row.boost_clock_mhz,
        pcie_generation=row.pcie_gen,
        pcie_lanes=row.pcie_lanes,
        slowdown_temperature_celsius=row.slowdown_temp_c,
        has_ecc=row.ecc != "no",
        locked=None if row.locked == "unknown" else row.locked == "yes",
        reworked=row.reworked == "yes",
        units_per_module=row.units_per_module,
        device_ids=frozenset(row.device_ids.split()),
        fraction_class=row.fraction_class,
        confidence=row.confidence,
        source=row.source,
        notes=row.notes,
    )


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value * unit


@cache
def memory_bytes_by_model() -> Mapping[str, tuple[float, ...]]:
    """Memory sizes in bytes that cards of each model name are made or reworked with, ascending.

    Names are as the model tag has them, without the maker's prefix. Rows without a size or a name
    say nothing here.
    """
    sizes: dict[str, set[float]] = defaultdict(set)
    for model in card_models():
        if model.reported_name and model.memory_bytes:
            sizes[model.reported_name].add(model.memory_bytes)
    return {name: tuple(sorted(known)) for name, known in sizes.items()}


# --- matching ------------------------------------------------------------------------------------


class Shown(NamedTuple):
    """What a card shows of itself; None where it does not tell.

    Fields of `card_info`, but for `vendor`, which is its tag, and `fp32_flops`, which a probe
    measured.
    """

    name: str
    memory_total_bytes: float | None = None
    memory_clock_max_mhz: float | None = None
    memory_bus_bits: float | None = None
    device_id: str | None = None
    core_count: float | None = None
    core_clock_max_mhz: float | None = None
    power_limit_default_watts: float | None = None
    pcie_generation_max: float | None = None
    pcie_width_max: float | None = None
    temperature_slowdown_celsius: float | None = None
    vendor: str = NVIDIA
    fp32_flops: float | None = None

    @classmethod
    def of(cls, vendor: str, info: Mapping[str, Value], fp32_flops: float | None = None) -> "Shown":
        """What a `card_info` reading shows, and what a probe measured."""
        numbers = {
            name: value
            for name, value in info.items()
            if name in _SHOWN_NUMBERS and isinstance(value, float)
        }
        device_id = info.get("device_id")
        return cls(
            name=str(info.get("name", "")),
            device_id=device_id if isinstance(device_id, str) else None,
            vendor=vendor,
            fp32_flops=fp32_flops,
            **numbers,
        )


_SHOWN_NUMBERS = frozenset(Shown._fields) - {"name", "device_id", "vendor", "fp32_flops"}


class How(StrEnum):
    """How a card was matched, that is, how far to trust it."""

    EXACT = "exact"
    """Name and memory fit one model."""
    MEMORY_CLOCK = "memory-clock"
    """Several of that name and memory; the memory clock decided."""
    MEMORY_BUS = "memory-bus"
    """Several of that name and memory; the width of the memory bus decided."""
    DEVICE_ID = "device-id"
    """Several of that name and memory; the device id decided."""
    LOCK_ASSUMED = "lock-assumed"
    """A mining card that was not measured: taken for locked; the other model is an alternative."""
    LOCK_MEASURED = "lock-measured"
    """A mining card; what a probe measured decided."""
    NAME_ALONE = "name-alone"
    """The memory is not known, of the card or of the model."""
    MEMORY_ODD = "memory-odd"
    """No model of that name has such a memory: lost chips, or a rework that nobody listed."""
    AMBIGUOUS = "ambiguous"
    """Nothing tells the model from its alternatives; it is the one listed first."""
    ID_ALONE = "id-alone"
    """The name is not listed; the device id is. The memory may not fit."""
    ID_AGAINST_NAME = "id-against-name"
    """The device id belongs to a model of another name: the id is fused, the name is not.

    The model is of the id, and its memory may not fit.
    """
    COMPUTED = "computed"
    """Not listed: figures are computed from what the card shows."""


class Match(NamedTuple):
    """The model of a card, how it was found, and what else the card may be."""

    model: CardModel
    how: How
    alternatives: tuple[CardModel, ...] = ()


class _Index(NamedTuple):
    by_name: Mapping[str, tuple[CardModel, ...]]
    by_device_id: Mapping[str, tuple[CardModel, ...]]


def match(shown: Shown) -> Match | None:
    """The listed model of a card; None where neither its name nor its device id is listed."""
    index = _index()
    named = index.by_name.get(_key(shown.name), ())
    told = index.by_device_id.get(shown.device_id.lower(), ()) if shown.device_id else ()
    if not named:
        return _choose(told, shown, How.ID_ALONE) if told else None
    if told and not any(_has_device_id(model, shown) for model in named):
        return _choose(told, shown, How.ID_AGAINST_NAME)
    return _choose(named, shown, How.EXACT)


def expectation(shown: Shown) -> Match:
    """The model that a card is held against: the listed one, else one computed from the card.

    An Ascend tells the factors of its compute, bins and clocks included, so these replace the
    figure of the table.
    """
    found = match(shown)
    if found is None:
        return Match(computed(shown), How.COMPUTED)
    told = ascend_fp16_flops(shown) if found.model.vendor == HUAWEI else None
    if told is None:
        return found
    return found._replace(model=msgspec.structs.replace(found.model, fp16_tensor_flops=told))


@cache
def _index() -> _Index:
    by_name: dict[str, list[CardModel]] = defaultdict(list)
    by_device_id: dict[str, list[CardModel]] = defaultdict(list)
    aliases: dict[str, CardModel] = {}
    for row, model in zip(_rows(), card_models(), strict=True):
        for name in row.names:
            aliases.update(dict.fromkeys(_aliases(name, model.vendor), model))
            by_name[_key(name)].append(model)
        for device_id in model.device_ids:
            by_device_id[device_id].append(model)
    names = {alias: (model,) for alias, model in aliases.items()} | _frozen(by_name)
    return _Index(names, _frozen(by_device_id))


def _frozen(models: Mapping[str, Iterable[CardModel]]) -> dict[str, tuple[CardModel, ...]]:
    return {key: tuple(some) for key, some in models.items()}


def _key(name: str) -> str:
    """A name as it is looked up: drivers before R470 leave the maker's prefix out."""
    return name.removeprefix("NVIDIA ")


def _aliases(name: str, vendor: str) -> tuple[str, ...]:
    """Ways in which tools write a chip's name in full; a real name goes before them."""
    return (f"Ascend{name}", f"Ascend {name}") if vendor == HUAWEI else ()


def _choose(models: tuple[CardModel, ...], shown: Shown, origin: How) -> Match:
    """The model that fits best; `origin` says how the candidates were found."""
    fits, odd = _by_memory(models, shown.memory_total_bytes)
    fits, decided = _narrowed(fits, shown)
    others = fits
    if odd is How.MEMORY_ODD:
        fits, others = _holding(fits, shown.memory_total_bytes or 0.0), models
    best, unsure = _by_lock(fits, shown.fp32_flops)
    how = odd or unsure or decided or How.EXACT
    alternatives = tuple(model for model in others if model is not best)
    return Match(best, how if origin is How.EXACT else origin, alternatives)


def _by_memory(
    models: tuple[CardModel, ...], size: float | None
) -> tuple[tuple[CardModel, ...], How | None]:
    if size is None or all(model.memory_bytes is None for model in models):
        return models, How.NAME_ALONE if len(models) == 1 else None
    fits = tuple(model for model in models if _has_memory(model, size))
    return (fits, None) if fits else (models, How.MEMORY_ODD)


def _has_memory(model: CardModel, size: float) -> bool:
    if not model.memory_bytes:
        return False
    ratio = size / model.memory_bytes
    if abs(ratio - 1) <= SAME_MEMORY_RATIO:
        return True
    if not model.has_ecc or "GDDR" not in model.memory_type:
        return False
    return any(abs(ratio / taken - 1) <= SAME_MEMORY_RATIO for taken in (ECC_RATIO, 1 / ECC_RATIO))


def _holding(models: tuple[CardModel, ...], size: float) -> tuple[CardModel, ...]:
    """Models of the smallest memory that would hold the one shown, else of the largest."""
    made = sorted({model.memory_bytes or 0.0 for model in models})
    chosen = next((memory for memory in made if memory >= size), made[-1])
    return tuple(model for model in models if (model.memory_bytes or 0.0) == chosen)


def _has_memory_clock(model: CardModel, shown: Shown) -> bool:
    if not model.memory_clock_max_mhz or not shown.memory_clock_max_mhz:
        return False
    return abs(shown.memory_clock_max_mhz / model.memory_clock_max_mhz - 1) <= SAME_CLOCK_RATIO


def _has_memory_bus(model: CardModel, shown: Shown) -> bool:
    return model.memory_bus_bits is not None and model.memory_bus_bits == shown.memory_bus_bits


def _has_device_id(model: CardModel, shown: Shown) -> bool:
    return shown.device_id is not None and shown.device_id.lower() in model.device_ids


_SIGNS: tuple[tuple[How, Callable[[CardModel, Shown], bool]], ...] = (
    (How.MEMORY_CLOCK, _has_memory_clock),
    (How.MEMORY_BUS, _has_memory_bus),
    (How.DEVICE_ID, _has_device_id),
)


def _narrowed(
    models: tuple[CardModel, ...], shown: Shown
) -> tuple[tuple[CardModel, ...], How | None]:
    """Models that also fit the next sign, sign by sign, as long as some do; what decided."""
    decided = None
    for how, has in _SIGNS:
        if len(models) > 1:
            kept = tuple(model for model in models if has(model, shown))
            if 0 < len(kept) < len(models):
                models, decided = kept, how
    return models, decided


def _is_lock_pair(models: tuple[CardModel, ...]) -> bool:
    return len(models) == 2 and models[0].locked is True and models[1].locked is False


def _by_lock(
    models: tuple[CardModel, ...], fp32_flops: float | None
) -> tuple[CardModel, How | None]:
    """The model that a card is taken for, and why where it is not the only one."""
    if len(models) == 1:
        return models[0], None
    if not _is_lock_pair(models):
        return models[0], How.AMBIGUOUS
    locked, unlocked = models
    if fp32_flops is None:
        return locked, How.LOCK_ASSUMED
    return unlocked if fp32_flops >= _unlocked_flops(*models) else locked, How.LOCK_MEASURED


def _unlocked_flops(locked: CardModel, unlocked: CardModel) -> float:
    """Measured fp32 from which a mining card counts as unlocked."""
    if locked.fp32_flops is not None:
        return UNLOCKED_RATIO * locked.fp32_flops
    return UNLOCKED_SHARE * (unlocked.fp32_flops or float("inf"))


# --- cards that are not listed -------------------------------------------------------------------


def computed(shown: Shown) -> CardModel:
    """A model made of what the card shows of itself; what that does not tell is None.

    The core clock is the highest that the driver would set, so compute is an upper bound.
    """
    is_nvidia, is_ascend = shown.vendor == NVIDIA, shown.vendor == HUAWEI
    name = shown.name.removeprefix("NVIDIA ")
    return CardModel(
        name=name,
        reported_name=name,
        vendor=shown.vendor,
        memory_bytes=shown.memory_total_bytes,
        memory_bus_bits=shown.memory_bus_bits,
        memory_bandwidth_bytes_per_second=memory_bandwidth(shown) if is_nvidia else None,
        memory_clock_max_mhz=shown.memory_clock_max_mhz,
        fp32_flops=nvidia_fp32_flops(shown) if is_nvidia else None,
        fp16_tensor_flops=ascend_fp16_flops(shown) if is_ascend else None,
        board_power_watts=shown.power_limit_default_watts,
        boost_clock_mhz=shown.core_clock_max_mhz,
        pcie_generation=_whole(shown.pcie_generation_max),
        pcie_lanes=_whole(shown.pcie_width_max),
        slowdown_temperature_celsius=shown.temperature_slowdown_celsius,
        locked=None,
        device_ids=frozenset((shown.device_id,)) if shown.device_id else frozenset(),
        confidence="computed",
        source="computed from what the card shows",
    )


def memory_bandwidth(shown: Shown) -> float | None:
    """Bytes a second of an NVIDIA card: two transfers a clock of the driver's memory clock.

    It holds for every kind of memory, as the driver's clock is a half of the data rate, or twice
    the command clock, of each.
    """
    if not shown.memory_clock_max_mhz or not shown.memory_bus_bits:
        return None
    return 2 * shown.memory_clock_max_mhz * 1e6 * shown.memory_bus_bits / 8


def nvidia_fp32_flops(shown: Shown) -> float | None:
    """A multiply-add a clock and CUDA core."""
    if not shown.core_count or not shown.core_clock_max_mhz:
        return None
    return 2 * shown.core_count * shown.core_clock_max_mhz * 1e6


def ascend_fp16_flops(shown: Shown) -> float | None:
    """A cube of multiply-adds a clock and AI core; the core clock is the rated one."""
    if not shown.core_count or not shown.core_clock_max_mhz:
        return None
    return CUBE_FLOPS_PER_CLOCK * shown.core_count * shown.core_clock_max_mhz * 1e6


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


# --- what healthy cards reach --------------------------------------------------------------------

Component = Literal["fp16", "fp32", "memory_bandwidth", "link"]


class Fraction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a test reaches on healthy cards, as a share of the table's figure.

    Above 1 is normal where cards boost beyond their rated clock. Below `warn_below` a card is
    worth a look, below `fail_below` it is not healthy; None where no source draws that line.
    """

    low: float
    typical: float
    high: float
    source: str
    warn_below: float | None = None
    fail_below: float | None = None


class Fractions(NamedTuple):
    """Achievable fractions of a model by component; None where nobody measured its class."""

    fp16: Fraction | None = None
    fp32: Fraction | None = None
    memory_bandwidth: Fraction | None = None
    link: Fraction | None = None


def achievable(model: CardModel) -> Fractions:
    """What healthy cards of a model's class reach of its figures."""
    known = _fractions()
    link = f"pcie-{model.pcie_generation}"
    return Fractions(
        fp16=known.get((model.fraction_class, "fp16")),
        fp32=known.get((model.fraction_class, "fp32")),
        memory_bandwidth=known.get((model.fraction_class, "memory_bandwidth")),
        link=known.get((link, "link")),
    )


@cache
def _fractions() -> Mapping[tuple[str, str], Fraction]:
    return {
        (line.pop("class"), line.pop("component")): msgspec.convert(line, Fraction, strict=False)
        for line in _lines("fractions.csv")
    }


# --- capacity ------------------------------------------------------------------------------------


class Capacity(NamedTuple):
    """What a card can give, or what it gives, by component; None where it is not known.

    FLOP/s, B/s, B and B/s in one direction; or each in A100 equivalents.
    """

    fp16: float | None = None
    fp32: float | None = None
    memory_bandwidth: float | None = None
    memory: float | None = None
    link: float | None = None


def capacity(model: CardModel) -> Capacity:
    """What a card of this model is made to give, in absolute units."""
    return Capacity(
        fp16=model.fp16_tensor_flops,
        fp32=model.fp32_flops,
        memory_bandwidth=model.memory_bandwidth_bytes_per_second,
        memory=model.memory_bytes,
        link=model.link_bytes_per_second,
    )


@cache
def reference() -> Capacity:
    """One A100 SXM of 80 GB."""
    return next(capacity(model) for model in card_models() if model.name == REFERENCE_NAME)


def a100_equivalents(amounts: Capacity) -> Capacity:
    """Each component as a multiple of an A100's; of a card, or of sums over cards.

    They are not to be blended into one number: a card may be half an A100 for one kind of work and
    two for another.
    """
    pairs = zip(amounts, reference(), strict=True)
    return Capacity(
        *(amount / one if amount is not None and one else None for amount, one in pairs)
    )
