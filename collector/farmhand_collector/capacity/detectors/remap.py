"""Spare memory rows or pages run out, or wait for a reset to be put to use."""

import numpy as np

from farmhand_collector.capacity.detector import (
    ACTIONS,
    DEGRADED,
    FAILING,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    grown,
    levels,
)
from farmhand_collector.capacity.frame import Bools, Floats, Frame

MOST_PAGES = 63
"""A card that can retire pages can retire 64 (NVIDIA); DCGM fails it at this many."""
MANY_PAGES = 15
"""Above this, DCGM fails a card of which more than one page was retired within a week."""
WEEK_NS = 7 * 86_400 * 10**9

_TOLD = (
    "remap_failed",
    "remap_pending",
    "remap_banks_none",
    "remap_banks_low",
    "remapped_rows_total",
    "retired_pages_pending",
)

MEMORY = np.dtype(
    [(name, "f8") for name in (*_TOLD, "retired_pages_total")]
    + [("page_ns", "i8"), ("growing_until_ns", "i8")]
)
"""The last value plus one of each field, so that zeros mean that none was told; when the last page
was retired, and until when two within a week count."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """What was last told of spares holds until it is told otherwise.

    A failed remap is NVIDIA's criterion for a return. What waits for a reset, and a bank with few
    rows left, cost nothing yet; a bank without any has no answer to its next fault.
    """
    del facts
    memory = memory.copy()
    told = {name: _last(frame, memory, name) for name in _TOLD}
    growing = _retiring(frame, memory)
    pages = np.maximum(memory["retired_pages_total"] - 1, 0.0)
    failed = (told["remap_failed"] > 0) | (pages >= MOST_PAGES)
    pending = (told["remap_pending"] > 0) | (told["retired_pages_pending"] > 0)
    level = levels(
        frame.present,
        (WATCH, pending | (told["remap_banks_low"] > 0)),
        (DEGRADED, told["remap_banks_none"] > 0),
        (FAILING, failed | (growing & (pages > MANY_PAGES))),
    )
    evidence = {
        "failed": failed.astype(float),
        "pending": pending.astype(float),
        "banks_without_spares": told["remap_banks_none"],
        "rows_replaced": told["remapped_rows_total"],
        "pages_retired": pages,
    }
    action = np.where(level == FAILING, ACTIONS.index("retire"), -1).astype(np.int8)
    return Score(level, evidence, action=action), memory


def _last(frame: Frame, memory: Memory, name: str) -> Floats:
    """(n,) the value last told, 0 where none was; `memory` is changed in place."""
    now = frame.values[name]
    memory[name] = np.where(np.isnan(now), memory[name], now + 1)
    last: Floats = np.maximum(memory[name] - 1, 0.0)
    return last


def _retiring(frame: Frame, memory: Memory) -> Bools:
    """(n,) whether two pages were retired within a week of one another, not longer ago."""
    growth = np.nan_to_num(
        grown(memory, "retired_pages_total", frame.values["retired_pages_total"])
    )
    again = (memory["page_ns"] > 0) & (frame.end_ns - memory["page_ns"] <= WEEK_NS)
    met = (growth >= 2) | ((growth >= 1) & again)
    memory["page_ns"][growth >= 1] = frame.end_ns
    memory["growing_until_ns"][met] = frame.end_ns + WEEK_NS
    growing: Bools = memory["growing_until_ns"] > frame.start_ns
    return growing


DETECTOR = Detector(
    name="remap",
    cause="memory",
    component="memory",
    # A reset puts waiting spares to use; then a probe tells whether that was all.
    action="rerun-probe",
    precedence=3,
    raise_after=1,
    clear_after=1,
    memory=MEMORY,
    per_span=True,
    score=score,
)
