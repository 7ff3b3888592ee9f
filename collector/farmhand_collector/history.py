"""The long memory: readings of five minutes beside the raw ones, and which of them answers.

Raw readings are kept for weeks, five minutes made one for a year. What comes late is made one
again: each slice is looked at three times, and a row that is written again replaces itself.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from farmhand_agent import durable
from farmhand_agent.reading import Kind, fields_of
from farmhand_collector.block import Block, join_blocks
from farmhand_collector.five_minutes import KEPT, ROLLED, SLICE_NS, SUMMED, increases, rolled
from farmhand_collector.store.base import Store, StoreError, StoreReader

log = logging.getLogger(__name__)

SECOND_NS = 10**9
DELAYS_SECONDS = (600, 4_200, 90_000)
"""How long after its begin a slice is made one: soon, when an outage of an hour has been made up
for, and when a node that was away for a day has."""
WORK_SECONDS = 20.0
_FIELDS_AT_ONCE = 16
"""A slice of 10,000 cards with all fields would be 200 MB."""
_DAY_NS = 86_400 * SECOND_NS
RAW_SPAN_NS = 2 * _DAY_NS
"""Plots of more than two days have more readings than anybody can see."""


class Roller:
    """Makes one of five minutes, slice after slice."""

    def __init__(
        self,
        raw: StoreReader,
        kept: Store,
        memory: Path,
        *,
        raw_days: int,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Read from one store and write to another; `memory` is a file for how far it has come.

        At first all that the raw store holds is made one.
        """
        self._raw, self._kept = raw, kept
        self._memory = memory
        self._clock = clock
        self._reach_ns = raw_days * 86_400 * SECOND_NS
        self._next = self._remembered()
        self._first: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="roller", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the slice in hand and end."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(WORK_SECONDS):
            try:
                self.work()
            except (StoreError, OSError) as error:
                log.error("five minutes: %s; tried again soon", error)

    def work(self) -> int:
        """Make one of every slice that is due; returns how many there were.

        Raises:
            StoreError: readings could not be read or kept; what was done is remembered.
            OSError: how far it came could not be remembered.
        """
        count = 0
        for at in range(len(DELAYS_SECONDS)):
            while not self._stop.is_set() and self._is_due(at):
                self._roll(self._next[at])
                self._next[at] += SLICE_NS
                count += 1
                self._remember()
        return count

    def _is_due(self, at: int) -> bool:
        self._next[at] = max(self._next[at], self._begin())
        due = self._next[at] + DELAYS_SECONDS[at] * SECOND_NS <= self._clock()
        return due and (at == 0 or self._next[at] < self._next[at - 1])

    def _begin(self) -> int:
        """The first slice that may hold readings: of the first day in which a card told of itself.

        Looked for once: weeks of nothing would be made one otherwise, slice after slice.
        """
        now = self._clock()
        reach = (now - self._reach_ns) // SLICE_NS * SLICE_NS
        if self._first is None:
            days = range(reach, now, _DAY_NS)
            self._first = next(filter(self._has_cards, days), now // SLICE_NS * SLICE_NS)
        return max(self._first, reach)

    def _has_cards(self, begin_ns: int) -> bool:
        # Cards tell this hourly: a day of it is small.
        told = self._raw.between("card_info", begin_ns, begin_ns + _DAY_NS, None, ["fans"])
        return len(told) > 0

    def _roll(self, begin_ns: int) -> None:
        for measurement in ROLLED:
            for fields in _portions(measurement):
                block = self._raw.between(measurement, begin_ns, begin_ns + SLICE_NS, None, fields)
                self._keep(rolled(block))
        self._roll_increases(begin_ns)
        for measurement in KEPT:
            self._keep(self._raw.between(measurement, begin_ns, begin_ns + SLICE_NS))

    def _roll_increases(self, begin_ns: int) -> None:
        counters = [n for n, told in fields_of("card").items() if told.kind is Kind.COUNTER]
        for fields in _some_at_once(counters):
            since_ns = begin_ns - SLICE_NS
            block = self._raw.between("card", since_ns, begin_ns + SLICE_NS, None, fields)
            risen = increases(block)
            self._keep(risen.take(risen.time_ns == begin_ns))

    def _keep(self, block: Block) -> None:
        told = [reading for reading in block.readings() if reading.fields]
        if told:
            self._kept.write(told)

    def _remembered(self) -> list[int]:
        try:
            told = json.loads(self._memory.read_text(encoding="utf-8"))
            next_ns = [int(begin) for begin in told["next_ns"]]
        except FileNotFoundError:
            next_ns = []
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: %s; five minutes are made one from the begin", self._memory, error)
            next_ns = []
        return next_ns if len(next_ns) == len(DELAYS_SECONDS) else [0] * len(DELAYS_SECONDS)

    def _remember(self) -> None:
        durable.write(self._memory, json.dumps({"next_ns": self._next}).encode())


def _portions(measurement: str) -> Sequence[list[str]]:
    """Fields of a measurement some at a time, each with the weights of its means."""
    names = list(fields_of(measurement))
    weights = [name for name in names if name in SUMMED]
    others = [name for name in names if name not in SUMMED]
    return [[*weights, *some] for some in _some_at_once(others)]


def _some_at_once(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[at : at + _FIELDS_AT_ONCE] for at in range(0, len(names), _FIELDS_AT_ONCE))


class History:
    """Answers about the past from the store that suits the question."""

    def __init__(
        self,
        raw: StoreReader,
        kept: StoreReader,
        *,
        raw_days: int,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Know both stores."""
        self._raw, self._kept = raw, kept
        self._reach_ns = raw_days * 86_400 * SECOND_NS
        self._clock = clock

    def between(
        self,
        measurement: str,
        since_ns: int,
        until_ns: int,
        tags: Mapping[str, str] | None = None,
        fields: Collection[str] | None = None,
    ) -> Block:
        """As `StoreReader.between`: raw readings of short and recent stretches of time.

        Of events, the old ones and the recent ones: nothing is made one of them.

        Raises:
            StoreError: the rows could not be read.
        """
        border_ns = self._clock() - self._reach_ns
        if measurement in KEPT and since_ns < border_ns < until_ns:
            old = self._kept.between(measurement, since_ns, border_ns, tags, fields)
            new = self._raw.between(measurement, border_ns, until_ns, tags, fields)
            return join_blocks(measurement, (*old.values, *old.texts), [old, new])
        is_long = measurement in ROLLED and until_ns - since_ns > RAW_SPAN_NS
        store = self._kept if is_long or since_ns < border_ns else self._raw
        return store.between(measurement, since_ns, until_ns, tags, fields)
