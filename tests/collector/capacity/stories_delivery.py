"""Stories of cards that deliver less than they should, or are not what they were."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from farmhand_collector.capacity.baseline import BASELINE_SPANS
from farmhand_collector.capacity.frame import Frame
from farmhand_collector.capacity.roster import Roster
from tests.collector.capacity.farm import SICK, Array, Story, at, cards, frame, working

GB = 1e9
COPY = 800 * GB
"""What the copy kernel of a probe measures on a healthy card."""
MINERS = cards(16, model="CMP 50HX")
ALONE = cards(16, per_node=1)
"""Each card in a node of its own."""
NPUS = Roster(key._replace(vendor="huawei", model="Ascend 910") for key in cards(16))
RATED: Mapping[str, Any] = {"core_clock_max_mhz": 1000.0}
MARKS: Mapping[str, Any] = {
    "name": 11.0,
    "device_id": 12.0,
    "vbios": 13.0,
    "subsystem_id": 14.0,
    "driver": 15.0,
    "core_count": 10496.0,
    "memory_bus_bits": 384.0,
}
"""Marks of a board, the texts as numbers that stand for them."""


def traffic(number: int, moved: Array | float, **changed: Any) -> Frame:
    """All do the same job on buses of eight channels, as fast as their memory moves."""
    work = working(np.asarray(moved) / GB)
    shown: dict[str, Any] = {"work": work, "facts": {"memory_bus_bits": 256.0}, **changed}
    return frame(number, memory_bandwidth_bytes_per_second=moved, **shown)


def little_traffic() -> list[Frame]:
    """One of eight memory channels is gone."""
    return [traffic(0, 400 * GB), traffic(1, at(SICK, 350 * GB, 400 * GB))]


def slow_copy() -> list[Frame]:
    """All were probed once and well; the next probe of one card misses a quarter."""
    name = "memory_bandwidth_bytes_per_second"
    return [frame(0, probe={name: COPY}), frame(1, probe={name: at(SICK, 0.74 * COPY, np.nan)})]


def slow_product() -> list[Frame]:
    """All were probed once and well; the next probe of one card computes a fifth less."""
    return [
        frame(0, probe={"fp16_flops": 70e12, "fp32_flops": 25e12}),
        frame(1, probe={"fp16_flops": at(SICK, 56e12, np.nan)}),
    ]


def first_hour(**changed: Any) -> list[Frame]:
    """Spans in which baselines are learnt."""
    shown: dict[str, Any] = {"work": working(100.0), **changed}
    return [frame(number, **shown) for number in range(BASELINE_SPANS)]


def slower_than_at_first() -> list[Frame]:
    """After a good first hour one card does a tenth less, for some spans."""
    slow = working(at(SICK, 90.0, 100.0))
    return [*first_hour(), *(frame(BASELINE_SPANS + more, work=slow) for more in range(6))]


def locked_again() -> list[Frame]:
    """Mining cards compute, their nodes start, and one of them comes back locked."""
    locked = working(at(SICK, 100.0 / 28, 100.0))
    return [
        frame(0, MINERS, work=working(100.0)),
        frame(1, MINERS, work=working(100.0), booted=True),
        frame(2, MINERS, work=locked),
    ]


def slow_link() -> list[Frame]:
    """The link of one card falls back to the first generation under load."""
    return [frame(0), frame(1, pcie_generation=at(SICK, 1.0, 3.0))]


def another_die() -> list[Frame]:
    """One card shows another device id than before."""
    changed = {**MARKS, "device_id": at(SICK, 99.0, 12.0)}
    return [frame(0, facts=MARKS), frame(1, facts=changed)]


def late_node() -> list[Frame]:
    """A quarter of the readings of one node come too late."""
    return [frame(0, ALONE), frame(1, ALONE, late=at(SICK, 10.0, 0.0))]


def npus(number: int, **changed: Any) -> Frame:
    """NPUs at work at their rated clock, except for what is changed."""
    shown: dict[str, Any] = {"core_clock_mhz": 1000.0, **changed}
    return frame(number, NPUS, facts=RATED, **shown)


def below_rated() -> list[Frame]:
    """One NPU slows down."""
    return [npus(0), npus(1, core_clock_mhz=at(SICK, 800.0, 1000.0))]


STORIES: Mapping[str, Story] = {
    "bandwidth": little_traffic,
    "probe": slow_copy,
    "probe_compute": slow_product,
    "drift": slower_than_at_first,
    "unlock_lost": locked_again,
    "link_generation": slow_link,
    "identity": another_die,
    "late": late_node,
    "clock_rated": below_rated,
}
