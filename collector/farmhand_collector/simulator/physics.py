"""How a board turns work into clocks, watts and heat, for all cards at once.

A board draws a floor plus a part that grows with its clock to the power `CLOCK_EXPONENT`; the
driver lowers the clock until power limit and target temperature hold. Heat passes a paste joint
(at once) and a heat sink (first order). Chips differ: each has its own draw for the same clock,
so that equal cards under one power limit spread by about two percent in clock, as measured
fleets do (Sinha et al., SC'22; PAL, SC'24).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from farmhand_collector.simulator.fleet import Card, Fleet
from farmhand_collector.simulator.models import MIB, CardModel

Array = npt.NDArray[np.float64]

CLOCK_EXPONENT = 2.7
"""Dynamic power over clock, voltage following: between square and cube."""

_DRAW_SIGMA = 0.05
_SLOW_TAIL_CLOCK = 0.95
_BOOST_SIGMA = 0.008
_COOLING_SIGMA = 0.07
_LEAK_PER_KELVIN = 0.0027
"""Leakage over dynamic power; it costs 0.1 % of clock a degree, as V100s show."""

_LEAK_REFERENCE_CELSIUS = 55.0
"""Sink temperature at which a warm board has its nominal leakage."""

_BOOST_COOL_CELSIUS = 50.0
_BOOST_LOSS_PER_KELVIN = 0.0005
_JOINT_SHARE = 0.2
"""Share of the thermal resistance between die and heat sink."""

_REFERENCE_AIR_CELSIUS = 25.0
_REFERENCE_FAN = 0.7
_FAN_EXPONENT = 0.5
_FAN_START_CELSIUS = 45.0
_FAN_FULL_CELSIUS = 81.0
_FAN_LEAST = 0.3
_LOWEST_CLOCK_SHARE = 0.2
_STARVED_SAVING = 0.45
"""Share of the dynamic power that is saved by units that wait for memory."""


class Hardware:
    """What each board is, drawn once by seed; one entry a card in every array."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        rng = np.random.default_rng([seed, 2])
        cards = fleet.cards
        count = len(cards)
        self.count = count
        self.power_limit_default = _of(
            cards, lambda card: round(card.model.power_limit_watts * card.maker.limit_ratio)
        )
        ratios = np.array([fleet.nodes[card.node].limit_ratio for card in cards])
        self.power_limit = np.round(self.power_limit_default * ratios)
        self.floor_power = _of(cards, lambda card: card.model.floor_power_watts)
        self.idle_power = _of(cards, lambda card: card.model.idle_power_watts)
        self.idle_power *= np.exp(0.06 * _normal(rng, count))
        self.sustained_clock = _of(cards, lambda card: card.model.sustained_clock_mhz)
        self.idle_clock = _of(cards, lambda card: card.model.idle_clock_mhz)
        self.boost_clock = self._draw_boost(cards, rng)
        self.full_draw = self._draw_draw(cards, rng)
        self.memory_clock = _of(cards, lambda card: card.model.memory_clock_load_mhz)
        self.memory_clock_idle = _of(cards, lambda card: card.model.memory_clock_idle_mhz)
        self.memory_clock_lower = np.array([_lower_states(card.model) for card in cards])
        """Lowest and highest of the lower memory states, MHz; NaN where there is none."""
        self.memory_total = _of(cards, lambda card: card.model.memory_mib * MIB)
        self.target_temperature = _of(cards, lambda card: card.model.target_temperature_celsius)
        self.has_fan = np.array([card.model.has_fan for card in cards])
        self.resistance = _of(cards, lambda card: _resistance(card.model))
        self.resistance *= np.exp(_COOLING_SIGMA * _normal(rng, count))
        self.heat_seconds = _of(cards, lambda card: 100.0 if card.model.has_fan else 70.0)
        self.pcie_width = _of(cards, lambda card: card.pcie_width_max)
        self.pcie_generation = _of(cards, lambda card: card.model.pcie_generation)
        self.idle_generation = np.array(
            [1.0 if c.model.idles_on_slow_link else c.model.pcie_generation for c in cards]
        )

    def _draw_boost(self, cards: tuple[Card, ...], rng: np.random.Generator) -> Array:
        boost = _of(cards, lambda card: card.model.boost_clock_mhz)
        most = _of(cards, lambda card: card.model.core_clock_max_mhz)
        boost *= np.exp(_BOOST_SIGMA * _normal(rng, len(cards)))
        return np.minimum(_steps(boost, 15.0), most)

    def _draw_draw(self, cards: tuple[Card, ...], rng: np.random.Generator) -> Array:
        """Watts above the floor at the sustained clock, by chip."""
        nominal = _of(cards, lambda card: card.model.power_limit_watts)
        nominal -= self.floor_power
        spread = np.exp(_DRAW_SIGMA * _normal(rng, len(cards)))
        tail = np.array([card.slow_tail for card in cards])
        spread[tail] = _SLOW_TAIL_CLOCK**-CLOCK_EXPONENT
        return nominal * spread

    def full_clock(self) -> Array:
        """Clock of each card, sound and warm, under a full load at the limit in force."""
        share = (self.power_limit - self.floor_power) / self.full_draw
        limited = self.sustained_clock * share ** (1 / CLOCK_EXPONENT)
        return np.asarray(np.minimum(self.boost_clock, limited))

    def full_power(self, clock: Array) -> Array:
        """Watts at a clock under a full load, warm."""
        ratio = (clock / self.sustained_clock) ** CLOCK_EXPONENT
        return np.asarray(self.floor_power + self.full_draw * ratio)


