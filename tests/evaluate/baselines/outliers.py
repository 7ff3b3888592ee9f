"""Outlier detectors of PyOD on the same features, in a virtual environment of their own."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.bench.agent import environment
from tests.evaluate.baselines.baseline import Learned, Scores
from tests.evaluate.features import OUTLIER_FEATURES, Table

LOCK = "requirements-evaluate.lock"
MOST_LEARNED = 20_000
PROGRAM = Path(__file__).parent / "pyod_scores.py"


class Outliers:
    """One detector of PyOD; its threshold is tuned on healthy cards, like all others."""

    usual: float | None = None
    is_patient = True

    def __init__(self, name: str) -> None:
        self.name = name

    def scores(self, tables: Sequence[Table], learned: Sequence[Learned]) -> list[Scores]:
        """PyOD's decision scores, all tables in one go.

        These detectors are made to be fitted to all data, outliers among them: neither can tell
        how far beyond its examples a row lies.
        """
        known = [one.rows(OUTLIER_FEATURES, one.fresh & cards) for one, cards in learned]
        rows = [table.rows(OUTLIER_FEATURES, table.fresh) for table in tables]
        examples = np.concatenate([*known, *rows])
        examples = examples[:: max(1, len(examples) // MOST_LEARNED)]
        (told,) = score([self.name], examples, np.concatenate(rows))
        parts = np.split(told, np.cumsum([len(part) for part in rows])[:-1])
        results = [np.full(table.broken.shape, np.nan) for table in tables]
        for table, result, part in zip(tables, results, parts, strict=True):
            result[table.fresh] = part
        return results


def score(
    names: Sequence[str], examples: NDArray[np.float64], rows: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(names, rows) scores by detectors that were fitted to examples.

    Raises:
        subprocess.CalledProcessError: PyOD cannot be installed, or failed.
    """
    python = environment("outliers", LOCK) / "python"
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "rows.npz", Path(folder) / "scores.npy"
        np.savez(given, examples=examples, rows=rows)
        command = [str(python), str(PROGRAM), str(given), str(answer), *names]
        subprocess.run(command, check=True)
        scores: NDArray[np.float64] = np.load(answer)
    return scores
