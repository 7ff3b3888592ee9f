"""Readings in, verdicts out: the one pipeline behind live judging and replay."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from farmhand_collector.block import Block
from farmhand_collector.capacity.detector import Facts
from farmhand_collector.capacity.frame import Frame, Framer
from farmhand_collector.capacity.state import State
from farmhand_collector.capacity.step import Verdicts, step
from farmhand_collector.facts import Expectations, catalogue_facts

EVERY_NS = 30 * 10**9
"""Length of a frame: three readings of an agent, so that a lost card is told within a minute."""
LAG_NS = 15 * 10**9
"""How long a frame waits for readings: one interval of an agent and its way here."""


class Tick(NamedTuple):
    """One judged frame, with what was known beforehand."""

    frame: Frame
    verdicts: Verdicts
    facts: Facts = Facts()


class Judge:
    """Folds readings into verdicts, frame by frame."""

    def __init__(
        self,
        every_ns: int = EVERY_NS,
        lag_ns: int = LAG_NS,
        state: State | None = None,
        facts: Facts | None = None,
    ) -> None:
        self.state = state or State()
        self._expectations = Expectations(facts or catalogue_facts())
        self._framer = Framer(
            every_ns,
            lag_ns,
            self.state.roster,
            watermark_ns=self.state.end_ns + lag_ns,
            facts=self.state.facts,
            paced=self.state.paced,
            late_until=self.state.late_until,
        )

    def feed(self, blocks: Sequence[Block]) -> Iterator[Tick]:
        """Take readings in order of arrival; give a tick for each frame that they close."""
        yield from map(self._judge, self._framer.push(blocks))

    def finish(self) -> Iterator[Tick]:
        """Judge what is still open: no more readings will come."""
        yield from map(self._judge, self._framer.flush())

    @property
    def late_rows(self) -> int:
        """Readings that came when their frame was closed: kept, not judged."""
        return self._framer.late_rows

    def pending_since(self) -> int | None:
        """Arrival of the oldest reading that is not judged yet; None when all are."""
        return self._framer.first_pending_arrival()

    def _judge(self, frame: Frame) -> Tick:
        facts = self._expectations.of(frame)
        self.state, verdicts = step(self.state, frame, facts)
        return Tick(frame, verdicts, facts)
