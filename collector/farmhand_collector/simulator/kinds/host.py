"""Faults of nodes, seen on all of their cards."""

from farmhand_collector.simulator.kinds.kind import SLOWLY, Case, Moment, Scope
from farmhand_collector.simulator.kinds.register import fault

_CAUSE = "host"
_WAITING_SHARE = 0.3
"""Share of the lost pace that shows as kernels that do not run."""


@fault(
    _CAUSE,
    "a slow node: its cards work slowly at normal clocks; severity is the share of work lost",
    scope=Scope.NODE,
    severity=(0.1, 0.5),
    needs_load=True,
    ramp_seconds=SLOWLY,
)
def slow_node(moment: Moment, case: Case) -> None:
    """A bad disk, a throttled processor, a memory channel gone."""
    cards = list(case.fault.cards)
    moment.effects.host_ratio[cards] = 1.0 - case.size
    moment.effects.utilization_scale[cards] = 1.0 - _WAITING_SHARE * case.size


@fault(
    _CAUSE,
    "the readings of a node arrive late; severity is by how many seconds",
    scope=Scope.NODE,
    severity=(90.0, 600.0),
    known_before=True,
)
def late_readings(moment: Moment, case: Case) -> None:
    """An agent that is starved, or a line that is full."""
    moment.effects.node_late_seconds[moment.node(case.fault.index)] = case.size
