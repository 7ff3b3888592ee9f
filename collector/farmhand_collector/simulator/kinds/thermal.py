"""Faults of cooling."""

import numpy as np

from farmhand_collector.simulator.fleet import Card
from farmhand_collector.simulator.kinds.kind import SLOWLY, Case, Moment, Scope, has_fan
from farmhand_collector.simulator.kinds.register import fault
from farmhand_collector.simulator.models import GDDR6X_LIMIT_CELSIUS, Origin
from farmhand_collector.simulator.physics import full_fan_resistance

_CAUSE = "thermal"
_FULL_FLOW = 0.7
_RISE_OF_A_TRAINING = 0.9
"""Memory activity that a pad fault is measured against."""


@fault(
    _CAUSE,
    "dried paste or a dead fan: too hot to hold its clock; severity is the clock lost at full load",
    severity=(0.15, 0.22),
    needs_load=True,
    ramp_seconds=SLOWLY,
)
def thermal(moment: Moment, case: Case) -> None:
    """Resistance that brings the die to its target at the lowered clock, fan at full speed."""
    effects, (hardware, full_clock, air) = moment.effects, moment.boards
    at = case.fault.index
    needed = (hardware.target_temperature - air) / hardware.full_power(
        full_clock * (1.0 - case.fault.severity)
    )
    place = effects.joint_resistance if case.fault.variant else effects.sink_resistance
    grown = case.size / case.fault.severity
    place[at] = grown * (needed - full_fan_resistance(hardware))[at]


@fault(
    _CAUSE,
    "fans that stand still though they are told to turn; severity is the air flow lost",
    severity=(0.75, 0.93),
    needs_load=True,
    fits=has_fan,
)
def fan_dead(moment: Moment, case: Case) -> None:
    """The speed shown is the intended one: it goes to full while the card cooks."""
    moment.effects.fan_flow_ceiling[case.fault.index] = _FULL_FLOW * (1.0 - case.size)


@fault(
    _CAUSE,
    "a fan controller stuck at a low speed; severity is that speed",
    severity=(0.2, 0.3),
    needs_load=True,
    fits=has_fan,
)
def fan_pegged(moment: Moment, case: Case) -> None:
    """However hot the card is, the fan turns as at idle."""
    moment.effects.fan_held[case.fault.index] = case.fault.severity


@fault(
    _CAUSE,
    "paste that is pumped out over days; severity is the thermal resistance added, of the whole",
    severity=(0.4, 0.9),
    needs_load=True,
    gradual=True,
    ramp_seconds=SLOWLY,
)
def paste_pump_out(moment: Moment, case: Case) -> None:
    """The joint between die and sink grows worse; the fan works harder, then the clock falls."""
    at = case.fault.index
    moment.effects.joint_resistance[at] = case.size * moment.boards.hardware.resistance[at]


def _memory_heat_shows(card: Card) -> bool:
    told = "memory_temperature_celsius" in card.model.gives
    return told or card.model.memory_limit_celsius == GDDR6X_LIMIT_CELSIUS


@fault(
    _CAUSE,
    "dry or missing pads: the memory would be above its limit; severity is by how many kelvin",
    severity=(10.0, 35.0),
    needs_load=True,
    ramp_seconds=SLOWLY,
    fits=_memory_heat_shows,
)
def pads(moment: Moment, case: Case) -> None:
    """Memory slows down at its limit while the core is cool; GDDR6X does so without a reason."""
    hardware, full_clock, air = moment.boards
    at = case.fault.index
    sink = air + 0.8 * full_fan_resistance(hardware) * hardware.full_power(full_clock)
    sound = _RISE_OF_A_TRAINING * hardware.memory_rise
    worst = hardware.memory_limit - np.minimum(sink, hardware.target_temperature) + case.size
    grown = case.size / case.fault.severity
    moment.effects.memory_rise_ratio[at] = 1.0 + grown * ((worst / sound)[at] - 1.0)


@fault(
    _CAUSE,
    "a broken fan of the chassis: all cards of a node breathe warm air; severity is in kelvin",
    scope=Scope.NODE,
    severity=(14.0, 22.0),
    needs_load=True,
)
def chassis_fan(moment: Moment, case: Case) -> None:
    """The inlet is as it was, every card behind it hotter."""
    moment.effects.air_kelvin[list(case.fault.cards)] = case.size


@fault(
    "power",
    "a damaged chip that leaks: idle power above its kind; severity is the share added",
    severity=(0.6, 1.3),
    needs_rest=True,
    ramp_seconds=SLOWLY,
    fits=lambda card: card.model.origin is not Origin.MINING,
)
def idle_hot(moment: Moment, case: Case) -> None:
    """More watts and degrees at rest than its peers, an early sign of worse."""
    moment.effects.idle_power_ratio[case.fault.index] = 1.0 + case.size
