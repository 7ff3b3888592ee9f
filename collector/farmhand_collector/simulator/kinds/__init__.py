"""Kinds of faults and of harmless events: one function each, by cause."""

# The cause modules register their kinds when they are imported.
from farmhand_collector.simulator.kinds import (
    compute,
    driver,
    harmless,
    host,
    identity,
    link,
    memory,
    power,
    thermal,
)
from farmhand_collector.simulator.kinds.kind import (
    FAULT_KINDS,
    HARMLESS_KINDS,
    Boards,
    Case,
    Fault,
    Kind,
    Moment,
    Scope,
)

__all__ = [
    "FAULT_KINDS",
    "HARMLESS_KINDS",
    "Boards",
    "Case",
    "Fault",
    "Kind",
    "Moment",
    "Scope",
    "compute",
    "driver",
    "harmless",
    "host",
    "identity",
    "link",
    "memory",
    "power",
    "thermal",
]
