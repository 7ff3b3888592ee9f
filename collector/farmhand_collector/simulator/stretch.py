"""Sums over one stretch of time of a simulated farm, from which its means come."""

import numpy as np
import numpy.typing as npt

from farmhand_agent.reading import Kind, Value, fields_of
from farmhand_collector.simulator.effects import Array
from farmhand_collector.simulator.kinds.kind import CardEvent
from farmhand_collector.simulator.sensors import DECIMALS
from farmhand_collector.simulator.workload import JOB_KINDS

Codes = npt.NDArray[np.int8]
Index = npt.NDArray[np.intp]

NO_READING = -1
HOST_FIELDS = ("inlet_temperature_celsius", "cpu_ratio")

_ROW = {name: at for at, name in enumerate(DECIMALS)}
_KINDS = [fields_of("card")[name].kind for name in DECIMALS]
_GAUGES = np.array([kind is Kind.GAUGE for kind in _KINDS])
_PEAKS = np.array([kind in (Kind.PEAK, Kind.FLAG) for kind in _KINDS])
_LASTS = np.array([kind is Kind.COUNTER for kind in _KINDS])


class Stretch:
    """Sums of a stretch that is still filling, by row of the roster."""

    def __init__(self, nodes: int) -> None:
        gauges, jobs = int(_GAUGES.sum()), len(JOB_KINDS)
        self.sums = np.zeros((gauges, 0))
        self.weights = np.zeros((gauges, 0))
        self.loaded_sums = np.zeros((gauges, 0))
        self.loaded_weights = np.zeros((gauges, 0))
        self.peaks = np.zeros((int(_PEAKS.sum()), 0))
        self.lasts = np.zeros((int(_LASTS.sum()), 0))
        self.use_seconds = np.zeros((2, 0))
        """Seconds of windows that told a utilisation, and of those loaded."""
        self.read = np.zeros((1, 0))
        self.rates = np.zeros((jobs, 0))
        self.rate_counts = np.zeros((jobs, 0))
        self.host_sums = np.zeros((len(HOST_FIELDS), nodes))
        self.host_counts = np.zeros((len(HOST_FIELDS), nodes))
        self.leaders = np.full((jobs, nodes), -1)
        """(jobs, nodes) first node of the gang, -1 where none was told."""
        self.numbers = np.zeros((jobs, nodes), np.int64)
        self.events: list[CardEvent] = []
        self.probes: dict[int, dict[str, float]] = {}
        self.booted: set[int] = set()
        self.facts: dict[int, dict[str, Value]] = {}

    def fit(self, count: int) -> None:
        """Make room for cards that joined since."""
        for name, fill in _FIRST_VALUES.items():
            columns: Array = getattr(self, name)
            more = np.full((len(columns), count - columns.shape[1]), fill)
            setattr(self, name, np.concatenate([columns, more], axis=1))

    def add_cards(self, fields: Array, read: Codes, rows: Index, loaded_ratio: float) -> None:
        """Add one window of some cards: (fields, cards) and states, and the cards' rows."""
        weight = fields[_ROW["window_seconds"]]
        use = fields[_ROW["utilization_ratio"]]
        load = np.where(use >= loaded_ratio, weight, 0.0)
        gauges = fields[_GAUGES]
        given = ~np.isnan(gauges)
        filled = np.where(given, gauges, 0.0)
        self.sums[:, rows] += filled * weight
        self.weights[:, rows] += given * weight
        self.loaded_sums[:, rows] += filled * load
        self.loaded_weights[:, rows] += given * load
        self.peaks[:, rows] = np.fmax(self.peaks[:, rows], fields[_PEAKS])
        lasts = fields[_LASTS]
        self.lasts[:, rows] = np.where(np.isnan(lasts), self.lasts[:, rows], lasts)
        self.use_seconds[:, rows] += np.where(np.isnan(use), 0.0, weight), load
        self.read[0, rows] = read

    def values(self) -> dict[str, Array]:
        """Means of gauges, maxima of peaks and flags, last values of counters, by field."""
        peaks = [name for name, is_peak in zip(DECIMALS, _PEAKS, strict=True) if is_peak]
        lasts = [name for name, is_last in zip(DECIMALS, _LASTS, strict=True) if is_last]
        return {
            **_means(self.sums, self.weights),
            **dict(zip(peaks, self.peaks, strict=True)),
            **dict(zip(lasts, self.lasts, strict=True)),
        }

    def loaded_values(self) -> dict[str, Array]:
        """Means of gauges over loaded windows."""
        return _means(self.loaded_sums, self.loaded_weights)

    def loaded_share(self) -> Array:
        """Share of the told time that was loaded."""
        return divided(self.use_seconds[1], self.use_seconds[0])


_FIRST_VALUES = {
    "sums": 0.0,
    "weights": 0.0,
    "loaded_sums": 0.0,
    "loaded_weights": 0.0,
    "peaks": np.nan,
    "lasts": np.nan,
    "use_seconds": 0.0,
    "read": NO_READING,
    "rates": 0.0,
    "rate_counts": 0.0,
}
"""What each column of a stretch is for a card of which nothing was heard."""


def divided(above: Array, below: Array) -> Array:
    """Quotients, NaN where there is nothing to divide by."""
    quotients: Array = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return quotients


def _means(sums: Array, weights: Array) -> dict[str, Array]:
    means = divided(sums, weights)
    names = [name for name, is_gauge in zip(DECIMALS, _GAUGES, strict=True) if is_gauge]
    return dict(zip(names, means, strict=True))
