"""Telling systemd that the service is ready, alive or stopping; silent where it is not asked."""

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send a state such as `READY=1` to the socket that systemd named, if it named one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    # A socket that nobody listens to any more is no reason to stop reading cards.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as notifier:
        notifier.connect(address)
        notifier.sendall(state.encode())
