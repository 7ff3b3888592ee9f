"""Line protocol that the NVIDIA source makes of each capture.

`python -m tests.standin.goldens` writes the golden files anew; read the difference before keeping
it.
"""

import os
import tempfile
from pathlib import Path

from farmhand_agent.reading import CARD_TAGS, Reading, to_line
from farmhand_agent.sources.nvidia.source import NvidiaSource
from tests import standin
from tests.standin.captures import MODELS, capture_state

DIRECTORY = Path(__file__).parents[1] / "data" / "golden"
TIME_NS = 1_800_000_000_000_000_000


def golden_path(model: str) -> Path:
    """Golden file of one model."""
    return DIRECTORY / Path(MODELS[model]).with_suffix(".lp").name


def lines(model: str, state_path: Path) -> str:
    """Read the captured card, one sample of each kind; the stand-in must be loaded."""
    capture_state(state_path, model).write()
    os.environ["FARMHAND_NVML_STATE"] = str(state_path)
    source = NvidiaSource(lambda _slot, _call: None, sysfs=state_path.parent, clock=lambda: 0)
    source.open()
    try:
        (card,) = source.cards(lambda _slot: True).cards
        tags = dict(zip(CARD_TAGS, ("", "", "node", *card[:4]), strict=True))
        fields = {**source.sample(card), **source.slow(card), **source.rare(card)}
        readings = [
            Reading("card", tags, fields, TIME_NS),
            Reading("card_info", tags, source.info(card), TIME_NS),
        ]
    finally:
        source.close()
    return "".join(to_line(reading) + "\n" for reading in readings)


def main() -> None:
    """Write all golden files."""
    with tempfile.TemporaryDirectory() as scratch:
        standin.load(standin.build(Path(scratch)))
        for model in MODELS:
            golden_path(model).write_text(
                lines(model, Path(scratch) / "nvml.state"), encoding="utf-8"
            )


if __name__ == "__main__":
    main()
