"""`farmhand up`, run as its user runs it."""

import json
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from tests.system.programs import FARMHAND

pytestmark = pytest.mark.system

SEEDS = 20
SECONDS = 30
AT_ONCE = 2


class Run(NamedTuple):
    """One headless run of `farmhand up`."""

    status: int
    state: dict[str, Any]
    began: float


def up(*options: str) -> Run:
    """Run `farmhand up` on a simulated farm of 64 cards to its end."""
    began = time.time()
    command = [*FARMHAND, "up", "--simulate", "64", "--headless", "--json"]
    command += ["--for", str(SECONDS), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout, done.stderr
    return Run(done.returncode, json.loads(done.stdout), began)


def flagged(run: Run) -> dict[tuple[str, str], str]:
    """State of each card that is neither ok nor unknown, by its place."""
    assert run.state["time"] > run.began - 90, "the simulated past was not judged in time"
    cards = [card for card in run.state["cards"] if card["state"] not in ("ok", "unknown")]
    return {(card["host"], card["slot"]): card["state"] for card in cards}


def planted(run: Run) -> dict[tuple[str, str], str]:
    """Kind of each planted fault by its place."""
    faults = run.state["simulated"]["planted"]
    return {(fault["host"], fault["slot"]): fault["fault"] for fault in faults}


def test_every_planted_fault_is_found_and_no_healthy_card_is_flagged() -> None:
    """Over seeds drawn now: what is flagged is what was planted, card by card."""
    seeds = [str(random.randrange(2**31)) for _ in range(SEEDS)]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = list(pool.map(lambda seed: up("--seed", seed), seeds))

    wrong = {
        seed: {
            "missed": planted(run).keys() - flagged(run),
            "false": flagged(run).keys() - planted(run),
        }
        for seed, run in zip(seeds, runs, strict=True)
        if planted(run).keys() != flagged(run).keys()
    }
    assert wrong == {}
    assert all(planted(run) for run in runs)
    assert all(len(run.state["cards"]) == 64 for run in runs)


def test_a_sound_farm_is_ok() -> None:
    """No fault, no flag, status 0; and the farm says that it is simulated."""
    run = up("--faults", "none", "--seed", "7")

    assert flagged(run) == {}
    assert run.state["findings"] == []
    assert run.state["simulated"] == {"seed": 7, "planted": []}
    assert run.status == 0


def test_a_lost_card_is_critical() -> None:
    """One lost card is found as lost and gives status 2."""
    run = up("--faults", "lost")

    assert list(flagged(run).values()) == ["lost"]
    assert flagged(run).keys() == planted(run).keys()
    assert run.status == 2
