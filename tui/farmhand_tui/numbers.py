"""Numbers and times as the screens and the tables write them."""

import time

MISSING = "-"
"""What stands for a value that is not known; never a zero."""


def whole(value: float | None, scale: float = 1.0) -> str:
    """Return a value times `scale`, without decimals."""
    return MISSING if value is None else f"{value * scale:.0f}"


def percent(ratio: float | None) -> str:
    """Return a ratio of 0..1 as whole percent, without the sign."""
    return whole(ratio, 100.0)


def pair(value: float | None, limit: float | None) -> str:
    """`value/limit` without decimals, such as power and its limit."""
    return MISSING if value is None and limit is None else f"{whole(value)}/{whole(limit)}"


def gibibytes(used: float | None, total: float | None) -> str:
    """Memory in use and in all, from bytes to GiB."""
    if used is None and total is None:
        return MISSING
    shown = MISSING if used is None else f"{used / 2**30:.1f}"
    return f"{shown}/{whole(total, 2**-30)}"


def link(generation: float | None, width: float | None) -> str:
    """PCIe generation and lanes, as `g4 x16`."""
    if generation is None and width is None:
        return MISSING
    return f"g{whole(generation)} x{whole(width)}"


def kilowatts(watts: float | None) -> str:
    """Power of many cards."""
    return f"{MISSING} kW" if watts is None else f"{watts / 1000:.1f} kW"


def age(seconds: float | None) -> str:
    """Return a span of time in its largest fitting unit, such as `45 s` or `3 d`."""
    if seconds is None:
        return MISSING
    if seconds < 100:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"


def clock(moment: float | None, now: float | None = None) -> str:
    """Local time of day, with the date when it is not of the day of `now`."""
    return _written(moment, now, "%H:%M:%S", "%Y-%m-%d %H:%M")


def minute(moment: float | None, now: float | None = None) -> str:
    """Local time of day to the minute, with month and day when it is not of the day of `now`."""
    return _written(moment, now, "%H:%M", "%m-%d %H:%M")


def _written(moment: float | None, now: float | None, today: str, other_day: str) -> str:
    if moment is None:
        return MISSING
    try:
        local, reference = time.localtime(moment), time.localtime(now)
    except (OverflowError, OSError, ValueError):
        return MISSING
    return time.strftime(today if local[:3] == reference[:3] else other_day, local)
