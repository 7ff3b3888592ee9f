"""The core clock under load is below that of equal cards at equal limits."""

import numpy as np

from farmhand_collector.capacity.caps import is_at
from farmhand_collector.capacity.detector import (
    ACTIONS,
    CAUSES,
    OK,
    Detector,
    Facts,
    Memory,
    Score,
    span_of,
)
from farmhand_collector.capacity.frame import Bools, Codes, Floats, Frame
from farmhand_collector.capacity.mig import is_divided
from farmhand_collector.capacity.peers import (
    alike,
    at_power_limit,
    at_the_same_work,
    compared,
    is_hot,
    limit_factor,
    moves,
    moving,
)
from farmhand_collector.capacity.statistics import grouped, others_median

LIMITED_SHORTFALL, FREE_SHORTFALL = 0.12, 0.05
"""Identical healthy cards at their power limit spread by 8 % on average (Sinha et al., SC'22), more
where the limit is low and the air warm: half as much again is no lottery. Those not held by power
spread by 0.2 % (Longhorn V100s): there is none to lose."""
OTHER_WORK_SHORTFALL = 0.25
"""At the limit, heavy work takes a sixth off the clock of light work: only much more is told of a
card whose work is not known to be that of others, or comes in bursts."""
FULL_RATIO = 0.93
SHORT_OF_POWER_DUTY, SHORT_OF_POWER_RATIO = 0.3, 0.85
"""A board that is told to be held by power, and draws less than its limit, is short at one of its
inlets: the driver's power capping watches each of them (own judgement)."""
MEMORY = np.dtype([("core_clock_mhz", "f8")])
"""Share of spans in which the clock moved."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Mean clock under load against the others of its kind.

    A card at its power limit is compared with others at theirs and at the same work: what they run
    decides the clock. A card that is not held back by power has no excuse, whatever the others run.
    """
    del facts
    span = span_of(frame)
    clock, kinds = span.latest["core_clock_mhz"], alike(frame)
    limited = at_power_limit(span.latest)
    usual = np.where(limited, _usual_limited(frame, limited), others_median(clock, kinds))
    at_work = grouped(kinds, limited, at_the_same_work(frame))
    has_equals = ~np.isnan(others_median(np.where(limited, clock, np.nan), at_work))
    bursts = span.latest["utilization_ratio"] < FULL_RATIO
    least = np.where(has_equals & ~bursts, LIMITED_SHORTFALL, OTHER_WORK_SHORTFALL)
    least = np.where(limited, least, FREE_SHORTFALL)
    # What runs in the instances of a divided card nobody tells.
    fresh = span.fresh & ~is_divided(frame)
    score = compared(clock, kinds, fresh, least_shortfall=least, reference=usual)
    memory = memory.copy()
    # At its limit every clock is regulated: that says nothing of what holds it below.
    share = moving(span, memory, "core_clock_mhz")
    memory["core_clock_mhz"] = np.where(limited, 0.0, share)
    capped = is_at(span.loaded["core_clock_mhz"], span.latest["capped_mhz"])
    level = np.where((score.level > OK) & capped, OK, score.level)
    cause, action = _cause(frame, ~limited & moves(memory, "core_clock_mhz"))
    return score._replace(level=level.astype(np.int8), cause=cause, action=action), memory


def _cause(frame: Frame, regulated: Bools) -> tuple[Codes, Codes]:
    """(n,) cause and action by what else is known.

    It is hot; or power holds it below its limit: the card tells so, or something regulates it.
    """
    latest = span_of(frame).latest
    short = latest["throttle_power_ratio"] >= SHORT_OF_POWER_DUTY
    short |= regulated
    short &= latest["power_watts"] < SHORT_OF_POWER_RATIO * latest["power_limit_watts"]
    hot = is_hot(frame)
    cause, action = (np.full(len(frame), -1, np.int8) for _ in range(2))
    cause[short], action[short] = CAUSES.index("power"), ACTIONS.index("check-power-cable")
    cause[hot], action[hot] = CAUSES.index("thermal"), ACTIONS.index("clean-fan")
    return cause, action


def _usual_limited(frame: Frame, limited: Bools) -> Floats:
    """(n,) clock of the others at their limits, as it were at the card's own; best at its work."""
    latest = span_of(frame).latest
    factor = limit_factor(latest["power_limit_watts"])
    scaled = np.where(limited, latest["core_clock_mhz"] / factor, np.nan)
    kinds = alike(frame)
    same = others_median(scaled, grouped(kinds, at_the_same_work(frame)))
    return np.where(np.isnan(same), others_median(scaled, kinds), same) * factor


DETECTOR = Detector(
    name="peer_core_clock",
    cause="compute",
    component="compute",
    action="rerun-probe",
    precedence=8,
    raise_after=3,
    clear_after=6,
    memory=MEMORY,
    per_span=True,
    score=score,
    shared_by=frozenset({"node"}),
)
