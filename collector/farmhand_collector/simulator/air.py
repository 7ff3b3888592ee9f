"""The air that cards breathe: by rack, height, hour, and with a warm spell now and then."""

import numpy as np

from farmhand_collector.simulator.effects import Array
from farmhand_collector.simulator.fleet import Fleet

INNER_SLOT_KELVIN = 8.0
"""How much warmer the innermost slot breathes than one with free air."""

HOT_RACK_KELVIN = 6.0
"""How much warmer a cabinet with poor air is; larger farms have one in eight."""

_HOT_RACK_OF = 8
_FREE_AIR_CELSIUS = 24.0
"""Room of a hot cabinet: it stands where the rest of the air is not the warmest."""

_DAY_SECONDS = 86400.0
_DAY_SWING_KELVIN = 1.5
_SPELLS_PER_SECOND = 1.0 / 43200.0


class Air:
    """Temperature at the inlet of each node and slot over time.

    A warm spell, a door left open or a fan tray pulled, lasts a few minutes and harms nobody.
    """

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 3])
        racks = {node.rack for node in fleet.nodes}
        by_rack = dict(zip(sorted(racks), self._rng.uniform(21.0, 26.0, len(racks)), strict=True))
        self.hot_racks = tuple(sorted(racks)[_HOT_RACK_OF - 1 :: _HOT_RACK_OF])
        for rack in self.hot_racks:
            by_rack[rack] = min(by_rack[rack], _FREE_AIR_CELSIUS) + HOT_RACK_KELVIN
        self._base = np.array([by_rack[node.rack] + 4.0 * node.height for node in fleet.nodes])
        self._slot = INNER_SLOT_KELVIN * np.array([card.crowding for card in fleet.cards])
        self._node_of_card = np.array([card.node for card in fleet.cards])
        self._spell_until = np.zeros(len(fleet.nodes))
        self._spell_kelvin = np.zeros(len(fleet.nodes))

    def typical(self) -> Array:
        """Air of each card's slot without swings."""
        return np.asarray(self._base[self._node_of_card] + self._slot)

    def inlet(self, times: Array, seconds: float) -> Array:
        """Air at each node's inlet at its time; called once a window."""
        count = len(self._base)
        begins = self._rng.random(count) < _SPELLS_PER_SECOND * seconds
        lengths, kelvins = self._rng.uniform(120, 300, count), self._rng.uniform(3, 6, count)
        begins &= times > self._spell_until
        self._spell_until = np.where(begins, times + lengths, self._spell_until)
        self._spell_kelvin = np.where(begins, kelvins, self._spell_kelvin)
        swing = _DAY_SWING_KELVIN * np.sin(2 * np.pi * times / _DAY_SECONDS)
        spell = np.where(times < self._spell_until, self._spell_kelvin, 0.0)
        return np.asarray(self._base + swing + spell)

    def at_slots(self, inlet: Array) -> Array:
        """Air of each card's slot, given the air at the nodes' inlets."""
        return np.asarray(inlet[self._node_of_card] + self._slot)
