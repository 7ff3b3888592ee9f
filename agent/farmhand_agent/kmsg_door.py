"""Lends the kernel log: opens it and hands the descriptor to whoever connected, then ends.

Opening `/dev/kmsg` takes a capability that the agent does not have; reading an open one takes
none. systemd starts this for each connection (`Accept=yes`, `StandardInput=socket`), and who may
connect is decided by the socket's owner and mode. It loads nothing that it does not need.
"""

import os
import socket
import sys

KMSG = "/dev/kmsg"


def lend(connection: socket.socket, path: str = KMSG) -> None:
    """Send a read-only, non-blocking descriptor of the log over a Unix stream connection.

    Raises:
        OSError: the log cannot be opened, or the other end is gone.
    """
    log = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        socket.send_fds(connection, [b"k"], [log])
    finally:
        os.close(log)


def main() -> int:
    """Serve the connection on standard input; what goes wrong is one line on stderr."""
    try:
        connection = socket.socket(fileno=os.dup(0))
        if connection.family != socket.AF_UNIX:
            raise OSError(f"family {connection.family}")
    except OSError as error:
        why = error.strerror or error
        _say(f"standard input: expected a Unix socket, as systemd gives it ({why})")
        return os.EX_CONFIG
    try:
        with connection:
            lend(connection)
    except OSError as error:
        _say(f"cannot lend {KMSG}: {error.strerror}")
        return 1
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"farmhand-kmsg-door: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
