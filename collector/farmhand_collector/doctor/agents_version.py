"""Whether agents and collector understand each other."""

from farmhand_agent import __version__
from farmhand_agent.reading import SCHEMA
from farmhand_collector.examination import Check, Level, Result, Setup, host_of, listed, number

_SIMULATED = "simulated"
"""What simulated agents tell as their version."""


def _examine(setup: Setup) -> Result:
    schemas = {host_of(r): number(r, "schema") for r in setup.agents}
    foreign = [host for host, schema in schemas.items() if schema and abs(schema - SCHEMA) > 1]
    if foreign:
        seen = f"readings of another contract than {SCHEMA} from {listed(foreign)}"
        return Result(Level.BAD, seen, "Install the collector's version of farmhand on them.")
    versions = {host_of(r): r.fields.get("version") for r in setup.agents}
    known = (None, __version__, _SIMULATED)
    other = [host for host, version in versions.items() if version not in known]
    if other:
        seen = f"another version than {__version__} on {listed(other)}"
        return Result(Level.WARNING, seen, "Install the collector's version of farmhand on them.")
    return Result(Level.OK, f"{len(schemas)} agents, none of another version than {__version__}")


CHECK = Check("agents-version", "Versions of the agents", _examine)
