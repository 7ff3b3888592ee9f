"""How a board turns work into clocks, watts and heat, for all cards at once.

A board draws a floor plus a part that grows with its clock to the power `CLOCK_EXPONENT`; the
driver lowers the clock until power limit and target temperature hold. Heat passes a paste joint
(at once) and a heat sink (first order). Chips differ: each has its own draw for the same clock,
so that equal cards under one power limit spread by about two percent in clock, as measured
fleets do (Sinha et al., SC'22; PAL, SC'24).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from farmhand_collector.simulator.effects import Array, Effects, Flags
from farmhand_collector.simulator.fleet import Card, Fleet
from farmhand_collector.simulator.models import MIB, CardModel

CLOCK_EXPONENT = 2.7
"""Dynamic power over clock, voltage following: between square and cube."""

_DRAW_SIGMA = 0.05
SLOW_TAIL_CLOCK = 0.965
"""Clock of the slow end of equal chips at the same power: sound, and full power."""

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
_FAN_GAIN_SECONDS = 20.0
_LEAST_FLOW = 0.2
_QUICK_SECONDS = 30.0
"""Longest window over which the fan may be taken as it was at the beginning."""

_FAN_PASSES = 3
_MEMORY_SECONDS = 40.0
_MEMORY_IDLE_ACTIVITY = 0.12
_MEMORY_FULL_UTILIZATION = 0.5
"""Share of accessed time at which the memory of a training card is as hot as its kind gets."""

_MEMORY_LEAST_PACE = 0.4
_MEMORY_NEAR_LIMIT_KELVIN = 2.0
_LOWEST_CLOCK_SHARE = 0.2
_WAITING_SAVES = 0.6
"""Share of the dynamic power that is saved while kernels only wait for other cards."""

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
        self.memory_rise = _of(cards, lambda card: card.model.memory_rise_kelvin)
        self.memory_limit = _of(cards, lambda card: card.model.memory_limit_celsius)
        self.tells_memory_heat = np.array(
            ["memory_temperature_celsius" in card.model.gives for card in cards]
        )
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
        spread[tail] = SLOW_TAIL_CLOCK**-CLOCK_EXPONENT
        return nominal * spread

    def swap(self, one: int, other: int) -> None:
        """Let two boards of one kind change places; what belongs to the slot stays."""
        for name in _OF_THE_BOARD:
            values: Array = getattr(self, name)
            values[[one, other]] = values[[other, one]]

    def full_clock(self) -> Array:
        """Clock of each card, sound and warm, under a full load at the limit in force."""
        share = (self.power_limit - self.floor_power) / self.full_draw
        limited = self.sustained_clock * share ** (1 / CLOCK_EXPONENT)
        return np.asarray(np.minimum(self.boost_clock, limited))

    def full_power(self, clock: Array) -> Array:
        """Watts at a clock under a full load, warm."""
        ratio = (clock / self.sustained_clock) ** CLOCK_EXPONENT
        return np.asarray(self.floor_power + self.full_draw * ratio)


_OF_THE_BOARD = ("idle_power", "boost_clock", "full_draw", "resistance")
"""What chance made of a board, beyond its kind and its maker."""


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
    memory_temperature: Array
    memory_pace: Array
    """Memory clock under load against the usual one, 0..1."""
    power_throttle: Array
    thermal_throttle: Array
    steady_clock: Flags
    """Whether one clock held for the window, no controller moving it."""


class Physics:
    """The state that lasts between windows: heat in sinks and memory, speed of the fans.

    Windows may be of any length: state follows with its own time constants, and values are means
    over the window.
    """

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._sink = np.full(hardware.count, 35.0)
        self._fan = np.full(hardware.count, _FAN_LEAST)
        self._memory = np.full(hardware.count, 38.0)
        self._memory_pace = np.ones(hardware.count)

    def step(self, demand: Demand, air: Array, effects: Effects, seconds: float) -> Operation:
        """Advance all cards by one window."""
        hardware = self._hardware
        air = air + effects.air_kelvin
        load = _Load(hardware, demand, effects, self._sink, self._memory_pace)
        fan = self._fan
        for _ in range(_FAN_PASSES if seconds > _QUICK_SECONDS else 0):
            heat = _Heat(hardware, effects, self._sink, fan, air, seconds)
            trial = _run(hardware, demand, effects, load, heat)
            fan = 0.5 * (fan + self._fan_speed(trial.temperature, effects, seconds))
        heat = _Heat(hardware, effects, self._sink, fan, air, seconds)
        run = _run(hardware, demand, effects, load, heat)
        self._sink = heat.sink
        memory_hot = self._warm_memory(demand, effects, seconds)
        self._fan = self._fan_speed(run.temperature, effects, seconds)
        unslowed = (1.0 - effects.slowdown_share) * (1.0 - effects.waiting_share)
        held_by_limit = demand.busy * demand.utilization * unslowed * run.capped * (1.0 - run.hot)
        return Operation(
            core_clock=self._mean_clock(run.clock, demand, effects),
            memory_clock=self._mean_memory_clock(load.memory_clock, demand),
            power=run.power,
            peak_power=np.where(demand.busy > 0, load.active_power(run.clock), run.power),
            temperature=run.temperature,
            fan=self._fan,
            memory_temperature=self._memory,
            memory_pace=load.memory_clock / hardware.memory_clock,
            power_throttle=held_by_limit,
            thermal_throttle=demand.busy * np.maximum(run.hot, memory_hot),
            steady_clock=~run.capped & (run.hot == 0.0),
        )

    def _warm_memory(self, demand: Demand, effects: Effects, seconds: float) -> Array:
        """Bring the memory to its temperature; 1 where it slows down and tells so.

        Memory that reaches its limit is slowed until it stays there. Only kinds with a sensor
        that the driver shows tell it as a throttle; GDDR6X cards do it silently.
        """
        hardware = self._hardware
        use = demand.busy * demand.memory_utilization / _MEMORY_FULL_UTILIZATION
        activity = _MEMORY_IDLE_ACTIVITY + (1.0 - _MEMORY_IDLE_ACTIVITY) * np.minimum(use, 1.3)
        rise = hardware.memory_rise * effects.memory_rise_ratio * activity
        headroom = hardware.memory_limit - self._sink
        pace = np.clip(headroom / rise, _MEMORY_LEAST_PACE, 1.0)
        gain = 1.0 - np.exp(-seconds / _MEMORY_SECONDS)
        self._memory = self._memory + gain * (self._sink + rise * pace - self._memory)
        self._memory_pace = self._memory_pace + gain * (pace - self._memory_pace)
        self._memory_pace[self._memory_pace > 0.995] = 1.0
        return np.asarray((self._memory_pace < 1.0) & hardware.tells_memory_heat, np.float64)

    def _fan_speed(self, temperature: Array, effects: Effects, seconds: float) -> Array:
        """The card's own fan curve, following with a lag; still when cool."""
        share = (temperature - _FAN_START_CELSIUS) / (_FAN_FULL_CELSIUS - _FAN_START_CELSIUS)
        wanted = np.clip(_FAN_LEAST + (1.0 - _FAN_LEAST) * share, 0.0, 1.0)
        too_hot = self._hardware.memory_limit - _MEMORY_NEAR_LIMIT_KELVIN
        wanted = np.where(self._memory >= too_hot, 1.0, wanted)
        gain = 1.0 - np.exp(-seconds / _FAN_GAIN_SECONDS)
        free = np.where(wanted < _FAN_LEAST, 0.0, self._fan + gain * (wanted - self._fan))
        return np.where(np.isnan(effects.fan_held), free, effects.fan_held)

    def _mean_clock(self, clock: Array, demand: Demand, effects: Effects) -> Array:
        loaded = clock * (1.0 - 0.5 * effects.slowdown_share)
        return demand.busy * loaded + (1.0 - demand.busy) * self._hardware.idle_clock

    def _mean_memory_clock(self, clock: Array, demand: Demand) -> Array:
        idle = np.minimum(clock, self._hardware.memory_clock_idle)
        return demand.busy * clock + (1.0 - demand.busy) * idle


