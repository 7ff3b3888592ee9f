"""What the core remembers between frames, and how it is saved."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.detector import Detector, Memory
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.capacity.frame import CardKey, Floats

STREAK: np.dtype[Any] = np.dtype(
    [
        ("bad", "i4"),
        ("good", "i4"),
        ("level", "i1"),
        ("bad_since_ns", "i8"),
        ("raised_since_ns", "i8"),
        ("delivered", "f8"),
        ("confidence", "f8"),
    ]
)
"""Per detector and card: judged windows in a row that were bad or good, the level of the last bad
one, since when, and since when it is raised (0: not raised)."""

CARD: np.dtype[Any] = np.dtype(
    [("seen_ns", "i8"), ("judged_ns", "i8"), ("since_ns", "i8"), ("state", "i1")]
)
"""Per card: end of the last frame with a reading, end of the last frame in which its performance
was judged, and its state with its beginning."""

_VERSION = 1


class StateError(ValueError):
    """Saved bytes are not a state that this version understands."""


@dataclass(slots=True)
class State:
    """Memory of the core over the roster; a new one knows no card."""

    end_ns: int = 0
    roster: tuple[CardKey, ...] = ()
    cards: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, CARD))
    memories: dict[str, Memory] = field(default_factory=dict)
    streaks: dict[str, NDArray[np.void]] = field(default_factory=dict)
    evidence: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    """By card and detector: the values behind the last bad window."""
    facts: dict[str, Floats] = field(default_factory=dict)
    """Numbers of `card_info` last heard, for framing to go on with."""

    def fitted(self, roster: tuple[CardKey, ...]) -> "State":
        """A copy with a row for each card of a roster that has grown at its end."""
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
        )

    def to_bytes(self) -> bytes:
        """Save; the answer is for `from_bytes` of this or the next version."""
        arrays: dict[str, NDArray[Any]] = {"cards": self.cards}
        arrays |= {f"memory.{name}": memory for name, memory in self.memories.items()}
        arrays |= {f"streak.{name}": streak for name, streak in self.streaks.items()}
        arrays |= {f"fact.{name}": column for name, column in self.facts.items()}
        plain = {name: _saved(array) for name, array in arrays.items()}
        return msgspec.msgpack.encode(
            _Saved(_VERSION, self.end_ns, list(self.roster), plain, self.evidence)
        )

    @classmethod
    def from_bytes(cls, saved: bytes) -> "State":
        """Restore; what a detector remembered is dropped where its memory has changed shape.

        Raises:
            StateError: the bytes are not a saved state.
        """
        try:
            content = msgspec.msgpack.decode(saved, type=_Saved)
            arrays = {name: _restored(raw) for name, raw in content.arrays.items()}
        except (msgspec.MsgspecError, ValueError, EOFError) as error:
            raise StateError(f"not a saved state: {error}") from None
        if content.version != _VERSION:
            raise StateError(f"saved by version {content.version}, expected {_VERSION}")
        state = cls(content.end_ns, tuple(content.roster), arrays.pop("cards"))
        state.evidence = content.evidence
        state.facts = {
            name.removeprefix("fact."): column
            for name, column in arrays.items()
            if name.startswith("fact.")
        }
        for detector in all_detectors():
            state._restore(detector, arrays)
        return state

    def _restore(self, detector: Detector, arrays: Mapping[str, NDArray[Any]]) -> None:
        memory, streak = (arrays.get(f"{kind}.{detector.name}") for kind in ("memory", "streak"))
        if memory is not None and memory.dtype == detector.memory:
            self.memories[detector.name] = memory
        if streak is not None and streak.dtype == STREAK:
            self.streaks[detector.name] = streak


class _Saved(msgspec.Struct):
    version: int
    end_ns: int
    roster: list[CardKey]
    arrays: dict[str, bytes]
    evidence: dict[int, dict[str, dict[str, float]]]


def _saved(array: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _restored(raw: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(raw), allow_pickle=False)
    return array


def _grown(array: NDArray[np.void] | None, n: int, dtype: np.dtype[Any]) -> NDArray[np.void]:
    grown = np.zeros(n, dtype)
    if array is not None:
        grown[: len(array)] = array
    return grown
