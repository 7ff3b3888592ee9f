"""Whether the nodes' clocks agree with the collector's."""

from farmhand_collector.examination import Check, Level, Result, Setup, host_of, listed, number
from farmhand_collector.judging import LAG_NS

BAD_SECONDS = LAG_NS / 1e9
"""A frame waits so long: readings of a clock that is further behind are not judged."""
WARNING_SECONDS = BAD_SECONDS / 3
_REMEDY = "Set the clocks of these nodes by NTP (chronyc tracking, timedatectl)."


def _examine(setup: Setup) -> Result:
    offsets = {host_of(r): number(r, "clock_offset_seconds") for r in setup.agents}
    known = {host: abs(offset) for host, offset in offsets.items() if offset is not None}
    for level, most in ((Level.BAD, BAD_SECONDS), (Level.WARNING, WARNING_SECONDS)):
        off = [host for host, offset in known.items() if offset >= most]
        if off:
            seen = f"clocks off by {most:g} s or more, at most {max(known.values()):.1f} s: "
            return Result(level, seen + listed(off), _REMEDY)
    if not known:
        return Result(Level.CANNOT_TELL, "no agent has told how its clock goes")
    return Result(Level.OK, f"{len(known)} nodes, at most {max(known.values()):.2f} s off")


CHECK = Check("clock-agents", "Clocks of the nodes", _examine)
