"""Who may join a farm: what `farmhand-collector init` sets up and `farmhand agents` gives out.

It works on the collector's own files, which the running collector follows; nothing is asked of it.
"""

import ipaddress
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from farmhand_agent import settings
from farmhand_agent.command import one_line
from farmhand_agent.joining import Invitation
from farmhand_agent.settings import ConfigError
from farmhand_collector import tokens
from farmhand_collector.config import Config, has_tokens, load_unguarded, speaks_tls
from farmhand_collector.tokens import NoSuchToken, Scope, Token, TokenFile, TooManyTokens

USUAL_CONFIG = Path("/etc/farmhand/collector.toml")


class Setup(NamedTuple):
    """What `set_up` found and made."""

    url: str
    """Where agents and terminals reach the collector."""
    pin: str | None
    """Fingerprint of the authority; None where there is no TLS."""
    authority: Path | None
    """Its certificate, for terminals to trust."""
    is_new: bool
    """Whether the authority was made now."""
    names: Sequence[str]
    """What the server's certificate holds for."""
    tokens: list[tuple[Scope, str]]
    """Tokens that were made now, in full: they are told this once."""


class Agent(NamedTuple):
    """A token of a node, for a list."""

    host: str
    id: str
    created: float
    used: float | None
    """Unix time at which it was last shown, good to a minute; None for never."""
    is_newest: bool
    note: str


def usual_config() -> Path | None:
    """The collector's configuration where none is named: the system's, else defaults."""
    return USUAL_CONFIG if USUAL_CONFIG.is_file() else None


# --- init ----------------------------------------------------------------------------------------


def set_up(config: Config, *, more: Sequence[str] = ()) -> Setup:
    """Make what is missing: the authority, a server certificate, a token to read and one to manage.

    What is there stays as it is. `more` are scopes of further tokens.

    Raises:
        ConfigError: something that is there is damaged, or nothing can be written.
    """
    file = _token_file(config)
    file.make()
    there = {token.scope for token in file.tokens()}
    first = [scope for scope in (Scope.READ, Scope.ADMIN) if scope not in there]
    pin, authority, is_new, names = _certificates(config) if speaks_tls(config) else _NO_TLS
    made = [(scope, file.add(scope).text) for scope in (*first, *map(Scope, more))]
    return Setup(url(config), pin, authority, is_new, names, made)


def told_of(config: Config, setup: Setup) -> list[str]:
    """What the keeper is told of a set-up, line by line."""
    told = [f"tokens are kept in {_token_file(config).path}"]
    if setup.authority is not None:
        made = "was made" if setup.is_new else "is there already"
        told.append(f"the farm's certificate authority {made}: {setup.authority}")
        told.append(f"  SHA-256 {setup.pin}")
        told.append(f"the server's certificate holds for {', '.join(setup.names)}")
    told.append(f"nodes will reach this collector at {setup.url} (listen.names)")
    for scope, text in setup.tokens:
        told.append(f"token to {_PURPOSES[scope]}, shown this once: {text}")
    told.append("next: start the collector, then `farmhand agents add HOST` for each node")
    return told


_PURPOSES = {
    Scope.READ: "read (terminals)",
    Scope.ADMIN: "manage",
    Scope.WRITE: "write for any node",
}


def shared_tokens(config: Config) -> list[str]:
    """The tokens that are no node's, line by line.

    Raises:
        ConfigError: the file is damaged.
    """
    file = _token_file(config)
    used = tokens.uses(file.path)
    told = [
        f"{token.id}  {token.scope:<5}  made {_day(token.created)}, used {_day(used.get(token.id))}"
        for token in file.tokens()
        if token.host is None
    ]
    return told or ["no token yet"]


def end_tokens(config: Config, ids: Sequence[str]) -> list[str]:
    """End tokens by their ids; what the keeper is told of it.

    Raises:
        ConfigError: there is no such token, or the file cannot be used.
    """
    file = _token_file(config)
    missing = set(ids) - {token.id for token in file.tokens()}
    if missing:
        raise ConfigError(f"--end: no token {', '.join(sorted(missing))}, see --list")
    return [f"ended: {token.name}" for token in file.end(ids)]


def _day(at: float | None) -> str:
    return "never" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


_NO_TLS: tuple[None, None, bool, list[str]] = (None, None, False, [])


def _certificates(config: Config) -> tuple[str, Path, bool, Sequence[str]]:
    from farmhand_collector import certificates

    now = time.time()
    folder = certificates.Folder(Path(config.data_dir))
    is_new = not folder.is_made
    if is_new:
        authority = certificates.make_authority(folder, config.site, now)
    else:
        authority = certificates.read_authority(folder)
    names = certificates.names_of_machine(config.listen.names, config.listen.address)
    certificates.current_server(folder, authority, names, now)
    return certificates.fingerprint(authority.certificate), folder.authority, is_new, names


def url(config: Config, host: str | None = None) -> str:
    """Where the collector is reached: by a name, or by what it is configured to be reached by."""
    name = host or next(iter(config.listen.names), None) or _address(config.listen.address)
    scheme = "https" if speaks_tls(config) else "http"
    return f"{scheme}://{f'[{name}]' if ':' in name else name}:{config.listen.port}"


