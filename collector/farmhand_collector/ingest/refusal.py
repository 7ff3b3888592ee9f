"""Posts that are not taken, and how InfluxDB 2 would say so."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse, Response

from farmhand_agent import __version__

VERSION_HEADERS = {"X-Influxdb-Build": "farmhand", "X-Influxdb-Version": f"farmhand-{__version__}"}
_MESSAGE_CHARACTERS = 500
_CODES = {
    HTTPStatus.BAD_REQUEST: "invalid",
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request too large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "unprocessable entity",
    HTTPStatus.TOO_MANY_REQUESTS: "too many requests",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}


class RefusalError(Exception):
    """A post that is not taken, with the answer to give."""

    def __init__(
        self,
        reason: str,
        status: HTTPStatus,
        message: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.headers = headers


def malformed(message: str) -> RefusalError:
    """A post that cannot be read."""
    return RefusalError("malformed", HTTPStatus.BAD_REQUEST, message)


def too_large(message: str) -> RefusalError:
    """A post of which there is too much; a smaller one may pass."""
    return RefusalError("too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def unavailable(reason: str, message: str, seconds: int) -> RefusalError:
    """A post that is not to blame; the same may pass after so many seconds."""
    headers = {"Retry-After": str(seconds)}
    return RefusalError(reason, HTTPStatus.SERVICE_UNAVAILABLE, message, headers)


def answer(
    status: HTTPStatus,
    message: str,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> Response:
    """An error as InfluxDB 2 words it: a code and a message, here with `more` beside."""
    code = _CODES.get(status, status.phrase.lower())
    told = _printable(message[:_MESSAGE_CHARACTERS])
    return JSONResponse({"code": code, "message": told, **(more or {})}, status, headers)


def _printable(text: str) -> str:
    """Text that can be shown and logged; it quotes what was sent, which may turn a line round."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
