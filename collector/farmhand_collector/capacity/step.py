"""One step of the core: a frame and what is remembered give verdicts and a new memory.

The order is align → score → pool over the fleet → persist → attribute; each stage is a function.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.attribution import WideFinding, attribute
from farmhand_collector.capacity.detector import (
    ACTIONS,
    CAUSES,
    FAILING,
    LEVELS,
    LOST,
    NOT_JUDGED,
    OK,
    UNKNOWN,
    Detector,
    Facts,
)
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.capacity.frame import Bools, Codes, Frame, Work, fitted_codes
from farmhand_collector.capacity.span import gathered, with_load
from farmhand_collector.capacity.state import State
from farmhand_collector.capacity.streaks import persisted

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
    cause: str
    action: str


class Verdicts(NamedTuple):
    """What is to be said of n cards after a frame.

    `findings` holds, per card that has any, the raised findings, the one that names the cause
    first. What several cards share is in `wide`, and no longer among their own.
    """

    end_ns: int
    state: Codes
    since_ns: NDArray[np.int64]
    seen_ns: NDArray[np.int64]
    silent: Bools
    findings: dict[int, list[Raised]]
    wide: list[WideFinding]
    explained: dict[int, list[tuple[WideFinding, Raised]]]
    """By card: what was taken from its own findings, and the wider ones that it went to."""


def step(state: State, frame: Frame, facts: Facts) -> tuple[State, Verdicts]:
    """Judge a frame; the state that is given stays as it is."""
    after = state.fitted(frame.roster)
    after.end_ns = frame.end_ns
    after.facts = dict(frame.facts)
    after.paced, after.late_until = frame.paced, frame.late_until
    after.work = _main_work(state.work, frame)
    after.cards = after.cards.copy()
    after.cards["seen_ns"][frame.present] = frame.end_ns
    # A job may tell its rate more seldom than frames end.
    frame = replace(frame, work=after.work)
    frame, after.spans = gathered(with_load(frame, facts), state.spans)
    for detector in all_detectors():
        if detector.per_span and frame.span is None:
            continue
        # A card that gives no value is NaN all the way; that is no mistake in arithmetic.
        with np.errstate(divide="ignore", invalid="ignore"):
            score, after.memories[detector.name] = detector.score(
                frame, after.memories[detector.name], facts
            )
        judged = score.level != NOT_JUDGED
        if judged.any():
            before = after.streaks[detector.name]
            after.streaks[detector.name] = persisted(before, detector, score, frame)
        if detector.component == "compute" and frame.span is not None:
            # What can be said of a card at rest says nothing of what it gives.
            worked = frame.span.fresh | (frame.span.rate > 0)
            after.cards["judged_ns"][judged & worked] = frame.end_ns
    return after, _conclude(after, frame, facts)


def _main_work(before: Work, frame: Frame) -> Work:
    """What each card last worked on, so that a frame without its report forgets nothing."""
    told = frame.work.job > 0
    n = len(told)
    known = [fitted_codes(codes, n) for codes in (before.job, before.gang)]
    job = np.where(told, frame.work.job, known[0])
    gang = np.where(told, frame.work.gang, known[1])
    used = set(np.unique(np.concatenate([job, gang])).tolist())
    names = {
        code: name for code, name in {**before.names, **frame.work.names}.items() if code in used
    }
    return Work(frame.work.rate, job, gang, names)


def _conclude(state: State, frame: Frame, facts: Facts) -> Verdicts:
    findings = _raised(state)
    silent = frame.end_ns - state.cards["seen_ns"] > SILENT_NS
    judged = _recently_judged(state)
    judged[list(findings)] = True
    able = judged & (~silent | (_standing(findings, silent) > OK))
    wide = attribute(frame.roster, findings, able, state.work, facts.groups)
    levels = _standing(findings, silent)
    concluded = np.where(judged & (~silent | (levels > OK)), levels, UNKNOWN).astype(np.int8)
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
        wide,
        _explained(wide),
    )


def _standing(findings: dict[int, list[Raised]], silent: Bools) -> Codes:
    """(n,) the worst that is known of each card.

    Whatever was wrong with a card before, silence says nothing of it now; only a loss stays, and
    what is said of cards that are not heard.
    """
    levels = np.zeros(len(silent), np.int8)
    for card, raised in findings.items():
        told = [
            finding.level
            for finding in raised
            if not silent[card] or finding.detector.of_silent or finding.level == LOST
        ]
        levels[card] = max(told, default=OK)
    return levels


def _explained(wide: Sequence[WideFinding]) -> dict[int, list[tuple[WideFinding, Raised]]]:
    explained: dict[int, list[tuple[WideFinding, Raised]]] = {}
    for one in wide:
        for card, finding in one.shown:
            explained.setdefault(card, []).append((one, finding))
    return explained


def _recently_judged(state: State) -> Bools:
    judged_ns = state.cards["judged_ns"]
    recent: Bools = (judged_ns > 0) & (state.end_ns - judged_ns <= JUDGED_HOLDS_NS)
    return recent


def _raised(state: State) -> dict[int, list[Raised]]:
    """Raised findings by card; detectors come in the order in which they explain one another."""
    findings: dict[int, list[Raised]] = {}
    for detector in all_detectors():
        streaks = state.streaks[detector.name]
        at, worst = streaks.worst_raised()
        cards, rows = streaks.cards[at], streaks.rows[at]
        since_ns = rows["since_ns"][np.arange(len(rows)), worst]
        names = ("delivered", "confidence", "cause", "action")
        told = [LEVELS[worst], since_ns, *(rows[name] for name in names)]
        of_cards = zip(cards.tolist(), *(column.tolist() for column in told), strict=True)
        for card, level, since, delivered, confidence, cause, action in of_cards:
            values = streaks.evidence.get(card, {})
            finding = Raised(
                detector,
                level,
                since,
                delivered,
                confidence,
                values,
                detector.cause if cause < 0 else CAUSES[cause],
                detector.action if action < 0 else ACTIONS[action],
            )
            findings.setdefault(card, []).append(finding)
    for raised in findings.values():
        # What condemns a card names the cause, whatever else could explain what it shows.
        raised.sort(key=lambda finding: finding.level < FAILING)
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
