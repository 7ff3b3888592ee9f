"""Faults of power supply and cables."""

from farmhand_collector.simulator.kinds.kind import SLOWLY, Case, Moment, Scope
from farmhand_collector.simulator.kinds.register import fault

_CAUSE = "power"


@fault(
    _CAUSE,
    "a bad power cable: the hardware slows the card down; severity is the share of time",
    severity=(0.3, 0.9),
    needs_load=True,
    ramp_seconds=SLOWLY,
)
def hardware_throttle(moment: Moment, case: Case) -> None:
    """Slowdown under load, told as the external power brake or as slowdown alone."""
    at = case.fault.index
    moment.effects.slowdown_share[at] = case.size
    moment.effects.brake_share[at] = case.size if case.fault.variant else 0.0


@fault(
    _CAUSE,
    "the supply gives too little power; severity is the clock lost at full load",
    severity=(0.14, 0.35),
    needs_load=True,
    ramp_seconds=SLOWLY,
)
def low_power(moment: Moment, case: Case) -> None:
    """Power that ends well below the limit in force, clocks with it."""
    _let_sag(moment, case)


@fault(
    _CAUSE,
    "a weak supply feeds several cards: all of them brake at once; severity is the share of time",
    scope=Scope.POWER_GROUP,
    severity=(0.25, 0.7),
    needs_load=True,
    ramp_seconds=SLOWLY,
)
def supply_brake(moment: Moment, case: Case) -> None:
    """The external power brake on every card of the group, in equal shares."""
    cards = list(case.fault.cards)
    moment.effects.slowdown_share[cards] = case.size
    moment.effects.brake_share[cards] = case.size


@fault(
    _CAUSE,
    "a supply that sags under several cards; severity is the clock lost at full load",
    scope=Scope.POWER_GROUP,
    severity=(0.14, 0.3),
    needs_load=True,
    ramp_seconds=SLOWLY,
)
def supply_deficit(moment: Moment, case: Case) -> None:
    """Every card of the group ends below its limit; some boards tell that power holds them."""
    _let_sag(moment, case)


def _let_sag(moment: Moment, case: Case) -> None:
    """Watts that go with the lowered clock."""
    clock = moment.boards.full_clock * (1.0 - case.size)
    cards = list(case.fault.cards)
    moment.effects.power_ceiling[cards] = moment.boards.hardware.full_power(clock)[cards]
    moment.effects.ceiling_told[cards] = case.fault.variant
