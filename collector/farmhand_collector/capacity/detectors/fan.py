"""A fan runs at full speed for nothing, stands still on a hot card, or failed in the chassis.

Speeds are what the card intends: a stalled fan still shows its intention, and shows in `cooling`.
"""

from typing import NamedTuple

import numpy as np

from farmhand_collector.capacity.detector import (
    ACTIONS,
    DEGRADED,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
    span_of,
)
from farmhand_collector.capacity.frame import Bools, Codes, Floats, Frame
from farmhand_collector.capacity.peers import LEAST_SIGMAS, is_hot
from farmhand_collector.capacity.places import beyond_equals, has_any, same_boards
from farmhand_collector.capacity.statistics import others_median, pooled_sigma

PEGGED_RATIO, REGULATED_RATIO = 0.95, 0.9
"""Full speed, as drivers round it; a fan seen below the second is one that something regulates."""
FAR_LOWER_RATIO, BEYOND_RATIO, LEAST_SIGMA_RATIO = 0.65, 0.3, 0.03
"""Equal cards at the first speed or below have plenty left; the second lies beyond them in like
places. Own judgement: healthy coolers of one board differ by a tenth, and a fan makes up for that
with a quarter of its speed. Then the floor of the spread."""
SAME_POWER_RATIO = 1.1
"""A card that draws more than its equals, by more than this, needs its fan."""
RECENT_NS = 3600 * 10**9
"""Fans follow the air, and so are compared within an hour."""
AS_WARM_CELSIUS = 8.0
"""A slot makes up to 8 °C (Longhorn). A pegged fan on a card hotter than that has its reason,
which `cooling` tells; a card that much colder has its fan set by hand, if it was never seen
regulated. If it was, its memory is hot: fans of GDDR6X cards jump to full speed at 40–60 °C of the
core (rework, section 2)."""
STOPPED_RATIO, SPINNING_RATIO = 0.01, 0.2
HOT_CELSIUS = 60.0
"""Boards that stop their fans at low temperature start them below this (own judgement from what
partner boards announce: 50–60 °C)."""
HOT_ALONE_CELSIUS = 80.0
"""No board means to stop its fan at a temperature that is no longer good, whatever
equal cards do."""
CHASSIS_STOPPED = 0.9
"""Fans that stood still, as a mean of the frame: one, for nearly all of it."""

MEMORY = np.dtype([("has_spun", "?"), ("is_regulated", "?")])
"""Whether the fan was ever seen to turn, and ever below full speed while it did."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """The fan under load beside those of equal cards, and the fans of the chassis.

    A card whose fan was never seen to turn is passive, or its fans hang elsewhere.
    """
    del facts
    seen = _seen(frame, memory)
    fans = _Fans.of(frame)
    pegged, stopped = _pegged(fans, seen), _stopped(fans, seen)
    chassis = _chassis_stopped(frame)
    is_cooled_by_fan = ~np.isnan(fans.ratio) & seen["has_spun"]
    level = levels(
        is_cooled_by_fan | (frame.present & ~np.isnan(frame.host["fans_stopped"])),
        (WATCH, pegged | chassis),
        (DEGRADED, stopped | (chassis & is_hot(frame) & span_of(frame).fresh)),
    )
    own = pegged | stopped
    evidence = {
        "fan_ratio": fans.ratio,
        # A finding about the chassis says nothing of the card's own fan.
        "usual_ratio": np.where(chassis & ~own, np.nan, fans.usual_ratio),
        "temperature_celsius": fans.celsius,
        "usual_celsius": fans.usual_celsius,
        "chassis_fans_stopped": frame.host["fans_stopped"],
    }
    return Score(level, evidence, action=_action(fans, pegged, chassis & ~own)), seen


class _Fans(NamedTuple):
    """Fan, power and core of n cards under load, and what is usual among their equals.

    `beyond` is speed above equals in like places, `sigma` its spread.
    """

    ratio: Floats
    usual_ratio: Floats
    watts: Floats
    usual_watts: Floats
    celsius: Floats
    usual_celsius: Floats
    beyond: Floats
    sigma: float

    @classmethod
    def of(cls, frame: Frame) -> "_Fans":
        span, boards = span_of(frame), same_boards(frame)
        is_recent = frame.end_ns - span.latest["end_ns"] <= RECENT_NS

        def recent(name: str) -> Floats:
            return np.where(is_recent, span.latest[name], np.nan)

        beyond = beyond_equals(recent("fan_ratio"), boards, frame.roster)
        return cls(
            span.loaded["fan_ratio"],
            others_median(recent("fan_ratio"), boards),
            span.loaded["power_watts"],
            others_median(recent("power_watts"), boards),
            span.loaded["core_temperature_celsius"],
            others_median(recent("core_temperature_celsius"), boards),
            beyond,
            pooled_sigma(beyond, LEAST_SIGMA_RATIO),
        )


def _seen(frame: Frame, memory: Memory) -> Memory:
    memory = memory.copy()
    ratio = frame.values["fan_ratio"]
    spins = ratio > STOPPED_RATIO
    memory["has_spun"] |= spins
    memory["is_regulated"] |= spins & (ratio < REGULATED_RATIO)
    return memory


def _pegged(fans: _Fans, seen: Memory) -> Bools:
    """(n,) full speed at a power and temperature at which equal cards need far less."""
    is_cold = fans.celsius < fans.usual_celsius - AS_WARM_CELSIUS
    pegged: Bools = (
        (fans.ratio >= PEGGED_RATIO)
        & (fans.usual_ratio <= FAR_LOWER_RATIO)
        & (fans.beyond > max(BEYOND_RATIO, LEAST_SIGMAS * fans.sigma))
        & ~(fans.watts > SAME_POWER_RATIO * fans.usual_watts)
        & (fans.celsius <= fans.usual_celsius + AS_WARM_CELSIUS)
        & (seen["is_regulated"] | ~is_cold)
    )
    return pegged


def _stopped(fans: _Fans, seen: Memory) -> Bools:
    """(n,) no speed at a temperature at which equal cards spin, or any card should."""
    equals_spin = (fans.celsius >= HOT_CELSIUS) & (fans.usual_ratio >= SPINNING_RATIO)
    stopped: Bools = (
        (fans.ratio <= STOPPED_RATIO)
        & seen["has_spun"]
        & (equals_spin | (fans.celsius >= HOT_ALONE_CELSIUS))
    )
    return stopped


def _chassis_stopped(frame: Frame) -> Bools:
    """(n,) a fan of the card's node stands still while one of the node's cards works.

    A chassis at rest may stop fans on purpose.
    """
    stands = frame.present & (frame.host["fans_stopped"] >= CHASSIS_STOPPED)
    worked: Bools = has_any(span_of(frame).fresh, frame.roster.nodes)
    return stands & worked


def _action(fans: _Fans, pegged: Bools, chassis: Bools) -> Codes:
    is_cold = pegged & (fans.celsius < fans.usual_celsius - AS_WARM_CELSIUS)
    action = np.full(len(pegged), -1, np.int8)
    action[is_cold] = ACTIONS.index("repad")
    action[chassis] = ACTIONS.index("look-at-node")
    return action


DETECTOR = Detector(
    name="fan",
    cause="thermal",
    component="compute",
    action="clean-fan",
    # It is what makes a card hot.
    precedence=4,
    raise_after=6,
    clear_after=6,
    memory=MEMORY,
    per_span=True,
    score=score,
    shared_by=frozenset({"node"}),
)
