"""Whether the data's disk has room."""

import psutil

from farmhand_collector.examination import Check, Level, Result, Setup

BAD_BYTES = 2**30
WARNING_BYTES = 5 * 2**30
"""About a day of 1,000 cards (321 B a row, a row each 10 s, is 2.8 GB)."""
_REMEDY = "Make room on this disk, or lower keep.days and keep.disk_bytes."


def _examine(setup: Setup) -> Result:
    disk = psutil.disk_usage(str(setup.data_dir))
    seen = f"{disk.free / 2**30:.1f} GiB of {disk.total / 2**30:.1f} GiB free at {setup.data_dir}"
    if disk.free < BAD_BYTES:
        return Result(Level.BAD, seen, _REMEDY)
    return (
        Result(Level.WARNING, seen, _REMEDY)
        if disk.free < WARNING_BYTES
        else Result(Level.OK, seen)
    )


CHECK = Check("disk-space", "Room on the disk", _examine)
