"""At rest the card draws, or heats, more than others of its kind: a stuck state, or a leak.

Silicon that begins to fail shows it at rest first: a card that idled at 59–63 W and 64–82 °C
beside siblings of 35 W and 36 °C was lost soon after (rework, section 2).
"""

import numpy as np

from farmhand_collector.capacity.detector import (
    ACTIONS,
    CAUSES,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
    span_of,
)
from farmhand_collector.capacity.frame import Bools, Floats, Frame
from farmhand_collector.capacity.peers import LEAST_SIGMAS, same_kind
from farmhand_collector.capacity.places import beyond_equals, has_any, same_boards
from farmhand_collector.capacity.statistics import others_median, pooled_sigma

BEYOND_WATTS, BEYOND_RATIO = 15.0, 0.6
"""Beyond equal cards at rest. The one case on record lay 25 W and 70 % above them; a monitor or
another P-state costs up to 15 W (own judgement)."""
BEYOND_CELSIUS = 12.0
"""What is left of slots (7 °C) and air (5 °C) if neither could be taken out (Longhorn)."""
LEAST_SIGMA_WATTS, LEAST_SIGMA_CELSIUS = 1.0, 1.0
SETTLED_SPANS = 2
"""Spans at rest after which a heatsink has cooled down: its time constant is minutes."""
HELD_BYTES, HELD_RATIO = 2.0**30, 0.05
"""A card of which more memory than this is in use is held by somebody: drivers reserve less."""
REST_HOLDS_NS = {"watts": 86_400 * 10**9, "celsius": 3600 * 10**9}
"""How long a card's last rest serves its equals: power for a day, temperature for as long as the
air stays the same."""

MEMORY = np.dtype(
    [
        ("spans", "i4"),
        ("quiet_spans", "i4"),
        ("watts", "f8"),
        ("watts_ns", "i8"),
        ("celsius", "f8"),
        ("celsius_ns", "i8"),
    ]
)
"""For how many spans the card has rested, and for how many its node has, too; what it drew and how
warm it was when it last had, and when that was."""
_RESTS = (
    ("watts", "spans", "power_watts"),
    ("celsius", "quiet_spans", "core_temperature_celsius"),
)
"""What is remembered of a rest, how long that takes to settle, and where it is told."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Power and temperature of a settled card at rest against others of its kind.

    A card that a process holds is not at rest. Beside a card that works another one is warm.
    """
    del facts
    memory = _rested(frame, memory)
    roster = frame.roster
    now = {name: memory[counted] >= SETTLED_SPANS for name, counted, _ in _RESTS}
    watts, celsius = (_remembered(frame, memory, name, now[name]) for name in now)
    beyond_watts = watts - others_median(watts, same_kind(frame))
    usual_watts = watts - beyond_watts
    beyond_celsius = beyond_equals(celsius, same_boards(frame), roster)
    draws = _stands_out(
        beyond_watts, np.fmax(BEYOND_WATTS, BEYOND_RATIO * usual_watts), LEAST_SIGMA_WATTS
    )
    is_warm = _stands_out(beyond_celsius, BEYOND_CELSIUS, LEAST_SIGMA_CELSIUS)
    draws, is_warm = now["watts"] & draws, now["celsius"] & is_warm
    level = levels(
        (now["watts"] & ~np.isnan(beyond_watts)) | (now["celsius"] & ~np.isnan(beyond_celsius)),
        (WATCH, draws | is_warm),
    )
    evidence = {
        "power_watts": np.where(now["watts"], watts, np.nan),
        "usual_watts": usual_watts,
        "temperature_celsius": np.where(now["celsius"], celsius, np.nan),
        "beyond_equals_celsius": beyond_celsius,
    }
    only_warm = is_warm & ~draws
    cause = np.where(only_warm, CAUSES.index("thermal"), -1).astype(np.int8)
    action = np.where(only_warm, ACTIONS.index("clean-fan"), -1).astype(np.int8)
    return Score(level, evidence, cause=cause, action=action), memory


def _stands_out(beyond: Floats, least: Floats | float, least_sigma: float) -> Bools:
    sigma = pooled_sigma(beyond, least_sigma)
    far: Bools = (beyond > least) & (beyond > LEAST_SIGMAS * sigma)
    return far


def _rested(frame: Frame, memory: Memory) -> Memory:
    """Memory with this span's rest added."""
    memory = memory.copy()
    span = span_of(frame)
    rests = ~np.isnan(span.idle["power_watts"]) | ~np.isnan(span.idle["core_temperature_celsius"])
    rests &= ~_is_held(frame)
    is_quiet = rests & ~has_any(frame.present & ~rests, frame.roster.nodes)
    memory["spans"] = np.where(rests, memory["spans"] + 1, 0)
    memory["quiet_spans"] = np.where(is_quiet, memory["quiet_spans"] + 1, 0)
    told = {
        "watts": ("spans", "power_watts"),
        "celsius": ("quiet_spans", "core_temperature_celsius"),
    }
    for name, (counted, field) in told.items():
        settled = (memory[counted] >= SETTLED_SPANS) & ~np.isnan(span.idle[field])
        memory[name][settled] = span.idle[field][settled]
        memory[f"{name}_ns"][settled] = frame.end_ns
    return memory


def _is_held(frame: Frame) -> Bools:
    """(n,) whether somebody holds the card, as far as it tells."""
    used, total = (frame.values[f"memory_{name}_bytes"] for name in ("used", "total"))
    held: Bools = used > np.fmax(HELD_BYTES, HELD_RATIO * total)
    return held | (frame.values["processes"] > 0)


def _remembered(frame: Frame, memory: Memory, name: str, now: Bools) -> Floats:
    """(n,) what each card showed at its last rest, NaN where that is long ago.

    Nor where it rests now and does not show it.
    """
    at_ns = memory[f"{name}_ns"]
    recent = (at_ns > 0) & (frame.end_ns - at_ns <= REST_HOLDS_NS[name])
    recent &= ~now | (at_ns == frame.end_ns)
    return np.where(recent, memory[name], np.nan)


DETECTOR = Detector(
    name="idle_draw",
    cause="power",
    component=None,
    action="look-at-node",
    precedence=12,
    raise_after=6,
    clear_after=6,
    memory=MEMORY,
    per_span=True,
    score=score,
)
