"""How batches reach the collector: late after an outage, some of them twice."""

import heapq
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from farmhand_collector.simulator.reports import Batch

_BACKLOG_BATCHES = 20
"""Held batches that follow each live one once the way is free."""


class _Outage(NamedTuple):
    host: str
    begin: float
    end: float


class Delivery:
    """The way from agents to the collector.

    `duplicates` is the share of batches that arrive twice, as they do when an answer is lost.
    """

    def __init__(self, seed: int, duplicates: float) -> None:
        self._rng = np.random.default_rng([seed, 9])
        self._duplicates = duplicates
        self._outages: list[_Outage] = []
        self._held: dict[str, deque[Batch]] = {}
        self._late: list[tuple[float, int, Batch]] = []
        self._late_batches = 0

    def add_outage(self, host: str, begin: float, end: float) -> None:
        """Cut a host off from one time to another."""
        self._outages.append(_Outage(host, begin, end))

    def deliver(self, batch: Batch) -> Iterator[Batch]:
        """What arrives when an agent has this batch to send: nothing, it, or it and old ones."""
        while self._late and self._late[0][0] <= batch.time:
            yield from self._once_or_twice(heapq.heappop(self._late)[2])
        if batch.late_seconds:
            self._late_batches += 1
            due = batch.time + batch.late_seconds
            heapq.heappush(self._late, (due, self._late_batches, batch))
            return
        if self._is_cut_off(batch):
            self._held.setdefault(batch.host, deque()).append(batch)
            return
        yield from self._once_or_twice(batch)
        held = self._held.get(batch.host)
        for _ in range(_BACKLOG_BATCHES if held else 0):
            if held:
                yield from self._once_or_twice(held.popleft())

    def _is_cut_off(self, batch: Batch) -> bool:
        return any(
            outage.host == batch.host and outage.begin <= batch.time < outage.end
            for outage in self._outages
        )

    def _once_or_twice(self, batch: Batch) -> Iterator[Batch]:
        yield batch
        if self._duplicates and self._rng.random() < self._duplicates:
            yield batch
