"""What the core remembers between frames, and how it is saved."""

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from tokenize import TokenError
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.detector import Memory
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.capacity.frame import Floats, Work
from farmhand_collector.capacity.roster import CardKey, Roster
from farmhand_collector.capacity.span import Spans
from farmhand_collector.capacity.streaks import STREAK, Streaks

CARD: np.dtype[Any] = np.dtype(
    [("seen_ns", "i8"), ("judged_ns", "i8"), ("since_ns", "i8"), ("state", "i1")]
)
"""Per card: end of the last frame with a reading, end of the last frame in which its performance
was judged, and its state with its beginning."""

_VERSION = 3
_CHECKSUM_BYTES = 4


class StateError(ValueError):
    """Saved bytes are not a state that this version understands."""


@dataclass(slots=True)
class State:
    """Memory of the core over the roster; a new one knows no card."""

    end_ns: int = 0
    roster: Roster = field(default_factory=Roster)
    cards: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, CARD))
    memories: dict[str, Memory] = field(default_factory=dict)
    streaks: dict[str, Streaks] = field(default_factory=dict)
    facts: dict[str, Floats] = field(default_factory=dict)
    """Numbers of `card_info` last heard, for framing to go on with."""
    paced: bool = False
    """Whether the collector's pulse tells the farm's time, for framing to go on with."""
    spans: Spans = field(default_factory=Spans)
    late_until: int = 0
    """Arrival of the last late reading that was counted, for framing to go on with."""
    work: Work = field(default_factory=lambda: Work.none(0))
    """What each card last worked on."""

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
            {d.name: self.streaks.get(d.name, Streaks()).fitted(n) for d in detectors},
            dict(self.facts),
            self.paced,
            self.spans,
            self.late_until,
            self.work,
        )

    def to_bytes(self) -> bytes:
        """Save; the answer is for `from_bytes` of this or the next version."""
        arrays: dict[str, NDArray[Any]] = {"cards": self.cards}
        arrays |= {f"memory.{name}": memory for name, memory in self.memories.items()}
        for name, streaks in self.streaks.items():
            arrays |= {f"good.{name}": streaks.good, f"streak.{name}": streaks.rows}
            arrays |= {f"cards.{name}": streaks.cards}
        arrays |= {f"fact.{name}": column for name, column in self.facts.items()}
        arrays |= {f"span.{name}": column for name, column in self.spans.named().items()}
        arrays |= {"job": self.work.job, "gang": self.work.gang}
        plain = {name: _saved(array) for name, array in arrays.items()}
        content = msgspec.msgpack.encode(
            _Saved(
                _VERSION,
                self.end_ns,
                self.paced,
                self.spans.number,
                self.late_until,
                list(self.roster),
                plain,
                {name: streaks.evidence for name, streaks in self.streaks.items()},
                dict(self.work.names),
            )
        )
        return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES) + content

    @classmethod
    def from_bytes(cls, saved: bytes) -> "State":
        """Restore; what a detector remembered is dropped where its memory has changed shape.

        Raises:
            StateError: the bytes are not a saved state.
        """
        checksum, saved = saved[:_CHECKSUM_BYTES], saved[_CHECKSUM_BYTES:]
        if zlib.crc32(saved).to_bytes(_CHECKSUM_BYTES) != checksum:
            raise StateError("not a saved state: its checksum is wrong")
        try:
            version = msgspec.msgpack.decode(saved, type=_Version).version
            if version != _VERSION:
                raise StateError(f"saved by version {version}, expected {_VERSION}")
            content = msgspec.msgpack.decode(saved, type=_Saved)
            arrays = {name: _restored(raw) for name, raw in content.arrays.items()}
        except (msgspec.MsgspecError, ValueError, EOFError) as error:
            raise StateError(f"not a saved state: {error}") from None
        n, cards = len(content.roster), arrays.pop("cards", np.zeros(0, CARD))
        whole = [a for name, a in arrays.items() if not name.startswith(("streak.", "cards."))]
        if cards.dtype != CARD or any(array.shape != (n,) for array in (cards, *whole)):
            raise StateError(f"not a saved state: columns do not fit {n} cards")
        return cls(
            content.end_ns,
            Roster(content.roster),
            cards,
            _remembered({d.name: d.memory for d in all_detectors()}, arrays),
            _streaks(arrays, content.evidence),
            _under("fact.", arrays),
            content.paced,
            Spans.of(content.span_number, _under("span.", arrays)),
            content.late_until,
            _work_of(arrays, content.names, n),
        )


class _Version(msgspec.Struct):
    version: int


class _Saved(msgspec.Struct):
    version: int
    end_ns: int
    paced: bool
    span_number: int
    late_until: int
    roster: list[CardKey]
    arrays: dict[str, bytes]
    evidence: dict[str, dict[int, dict[str, float]]]
    names: dict[int, str]


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


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)}


def _work_of(arrays: Mapping[str, NDArray[Any]], names: dict[int, str], n: int) -> Work:
    work = Work.none(n)
    job, gang = (np.asarray(arrays.get(name, work.job), np.int64) for name in ("job", "gang"))
    return work._replace(job=job, gang=gang, names=names)


def _remembered(
    dtypes: Mapping[str, np.dtype[Any]], arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Memory]:
    """Saved memories by detector, without those that have another shape today."""
    found = {name: arrays.get(f"memory.{name}") for name in dtypes}
    return {
        name: array
        for name, array in found.items()
        if array is not None and array.dtype == dtypes[name]
    }


def _streaks(
    arrays: Mapping[str, NDArray[Any]], evidence: Mapping[str, dict[int, dict[str, float]]]
) -> dict[str, Streaks]:
    rows = _under("streak.", arrays)
    return {
        name: Streaks(arrays[f"cards.{name}"], of, arrays[f"good.{name}"], evidence[name])
        for name, of in rows.items()
        if of.dtype == STREAK
    }


def _grown(array: NDArray[np.void] | None, n: int, dtype: np.dtype[Any]) -> NDArray[np.void]:
    if array is not None and len(array) == n:
        return array
    grown = np.zeros(n, dtype)
    if array is not None:
        grown[: len(array)] = array
    return grown
