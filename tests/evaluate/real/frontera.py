"""Frontera: three benchmarks on the Quadro RTX 5000 of a machine of TACC, cooled in oil.

Source and licence (MIT): `data/pal_sc24/README.md`. A row is one run on one card; there are rates
and UUIDs, no sensors.

* The data hold no times, only the number of each repetition. Here repetition n of a benchmark
  begins n days after a day made up for it (`FIRST_DAY`).
* ResNet trains on the four cards of a node in lock step: their `train_time` is one. BERT is the
  benchmark that does so on Longhorn; here its `train_time` is 0 throughout. So the length of a
  run is estimated from what a run on Longhorn holds (`BERT_ITERATIONS`).
* A run of PageRank is 2,002 kernels on one card; `perf` is the sum of their nanoseconds, which
  stands for the length of the run. What part of the run that was is not told.
"""

from collections.abc import Collection, Iterator, Mapping

from farmhand_agent.reading import Reading
from tests.evaluate.real import run
from tests.evaluate.real.labels import Labels
from tests.evaluate.real.run import DAY_SECONDS, Run, Work
from tests.evaluate.real.table import Row, Table, read

PARTS: tuple[str, ...] = ("bert", "resnet", "pagerank")

FIRST_DAY = {"bert": 1_704_067_200.0, "resnet": 1_706_745_600.0, "pagerank": 1_709_251_200.0}
"""Made up: the first of January, February and March 2024, in seconds since 1970."""
BERT_ITERATIONS = 282
"""Median over Longhorn's runs of `train_time` over `mean_iter_dur`; they spread by 2 %."""
_KEYS = {
    "bert": ("cabinet", "node", "device", "reps"),
    "resnet": ("cabinet", "node", "device", "reps"),
    "pagerank": ("cabinet", "node", "device", "run"),
}


def tables(parts: Collection[str] = PARTS) -> Mapping[str, Table]:
    """Usable runs of each benchmark, and how many were dropped."""
    return {part: read(f"pal_sc24/frontera-{part}-agg.csv.gz", _KEYS[part]) for part in parts}


def readings(parts: Collection[str] = PARTS) -> Iterator[Reading]:
    """Readings of the benchmarks asked for, in order of time."""
    runs = [_run(part, row) for part, table in tables(parts).items() for row in table.rows]
    return run.in_order(runs)


def lines(parts: Collection[str] = PARTS) -> Iterator[str]:
    """The same in line protocol."""
    return run.lines(readings(parts))


def labels() -> Labels:
    """Nodes that are slow as a whole, by more than 5 %; no card is at fault.

    All four cards of each are slow alike, in one benchmark and not in the others. Two more nodes
    run ResNet 2 % slower, six standard deviations of a node.
    """
    return Labels(
        nodes={
            "c198-21": "bert",
            "c198-62": "bert",
            "c196-91": "resnet",
            "c196-112": "resnet",
            "c197-91": "resnet",
            "c198-32": "resnet",
            "c198-52": "resnet",
        },
        unclear_nodes=frozenset({"c198-81", "c199-41"}),
    )


def _run(part: str, row: Row) -> Run:
    tags = _tags(row)
    repetition = row[_KEYS[part][-1]]
    gang = f"{part} {tags['host']} {repetition}"
    if part == "pagerank":
        seconds = float(row["perf"]) / 1e9
        work = Work(1e9 / float(row["perf_avg"]), "kernels", part)
    elif part == "bert":
        seconds = float(row["mean_iter_dur"]) * BERT_ITERATIONS
        work = Work(1 / float(row["perf"]), "iterations", part, gang)
    else:
        seconds = float(row["train_time"])
        work = Work(1 / float(row["perf"]), "iterations", part, gang)
    start_seconds = FIRST_DAY[part] + float(repetition) * DAY_SECONDS
    return Run(tags, start_seconds + seconds, seconds, work=(work,))


def _tags(row: Row) -> dict[str, str]:
    return {
        "site": "frontera",
        "rack": row["cabinet"],
        "host": f"{row['cabinet']}-{row['node']}",
        "slot": row["device"],
        "card": row["uuid"],
        "vendor": "nvidia",
        "model": "Quadro RTX 5000",
    }
