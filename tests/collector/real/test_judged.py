"""Public data through the same core that judges live."""

from pathlib import Path

import pytest

from farmhand_collector.replay import judge_files
from tests.evaluate.real.datasets import DATASETS


@pytest.mark.parametrize("name", DATASETS)
def test_every_card_of_a_dataset_gets_a_verdict(tmp_path: Path, name: str) -> None:
    """However sparse its runs are."""
    path = tmp_path / "readings.lp"
    path.write_text("".join(f"{line}\n" for line in DATASETS[name].lines()))
    state = judge_files([path]).state
    cards = {reading.tags["card"] for reading in DATASETS[name].readings()}
    assert {verdict.card for verdict in state.cards} == cards
