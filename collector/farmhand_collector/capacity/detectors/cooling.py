"""The die is hotter per watt than it was when the card was new here, or than equal cards are.

Thermal resistance is (core − air) / power at steady load. Where no sensor tells the
air, a fixed one is assumed and what all cards of the site have risen by is taken off.
"""

from typing import NamedTuple

import numpy as np

from farmhand_collector.capacity.detector import (
    ACTIONS,
    DEGRADED,
    SPAN_NS,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
    span_of,
)
from farmhand_collector.capacity.frame import Bools, Codes, Floats, Frame
from farmhand_collector.capacity.peers import LEAST_SIGMAS, alike
from farmhand_collector.capacity.places import (
    beyond_equals,
    joined,
    others_least,
    same_boards,
    shared_median,
)
from farmhand_collector.capacity.statistics import others_median, pooled_sigma

LEAST_POWER_RATIO = 0.5
"""Share of its limit that a card must draw: below it, a degree is too large a part of the whole."""
STEADY_RATIO = 0.1
"""How far the power of two spans in a row may differ. Within 3–5 minutes it should not by 5 %, for
heatsinks settle in minutes; means over five minutes differ by more where jobs begin and end."""
COMMISSIONING_SPANS = 12
"""Spans of steady load that make the baseline: an hour."""
AIR_CELSIUS, LEAST_HEAT_CELSIUS = 30.0, 10.0
"""Air where none is measured, and the least distance from it that can be divided by."""
SAME_POWER_RATIO = 0.9
"""Fans follow temperature, so that a card that draws less is nearly as warm and hotter per watt: it
is judged from this share of the power on that it is compared with, which makes a tenth (own
judgement)."""
SLOWER_FAN_RATIO = 0.1
"""A fan that runs this much slower than at the baseline explains a rise: colder air, or a choice.
One that fails shows its intention still, or none."""
WATCH_RISE, DEGRADED_RISE, SHARED_RISE = 0.25, 0.4, 0.2
"""A rise by 20–25 % at the same fan speed is a strong sign of dust, pump-out or a dead fan
(dried paste, dust): 25 % for a card by itself, 20 % where all cards of a node agree; 40 % is own
judgement: it takes a card of 70 °C to 86 °C, where throttling starts."""
LEAST_RISE_CELSIUS = {"measured": 8.0, "assumed": 10.0}
"""Cards that stay cool rise by a quarter with a change of the draught (own judgement: slots make
7 °C on Longhorn), and by more with the air of the day where nobody measures it."""
BEYOND_RATIO = 0.35
"""Above equal cards, places taken out. Their spread under one load is 7 °C of 40 (Longhorn,
Longhorn), places included, so this is two of it even if no place was taken out."""
LEAST_SIGMA = 0.05
"""Floor of the spread of thermal resistance: one degree at each end of 40."""
THROTTLED_DUTY = 0.05
"""Share of the time held back by heat from which on poor cooling costs (see `throttle_thermal`)."""
PEGGED_RATIO, STOPPED_RATIO = 0.95, 0.01

_BASELINE = [("spans", "i4"), ("resistance", "f8"), ("watts", "f8"), ("fan_ratio", "f8")]
MEMORY = np.dtype(
    [("assumed", _BASELINE), ("measured", _BASELINE), ("before_watts", "f8"), ("before_ns", "i8")]
)
"""Means over the spans of commissioning, frozen once there were enough: over assumed air, and over
air that was measured, since a node may gain or lose its sensor. Then the power of the last span
under load, and when it ended."""


class _Steady(NamedTuple):
    """What n cards show under steady load, NaN where they are not."""

    celsius: Floats
    watts: Floats
    fan_ratio: Floats
    inlet: Floats


