"""Those who show tokens that grant nothing: how often each may try."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_SECONDS = 60.0
MOST_SOURCES = 4096
"""Remembered at once; beyond that the oldest is forgotten, so that memory is bounded."""


@dataclass(slots=True)
class _Tries:
    until: float
    failed: int = 0


class Strangers:
    """Failed tokens by source.

    A source that has used up its tries has to wait for the end of the minute that began with the
    first of them, also with a good token: otherwise it could go on to guess.
    """

    def __init__(self, most_a_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most_a_minute
        self._monotonic = monotonic
        self._tries: dict[str, _Tries] = {}

    def __len__(self) -> int:
        return len(self._tries)

    def wait_seconds(self, source: str | None) -> int:
        """For how long a source may not try; 0 when it may."""
        tries = self._tries.get(source) if source is not None else None
        if tries is None or tries.failed < self._most:
            return 0
        return max(math.ceil(tries.until - self._monotonic()), 0)

    def failed(self, source: str | None) -> None:
        """Count a try."""
        if source is None:
            return
        now = self._monotonic()
        tries = self._tries.get(source)
        if tries is None or tries.until <= now:
            # Put in anew, so that the oldest stands first.
            self._tries.pop(source, None)
            tries = self._tries[source] = _Tries(now + WINDOW_SECONDS)
            if len(self._tries) > MOST_SOURCES:
                del self._tries[next(iter(self._tries))]
        tries.failed += 1
