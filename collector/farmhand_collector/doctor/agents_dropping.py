"""Whether readings get lost on nodes."""

from collections.abc import Sequence
from itertools import pairwise

from farmhand_agent.reading import Reading
from farmhand_collector.examination import Check, Level, Result, Setup, listed, number

WINDOW_SECONDS = 3600.0


def _examine(setup: Setup) -> Result:
    history = setup.agent_history(WINDOW_SECONDS, "dropped_points_total")
    if not history:
        return Result(Level.CANNOT_TELL, "no agent was heard of in the last hour")
    dropped = {host: count for host, told in history.items() if (count := _dropped(told))}
    if dropped:
        count, nodes = sum(dropped.values()), listed(list(dropped))
        seen = f"{count:.0f} readings dropped in the last hour on {nodes}"
        remedy = "Give ship.spool_bytes more, and see why the collector was not reached or refused."
        return Result(Level.BAD, seen, remedy)
    return Result(Level.OK, f"{len(history)} agents dropped nothing in the last hour")


def _dropped(told: Sequence[Reading]) -> float:
    """Increase of the counter, which begins anew with the agent."""
    counts = [c for c in (number(r, "dropped_points_total") for r in told) if c is not None]
    return sum(new - old if new >= old else new for old, new in pairwise(counts))


CHECK = Check("agents-dropping", "No reading gets lost", _examine)
