"""An agent that runs for long while cards sicken and recover: it must not grow.

`FARMHAND_SOAK_SECONDS` says for how long, two minutes where it is not set.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
import pytest

from tests import standin
from tests.standin import Entries
from tests.standin.fixtures import nvml_library
from tests.system.farm_node import CARDS, Node, hurried, node_in
from tests.system.programs import wait_until

__all__ = ["nvml_library"]

pytestmark = pytest.mark.system

SECONDS = float(os.environ.get("FARMHAND_SOAK_SECONDS", "120"))
INTERVAL_SECONDS = 0.5
REJOIN_SECONDS = 1.5

SICKNESSES: Sequence[tuple[Entries, str]] = (
    ({"utilization": standin.CRASH}, "unreadable"),
    ({"card": standin.LOST}, "lost"),
    ({"utilization": standin.HANG}, "unreadable"),
    ({"card": standin.error(999)}, "unreadable"),
    ({"delay_ms": 300}, "unreadable"),
)
"""What happens to a card, and the state in which it is seen."""
WARM_UP_ROUNDS = 3
FEWEST_ROUNDS = 6

GROWTH_RATIO = 1.03
"""Most that memory may grow between the first and the last third: what an allocator keeps."""
SHARED_GROWTH_RATIO = 1.10
"""Likewise for PSS, which also grows when another program that shares a library's pages ends."""
GROWTH_COUNT = 1
"""Most that threads and descriptors may: one connection more or less is open at a moment."""


class Use(NamedTuple):
    """What the agent and its readers hold together."""

    pss_bytes: float
    rss_bytes: float
    own_bytes: float
    """Of RSS what no file is behind."""
    threads: float
    descriptors: float

    @classmethod
    def of(cls, agent: int) -> "Use":
        """What a process and its children hold now."""
        process = psutil.Process(agent)
        family = [process, *process.children()]
        memory = [one.memory_full_info() for one in family]
        return cls(
            sum(one.pss for one in memory),
            sum(one.rss for one in memory),
            sum(one.rss - one.shared for one in memory),
            sum(one.num_threads() for one in family),
            sum(one.num_fds() for one in family),
        )

    @classmethod
    def median(cls, uses: Sequence["Use"]) -> "Use":
        """Median of each."""
        return cls(*(median(column) for column in zip(*uses, strict=True)))

    def __str__(self) -> str:
        return (
            f"{self.pss_bytes / 2**20:.2f} MiB PSS, {self.rss_bytes / 2**20:.2f} MiB RSS, "
            f"{self.own_bytes / 2**20:.2f} MiB of it its own, "
            f"{self.threads:g} threads, {self.descriptors:g} descriptors"
        )


@pytest.fixture
def node(nvml_library: Path, tmp_path: Path) -> Iterator[Node]:
    """A node with a fast agent that lets cards join the others soon."""
    pace = {"interval_seconds": INTERVAL_SECONDS, "sample_seconds": 0.1}
    with node_in(tmp_path, nvml_library, hurried(REJOIN_SECONDS), **pace) as made:
        made.start()
        yield made


def sicken_and_recover(node: Node, number: int, sickness: Entries, state: str) -> None:
    """One card goes through a sickness, until one reader reads all cards again."""
    healthy = dict(node.farm.cards[number])
    node.farm.change(number, **sickness)
    node.wait_for(number, state, 2)
    node.farm.cards[number] = healthy
    node.farm.write()
    node.wait_for(number, "ok")
    wait_until(lambda: [p.chosen for p in node.readers()] == [""], 60, "the card joins the others")
    node.wait_for_each(CARDS, "ok", 2)


def test_an_agent_does_not_grow(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither its memory nor its threads and descriptors, however many readers came and went."""
    end = time.monotonic() + SECONDS
    uses: list[Use] = []
    rounds = 0
    for number, (sickness, state) in zip(cycle(CARDS), cycle(SICKNESSES), strict=False):
        sicken_and_recover(node, number, sickness, state)
        node.forget()
        rounds += 1
        if rounds > WARM_UP_ROUNDS:
            uses.append(Use.of(node.agent.pid))
        if time.monotonic() > end and len(uses) >= FEWEST_ROUNDS:
            break
    node.stop()

    third = len(uses) // 3
    first, last = Use.median(uses[:third]), Use.median(uses[-third:])
    with capsys.disabled():
        sys.stdout.write(f"\n{rounds} sicknesses\n  first third: {first}\n  last third:  {last}\n")
    assert "Traceback" not in node.log()
    assert last.own_bytes <= first.own_bytes * GROWTH_RATIO
    assert last.rss_bytes <= first.rss_bytes * GROWTH_RATIO
    assert last.pss_bytes <= first.pss_bytes * SHARED_GROWTH_RATIO
    assert last.threads <= first.threads + GROWTH_COUNT
    assert last.descriptors <= first.descriptors + GROWTH_COUNT
