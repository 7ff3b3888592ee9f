"""The board is not what it was: its marks have changed, or it answers in two places at once."""

import numpy as np

from farmhand_collector.capacity.boards import doubles
from farmhand_collector.capacity.detector import (
    DEGRADED,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
)
from farmhand_collector.capacity.frame import READ_OK, Bools, Floats, Frame

DIE = ("device_id", "core_count", "memory_bus_bits", "name")
"""Marks that one die keeps: the device id is fused into it (rework 1)."""
BOARD = ("vbios", "subsystem_id", "serial")
"""Marks that another VBIOS, or a new board under the old die, brings."""
HELD_NS = 24 * 3600 * 10**9
"""How long a change is told: own judgement, so that who comes in the morning sees it."""

_MARKS = (*DIE, *BOARD, "driver")
MEMORY = np.dtype(
    [(name, "f8") for name in _MARKS]
    + [("told_ns", "i8"), ("die_ns", "i8"), ("board_ns", "i8"), ("marks", "i4"), ("twice", "?")]
)
"""Marks last told, 0 for unknown; when any was told and when those of die and board last changed;
how many changed then; whether the card answered in two places in the frame before."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Marks against those last told of the board, wherever it was then.

    A new driver may give a card another name, and that is no other card.
    """
    del facts
    memory = memory.copy()
    places = _places(frame)
    _bring_along(frame, memory, places)
    changed = {name: _changed(frame, memory, name) for name in _MARKS}
    changed["name"] &= ~changed["driver"]
    die = np.sum([changed[name] for name in DIE], axis=0)
    board = np.sum([changed[name] for name in BOARD], axis=0)
    memory["die_ns"][die > 0], memory["board_ns"][board > 0] = frame.end_ns, frame.end_ns
    memory["marks"] = np.where(die + board > 0, die + board, memory["marks"])
    memory["told_ns"][frame.present] = frame.end_ns
    recent = {name: _is_recent(memory[f"{name}_ns"], frame.end_ns) for name in ("die", "board")}
    memory["marks"][~recent["die"] & ~recent["board"]] = 0
    # A card that is moved may be heard in both places within one frame.
    twice = (places > 1) & memory["twice"]
    memory["twice"] = places > 1
    level = levels(frame.present, (WATCH, twice | recent["board"]), (DEGRADED, recent["die"]))
    evidence = {
        "marks": memory["marks"].astype(float),
        "die": recent["die"].astype(float),
        "places": places,
    }
    return Score(level, evidence), memory


def _changed(frame: Frame, memory: Memory, name: str) -> Bools:
    """(n,) whether a mark is another than before; it is remembered."""
    told, before = frame.facts[name], memory[name]
    differs = frame.present & (told > 0) & (told != before)
    changed: Bools = differs & (before > 0)
    memory[name][differs] = told[differs]
    return changed


def _is_recent(time_ns: np.ndarray[tuple[int], np.dtype[np.int64]], now_ns: int) -> Bools:
    recent: Bools = (time_ns > 0) & (now_ns - time_ns < HELD_NS)
    return recent


def _places(frame: Frame) -> Floats:
    """(n,) in how many places each card answers."""
    places: Floats = (frame.read == READ_OK).astype(float)
    rows, boards = doubles(frame.roster)
    if len(rows):
        alive = np.bincount(boards, weights=places[rows])[boards]
        places[rows] = np.where(places[rows] > 0, alive, 0)
    return places


def _bring_along(frame: Frame, memory: Memory, places: Floats) -> None:
    """Give a board that was moved what is remembered of it; `memory` is changed in place."""
    rows, boards = doubles(frame.roster)
    if not len(rows):
        return
    order = np.lexsort((rows, memory["told_ns"][rows], boards))
    rows, boards = rows[order], boards[order]
    newest = np.append(np.flatnonzero(np.diff(boards)), len(rows) - 1)
    source = rows[newest[np.searchsorted(boards[newest], boards)]]
    moved = frame.present[rows] & (places[rows] == 1) & (source != rows)
    memory[rows[moved]] = memory[source[moved]]


DETECTOR = Detector(
    name="identity",
    cause="identity",
    # What a changed board gives is for other detectors to say.
    component=None,
    action="reflash-vbios",
    precedence=2,
    raise_after=3,
    clear_after=3,
    memory=MEMORY,
    score=score,
)
