"""Boards: which rows of a roster are NPUs, mining cards, or one and the same board."""

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from farmhand_agent.reading import UNIDENTIFIED
from farmhand_collector.capacity.frame import Bools
from farmhand_collector.capacity.roster import Roster

_MINING = re.compile(r"(CMP |P10[2-6]-)")
"""Names of cards that were made for mining: CMP 30HX to 170HX, P102-100, P104-100, P106-090."""


Answer = TypeVar("Answer")


class Doubles(NamedTuple):
    """Rows of boards that stand on the roster more than once: their indices, and their boards."""

    rows: NDArray[np.intp]
    boards: NDArray[np.int64]


def _of_last_roster(ask: Callable[[Roster], Answer]) -> Callable[[Roster], Answer]:
    """Keep the answer for one roster: it is the same object until a card joins."""
    known: list[tuple[Roster, Answer]] = []

    def answer(roster: Roster) -> Answer:
        if not known or known[0][0] is not roster:
            known[:] = [(roster, ask(roster))]
        return known[0][1]

    return answer


@_of_last_roster
def npus(roster: Roster) -> Bools:
    """(n,) cards that hold a rated clock under load, as Ascends do."""
    return np.array([key.vendor == "huawei" for key in roster], bool)


@_of_last_roster
def mining_cards(roster: Roster) -> Bools:
    """(n,) cards whose name says that they were made for mining."""
    return np.array([bool(_MINING.match(key.model)) for key in roster], bool)


@_of_last_roster
def doubles(roster: Roster) -> Doubles:
    """Boards with several rows: they were moved, or two of them claim one identity."""
    numbers: dict[str, int] = {}
    boards = np.array([numbers.setdefault(key.card, len(numbers)) for key in roster], np.int64)
    named = np.array([key.card not in ("", UNIDENTIFIED) for key in roster], bool)
    sizes = np.bincount(boards, minlength=1)
    rows = np.flatnonzero(named & (sizes[boards] > 1)) if len(roster) else np.zeros(0, np.intp)
    return Doubles(rows, boards[rows])
