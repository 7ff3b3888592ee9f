"""The tokens that the collector gave out: kept by digest, known while it runs.

A token reads `fh1_<id>_<secret>`. The secret is 256 random bits, so that one fast hash of it is all
that has to be kept: nobody can try them through. A node's token writes for that node alone.
"""

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from farmhand_agent import durable
from farmhand_agent.settings import ConfigError
from farmhand_collector.access import Access, Grant, shown

log = logging.getLogger(__name__)

SCHEMA = 1
_PREFIX = "fh1"
_SECRET_BYTES = 32
_ID_BYTES = 6
_MOST_FILE_BYTES = 16 * 2**20

MOST_PER_HOST = 2
"""Live tokens of one node: the one that it has and the one that it is to have."""
OLD_TOKEN_SECONDS = 86_400.0
"""An old token that was not shown for so long, while the new one was, is ended. A node shows its
token every few seconds, so a day without it is no gap in the network."""
USE_SAVED_SECONDS = 60.0
"""The time of use is only told and compared with a day."""


class Scope(StrEnum):
    """What a token is for."""

    WRITE = "write"
    READ = "read"
    ADMIN = "admin"
    """Whoever may change things may also read them."""


_ALLOWS = {
    Scope.WRITE: (Scope.WRITE,),
    Scope.READ: (Scope.READ, Scope.ADMIN),
    Scope.ADMIN: (Scope.ADMIN,),
}
"""Scopes of tokens that are good for a scope."""


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a token."""

    id: str
    sha256: str
    """Digest of the secret, hexadecimal."""
    scope: Scope
    created: float
    """Unix time."""
    host: str | None = None
    """The only node that may write with it; None for any."""
    rack: str = ""
    """Where the node was said to stand, for the line of its next token."""
    site: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """For logs and counters: whose it is, and which."""
        return f"{self.host or self.scope}/{self.id}"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    tokens: list[Token]


class Issued(NamedTuple):
    """A token that was just made; its text is nowhere else."""

    token: Token
    text: str


class NoSuchToken(Exception):
    """What was asked for has no token; the message is one line."""


class TooManyTokens(Exception):
    """A node has a token already; the message is one line."""


def path_in(data_dir: Path) -> Path:
    """Where a collector with this directory keeps its tokens."""
    return data_dir / "tokens.json"


# --- the file ------------------------------------------------------------------------------------


def read(path: Path) -> list[Token]:
    """The tokens in a file; none where there is no file.

    Raises:
        ConfigError: it cannot be read or is not what we wrote.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_FILE_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        kept = msgspec.json.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is damaged, expected tokens as JSON: {error}") from None
    if kept.schema != SCHEMA:
        raise ConfigError(f"{path}: schema {kept.schema}, expected {SCHEMA}")
    _check(kept.tokens, path)
    return kept.tokens


def _check(tokens: Iterable[Token], path: Path) -> None:
    seen: set[str] = set()
    for token in tokens:
        try:
            is_digest = len(bytes.fromhex(token.sha256)) == hashlib.sha256().digest_size
        except ValueError:
            is_digest = False
        if not is_digest or not token.id or token.id in seen:
            told = f"token {token.id!r}: expected an id of its own and a SHA-256 in hexadecimal"
            raise ConfigError(f"{path}: {told}")
        seen.add(token.id)


# --- changing them -------------------------------------------------------------------------------


