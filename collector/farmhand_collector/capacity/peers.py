"""Comparing like with like: which cards are equals, and how far one lies from the others.

A card is compared with the last span of each of its equals in which they worked, so that a small
farm, or one whose jobs run one after the other, has peers at all.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from farmhand_collector.capacity.detector import (
    DEGRADED,
    SPAN_NS,
    Memory,
    Score,
    levels,
    span_of,
)
from farmhand_collector.capacity.frame import Bools, Floats, Frame, Span
from farmhand_collector.capacity.statistics import (
    Groups,
    clustered,
    grouped,
    lower_tail,
    others_median,
    pooled_sigma,
)

LEAST_SIGMAS = 3.5
"""Deviation, in pooled standard deviations, below which a card is one of the many."""
AT_LIMIT_RATIO = 0.93
SAME_LIMIT_RATIO = 1.06
"""Partner boards of one model differ by a few percent in their limit, which moves the clock by a
third of that; a limit lowered on purpose lies further off."""
AT_LIMIT_DUTY = 0.05
"""A card is at its power limit when it draws this share of it, or is held by it this share of the
time. That is normal at full load; bursts of work are held now and then."""
HOT_CELSIUS, HOTTER_CELSIUS = 65.0, 10.0
"""A die this warm, and this much warmer than equal cards, has a cooling of its own to blame; the
place in the chassis makes up to 8 °C (Longhorn)."""

MOVING_SPREAD, MOVING_SHARE, MOVING_SMOOTHING = 0.0003, 0.05, 0.02
"""Clocks go in steps of 7.5 or 15 MHz, and a regulated one changes between two of them now and
then: one reading in thirty makes this spread. It shows in more than one span in twenty; the start
of a job of hours shows in fewer."""


@lru_cache(maxsize=1)
def same_kind(frame: Frame) -> Groups:
    """(n,) cards of equal model and memory form one group."""
    memory_gib = np.nan_to_num(_memory_bytes(frame) / 2**30).round()
    return grouped(frame.roster.kinds, memory_gib)


def _memory_bytes(frame: Frame) -> Floats:
    size = frame.values["memory_total_bytes"]
    worked = frame.span.latest["memory_total_bytes"] if frame.span else size
    for other in (worked, frame.facts["memory_total_bytes"]):
        size = np.where(np.isnan(size), other, size)
    return size


def alike_at_work(frame: Frame) -> Groups:
    """(n,) cards of equal model, memory and about equal limit when their job last told a rate."""
    limit_watts = np.nan_to_num(span_of(frame).latest["rate_power_limit_watts"])
    return clustered(limit_watts, same_kind(frame), SAME_LIMIT_RATIO)


@lru_cache(maxsize=1)
def alike(frame: Frame) -> Groups:
    """(n,) cards of equal model, memory and about equal power limit in force form one group."""
    limit_watts = np.nan_to_num(span_of(frame).latest["power_limit_watts"])
    return clustered(limit_watts, same_kind(frame), SAME_LIMIT_RATIO)


def at_the_same_work(frame: Frame) -> Groups:
    """(n,) cards of equal job form one group; of cards that tell none now, those of one node."""
    job = job_now(frame)
    return grouped(job, np.where(job > 0, -1, frame.roster.nodes))


def job_now(frame: Frame) -> Floats:
    """(n,) the job that each card was at when it last worked, 0 where it told none then."""
    latest = span_of(frame).latest
    told_then = np.abs(latest["end_ns"] - latest["rate_end_ns"]) <= SPAN_NS
    return np.where(told_then, np.nan_to_num(latest["job"]), 0.0)


def limit_factor(limit_watts: Floats) -> Floats:
    """(n,) by how much a power limit lets the clock rise, up to a constant; 1 where it is not told.

    Near the top board power grows with about the cube of the clock.
    """
    return np.where(limit_watts > 0, np.cbrt(limit_watts), 1.0)


def at_power_limit(means: Mapping[str, Floats]) -> Bools:
    """(n,) whether power holds the card, from its means over a span."""
    drawn = means["power_watts"] >= AT_LIMIT_RATIO * means["power_limit_watts"]
    return drawn | (means["throttle_power_ratio"] >= AT_LIMIT_DUTY)


def is_hot(frame: Frame) -> Bools:
    """(n,) whether a card is hot, and hotter than its equals."""
    celsius = span_of(frame).latest["core_temperature_celsius"]
    usual = others_median(celsius, same_kind(frame))
    hot: Bools = (celsius >= HOT_CELSIUS) & (celsius >= usual + HOTTER_CELSIUS)
    return hot


def moves(memory: Memory, name: str) -> Bools:
    """(n,) whether a clock moves under load: what is held back by heat or power is regulated.

    A clock that a limit, a tool or a fault holds is the same in every reading.
    """
    regulated: Bools = memory[name] >= MOVING_SHARE
    return regulated


def moving(span: Span, memory: Memory, name: str) -> Floats:
    """(n,) share of late spans in which a clock moved, one span further; to be remembered."""
    spread = span.spread[name]
    now = np.where(np.isnan(spread), memory[name], spread > MOVING_SPREAD)
    return np.asarray(memory[name] + MOVING_SMOOTHING * (now - memory[name]))


def compared(
    values: Floats,
    groups: Groups,
    fresh: Bools,
    *,
    least_shortfall: Floats | float,
    reference: Floats | None = None,
) -> Score:
    """Score values against a reference, by default the median of the others of the group.

    Args:
        values: (n,) positive, the last of each card, NaN where none is known.
        groups: (n,) who is compared with whom.
        fresh: (n,) whose value is new, and so to be judged.
        least_shortfall: share below the reference from which on it matters.
        reference: (n,) what each card should show, NaN where unknown.
    """
    usual = others_median(values, groups) if reference is None else reference
    deviation = np.log(values / usual)
    sigma = pooled_sigma(deviation)
    shortfall = np.where(fresh, 1 - values / usual, np.nan)
    stands_out = deviation <= -LEAST_SIGMAS * sigma
    level = levels(
        ~np.isnan(shortfall),
        (DEGRADED, stands_out & (shortfall >= least_shortfall)),
    )
    evidence = {"value": np.where(fresh, values, np.nan), "usual": usual, "shortfall": shortfall}
    p_value = lower_tail(np.where(fresh, deviation, np.nan) / sigma)
    return Score(level, evidence, np.clip(1 - shortfall, 0.0, 1.0), p_value)
