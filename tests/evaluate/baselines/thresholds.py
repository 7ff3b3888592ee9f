"""Fixed thresholds, as gpud, DCGM and operators' check lists have them; nothing is learned."""

from collections.abc import Sequence

import numpy as np

from tests.evaluate.baselines.baseline import Learned, Scores
from tests.evaluate.features import Table

LIMITS = {
    "core_temperature_celsius": 80.0,
    "hotspot_temperature_celsius": 100.0,
    "memory_temperature_celsius": 100.0,
    "throttle_thermal_ratio": 0.05,
    "throttle_hardware_ratio": 0.01,
    "throttle_brake_ratio": 0.01,
}
"""What is reached counts. Six slow-downs by hardware in ten minutes (gpud) are, in samples of a
second, a hundredth of the time."""
BROKEN = 100.0


class Thresholds:
    """The worst of a card's values, each as a multiple of its limit."""

    name = "fixed thresholds"
    usual: float | None = 1.0
    is_patient = False

    def scores(self, tables: Sequence[Table], learned: Sequence[Learned]) -> list[Scores]:
        """Multiples of the limits; what is plainly broken is far above all."""
        del learned
        return [_scores(table) for table in tables]


def _scores(table: Table) -> Scores:
    worst = np.where(table.fresh, 0.0, np.nan)
    for name, limit in LIMITS.items():
        worst = np.fmax(worst, table.columns[name].astype(np.float64) / limit)
    return np.where(table.broken, BROKEN, worst)
