"""What the core remembers between frames, and how it is saved."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from tokenize import TokenError
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.detector import LEVELS, Memory
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.capacity.frame import Floats
from farmhand_collector.capacity.roster import CardKey, Roster

STREAK: np.dtype[Any] = np.dtype(
    [
        ("run", "i4", len(LEVELS)),
        ("raised", "?", len(LEVELS)),
        ("since_ns", "i8", len(LEVELS)),
        ("delivered", "f8"),
        ("confidence", "f8"),
    ]
)
"""Per detector, card and level: judged windows in a row that reached the level, or as a negative
number that did not; whether it is raised, and since when it is reached. `delivered` and
`confidence` are those of the last bad window."""

CARD: np.dtype[Any] = np.dtype(
    [("seen_ns", "i8"), ("judged_ns", "i8"), ("since_ns", "i8"), ("state", "i1")]
)
"""Per card: end of the last frame with a reading, end of the last frame in which its performance
was judged, and its state with its beginning."""

_VERSION = 2


class StateError(ValueError):
    """Saved bytes are not a state that this version understands."""


@dataclass(slots=True)
class State:
    """Memory of the core over the roster; a new one knows no card."""

    end_ns: int = 0
    roster: Roster = field(default_factory=Roster)
    cards: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, CARD))
    memories: dict[str, Memory] = field(default_factory=dict)
    streaks: dict[str, NDArray[np.void]] = field(default_factory=dict)
    evidence: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    """By card and detector: the values behind the last bad window."""
    facts: dict[str, Floats] = field(default_factory=dict)
    """Numbers of `card_info` last heard, for framing to go on with."""
    paced: bool = False
    """Whether the collector's pulse tells the farm's time, for framing to go on with."""

    def fitted(self, roster: Roster) -> "State":
        """With a row for each card of a roster that has grown at its end.

        Arrays that did not grow are shared, not copied.
        """
        n = len(roster)
        detectors = all_detectors()
        return State(
            self.end_ns,
            roster,
            _grown(self.cards, n, CARD),
            {d.name: _grown(self.memories.get(d.name), n, d.memory) for d in detectors},
            {d.name: _grown(self.streaks.get(d.name), n, STREAK) for d in detectors},
            {card: dict(findings) for card, findings in self.evidence.items()},
            dict(self.facts),
            self.paced,
        )

    def to_bytes(self) -> bytes:
        """Save; the answer is for `from_bytes` of this or the next version."""
        arrays: dict[str, NDArray[Any]] = {"cards": self.cards}
        arrays |= {f"memory.{name}": memory for name, memory in self.memories.items()}
        arrays |= {f"streak.{name}": streak for name, streak in self.streaks.items()}
        arrays |= {f"fact.{name}": column for name, column in self.facts.items()}
        plain = {name: _saved(array) for name, array in arrays.items()}
        return msgspec.msgpack.encode(
            _Saved(_VERSION, self.end_ns, self.paced, list(self.roster), plain, self.evidence)
        )

    @classmethod
    def from_bytes(cls, saved: bytes) -> "State":
        """Restore; what a detector remembered is dropped where its memory has changed shape.

        Raises:
            StateError: the bytes are not a saved state.
        """
        try:
            version = msgspec.msgpack.decode(saved, type=_Version).version
            if version != _VERSION:
                raise StateError(f"saved by version {version}, expected {_VERSION}")
            content = msgspec.msgpack.decode(saved, type=_Saved)
            arrays = {name: _restored(raw) for name, raw in content.arrays.items()}
        except (msgspec.MsgspecError, ValueError, EOFError) as error:
            raise StateError(f"not a saved state: {error}") from None
        n, cards = len(content.roster), arrays.pop("cards", np.zeros(0, CARD))
        if cards.dtype != CARD or any(array.shape != (n,) for array in (cards, *arrays.values())):
            raise StateError(f"not a saved state: columns do not fit {n} cards")
        return cls(
            content.end_ns,
            Roster(content.roster),
            cards,
            _remembered("memory", {d.name: d.memory for d in all_detectors()}, arrays),
            _remembered("streak", dict.fromkeys((d.name for d in all_detectors()), STREAK), arrays),
            content.evidence,
            {name.removeprefix("fact."): a for name, a in arrays.items() if name[:5] == "fact."},
            content.paced,
        )


class _Version(msgspec.Struct):
    version: int


class _Saved(msgspec.Struct):
    version: int
    end_ns: int
    paced: bool
    roster: list[CardKey]
    arrays: dict[str, bytes]
    evidence: dict[int, dict[str, dict[str, float]]]


def _saved(array: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _restored(raw: bytes) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(io.BytesIO(raw), allow_pickle=False)
    except (SyntaxError, TokenError) as error:
        # numpy reads the header as Python, and tells of its trouble as that.
        raise ValueError(f"no header of an array: {error}") from None
    return array


def _remembered(
    kind: str, dtypes: Mapping[str, np.dtype[Any]], arrays: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Saved arrays of a kind by detector, without those that have another shape today."""
    found = {name: arrays.get(f"{kind}.{name}") for name in dtypes}
    return {
        name: array
        for name, array in found.items()
        if array is not None and array.dtype == dtypes[name]
    }


def _grown(array: NDArray[np.void] | None, n: int, dtype: np.dtype[Any]) -> NDArray[np.void]:
    if array is not None and len(array) == n:
        return array
    grown = np.zeros(n, dtype)
    if array is not None:
        grown[: len(array)] = array
    return grown
