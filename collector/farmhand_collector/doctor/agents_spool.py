"""Whether readings pile up on nodes."""

from collections.abc import Sequence

from farmhand_agent.reading import Reading
from farmhand_collector.examination import Check, Level, Result, Setup, listed, number

WINDOW_SECONDS = 1800.0
LEAST_POINTS = 500.0
"""A few posts' worth may wait at any moment."""


def _examine(setup: Setup) -> Result:
    history = setup.agent_history(WINDOW_SECONDS, "spool_points", "spool_degraded")
    if not history:
        return Result(Level.CANNOT_TELL, "no agent was heard of in the last half hour")
    degraded = [host for host, told in history.items() if number(told[-1], "spool_degraded")]
    if degraded:
        seen = f"readings wait in memory, the disk cannot be used: {listed(degraded)}"
        return Result(Level.BAD, seen, "Check disk and rights of ship.spool on these nodes.")
    growing = [host for host, told in history.items() if _grows(told)]
    if growing:
        seen = f"ever more readings wait on {listed(growing)}"
        remedy = "See the collector's load and what it refuses, and the network to these nodes."
        return Result(Level.WARNING, seen, remedy)
    most = max(number(told[-1], "spool_points") or 0.0 for told in history.values())
    return Result(Level.OK, f"{len(history)} agents, at most {most:.0f} readings wait on one")


def _grows(told: Sequence[Reading]) -> bool:
    """Whether more wait in each third of the time than in the one before."""
    points = [p for p in (number(r, "spool_points") for r in told) if p is not None]
    third = len(points) // 3
    if third == 0 or points[-1] < LEAST_POINTS:
        return False
    first, middle, last = (min(points[n * third : (n + 1) * third]) for n in range(3))
    return first < middle < last


CHECK = Check("agents-spool", "Readings do not pile up", _examine)
