"""What the driver's sensors show of how cards run: noise, steps, counters."""

from collections.abc import Mapping

import numpy as np

from farmhand_collector.simulator.effects import COUNTED, Array, Effects
from farmhand_collector.simulator.fleet import Fleet
from farmhand_collector.simulator.physics import (
    Demand,
    Hardware,
    Operation,
    power_limit_in_force,
)

_CLOCK_STEP_MHZ = 15.0
_SAMPLES_PER_SECOND = 1.0
_CLOCK_NOISE = 0.0015
_POWER_NOISE = 0.002
_SENSOR_NOISE_KELVIN = 0.15
_RESERVED_MEMORY_SHARE = 0.018
_PEAK_TRAFFIC_RATIO = 0.9
"""Share of the nominal bandwidth that moves while the memory is never idle."""

LANE_BYTES_PER_SECOND = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.97e9, 5: 3.94e9}
_REPLAYS_PER_SECOND = 1.0 / 3600.0
_CORRECTED_ERRORS_PER_SECOND = 1.0 / 200_000.0
_DEADLINE_SECONDS = 10.0

DECIMALS: Mapping[str, int] = {
    "window_seconds": 3,
    "samples": 0,
    "read_seconds": 5,
    "utilization_ratio": 3,
    "memory_utilization_ratio": 3,
    "memory_used_bytes": 0,
    "memory_total_bytes": 0,
    "core_clock_mhz": 1,
    "memory_clock_mhz": 1,
    "power_watts": 2,
    "power_limit_watts": 1,
    "core_temperature_celsius": 1,
    "memory_temperature_celsius": 1,
    "fan_ratio": 3,
    "pcie_generation": 2,
    "pcie_width": 0,
    "pcie_rx_bytes_per_second": 0,
    "pcie_tx_bytes_per_second": 0,
    "memory_bandwidth_bytes_per_second": 0,
    "throttle_power_ratio": 3,
    "throttle_thermal_ratio": 3,
    "throttle_hardware_ratio": 3,
    "throttle_brake_ratio": 3,
    "core_temperature_max_celsius": 0,
    "memory_temperature_max_celsius": 0,
    "power_max_watts": 2,
    "energy_joules": 1,
    "pcie_replay_total": 0,
    "ecc_corrected_total": 0,
    "ecc_uncorrected_total": 0,
    "remapped_rows_total": 0,
    "retired_pages_total": 0,
    "remap_pending": 0,
    "remap_failed": 0,
}
"""Numeric fields of `card` that a simulated card may give, and the decimals worth writing."""


_SINCE_THE_DRIVER = (
    "energy_joules",
    "pcie_replay_total",
    "ecc_corrected_total",
    "ecc_uncorrected_total",
    "remap_pending",
)