class TokenFile:
    """Makes and ends tokens; several processes may do so at once."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Change the tokens in a file, which need not be there yet."""
        self.path = path
        self._clock = clock

    def tokens(self) -> list[Token]:
        """Those that are good now, the oldest first.

        Raises:
            ConfigError: as `read` does.
        """
        return read(self.path)

    def add(self, scope: Scope) -> Issued:
        """Make a token that is no node's.

        Raises:
            ConfigError: the file is damaged or cannot be written.
        """
        with self._changing() as tokens:
            issued = _issued(Token("", "", scope, self._clock()))
            tokens.append(issued.token)
            return issued

    def add_host(self, host: str, rack: str = "", site: str = "", note: str = "") -> Issued:
        """Make the first token of a node.

        Raises:
            TooManyTokens: the host has one.
            ConfigError: the file is damaged or cannot be written.
        """
        with self._changing() as tokens:
            if _of_host(tokens, host):
                raise TooManyTokens(f"{host} has a token already")
            issued = _issued(Token("", "", Scope.WRITE, self._clock(), host, rack, site, note))
            tokens.append(issued.token)
            return issued

    def rotate(self, host: str) -> Issued:
        """Make a new token for a node beside the one that it uses.

        Of two that are live already, the one that was used last stays: a line that never reached
        its node must not cost it the token that it has.

        Raises:
            NoSuchToken: the host has none.
            ConfigError: the file is damaged or cannot be written.
        """
        with self._changing() as tokens:
            live = _of_host(tokens, host)
            if not live:
                raise NoSuchToken(f"{host} has no token")
            used = uses(self.path)
            keeps = _last_used(live, used)
            issued = _issued(msgspec.structs.replace(keeps, created=self._clock()))
            _leave_out(tokens, (token for token in live if token is not keeps))
            tokens.append(issued.token)
            return issued

    def drop_old(self, host: str, *, even_if_new_is_unused: bool = False) -> list[Token]:
        """End all tokens of a node but the newest; returns the ended ones.

        Raises:
            NoSuchToken: the host has none, or only one.
            TooManyTokens: its newest token was not used yet, so the node may still need the other.
            ConfigError: the file is damaged or cannot be written.
        """
        with self._changing() as tokens:
            live = _of_host(tokens, host)
            if len(live) < MOST_PER_HOST:
                raise NoSuchToken(f"{host} has no old token")
            if not even_if_new_is_unused and live[-1].id not in uses(self.path):
                raise TooManyTokens(f"the new token of {host} has not been seen in use yet")
            _leave_out(tokens, live[:-1])
            return live[:-1]

    def revoke(self, host: str) -> list[Token]:
        """End all tokens of a node; returns them.

        Raises:
            NoSuchToken: it has none.
            ConfigError: the file is damaged or cannot be written.
        """
        with self._changing() as tokens:
            live = _of_host(tokens, host)
            if not live:
                raise NoSuchToken(f"{host} has no token")
            _leave_out(tokens, live)
            return live

    def end(self, ids: Iterable[str]) -> list[Token]:
        """End tokens by their ids; returns those that there were.

        Raises:
            ConfigError: the file is damaged or cannot be written.
        """
        wanted = set(ids)
        with self._changing() as tokens:
            ended = [token for token in tokens if token.id in wanted]
            _leave_out(tokens, ended)
            return ended

    def make(self) -> None:
        """Have a file, from which on tokens are asked for.

        Raises:
            ConfigError: it is damaged or cannot be written.
        """
        with self._changing():
            pass

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """The tokens for the block to change; what it leaves is on disk afterwards."""
        with _locked(self.path):
            tokens = read(self.path)
            before = list(tokens)
            yield tokens
            if tokens != before or not self.path.exists():
                self._save(tokens)

    def _save(self, tokens: list[Token]) -> None:
        content = msgspec.json.format(msgspec.json.encode(_File(SCHEMA, tokens)))
        try:
            durable.write(self.path, content + b"\n")
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written: {error.strerror}") from None


def _issued(like: Token) -> Issued:
    """A new token that is as another one in all but id and secret."""
    number = secrets.token_hex(_ID_BYTES)
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    token = msgspec.structs.replace(like, id=number, sha256=digest)
    return Issued(token, f"{_PREFIX}_{number}_{secret}")


def _of_host(tokens: Iterable[Token], host: str) -> list[Token]:
    """A node's tokens, the oldest first: new ones are put at the end."""
    return [token for token in tokens if token.host == host and token.scope is Scope.WRITE]


def _last_used(live: Sequence[Token], used: Mapping[str, float]) -> Token:
    """The newest of those used last; the oldest where none was."""
    latest = max(used.get(token.id, 0.0) for token in live)
    return next((t for t in reversed(live) if used.get(t.id) == latest), live[0])