@dataclass
class Effects:
    """What faults do to boards; without faults every entry is neutral."""

    lost: npt.NDArray[np.bool_]
    unreadable: npt.NDArray[np.bool_]
    joint_resistance: Array
    """K/W added between die and heat sink."""
    sink_resistance: Array
    """K/W added between heat sink and air."""
    clock_ceiling: Array
    """MHz that the clock never exceeds."""
    power_ceiling: Array
    """Watts that the supply gives, whatever the limit in force says."""
    memory_clock_ceiling: Array
    slowdown_share: Array
    """Share of the loaded time in which the hardware halves the clock."""
    brake_share: Array
    """Share of the loaded time under the external power brake."""
    pcie_width_ceiling: Array
    replays_per_second: Array
    memory_total_ceiling: Array

    @classmethod
    def none(cls, count: int) -> "Effects":
        """Sound boards only."""
        unbounded = [np.full(count, np.inf) for _ in range(5)]
        zero = [np.zeros(count) for _ in range(5)]
        return cls(
            lost=np.zeros(count, bool),
            unreadable=np.zeros(count, bool),
            joint_resistance=zero[0],
            sink_resistance=zero[1],
            clock_ceiling=unbounded[0],
            power_ceiling=unbounded[1],
            memory_clock_ceiling=unbounded[2],
            slowdown_share=zero[2],
            brake_share=zero[3],
            pcie_width_ceiling=unbounded[3],
            replays_per_second=zero[4],
            memory_total_ceiling=unbounded[4],
        )


@dataclass(frozen=True)
class Demand:
    """What work asks of each card over a window.

    `busy` is the share of the window in which a job held the card, `utilization` the share of
    that time in which kernels ran, `intensity` their power against a full load.
    """

    busy: Array
    utilization: Array
    memory_utilization: Array
    intensity: Array
    memory_share: Array


@dataclass(frozen=True)
class Operation:
    """How each card ran over a window: true values, before any sensor saw them."""

    core_clock: Array
    memory_clock: Array
    power: Array
    peak_power: Array
    temperature: Array
    fan: Array
    power_throttle: Array
    thermal_throttle: Array
    steady_clock: npt.NDArray[np.bool_]
    """Whether one clock held for the window, no controller moving it."""