class _Excess(NamedTuple):
    """Resistance beyond what it should be, as a share of that, NaN where not judged."""

    ratio: Floats
    celsius: Floats
    matters: Bools
    """Whether it is enough degrees to count."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Against the card's own frozen baseline, and against equal cards in like places.

    What all cards of a node have risen by is taken off each, and told of all of them if it is much.
    """
    memory = memory.copy()
    now = _steady(frame, memory, facts)
    risen = _risen(frame, now, memory)
    shared = np.fmax(np.nan_to_num(others_least(risen.ratio, frame.roster.nodes)), 0)
    together = np.fmin(risen.ratio, shared)
    alone = risen.ratio - shared
    beyond = _beyond(frame, now, facts)
    is_shared = risen.matters & (together >= SHARED_RISE)
    is_own = (risen.matters & (alone >= WATCH_RISE)) | beyond.matters
    level = levels(
        ~np.isnan(risen.ratio) | ~np.isnan(beyond.ratio),
        (WATCH, is_own | is_shared),
        (DEGRADED, (is_own | is_shared) & risen.matters & (risen.ratio >= DEGRADED_RISE)),
        (DEGRADED, (is_own | is_shared) & _is_throttled(frame)),
    )
    excess_celsius = np.where(beyond.matters, np.fmax(beyond.celsius, risen.celsius), risen.celsius)
    evidence = {
        "temperature_celsius": now.celsius,
        "power_watts": now.watts,
        "expected_celsius": now.celsius - excess_celsius,
        "rise": risen.ratio,
        "beyond_equals": beyond.ratio,
        "fan_ratio": now.fan_ratio,
    }
    return Score(level, evidence, action=_action(now, memory, is_shared & ~is_own)), memory


def _steady(frame: Frame, memory: Memory, facts: Facts) -> _Steady:
    """What cards show that draw enough, and as much as in the span before.

    The memory of the span before is changed in place.
    """
    span = span_of(frame)
    watts = span.loaded["power_watts"]
    follows = memory["before_ns"] == span.start_ns
    is_steady = follows & (np.abs(watts / memory["before_watts"] - 1) <= STEADY_RATIO)
    # A mean over a whole job is steady by its length.
    told_ns = frame.values["window_seconds"] * 1e9
    is_steady |= np.fmax(told_ns, frame.end_ns - frame.start_ns) > SPAN_NS
    is_steady &= _draws_enough(frame, watts, span.loaded["power_limit_watts"], facts)
    known = ~np.isnan(watts)
    memory["before_watts"][known] = watts[known]
    memory["before_ns"][known] = frame.end_ns // SPAN_NS * SPAN_NS
    celsius = np.where(is_steady, span.loaded["core_temperature_celsius"], np.nan)
    inlet = span.host["inlet_temperature_celsius"]
    return _Steady(celsius, watts, span.loaded["fan_ratio"], inlet)


def _draws_enough(frame: Frame, watts: Floats, limit: Floats, facts: Facts) -> Bools:
    """(n,) whether power is high enough; by what the board is made for where no limit is told."""
    limit = np.where(np.isnan(limit), facts.of_cards("power_watts", len(frame)), limit)
    enough: Bools = (watts > 0) & ~(watts < LEAST_POWER_RATIO * limit)
    return enough


# --- against its own past ----------------------------------------------------------------------


def _risen(frame: Frame, now: _Steady, memory: Memory) -> _Excess:
    """Rise over the frozen baseline; cards in commissioning add to theirs, in place.

    Air that was measured, now and then, goes before air that is assumed.
    """
    heats = {"assumed": now.celsius - AIR_CELSIUS, "measured": now.celsius - now.inlet}
    ratio, celsius = np.full((2, len(frame)), np.nan)
    matters = np.zeros(len(frame), bool)
    for air, heat in heats.items():
        if np.isnan(heat).all():
            continue
        baseline = memory[air]
        expected = baseline["resistance"] * now.watts
        residual = np.where(_is_comparable(now, baseline), heat - expected, np.nan)
        shift = _common(frame, residual, now.fan_ratio)
        _commission(now, heat - np.nan_to_num(shift), baseline)
        # Without a sensor or neighbours, a hot week looks like dust.
        shift = shift if air == "assumed" else np.nan_to_num(shift)
        # Others may fall because they work more, or their fans do: that is no rise of this one.
        risen = residual - np.maximum(shift, 0)
        judged = ~np.isnan(risen)
        ratio[judged], celsius[judged] = (risen / expected)[judged], risen[judged]
        matters[judged] = risen[judged] >= LEAST_RISE_CELSIUS[air]
    return _Excess(ratio, celsius, matters)


