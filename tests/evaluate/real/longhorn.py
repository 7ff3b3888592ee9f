"""Longhorn: three benchmarks on the V100s of a machine of TACC, 2022.

Source and licence (MIT): `data/pal_sc24/README.md`. A row is one run on one card.

* `ts` is when a run began: after a run that took ten minutes longer than others, the next one
  begins ten minutes later. `kern_max_start`, when the last kernel began, is the length of the
  run; means of clock, temperature and power go over all of it, set-up included.
* ResNet and BERT train on the four cards of a node in lock step: their `train_time` is one. Their
  rate is that of the median iteration. How busy they keep a card is not told, and a third of
  ResNet's time lies outside of its usual iterations, so they give no utilisation.
* PageRank runs alone on each card. Its utilisation is the time that its kernels took, over the
  length of the run: 0.98 to 0.99. Its clock, temperature and power are medians.
* PageRank names cards by UUID, the others by place. Nothing says that no board was moved between
  February and May, so these stay different cards.
* The model and its limit of 300 W are those of the machine: the cards reach 1530 MHz and 877 MHz
  and are held at 297 W by full load.
"""

from collections.abc import Collection, Iterator, Mapping

from farmhand_agent.reading import Reading
from tests.evaluate.real import run
from tests.evaluate.real.labels import Labels
from tests.evaluate.real.run import Run, Work
from tests.evaluate.real.table import Row, Table, numbers, read

PARTS: tuple[str, ...] = ("resnet", "bert", "pagerank")

POWER_LIMIT_WATTS = 300.0
_KEY = ("cabinet", "node", "device", "ts")
_TRAINING_SENSORS = (
    ("core_clock_mhz", "mean_freq"),
    ("memory_clock_mhz", "mean_memfreq"),
    ("core_temperature_celsius", "mean_temp"),
    ("core_temperature_max_celsius", "max_temp"),
    ("power_watts", "mean_pwr"),
    ("power_max_watts", "max_pwr"),
)
_PAGERANK_SENSORS = (
    ("core_clock_mhz", "freq"),
    ("memory_clock_mhz", "memfreq"),
    ("core_temperature_celsius", "temp"),
    ("power_watts", "pwr"),
)


def tables(parts: Collection[str] = PARTS) -> Mapping[str, Table]:
    """Usable runs of each benchmark, and how many were dropped."""
    return {part: read(f"pal_sc24/{part}-longhorn-agg.csv.gz", _KEY, "ts") for part in parts}


def readings(parts: Collection[str] = PARTS) -> Iterator[Reading]:
    """Readings of the benchmarks asked for, in order of time."""
    runs = [_run(part, row) for part, table in tables(parts).items() for row in table.rows]
    return run.in_order(runs, {"power_limit_default_watts": POWER_LIMIT_WATTS})


def lines(parts: Collection[str] = PARTS) -> Iterator[str]:
    """The same in line protocol."""
    return run.lines(readings(parts))


def labels() -> Labels:
    """Cards that throttled while they trained, and those that waited for them.

    The four at fault ran ResNet 90 to 150 MHz below the others, reached 85 °C in every run, fell
    below 400 MHz and drew 14 to 21 W less. Others show the same, but more mildly: nine more have
    a mean clock below 1480 MHz (the fleet: 1509 MHz, standard deviation 3 MHz). Of the nodes in
    doubt, four run ResNet 5 to 9 % slower than the median node while no card clearly says why,
    and c002-5 runs BERT 3 to 4 % slower.
    """
    return Labels(
        cards=dict.fromkeys(("c007-12-3", "c008-8-1", "c008-8-2", "c008-8-3"), "thermal"),
        mates=frozenset({"c007-12-0", "c007-12-2", "c008-8-0"}),
        unclear_cards=frozenset(
            {
                "c002-9-1",
                "c002-11-1",
                "c007-12-1",
                "c008-3-3",
                "c008-5-3",
                "c008-9-1",
                "c008-11-2",
                "c008-12-3",
                "c009-3-1",
            }
        ),
        unclear_nodes=frozenset({"c002-5", "c004-11", "c006-1", "c006-12", "c008-3"}),
    )


def _run(part: str, row: Row) -> Run:
    tags = _tags(row)
    seconds = float(row["kern_max_start"])
    sensors = {"power_limit_watts": POWER_LIMIT_WATTS}
    if part == "pagerank":
        kernel_seconds = float(row["perf"]) / 1e3
        sensors |= numbers(row, _PAGERANK_SENSORS)
        sensors["utilization_ratio"] = kernel_seconds / seconds
        work = Work(float(row["num_kerns"]) / kernel_seconds, "kernels", part)
    else:
        sensors |= numbers(row, _TRAINING_SENSORS)
        gang = f"{part} {tags['host']} {row['ts']}"
        work = Work(1e3 / float(row["perf"]), "iterations", part, gang)
    return Run(tags, float(row["ts"]) + seconds, seconds, sensors, (work,))


def _tags(row: Row) -> dict[str, str]:
    return {
        "site": "longhorn",
        "rack": row["cabinet"],
        "host": f"{row['cabinet']}-{int(row['node'])}",
        "slot": row["device"],
        "card": row["uuid"],
        "vendor": "nvidia",
        "model": "Tesla V100-SXM2-16GB",
    }
