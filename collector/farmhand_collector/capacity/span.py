"""Spans: means over five minutes, gathered frame by frame once for all detectors.

Readings of a card are correlated over minutes, and persistence over correlated windows is worth
nothing; five minutes are past the heatsink's time constant. A frame that is longer than a span,
as in a recording of one reading per job, is a span by itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from farmhand_collector.capacity.caps import caps_mhz
from farmhand_collector.capacity.detector import SPAN_NS, Facts
from farmhand_collector.capacity.frame import LOADED, Bools, Floats, Frame, Span, divided, fitted
from farmhand_collector.capacity.statistics import group_medians, grouped

LEAST_LOADED_SHARE = 0.5
"""Share of its readings in a span in which a card must have been loaded and given a value to be
judged on it."""
LEAST_IDLE_SHARE = 0.8
"""Likewise for what an idle card shows: it must have settled."""
LEAST_RATE_SHARE = 0.8
"""Share of a frame in which a card must have been loaded, where it tells, for its rate to count."""
LEAST_COVERED_SHARE = 0.5
"""Share of a span for which there must be readings."""
IDLE_RATIO = 0.02
LATEST_HOLDS_NS = 7 * 86_400 * 10**9
"""How long a card's last span serves its peers: air, drivers and limits change over weeks."""

SPREAD = ("core_clock_mhz", "memory_clock_mhz")
LEAST_SPREAD_FRAMES = 3
IDLE = ("power_watts", "core_temperature_celsius", "core_clock_mhz")
HOST = ("inlet_temperature_celsius",)
RATE = "rate"
RATE_AT = ("power_limit_watts", "core_clock_mhz", "utilization_ratio")


@dataclass(slots=True)
class Spans:
    """Memory of the span in progress, and of the last one of each card."""

    number: int = -1
    columns: dict[str, Floats] = field(default_factory=dict)
    """Sums and the time for which each value was given, by name, of the span in progress."""
    latest: dict[str, Floats] = field(default_factory=dict)
    """Means of the last span in which each card gave a value while loaded, and when it ended."""

    def named(self) -> dict[str, Floats]:
        """All columns under names that tell them apart, for saving."""
        told = {f"sum.{name}": column for name, column in self.columns.items()}
        return told | {f"latest.{name}": column for name, column in self.latest.items()}

    @classmethod
    def of(cls, number: int, named: Mapping[str, Floats]) -> "Spans":
        """Restored from what `named` gave."""
        kinds: dict[str, dict[str, Floats]] = {"sum": {}, "latest": {}}
        for name, column in named.items():
            kind, _, rest = name.partition(".")
            kinds[kind][rest] = column
        return cls(number, kinds["sum"], kinds["latest"])

    def fitted(self, n: int) -> "Spans":
        """With a row for each of n cards."""
        return Spans(
            self.number,
            {name: fitted(column, n, 0.0) for name, column in self.columns.items()},
            {name: fitted(column, n, np.nan) for name, column in self.latest.items()},
        )


def gathered(frame: Frame, spans: Spans) -> tuple[Frame, Spans]:
    """Add a frame to the span that it begins in.

    Returns:
        The frame, with the span if it ends with it or is passed by it, and the new memory.
    """
    n, number = len(frame), frame.start_ns // SPAN_NS
    spans = spans.fitted(n)
    if number != spans.number:
        spans = Spans(number, {}, spans.latest)
    columns = dict(spans.columns)
    for name, values, given_ns in _given(frame):
        _add(columns, name, values, given_ns)
    _add(columns, "covered", None, np.where(frame.present, _length_ns(frame), 0.0))
    after = Spans(number, columns, spans.latest)
    if frame.end_ns // SPAN_NS == number:
        return frame, after
    span = _closed(frame, after)
    after.latest = dict(span.latest)
    return replace(frame, span=span), after


def _length_ns(frame: Frame) -> int:
    return frame.end_ns - frame.start_ns


def _given(frame: Frame) -> Iterator[tuple[str, Floats, Floats]]:
    """Each value with the time for which the frame gives it; what no card gave is left out."""
    length_ns = _length_ns(frame)
    loaded_ns = np.nan_to_num(frame.loaded_share) * length_ns
    steady_ns = np.where(frame.loaded_share == 1, float(length_ns), 0.0)
    idle = (frame.loaded_share == 0) & (frame.values["utilization_ratio"] <= IDLE_RATIO)
    idle_ns = np.where(idle, float(length_ns), 0.0)
    whole_ns = np.where(frame.present, float(length_ns), 0.0)
    told: list[tuple[str, Floats, Floats]] = [
        *((f"loaded.{name}", frame.loaded[name], loaded_ns) for name in LOADED),
        *((f"steady.{name}", frame.loaded[name], steady_ns) for name in SPREAD),
        *((f"square.{name}", frame.loaded[name] ** 2, steady_ns) for name in SPREAD),
        *((f"idle.{name}", frame.values[name], idle_ns) for name in IDLE),
        *((f"host.{name}", frame.host[name], whole_ns) for name in HOST),
        # A card that has less to do does less: what it gives is seen when it works.
        (RATE, frame.work.rate, np.where(frame.loaded_share < LEAST_RATE_SHARE, 0.0, length_ns)),
    ]
    for name, values, given_ns in told:
        known = ~np.isnan(values) & (given_ns > 0)
        if known.any():
            yield name, np.where(known, values, 0.0), np.where(known, given_ns, 0.0)


def _add(columns: dict[str, Floats], name: str, values: Floats | None, given_ns: Floats) -> None:
    """Add to the sums; without values, the time alone."""
    time_name = f"{name}_ns"
    columns[time_name] = columns[time_name] + given_ns if time_name in columns else given_ns
    if values is not None:
        products = values * given_ns
        columns[name] = columns[name] + products if name in columns else products


