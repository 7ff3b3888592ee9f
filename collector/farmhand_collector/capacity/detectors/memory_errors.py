"""Memory errors that could not be corrected, or that are corrected far more than on other cards."""

from typing import NamedTuple

import numpy as np

from farmhand_collector.capacity.detector import (
    ACTIONS,
    DEGRADED,
    FAILING,
    SPAN_NS,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    grown,
    levels,
)
from farmhand_collector.capacity.frame import Bools, Floats, Frame, divided
from farmhand_collector.capacity.peers import same_kind
from farmhand_collector.capacity.statistics import others_median

DAY_NS = 86_400 * 10**9
REPEAT_NS = 14 * DAY_NS
"""How far gpud looks back for an error that comes again."""
APART_NS = DAY_NS
"""Until the reset that takes a bad row out of use, every job may hit it again, so errors within a
day are one fault: an own judgement."""
MOST_SRAM_UNCORRECTED = 4
"""More uncorrectable errors than this in caches are the practitioners' criterion for a return."""
MOST_DRAM_CORRECTED, MOST_SRAM_CORRECTED = 20_000_000.0, 10_000.0
"""Above these totals Azure's node health checks take a card out of service; Meta's allow 50 million
corrected errors."""
LEAST_PER_SECOND = 1.0
"""Corrected errors below this rate are noise: Azure's figure would be reached in most of a year."""
OF_OTHERS_RATIO = 10.0
"""So many times the rate of its kind is a card's own fault."""
ALONE_PER_SECOND = 10.0
"""The rate that needs no comparison: Azure's figure is reached in a month."""
PERSISTENT_NS, FADES_NS = 3600 * 10**9, DAY_NS
"""For so long in all a high rate must last, where time is forgotten with the second constant: a
cell that one job hits is no trend, bursts that come again are. An own judgement."""

_UNCORRECTED = ("ecc_uncorrected_total", "ecc_dram_uncorrected_total", "ecc_sram_uncorrected_total")
_CORRECTED = ("ecc_corrected_total", "ecc_dram_corrected_total", "ecc_sram_corrected_total")
_FLAGS = ("sram_threshold_exceeded", "memory_unrepairable")