def _leave_out(tokens: list[Token], ended: Iterable[Token]) -> None:
    ids = {token.id for token in ended}
    tokens[:] = [token for token in tokens if token.id not in ids]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile; its directory is what is locked."""
    try:
        durable.make_directory(path.parent)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path.parent}: cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# --- when they were used -------------------------------------------------------------------------


def _use_path(path: Path) -> Path:
    return path.with_name("token-use.json")


def uses(path: Path) -> dict[str, float]:
    """Unix time at which each token of a file was last shown, by id; good to about a minute.

    It is a help for the keeper: whatever is wrong with it, nothing is known of any use.
    """
    try:
        return msgspec.json.decode(_use_path(path).read_bytes(), type=dict[str, float])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


# --- asking them ---------------------------------------------------------------------------------


class _Known(NamedTuple):
    """One token as it is looked up."""

    token: Token
    digest: bytes


class Tokens:
    """The tokens of a running collector; a changed file counts from the next request on.

    Whatever happens to the file meanwhile, the tokens that were last read stay good.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Read the tokens.

        Raises:
            ConfigError: as `read` does.
        """
        self._file = TokenFile(path, clock)
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._seen = durable.identity(path)
        self._known = _by_id(read(path))
        self._used = uses(path)
        self._saved = dict(self._used)

    def access(self, scope: Scope) -> Access:
        """Who may do what a scope is for."""
        return _ScopeAccess(self, _ALLOWS[scope])

    def find(self, text: bytes) -> Token | None:
        """The token with this text; None where there is none."""
        self._follow()
        prefix, _, rest = text.partition(b"_")
        number, _, secret = rest.partition(b"_")
        known = self._known.get(number.decode("latin-1"))
        expected = known.digest if known else bytes(hashlib.sha256().digest_size)
        matches = hmac.compare_digest(hashlib.sha256(secret).digest(), expected)
        if known is None or not matches or prefix != _PREFIX.encode():
            return None
        self._used[known.token.id] = self._clock()
        return known.token

    def tend(self) -> None:
        """Save when tokens were used, and end old ones that nobody needs; called now and then."""
        self._follow()
        try:
            self._save_uses()
            self._end_unneeded()
        except (ConfigError, OSError) as error:
            log.warning("tokens: %s", error)

    def _follow(self) -> None:
        """Read the file again where it has changed."""
        if durable.identity(self._path) == self._seen:
            return
        with self._lock:
            seen = durable.identity(self._path)
            if seen == self._seen:
                return
            self._seen = seen
            try:
                if seen is None:
                    raise ConfigError(f"{self._path}: is gone")
                self._known = _by_id(read(self._path))
                log.info("%s: %d tokens are good now", self._path, len(self._known))
            except ConfigError as error:
                log.error("tokens stay as they were: %s", error)

    def _save_uses(self) -> None:
        used = {number: self._used[number] for number in self._known if number in self._used}
        if used != self._saved:
            durable.write(_use_path(self._path), msgspec.json.encode(used))
            self._saved = used

    def _end_unneeded(self) -> None:
        unneeded = self._unneeded()
        if unneeded:
            for token in self._file.end(token.id for token in unneeded):
                log.info("token %s is ended: its node uses a newer one", token.name)
            self._follow()

    def _unneeded(self) -> list[Token]:
        """Old tokens whose node has shown the newer one, and not them, for a day.

        Use before our start may not have been saved: a day counts from there on.
        """
        hosts: dict[str, list[Token]] = {}
        for known in self._known.values():
            if known.token.host is not None and known.token.scope is Scope.WRITE:
                hosts.setdefault(known.token.host, []).append(known.token)
        latest = self._clock() - OLD_TOKEN_SECONDS
        return [
            token
            for live in hosts.values()
            for token in live[:-1]
            if live[-1].id in self._used
            and max(self._used.get(token.id, 0.0), live[-1].created, self._started) < latest
        ]


def _by_id(tokens: Iterable[Token]) -> dict[str, _Known]:
    return {token.id: _Known(token, bytes.fromhex(token.sha256)) for token in tokens}


class _ScopeAccess:
    """Access by the tokens of some scopes."""

    def __init__(self, tokens: Tokens, scopes: Sequence[Scope]) -> None:
        self._tokens = tokens
        self._scopes = scopes

    def grant(self, authorization: str) -> Grant | None:
        """What a token of these scopes allows."""
        token = self._tokens.find(shown(authorization))
        if token is None or token.scope not in self._scopes:
            return None
        return Grant(token.name, token.host)


class AnyOf:
    """Access by whichever grants it first."""

    def __init__(self, accesses: Sequence[Access]) -> None:
        """Ask these in turn."""
        self._accesses = accesses

    def grant(self, authorization: str) -> Grant | None:
        """What the first one grants that grants anything."""
        grants = (access.grant(authorization) for access in self._accesses)
        return next((grant for grant in grants if grant is not None), None)
