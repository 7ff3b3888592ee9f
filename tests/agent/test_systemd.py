"""What is told to systemd."""

import socket
from pathlib import Path

import pytest

from farmhand_agent import systemd


def test_a_state_reaches_the_socket_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one datagram."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        systemd.notify("READY=1")
        assert manager.recv(64) == b"READY=1"


def test_a_state_reaches_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that begins with @ is in no directory."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # the kernel picks an abstract name
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + manager.getsockname()[1:].decode())
        systemd.notify("WATCHDOG=1")
        assert manager.recv(64) == b"WATCHDOG=1"


def test_a_socket_that_is_gone_does_not_end_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cards are read whether somebody listens or not."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    systemd.notify("READY=1")


def test_without_systemd_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal there is nobody to tell."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.notify("READY=1")
