"""One file per thing read. A vendor's file is imported only inside its reader child."""

from collections.abc import Callable, Mapping
from pathlib import Path

from farmhand_agent.sources.base import CardSource, OnCall


def _nvidia(on_call: OnCall, sysfs: Path) -> CardSource:
    from farmhand_agent.sources.nvidia.source import NvidiaSource

    return NvidiaSource(on_call, sysfs)


def vendors() -> Mapping[str, Callable[[OnCall, Path], CardSource]]:
    """How to make the source of each vendor; adding one is a file here and a line below."""
    return {"nvidia": _nvidia}
