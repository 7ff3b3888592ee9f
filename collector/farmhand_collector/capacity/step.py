"""One step of the core: a frame and what is remembered give verdicts and a new memory.

The order is align → score → pool over the fleet → persist → attribute; each stage is a function.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.attribution import NodeFinding, attribute
from farmhand_collector.capacity.detector import (
    LEVELS,
    LOST,
    NOT_JUDGED,
    OK,
    UNKNOWN,
    Detector,
    Facts,
    Score,
)
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.capacity.frame import Bools, Codes, Frame
from farmhand_collector.capacity.state import State
from farmhand_collector.capacity.statistics import discoveries

FALSE_DISCOVERY_RATE = 0.01
"""Accepted share of false ones among the statistical deviations found in one frame."""
SILENT_NS = 120 * 10**9
"""A card not heard of for this long is unknown; agents speak each 10 s."""
JUDGED_HOLDS_NS = 6 * 3600 * 10**9
"""How long an idle card keeps the good name of its last load."""


class Raised(NamedTuple):
    """One finding of one card: which detector raised it, how bad, since when, on what values."""

    detector: Detector
    level: int
    since_ns: int
    delivered: float
    confidence: float
    values: dict[str, float]


class Verdicts(NamedTuple):
    """What is to be said of n cards after a frame.

    `findings` holds, per card that has any, the raised findings, the one that names the cause
    first. Cards explained by a node finding are OK and point to it in `node`.
    """

    end_ns: int
    state: Codes
    since_ns: NDArray[np.int64]
    seen_ns: NDArray[np.int64]
    silent: Bools
    findings: dict[int, list[Raised]]
    nodes: list[NodeFinding]


def step(state: State, frame: Frame, facts: Facts) -> tuple[State, Verdicts]:
    """Judge a frame; the state that is given stays as it is."""
    after = state.fitted(frame.roster)
    after.end_ns = frame.end_ns
    after.facts = dict(frame.facts)
    after.paced = frame.paced
    after.cards = after.cards.copy()
    after.cards["seen_ns"][frame.present] = frame.end_ns
    for detector in all_detectors():
        # A card that gives no value is NaN all the way; that is no mistake in arithmetic.
        with np.errstate(divide="ignore", invalid="ignore"):
            score, after.memories[detector.name] = detector.score(
                frame, after.memories[detector.name], facts
            )
        judged = score.level != NOT_JUDGED
        if judged.any():
            _persist(after, detector, score, detector.window_start_ns(frame))
        if detector.component == "compute":
            after.cards["judged_ns"][judged] = frame.end_ns
    return after, _conclude(after, frame)


def _pool(score: Score) -> Codes:
    """Levels that stand out over all cards that were tested together."""
    if score.p_value is None:
        return score.level
    found = discoveries(score.p_value, FALSE_DISCOVERY_RATE)
    return np.where((score.level > OK) & ~found, OK, score.level).astype(np.int8)


def _persist(state: State, detector: Detector, score: Score, start_ns: int) -> None:
    """Count judged windows in a row; raise and clear each level by the detector's patience."""
    level = _pool(score)
    streak = state.streaks[detector.name].copy()
    judged = (level != NOT_JUDGED)[:, np.newaxis]
    reached = level[:, np.newaxis] >= LEVELS
    run, raised = streak["run"], streak["raised"]
    counted = np.where(reached, np.maximum(run, 0) + 1, np.minimum(run, 0) - 1)
    run = np.where(judged, counted, run)
    streak["since_ns"][reached & (run == 1) & ~raised] = start_ns
    streak["raised"] = (run >= detector.raise_after) | (raised & (run > -detector.clear_after))
    streak["run"] = run
    bad = level > OK
    streak["delivered"][bad] = np.nan if score.delivered is None else score.delivered[bad]
    streak["confidence"][bad] = 1.0 if score.p_value is None else 1 - score.p_value[bad]
    state.streaks[detector.name] = streak
    _remember_evidence(state, detector, score, bad)


