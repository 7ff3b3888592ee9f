"""Whether every agent still speaks."""

from farmhand_collector.examination import AGENT_DAYS, Check, Level, Result, Setup, host_of, listed

SILENT_SECONDS = 300.0
"""Agents tell of themselves each minute or more often."""


def _examine(setup: Setup) -> Result:
    silent = [host_of(r) for r in setup.agents if setup.now - r.time_ns / 1e9 > SILENT_SECONDS]
    count = len(setup.agents)
    if not silent:
        return Result(Level.OK, f"{count} agents, each heard of in the last 5 min")
    level = Level.BAD if len(silent) == count else Level.WARNING
    remedy = "See whether the nodes are up, then: systemctl status farmhand-agent on them."
    known = f"{len(silent)} of {count} agents of the last {AGENT_DAYS:g} days are silent"
    return Result(level, f"{known}: {listed(silent)}", remedy)


CHECK = Check("agents-silent", "Every agent speaks", _examine)
