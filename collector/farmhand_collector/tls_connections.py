"""What a TLS connection may take before and while it is one; asyncio is generous with both.

A connection that has not shaken hands is not seen by `http_server` yet. These are insides of
asyncio that no argument of uvicorn reaches; `tests/collector/test_tls_connections.py` pins them.
Measured over 300 idle connections: 57 KiB each, 277 KiB with what asyncio takes by itself.
"""

import asyncio.constants
import asyncio.sslproto

HANDSHAKE_SECONDS = 10.0
"""As long as a header may take; asyncio's own is 60 s."""
BUFFER_BYTES = 32 * 1024
"""What asyncio reads at once, and takes from memory for each connection, idle or not: 256 KiB by
default. A TLS record has 16 KiB at most (RFC 8446, 5.1)."""


def bound(handshake_seconds: float = HANDSHAKE_SECONDS) -> None:
    """Bound all TLS connections that this process makes from now on."""
    asyncio.constants.SSL_HANDSHAKE_TIMEOUT = handshake_seconds
    asyncio.sslproto.SSLProtocol.max_size = BUFFER_BYTES
