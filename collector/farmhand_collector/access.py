"""Who may write and who may read: what a request's token grants."""

import hashlib
import hmac
from typing import NamedTuple, Protocol

_SCHEMES = ("token", "bearer")


class Grant(NamedTuple):
    """What a token allows.

    `name` is for logs and counters. `host` is the only host whose readings may be written with it,
    None for any.
    """

    name: str
    host: str | None = None


class Access(Protocol):
    """Knows the tokens of one scope. Safe to use from any thread."""

    def grant(self, authorization: str) -> Grant | None:
        """What the value of an Authorization header grants; None when it grants nothing."""


class Anyone:
    """Asks for no token."""

    def grant(self, authorization: str) -> Grant | None:
        """Everything, to everyone."""
        del authorization
        return Grant("anyone")


def of_token(token: str | None) -> Access:
    """Access by one token, or by none where none is wanted."""
    return Anyone() if token is None else OneToken(token)


class OneToken:
    """One token that all share."""

    def __init__(self, token: str) -> None:
        """Know a token by its digest."""
        self._digest = digest(token.encode())

    def grant(self, authorization: str) -> Grant | None:
        """Everything, to whoever shows the token."""
        matches = hmac.compare_digest(digest(shown(authorization)), self._digest)
        return Grant("shared") if matches and authorization else None


def shown(authorization: str) -> bytes:
    """The token in an Authorization header, empty where its scheme is none of ours."""
    scheme, _, token = authorization.partition(" ")
    return token.strip().encode("latin-1", "replace") if scheme.lower() in _SCHEMES else b""


def digest(token: bytes) -> bytes:
    """What is kept of a token: random ones of full length need no slow hash."""
    return hashlib.sha256(token).digest()
