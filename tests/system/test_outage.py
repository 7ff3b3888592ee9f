"""An agent on the stand-in driver and a real collector that goes away for a minute."""

import json
import subprocess
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from farmhand_agent.reading import parse_line
from tests import standin
from tests.standin.captures import farm_state
from tests.system.programs import AGENT, Collector, running, wait_until

pytestmark = pytest.mark.system

INTERVAL_SECONDS = 1.0
OUTAGE_SECONDS = 60.0
MODELS = ["RTX 3090", "RTX 3080", "T4", "H100"]


def times_by_slot(collector: Collector) -> dict[str, list[float]]:
    """Times of each card's readings as the collector holds them, in seconds."""
    times: dict[str, list[float]] = defaultdict(list)
    for reading in map(parse_line, collector.export()):
        if reading.measurement == "card":
            times[reading.tags["slot"]].append(reading.time_ns / 1e9)
    return {slot: sorted(found) for slot, found in times.items()}


def test_an_agent_keeps_its_readings_while_the_collector_is_away(tmp_path: Path) -> None:
    """After a minute's outage every interval of every card is there, once."""
    library, state = standin.build(tmp_path), tmp_path / "nvml.state"
    farm_state(state, MODELS).write()
    collector = Collector(tmp_path)
    config = tmp_path / "agent.json"
    config.write_text(
        json.dumps(
            {
                "state_dir": str(tmp_path / "agent"),
                "interval_seconds": INTERVAL_SECONDS,
                "sample_seconds": INTERVAL_SECONDS / 4,
                "ship": {"url": collector.url, "token_file": str(tmp_path / "token")},
            }
        )
    )

    with running(collector):
        environment = standin.environment(library, state)
        command = [*AGENT, "run", "--config", str(config)]
        with (tmp_path / "agent.log").open("ab") as log:
            agent = subprocess.Popen(command, env=environment, stderr=log)
        try:
            wait_until(lambda: len(times_by_slot(collector)) == len(MODELS), 30, "all cards speak")
            collector.stop()
            time.sleep(OUTAGE_SECONDS)
            collector.start()
            back = time.time()
            wait_until(
                lambda: _complete(times_by_slot(collector), back), 120, "the backlog is delivered"
            )
        finally:
            agent.terminate()
            assert agent.wait(20) == 0
        times = times_by_slot(collector)

    for found in times.values():
        gaps = [later - earlier for earlier, later in pairwise(found)]
        assert found[-1] - found[0] > OUTAGE_SECONDS
        # A busy machine may hold a window up; a reading that is missing would leave a longer hole.
        assert max(gaps) < 3 * INTERVAL_SECONDS
        assert min(gaps) > 0


def _complete(times: dict[str, list[float]], since: float) -> bool:
    """Whether each card has a reading of now and no hole before it."""
    return all(
        found[-1] > since and len(found) >= (found[-1] - found[0]) / INTERVAL_SECONDS * 0.95
        for found in times.values()
    )
