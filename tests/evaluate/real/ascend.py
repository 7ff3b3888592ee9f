"""Eight Ascend NPUs of one node, two of which clock down: test data of Huawei's fault diagnosis.

Source and licence (Apache-2.0): `data/ascend_faultdiag/README.md`. A row is one sample of power,
clock and temperature. The clock is rated at 1000 MHz, as it is in the first generation of the
910; which of that generation these are is not told, nor how busy they are (an idle one draws
70 W).
"""

import csv
from collections.abc import Collection, Iterator, Mapping

from farmhand_agent.reading import Reading
from tests.evaluate.real import run
from tests.evaluate.real.labels import Labels
from tests.evaluate.real.run import Run
from tests.evaluate.real.table import DATA, Row, Table, numbers, usable

PARTS: tuple[str, ...] = ("npu_smi",)

PERIOD_SECONDS = 14.0
"""Usual time between two samples, which stands for the window of each."""
HOST = "worker-0"
_SENSORS = (
    ("core_clock_mhz", "freq"),
    ("core_temperature_celsius", "temp"),
    ("power_watts", "power"),
)


def tables(parts: Collection[str] = PARTS) -> Mapping[str, Table]:
    """Usable samples of all NPUs, and how many were dropped."""
    return {part: usable(_rows(part), ("dev_id", "time"), "time") for part in parts}


def readings(parts: Collection[str] = PARTS) -> Iterator[Reading]:
    """Readings in order of time."""
    return run.in_order(_sample(row) for table in tables(parts).values() for row in table.rows)


def lines(parts: Collection[str] = PARTS) -> Iterator[str]:
    """The same in line protocol."""
    return run.lines(readings(parts))


def labels() -> Labels:
    """Two NPUs at 800 MHz for more than a minute, from when Huawei's tool calls it a fault.

    Device 0 reaches 107 °C meanwhile; device 2 stays at 41 °C, and nothing tells why.
    """
    return Labels(cards={"worker-0-npu-0": "thermal", "worker-0-npu-2": None})


def _rows(part: str) -> Iterator[Row]:
    for path in sorted((DATA / "ascend_faultdiag").glob(f"{part}_*_details.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)


def _sample(row: Row) -> Run:
    tags = {
        "site": "mind-cluster",
        "host": HOST,
        "slot": row["dev_id"],
        "card": f"{HOST}-npu-{row['dev_id']}",
        "vendor": "huawei",
        "model": "Ascend 910",
    }
    return Run(tags, float(row["time"]), PERIOD_SECONDS, numbers(row, _SENSORS))
