"""Events that look like faults and are none."""

import numpy as np

from farmhand_collector.simulator.kinds.kind import DAY, HOUR, Case, Moment, Scope, has_fan
from farmhand_collector.simulator.kinds.register import harmless
from farmhand_collector.simulator.physics import CLOCK_EXPONENT, SLOW_TAIL_CLOCK

_NEW_DRIVER = "590.44.01"
_BOOT_SECONDS = 90.0
_MOVE_SECONDS = 600.0
_INSTANCES = 7.0
_MIG_WITHHOLDS = frozenset({"utilization_ratio", "memory_utilization_ratio"})
_CRASHES_PER_SECOND = 1.0 / 1800.0
_REFUSALS = (
    frozenset({"power_watts", "power_max_watts", "energy_joules"}),
    frozenset({"fan_ratio"}),
    frozenset({"core_temperature_celsius", "core_temperature_max_celsius"}),
    frozenset({"pcie_replay_total", "pcie_generation", "pcie_width"}),
    frozenset({"power_limit_watts", "throttle_power_ratio", "throttle_thermal_ratio"}),
)
_CRASH = (
    ("13", "pid=777, name=train.py, Graphics SM Warp Exception: Out Of Range Address"),
    ("31", "pid=777, name=train.py, Ch 00000008, MMU Fault: ENGINE GRAPHICS faulted"),
    ("43", "pid=777, name=train.py, Ch 00000008"),
    ("45", "pid=777, name=train.py, Ch 00000008"),
)


def _lower_limit(moment: Moment, case: Case) -> None:
    cards = list(case.fault.cards)
    limit = moment.effects.limit_ratio
    limit[cards] = np.minimum(limit[cards], 1.0 - case.size)


@harmless("the keeper lowers the power limit of one card", severity=(0.1, 0.35))
def limit_lowered_card(moment: Moment, case: Case) -> None:
    """Told by the limit in force; clock and power follow it."""
    _lower_limit(moment, case)


@harmless("the keeper lowers the power limits of a node", scope=Scope.NODE, severity=(0.1, 0.35))
def limit_lowered_node(moment: Moment, case: Case) -> None:
    """All cards of the node at once."""
    _lower_limit(moment, case)


@harmless(
    "the keeper lowers all power limits of the farm",
    scope=Scope.FARM,
    severity=(0.1, 0.3),
    known_before=True,
)
def limit_lowered_farm(moment: Moment, case: Case) -> None:
    """Everything at one moment, as before a hot week or a bill."""
    _lower_limit(moment, case)


@harmless(
    "clocks of a node are capped on purpose; severity is the share of the clock",
    scope=Scope.NODE,
    severity=(0.08, 0.2),
)
def clocks_capped(moment: Moment, case: Case) -> None:
    """The same cap on every card of the node, at one moment."""
    cards = list(case.fault.cards)
    lowest = float(moment.boards.full_clock[cards].min()) * (1.0 - case.size)
    moment.effects.clock_ceiling[cards] = lowest // 15 * 15


@harmless(
    "a chip of the slow end: full power, normal temperature, a clock 3 to 4 % low",
    from_start=True,
    fits=lambda card: not card.slow_tail,
)
def slow_tail(moment: Moment, case: Case) -> None:
    """The silicon lottery."""
    at = case.fault.index
    moment.effects.draw_ratio[at] *= SLOW_TAIL_CLOCK**-CLOCK_EXPONENT


@harmless(
    "an undervolted card: less power for the same clock", severity=(0.06, 0.14), from_start=True
)
def undervolted(moment: Moment, case: Case) -> None:
    """Faster than its peers at the same limit."""
    moment.effects.draw_ratio[case.fault.index] *= 1.0 - case.size


@harmless(
    "a mining card that the maker locked, and nobody unlocks",
    from_start=True,
    fits=lambda card: card.model.lock_ratio < 1.0,
)
def locked_mining(moment: Moment, case: Case) -> None:
    """Its rates are a fraction of what such a chip could do, since ever."""
    at = case.fault.index
    if moment.fleet.cards[at].unlocked:
        moment.effects.compute_ratio[at] = moment.fleet.cards[at].model.lock_ratio


@harmless(
    "a riser of one lane, as the keeper wants it", from_start=True, fits=lambda c: c.slot_lanes > 1
)
def narrow_riser(moment: Moment, case: Case) -> None:
    """One lane from the first day on, whatever the card could do."""
    moment.effects.pcie_width_ceiling[case.fault.index] = 1.0