class Physics:
    """The state that lasts between windows: heat in the sinks, speed of the fans."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._sink = np.full(hardware.count, 35.0)
        self._fan = np.full(hardware.count, _FAN_LEAST)

    def step(self, demand: Demand, air: Array, effects: Effects, seconds: float) -> Operation:
        """Advance all cards by one window."""
        hardware = self._hardware
        heat = _Heat(hardware, effects, self._sink, self._fan, air, seconds)
        load = _Load(hardware, demand, effects, self._sink)
        clock, capped = load.clock_under_limits()
        unslowed = 1.0 - effects.slowdown_share
        cool_clock = np.minimum(clock, load.clock_for_power(heat.power_allowed()))
        least = hardware.sustained_clock * _LOWEST_CLOCK_SHARE
        cool_clock = np.maximum(cool_clock, np.minimum(least, clock))
        shortfall = (clock - cool_clock) / np.maximum(clock, 1.0)
        hot = np.clip(shortfall / 0.004, 0.0, 1.0)
        power = demand.busy * load.mean_power(cool_clock)
        power += (1.0 - demand.busy) * hardware.idle_power
        temperature = heat.absorb(power)
        self._sink = heat.sink
        self._fan = self._fan_speed(temperature)
        return Operation(
            core_clock=self._mean_clock(cool_clock, demand, effects),
            memory_clock=self._mean_memory_clock(load.memory_clock, demand),
            power=power,
            peak_power=np.where(demand.busy > 0, load.active_power(cool_clock), power),
            temperature=temperature,
            fan=self._fan,
            power_throttle=demand.busy * demand.utilization * unslowed * capped * (1.0 - hot),
            thermal_throttle=demand.busy * hot,
            steady_clock=~capped & (hot == 0.0),
        )

    def _fan_speed(self, temperature: Array) -> Array:
        """The card's own fan curve, following with a lag; still when cool."""
        share = (temperature - _FAN_START_CELSIUS) / (_FAN_FULL_CELSIUS - _FAN_START_CELSIUS)
        wanted = np.clip(_FAN_LEAST + (1.0 - _FAN_LEAST) * share, 0.0, 1.0)
        return np.where(wanted < _FAN_LEAST, 0.0, self._fan + 0.4 * (wanted - self._fan))

    def _mean_clock(self, clock: Array, demand: Demand, effects: Effects) -> Array:
        loaded = clock * (1.0 - 0.5 * effects.slowdown_share)
        return demand.busy * loaded + (1.0 - demand.busy) * self._hardware.idle_clock

    def _mean_memory_clock(self, clock: Array, demand: Demand) -> Array:
        idle = np.minimum(clock, self._hardware.memory_clock_idle)
        return demand.busy * clock + (1.0 - demand.busy) * idle


