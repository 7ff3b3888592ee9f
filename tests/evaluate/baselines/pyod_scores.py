"""Scores rows by a detector of PyOD: `python pyod_scores.py ROWS.npz SCORES.npy NAME…`.

It runs in an environment that holds PyOD, and so imports nothing of farmhand.
"""

import importlib
import sys

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CHUNK = 100_000
DETECTORS = {
    "ECOD": ("pyod.models.ecod", {}),
    "IForest": ("pyod.models.iforest", {"random_state": 0}),
}


def main(given: str, answer: str, *names: str) -> int:
    """Fit each detector to `examples`, score `rows`."""
    told = np.load(given)
    scores = [_scores(name, told["examples"], told["rows"]) for name in names]
    np.save(answer, np.array(scores))
    return 0


def _scores(name: str, examples: Floats, rows: Floats) -> Floats:
    module, options = DETECTORS[name]
    detector = getattr(importlib.import_module(module), name)(**options)
    detector.fit(examples)
    parts = [detector.decision_function(rows[at : at + CHUNK]) for at in range(0, len(rows), CHUNK)]
    scores: Floats = np.concatenate(parts) if parts else np.empty(0)
    return scores


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
