"""One file per thing read. A vendor's file is imported only inside its reader child."""

from collections.abc import Callable, Mapping
from pathlib import Path

from farmhand_agent.sources.base import CardSource, OnCall, Tell


def _nvidia(on_call: OnCall, tell: Tell | None, sysfs: Path) -> CardSource:
    from farmhand_agent.sources.nvidia.source import NvidiaSource

    return NvidiaSource(on_call, tell, sysfs)


Make = Callable[[OnCall, Tell | None, Path], CardSource]
"""Makes a source that tells of its calls and, where it is wanted, of events."""


def vendors() -> Mapping[str, Make]:
    """How to make the source of each vendor; adding one is a file here and a line below."""
    return {"nvidia": _nvidia}
