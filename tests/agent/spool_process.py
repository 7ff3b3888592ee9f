"""A spool in a process of its own, that can be killed and started again in an instant.

The program forks a life and answers requests, one JSON object a line, until the life is killed;
the next request meets a new life. What a request does is in `_Life`.
"""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from farmhand_agent.spool import Spool

_KILLED = b"killed\n"
_LINE = re.compile(r"card n=([0-9]+) ([0-9]+) (x*)")


def line(number: int, width: int) -> str:
    """A line that says whether it is whole."""
    return f"card n={number} {width} {'x' * width}"


def number(text: str) -> int:
    """The number of a line.

    Raises:
        ValueError: it is not as it was made.
    """
    match = _LINE.fullmatch(text)
    if match is None or len(match[3]) != int(match[2]):
        raise ValueError(f"{text[:80]!r} was never put")
    return int(match[1])


class Killed(Exception):
    """The life died of the request."""


class SpoolProcess:
    """The process, seen from the test."""

    def __init__(self, path: Path, environment: dict[str, str]) -> None:
        python_path = os.pathsep.join(sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | {"PYTHONPATH": python_path},
        )

    def ask(self, what: str, **arguments: Any) -> Any:
        """What a life says to a request.

        Raises:
            Killed: it died of it.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        request = json.dumps({"what": what, "arguments": arguments})
        self._process.stdin.write(f"{request}\n".encode())
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process is gone"
        if answer == _KILLED:
            raise Killed
        return json.loads(answer)

    def close(self) -> None:
        """End it."""
        with self._process:
            pass


class _Life:
    """One life of the spool's process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boot_time_ns = 0
        self._monotonic = 0.0
        self._spool: Spool | None = None

    def open(self, cap_bytes: int, boot: str) -> None:
        self._spool = Spool(
            self._path,
            cap_bytes,
            boot=boot,
            boot_time=lambda: self._boot_time_ns,
            monotonic=lambda: self._monotonic,
        )

    @property
    def spool(self) -> Spool:
        assert self._spool is not None
        return self._spool

    def set_clocks(self, boot_time_ns: int, monotonic: float) -> None:
        self._boot_time_ns, self._monotonic = boot_time_ns, monotonic

    def put(self, numbers: list[int], width: int) -> None:
        self.spool.put([line(number, width) for number in numbers])

    def batches(self, **limits: int) -> list[tuple[int, list[int], str, int]]:
        return [
            (batch.id, _numbers(batch.body), batch.boot, batch.boot_time_ns)
            for batch in self.spool.batches(**limits)
        ]

    def ack(self, ids: list[int], refused_points: int) -> None:
        self.spool.ack(ids, refused_points)

    def learn_boot(self, began_ns: int) -> None:
        self.spool.learn_boot(began_ns)

    def begins(self, boots: list[str]) -> dict[str, int | None]:
        return {boot: self.spool.boot_began_ns(boot) for boot in boots}

    def state(self) -> dict[str, Any]:
        batches = self.spool.batches(max_bytes=2**40, max_points=2**40)
        return {
            "numbers": [number for batch in batches for number in _numbers(batch.body)],
            # Counted after the reading, which drops what it finds damaged.
            "points": self.spool.points,
            "bytes": self.spool.bytes,
            "body_bytes": sum(len(batch.body) for batch in batches),
            "dropped": self.spool.dropped_points_total,
            "degraded": self.spool.degraded,
            "is_open": self.spool._disk is not None,
            "quarantined": self.spool.quarantined_total,
            "last_id": self.spool.last_id,
        }

    def close(self) -> None:
        self.spool.close()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def _numbers(body: bytes) -> list[int]:
    return [number(text) for text in body.decode().split("\n")]


def _serve(path: Path) -> None:
    life = _Life(path)
    while request := _request():
        answer = getattr(life, request["what"])(**request["arguments"])
        os.write(1, f"{json.dumps(answer)}\n".encode())


def _request() -> Any:
    """Read a byte at a time: what comes after belongs to the next life."""
    text = b""
    while not text.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return None
        text += byte
    return json.loads(text)


def _main() -> None:
    logging.disable()
    while True:
        child = os.fork()
        if child == 0:
            _serve(Path(sys.argv[1]))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status))
        os.write(1, _KILLED)


if __name__ == "__main__":
    _main()
