"""Links make more transmission errors than their standard allows, again and again."""

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
    grown,
    levels,
    span_of,
)
from farmhand_collector.capacity.frame import Bools, Codes, Floats, Frame

PER_MINUTE_AND_LANE = np.array([np.nan, 0.15, 0.30, 0.48, 0.96, 1.92, 3.84])
"""Replays that a healthy link may make, by generation: what a bit error rate of 1e-12 gives at its
line rate (DCGM health watch)."""
BOTH_ENDS = 2.0
"""Corrected errors are counted at the card and at the port above it."""
OVERDRIVEN_RATIO = 10.0
"""An error rate of so many times what is allowed counts twice."""
NVLINK_CRC_PER_SECOND = 100.0
"""Above this DCGM fails an NVLink at once; a single replay or recovery fails it as well, a damaged
packet is a warning."""
FADES_NS = 6 * 3600 * 10**9
"""Bad spans are forgotten with this time constant: bursts come some times a day, an own judgement.
"""
WATCH_SPANS, DEGRADED_SPANS = 3.0, 12.0
"""Bad spans, faded, from which on it is no single burst, and from which on an hour's worth is bad:
own judgement, since errors cost only what is sent again."""
MOST_AT_ONCE = 6.0
"""So many bad spans at most are taken from one frame, however long."""

_PCIE = (
    "pcie_replay_total",
    "pcie_correctable_total",
    "pcie_nonfatal_total",
    "pcie_fatal_total",
)
_NVLINK = ("nvlink_crc_errors_total", "nvlink_replay_total", "nvlink_recovery_total")

MEMORY = np.dtype(
    [(name, "f8") for name in (*_PCIE, *_NVLINK)]
    + [("fastest", "f4"), ("pcie", "f4"), ("nvlink", "f4"), ("told_ns", "i8")]
)
"""Of each counter the last value plus one; the fastest generation seen; faded counts of bad spans
of either link; when counters were last told."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Errors of each span against what the link may make; bad spans add up, and fade.

    Packets or links that were lost to an error count in any number, but a single span of them is
    no trend: probing and start-up cause some.
    """
    del facts
    memory = memory.copy()
    given = _given(frame)
    least_ns = max(SPAN_NS, frame.end_ns - frame.start_ns)
    since_ns = np.maximum(frame.end_ns - memory["told_ns"], least_ns).astype(float)
    growth = {name: _growth(frame, memory, name) for name in (*_PCIE, *_NVLINK)}
    allowed = allowed_replays(_generation(frame, memory), _width(frame), since_ns / 60e9)
    faded = np.where(given, np.exp(-since_ns / FADES_NS), 1.0)
    windows = np.minimum(since_ns / SPAN_NS, MOST_AT_ONCE)
    memory["pcie"] = memory["pcie"] * faded + _pcie(growth, allowed) * windows
    memory["nvlink"] = memory["nvlink"] * faded + _nvlink(growth, since_ns / 1e9) * windows
    memory["told_ns"][given] = frame.end_ns
    bad = np.maximum(memory["pcie"], memory["nvlink"]).astype(float)
    level = levels(frame.present, (WATCH, bad >= WATCH_SPANS), (DEGRADED, bad >= DEGRADED_SPANS))
    evidence = {
        "replays_per_minute": growth["pcie_replay_total"] / (since_ns / 60e9),
        "allowed_per_minute": allowed / (since_ns / 60e9),
        "corrected_per_minute": growth["pcie_correctable_total"] / (since_ns / 60e9),
        "bad_spans": bad,
    }
    return Score(level, evidence, action=_action(memory)), memory


def _given(frame: Frame) -> Bools:
    """(n,) whether any counter was told."""
    given = np.zeros(len(frame), bool)
    for name in (*_PCIE, *_NVLINK):
        given |= ~np.isnan(frame.values[name])
    return given


def allowed_replays(generation: Floats, width: Floats, minutes: Floats | float) -> Floats:
    """(n,) replays that a healthy link may make in some minutes, NaN where it is not known."""
    known = np.nan_to_num(generation).round().astype(np.intp)
    per_lane = PER_MINUTE_AND_LANE[np.clip(known, 0, len(PER_MINUTE_AND_LANE) - 1)]
    allowed: Floats = per_lane * width * minutes
    return allowed


def most_by_chance(mean: Floats) -> Floats:
    """(n,) the largest count that chance gives where so many are expected.

    Four standard deviations of a Poisson count, and four more where few are expected: beyond it
    lies less than one count in 10,000.
    """
    most: Floats = mean + 4 * np.sqrt(mean) + 4
    return most


def _growth(frame: Frame, memory: Memory, name: str) -> Floats:
    """(n,) growth, 0 where none can be told, or after a boot: links make errors as they train."""
    growth = grown(memory, name, frame.values[name])
    growth[frame.booted | np.isnan(growth)] = 0.0
    return growth


def _generation(frame: Frame, memory: Memory) -> Floats:
    """(n,) the fastest generation that the link has run at: what it ran at then is not known."""
    seen = np.fmax(frame.values["pcie_generation"], span_of(frame).loaded["pcie_generation"])
    memory["fastest"] = np.fmax(memory["fastest"], np.nan_to_num(np.ceil(seen)))
    fastest: Floats = memory["fastest"].astype(float)
    return np.where(fastest > 0, fastest, frame.facts["pcie_generation_max"])


def _width(frame: Frame) -> Floats:
    width = frame.values["pcie_width"]
    return np.where(np.isnan(width), frame.facts["pcie_width_max"], width)


def _pcie(growth: dict[str, Floats], allowed: Floats) -> Floats:
    """(n,) how bad the span was for the PCIe link, 0 where it was good, as a count of spans."""
    replays, corrected = growth["pcie_replay_total"], growth["pcie_correctable_total"]
    above = (replays > most_by_chance(allowed)) | (corrected > most_by_chance(BOTH_ENDS * allowed))
    far_above = (replays > OVERDRIVEN_RATIO * allowed) | (
        corrected > OVERDRIVEN_RATIO * BOTH_ENDS * allowed
    )
    bad = np.where(above & far_above, 2.0, above.astype(float))
    bad = np.maximum(bad, (growth["pcie_nonfatal_total"] > 0).astype(float))
    worst: Floats = np.maximum(bad, 2.0 * (growth["pcie_fatal_total"] > 0))
    return worst


def _nvlink(growth: dict[str, Floats], seconds: Floats) -> Floats:
    """(n,) likewise for the NVLinks of the card."""
    crc, replays, recoveries = (growth[name] for name in _NVLINK)
    bad = np.where((crc > 0) | (replays > 0) | (recoveries > 0), 1.0, 0.0)
    return np.where(crc > NVLINK_CRC_PER_SECOND * seconds, 3.0, bad)


def _action(memory: Memory) -> Codes:
    """(n,) bridges and modules of NVLink are reseated."""
    is_nvlink = memory["nvlink"] > memory["pcie"]
    return np.where(is_nvlink, ACTIONS.index("reseat"), -1).astype(np.int8)


DETECTOR = Detector(
    name="link_errors",
    cause="link",
    component="link",
    action="swap-riser",
    precedence=4,
    raise_after=1,
    # An hour below the threshold, so that a burst now and then does not flap.
    clear_after=12,
    memory=MEMORY,
    per_span=True,
    score=score,
    shared_by=frozenset({"node"}),
)
