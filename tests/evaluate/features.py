"""What baselines see: for each span and card, the means that farmhand's own detectors see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.detector import SPAN_NS
from farmhand_collector.capacity.frame import READ_LOST, READ_OK, Bools, Floats, Frame, Span, fitted
from farmhand_collector.capacity.peers import same_kind
from farmhand_collector.capacity.roster import CardKey
from farmhand_collector.capacity.statistics import Groups, grouped, others_median

LOW_IS_BAD = ("core_clock_mhz", "memory_clock_mhz", "power_watts", "rate")
HIGH_IS_BAD = (
    "core_temperature_celsius",
    "hotspot_temperature_celsius",
    "memory_temperature_celsius",
)
THROTTLES = ("throttle_thermal_ratio", "throttle_hardware_ratio", "throttle_brake_ratio")
METRICS = (*LOW_IS_BAD, *HIGH_IS_BAD)
RELATIVE = tuple(f"{name}.relative" for name in METRICS)
"""Against the median of the others of the kind: as a logarithm, or for temperatures in kelvin."""
OUTLIER_FEATURES = (*RELATIVE, *THROTTLES)

LEAST_SPREAD = 0.01
LEAST_KELVIN = 1.0
"""Floors of a group's spread: with quantised fields it is zero otherwise."""
FATAL_XIDS = frozenset({"48", "62", "64", "74", "79", "92", "94", "95", "109", "119", "120", "140"})
"""Those on which gpud asks for a reset, a reboot or a repair."""


@dataclass(frozen=True)
class Table:
    """Columns of (spans, cards); NaN where a card was not loaded in a span.

    `windows` says for how many spans a value stands: a reading may be of a run that took long.
    `broken` tells of what no threshold is needed for: a card lost or unreadable, a fatal Xid, an
    uncorrected error, a failed or pending row remap.
    """

    roster: Sequence[CardKey]
    end_ns: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.float32]]
    windows: NDArray[np.int32]
    broken: NDArray[np.bool_]

    @cached_property
    def fresh(self) -> NDArray[np.bool_]:
        """(spans, cards) where anything was told of a card under load."""
        fresh = np.zeros(self.broken.shape, bool)
        for name in METRICS:
            fresh |= ~np.isnan(self.columns[name])
        return fresh

    def rows(self, names: Sequence[str], where: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(rows, names) values at some places, 0 for those that are not given."""
        stacked = np.stack([self.columns[name][where] for name in names], axis=1)
        return np.nan_to_num(stacked.astype(np.float64))


class Gatherer:
    """Builds a `Table` frame by frame."""

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._spans: list[dict[str, NDArray[Any]]] = []
        self._broken = np.zeros(0, bool)
        self._uncorrected = np.zeros(0)
        self._windows = np.ones(0)
        self._roster: Sequence[CardKey] = ()

    def note(self, frame: Frame) -> None:
        """Take in the next frame, with its span where one ends."""
        n = len(frame)
        self._roster = frame.roster
        self._broken = fitted(self._broken.astype(float), n, 0.0) > 0
        self._windows = fitted(self._windows, n, 1.0)
        self._broken |= self._breaks(frame)
        long_ns = np.nan_to_num(frame.values["window_seconds"]) * 1e9
        self._windows = np.maximum(self._windows, long_ns // SPAN_NS)
        if frame.span is not None:
            self._ends.append(frame.end_ns)
            told = _columns(frame, frame.span)
            windows = np.maximum(self._windows, (frame.end_ns - frame.start_ns) // SPAN_NS)
            self._spans.append({**told, "windows": windows, "broken": self._broken})
            self._broken, self._windows = np.zeros(n, bool), np.ones(n)

    def table(self) -> Table:
        """All spans so far."""
        n = len(self._roster)
        names = [*METRICS, *RELATIVE, *THROTTLES, "z"]
        columns = {name: np.full((len(self._ends), n), np.nan, np.float32) for name in names}
        windows = np.ones((len(self._ends), n), np.int32)
        broken = np.zeros((len(self._ends), n), bool)
        for row, span in enumerate(self._spans):
            for name in names:
                columns[name][row, : len(span[name])] = span[name]
            windows[row, : len(span["windows"])] = span["windows"]
            broken[row, : len(span["broken"])] = span["broken"]
        return Table(self._roster, np.array(self._ends, np.int64), columns, windows, broken)

    def _breaks(self, frame: Frame) -> Bools:
        values = frame.values
        broken: Bools = (frame.read > READ_OK) & (frame.read <= READ_LOST)
        for flag in ("remap_failed", "remap_pending"):
            broken |= np.nan_to_num(values[flag]) > 0
        now = values["ecc_uncorrected_total"]
        before = fitted(self._uncorrected, len(frame), np.nan)
        broken |= now > before
        self._uncorrected = np.where(np.isnan(now), before, now)
        broken[[e.card for e in frame.events if e.kind == "xid" and e.code in FATAL_XIDS]] = True
        return broken


def _columns(frame: Frame, span: Span) -> dict[str, NDArray[Any]]:
    kinds, rated = same_kind(frame), ~np.isnan(span.rate)
    jobs = grouped(kinds, span.latest["job"])
    told: dict[str, NDArray[Any]] = {name: span.loaded[name] for name in THROTTLES}
    worst = np.full(len(frame), np.nan)
    for name in METRICS:
        value, fresh = span.latest[name], rated if name == "rate" else span.fresh
        told[name] = np.where(fresh, value, np.nan)
        relative, spread = _against_peers(name, value, jobs if name == "rate" else kinds)
        told[f"{name}.relative"] = np.where(fresh, relative, np.nan)
        bad = -relative if name in LOW_IS_BAD else relative
        worst = np.fmax(worst, np.where(fresh, bad / spread, np.nan))
    told["z"] = worst
    return told


def _against_peers(name: str, value: Floats, groups: Groups) -> tuple[Floats, Floats]:
    """Deviation from the median of the others, and the group's own spread (MAD)."""
    usual = others_median(value, groups)
    is_share = name in LOW_IS_BAD
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.log(value / usual) if is_share else value - usual
    relative = np.where(np.isfinite(relative), relative, np.nan)
    spread = 1.4826 * others_median(np.abs(relative), groups)
    return relative, np.fmax(spread, LEAST_SPREAD if is_share else LEAST_KELVIN)
