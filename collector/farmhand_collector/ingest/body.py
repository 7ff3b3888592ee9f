"""From the bytes on the wire to readings, within bounds at each step."""

import asyncio
import zlib
from collections.abc import Iterator
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request

from farmhand_agent.reading import LineError, Reading, parse_lines
from farmhand_collector.ingest.limits import Limits
from farmhand_collector.ingest.refusal import RefusalError, malformed, too_large

_GZIP = 31
"""Window bits of zlib that accept the gzip format alone."""


def coding(request: Request) -> str:
    """How the body is encoded: `gzip` or `identity`.

    Raises:
        RefusalError: otherwise, or more than once.
    """
    named = request.headers.get("Content-Encoding", "identity").strip().lower()
    if named not in ("identity", "gzip"):
        raise RefusalError(
            "encoding",
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"content encoding {named!r}, expected gzip or none",
            {"Accept-Encoding": "gzip"},
        )
    return named


async def receive(request: Request, limits: Limits) -> bytes:
    """The body as it came.

    Raises:
        RefusalError: it is too large, too slow, or did not come whole.
    """
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await _read(request, limits.wire_bytes)
    except TimeoutError:
        raise RefusalError(
            "slow",
            HTTPStatus.REQUEST_TIMEOUT,
            f"no whole body within {limits.body_seconds:g} s",
            {"Connection": "close"},
        ) from None
    except ClientDisconnect:
        raise RefusalError("disconnected", HTTPStatus.BAD_REQUEST, "no whole body") from None


async def _read(request: Request, most: int) -> bytes:
    announced = request.headers.get("Content-Length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > most):
        raise too_large(f"body of {announced[:18]} bytes, expected at most {most}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise too_large(f"body of more than {most} bytes")
    return bytes(body)


def inflate(body: bytes, coding: str, limits: Limits) -> bytes:
    """The text of a body.

    Raises:
        RefusalError: it is not one whole member of gzip, or would be too large; no more than is
            allowed has been inflated by then.
    """
    if coding != "gzip":
        return body
    most = limits.inflated_bytes
    inflater = zlib.decompressobj(_GZIP)
    try:
        text = inflater.decompress(body, most + 1)
    except zlib.error as error:
        raise malformed(f"gzip: {error}") from None
    if len(text) > most:
        raise too_large(f"body inflates to more than {most} bytes")
    if not inflater.eof or inflater.unused_data:
        raise malformed("gzip: expected one whole member")
    return text


def parse(text: bytes, limits: Limits) -> Iterator[Reading]:
    """Readings of a text, one by one.

    Raises:
        RefusalError: it has too many lines, is not UTF-8, or a line is not a reading, which
            includes control characters: they are refused, since to clean them away could make
            the names of two cards one.
    """
    if text.count(b"\n") > limits.lines:
        raise too_large(f"more than {limits.lines} lines")
    try:
        yield from parse_lines(text.decode())
    except UnicodeDecodeError as error:
        raise malformed(f"byte {error.start}: expected UTF-8") from None
    except LineError as error:
        raise malformed(str(error)) from None
