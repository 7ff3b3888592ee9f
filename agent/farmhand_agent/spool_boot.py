"""When each boot really began, so that readings which a wrong clock dated can be dated again.

A reading keeps the wall clock's idea of when the machine booted. Within a boot the true beginning
is one and the same, so the difference is how far the reading is misdated. The beginning is
measured by the store's clock as soon as the store answers, and kept for readings that a later boot
ships. Where the store never answered during a boot, the boot's own clock is believed as it was
last (it may have been set right meanwhile), unless that is impossible: it cannot have ended after
the next boot began, and no reading is older than this program. Then the boot is taken to have
ended as the next one began, which dates its readings too late by as long as the machine was off.
"""

from collections.abc import Iterable, Mapping

from farmhand_agent.spool_row import Row

EARLIEST_NS = 1_767_225_600 * 10**9
"""1 January 2026: no reading was taken before."""
_TOLERANCE_NS = 60 * 10**9
_LONGEST_UPTIME_NS = 10 * 365 * 86400 * 10**9


def begins(last_rows: Iterable[Row], known: Mapping[str, int], now_began_ns: int) -> dict[str, int]:
    """When earlier boots began, by boot, for those that are not known.

    Args:
        last_rows: the last row of each earlier boot that has rows, the latest boot first.
        known: when boots began, as far as it was measured.
        now_began_ns: when this boot began.
    """
    found: dict[str, int] = {}
    next_began_ns = now_began_ns
    for row in last_rows:
        began_ns = known.get(row.boot)
        if began_ns is None:
            began_ns = found[row.boot] = _begin(row, next_began_ns)
        next_began_ns = min(next_began_ns, began_ns)
    return found


def _begin(row: Row, next_began_ns: int) -> int:
    uptime_ns = _uptime_ns(row)
    latest_ns = next_began_ns - uptime_ns
    is_possible = EARLIEST_NS - uptime_ns <= row.boot_time_ns <= latest_ns + _TOLERANCE_NS
    return row.boot_time_ns if is_possible else latest_ns


def _uptime_ns(row: Row) -> int:
    """How long after the boot a row's last reading was taken; 0 where it does not say."""
    try:
        uptime_ns = int(row.body.rpartition(b" ")[2]) - row.boot_time_ns
    except ValueError:
        return 0
    return uptime_ns if 0 <= uptime_ns <= _LONGEST_UPTIME_NS else 0
