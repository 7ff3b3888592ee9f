"""What is known beforehand: the catalogue and the keeper's word, as the core takes it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from farmhand_collector.capacity.detector import EXPECTED, STATE_NAMES, Facts, Rule
from farmhand_collector.capacity.frame import Floats, Frame, code_of, fitted
from farmhand_collector.catalogue.cards import (
    CardModel,
    Shown,
    achievable,
    capacity,
    card_models,
    expectation,
    memory_bytes_by_model,
)
from farmhand_collector.catalogue.npu_faults import UNLISTED_NPU_FAULT, npu_faults
from farmhand_collector.catalogue.xid import BURST_SECONDS, UNLISTED_XID, Fault, Severity, xids

UNLISTED = ""
"""The code under which rules for codes stand that the catalogue does not hold."""

_SHOWN = (
    "memory_total_bytes",
    "memory_clock_max_mhz",
    "memory_bus_bits",
    "core_count",
    "core_clock_max_mhz",
    "power_limit_default_watts",
    "pcie_generation_max",
    "pcie_width_max",
    "temperature_slowdown_celsius",
)
"""Facts by which a card is matched, all but its name and its device id."""


@cache
def catalogue_facts() -> Facts:
    """What the catalogue that comes with farmhand says of all cards."""
    return Facts(
        memory_bytes=memory_bytes_by_model(),
        xids=_rules({**xids(), UNLISTED: UNLISTED_XID}),
        npu_faults=_rules({**npu_faults(), UNLISTED: UNLISTED_NPU_FAULT}),
    )


def _rules(faults: Mapping[str, Fault]) -> dict[str, tuple[Rule, ...]]:
    return {code: tuple(_rules_of(fault)) for code, fault in faults.items()}


def _rules_of(fault: Fault) -> list[Rule]:
    found = []
    if fault.severity is not Severity.IGNORE:
        level = STATE_NAMES.index(fault.severity)
        found.append(Rule(level, 1, int(BURST_SECONDS * 1e9), 1, fault.cause, fault.action))
    if fault.repeat is not None:
        told = fault.repeat
        level = STATE_NAMES.index(told.severity)
        within_ns = int(told.within_seconds * 1e9)
        found.append(Rule(level, told.count, within_ns, told.jobs, told.cause, told.action))
    return found


class Expectations:
    """Keeps what each card is made to give; a card is matched anew when what it shows changes."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._shown = np.empty((0, len(_SHOWN) + 1))
        self._columns: dict[str, Floats] = {}

    def of(self, frame: Frame) -> Facts:
        """Facts for the cards of a frame."""
        shown = np.stack([_shown(frame, name) for name in (*_SHOWN, "device_id")], axis=1)
        before = np.full_like(shown, -1.0)
        before[: len(self._shown)] = self._shown
        # A card that falls silent is still the card that it was.
        shown = np.where(np.isnan(shown), np.where(before < 0, np.nan, before), shown)
        is_same = (before == shown) | (np.isnan(before) & np.isnan(shown))
        changed = np.flatnonzero(~is_same.all(axis=1))
        columns = {name: fitted(self._columns.get(name), len(frame), np.nan) for name in EXPECTED}
        if len(changed):
            columns = {name: column.copy() for name, column in columns.items()}
        for card in changed.tolist():
            key = frame.roster[card]
            expected = _expected(key.vendor, key.model, *shown[card].tolist())
            for name, value in zip(EXPECTED, expected, strict=True):
                columns[name][card] = value
        if len(changed) or len(frame) != len(self._shown):
            self._facts = replace(self._facts, expected=columns)
        self._shown, self._columns = shown, columns
        return self._facts


def _shown(frame: Frame, name: str) -> Floats:
    known = frame.facts[name]
    if name == "memory_total_bytes":
        return np.where(np.isnan(known), frame.values[name], known)
    return known


class Expected(NamedTuple):
    """What one card is made to give, in the order of `EXPECTED`; NaN where nothing is known."""

    fp16_flops: float
    fp32_flops: float
    memory_bandwidth_bytes_per_second: float
    memory_bytes: float
    link_bytes_per_second: float
    power_watts: float
    core_clock_mhz: float
    memory_clock_mhz: float
    locked: float
    achievable_memory_bandwidth_ratio: float


@lru_cache(65536)
def _expected(vendor: str, model: str, *values: float) -> Expected:
    numbers = {
        name: None if math.isnan(value) else value
        for name, value in zip(_SHOWN, values[:-1], strict=True)
    }
    device_id = None if math.isnan(values[-1]) else _device_ids().get(int(values[-1]))
    shown = Shown(model, vendor=vendor or "nvidia", device_id=device_id, **numbers)
    return _told(expectation(shown).model)


def _told(model: CardModel) -> Expected:
    whole, reached = capacity(model), achievable(model).memory_bandwidth
    values = (
        whole.fp16,
        whole.fp32,
        whole.memory_bandwidth,
        whole.memory,
        whole.link,
        model.board_power_watts,
        model.boost_clock_mhz,
        model.memory_clock_max_mhz,
        float(bool(model.locked)),
        reached.typical if reached else None,
    )
    return Expected(*(math.nan if value is None else float(value) for value in values))


@cache
def _device_ids() -> Mapping[int, str]:
    """Device ids of the catalogue by the number that stands for them in a frame."""
    return {code_of(text): text for model in card_models() for text in model.device_ids}
