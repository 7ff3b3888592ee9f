"""Card models: what a card of a name is made to give."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

MIB = 2.0**20


@cache
def memory_bytes_by_model() -> Mapping[str, tuple[float, ...]]:
    """Memory sizes in bytes that cards of each model name are made or reworked with, ascending.

    Names are as the model tag has them, without the maker's prefix. Rows without a size or a name
    say nothing here.
    """
    sizes: dict[str, set[float]] = defaultdict(set)
    text = files(__package__).joinpath("cards.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        if row["name_match"] and row["memory_mib"]:
            name = row["name_match"].removeprefix("NVIDIA ")
            sizes[name].add(float(row["memory_mib"]) * MIB)
    return {name: tuple(sorted(known)) for name, known in sizes.items()}
