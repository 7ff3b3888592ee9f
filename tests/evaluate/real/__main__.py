"""Writes a public dataset as readings: `python -m tests.evaluate.real NAME [PART …] > FILE`.

`farmhand-collector judge FILE` judges them. How many runs each part holds, and how many were
dropped because they repeat another or have no time, goes to standard error.
"""

import argparse
import sys

from tests.evaluate.real.datasets import DATASETS


def main() -> int:
    """Write what is asked for to standard output."""
    parser = argparse.ArgumentParser(prog="python -m tests.evaluate.real")
    parser.add_argument("name", choices=sorted(DATASETS))
    parser.add_argument("parts", nargs="*", help="of the dataset; all when none is given")
    options = parser.parse_args()
    dataset = DATASETS[options.name]
    unknown = set(options.parts) - set(dataset.PARTS)
    if unknown:
        parser.error(f"{options.name} has {', '.join(dataset.PARTS)}, not {min(unknown)}")
    parts = options.parts or dataset.PARTS
    for part, table in dataset.tables(parts).items():
        told = f"{options.name} {part}: {len(table.rows)} rows, {table.dropped} dropped\n"
        sys.stderr.write(told)
    sys.stdout.writelines(f"{line}\n" for line in dataset.lines(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
