"""Stories of cards whose errors are told by events and counters."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from farmhand_collector.capacity.frame import READ_UNREADABLE, Event, Frame
from tests.collector.capacity.farm import (
    IDLE,
    SICK,
    START_NS,
    Array,
    Story,
    at,
    frame,
)

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR
COLD_CELSIUS, WARM_CELSIUS = 45.0, 68.0
LOAD_FRAMES = 12
"""Frames of five minutes for which all cards work, and then rest."""
LEAST_COUNT = 3.0
"""Counters do not begin at nought: boards have a history."""


def event(seconds: float, code: str = "48", kind: str = "xid", card: int = SICK) -> Event:
    """An event so long after the start."""
    return Event(card, START_NS + int(seconds * SECOND), kind, code, "")


def told(number: int, name: str, value: float, others: float = LEAST_COUNT, **more: Any) -> Frame:
    """A frame in which a field of the sick card shows a value, and of the others another."""
    columns: dict[str, Any] = {name: at(SICK, value, others), **more}
    return frame(number, **columns)


def counted(name: str, *totals: float) -> list[Frame]:
    """Frames in which a counter of the sick card shows these totals, and stands still elsewhere."""
    return [told(number, name, total) for number, total in enumerate(totals)]


def cycles(
    count: int,
    signs: Mapping[int, Mapping[str, Any]],
    growing: Mapping[str, Mapping[int, float]] | None = None,
) -> list[Frame]:
    """All cards work for an hour, then rest for one, so many times.

    Args:
        count: how many hours of work and how many of rest.
        signs: by number of a frame, what differs in it.
        growing: by counter and number of a frame, what is added to that of the sick card.
    """
    frames = []
    totals = dict.fromkeys(growing or {}, LEAST_COUNT)
    for number in range(2 * LOAD_FRAMES * count):
        for name in totals:
            totals[name] += (growing or {})[name].get(number, 0.0)
        rests = number // LOAD_FRAMES % 2
        columns: dict[str, Any] = {
            **(IDLE if rests else {}),
            "core_temperature_celsius": COLD_CELSIUS if rests else WARM_CELSIUS,
            **{name: at(SICK, total, LEAST_COUNT) for name, total in totals.items()},
            **signs.get(number, {}),
        }
        frames.append(frame(number, **columns))
    return frames


def ramps(count: int) -> list[int]:
    """The second frame of each change between work and rest: the first explains itself."""
    return [number + 1 for number in range(LOAD_FRAMES, 2 * LOAD_FRAMES * count, LOAD_FRAMES)]


def on_ramps(count: int, **added: float) -> list[Frame]:
    """Counters of the sick card grow on each ramp, of which the last frame is one."""
    growing = {name: dict.fromkeys(ramps(count), growth) for name, growth in added.items()}
    frames = cycles(count, {}, growing)
    return frames[: ramps(count)[-1] + 1]


def silent_at(numbers: Sequence[int], card: int | Array = SICK) -> dict[int, dict[str, Any]]:
    """A card, or some, that do not answer in some frames."""
    read = np.zeros(16)
    read[card] = READ_UNREADABLE - 1
    return {number: {"read": read + 1} for number in numbers}


def _xid() -> list[Frame]:
    return [frame(0), frame(1, events=[event(301)])]


def _npu_fault() -> list[Frame]:
    return [frame(0), frame(1, events=[event(301, "80E18402", "npu_fault")])]


def _memory_errors() -> list[Frame]:
    return counted("ecc_dram_uncorrected_total", LEAST_COUNT, LEAST_COUNT + 1)


def _remap() -> list[Frame]:
    return [frame(0, remap_failed=0.0), frame(1, remap_failed=at(SICK, 1.0, 0.0))]


def _link_errors() -> list[Frame]:
    return counted("pcie_replay_total", *(LEAST_COUNT + 300.0 * number for number in range(6)))


def _solder() -> list[Frame]:
    return on_ramps(3, pcie_replay_total=400.0)


STORIES: Mapping[str, Story] = {
    "xid": _xid,
    "npu_fault": _npu_fault,
    "memory_errors": _memory_errors,
    "remap": _remap,
    "link_errors": _link_errors,
    "solder": _solder,
}
