"""What a detector is, and what several detectors share.

A detector is one file in `detectors/`: it scores each card of a frame and says what it must
remember. Whether a score becomes a verdict is not its business: persistence, control over the
fleet and attribution are done once, in `step`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.frame import Bools, Codes, Floats, Frame, divided

NOT_JUDGED, OK, WATCH, DEGRADED, FAILING, LOST, UNKNOWN = -1, 0, 1, 2, 3, 4, 5
LEVELS = np.arange(WATCH, LOST + 1, dtype=np.int8)
"""The levels of something wrong, each worse than the one before."""
STATE_NAMES = ("ok", "watch", "degraded", "failing", "lost", "unknown")

Memory = NDArray[np.void]
"""(n,) structured: what a detector remembers of each card; zeros for a card that is new."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beforehand, frozen.

    `memory_bytes` gives, by model name, the memory sizes that cards of that name are made or
    reworked with, ascending.
    """

    memory_bytes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


class Score(NamedTuple):
    """What a detector says of n cards.

    `level` is `NOT_JUDGED` where nothing can be said. `delivered` is the share of the expected
    that the detector's component gives. With `p_value`, a level counts only where it stands out
    over all cards tested together.
    """

    level: Codes
    evidence: Mapping[str, Floats]
    delivered: Floats | None = None
    p_value: Floats | None = None


@dataclass(frozen=True, slots=True)
class Detector:
    """One way in which a card can fail to give what it should.

    `precedence` decides which of several findings of a card names the cause: the lower explains
    the higher. A level is raised after `raise_after` judged windows in a row that reached it and
    cleared after `clear_after` in a row that did not.
    """

    name: str
    cause: str
    component: str | None
    action: str
    precedence: int
    raise_after: int
    clear_after: int
    memory: np.dtype[Any]
    score: Callable[[Frame, Memory, Facts], tuple[Score, Memory]]

    def window_start_ns(self, frame: Frame) -> int:
        """Begin of what a score that is given with a frame covers."""
        gathers = "span" in (self.memory.names or ())
        return frame.start_ns // SPAN_NS * SPAN_NS if gathers else frame.start_ns


NO_MEMORY: np.dtype[Any] = np.dtype([("none", "?")])


def levels(judged: Bools, *steps: tuple[int, Bools]) -> Codes:
    """(n,) OK where judged, raised by each `(level, where)` in turn."""
    level = np.where(judged, OK, NOT_JUDGED).astype(np.int8)
    for code, where in steps:
        level[judged & where] = code
    return level


# --- spans -------------------------------------------------------------------------------------

SPAN_NS = 300 * 10**9
"""Length over which statistical scores are taken: readings of a card are correlated over minutes,
and persistence over correlated windows is worth nothing (5 min is past the heatsink's time
constant)."""
LEAST_LOADED_SHARE = 0.5
"""Share of its readings in a span in which a card must have been loaded and given a value to be
judged on it."""
LEAST_COVERED_SHARE = 0.5
"""Share of a span for which there must be readings."""


def span_memory(*names: str) -> np.dtype[Any]:
    """Memory for means over spans of the named values: sums, and the time that each was given."""
    sums = [(name, "f8") for name in names]
    given = [(_given_ns(name), "f8") for name in names]
    return np.dtype([("span", "i8"), ("covered_ns", "f8"), *sums, *given])


def _given_ns(name: str) -> str:
    return f"{name}_given_ns"


def gather(
    frame: Frame, memory: Memory, values: Mapping[str, Floats]
) -> tuple[Memory, dict[str, Floats] | None]:
    """Add a frame's loaded values to the span that it lies in.

    Args:
        frame: belongs to the span in which it begins; the one that reaches the span's end, or
            passes it, ends it.
        memory: of `span_memory` with the names of `values`.
        values: (n,) means over loaded readings, NaN where not given.

    Returns:
        The new memory and, when the span ends with this frame, means over it by name, NaN for
        cards that were not loaded enough in it.
    """
    span = frame.start_ns // SPAN_NS
    memory = memory.copy()
    memory[memory["span"] != span] = np.zeros((), memory.dtype)
    memory["span"] = span
    length_ns = frame.end_ns - frame.start_ns
    memory["covered_ns"] += np.where(frame.present, length_ns, 0)
    loaded_ns = np.nan_to_num(frame.loaded_share) * length_ns
    for name, column in values.items():
        # A frame in which the card did not give the value must not pull its mean to zero.
        given_ns = np.where(np.isnan(column), 0, loaded_ns)
        memory[name] += np.nan_to_num(column) * given_ns
        memory[_given_ns(name)] += given_ns
    if frame.end_ns // SPAN_NS == span:
        return memory, None
    covered_ns = memory["covered_ns"]
    covered = covered_ns >= LEAST_COVERED_SHARE * SPAN_NS
    means = {}
    for name in values:
        given_ns = memory[_given_ns(name)]
        enough = covered & (given_ns >= LEAST_LOADED_SHARE * covered_ns)
        means[name] = np.where(enough, divided(memory[name], given_ns), np.nan)
    return memory, means


def nothing_judged(n: int) -> Score:
    """Nothing can be said of any card."""
    return Score(np.full(n, NOT_JUDGED, np.int8), {})
