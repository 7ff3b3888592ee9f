"""Whether the collector's configuration can be used."""

from farmhand_collector.examination import Check, Level, Result, Setup


def _examine(setup: Setup) -> Result:
    if setup.error:
        return Result(Level.BAD, setup.error, "Correct the key that is named in the file.")
    return Result(Level.OK, f"{setup.path or setup.config.data_dir} is good")


CHECK = Check("configuration", "Configuration of the collector", _examine)
