"""Turns what was read on this node into lines of the contract, tagged with where it stands."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from farmhand_agent import boots
from farmhand_agent.inventory import Place
from farmhand_agent.reader import CardWindow
from farmhand_agent.reading import UNIDENTIFIED, Reading, Value, to_line
from farmhand_agent.slots import tags as card_tags
from farmhand_agent.sources.base import Fields
from farmhand_agent.sources.work import Work

Put = Callable[[Sequence[str]], None]
Beside = Callable[[str], Fields]
"""Gives fields that are known of a slot without asking its card."""


def nothing_beside(_slot: str) -> Fields:
    """Where nothing is known of a slot but what its card tells."""
    return {}


class _Seen(NamedTuple):
    card: str
    model: str
    lost: bool | None
    """None where it is only remembered from before the start."""


class Publisher:
    """Writes readings of one node; a change of a card's state or identity is an event.

    `expected` are the cards that were here before the start: one that was replaced while the
    agent did not run is an event too.
    """

    def __init__(
        self,
        tags: Mapping[str, str],
        put: Put,
        expected: Iterable[Place] = (),
        beside: Beside = nothing_beside,
    ) -> None:
        self._tags = dict(tags)
        self._put = put
        self._beside = beside
        self._last = {place.slot: _Seen(place.card, place.model, None) for place in expected}

    def cards(self, time_ns: int, windows: Sequence[CardWindow]) -> None:
        """Publish a window of each card, its identity where it came along, and what changed."""
        readings: list[Reading] = []
        for window in windows:
            tags = self._card_tags(window)
            fields = {"state": window.state, **window.fields, **self._beside(window.slot)}
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

    def host_event(self, event: boots.Event) -> None:
        """Publish what happened to the node."""
        self._write([Reading("host_event", self._tags, event.fields, event.time_ns)])

    def work(self, time_ns: int, works: Iterable[Work]) -> None:
        """Publish what jobs report of their work on cards."""
        readings = [
            Reading(
                "work",
                self._tags | card_tags(work.place) | {"lane": str(work.lane)},
                work.fields,
                time_ns,
            )
            for work in works
        ]
        self._write(readings)

    def card_events(self, events: Iterable[Reading]) -> None:
        """Publish what happened to cards; the events have the tags of their card."""
        self._write([event._replace(tags=self._tags | dict(event.tags)) for event in events])

    def agent(self, time_ns: int, fields: Mapping[str, Value]) -> None:
        """Publish readings of the agent itself."""
        self._write([Reading("agent", self._tags, fields, time_ns)])

    def _card_tags(self, window: CardWindow) -> dict[str, str]:
        card = {name: getattr(window, name) for name in ("slot", "card", "vendor", "model")}
        return self._tags | card

    def _news(self, window: CardWindow) -> list[dict[str, Value]]:
        before = self._last.get(window.slot)
        gone = window.state == "lost"
        self._last[window.slot] = _Seen(window.card, window.model, gone)
        if before is None:
            return []
        if before.card != window.card and UNIDENTIFIED not in (before.card, window.card):
            text = f"{before.model} {before.card} was replaced by {window.model} {window.card}"
            return [{"kind": "identity", "text": text, "count": 1.0}]
        if before.lost is not None and before.lost != gone:
            text = "the driver no longer lists the card" if gone else "the card is back"
            return [{"kind": "lost" if gone else "returned", "text": text, "count": 1.0}]
        return []

    def _write(self, readings: Sequence[Reading]) -> None:
        given = [reading._replace(fields=_given(reading.fields)) for reading in readings]
        lines = [to_line(reading) for reading in given if reading.fields]
        if lines:
            self._put(lines)


def _given(fields: Mapping[str, Value]) -> dict[str, Value]:
    """Fields that are values: one that is not finite is as good as not given."""
    return {
        name: value
        for name, value in fields.items()
        if isinstance(value, str) or math.isfinite(value)
    }
