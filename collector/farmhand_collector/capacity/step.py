"""One step of the core: a frame and what is remembered give verdicts and a new memory.

The order is align → score → pool over the fleet → persist → attribute; each stage is a function.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.attribution import NodeFinding, attribute
from farmhand_collector.capacity.detector import (
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
    after.cards["seen_ns"][frame.present] = frame.end_ns
    for detector in all_detectors():
        # A card that gives no value is NaN all the way; that is no mistake in arithmetic.
        with np.errstate(divide="ignore", invalid="ignore"):
            score, memory = detector.score(frame, after.memories[detector.name], facts)
        after.memories[detector.name] = memory
        pooled = _pool(score)
        _persist(after, detector, score, pooled, frame)
        if detector.component == "compute":
            after.cards["judged_ns"][score.level != NOT_JUDGED] = frame.end_ns
    return after, _conclude(after, frame)


def _pool(score: Score) -> Codes:
    """Levels that stand out over all cards that were tested together."""
    if score.p_value is None:
        return score.level
    found = discoveries(score.p_value, FALSE_DISCOVERY_RATE)
    return np.where((score.level > OK) & ~found, OK, score.level).astype(np.int8)


def _persist(state: State, detector: Detector, score: Score, level: Codes, frame: Frame) -> None:
    """Count judged windows in a row; raise and clear by the detector's patience."""
    streak = state.streaks[detector.name]
    bad, good = level > OK, level == OK
    streak["bad_since_ns"][bad & (streak["bad"] == 0)] = frame.start_ns
    streak["bad"] = np.where(bad, streak["bad"] + 1, np.where(good, 0, streak["bad"]))
    streak["good"] = np.where(good, streak["good"] + 1, np.where(bad, 0, streak["good"]))
    streak["level"][bad] = level[bad]
    streak["delivered"][bad] = np.nan if score.delivered is None else score.delivered[bad]
    streak["confidence"][bad] = 1.0 if score.p_value is None else 1 - score.p_value[bad]
    raised = streak["raised_since_ns"]
    begins = bad & (raised == 0) & (streak["bad"] >= detector.raise_after)
    raised[begins] = streak["bad_since_ns"][begins]
    ends = (raised > 0) & (streak["good"] >= detector.clear_after)
    raised[ends] = 0
    _remember_evidence(state, detector, score, np.flatnonzero(bad), np.flatnonzero(ends))


def _remember_evidence(
    state: State,
    detector: Detector,
    score: Score,
    bad: NDArray[np.intp],
    ended: NDArray[np.intp],
) -> None:
    for card in bad.tolist():
        values = {name: float(column[card]) for name, column in score.evidence.items()}
        known = {name: value for name, value in values.items() if np.isfinite(value)}
        state.evidence.setdefault(card, {})[detector.name] = known
    for card in ended.tolist():
        state.evidence.get(card, {}).pop(detector.name, None)


def _conclude(state: State, frame: Frame) -> Verdicts:
    findings = _raised(state)
    nodes = attribute(frame, findings)
    levels = np.zeros(len(frame), np.int8)
    for card, raised in findings.items():
        levels[card] = max((finding.level for finding in raised), default=OK)
    judged = _recently_judged(state)
    seen = state.cards["seen_ns"] > 0
    silent = seen & (frame.end_ns - state.cards["seen_ns"] > SILENT_NS)
    concluded = np.where((levels == OK) & ~judged, UNKNOWN, levels)
    # Whatever was wrong with a card before, silence says nothing of it now; only a loss stays.
    concluded = np.where(silent & (levels != LOST), UNKNOWN, concluded).astype(np.int8)
    changed = (concluded != state.cards["state"]) | (state.cards["since_ns"] == 0)
    state.cards["since_ns"][changed] = _beginnings(findings, frame, changed)
    state.cards["state"] = concluded
    return Verdicts(
        frame.end_ns,
        concluded,
        state.cards["since_ns"].copy(),
        state.cards["seen_ns"].copy(),
        silent,
        findings,
        nodes,
    )


def _recently_judged(state: State) -> Bools:
    recent: Bools = state.end_ns - state.cards["judged_ns"] <= JUDGED_HOLDS_NS
    return recent


def _raised(state: State) -> dict[int, list[Raised]]:
    """Raised findings by card; detectors come in the order in which they explain one another."""
    findings: dict[int, list[Raised]] = {}
    for detector in all_detectors():
        streak = state.streaks[detector.name]
        for card in np.flatnonzero(streak["raised_since_ns"] > 0).tolist():
            row = streak[card]
            values = state.evidence.get(card, {}).get(detector.name, {})
            findings.setdefault(card, []).append(
                Raised(
                    detector,
                    int(row["level"]),
                    int(row["raised_since_ns"]),
                    float(row["delivered"]),
                    float(row["confidence"]),
                    values,
                )
            )
    return findings


def _beginnings(
    findings: dict[int, list[Raised]], frame: Frame, changed: Bools
) -> NDArray[np.int64]:
    """When the state of each changed card began: with its worst finding, else with the frame."""
    began = np.full(len(frame), frame.start_ns, np.int64)
    for card, raised in findings.items():
        if raised:
            began[card] = min(f.since_ns for f in raised if f.level == max(r.level for r in raised))
    return began[changed]
