"""What was judged live is judged the same from a recording."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import urllib3

from farmhand_agent.reading import Reading, to_line
from farmhand_collector.simulator import Farm
from tests.system.programs import COLLECTOR, TOKEN, Collector, running, wait_until

pytestmark = pytest.mark.system

FAULTS = "lost,unreadable,link_width,thermal,hardware_throttle,memory_clock"
SPAN_SECONDS = 3600.0


def post(url: str, lines: list[str]) -> None:
    """Send lines as an agent would; they must all be accepted."""
    answer = urllib3.request(
        "POST",
        f"{url}/api/v2/write?org=o&bucket=b&precision=ns",
        body="\n".join(lines).encode(),
        headers={"Authorization": f"Token {TOKEN}"},
    )
    assert answer.status == 204, answer.data


def judged(recording: Path, *options: str) -> str:
    """What `farmhand-collector judge` prints; its status tells of the faults."""
    command = [*COLLECTOR, "judge", *options, str(recording)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    return done.stdout


def test_replay_gives_the_verdicts_that_the_live_collector_gave(tmp_path: Path) -> None:
    """An hour with six faults, a node's outage, its late backlog and lines sent twice.

    The collector is killed and started again in the middle of it.
    """
    now = time.time()
    farm = Farm(32, 11, FAULTS, now - SPAN_SECONDS, duplicates=0.02)
    assert len(farm.planted) == 6
    host = next(card.host for card in reversed(farm.planted))
    farm.outage(host, now - 2400, now - 1800)
    simulated = {"seed": 11, "planted": []}
    collector = Collector(tmp_path, simulated=simulated)

    with running(collector):
        batches = [batch.lines() for batch in farm.readings(now - 5)]
        for number, lines in enumerate(batches):
            if number == len(batches) // 2:
                collector.kill()
                collector.start()
            post(collector.url, lines)
        # Time passes: a word from the farm that closes the frames of the last readings.
        pulse = Reading("collector", {"site": "shed"}, {"ticks_total": 1.0}, int((now + 60) * 1e9))
        post(collector.url, [to_line(pulse)])
        last_frame = (now - 5) // 30 * 30 + 30
        wait_until(lambda: (collector.status().time or 0) >= last_frame, 240, "all is judged")
        live = msgspec.to_builtins(collector.status())
        told = changes(collector)
        recording = tmp_path / "recording.lp"
        recording.write_text("\n".join(collector.export()) + "\n")

    replayed = json.loads(judged(recording, "--json"))
    replayed_changes = [json.loads(line) for line in judged(recording, "--changes").splitlines()]

    assert replayed["cards"] == live["cards"]
    assert replayed["findings"] == live["findings"]
    assert [c for c in replayed_changes if c["time"] <= live["time"]] == told
    assert {card["state"] for card in live["cards"]} >= {"ok", "lost", "failing", "degraded"}


def changes(collector: Collector) -> list[dict[str, Any]]:
    """Every change of verdict that the collector wrote, oldest first."""
    from farmhand_collector.ledger import Ledger

    ledger = Ledger(Path(collector.directory) / "data" / "farm.sqlite")
    try:
        return [change._asdict() for change in reversed(ledger.changes(limit=100_000))]
    finally:
        ledger.close()
