"""A window of samples of one card, closed into the fields of one reading."""

from farmhand_agent.reading import Kind, Value, fields_of
from farmhand_agent.sources.base import Fields

_TABLE = fields_of("card")
_PEAKS = {name: name.replace("_max_", "_") for name, f in _TABLE.items() if f.kind is Kind.PEAK}
"""Each peak field and the gauge whose largest sample it is."""

_DECIMALS = 4
"""Decimals of a mean that are kept: finer than any sensor, and a third of the bytes."""
_INSTANT_SECONDS = 1e-9
"""Weight of a value that stands for no time: it counts only where nothing else does."""


class Window:
    """Collects samples; what a field becomes follows from its kind in the contract."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._kept: dict[str, Value] = {}
        self._length_seconds = 0.0
        self._samples = 0
        self._read_seconds = 0.0

    def add(self, fields: Fields, length_seconds: float, read_seconds: float) -> None:
        """Take one sample that stands for `length_seconds` and took `read_seconds` to read."""
        self._samples += 1
        self._length_seconds += length_seconds
        self.wait(read_seconds)
        self.note(fields, length_seconds)

    def wait(self, read_seconds: float) -> None:
        """Take note of how long a read took, whether it gave something or not."""
        self._read_seconds = max(self._read_seconds, read_seconds)

    @property
    def read_seconds(self) -> float:
        """The slowest read so far."""
        return self._read_seconds

    def note(self, fields: Fields, length_seconds: float = _INSTANT_SECONDS) -> None:
        """Take values without counting a sample, such as those asked for once a window."""
        for name, value in fields.items():
            self._take(name, value, max(length_seconds, _INSTANT_SECONDS))
        for peak, gauge in _PEAKS.items():
            highest = fields.get(gauge)
            if isinstance(highest, float):
                self._kept[peak] = max(highest, _number(self._kept.get(peak, highest)))

    def _take(self, name: str, value: Value, weight: float) -> None:
        kind = _TABLE[name].kind
        if isinstance(value, str) or kind is Kind.COUNTER:
            self._kept[name] = value
        elif kind is Kind.GAUGE:
            self._sums[name] = self._sums.get(name, 0.0) + value * weight
            self._weights[name] = self._weights.get(name, 0.0) + weight
        else:
            self._kept[name] = max(value, _number(self._kept.get(name, value)))

    def close(self) -> dict[str, Value]:
        """Fields of the window, its length and slowest read among them; no sample, no values."""
        means = {
            name: round(self._sums[name] / self._weights[name], _DECIMALS) for name in self._sums
        }
        about = {
            "window_seconds": self._length_seconds,
            "samples": float(self._samples),
            "read_seconds": self._read_seconds,
        }
        return about | means | self._kept


def _number(value: Value) -> float:
    assert isinstance(value, float)
    return value
