"""An NPU runs below its rated clock while it works.

Ascends hold their rated clock under load; what lowers it is heat or a fault, and Huawei's own fault
diagnosis names it so from one minute on (MindCluster's fault diagnosis).
"""

from collections.abc import Sequence

import numpy as np

from farmhand_collector.capacity.boards import npus
from farmhand_collector.capacity.detector import (
    ACTIONS,
    CAUSES,
    DEGRADED,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
    nothing_judged,
)
from farmhand_collector.capacity.frame import Bools, Codes, Floats, Frame
from farmhand_collector.capacity.mig import is_divided
from farmhand_collector.capacity.peers import same_kind
from farmhand_collector.capacity.statistics import others_median

LEAST_SHORTFALL = 0.10
"""The step seen is a fifth (1000 to 800 MHz); means over a frame in which the clock changed lie
between."""
LOADED_SHARE = 0.5
HOT_CELSIUS, HOTTER_CELSIUS = 90.0, 25.0
"""A chip this hot, or this much hotter than its equals, is slowed by heat: the sample's hot chip
showed 107 °C among ones of 45, its cool one was like the others."""
WORKING_POWER_RATIO = 1.3
"""Share of a card's lowest power above which it works. A frame of short bursts has a mean of 1.6
times the power at rest in the sample, and rest varies by a few percent."""
RATED_RATIO = 0.95

MEMORY = np.dtype([("rest_watts", "f8"), ("rest_mhz", "f8"), ("hot", "?")])
"""Lowest power seen, with the clock at it; and whether the card was hot since its clock fell."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Clock while working against the rated one, and whether heat explains it."""
    if not npus(frame.roster).any():
        return nothing_judged(len(frame)), memory
    memory = memory.copy()
    told, made = frame.facts["core_clock_max_mhz"], facts.of_cards("core_clock_mhz", len(frame))
    rated = np.where(np.isnan(told), made, told)
    _note_rest(frame, memory)
    works_untold = _works_untold(frame, memory, rated)
    loaded = np.where(frame.loaded_share >= LOADED_SHARE, frame.loaded["core_clock_mhz"], np.nan)
    tells_use = ~np.isnan(frame.values["utilization_ratio"])
    clock = np.where(tells_use, loaded, np.nan)
    clock = np.where(works_untold, frame.values["core_clock_mhz"], clock)
    shortfall = np.where(npus(frame.roster) & ~is_divided(frame), 1 - clock / rated, np.nan)
    low = shortfall > LEAST_SHORTFALL
    judged = ~np.isnan(shortfall)
    celsius, is_hot = _heat(frame)
    memory["hot"] = np.where(judged, low & (memory["hot"] | is_hot), memory["hot"])
    evidence = {"clock_mhz": clock, "rated_mhz": rated, "temperature_celsius": celsius}
    score = Score(levels(judged, (DEGRADED, low)), evidence, np.clip(1 - shortfall, 0.0, 1.0))
    cause = _index(CAUSES, "thermal", memory["hot"])
    return score._replace(cause=cause, action=_index(ACTIONS, "clean-fan", memory["hot"])), memory


def _note_rest(frame: Frame, memory: Memory) -> None:
    watts, clock = frame.values["power_watts"], frame.values["core_clock_mhz"]
    known = (watts > 0) & ~np.isnan(clock)
    lower = known & ((memory["rest_watts"] == 0) | (watts < memory["rest_watts"]))
    memory["rest_watts"][lower], memory["rest_mhz"][lower] = watts[lower], clock[lower]


def _works_untold(frame: Frame, memory: Memory, rated: Floats) -> Bools:
    """(n,) cards that do not tell their use and draw more than at rest.

    Only those that hold the rated clock even at rest: of the others a low clock may be a pause.
    """
    untold = np.isnan(frame.values["utilization_ratio"]) & (memory["rest_watts"] > 0)
    holds = memory["rest_mhz"] >= RATED_RATIO * rated
    works: Bools = (
        untold & holds & (frame.values["power_watts"] >= WORKING_POWER_RATIO * memory["rest_watts"])
    )
    return works


def _heat(frame: Frame) -> tuple[Floats, Bools]:
    """(n,) temperature, and whether it is one that slows a card."""
    mean = frame.values["core_temperature_celsius"]
    celsius = np.fmax(mean, frame.values["core_temperature_max_celsius"])
    usual = others_median(celsius, same_kind(frame))
    is_hot: Bools = (celsius >= HOT_CELSIUS) | (celsius >= usual + HOTTER_CELSIUS)
    return celsius, is_hot


def _index(words: Sequence[str], word: str, where: Bools) -> Codes:
    return np.where(where, words.index(word), -1).astype(np.int8)


DETECTOR = Detector(
    name="clock_rated",
    cause="compute",
    component="compute",
    action="rerun-probe",
    precedence=7,
    # One minute of live frames; cleared after ten, for what slows a card comes back with its work.
    raise_after=2,
    clear_after=20,
    memory=MEMORY,
    score=score,
    shared_by=frozenset({"node", "rack"}),
)
