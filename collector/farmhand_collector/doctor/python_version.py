"""Whether Python still gets security fixes."""

import platform
import sys
from datetime import UTC, date, datetime

from farmhand_collector.examination import Check, Level, Result, Setup

_ENDS = {(3, 11): date(2027, 10, 31), (3, 12): date(2028, 10, 31), (3, 13): date(2029, 10, 31)}
_ENDS |= {(3, 14): date(2030, 10, 31)}
"""Last month of fixes: PEP 664, 693, 719, 745."""


def _examine(setup: Setup) -> Result:
    seen, end = f"Python {platform.python_version()}", _ENDS.get(sys.version_info[:2])
    if end is None:
        return Result(Level.CANNOT_TELL, f"{seen}: until when it gets fixes is not known here")
    if datetime.fromtimestamp(setup.now, UTC).date() > end:
        remedy = "Install farmhand with a newer Python."
        return Result(Level.WARNING, f"{seen}: no fixes since {end}", remedy)
    return Result(Level.OK, f"{seen}, fixes until {end}")


CHECK = Check("python", "Version of Python", _examine)
