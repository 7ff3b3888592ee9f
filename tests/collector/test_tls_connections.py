"""What asyncio gives a TLS connection, and that our bounds hold for it."""

import asyncio
import asyncio.constants
import asyncio.sslproto
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farmhand_collector import tls_connections
from farmhand_collector.certificates import Folder, Server, make_authority


@pytest.fixture
def context(tmp_path: Path) -> Iterator[ssl.SSLContext]:
    """A server's; what was changed in asyncio is as before afterwards."""
    before = (asyncio.constants.SSL_HANDSHAKE_TIMEOUT, asyncio.sslproto.SSLProtocol.max_size)
    folder = Folder(tmp_path)
    make_authority(folder, "cellar", time.time())
    yield Server(folder, lambda: ["127.0.0.1"]).context
    asyncio.constants.SSL_HANDSHAKE_TIMEOUT = before[0]
    asyncio.sslproto.SSLProtocol.max_size = before[1]


def test_who_does_not_shake_hands_is_closed(context: ssl.SSLContext) -> None:
    """A silent connection would be held for a minute, and nobody counts it."""
    tls_connections.bound(handshake_seconds=0.2)

    async def silent() -> bytes:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            try:
                return await asyncio.wait_for(reader.read(), 20)
            finally:
                writer.close()

    assert asyncio.run(silent()) == b""


def test_a_connection_takes_little_memory_and_carries_large_posts(context: ssl.SSLContext) -> None:
    """Its buffer is what our bound says, and a body of many times that size gets through."""
    tls_connections.bound()
    size = 40 * tls_connections.BUFFER_BYTES
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE

    async def posted() -> tuple[int, int]:
        seen: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            body = await reader.readexactly(size)
            protocol = writer.transport._ssl_protocol  # type: ignore[attr-defined]
            seen.set_result((len(body), len(protocol._ssl_buffer)))
            writer.close()

        async with await asyncio.start_server(take, "127.0.0.1", 0, ssl=context) as server:
            address = server.sockets[0].getsockname()
            await asyncio.to_thread(_send, address, trusting, size)
            return await asyncio.wait_for(seen, 20)

    assert asyncio.run(posted()) == (size, tls_connections.BUFFER_BYTES)


def _send(address: tuple[str, int], context: ssl.SSLContext, size: int) -> None:
    with socket.create_connection(address) as plain, context.wrap_socket(plain) as shaken:
        shaken.sendall(b"x" * size)
        shaken.recv(1)
