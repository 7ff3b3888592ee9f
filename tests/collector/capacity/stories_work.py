"""Stories of slow work."""

from collections.abc import Mapping

from farmhand_collector.capacity.frame import Frame
from tests.collector.capacity.farm import SICK, Story, at, frame, working


def slow_work() -> list[Frame]:
    """All do the same job; the sick card does a fifth less, and its sensors tell of nothing."""
    return [frame(0, work=working(100.0)), frame(1, work=working(at(SICK, 80.0, 100.0)))]


STORIES: Mapping[str, Story] = {"work_rate": slow_work}
