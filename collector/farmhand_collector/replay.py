"""Replay: verdicts for recorded line protocol, through the same core as live judging."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from farmhand_agent.reading import LineError, Reading, parse_line
from farmhand_agent.settings import ConfigError
from farmhand_collector.block import Block, block_of
from farmhand_collector.changes import Change, ChangeLog
from farmhand_collector.judging import EVERY_NS, LAG_NS, Judge, Tick
from farmhand_collector.report import card_verdict, keys, node_finding, shown
from farmhand_collector.wire import SCHEMA, CardVerdict, FarmState

PIECE_ROWS = 20_000


def read_lines(paths: Sequence[Path]) -> Iterator[Reading]:
    """Readings of files in line protocol, in the order in which they stand.

    Raises:
        ConfigError: a file cannot be read or a line is bad; the message names file and line.
    """
    for path in paths:
        try:
            with path.open(encoding="utf-8", errors="strict") as file:
                for number, line in enumerate(file, start=1):
                    text = line.rstrip("\r\n")
                    if text and not text.startswith("#"):
                        yield _parsed(path, number, text)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: not UTF-8 text, expected line protocol") from None


def _parsed(path: Path, number: int, text: str) -> Reading:
    try:
        return parse_line(text)
    except LineError as error:
        raise ConfigError(f"{path}: line {number}: {error}") from None


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


def cadence_ns(blocks: Sequence[Block]) -> int:
    """Usual time between two readings of a card: the median over all cards; 0 when unknown."""
    gaps = []
    for block in blocks:
        if block.measurement == "card":
            order = np.lexsort((block.time_ns, block.series))
            same = np.diff(block.series[order]) == 0
            gaps.append(np.diff(block.time_ns[order])[same])
    steps = np.concatenate(gaps) if gaps else np.empty(0)
    return int(np.median(steps[steps > 0])) if (steps > 0).any() else 0


def frame_length_ns(cadence: int) -> int:
    """Length of a frame for recordings of any cadence: each holds a reading of each card."""
    if 3 * cadence <= EVERY_NS:
        return EVERY_NS
    return -(-cadence * 2 // EVERY_NS) * EVERY_NS


def judge_files(paths: Sequence[Path]) -> tuple[FarmState, list[Change]]:
    """Judge recordings; each card's verdict is that of its own last frame with a reading.

    Raises:
        ConfigError: a file cannot be read or a line is bad.
    """
    blocks = list(pieces(read_lines(paths)))
    cadence = cadence_ns([block for piece in blocks for block in piece])
    every_ns = frame_length_ns(cadence)
    judge = Judge(every_ns, max(LAG_NS, every_ns // 2))
    last: dict[int, CardVerdict] = {}
    log, changes, tick = ChangeLog(), [], None
    for tick in _ticks(judge, blocks):
        for index in shown(tick.frame.roster, tick.verdicts):
            if tick.frame.present[index] or index not in last:
                last[index] = card_verdict(tick.frame.roster[index], index, tick.verdicts)
        changes += log.of(tick)
    return _final(tick, last), changes


def _final(tick: Tick | None, last: Mapping[int, CardVerdict]) -> FarmState:
    if tick is None:
        return FarmState(SCHEMA, None, None, [], [])
    roster, verdicts = tick.frame.roster, tick.verdicts
    names = keys(roster)
    return FarmState(
        SCHEMA,
        None,
        verdicts.end_ns / 1e9,
        [last[index] for index in shown(roster, verdicts)],
        [node_finding(node, names) for node in verdicts.nodes],
    )


def _ticks(judge: Judge, blocks: Sequence[Sequence[Block]]) -> Iterator[Tick]:
    for piece in blocks:
        yield from judge.feed(piece)
    yield from judge.finish()
