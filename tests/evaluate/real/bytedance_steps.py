"""Makes `steps.csv.gz` of ByteDance's traces: what each rank computed in each step.

The traces are Parquet files. Nothing else here reads that format, so pyarrow is no dependency of
the project: the README beside the data says how to run this.
"""

import csv
import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path

# Installed only where this one script is run.
import pyarrow as pa  # type: ignore[import-not-found]
import pyarrow.compute as pc  # type: ignore[import-not-found]
import pyarrow.parquet as pq  # type: ignore[import-not-found]

TRACES = ("AR", "SE", "ST")
OPS = ("backward-compute", "forward-compute")
COLUMNS = (
    "trace",
    "step",
    "step_seconds",
    "dp_rank",
    "stage",
    "rank",
    "op",
    "count",
    "seconds",
)
KEYS = ["step", "dp_rank", "stage", "rank", "op"]
OUTPUT = Path(__file__).parent.parent / "data" / "bytedance_straggler" / "steps.csv.gz"


def rows(path: Path, trace: str) -> Iterator[tuple[object, ...]]:
    """Rows of the table for one trace, ordered by `KEYS`; column names are in `COLUMNS`."""
    table = pq.read_table(path)
    ends = pc.add(table["start_ts"].cast(pa.float64()), table["duration"].cast(pa.float64()))
    lengths = table.append_column("end", ends).group_by("step").aggregate([("end", "max")])
    step_seconds = dict(
        zip(lengths["step"].to_pylist(), lengths["end_max"].to_pylist(), strict=True)
    )
    op = table["optype"].cast(pa.string())
    seconds = table["duration"].cast(pa.float64())
    computed = table.append_column("op", op).append_column("seconds", seconds)
    computed = computed.filter(pc.is_in(computed["op"], pa.array(OPS)))
    sums = computed.group_by(KEYS).aggregate([("seconds", "count"), ("seconds", "sum")])
    for row in sums.sort_by([(key, "ascending") for key in KEYS]).to_pylist():
        step = row["step"]
        place = (row["dp_rank"], row["stage"], row["rank"], row["op"])
        total = f"{row['seconds_sum']:.6f}"
        yield trace, step, f"{step_seconds[step]:.6f}", *place, row["seconds_count"], total


def main(folder: Path) -> None:
    """Read the traces of a folder and write the table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for trace in TRACES:
        writer.writerows(rows(folder / f"trace-{trace}.parquet", trace))
    OUTPUT.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
