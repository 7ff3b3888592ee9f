"""How well slow and faulty cards are found, tier by tier, beside what others do.

make evaluate
make evaluate ARGS="--tiers T1,T2"
make evaluate ARGS="--tiers T4 --cards 2000 --days 30 --no-baselines"
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.evaluate.baselines.all import baselines
from tests.evaluate.baselines.baseline import Baseline
from tests.evaluate.page import written
from tests.evaluate.result import TierResult
from tests.evaluate.tiers import attribution, injection, real, simulated

TIERS = ("T1", "T2", "T3", "T4")
PAGE = Path(__file__).parents[2] / "docs" / "detection.md"


def main() -> int:
    """Evaluate and print."""
    options = _options()
    wanted = options.tiers.split(",")
    if not set(wanted) <= set(TIERS):
        sys.stderr.write(f"--tiers {options.tiers}: expected some of {','.join(TIERS)}\n")
        return 78
    seed = random.randrange(2**31) if options.seed is None else options.seed
    rivals: Sequence[Baseline] = []
    if not options.no_baselines:
        rivals = baselines(with_outliers=not options.no_outliers)
    sys.stdout.write(f"seed {seed}\n\n")
    results = []
    for name in wanted:
        began = time.monotonic()
        results.append(_tiers(options, seed, rivals)[name]())
        sys.stdout.write(f"{results[-1].text()}({time.monotonic() - began:.0f} s)\n\n")
        sys.stdout.flush()
    if options.json:
        options.json.write_text(_json(seed, results), encoding="utf-8")
    if options.write_docs:
        page = written(PAGE.read_text(encoding="utf-8"), results)
        PAGE.write_text(page, encoding="utf-8")
    return 0


def _tiers(
    options: argparse.Namespace, seed: int, rivals: Sequence[Baseline]
) -> dict[str, Callable[[], TierResult]]:
    sizes = simulated.Sizes(
        options.cards, options.days, options.farms, options.farm_cards, options.hours
    )
    return {
        "T1": lambda: real.run(rivals),
        "T2": lambda: attribution.run(rivals),
        "T3": lambda: injection.run(rivals, seed, options.rounds),
        "T4": lambda: simulated.run(rivals, seed, sizes),
    }


def _options() -> argparse.Namespace:
    usual = simulated.Sizes()
    form = argparse.RawDescriptionHelpFormatter
    options = argparse.ArgumentParser("evaluate", description=__doc__, formatter_class=form)
    add = options.add_argument
    add("--tiers", default=",".join(TIERS), help="some of T1,T2,T3,T4")
    add("--seed", type=int, help="of all that is drawn; drawn itself when not given")
    add("--rounds", type=int, default=12, help="T3: replays of each benchmark")
    add("--cards", type=int, default=usual.cards, help="T4: of the farm with hardly a fault")
    add("--days", type=float, default=usual.days, help="T4: of that farm")
    add("--farms", type=int, default=usual.rich_farms, help="T4: farms full of faults")
    add("--farm-cards", type=int, default=usual.rich_cards, help="T4: cards of each of them")
    add("--hours", type=float, default=usual.rich_hours, help="T4: of each of them")
    add("--no-baselines", action="store_true", help="farmhand alone; large farms need it")
    add("--no-outliers", action="store_true", help="without PyOD and its environment")
    add("--json", type=Path, help="file for the numbers")
    add("--write-docs", action="store_true", help="write the tables into docs/detection.md")
    return options.parse_args()


def _json(seed: int, results: Sequence[TierResult]) -> str:
    numbers = {result.name: result.numbers for result in results}
    return json.dumps({"seed": seed, **numbers}, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(main())
