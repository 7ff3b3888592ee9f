"""Plays a simulated farm for a while and keeps what it said, by measurement and series."""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from farmhand_agent.reading import Reading
from farmhand_collector.simulator import Farm
from farmhand_collector.simulator.effects import Array
from farmhand_collector.simulator.fleet import Card

START = 1_700_000_003.25


@dataclass
class Played:
    """A farm and the readings of its first `seconds`."""

    farm: Farm
    seconds: float
    readings: list[Reading] = field(default_factory=list)
    cards: dict[str, list[Reading]] = field(default_factory=lambda: defaultdict(list))

    def of(self, measurement: str) -> list[Reading]:
        """All readings of one measurement."""
        return [reading for reading in self.readings if reading.measurement == measurement]

    def values(self, card: Card, name: str, since: float = 0.0) -> Array:
        """A field of a card over time; NaN where a reading lacks it."""
        return np.array(
            [
                reading.fields.get(name, np.nan)
                for reading in self.cards[card.card]
                if reading.time_ns >= since * 1e9
            ],
            dtype=np.float64,
        )

    def loaded(self, card: Card, name: str, since: float = 0.0) -> Array:
        """A field of a card in windows of full load."""
        busy = self.values(card, "utilization_ratio", since) > 0.9
        return self.values(card, name, since)[busy]


def play(farm: Farm, seconds: float) -> Played:
    """Run a farm that starts at `START`."""
    played = Played(farm, seconds)
    for batch in farm.readings(START + seconds):
        played.readings += batch.readings
    for reading in played.readings:
        if reading.measurement == "card":
            played.cards[reading.tags["card"]].append(reading)
    return played
