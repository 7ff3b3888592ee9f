"""The door that lends the kernel log."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from farmhand_agent.kmsg_door import lend
from farmhand_agent.sources.kernel.kmsg import KmsgLog
from farmhand_agent.sources.kernel.record import Position
from tests.agent.kernel import HAS_REAL_LOG

DOOR = [sys.executable, "-P", "-m", "farmhand_agent.kmsg_door"]


@pytest.mark.skipif(not HAS_REAL_LOG, reason="needs the real log")
def test_the_door_lends_the_log_on_its_standard_input() -> None:
    """As systemd starts it: the connection is its standard input. It is silent, and ends."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        done = subprocess.run(DOOR, stdin=theirs.fileno(), capture_output=True, check=False)
        _, fds, _, _ = socket.recv_fds(mine, 1, 1)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    log = KmsgLog(fds[0], "lent", Position(), lambda _: True)
    assert log.read().records
    log.close()


def test_a_log_that_cannot_be_opened_lends_nothing(tmp_path: Path) -> None:
    """The other end hears that by the end of the connection."""
    mine, theirs = socket.socketpair()
    with mine:
        with theirs, pytest.raises(FileNotFoundError):
            lend(theirs, str(tmp_path / "missing"))
        assert socket.recv_fds(mine, 1, 1)[1] == []


def test_what_is_lent_can_only_be_read(tmp_path: Path) -> None:
    """And does not block whoever reads it."""
    (tmp_path / "log").write_text("text")
    mine, theirs = socket.socketpair()
    with mine, theirs:
        lend(theirs, str(tmp_path / "log"))
        _, (fd,), _, _ = socket.recv_fds(mine, 1, 1)
    assert os.read(fd, 10) == b"text"
    assert not os.get_blocking(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fd, b"text")
    os.close(fd)


def test_started_by_hand_it_says_what_is_missing() -> None:
    """In one line."""
    done = subprocess.run(DOOR, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 78
    assert done.stdout == b""
    assert done.stderr.startswith(b"farmhand-kmsg-door: standard input: expected a Unix socket")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.skipif(not HAS_REAL_LOG, reason="needs the real log")
def test_whoever_has_gone_gets_one_line() -> None:
    """Not a trace: the door runs with a capability, its output is in the journal."""
    mine, theirs = socket.socketpair()
    mine.close()
    with theirs:
        done = subprocess.run(DOOR, stdin=theirs.fileno(), capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr == b"farmhand-kmsg-door: cannot lend /dev/kmsg: Broken pipe\n"


def test_the_door_loads_nothing_but_the_standard_library() -> None:
    """What has a capability should be small."""
    script = "import sys, farmhand_agent.kmsg_door; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    others = {"msgspec", "psutil", "influxdb_client", "apscheduler", "logging", "asyncio"}
    assert not others & set(done.stdout.split())