def _closed(frame: Frame, spans: Spans) -> Span:
    covered_ns = spans.columns["covered_ns"]
    covered = covered_ns >= LEAST_COVERED_SHARE * SPAN_NS
    least = {"loaded": LEAST_LOADED_SHARE, "idle": LEAST_IDLE_SHARE, "host": 0.0, RATE: 0.0}
    means: dict[str, dict[str, Floats]] = {"loaded": {}, "idle": {}, "host": {}, RATE: {}}
    for kind, names in (("loaded", LOADED), ("idle", IDLE), ("host", HOST), (RATE, ("",))):
        for name in names:
            key = f"{kind}.{name}".rstrip(".")
            means[kind][name] = _mean(spans.columns, key, covered_ns, covered, least[kind])
    loaded, rate = means["loaded"], means[RATE][""]
    fresh = ~np.isnan(loaded["core_clock_mhz"]) | ~np.isnan(loaded["power_watts"])
    loaded["power_limit_watts"] = _limits(frame, loaded["power_limit_watts"], fresh)
    latest = _latest(frame, spans.latest, "end_ns", loaded, fresh)
    worked = {**_job(frame), RATE: rate}
    # A rate belongs to the limit, the clock and the load at which it was told.
    worked |= {f"rate_{name}": loaded[name] for name in RATE_AT}
    latest |= _latest(frame, spans.latest, "rate_end_ns", worked, ~np.isnan(rate))
    unknown = np.full(len(frame), np.nan)
    latest["capped_mhz"] = caps_mhz(frame, loaded, latest, spans.latest.get("capped_mhz", unknown))
    start_ns = frame.start_ns // SPAN_NS * SPAN_NS
    spread = {name: _spread(frame, spans.columns, name) for name in SPREAD}
    return Span(start_ns, loaded, means["idle"], means["host"], rate, latest, fresh, spread)


def _spread(frame: Frame, columns: Mapping[str, Floats], name: str) -> Floats:
    """(n,) standard deviation of frames as a share of their mean."""
    steady, square = f"steady.{name}", f"square.{name}"
    if square not in columns or LEAST_SPREAD_FRAMES * _length_ns(frame) > SPAN_NS:
        return np.full(len(frame), np.nan)
    mean = divided(columns[steady], columns[f"{steady}_ns"])
    mean_square = divided(columns[square], columns[f"{square}_ns"])
    return np.sqrt(np.fmax(mean_square / mean**2 - 1.0, 0.0))


def _limits(frame: Frame, told: Floats, fresh: Bools) -> Floats:
    """(n,) power limits; a card that tells none has that of its kind on its node.

    Keepers set limits by node, and one that nobody saw change would look like a fault.
    """
    untold = np.flatnonzero(fresh & np.isnan(told))
    if not len(untold):
        return told
    mates = grouped(frame.roster.kinds, frame.roster.nodes)
    near = np.isin(mates, mates[untold])
    now = np.where(near, frame.values["power_limit_watts"], np.nan)
    medians, _ = group_medians(now, mates, int(mates.max()) + 1)
    limits = told.copy()
    limits[untold] = medians[mates[untold]]
    return limits


def _mean(
    columns: Mapping[str, Floats], key: str, covered_ns: Floats, covered: Bools, least: float
) -> Floats:
    if key not in columns:
        return np.full(len(covered), np.nan)
    given_ns = columns[f"{key}_ns"]
    # What is told rarely, such as a rate, need not fill the span.
    enough = covered & (given_ns > 0) & (given_ns >= least * covered_ns)
    return np.where(enough, divided(columns[key], given_ns), np.nan)


def _job(frame: Frame) -> dict[str, Floats]:
    """Job and gang as numbers; 0 where none is told. The codes are exact as floats."""
    return {"job": frame.work.job.astype(float), "gang": frame.work.gang.astype(float)}


def _latest(
    frame: Frame,
    before: Mapping[str, Floats],
    end_name: str,
    now: Mapping[str, Floats],
    fresh: Bools,
) -> dict[str, Floats]:
    """Each card's last means: what a card that rests or reports rarely gave when it worked."""
    n = len(frame)
    ended_ns = np.where(fresh, float(frame.end_ns), before.get(end_name, np.full(n, np.nan)))
    holds = frame.end_ns - ended_ns <= LATEST_HOLDS_NS
    latest = {
        name: np.where(fresh, column, np.where(holds, before.get(name, np.nan), np.nan))
        for name, column in now.items()
    }
    return {end_name: np.where(holds, ended_ns, np.nan), **latest}


# --- load --------------------------------------------------------------------------------------

BUSY_POWER_RATIO = 0.4
"""Share of its board power above which a card works that does not tell its utilisation: idle cards
draw a tenth to a quarter."""


def with_load(frame: Frame, facts: Facts) -> Frame:
    """The frame, with cards counted as loaded that do not tell their utilisation but must be.

    Those whose job told a rate, and those that draw what no idle card draws.
    """
    untold = np.isnan(frame.loaded_share) & frame.present
    if not untold.any():
        return frame
    power, made_for = frame.values["power_watts"], facts.of_cards("power_watts", len(frame))
    busy = untold & (~np.isnan(frame.work.rate) | (power >= BUSY_POWER_RATIO * made_for))
    if not busy.any():
        return frame
    loaded = {
        name: np.where(busy, frame.values[name], column) for name, column in frame.loaded.items()
    }
    return replace(frame, loaded=loaded, loaded_share=np.where(busy, 1.0, frame.loaded_share))
