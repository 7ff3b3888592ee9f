"""Replay: verdicts for recorded line protocol, through the same core as live judging."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from farmhand_agent.reading import Reading
from farmhand_collector.block import Block, block_of
from farmhand_collector.capacity.attribution import WideFinding
from farmhand_collector.capacity.detector import SPAN_NS, Facts
from farmhand_collector.capacity.rollup import Capacity, LastHeard, capacity_of
from farmhand_collector.capacity.step import Raised
from farmhand_collector.changes import Change, ChangeLog
from farmhand_collector.judging import EVERY_NS, LAG_NS, Judge, Tick
from farmhand_collector.recordings import LeftOut, Recordings
from farmhand_collector.report import card_verdict, farm_capacity, keys, scope_finding, shown
from farmhand_collector.wire import SCHEMA, CardVerdict, FarmState

PIECE_ROWS = 20_000
MOST_LATE_SHARE = 0.3
"""A recording of a live farm holds the backlogs of some nodes; more than that is another order."""


class Judged(NamedTuple):
    """Each card as of its own last reading, what changed, and what could not be read."""

    state: FarmState
    changes: list[Change]
    left_out: list[LeftOut]


def pieces(readings: Iterator[Reading], rows: int = PIECE_ROWS) -> Iterator[list[Block]]:
    """Readings as blocks of bounded size."""
    arrival = 1
    piece: list[Reading] = []
    for reading in readings:
        piece.append(reading)
        if len(piece) == rows:
            yield block_of(piece, arrival)
            arrival, piece = arrival + len(piece), []
    if piece:
        yield block_of(piece, arrival)


def cadence_ns(blocks: Iterable[Block]) -> int:
    """Usual time between two readings of a card: the median over all cards; 0 when unknown."""
    series: dict[tuple[tuple[str, str], ...], int] = {}
    cards, times = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for block in blocks:
        if block.measurement == "card":
            keys = [tuple(sorted(tags.items())) for tags in block.tags]
            codes = np.array([series.setdefault(key, len(series)) for key in keys], np.int64)
            cards.append(codes[block.series])
            times.append(block.time_ns)
    card, time_ns = np.concatenate(cards), np.concatenate(times)
    order = np.lexsort((time_ns, card))
    steps = np.diff(time_ns[order])[np.diff(card[order]) == 0]
    return int(np.median(steps[steps > 0])) if (steps > 0).any() else 0


def frame_length_ns(cadence: int) -> int:
    """Length of a frame for recordings of any cadence.

    Each holds a reading of each card, or, where readings are of whole runs, at most one run.
    """
    if cadence == 0 or cadence > SPAN_NS:
        return SPAN_NS
    if 3 * cadence <= EVERY_NS:
        return EVERY_NS
    return -(-cadence * 2 // EVERY_NS) * EVERY_NS


def judge_files(paths: Sequence[Path], facts: Facts | None = None) -> Judged:
    """Judge recordings, as if the files had been recorded into one.

    Raises:
        ConfigError: a file cannot be read or is not line protocol.
    """
    recordings = Recordings(paths)
    pushes = list(pieces(recordings.readings()))
    every_ns = frame_length_ns(cadence_ns(chain.from_iterable(pushes)))
    lag_ns = max(LAG_NS, every_ns // 2)
    judge, last = Judge(every_ns, lag_ns, facts=facts), _LastWindows()
    log, changes = ChangeLog(), []
    for tick in _ticks(judge, in_order(pushes, every_ns + lag_ns)):
        last.note(tick)
        changes += log.of(tick)
    return Judged(last.farm_state(), changes, recordings.left_out())


def in_order(pushes: list[list[Block]], patience_ns: int) -> list[list[Block]]:
    """Recorded rows in the order in which they should be judged: as a rule, as they stand.

    Where too many of them come later than `patience_ns`, the file does not tell in which order
    they arrived (a database gives them card by card), and they are ordered by time.
    """
    blocks = [block for piece in pushes for block in piece]
    if not blocks:
        return []
    arrival = np.concatenate([block.arrival for block in blocks])
    time_ns = np.concatenate([block.time_ns for block in blocks])
    arrived = time_ns[np.argsort(arrival)]
    late = arrived < np.maximum.accumulate(arrived) - patience_ns
    if late.mean() <= MOST_LATE_SHARE:
        return pushes
    rank = np.empty(len(time_ns), np.int64)
    rank[np.lexsort((arrival, time_ns))] = np.arange(1, len(time_ns) + 1)
    ends = np.cumsum([len(block) for block in blocks])[:-1]
    ranks = np.split(rank, ends)
    return [[replace(block, arrival=r) for block, r in zip(blocks, ranks, strict=True)]]


class _LastWindows:
    """What is to be said of each card, and of what carries it, as of its last reading."""

    def __init__(self) -> None:
        self._tick: Tick | None = None
        self._cards: dict[int, CardVerdict] = {}
        self._wide: dict[_WideKey, WideFinding] = {}
        self._states: dict[int, int] = {}
        self._findings: dict[int, list[Raised]] = {}
        self._explained: dict[int, list[tuple[WideFinding, Raised]]] = {}
        self._heard = LastHeard.nothing()

    def note(self, tick: Tick) -> None:
        """Take in the next frame."""
        frame, verdicts = tick.frame, tick.verdicts
        self._tick, self._heard = tick, self._heard.after(frame)
        # An event speaks of a card too: a node may hang in the moment in which its card falls.
        told = frame.present.copy()
        told[[event.card for event in frame.events]] = True
        for card in np.flatnonzero(told).tolist():
            self._cards[card] = card_verdict(frame.roster[card], card, verdicts)
            self._states[card] = int(verdicts.state[card])
            self._findings[card] = verdicts.findings.get(card, [])
            self._explained[card] = verdicts.explained.get(card, [])
        self._wide |= {_wide_key(wide): wide for wide in verdicts.wide}

    def farm_state(self) -> FarmState:
        """All of it as the object that `judge --json` prints."""
        if self._tick is None:
            return FarmState(SCHEMA, None, None, [], [])
        roster, verdicts = self._tick.frame.roster, self._tick.verdicts
        rows = shown(roster, verdicts)
        names = keys(roster, rows)
        explained = [wide for told in self._explained.values() for wide, _ in told]
        standing = sorted({_wide_key(wide) for wide in explained})
        return FarmState(
            SCHEMA,
            None,
            verdicts.end_ns / 1e9,
            [self._cards[row] for row in rows],
            [scope_finding(self._wide[key], roster, names) for key in standing],
            farm_capacity(roster, rows, self._capacity(self._tick)),
        )

    def _capacity(self, tick: Tick) -> Capacity:
        """What each card gave in its own last window."""
        state = tick.verdicts.state.copy()
        state[list(self._states)] = list(self._states.values())
        as_told = tick.verdicts._replace(
            state=state, findings=self._findings, explained=self._explained
        )
        return capacity_of(tick.frame, tick.facts, as_told, self._heard)


_WideKey = tuple[str, str, str]


def _wide_key(wide: WideFinding) -> _WideKey:
    return wide.scope, wide.site, wide.name


def _ticks(judge: Judge, pushes: Iterable[Sequence[Block]]) -> Iterator[Tick]:
    for blocks in pushes:
        yield from judge.feed(blocks)
    yield from judge.finish()
