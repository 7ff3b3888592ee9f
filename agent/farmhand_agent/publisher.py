"""Turns what was read on this node into lines of the contract, tagged with where it stands."""

from collections.abc import Callable, Mapping, Sequence

from farmhand_agent.reader import CardWindow
from farmhand_agent.reading import LineError, Reading, Value, to_line

Put = Callable[[Sequence[str]], None]


class Publisher:
    """Writes readings of one node; a change of a card's state or identity is an event."""

    def __init__(self, tags: Mapping[str, str], put: Put) -> None:
        self._tags = dict(tags)
        self._put = put
        self._last: dict[str, CardWindow] = {}

    def cards(self, time_ns: int, windows: Sequence[CardWindow]) -> None:
        """Publish a window of each card, its identity where it came along, and what changed."""
        readings: list[Reading] = []
        for window in windows:
            tags = self._card_tags(window)
            fields = {"state": window.state, **window.fields}
            readings.append(Reading("card", tags, fields, time_ns))
            if window.info:
                readings.append(Reading("card_info", tags, window.info, time_ns))
            readings += [
                Reading("card_event", tags, event, time_ns) for event in self._news(window)
            ]
        self._write(readings)

    def host(self, time_ns: int, fields: Mapping[str, Value]) -> None:
        """Publish readings of the node itself."""
        self._write([Reading("host", self._tags, fields, time_ns)])

    def agent(self, time_ns: int, fields: Mapping[str, Value]) -> None:
        """Publish readings of the agent itself."""
        self._write([Reading("agent", self._tags, fields, time_ns)])

    def _card_tags(self, window: CardWindow) -> dict[str, str]:
        card = {name: getattr(window, name) for name in ("slot", "card", "vendor", "model")}
        return self._tags | card

    def _news(self, window: CardWindow) -> list[dict[str, Value]]:
        before = self._last.get(window.slot)
        self._last[window.slot] = window
        if before is None:
            return []
        if before.card != window.card:
            text = f"{before.model} {before.card} was replaced by {window.model} {window.card}"
            return [{"kind": "identity", "text": text, "count": 1.0}]
        if (before.state == "lost") != (window.state == "lost"):
            gone = window.state == "lost"
            text = "the driver no longer lists the card" if gone else "the card is back"
            return [{"kind": "lost" if gone else "returned", "text": text, "count": 1.0}]
        return []

    def _write(self, readings: Sequence[Reading]) -> None:
        lines = []
        for reading in readings:
            try:
                lines.append(to_line(reading))
            except LineError:
                # Nothing was given for it: a value left out is no reading.
                continue
        if lines:
            self._put(lines)