class _Load:
    """Power over clock under the demand of one window."""

    def __init__(
        self,
        hardware: Hardware,
        demand: Demand,
        effects: Effects,
        sink: Array,
        memory_pace: Array,
    ) -> None:
        self._hardware = hardware
        self._sink = sink
        self._effects = effects
        self._demand = demand
        self._sustained = hardware.sustained_clock * effects.clock_ratio
        self.memory_clock = np.minimum(
            hardware.memory_clock * memory_pace, effects.memory_clock_ceiling
        )
        starved = 1.0 - self.memory_clock / hardware.memory_clock
        self._draw = (
            hardware.full_draw
            * effects.draw_ratio
            * np.maximum(demand.intensity, 0.01)
            * (1.0 - _STARVED_SAVING * starved)
        )
        leak = _LEAK_PER_KELVIN * hardware.full_draw * (sink - _LEAK_REFERENCE_CELSIUS)
        self._floor = hardware.floor_power + np.maximum(leak, -0.5 * hardware.floor_power)

    def clock_under_limits(self) -> tuple[Array, Flags]:
        """The clock that the driver would set in a cool card; whether the power limit set it."""
        hardware, effects = self._hardware, self._effects
        warmth = np.maximum(0.0, self._sink - _BOOST_COOL_CELSIUS)
        free = hardware.boost_clock * effects.clock_ratio * (1.0 - _BOOST_LOSS_PER_KELVIN * warmth)
        free = np.minimum(free, effects.clock_ceiling)
        supply = self._solve(effects.power_ceiling, self._draw)
        unlimited = np.minimum(free, supply)
        limited = self._solve(power_limit_in_force(hardware, effects), self._draw)
        told = effects.ceiling_told & (supply < np.minimum(free, limited))
        return np.minimum(unlimited, limited), (limited < unlimited) | told

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
        ratio = clock / self._sustained
        return np.asarray(self._draw * ratio**CLOCK_EXPONENT)

    def _solve(self, watts: Array, draw: Array) -> Array:
        share = np.maximum(watts - self._floor, 1.0) / np.maximum(draw, 1e-6)
        return np.asarray(self._sustained * share ** (1 / CLOCK_EXPONENT))

    def _mean_share(self) -> Array:
        halved = 1.0 - 0.5**CLOCK_EXPONENT
        running = 1.0 - halved * self._effects.slowdown_share
        drawing = 1.0 - _WAITING_SAVES * self._effects.waiting_share
        return np.asarray(np.maximum(self._demand.utilization * running * drawing, 0.01))


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
        speed = np.where(hardware.has_fan, np.maximum(fan, _LEAST_FLOW), _REFERENCE_FAN)
        speed = np.minimum(speed, effects.fan_flow_ceiling)
        flow = (_REFERENCE_FAN / speed) ** _FAN_EXPONENT
        own = hardware.resistance
        self._joint = own * _JOINT_SHARE + effects.joint_resistance
        self._sink_resistance = own * (1.0 - _JOINT_SHARE) * flow + effects.sink_resistance
        self._gain = 1.0 - np.exp(-seconds / hardware.heat_seconds)
        self._mean_gain = 1.0 - self._gain * hardware.heat_seconds / seconds
        self._air = air
        self._target = hardware.target_temperature
        self.sink = sink

    def power_allowed(self) -> Array:
        """Watts over the window that bring the die to its target temperature and no further."""
        start = (1.0 - self._gain) * self.sink + self._gain * self._air
        return (self._target - start) / (self._gain * self._sink_resistance + self._joint)

    def absorb(self, power: Array) -> Array:
        """Warm the sink by a window at this power; mean temperature of the die over it."""
        rest = self._air + power * self._sink_resistance
        mean = self.sink + self._mean_gain * (rest - self.sink)
        self.sink = self.sink + self._gain * (rest - self.sink)
        return np.asarray(mean + power * self._joint)


