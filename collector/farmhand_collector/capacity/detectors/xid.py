"""The driver told of errors of the card by number (XIDs) that say something about the board."""

from functools import partial

import numpy as np

from farmhand_collector.capacity.detector import WATCH, Detector, Facts, Memory, Score
from farmhand_collector.capacity.frame import READ_OK, Bools, Event, Frame, Index
from farmhand_collector.capacity.occurrences import (
    MEMORY,
    NANOSECONDS,
    UNLISTED,
    Rules,
    Slots,
    Told,
    bursts,
    held,
    noted,
    rules_of,
)

FALLEN = "79"
_SAME = {"167": FALLEN}
"""A fatal PCIe timeout (167) is a fall off the bus by another name (NVIDIA's catalogue, gpud)."""


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """What the rules for each code say of its occurrences on one card, while they are held.

    A fall off the bus is told by `lost` while it lasts. Once the card reads well again, a first one
    is worth a look, and another one within two weeks (gpud) says that it falls again and again.
    """
    told = bursts(
        Told(event.card, _code(event), event.time_ns)
        for event in frame.events
        if event.kind in ("xid", "off_bus")
    )
    memory = noted(memory, told, frame, _with_falls_over(facts.xids))
    return held(memory, frame, partial(_heeded, frame)), memory


def _heeded(frame: Frame, cards: Index, slots: Slots) -> Bools:
    """All but a fall after which the card was not heard in a window that began later."""
    well = (frame.read[cards] == READ_OK)[:, np.newaxis]
    back = well & (slots["last_s"] < frame.start_ns // NANOSECONDS)
    heeded: Bools = (slots["code"] != int(FALLEN)) | back
    return heeded


def _code(event: Event) -> str:
    code = FALLEN if event.kind == "off_bus" else event.code
    return _SAME.get(code, code)


def _with_falls_over(rules: Rules) -> Rules:
    """The rules, in which a single fall means no more than a look once it is over."""
    falls = [
        rule._replace(level=min(rule.level, WATCH)) if rule.times == 1 else rule
        for rule in rules_of(FALLEN, rules)
    ]
    return {**rules, UNLISTED: rules_of(UNLISTED, rules), FALLEN: falls}


DETECTOR = Detector(
    name="xid",
    cause="driver",
    # Events measure nothing, so nothing is told as not delivered.
    component=None,
    action="look-at-node",
    # An event says that something broke; what is measured says what, so that comes first.
    precedence=20,
    raise_after=1,
    # The memory holds what was told for as long as it counts.
    clear_after=1,
    memory=MEMORY,
    score=score,
)
