"""The card gives less than it gave in its first hour here.

Between cards of one kind there are 2 % and more, within one card a thousandth (Longhorn): against
its own past a card shows a loss of 2 % that its peers cannot.
"""

from typing import NamedTuple

import numpy as np

from farmhand_collector.capacity.baseline import FIELDS, learnt
from farmhand_collector.capacity.caps import CAPPED_SPREAD, is_at
from farmhand_collector.capacity.detector import (
    ACTIONS,
    CAUSES,
    DEGRADED,
    NOT_JUDGED,
    OK,
    WATCH,
    Detector,
    Facts,
    Memory,
    Score,
    levels,
    span_of,
)
from farmhand_collector.capacity.frame import Bools, Codes, Floats, Frame, Span
from farmhand_collector.capacity.mig import is_divided
from farmhand_collector.capacity.pace import gangs
from farmhand_collector.capacity.peers import LEAST_SIGMAS, alike, at_power_limit, is_hot
from farmhand_collector.capacity.statistics import (
    grouped,
    lower_tail,
    others_median,
    pooled_sigma,
)

WATCH_LOSS, DEGRADED_LOSS = 0.02, 0.05
"""Own history finds 99 % of losses of 2 % (injected into Longhorn's runs); 5 % is what SuperBench's
documented criterion calls a shortfall."""
UNSURE_FACTOR = 2.5
"""Without peers a hot week (0.1 % a degree) or a driver shows in full; with other work than in the
first hour a boost clock differs by a few steps. Losses count from this much more on, for each."""
LEAST_SIGMA = 0.003
"""Repeatability within a card is 0.1 %, 0.8 % at worst (Longhorn)."""
SMOOTHING = 0.25
"""Weight of the newest span: a lasting loss is reached within a few spans, one bad span is not."""
CONFIRMED_RATIO = 0.5
"""Share of a loss against peers that must show in the card's own value: peers come and go."""
SAME_LIMIT_RATIO = 1.03
FREE_POWER_RATIO, FREE_DUTY = 0.85, 0.05
"""Below these shares of its power limit and of time held by it, work does not set the clock."""

_QUANTITIES = ("clock", "free_clock", "rate")
TRACK = [("alone", FIELDS), ("beside", FIELDS), ("alone_loss", "f8"), ("beside_loss", "f8")]
MEMORY = np.dtype([("limit_watts", "f8"), ("job", "f8"), *((name, TRACK) for name in _QUANTITIES)])
"""What the first hour was measured at, and by quantity the baselines of its own value (`alone`) and
of that over the median of its equals (`beside`), each with the smoothed loss against it.

`clock` and `rate` are those of one job; `free_clock` is that of whatever work leaves power to
spare, and outlives jobs."""


class Lost(NamedTuple):
    """(n,) what became of one quantity.

    `loss` is smoothed, `now` that of this span; `least` multiplies the thresholds, and `sigma` is
    the spread of one span. `value` is that of this span, `first` that of the first hour.
    """

    loss: Floats
    now: Floats
    least: Floats
    sigma: Floats
    value: Floats
    first: Floats


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """Clock and rate under load against their frozen baselines; the worst quantity counts."""
    del facts
    span, memory = span_of(frame), memory.copy()
    # A card that told no rate may be at other work than it was last told to be.
    job = np.where(np.isnan(span.rate), 0.0, np.nan_to_num(span.latest["job"]))
    other_limit = _changed(memory, "limit_watts", _limit(span), SAME_LIMIT_RATIO)
    other_job = _changed(memory, "job", job, 1.0)
    values, latest = _values(frame, span, job), _latest(span)
    equals, by_choice = alike(frame), _is_by_choice(frame, memory)
    same_work = np.where(_of_latest(span, "job") > 0, grouped(equals, _of_latest(span, "job")), -1)
    lost = []
    for name in _QUANTITIES:
        peers = equals if name == "free_clock" else same_work
        restart = other_limit if name == "free_clock" else other_limit | other_job
        unsure = UNSURE_FACTOR if name == "free_clock" else 1.0
        usual = others_median(np.where(np.isnan(values[name]), latest[name], values[name]), peers)
        lost.append(_lost(memory[name], values[name], usual, restart, unsure, by_choice))
    return _judged(frame, Lost(*(np.stack(columns) for columns in zip(*lost, strict=True)))), memory


def _limit(span: Span) -> Floats:
    return np.nan_to_num(span.loaded["power_limit_watts"])


def _of_latest(span: Span, name: str) -> Floats:
    return np.nan_to_num(span.latest[name])


def _changed(memory: Memory, name: str, now: Floats, ratio: float) -> Bools:
    """(n,) whether something on which baselines depend is another; what it is is remembered."""
    before = memory[name]
    known = (now > 0) & (before > 0)
    changed: Bools = known & (np.fmax(now / before, before / now) > ratio)
    memory[name] = np.where((now > 0) & (changed | (before == 0)), now, before)
    return changed


def _is_by_choice(frame: Frame, memory: Memory) -> Bools:
    """(n,) whose clock, or that of one in their gang, is capped below that of the first hour."""
    span = span_of(frame)
    clock = span.loaded["core_clock_mhz"]
    first = np.fmax(*(memory[name]["alone"]["mean"] for name in ("clock", "free_clock")))
    lowered = is_at(clock, span.latest["capped_mhz"]) & (clock < (1 - CAPPED_SPREAD) * first)
    step = gangs(frame)
    by_choice: Bools = step.least(np.where(lowered, 0.0, 1.0)) == 0
    return by_choice


