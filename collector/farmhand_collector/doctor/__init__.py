"""One file per check; each holds a `CHECK`. A new file here is a new check."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from farmhand_collector.examination import Check


@cache
def all_checks() -> tuple[Check, ...]:
    """Every check, in the order of their ids."""
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    checks: list[Check] = [module.CHECK for module in modules]
    return tuple(sorted(checks, key=lambda check: check.id))
