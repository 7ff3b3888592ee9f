"""The memory runs hot: pads that dried, slipped or were never there."""

from collections.abc import Mapping

import numpy as np

from farmhand_collector.capacity.detector import (
    ACTIONS,
    DEGRADED,
    NO_MEMORY,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
    span_of,
)
from farmhand_collector.capacity.frame import Bools, Floats, Frame
from farmhand_collector.capacity.peers import LEAST_SIGMAS
from farmhand_collector.capacity.places import same_boards
from farmhand_collector.capacity.statistics import others_median, pooled_sigma

GDDR_LIMIT_CELSIUS, HBM_LIMIT_CELSIUS = 105.0, 95.0
"""Where the card does not tell its limit: GDDR6 and GDDR6X slow down from 105 °C on, and HBM is
made for 95 at least (its makers)."""
HBM_BUS_BITS = 1024
"""HBM has a bus of 1024 bits for each stack; no board with GDDR has more than 512."""
WATCH_MARGIN_CELSIUS = 5.0
"""Practice is to alarm at 100 °C of 105 (GDDR6X)."""
BEYOND_CELSIUS = 12.0
"""Memory above core, beyond equal cards: pads that were renewed brought 25 °C (on a 3090), half
of that is more than chip lots, back plates and sensors of one board make (own judgement)."""
LEAST_SIGMA_CELSIUS = 1.0
"""Sensors tell whole degrees, and samples of one board agree no better."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Memory under load against its limit, and its distance from the core against equal cards."""
    del facts
    span = span_of(frame)
    celsius, peak = span.loaded["memory_temperature_celsius"], _peak(frame)
    celsius = np.where(np.isnan(celsius), peak, celsius)
    is_hbm = frame.facts["memory_bus_bits"] >= HBM_BUS_BITS
    limit = _limit(frame.facts["memory_temperature_limit_celsius"], is_hbm)
    beyond, sigma = _beyond_equals(frame)
    near = celsius >= limit - WATCH_MARGIN_CELSIUS
    level = levels(
        ~np.isnan(celsius),
        (WATCH, near),
        (WATCH, beyond > max(BEYOND_CELSIUS, LEAST_SIGMAS * sigma)),
        # A card that holds itself at its limit touches it and shows a mean somewhat below.
        (DEGRADED, near & (np.fmax(celsius, peak) >= limit)),
    )
    evidence = {
        "memory_celsius": celsius,
        "core_celsius": span.loaded["core_temperature_celsius"],
        "limit_celsius": limit,
        "beyond_equals_celsius": beyond,
    }
    # HBM sits on the die's own package, under the paste of the die.
    action = np.where(is_hbm, ACTIONS.index("repaste"), -1).astype(np.int8)
    return Score(level, evidence, action=action), memory


def _peak(frame: Frame) -> Floats:
    """(n,) highest memory temperature of the span's last frame, where the card worked in it."""
    loaded = span_of(frame).fresh & (frame.loaded_share > 0)
    return np.where(loaded, frame.values["memory_temperature_max_celsius"], np.nan)


def _limit(told: Floats, is_hbm: Bools) -> Floats:
    by_type = np.where(is_hbm, HBM_LIMIT_CELSIUS, GDDR_LIMIT_CELSIUS)
    # Some cards tell 0 for a limit that they do not have.
    return np.where(told > 0, told, by_type)


def _beyond_equals(frame: Frame) -> tuple[Floats, float]:
    """(n,) memory above core, beyond the others of its kind, and the spread of that."""
    span = span_of(frame)
    latest = _difference(span.latest)
    beyond = latest - others_median(latest, same_boards(frame))
    return np.where(span.fresh, beyond, np.nan), pooled_sigma(beyond, LEAST_SIGMA_CELSIUS)


def _difference(means: Mapping[str, Floats]) -> Floats:
    return means["memory_temperature_celsius"] - means["core_temperature_celsius"]


DETECTOR = Detector(
    name="memory_heat",
    cause="thermal",
    component="bandwidth",
    action="repad",
    # Hot memory lowers its clock.
    precedence=5,
    raise_after=3,
    clear_after=6,
    memory=NO_MEMORY,
    per_span=True,
    score=score,
)
