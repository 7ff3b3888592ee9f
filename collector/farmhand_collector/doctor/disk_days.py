"""When the data's disk is full, if readings go on as they do."""

import psutil

from farmhand_collector.examination import CannotTell, Check, Level, Result, Setup
from farmhand_collector.store.day_file import DAY_NS, bytes_of, day_of, day_path, days_in

BAD_DAYS = 3.0
WARNING_DAYS = 14.0
LEAST_SECONDS = 600.0
"""Of readings; a rate of less says nothing."""


def _examine(setup: Setup) -> Result:
    directory, keep = setup.day_files, setup.config.keep
    rate = _bytes_per_day(setup)
    now = sum(bytes_of(day_path(directory, day)) for day in days_in(directory))
    settles = min(keep.days * rate, keep.disk_bytes)
    free = psutil.disk_usage(str(directory)).free
    seen = f"{rate / 1e9:.2f} GB of readings a day"
    if settles - now <= free:
        return Result(Level.OK, f"{seen}, settling at {settles / 1e9:.1f} GB, which has room")
    days = free / rate
    level = Level.BAD if days < BAD_DAYS else Level.WARNING if days < WARNING_DAYS else Level.OK
    remedy = "Lower keep.days or keep.disk_bytes below what the disk has, or give it more room."
    return Result(level, f"{seen}: the disk is full in {days:.1f} days", remedy)


def _bytes_per_day(setup: Setup) -> float:
    """What the last whole day took; of a young store, what today has taken by the hour."""
    directory, today = setup.day_files, day_of(int(setup.now * 1e9))
    if today - 1 in days_in(directory) and today - 2 in days_in(directory):
        return float(bytes_of(day_path(directory, today - 1)))
    since = (today - 1) * DAY_NS
    told = setup.readings.between("agent", since, int(setup.now * 1e9), None, ("schema",))
    seconds = float(told.time_ns.max() - told.time_ns.min()) / 1e9 if len(told.time_ns) else 0.0
    if seconds < LEAST_SECONDS:
        raise CannotTell("too few readings yet to tell their rate", "Ask again in 10 min.")
    taken = sum(bytes_of(day_path(directory, day)) for day in (today - 1, today))
    return taken * 86_400 / seconds


CHECK = Check("disk-days", "Days until the disk is full", _examine)
