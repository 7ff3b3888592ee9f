"""The usual outlier test: a card against its kind, by the group's own median and MAD."""

from collections.abc import Sequence

import numpy as np

from tests.evaluate.baselines.baseline import Learned, Scores
from tests.evaluate.features import Table


class PeerZ:
    """The worst modified z-score of a card over all metrics, in the direction that is bad."""

    name = "peer z"
    usual: float | None = 3.5
    """Iglewicz and Hoaglin."""
    is_patient = True

    def scores(self, tables: Sequence[Table], learned: Sequence[Learned]) -> list[Scores]:
        """The z-scores."""
        del learned
        return [table.columns["z"].astype(np.float64) for table in tables]
