"""What a detector is, and what several detectors share.

A detector is one file in `detectors/`: it scores each card of a frame and says what it must
remember. Whether a score becomes a verdict is not its business: persistence, control over the
fleet and attribution are done once, in `step`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.frame import Bools, Codes, Floats, Frame, Span

NOT_JUDGED, OK, WATCH, DEGRADED, FAILING, LOST, UNKNOWN = -1, 0, 1, 2, 3, 4, 5
LEVELS = np.arange(WATCH, LOST + 1, dtype=np.int8)
"""The levels of something wrong, each worse than the one before."""
STATE_NAMES = ("ok", "watch", "degraded", "failing", "lost", "unknown")

Cause = Literal[
    "thermal",
    "power",
    "link",
    "memory",
    "compute",
    "driver",
    "identity",
    "host",
    "workload",
    "unreachable",
]
Action = Literal[
    "reseat",
    "swap-riser",
    "check-power-cable",
    "clean-fan",
    "repaste",
    "repad",
    "reball",
    "reflash-vbios",
    "move-slot",
    "derate",
    "rerun-probe",
    "look-at-node",
    "look-at-job",
    "retire",
]
"""What the keeper's hands do, in one word."""

CAUSES: tuple[str, ...] = get_args(Cause)
ACTIONS: tuple[str, ...] = get_args(Action)

Memory = NDArray[np.void]
"""(n,) structured: what a detector remembers of each card; zeros for a card that is new."""


class Rule(NamedTuple):
    """What events of one code mean: how many, within which time, during how many jobs.

    A code may have one rule for a single event and one for repeats.
    """

    level: int
    times: int
    within_ns: int
    jobs: int
    cause: str
    action: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beforehand, frozen.

    `memory_bytes` gives, by model name, the memory sizes that cards of that name are made or
    reworked with, ascending. `expected` holds, by name, columns over the roster of what each card
    is made to give (see `EXPECTED`); `xids` the rules for each XID, `npu_faults` those for each
    fault code of an NPU; those for codes of no list stand under an empty one. `groups` names, by
    scope and by card, what the keeper has said cards share: a `batch`, or a `power_group` of cards
    on one supply.
    """

    memory_bytes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    expected: Mapping[str, Floats] = field(default_factory=dict)
    xids: Mapping[str, Sequence[Rule]] = field(default_factory=dict)
    npu_faults: Mapping[str, Sequence[Rule]] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of_cards(self, name: str, n: int) -> Floats:
        """(n,) one column of `expected`, NaN where nothing is known."""
        known = self.expected.get(name)
        return np.full(n, np.nan) if known is None else known


EXPECTED = (
    "fp16_flops",
    "fp32_flops",
    "memory_bandwidth_bytes_per_second",
    "memory_bytes",
    "link_bytes_per_second",
    "power_watts",
    "core_clock_mhz",
    "memory_clock_mhz",
    "locked",
    "achievable_memory_bandwidth_ratio",
)
"""Columns of `Facts.expected`: what a card of its model is made to give at default limits. `locked`
is 1 for mining cards that the maker throttled. The last one is the share of the bandwidth that a
real test reaches."""


class Score(NamedTuple):
    """What a detector says of n cards.

    `cause` and `action` hold, where a detector knows them better than its declaration, indices
    into `CAUSES` and `ACTIONS` by card, -1 where it does not.

    `level` is `NOT_JUDGED` where nothing can be said. `delivered` is the share of the expected
    that the detector's component gives. With `p_value`, a level counts only where it stands out
    over all cards tested together.
    """

    level: Codes
    evidence: Mapping[str, Floats]
    delivered: Floats | None = None
    p_value: Floats | None = None
    cause: Codes | None = None
    action: Codes | None = None


@dataclass(frozen=True, slots=True)
class Detector:
    """One way in which a card can fail to give what it should.

    `component` is what it costs where it tells a share, None the whole card. `precedence` decides
    which of several findings of a card names the cause: the lower explains the higher. A level is
    raised after `raise_after` judged windows in a row that reached it and cleared after
    `clear_after` in a row that did not; a frame longer than a span counts for as many windows as it
    holds spans. `shared_by` names the scopes that can be at fault when most of their cards show it.
    A `per_span` one is asked only when a span ends. What an `of_silent` one says holds also of
    cards from which no reading came in time.
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
    shared_by: frozenset[str] = frozenset()

    per_span: bool = False
    of_silent: bool = False

    def window_start_ns(self, frame: Frame) -> int:
        """Begin of what a score that is given with a frame covers."""
        return frame.start_ns // SPAN_NS * SPAN_NS if self.per_span else frame.start_ns


NO_MEMORY: np.dtype[Any] = np.dtype([("none", "?")])


def levels(judged: Bools, *steps: tuple[int, Bools]) -> Codes:
    """(n,) OK where judged, raised by each `(level, where)` in turn."""
    level = np.where(judged, OK, NOT_JUDGED).astype(np.int8)
    for code, where in steps:
        level[judged & where] = code
    return level


# --- spans -------------------------------------------------------------------------------------

SPAN_NS = 300 * 10**9
"""Length over which statistical scores are taken, see `span`."""


# --- counters ----------------------------------------------------------------------------------


def grown(memory: Memory, name: str, now: Floats) -> Floats:
    """(n,) growth of a counter since the last frame that gave it; `memory` is changed in place.

    `memory` holds the last value plus one under `name`, so that zeros mean that none was seen.
    A counter that fell was reset, and what it shows has been counted since. NaN where there is
    nothing to compare with.
    """
    before = memory[name] - 1
    growth = np.where(now >= before, now - before, now)
    memory[name] = np.where(np.isnan(now), memory[name], now + 1)
    return np.where(before < 0, np.nan, growth)


def span_of(frame: Frame) -> Span:
    """The span that ends with a frame; a `per_span` detector is asked only when one does."""
    assert frame.span is not None
    return frame.span


def nothing_judged(n: int) -> Score:
    """Nothing can be said of any card."""
    return Score(np.full(n, NOT_JUDGED, np.int8), {})