class _Load:
    """Power over clock under the demand of one window."""

    def __init__(self, hardware: Hardware, demand: Demand, effects: Effects, sink: Array) -> None:
        self._hardware = hardware
        self._sink = sink
        self._effects = effects
        self._demand = demand
        self.memory_clock = np.minimum(hardware.memory_clock, effects.memory_clock_ceiling)
        starved = 1.0 - self.memory_clock / hardware.memory_clock
        self._draw = (
            hardware.full_draw
            * np.maximum(demand.intensity, 0.01)
            * (1.0 - _STARVED_SAVING * starved)
        )
        leak = _LEAK_PER_KELVIN * hardware.full_draw * (sink - _LEAK_REFERENCE_CELSIUS)
        self._floor = hardware.floor_power + np.maximum(leak, -0.5 * hardware.floor_power)

    def clock_under_limits(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        """The clock that the driver would set in a cool card; whether the power limit set it."""
        hardware, effects = self._hardware, self._effects
        warmth = np.maximum(0.0, self._sink - _BOOST_COOL_CELSIUS)
        free = hardware.boost_clock * (1.0 - _BOOST_LOSS_PER_KELVIN * warmth)
        free = np.minimum(free, effects.clock_ceiling)
        supply = self._solve(effects.power_ceiling, self._draw)
        unlimited = np.minimum(free, supply)
        limited = self._solve(hardware.power_limit, self._draw)
        return np.minimum(unlimited, limited), limited < unlimited

    def clock_for_power(self, watts: Array) -> Array:
        """The clock at which the mean power over the window is so many watts."""
        return self._solve(watts, self._draw * self._mean_share())

    def mean_power(self, clock: Array) -> Array:
        """Watts at a clock, mean over the loaded part of the window."""
        return np.asarray(self._floor + self._mean_share() * self._dynamic(clock))

    def active_power(self, clock: Array) -> Array:
        """Watts at a clock while kernels run."""
        return np.asarray(self._floor + self._dynamic(clock))

    def _dynamic(self, clock: Array) -> Array:
        ratio = clock / self._hardware.sustained_clock
        return np.asarray(self._draw * ratio**CLOCK_EXPONENT)

    def _solve(self, watts: Array, draw: Array) -> Array:
        share = np.maximum(watts - self._floor, 1.0) / np.maximum(draw, 1e-6)
        return np.asarray(self._hardware.sustained_clock * share ** (1 / CLOCK_EXPONENT))

    def _mean_share(self) -> Array:
        halved = 1.0 - 0.5**CLOCK_EXPONENT
        running = 1.0 - halved * self._effects.slowdown_share
        return np.asarray(np.maximum(self._demand.utilization * running, 0.01))


class _Heat:
    """One window of heat: from the die through the joint into the sink, and into the air."""

    def __init__(
        self,
        hardware: Hardware,
        effects: Effects,
        sink: Array,
        fan: Array,
        air: Array,
        seconds: float,
    ) -> None:
        speed = np.where(hardware.has_fan, np.maximum(fan, 0.2), _REFERENCE_FAN)
        flow = (_REFERENCE_FAN / speed) ** _FAN_EXPONENT
        own = hardware.resistance
        self._joint = own * _JOINT_SHARE + effects.joint_resistance
        self._sink_resistance = own * (1.0 - _JOINT_SHARE) * flow + effects.sink_resistance
        self._gain = 1.0 - np.exp(-seconds / hardware.heat_seconds)
        self._air = air
        self._target = hardware.target_temperature
        self.sink = sink

    def power_allowed(self) -> Array:
        """Watts over the window that bring the die to its target temperature and no further."""
        start = (1.0 - self._gain) * self.sink + self._gain * self._air
        return (self._target - start) / (self._gain * self._sink_resistance + self._joint)

    def absorb(self, power: Array) -> Array:
        """Warm the sink by a window at this power; temperature of the die at its end."""
        rest = self._air + power * self._sink_resistance
        self.sink = self.sink + self._gain * (rest - self.sink)
        return np.asarray(self.sink + power * self._joint)


def _resistance(model: CardModel) -> float:
    """K/W that explain the model's temperature at full load."""
    rise = model.full_temperature_celsius - _REFERENCE_AIR_CELSIUS
    return rise / model.power_limit_watts


def _lower_states(model: CardModel) -> tuple[float, float]:
    lower = model.memory_mhz_lower
    return (lower[0], lower[-1]) if lower else (np.nan, np.nan)


def full_fan_resistance(hardware: Hardware) -> Array:
    """K/W from die to air of each sound card with its fan at full speed."""
    flow = np.where(hardware.has_fan, _REFERENCE_FAN**_FAN_EXPONENT, 1.0)
    return np.asarray(hardware.resistance * (_JOINT_SHARE + (1.0 - _JOINT_SHARE) * flow))


def _of(cards: tuple[Card, ...], value: Callable[[Card], float]) -> Array:
    return np.array([value(card) for card in cards], dtype=np.float64)


def _normal(rng: np.random.Generator, count: int) -> Array:
    """Normal deviates without the far tails, where a chip would have been sold as another."""
    return np.clip(rng.standard_normal(count), -2.5, 2.5)


def _steps(values: Array, step: float) -> Array:
    return np.asarray(np.round(values / step) * step)
