"""Whether the store of readings can be read, and takes in new ones."""

from pathlib import Path

from farmhand_collector.examination import Check, Level, Result, Setup
from farmhand_collector.store.base import StoreError
from farmhand_collector.store.day_file import DAY_NS, corrupt_files, days_in

SILENT_SECONDS = 300.0


def _examine(setup: Setup) -> Result:
    try:
        newest = _newest(setup)
    except StoreError as error:
        remedy = "Restart the collector, which sets a damaged file aside; check the disk (dmesg)."
        return Result(Level.BAD, str(error), remedy)
    seen, damaged = _files(setup)
    if damaged:
        remedy = "Check the disk (smartctl, dmesg), then remove the files set aside."
        aside = f"{seen}, {len(damaged)} damaged files set aside, {damaged[-1][1].name} the last"
        return Result(Level.WARNING, aside, remedy)
    if newest is None or setup.now - newest > SILENT_SECONDS:
        remedy = "Look at the agents and at what the collector's log says of refused posts."
        return Result(Level.WARNING, f"{seen}, none in the last 5 min", remedy)
    return Result(Level.OK, f"{seen}, the newest {max(setup.now - newest, 0):.0f} s old")


def _files(setup: Setup) -> tuple[str, list[tuple[int, Path]]]:
    """What there is in words, and the files set aside; a server's are its own affair."""
    if setup.config.store.kind != "embedded":
        return f"readings in {setup.config.store.kind}", []
    directory = setup.day_files
    return f"{len(days_in(directory))} days of readings", corrupt_files(directory)


def _newest(setup: Setup) -> float | None:
    """Time of the newest word of any host in the last hours, in seconds since 1970."""
    blocks = [
        setup.readings.latest(name, fields=(), since_ns=int(setup.now * 1e9) - DAY_NS // 4)
        for name in ("agent", "host")
    ]
    return max((int(b.time_ns.max()) / 1e9 for b in blocks if len(b.time_ns)), default=None)


CHECK = Check("store", "Readings are kept", _examine)
