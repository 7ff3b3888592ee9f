"""Active tests of cards, and what they measure on boards with faults."""

import numpy as np

from farmhand_collector.simulator.effects import Array, Effects
from farmhand_collector.simulator.fleet import Fleet
from farmhand_collector.simulator.physics import Hardware, sound_clock
from farmhand_collector.simulator.sensors import LANE_BYTES_PER_SECOND

_REACHED_COMPUTE = 0.85
_REACHED_BANDWIDTH = 0.9
_REACHED_LINK = 0.85
_NOISE = 0.002
_FLOP_PER_CORE = 2.0
_DURATION_SECONDS = 6.0
_STAGGER = 7919
"""A prime far from the size of any node: neighbours are tested at different times."""


class Probes:
    """Tests of each card at a fixed rhythm, cards taking turns."""

    def __init__(
        self, fleet: Fleet, hardware: Hardware, seed: int, interval: float, every_seconds: float
    ) -> None:
        self._hardware = hardware
        self._rng = np.random.default_rng([seed, 14])
        self._steps = max(1, round(every_seconds / interval))
        cards = fleet.cards
        self._turn = np.arange(len(cards)) * _STAGGER % self._steps
        unlocked = np.array([card.unlocked_share for card in cards])
        clock = np.array([1e6 * card.model.sustained_clock_mhz for card in cards])
        cores = np.array([float(card.model.core_count) for card in cards])
        self._fp32 = _FLOP_PER_CORE * cores * clock * unlocked
        self._fp16 = 1e12 * np.array([card.model.fp16_tflops for card in cards]) * unlocked
        self._memory = np.array([card.model.memory_bytes_per_second for card in cards])
        self._lane = np.array([LANE_BYTES_PER_SECOND[c.model.pcie_generation] for c in cards])

    def results(self, number: int, effects: Effects) -> dict[int, dict[str, float]]:
        """Fields of `probe` for the cards whose turn a window is, by place."""
        noise = 1.0 + _NOISE * self._rng.standard_normal((4, len(self._turn)))
        due = (self._turn + number) % self._steps == 0
        places = np.flatnonzero(due & ~effects.lost & ~effects.unreadable)
        if not len(places):
            return {}
        columns = self._columns(effects, noise)
        return {
            int(place): {
                **{name: float(f"{column[place]:.5g}") for name, column in columns.items()},
                "memory_errors": 0.0,
                "duration_seconds": _DURATION_SECONDS,
            }
            for place in places
        }

    def _columns(self, effects: Effects, noise: Array) -> dict[str, Array]:
        hardware = self._hardware
        clock = sound_clock(hardware, effects) / hardware.sustained_clock
        clock = clock * (1.0 - 0.5 * effects.slowdown_share)
        compute = clock * effects.compute_ratio * _REACHED_COMPUTE
        memory = np.minimum(1.0, effects.memory_clock_ceiling / hardware.memory_clock)
        width = np.minimum(hardware.pcie_width, effects.pcie_width_ceiling)
        generation = np.minimum(hardware.pcie_generation, effects.pcie_generation_ceiling)
        link = self._lane * width * 0.5 ** (hardware.pcie_generation - generation)
        traffic = self._memory * _REACHED_BANDWIDTH * memory * effects.bandwidth_ratio
        return {
            "memory_bandwidth_bytes_per_second": traffic * noise[0],
            "fp16_flops": self._fp16 * compute * noise[1],
            "fp32_flops": self._fp32 * compute * noise[2],
            "host_to_device_bytes_per_second": link * _REACHED_LINK * noise[3],
            "device_to_host_bytes_per_second": link * _REACHED_LINK * noise[3] * 0.98,
        }