def _is_comparable(now: _Steady, baseline: Memory) -> Bools:
    """(n,) whether there is a baseline, at no more power and at no faster fan."""
    comparable: Bools = (
        (baseline["spans"] >= COMMISSIONING_SPANS)
        & (now.watts >= SAME_POWER_RATIO * baseline["watts"])
        & ~(now.fan_ratio < baseline["fan_ratio"] - SLOWER_FAN_RATIO)
    )
    return comparable


def _common(frame: Frame, residual: Floats, fan_ratio: Floats) -> Floats:
    """(n,) degrees by which the cards of a site, of one kind where these are enough, have risen.

    Fans that have speed left hide warm air; where enough have none, theirs is the rise.
    """
    roster = frame.roster
    common = shared_median(residual, joined(roster.sites, roster.kinds))
    if np.isnan(common).any():
        common = np.where(np.isnan(common), shared_median(residual, roster.sites), common)
    spent = np.where(fan_ratio >= PEGGED_RATIO, residual, np.nan)
    return np.fmax(common, shared_median(spent, roster.sites))


def _commission(now: _Steady, heat: Floats, baseline: Memory) -> None:
    """Add to the baseline of cards that are new."""
    new = ~np.isnan(heat) & (baseline["spans"] < COMMISSIONING_SPANS)
    baseline["spans"][new] += 1
    told = {
        "resistance": np.fmax(heat, LEAST_HEAT_CELSIUS) / now.watts,
        "watts": now.watts,
        "fan_ratio": np.nan_to_num(now.fan_ratio),
    }
    for name, values in told.items():
        before = baseline[name][new]
        baseline[name][new] = before + (values[new] - before) / baseline["spans"][new]


# --- against equals ----------------------------------------------------------------------------


def _beyond(frame: Frame, now: _Steady, facts: Facts) -> _Excess:
    """Resistance above equal cards in like places.

    Cards are compared by what they last showed at work, so the air is assumed for all.
    """
    latest = span_of(frame).latest
    watts = latest["power_watts"]
    enough = _draws_enough(frame, watts, latest["power_limit_watts"], facts)
    heat = np.fmax(latest["core_temperature_celsius"] - AIR_CELSIUS, LEAST_HEAT_CELSIUS)
    resistance = np.where(enough, heat / watts, np.nan)
    equals = same_boards(frame, alike(frame))
    deviation = beyond_equals(np.log(resistance), equals, frame.roster)
    usual_watts = others_median(np.where(enough, watts, np.nan), equals)
    judged = ~np.isnan(now.celsius) & (watts >= SAME_POWER_RATIO * usual_watts)
    ratio = np.where(judged, np.exp(deviation) - 1, np.nan)
    celsius = heat * (1 - 1 / (1 + ratio))
    sigma = pooled_sigma(deviation, LEAST_SIGMA)
    stands_out = (ratio > BEYOND_RATIO) & (deviation > LEAST_SIGMAS * sigma)
    return _Excess(ratio, celsius, stands_out & (celsius >= LEAST_RISE_CELSIUS["assumed"]))


# --- what to do --------------------------------------------------------------------------------


def _is_throttled(frame: Frame) -> Bools:
    throttled: Bools = span_of(frame).loaded["throttle_thermal_ratio"] >= THROTTLED_DUTY
    return throttled


def _action(now: _Steady, memory: Memory, is_shared: Bools) -> Codes:
    """(n,) a fan that is pegged or stopped is cleaned; one that copes leaves the paste."""
    stopped = (now.fan_ratio <= STOPPED_RATIO) & (memory["assumed"]["fan_ratio"] > STOPPED_RATIO)
    action = np.full(len(is_shared), ACTIONS.index("repaste"), np.int8)
    action[(now.fan_ratio >= PEGGED_RATIO) | stopped] = ACTIONS.index("clean-fan")
    action[is_shared] = ACTIONS.index("look-at-node")
    return action


DETECTOR = Detector(
    name="cooling",
    cause="thermal",
    component="compute",
    action="repaste",
    # It says why heat holds a card back.
    precedence=5,
    raise_after=6,
    clear_after=12,
    memory=MEMORY,
    per_span=True,
    score=score,
    shared_by=frozenset({"node", "rack"}),
)
