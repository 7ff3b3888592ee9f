"""Enters functions into the registries of kinds, under their own names."""

from collections.abc import Callable
from typing import Any

from farmhand_collector.simulator.kinds.kind import FAULT_KINDS, HARMLESS_KINDS, Act, Kind


def fault(cause: str, meaning: str, **more: Any) -> Callable[[Act], Act]:
    """Register a kind of fault; the rest are fields of `Kind`."""

    def register(act: Act) -> Act:
        name = getattr(act, "__name__", "")
        FAULT_KINDS[name] = Kind(name, meaning, act, cause=cause, **more)
        return act

    return register


def harmless(meaning: str, **more: Any) -> Callable[[Act], Act]:
    """Register a kind of harmless event; the rest are fields of `Kind`."""

    def register(act: Act) -> Act:
        name = getattr(act, "__name__", "")
        HARMLESS_KINDS[name] = Kind(name, meaning, act, **more)
        return act

    return register
