"""All public datasets by name, and what each of their modules offers."""

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from farmhand_agent.reading import Reading
from tests.evaluate.real import ascend, bytedance, frontera, lonestar, longhorn
from tests.evaluate.real.labels import Labels
from tests.evaluate.real.table import Table


class Dataset(Protocol):
    """A module of a dataset."""

    PARTS: tuple[str, ...]
    """Benchmarks or recordings that can be had on their own."""

    def tables(self, parts: Collection[str] = ...) -> Mapping[str, Table]:
        """Usable rows of each part, and how many were dropped."""

    def readings(self, parts: Collection[str] = ...) -> Iterator[Reading]:
        """Readings of the parts asked for, by default of all, in order of time."""

    def lines(self, parts: Collection[str] = ...) -> Iterator[str]:
        """The same in line protocol, without newlines."""

    def labels(self) -> Labels:
        """What is known of its cards."""


DATASETS: Mapping[str, Dataset] = {
    "ascend": ascend,
    "bytedance": bytedance,
    "frontera": frontera,
    "lonestar": lonestar,
    "longhorn": longhorn,
}