MEMORY = np.dtype(
    [(name, "f8") for name in (*_UNCORRECTED, *_CORRECTED, *_FLAGS)]
    + [("bad_ns", "i8"), ("first_ns", "i8"), ("bad_until_ns", "i8"), ("failing_until_ns", "i8")]
    + [("told_ns", "i8"), ("high_ns", "f8")]
)
"""Of each counter and flag the last value plus one. `bad_ns` is the last uncorrectable error,
`first_ns` the one that those after it are counted from; `told_ns` is when a count of corrected
errors was last given, `high_ns` for how long their rate has been high, faded."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """An uncorrectable error is a fault for a day, one that comes again within two weeks fails.

    Caches past the maker's limit and memory that no spare mends fail at once. Corrected errors are
    noise; a rate far above that of equal cards, for an hour in all, is worth a look.
    """
    del facts
    memory = memory.copy()
    flagged = _flagged(frame, memory)
    uncorrected = _uncorrected(frame, memory)
    corrected = _corrected(frame, memory)
    sram = np.maximum(memory["ecc_sram_uncorrected_total"] - 1, 0.0)
    failing = flagged | uncorrected.failing | (sram > MOST_SRAM_UNCORRECTED)
    level = levels(
        frame.present, (WATCH, corrected.high), (DEGRADED, uncorrected.bad), (FAILING, failing)
    )
    evidence = {
        "uncorrected": _total(memory, _UNCORRECTED),
        "corrected": _total(memory, _CORRECTED),
        "corrected_per_second": corrected.per_second,
        "flagged": flagged.astype(float),
    }
    action = np.where(level == FAILING, ACTIONS.index("retire"), -1).astype(np.int8)
    return Score(level, evidence, action=action), memory


def _total(memory: Memory, names: tuple[str, str, str]) -> Floats:
    """(n,) errors last told, over all places."""
    whole, dram, sram = (np.maximum(memory[name] - 1, 0.0) for name in names)
    total: Floats = np.maximum(whole, dram + sram)
    return total


def _growth(frame: Frame, memory: Memory, names: tuple[str, str, str]) -> Floats:
    """(n,) growth over all places, NaN where none can be told; `memory` is changed in place."""
    whole, dram, sram = (grown(memory, name, frame.values[name]) for name in names)
    # Where one place is not told, so is the sum, and the other counts.
    growth: Floats = np.fmax(np.fmax(whole, dram + sram), np.fmax(dram, sram))
    return growth


def _flagged(frame: Frame, memory: Memory) -> Bools:
    """(n,) whether the card last said that its memory is past repair."""
    flagged = np.zeros(len(frame), bool)
    for name in _FLAGS:
        now = frame.values[name]
        memory[name] = np.where(np.isnan(now), memory[name], now + 1)
        flagged |= memory[name] > 1
    return flagged


class Uncorrected(NamedTuple):
    """(n,) cards that had an uncorrectable error lately, and those that had one again."""

    bad: Bools
    failing: Bools


def _uncorrected(frame: Frame, memory: Memory) -> Uncorrected:
    hit = np.flatnonzero(_growth(frame, memory, _UNCORRECTED) > 0)
    before_ns = memory["bad_ns"][hit]
    memory["first_ns"][hit[frame.end_ns - before_ns > REPEAT_NS]] = frame.end_ns
    again = hit[frame.end_ns - memory["first_ns"][hit] >= APART_NS]
    memory["bad_ns"][hit] = frame.end_ns
    memory["bad_until_ns"][hit] = frame.end_ns + DAY_NS
    memory["failing_until_ns"][again] = frame.end_ns + REPEAT_NS
    return Uncorrected(
        memory["bad_until_ns"] > frame.start_ns, memory["failing_until_ns"] > frame.start_ns
    )


class Corrected(NamedTuple):
    """(n,) rate of corrected errors, NaN where none was told, and whether it is too high."""

    per_second: Floats
    high: Bools


def _corrected(frame: Frame, memory: Memory) -> Corrected:
    given = np.zeros(len(frame), bool)
    for name in _CORRECTED:
        given |= ~np.isnan(frame.values[name])
    # What grew within one frame grew in it; what is told rarely, since it was told.
    least_ns = max(SPAN_NS, frame.end_ns - frame.start_ns)
    since_ns = np.maximum(frame.end_ns - memory["told_ns"], least_ns)
    per_second = divided(_growth(frame, memory, _CORRECTED), since_ns / 1e9)
    least = _least(frame, per_second)
    high_ns = memory["high_ns"] * np.exp(-since_ns / FADES_NS)
    high_ns += np.where(per_second >= least, since_ns, 0)
    memory["high_ns"] = np.where(np.isnan(per_second), memory["high_ns"], high_ns)
    memory["told_ns"][given] = frame.end_ns
    dram, sram = (memory[name] - 1 for name in _CORRECTED[1:])
    many = (dram >= MOST_DRAM_CORRECTED) | (sram >= MOST_SRAM_CORRECTED)
    return Corrected(per_second, many | (memory["high_ns"] >= PERSISTENT_NS))


def _least(frame: Frame, per_second: Floats) -> Floats:
    """(n,) the rate from which on it is too high for the card's kind."""
    least = np.full(len(frame), LEAST_PER_SECOND)
    # Comparing takes time, and there is hardly ever anything to compare.
    if (per_second >= LEAST_PER_SECOND).any():
        usual = others_median(per_second, same_kind(frame))
        least = np.where(np.isnan(usual), ALONE_PER_SECOND, np.fmax(least, OF_OTHERS_RATIO * usual))
    return least


DETECTOR = Detector(
    name="memory_errors",
    cause="memory",
    component="memory",
    # The reset before a probe takes bad rows out of use; the probe tells whether that was all.
    action="rerun-probe",
    precedence=3,
    raise_after=1,
    # An hour below the threshold, so that bursts do not flap.
    clear_after=12,
    memory=MEMORY,
    per_span=True,
    score=score,
)