@harmless("nobody has work for the farm", scope=Scope.FARM, lasts_seconds=(HOUR, 12 * HOUR))
def idle_farm(moment: Moment, case: Case) -> None:
    """All cards rest for hours."""
    moment.effects.resting[list(case.fault.cards)] = not case.ended


@harmless(
    "a hot week; severity is in kelvin",
    scope=Scope.FARM,
    severity=(5.0, 8.0),
    ramp_seconds=(6 * HOUR, DAY),
    gradual=True,
    lasts_seconds=(4 * DAY, 8 * DAY),
)
def hot_week(moment: Moment, case: Case) -> None:
    """All inlets warmer, all cards with them."""
    moment.effects.room_kelvin[:] = case.size


@harmless(
    "a new driver on all nodes: clocks shift a little; severity is the share of the clock",
    scope=Scope.FARM,
    severity=(0.01, 0.02),
    known_before=True,
)
def driver_upgrade(moment: Moment, case: Case) -> None:
    """Every node boots, the driver's version is another, and so are all clocks."""
    moment.effects.clock_ratio[list(case.fault.cards)] = 1.0 - case.size
    for node in {moment.node(at) for at in case.fault.cards}:
        moment.effects.driver[node] = _NEW_DRIVER
        moment.restart(node, case.fault.since, _BOOT_SECONDS)


@harmless(
    "a training whose first rank has more work: the others wait for it; severity is how long",
    scope=Scope.NODE,
    severity=(0.15, 0.4),
    needs_load=True,
)
def uneven_batches(moment: Moment, case: Case) -> None:
    """Lower utilisation and power on all but one card, equal rates on all."""
    moment.effects.utilization_scale[list(case.fault.cards[1:])] = 1.0 - case.size


@harmless(
    "a card cut into instances: the driver tells no utilisation",
    from_start=True,
    fits=lambda card: any(name in card.model.name for name in ("A100", "H100")),
)
def mig(moment: Moment, case: Case) -> None:
    """What runs in the instances is not seen from outside."""
    at = case.fault.index
    moment.effects.withheld[at] = _MIG_WITHHOLDS
    moment.effects.identity[at] = {"mig_enabled": 1.0, "mig_instances": _INSTANCES}
    moment.told.add(at)


@harmless("a node boots", scope=Scope.NODE, known_before=True)
def reboot(moment: Moment, case: Case) -> None:
    """A minute of silence, counters from zero, and an event that says why."""
    moment.restart(moment.node(case.fault.index), case.fault.since, _BOOT_SECONDS)


@harmless("two boards of one kind change places", known_before=True, pairs=True)
def cards_moved(moment: Moment, case: Case) -> None:
    """Both nodes are down meanwhile; slots, air and jobs stay where they are."""
    one, other = case.fault.cards
    for node in {moment.node(one), moment.node(other)}:
        moment.restart(node, case.fault.since, _MOVE_SECONDS)
    moment.swaps.append((one, other))


@harmless("sensors that a card refuses to give", from_start=True)
def sensors_refused(moment: Moment, case: Case) -> None:
    """One group of fields is never there."""
    at = case.fault.index
    gives = moment.fleet.cards[at].model.gives
    groups = [group for group in _REFUSALS if "fan_ratio" not in group or "fan_ratio" in gives]
    moment.effects.withheld[at] = groups[int(case.dice.integers(len(groups)))]


@harmless(
    "a program with a bug: it crashes on all cards that it gets",
    scope=Scope.NODE,
    needs_load=True,
    lasting=True,
)
def application_crashes(moment: Moment, case: Case) -> None:
    """Application Xids on one card after the other."""
    for time in case.happenings(_CRASHES_PER_SECOND * len(case.fault.cards), moment):
        at = case.fault.cards[int(case.dice.integers(len(case.fault.cards)))]
        code, said = _CRASH[int(case.dice.integers(len(_CRASH)))]
        moment.xid(at, code, said, time)


@harmless("fans at full speed, as the keeper wants them", scope=Scope.NODE, fits=has_fan)
def fans_at_full(moment: Moment, case: Case) -> None:
    """Loud and cool."""
    moment.effects.fan_held[list(case.fault.cards)] = 1.0
