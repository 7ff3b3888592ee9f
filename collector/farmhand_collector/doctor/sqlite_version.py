"""Whether SQLite is free of the defect that loses commits."""

import apsw

from farmhand_collector.examination import Check, Level, Result, Setup
from farmhand_collector.store.base import StoreError
from farmhand_collector.store.day_file import require_sqlite


def _examine(setup: Setup) -> Result:
    del setup
    try:
        require_sqlite()
    except StoreError as error:
        remedy = "Install apsw as requirements.lock has it: older SQLite may lose commits."
        return Result(Level.BAD, str(error), remedy)
    return Result(Level.OK, f"SQLite {apsw.sqlite_lib_version()}")


CHECK = Check("sqlite", "Version of SQLite", _examine)
