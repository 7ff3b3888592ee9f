"""Faults of the compute units."""

from farmhand_collector.simulator.kinds.kind import SLOWLY, Case, Moment
from farmhand_collector.simulator.kinds.register import fault

_CAUSE = "compute"
_POWER_OF_LOST_WORK = 0.35
"""Share of a unit's power that is saved when it does no useful work."""

_LOCKED_DRAW_RATIO = 0.55
_CLOCK_STEP_MHZ = 15


@fault(
    _CAUSE,
    "the core clock stays low without a reason told; severity is the clock lost at full load",
    severity=(0.15, 0.45),
    needs_load=True,
    ramp_seconds=SLOWLY,
)
def clock_stuck(moment: Moment, case: Case) -> None:
    """A ceiling at one of the driver's clock steps."""
    at = case.fault.index
    clock = moment.boards.full_clock[at] * (1.0 - case.size)
    moment.effects.clock_ceiling[at] = clock // _CLOCK_STEP_MHZ * _CLOCK_STEP_MHZ


@fault(
    _CAUSE,
    "work gets done slowly at a clock that reads normal; severity is the share of work lost",
    severity=(0.1, 0.4),
    needs_load=True,
    ramp_seconds=SLOWLY,
)
def slow_compute(moment: Moment, case: Case) -> None:
    """Only the rate of work tells, and a little less power."""
    at = case.fault.index
    moment.effects.compute_ratio[at] = 1.0 - case.size
    moment.effects.draw_ratio[at] = 1.0 - _POWER_OF_LOST_WORK * case.size


# What unlocks it is a driver or a boot program of the node.
@fault(
    "driver",
    "the unlock of a mining card is lost at a boot; severity is how many times slower it gets",
    severity=(15.0, 30.0),
    known_before=True,
    fits=lambda card: card.unlocked,
)
def unlock_lost(moment: Moment, case: Case) -> None:
    """Clock and memory read as ever; the work is a fraction, the power about half."""
    at = case.fault.index
    moment.restart(moment.node(at), case.fault.since)
    moment.effects.compute_ratio[at] = 1.0 / case.size
    moment.effects.draw_ratio[at] = _LOCKED_DRAW_RATIO