def _address(listened_on: str) -> str:
    """The address listened on, or where that is any, the one that this machine is seen by.

    An address, not the host's name: few small networks resolve that.
    """
    if not ipaddress.ip_address(listened_on).is_unspecified:
        return listened_on
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            # No packet is sent; the kernel only tells by which address it would leave (RFC 5737).
            asked.connect(("192.0.2.1", 9))
            return str(asked.getsockname()[0])
        except OSError:
            return socket.gethostname()


# --- agents --------------------------------------------------------------------------------------


class Keeper:
    """Gives nodes their joining lines and takes them back."""

    def __init__(self, config: Config) -> None:
        """Work on the files of a collector.

        Raises:
            ConfigError: it was not set up yet, or its files cannot be read.
        """
        self._config = config
        if not has_tokens(config):
            path = tokens.path_in(Path(config.data_dir))
            raise ConfigError(f"{path}: is not there, run `farmhand-collector init` first")
        self._file = _token_file(config)

    def add(self, host: str, rack: str = "", site: str = "", at: str = "", note: str = "") -> str:
        """The line by which a new node joins; it writes for that host alone.

        `site` is the collector's own where none is given, `at` a URL in place of the usual one.

        Raises:
            ConfigError: a name cannot be a tag, the host has a token already, or the files cannot
                be used.
        """
        invitation = self._invitation(host, rack, site, at)
        try:
            issued = self._file.add_host(host, rack, invitation.site, note)
        except TooManyTokens as error:
            told = "`farmhand agents rotate` makes a new one, `farmhand agents revoke` ends it"
            raise ConfigError(f"{error}; {told}") from None
        return invitation._replace(token=issued.text).line()

    def rotate(self, host: str, rack: str = "", site: str = "", at: str = "") -> str:
        """The line with a new token for a node; the one that it uses stays good meanwhile.

        Where it stands is as it was said before, if it is not said anew.

        Raises:
            ConfigError: the host has no token, or the files cannot be used.
        """
        invitation = self._invitation(host, rack, site, at)
        try:
            issued = self._file.rotate(host)
        except NoSuchToken as error:
            raise ConfigError(f"{error}; `farmhand agents add` makes one") from None
        place = {
            "rack": rack or issued.token.rack,
            "site": site or issued.token.site or self._config.site,
        }
        return invitation._replace(token=issued.text, **place).line()

    def drop_old(self, host: str, *, force: bool = False) -> list[Token]:
        """End the tokens of a node that a newer one replaces.

        Raises:
            ConfigError: there is none, the new one was not used yet, or the files cannot be used.
        """
        try:
            return self._file.drop_old(host, even_if_new_is_unused=force)
        except NoSuchToken as error:
            raise ConfigError(str(error)) from None
        except TooManyTokens as error:
            told = "use is noted once a minute; --force ends the old one all the same"
            raise ConfigError(f"{error}; {told}") from None

    def revoke(self, host: str) -> list[Token]:
        """End every token of a node.

        Raises:
            ConfigError: it has none, or the files cannot be used.
        """
        try:
            return self._file.revoke(host)
        except NoSuchToken as error:
            raise ConfigError(str(error)) from None

    def agents(self) -> list[Agent]:
        """The tokens of all nodes, by host, the oldest first.

        Raises:
            ConfigError: the files cannot be read.
        """
        live = [t for t in self._file.tokens() if t.scope is Scope.WRITE and t.host is not None]
        newest = {token.host: token.id for token in live}
        used = tokens.uses(self._file.path)
        told = [
            Agent(t.host or "", t.id, t.created, used.get(t.id), newest[t.host] == t.id, t.note)
            for t in live
        ]
        return sorted(told, key=lambda agent: (agent.host, agent.created))

    def _invitation(self, host: str, rack: str, site: str, at: str) -> Invitation:
        """An invitation whose token is still to be made."""
        site = site or self._config.site
        settings.check_name(host, "HOST")
        settings.check_name(rack or "none", "--rack")
        settings.check_name(site, "--site")
        if at:
            settings.check_url(at, "--url")
        return Invitation(at or url(self._config), self._pin(at), "", host, rack, site)

    def _pin(self, at: str) -> str | None:
        if not (at.startswith("https:") if at else speaks_tls(self._config)):
            return None
        from farmhand_collector import certificates

        folder = certificates.Folder(Path(self._config.data_dir))
        return certificates.fingerprint(certificates.read_authority(folder).certificate)


def keeper(path: Path | None) -> Keeper:
    """A keeper for the collector with this configuration, the usual one where none is named.

    Raises:
        ConfigError: the configuration is bad, or the collector was not set up yet.
    """
    return Keeper(load_unguarded(path or usual_config()))


def _token_file(config: Config) -> TokenFile:
    return TokenFile(tokens.path_in(Path(config.data_dir)))


def agents_text(agents: Sequence[Agent]) -> str:
    """The tokens of all nodes, a line each."""
    width = max((len(agent.host) for agent in agents), default=0)
    lines = [
        f"{agent.host:<{width}}  {agent.id}  made {_day(agent.created)}  used {_day(agent.used)}"
        f"{'' if agent.is_newest else '  (old)'}{f'  {agent.note}' if agent.note else ''}"
        for agent in agents
    ]
    return "\n".join(map(one_line, lines)) or "no node has a token"


def as_command(line: str) -> str:
    """A line as a command to paste on its node.

    The pipe keeps the token from the list of processes. The blank in front keeps it from the
    history of shells that are set up so, as Debian's is.
    """
    return f" echo '{line}' | farmhand-agent join"
