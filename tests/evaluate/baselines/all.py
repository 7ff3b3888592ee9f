"""All baselines."""

from collections.abc import Sequence

from tests.evaluate.baselines.baseline import Baseline
from tests.evaluate.baselines.history import OwnHistory
from tests.evaluate.baselines.outliers import Outliers
from tests.evaluate.baselines.peers import PeerZ
from tests.evaluate.baselines.thresholds import Thresholds


def baselines(*, with_outliers: bool = True) -> Sequence[Baseline]:
    """Those that need nothing beyond farmhand's own environment, and PyOD's where wanted."""
    plain: list[Baseline] = [Thresholds(), PeerZ(), OwnHistory()]
    return [*plain, Outliers("ECOD"), Outliers("IForest")] if with_outliers else plain
