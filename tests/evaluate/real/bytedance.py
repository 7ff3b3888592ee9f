"""ByteDance: steps of three training jobs; in one of them a worker was slowed on purpose.

Source and licence (Apache-2.0): `data/bytedance_straggler/README.md`. A row is what one rank
computed in one step, forward or backward; there are no sensors, and neither maker nor model of the
cards is told.

* A rank is taken for a card. Ranks of one stage do equal work, so the job names the trace, the
  operation and the stage; its rate is microbatches per second of computing.
* The machines are not told. Here eight ranks make a host, as in most machines for such models.
* The traces number their steps and tell how long each took, not when. Here a trace begins on a day
  made up for it (`FIRST_DAY`), and every step, recorded or not, takes the median time.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import median

from farmhand_agent.reading import Reading
from tests.evaluate.real import run
from tests.evaluate.real.labels import Labels
from tests.evaluate.real.run import Run, Work
from tests.evaluate.real.table import Row, Table, read, usable

PARTS: tuple[str, ...] = ("AR", "SE", "ST")

FIRST_DAY = {"AR": 1_735_689_600.0, "SE": 1_738_368_000.0, "ST": 1_740_787_200.0}
"""Made up: the first of January, February and March 2025, in seconds since 1970."""
RANKS_PER_HOST = 8
_KEY = ("step", "rank", "op")


def tables(parts: Collection[str] = PARTS) -> Mapping[str, Table]:
    """Usable rows of each trace, and how many were dropped."""
    everything = read("bytedance_straggler/steps.csv.gz", ("trace", *_KEY)).rows
    return {
        part: usable((row for row in everything if row["trace"] == part), _KEY) for part in parts
    }


def readings(parts: Collection[str] = PARTS) -> Iterator[Reading]:
    """Readings of the traces asked for, in order of time."""
    return run.in_order(
        step for part, table in tables(parts).items() for step in _steps(part, table.rows)
    )


def lines(parts: Collection[str] = PARTS) -> Iterator[str]:
    """The same in line protocol."""
    return run.lines(readings(parts))


def labels() -> Labels:
    """Rank 0 of AR is at fault; SE and ST are uneven by their work, not by their cards."""
    return Labels(cards={"AR-0": "compute"})


def _steps(trace: str, rows: Sequence[Row]) -> Iterator[Run]:
    lengths = {row["step"]: float(row["step_seconds"]) for row in rows}
    usual = median(lengths.values())
    by_rank: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        by_rank[row["step"], row["rank"]].append(row)
    for (step, rank), ops in by_rank.items():
        end_seconds = FIRST_DAY[trace] + (int(step) + 1) * usual
        work = tuple(_work(row) for row in sorted(ops, key=lambda row: row["op"]))
        yield Run(_tags(trace, int(rank)), end_seconds, lengths[step], work=work)


def _work(row: Row) -> Work:
    rate = float(row["count"]) / float(row["seconds"])
    job = f"{row['trace']} {row['op']} stage {row['stage']}"
    return Work(rate, "microbatches", job, row["trace"])


def _tags(trace: str, rank: int) -> dict[str, str]:
    return {
        "site": "bytedance",
        "host": f"{trace}-{rank // RANKS_PER_HOST}",
        "slot": str(rank % RANKS_PER_HOST),
        "card": f"{trace}-{rank}",
    }