class Sensors:
    """Sensors of all cards: their noise, and the counters that run since the driver was loaded.

    The dice fall the same way whatever the faults, so that a farm with faults and one without
    are twins card by card.
    """

    def __init__(self, fleet: Fleet, hardware: Hardware, seed: int) -> None:
        self._hardware = hardware
        self._rng = np.random.default_rng([seed, 7])
        self._nodes = len(fleet.nodes)
        self._node_of_card = np.array([card.node for card in fleet.cards])
        count = hardware.count
        self._power_bias = 1.0 + 0.006 * self._rng.standard_normal(count)
        uptime = self._rng.uniform(0.5, 40.0, self._nodes)[self._node_of_card] * 86400.0
        self._totals: dict[str, Array] = {
            "energy_joules": uptime * 0.6 * hardware.power_limit,
            "pcie_replay_total": np.floor(self._rng.exponential(3.0, count)),
            "ecc_corrected_total": np.floor(self._rng.exponential(0.7, count)),
            "remapped_rows_total": np.floor(self._rng.exponential(0.35, count)),
            "retired_pages_total": np.floor(self._rng.exponential(0.5, count)),
        }
        self._totals |= {name: np.zeros(count) for name in COUNTED if name not in self._totals}
        self._link = np.array([LANE_BYTES_PER_SECOND[c.model.pcie_generation] for c in fleet.cards])
        self._traffic = np.array([c.model.memory_bytes_per_second for c in fleet.cards])

    def restart(self, cards: range, effects: Effects) -> None:
        """Set back what counts since the driver was loaded; wear stays."""
        for name in _SINCE_THE_DRIVER:
            self._totals[name][cards.start : cards.stop] = 0.0
            if name in effects.counted:
                effects.counted[name][cards.start : cards.stop] = 0.0

    def swap(self, one: int, other: int) -> None:
        """Let two boards change places with all that they have counted."""
        for values in (*self._totals.values(), self._power_bias):
            values[[one, other]] = values[[other, one]]

    def read(
        self, demand: Demand, operation: Operation, effects: Effects, seconds: float
    ) -> dict[str, Array]:
        """Fields of all cards for one window, by name."""
        noise = self._rng.standard_normal((4, self._hardware.count))
        chance = self._rng.random((4, self._hardware.count))
        return {
            **self._window(chance[0], effects, seconds),
            **self._use(demand, operation, effects),
            **self._clocks(demand, operation, effects, noise[0], seconds),
            **self._powers(demand, operation, effects, noise[1], seconds),
            **_temperatures(operation, noise[2], seconds),
            **self._link_fields(demand, effects, noise[3]),
            **_throttles(demand, operation, effects),
            **self._errors(effects, chance[1:], seconds),
            "fan_ratio": operation.fan,
        }

    def _window(self, chance: Array, effects: Effects, seconds: float) -> dict[str, Array]:
        jitter = self._rng.normal(0.0, 0.004, self._nodes)[self._node_of_card]
        late = _DEADLINE_SECONDS * (1.0 + chance)
        quiet = effects.lost | effects.unreadable
        return {
            "window_seconds": seconds + jitter,
            "samples": np.where(quiet, 0.0, _samples(seconds)),
            "read_seconds": np.where(effects.unreadable, late, 0.0004 + 0.0008 * chance**4),
        }

    def _use(self, demand: Demand, operation: Operation, effects: Effects) -> dict[str, Array]:
        hardware = self._hardware
        total = np.minimum(hardware.memory_total, effects.memory_total_ceiling)
        pace = operation.memory_pace * effects.bandwidth_ratio
        used = np.maximum(_RESERVED_MEMORY_SHARE, demand.busy * demand.memory_share)
        accessed = np.minimum(demand.memory_utilization / pace, 0.97)
        traffic = self._traffic * _PEAK_TRAFFIC_RATIO * accessed * pace
        return {
            "utilization_ratio": demand.busy * demand.utilization,
            "memory_utilization_ratio": demand.busy * accessed,
            "memory_used_bytes": np.floor(used * total / 2**21) * 2**21,
            "memory_total_bytes": total,
            "memory_bandwidth_bytes_per_second": demand.busy * traffic,
        }

    def _clocks(
        self,
        demand: Demand,
        operation: Operation,
        effects: Effects,
        noise: Array,
        seconds: float,
    ) -> dict[str, Array]:
        clock = operation.core_clock
        moving = clock * (1.0 + _CLOCK_NOISE * noise)
        fine = _CLOCK_STEP_MHZ / _samples(seconds)
        whole = (demand.busy == 1.0) & operation.steady_clock & (effects.slowdown_share == 0.0)
        held = np.floor(clock / _CLOCK_STEP_MHZ + 1e-9) * _CLOCK_STEP_MHZ
        idle = demand.busy == 0.0
        mean = np.where(whole, held, np.where(idle, clock, np.round(moving / fine) * fine))
        return {"core_clock_mhz": mean, "memory_clock_mhz": operation.memory_clock}

    def _powers(
        self,
        demand: Demand,
        operation: Operation,
        effects: Effects,
        noise: Array,
        seconds: float,
    ) -> dict[str, Array]:
        # Where the limit binds, the controller holds what this very sensor shows.
        bias = np.where(operation.power_throttle > 0.5, 1.0, self._power_bias)
        power = operation.power * bias * (1.0 + _POWER_NOISE * noise)
        peak = np.maximum(power * 1.004, operation.peak_power * (1.01 + 0.006 * np.abs(noise)))
        self._totals["energy_joules"] += power * seconds
        return {
            "power_watts": power,
            "power_max_watts": np.where(demand.busy > 0, peak, power * 1.03),
            "power_limit_watts": power_limit_in_force(self._hardware, effects),
            "energy_joules": self._totals["energy_joules"].copy(),
        }

    def _link_fields(self, demand: Demand, effects: Effects, noise: Array) -> dict[str, Array]:
        hardware = self._hardware
        width = np.minimum(hardware.pcie_width, effects.pcie_width_ceiling)
        busy, idle = demand.busy, 1.0 - demand.busy
        generation = np.minimum(hardware.pcie_generation, effects.pcie_generation_ceiling)
        most = self._link * width * 0.5 ** (hardware.pcie_generation - generation)
        traffic = most * busy * demand.utilization * np.exp(0.3 * noise)
        return {
            "pcie_generation": busy * generation
            + idle * np.minimum(generation, hardware.idle_generation),
            "pcie_width": width,
            "pcie_rx_bytes_per_second": np.minimum(0.06 * traffic + 2000.0, most),
            "pcie_tx_bytes_per_second": np.minimum(0.04 * traffic + 2000.0, most),
        }

    def _errors(self, effects: Effects, chance: Array, seconds: float) -> dict[str, Array]:
        replays, corrected = self._totals["pcie_replay_total"], self._totals["ecc_corrected_total"]
        replays += np.floor(2.0 * effects.replays_per_second * seconds * chance[0] + 0.5)
        replays += chance[1] < _REPLAYS_PER_SECOND * seconds
        corrected += np.floor(2.0 * effects.corrected_per_second * seconds * chance[0] + 0.5)
        corrected += chance[2] < _CORRECTED_ERRORS_PER_SECOND * seconds
        return {name: self._totals[name] + effects.counted[name] for name in COUNTED}


def _samples(seconds: float) -> float:
    return max(1.0, round(_SAMPLES_PER_SECOND * seconds))


def _temperatures(operation: Operation, noise: Array, seconds: float) -> dict[str, Array]:
    true = operation.temperature + _SENSOR_NOISE_KELVIN * noise
    core, core_max = _whole_degrees(true, seconds)
    memory, memory_max = _whole_degrees(operation.memory_temperature, seconds)
    return {
        "core_temperature_celsius": core,
        "core_temperature_max_celsius": core_max,
        "memory_temperature_celsius": memory,
        "memory_temperature_max_celsius": memory_max,
    }


def _whole_degrees(true: Array, seconds: float) -> tuple[Array, Array]:
    """Mean and largest of a window's samples, each shown in whole degrees."""
    low = np.floor(true)
    above = np.clip(3.0 * (true - low - 0.5) + 0.5, 0.0, 1.0)
    above = np.round(above * _samples(seconds)) / _samples(seconds)
    return low + above, low + (above > 0.0)


def _throttles(demand: Demand, operation: Operation, effects: Effects) -> dict[str, Array]:
    return {
        "throttle_power_ratio": operation.power_throttle,
        "throttle_thermal_ratio": operation.thermal_throttle,
        "throttle_hardware_ratio": demand.busy * effects.slowdown_share,
        "throttle_brake_ratio": demand.busy * effects.brake_share,
    }
