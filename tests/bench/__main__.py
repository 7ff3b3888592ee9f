"""Speed and memory of the parts that carry load; medians, each beside something to compare with.

    make bench
    make bench ARGS="store --cards 10000"

These machines are noisy: quote ratios and medians. The agent has `make bench-agent`,
the core `make bench-core`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from farmhand_agent.reading import Reading, fields_of, parse_line, to_line
from farmhand_collector.store.embedded import EmbeddedStore

RUNS = 5
START_NS = 1_790_000_000 * 10**9


def median_seconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """Median time of some runs after one to warm up."""
    work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def card_readings(cards: int, at_ns: int) -> list[Reading]:
    """One reading of each card with the fields that a GeForce card gives."""
    names = [name for name, f in fields_of("card").items() if f.kind != "text"][:22]
    fields: dict[str, float | str] = {"state": "ok", **dict.fromkeys(names, 123.456)}
    fields |= {"utilization_ratio": 0.97, "window_seconds": 10.0, "pcie_width": 16.0}
    fields |= {"memory_total_bytes": 24.0 * 2**30, "memory_used_bytes": 18.0 * 2**30}
    return [
        Reading(
            "card",
            {
                "site": "farm",
                "rack": f"rack-{card // 64}",
                "host": f"node-{card // 8}",
                "slot": f"slot{card % 8}",
                "card": f"GPU-{card:08d}",
                "vendor": "nvidia",
                "model": f"GeForce RTX {3060 + card // 64 % 4 * 10}",
            },
            fields | {"core_clock_mhz": 1700.0 + card % 13, "power_watts": 300.0 + card % 7},
            at_ns,
        )
        for card in range(cards)
    ]


def lines(cards: int) -> Iterator[str]:
    """Reading and writing line protocol, beside JSON of the same content."""
    readings = card_readings(min(cards, 5000), START_NS)
    written = [to_line(reading) for reading in readings]
    as_json = [json.dumps([*reading]) for reading in readings]
    json_seconds = median_seconds(lambda: [json.loads(text) for text in as_json])
    for name, work in (
        ("parse_line", lambda: [parse_line(line) for line in written]),
        ("to_line", lambda: [to_line(reading) for reading in readings]),
    ):
        seconds = median_seconds(work)
        rate, ratio = len(readings) / seconds, seconds / json_seconds
        yield f"{name:<24}{rate:>12,.0f} lines/s   {ratio:.2f} × json.loads of the same"


def store(cards: int) -> Iterator[str]:
    """Writing to and reading from the embedded store, beside the same bytes in a synced file."""
    with tempfile.TemporaryDirectory() as directory:
        kept = EmbeddedStore(Path(directory) / "readings")
        ticks = iter(range(10**6))

        def write() -> None:
            at_ns = time.time_ns() + next(ticks) * 10**9
            kept.write([reading._replace(time_ns=at_ns) for reading in readings])

        readings = card_readings(min(cards, 10_000), START_NS)
        body = "\n".join(map(to_line, readings)).encode()
        write_seconds = median_seconds(write)
        read_seconds = median_seconds(lambda: kept.readings(0, len(readings)))
        copy_seconds = median_seconds(lambda: _synced(Path(directory) / "copy", body))
        kept.close()
    rate, ratio = len(readings) / write_seconds, write_seconds / copy_seconds
    yield f"{'store write':<24}{rate:>12,.0f} rows/s    {ratio:.1f} × the same bytes, synced"
    yield f"{'store read':<24}{len(readings) / read_seconds:>12,.0f} rows/s"


def _synced(path: Path, body: bytes) -> None:
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


BENCHES = {"lines": lines, "store": store}


def main() -> int:
    """Run the benchmarks that were named, or all."""
    options = argparse.ArgumentParser(prog="bench", description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    options.add_argument("--cards", type=int, default=10_000)
    chosen = options.parse_args()
    for name in chosen.names or BENCHES:
        for line in BENCHES[name](chosen.cards):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
