"""The embedded store does what every store does."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from farmhand_collector.store.base import Store
from farmhand_collector.store.embedded import EmbeddedStore
from tests.collector.store.conformance import Keeper, StoreConformance


class _Embedded:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()
        self.made: list[EmbeddedStore] = []

    def empty_store(self) -> Store:
        store = EmbeddedStore(self._directory / str(next(self._numbers)))
        self.made.append(store)
        return store


class TestEmbedded(StoreConformance):
    """Files of SQLite."""

    @pytest.fixture
    def keeper(self, tmp_path: Path) -> Iterator[Keeper]:
        """Each store has a directory of its own."""
        embedded = _Embedded(tmp_path)
        yield embedded
        for store in embedded.made:
            with closing(store):
                pass
