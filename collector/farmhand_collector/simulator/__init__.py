"""A simulated farm: hardware that behaves, loads that come and go, faults planted on purpose.

It models what cards do and says it as agents would; it knows nothing of how cards are judged.
`Farm` yields readings, `plan` tells what it has planted, `run` posts it all to a collector.
"""

from farmhand_collector.simulator.farm import Farm, plan
from farmhand_collector.simulator.faults import check_faults
from farmhand_collector.simulator.post import run

__all__ = ["Farm", "check_faults", "plan", "run"]
