"""A card against itself: a one-sided CUSUM of each metric from a frozen beginning."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.evaluate.baselines.baseline import Learned, Scores
from tests.evaluate.features import LOW_IS_BAD, METRICS, Table

SLACK = 0.5
LEARNED_WINDOWS = 6
"""Half an hour under load; public data hold little more of a card."""
LEAST_SPREAD, LEAST_KELVIN = 0.01, 1.0


class OwnHistory:
    """The largest sum of the deviations beyond the slack, in standard deviations."""

    name = "own CUSUM"
    usual: float | None = 10.0
    is_patient = False

    def scores(self, tables: Sequence[Table], learned: Sequence[Learned]) -> list[Scores]:
        """The sums, the worst of all metrics."""
        del learned
        return [_scores(table) for table in tables]


def _scores(table: Table) -> Scores:
    worst = np.full(table.broken.shape, np.nan)
    for name in METRICS:
        worst = np.fmax(worst, cusum(_rising(table, name), table.windows, name))
    return worst


def _rising(table: Table, name: str) -> NDArray[np.float64]:
    """Values that rise as a card gets worse; logarithms of what counts as a share."""
    value = table.columns[name].astype(np.float64)
    if name not in LOW_IS_BAD:
        return value
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: NDArray[np.float64] = -np.log(value)
    return np.where(np.isfinite(logs), logs, np.nan)


def cusum(values: NDArray[np.float64], windows: NDArray[np.int32], name: str) -> Scores:
    """(spans, cards) upper CUSUM against the mean and spread of each card's first windows.

    Args:
        values: (spans, cards), NaN where none is given; the higher the worse.
        windows: (spans, cards) for how many windows a value stands.
        name: of the metric, for the floor of its spread.
    """
    n = values.shape[1]
    floor = LEAST_SPREAD if name in LOW_IS_BAD else LEAST_KELVIN
    count, total, squares, run = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    result = np.full(values.shape, np.nan)
    for row, value in enumerate(values):
        given = ~np.isnan(value)
        learns = given & (count < LEARNED_WINDOWS)
        judged = given & ~learns
        mean = total / np.maximum(count, 1)
        variance = squares / np.maximum(count, 1) - mean**2
        spread = np.maximum(np.sqrt(np.maximum(variance, 0.0)), floor)
        step = windows[row] * ((value - mean) / spread - SLACK)
        run = np.where(judged, np.maximum(run + np.where(judged, step, 0.0), 0.0), run)
        result[row, judged] = run[judged]
        weight = np.where(learns, windows[row], 0)
        count += weight
        total += weight * np.where(learns, value, 0.0)
        squares += weight * np.where(learns, value, 0.0) ** 2
    return result
