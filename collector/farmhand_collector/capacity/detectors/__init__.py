"""One file per detector; each holds a `DETECTOR`. A new file here is a new detector."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from farmhand_collector.capacity.detector import Detector


@cache
def all_detectors() -> tuple[Detector, ...]:
    """Every detector, the one whose finding explains the others first."""
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    detectors: list[Detector] = [module.DETECTOR for module in modules]
    return tuple(sorted(detectors, key=lambda detector: (detector.precedence, detector.name)))