def _values(frame: Frame, span: Span, job: Floats) -> dict[str, Floats]:
    """(n,) each quantity of this span where it can be compared with another span's."""
    clock, power = span.loaded["core_clock_mhz"], span.loaded["power_watts"]
    works = ~np.isnan(clock) | ~np.isnan(power) | (frame.loaded_share > 0)
    has_job = (job > 0) & works & ~is_divided(frame)
    is_free = _is_free(span) & ~is_divided(frame)
    rate = span.rate
    return {
        "clock": np.where(has_job & (clock > 0), clock, np.nan),
        "free_clock": np.where(is_free & (clock > 0), clock, np.nan),
        "rate": np.where(has_job & (rate > 0), rate, np.nan),
    }


def _is_free(span: Span) -> Bools:
    power, limit = span.loaded["power_watts"], span.loaded["power_limit_watts"]
    duty = np.nan_to_num(span.loaded["throttle_power_ratio"])
    free: Bools = (power < FREE_POWER_RATIO * limit) & (duty <= FREE_DUTY)
    return free


def _latest(span: Span) -> dict[str, Floats]:
    """(n,) each quantity of the last span of each card, for its equals."""
    clock, rate = span.latest["core_clock_mhz"], span.latest["rate"]
    free = np.where(at_power_limit(span.latest), np.nan, clock)
    return {"clock": clock, "free_clock": free, "rate": rate}


def _lost(
    track: Memory,
    value: Floats,
    usual: Floats,
    restart: Bools,
    unsure: float,
    by_choice: Bools,
) -> Lost:
    """Loss of one quantity against its baselines; `track` is changed in place."""
    track["alone_loss"][restart] = track["beside_loss"][restart] = 0
    alone, beside = (
        learnt(track["alone"], value, restart),
        learnt(track["beside"], value / usual, restart),
    )
    own = 1 - value / alone.mean
    own = np.where(by_choice, np.minimum(own, 0.0), own)
    relative = np.minimum(1 - value / usual / beside.mean, own / CONFIRMED_RATIO)
    smooth = {"alone": _smoothed(track["alone_loss"], own)}
    smooth["beside"] = _smoothed(track["beside_loss"], relative)
    has_peers = ~np.isnan(relative)
    loss = np.where(has_peers, smooth["beside"], smooth["alone"])
    now = np.where(has_peers, relative, own)
    # A card alone, or one of two, would be its own measure.
    pooled = pooled_sigma(loss[has_peers], LEAST_SIGMA)
    sigma = np.where(has_peers, np.fmax(beside.sigma, pooled), np.fmax(alone.sigma, LEAST_SIGMA))
    least = unsure * np.where(has_peers, 1.0, UNSURE_FACTOR)
    return Lost(np.where(np.isnan(now), np.nan, loss), now, least, sigma, value, alone.mean)


def _smoothed(column: Floats, now: Floats) -> Floats:
    """(n,) the loss smoothed over spans; `column` is changed in place."""
    column += np.where(np.isnan(now), 0.0, SMOOTHING * (now - column))
    return column.copy()


def _judged(frame: Frame, lost: Lost) -> Score:
    """The quantity that lost most, counted in what makes it a loss."""
    severity = np.nan_to_num(np.fmin(lost.loss, lost.now) / lost.least, nan=-np.inf)
    worst = np.argmax(severity, axis=0)
    picked = Lost(*(np.take_along_axis(column, worst[np.newaxis], 0)[0] for column in lost))
    seen = np.fmin(picked.loss, picked.now)
    stands_out = picked.loss >= LEAST_SIGMAS * picked.sigma
    level = levels(
        ~np.isnan(picked.now),
        (WATCH, stands_out & (seen >= WATCH_LOSS * picked.least)),
        (DEGRADED, stands_out & (seen >= DEGRADED_LOSS * picked.least)),
    )
    hot = is_hot(frame) if (level > OK).any() else np.zeros(len(frame), bool)
    evidence = {
        "loss": picked.loss,
        "value": picked.value,
        "first": picked.first,
        "is_rate": np.where(np.isnan(picked.now), np.nan, worst == _QUANTITIES.index("rate")),
    }
    return Score(
        level,
        evidence,
        np.clip(1 - picked.loss, 0.0, 1.0),
        _p_value(level, picked),
        np.where(hot, CAUSES.index("thermal"), -1).astype(np.int8),
        np.where(hot, ACTIONS.index("clean-fan"), -1).astype(np.int8),
    )


def _p_value(level: Codes, lost: Lost) -> Floats:
    """(n,) how likely the loss is by chance; cards that lost nothing to speak of are taken as 1."""
    p_value = np.where(level == NOT_JUDGED, np.nan, 1.0)
    bad = level > OK
    p_value[bad] = lower_tail(-lost.loss[bad] / lost.sigma[bad])
    return p_value


DETECTOR = Detector(
    name="drift",
    cause="compute",
    component="compute",
    action="rerun-probe",
    precedence=12,
    raise_after=3,
    clear_after=6,
    memory=MEMORY,
    per_span=True,
    score=score,
    shared_by=frozenset({"node", "rack", "site", "batch"}),
)