def _remember_evidence(state: State, detector: Detector, score: Score, bad: Bools) -> None:
    """Keep the values behind each bad window until the card is good for long enough."""
    columns = [column[bad].tolist() for column in score.evidence.values()]
    for card, *values in zip(np.flatnonzero(bad).tolist(), *columns, strict=True):
        named = zip(score.evidence, values, strict=True)
        known = {name: value for name, value in named if math.isfinite(value)}
        state.evidence.setdefault(card, {})[detector.name] = known
    streak = state.streaks[detector.name]
    needless = (streak["run"][:, 0] < 0) & ~streak["raised"][:, 0]
    for card in [card for card in state.evidence if needless[card]]:
        state.evidence[card].pop(detector.name, None)
        if not state.evidence[card]:
            del state.evidence[card]


def _conclude(state: State, frame: Frame) -> Verdicts:
    findings = _raised(state)
    silent = frame.end_ns - state.cards["seen_ns"] > SILENT_NS
    judged = _recently_judged(state)
    judged[list(findings)] = True
    nodes = attribute(frame.roster, findings, judged & ~silent)
    levels = np.zeros(len(frame), np.int8)
    for card, raised in findings.items():
        levels[card] = max((finding.level for finding in raised), default=OK)
    concluded = np.where(judged, levels, UNKNOWN)
    # Whatever was wrong with a card before, silence says nothing of it now; only a loss stays.
    concluded = np.where(silent & (levels != LOST), UNKNOWN, concluded).astype(np.int8)
    cards = state.cards
    changed = (concluded != cards["state"]) | (cards["since_ns"] == 0)
    cards["since_ns"][changed] = _beginnings(state, frame, concluded, findings)[changed]
    cards["state"] = concluded
    return Verdicts(
        frame.end_ns,
        concluded,
        cards["since_ns"].copy(),
        cards["seen_ns"].copy(),
        silent & (cards["seen_ns"] > 0),
        findings,
        nodes,
    )


def _recently_judged(state: State) -> Bools:
    judged_ns = state.cards["judged_ns"]
    recent: Bools = (judged_ns > 0) & (state.end_ns - judged_ns <= JUDGED_HOLDS_NS)
    return recent


def _raised(state: State) -> dict[int, list[Raised]]:
    """Raised findings by card; detectors come in the order in which they explain one another."""
    findings: dict[int, list[Raised]] = {}
    for detector in all_detectors():
        streak = state.streaks[detector.name]
        cards = np.flatnonzero(streak["raised"][:, 0])
        rows = streak[cards]
        # Whatever reaches a level reaches those below it, so the raised ones are the first.
        worst = rows["raised"].sum(axis=1) - 1
        since_ns = rows["since_ns"][np.arange(len(rows)), worst]
        told = (LEVELS[worst], since_ns, rows["delivered"], rows["confidence"])
        of_cards = zip(cards.tolist(), *(column.tolist() for column in told), strict=True)
        for card, level, since, delivered, confidence in of_cards:
            values = state.evidence.get(card, {}).get(detector.name, {})
            finding = Raised(detector, level, since, delivered, confidence, values)
            findings.setdefault(card, []).append(finding)
    return findings


def _beginnings(
    state: State, frame: Frame, concluded: Codes, findings: dict[int, list[Raised]]
) -> NDArray[np.int64]:
    """(n,) when each card's state began, if it is new.

    Findings say themselves since when; of a card that fell silent nothing is known since it was
    last heard of; all else begins with the frame.
    """
    began = np.full(len(frame), frame.start_ns, np.int64)
    silent = frame.end_ns - state.cards["seen_ns"] > SILENT_NS
    heard = state.cards["seen_ns"] > 0
    began[silent & heard] = state.cards["seen_ns"][silent & heard]
    for card, raised in findings.items():
        since = [f.since_ns for f in raised if f.level == concluded[card]]
        if since:
            began[card] = min(since)
    return began
