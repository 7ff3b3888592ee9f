"""Lonestar6: ResNet on the A100s of a machine of TACC.

Source and licence (MIT): `data/pal_sc24/README.md`. A row is one card and sums up its runs; there
are rates, no sensors, and names of places instead of UUIDs.

* The data hold no times: here all runs begin at one moment that is made up (`START`).
* The three cards of a node did not go in lock step: their `train_time_median` differ by about as
  much as those of different nodes.
* The source says A100; that these are PCIe boards of 40 GB is how the machine is described.
"""

from collections.abc import Collection, Iterator, Mapping

from farmhand_agent.reading import Reading
from tests.evaluate.real import run
from tests.evaluate.real.labels import Labels
from tests.evaluate.real.run import Run, Work
from tests.evaluate.real.table import Row, Table, read

PARTS: tuple[str, ...] = ("resnet",)

START = 1_711_929_600.0
"""Made up: the first of April 2024, in seconds since 1970."""


def tables(parts: Collection[str] = PARTS) -> Mapping[str, Table]:
    """Usable rows, and how many were dropped."""
    return {part: read(f"pal_sc24/{part}-ls6-agg.csv.gz", ("uuid",)) for part in parts}


def readings(parts: Collection[str] = PARTS) -> Iterator[Reading]:
    """Readings in order of time."""
    return run.in_order(_run(row) for table in tables(parts).values() for row in table.rows)


def lines(parts: Collection[str] = PARTS) -> Iterator[str]:
    """The same in line protocol."""
    return run.lines(readings(parts))


def labels() -> Labels:
    """Two nodes whose three cards all take 2.1 to 2.2 times as long as the others.

    Two cards, each alone on its node, take 8 to 9 % longer for an iteration and 19 % longer for a
    whole run; the next slowest takes 5 % longer.
    """
    return Labels(
        nodes={"c316-8": "resnet", "c317-12": "resnet"},
        unclear_cards=frozenset({"c316-2-0", "c316-3-0"}),
    )


def _run(row: Row) -> Run:
    tags = {
        "site": "lonestar6",
        "rack": row["cabinet"],
        "host": f"{row['cabinet']}-{row['node']}",
        "slot": row["device"],
        "card": row["uuid"],
        "vendor": "nvidia",
        "model": "NVIDIA A100-PCIE-40GB",
    }
    seconds = float(row["train_time_mean"])
    work = Work(1 / float(row["perf"]), "iterations", row["exp"])
    return Run(tags, START + seconds, seconds, work=(work,))
