"""Stories of heat, fans, the power brake, and cards that do not rest."""

from collections.abc import Mapping
from typing import Any

from farmhand_collector.capacity.detectors.cooling import COMMISSIONING_SPANS
from farmhand_collector.capacity.detectors.idle_draw import SETTLED_SPANS
from farmhand_collector.capacity.frame import Frame
from tests.collector.capacity.farm import IDLE, SICK, Story, at, frame

COMMISSIONED = COMMISSIONING_SPANS + 1
"""Frames of load after which every card has its baseline: the first one is not known as steady."""
MEMORY: Mapping[str, Any] = {"memory_temperature_celsius": 84.0}
HOTSPOT: Mapping[str, Any] = {"hotspot_temperature_celsius": 80.0}
REST: Mapping[str, Any] = {**IDLE, "core_temperature_celsius": 36.0}
"""A settled card without work."""


def commissioned(**shown: Any) -> list[Frame]:
    """Frames in which every card works and gets its baseline."""
    return [frame(number, **shown) for number in range(COMMISSIONED)]


def resting(**shown: Any) -> list[Frame]:
    """Frames in which every card rests until it has settled."""
    return [frame(number, **{**REST, **shown}) for number in range(SETTLED_SPANS)]


def dusty() -> list[Frame]:
    """A card of 68 °C comes to 80 °C at the power of its first hour."""
    return [*commissioned(), frame(COMMISSIONED, core_temperature_celsius=at(SICK, 80.0, 68.0))]


def pegged_fan() -> list[Frame]:
    """The fan goes to full speed at the temperature at which the others run at 60 %."""
    return [frame(0), frame(1, fan_ratio=at(SICK, 1.0, 0.6))]


def hot_memory() -> list[Frame]:
    """The memory of one card comes to what GDDR6X can just bear."""
    return [frame(0, **MEMORY), frame(1, memory_temperature_celsius=at(SICK, 106.0, 84.0))]


def dry_paste() -> list[Frame]:
    """A part of the die is no longer covered."""
    return [frame(0, **HOTSPOT), frame(1, hotspot_temperature_celsius=at(SICK, 102.0, 80.0))]


def braked() -> list[Frame]:
    """The supply brakes the card for a fifth of the time."""
    return [frame(0), frame(1, throttle_brake_ratio=at(SICK, 0.2, 0.0))]


def restless() -> list[Frame]:
    """Without work, a card draws what a failing Titan V drew."""
    rest = resting(power_watts=35.0)
    return [*rest, frame(SETTLED_SPANS, **{**REST, "power_watts": at(SICK, 60.0, 35.0)})]


STORIES: Mapping[str, Story] = {
    "cooling": dusty,
    "fan": pegged_fan,
    "memory_heat": hot_memory,
    "hotspot": dry_paste,
    "power_brake": braked,
    "idle_draw": restless,
}
