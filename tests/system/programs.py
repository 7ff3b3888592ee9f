"""Real programs for the system tests: started on loopback ports, ended by their own id."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from farmhand_collector.wire import FarmState
from farmhand_tui.client import Client, CollectorUnreachable

FARMHAND = [sys.executable, "-m", "farmhand_tui.cli"]
COLLECTOR = [sys.executable, "-m", "farmhand_collector.cli"]
AGENT = [sys.executable, "-m", "farmhand_agent.cli"]

TOKEN = "a-token-for-tests"


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something to become true; fail with what it was."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


class Collector:
    """A collector process on a loopback port, whose data outlives it."""

    def __init__(self, directory: Path, **config: Any) -> None:
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        token_file = directory / "token"
        token_file.write_text(TOKEN)
        listen = {"port": self.port, "write_token_file": str(token_file)}
        content = {"data_dir": str(directory / "data"), "listen": listen, **config}
        self.config = directory / "collector.json"
        self.config.write_text(json.dumps(content))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [*COLLECTOR, "run", "--config", str(self.config)]
        with (self.directory / "collector.log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log)
        wait_until(self._answers, 30, "the collector answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "collector.log").read_text()
        try:
            self.status()
        except CollectorUnreachable:
            return False
        return True

    def status(self) -> FarmState:
        """The whole farm, as it says it now."""
        client = Client(self.url, TOKEN)
        try:
            return client.status()
        finally:
            client.close()

    def stop(self) -> None:
        """End it as systemd would; it must do so by itself."""
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(30) == 0
            self.process = None

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def export(self) -> list[str]:
        """Every reading that it holds, as line protocol in order of arrival."""
        command = [*COLLECTOR, "export", "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()


@contextmanager
def running(collector: Collector) -> Iterator[Collector]:
    """A collector that runs while the block does."""
    collector.start()
    try:
        yield collector
    finally:
        collector.kill()