class _Run(NamedTuple):
    """How cards run under one window's load and cooling."""

    clock: Array
    capped: Flags
    """Whether the power limit holds the clock."""
    hot: Array
    """Share of the loaded time in which the temperature holds it."""
    power: Array
    temperature: Array


def _run(hardware: Hardware, demand: Demand, effects: Effects, load: _Load, heat: _Heat) -> _Run:
    """Find clock and power under all limits, and warm the sink by them."""
    clock, capped = load.clock_under_limits()
    cool_clock = np.minimum(clock, load.clock_for_power(heat.power_allowed()))
    least = hardware.sustained_clock * _LOWEST_CLOCK_SHARE
    cool_clock = np.maximum(cool_clock, np.minimum(least, clock))
    shortfall = (clock - cool_clock) / np.maximum(clock, 1.0)
    power = demand.busy * load.mean_power(cool_clock)
    power += (1.0 - demand.busy) * hardware.idle_power * effects.idle_power_ratio
    return _Run(
        clock=cool_clock,
        capped=capped,
        hot=np.clip(shortfall / 0.004, 0.0, 1.0),
        power=power,
        temperature=heat.absorb(power),
    )


def _resistance(model: CardModel) -> float:
    """K/W that explain the model's temperature at full load."""
    rise = model.full_temperature_celsius - _REFERENCE_AIR_CELSIUS
    return rise / model.power_limit_watts


def _lower_states(model: CardModel) -> tuple[float, float]:
    lower = model.memory_mhz_lower
    return (lower[0], lower[-1]) if lower else (np.nan, np.nan)


def power_limit_in_force(hardware: Hardware, effects: Effects) -> Array:
    """Watts; limits are set in whole ones."""
    return np.asarray(np.round(hardware.power_limit * effects.limit_ratio))


def sound_clock(hardware: Hardware, effects: Effects) -> Array:
    """Clock of each card under a full load while heat does not bind."""
    sustained = hardware.sustained_clock * effects.clock_ratio
    watts = np.minimum(power_limit_in_force(hardware, effects), effects.power_ceiling)
    share = np.maximum(watts - hardware.floor_power, 1.0)
    share /= hardware.full_draw * effects.draw_ratio
    free = np.minimum(hardware.boost_clock * effects.clock_ratio, effects.clock_ceiling)
    return np.asarray(np.minimum(free, sustained * share ** (1 / CLOCK_EXPONENT)))


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
