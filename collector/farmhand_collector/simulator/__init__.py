"""A simulated farm: hardware that behaves, loads that come and go, faults planted on purpose.

It models what cards do and says it as agents would; it knows nothing of how cards are judged.
`Farm` yields readings, `plan` tells what it has planted, `run` posts it all to a collector.
`FAULT_KINDS` are the faults it knows, `HARMLESS_KINDS` what only looks like one.
"""

from farmhand_collector.simulator.farm import Farm, plan
from farmhand_collector.simulator.kinds import FAULT_KINDS, HARMLESS_KINDS
from farmhand_collector.simulator.planting import check_faults, check_harmless
from farmhand_collector.simulator.post import run

__all__ = [
    "FAULT_KINDS",
    "HARMLESS_KINDS",
    "Farm",
    "check_faults",
    "check_harmless",
    "plan",
    "run",
]
