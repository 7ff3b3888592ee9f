"""A node joins a farm: the line that its keeper pastes, and what becomes of it.

The line names the collector, the fingerprint of the authority that vouches for it, and the token of
this one node. The authority's certificate itself is fetched from the collector and believed by its
fingerprint alone; the token is shown to nobody who was not vouched for.
"""

import hashlib
import hmac
import http.client
import json
import os
import pwd
import re
import ssl
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from farmhand_agent import config, durable, settings
from farmhand_agent.command import FailedError
from farmhand_agent.reading import clean
from farmhand_agent.settings import ConfigError

USUAL_CONFIG = Path("/etc/farmhand/agent.toml")
SERVICE_USER = "farmhand"
"""Whom the agent's unit runs as."""

_SCHEME = "farmhand+"
_LINE = re.compile(r"farmhand\+https?://[!-~]*")
_SHELL_QUOTES = "'\""
_KEYS = frozenset(("host", "rack", "site", "pin", "token"))
_MOST_KEYS = 16
_PIN = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"[!-~]{8,512}")
_MOST_LINE_CHARACTERS = 4096
_ANSWER_SECONDS = 15.0
_MOST_ANSWER_BYTES = 64 * 1024


class Invitation(NamedTuple):
    """What a node is told to join a farm."""

    url: str
    """Where the collector answers."""
    pin: str | None
    """SHA-256 of the authority's certificate (DER), hexadecimal; None where there is no TLS."""
    token: str
    host: str
    rack: str
    site: str

    def line(self) -> str:
        """One line of printable ASCII without blanks or quotes, that `parsed` takes."""
        told = {"host": self.host, "rack": self.rack, "site": self.site, "pin": self.pin}
        query = urlencode({name: value for name, value in told.items() if value})
        return f"{_SCHEME}{self.url.rstrip('/')}/?{query}&token={self.token}"


def parsed(text: str) -> Invitation:
    """The invitation in what was pasted: the line alone, or the whole command around it.

    Raises:
        ConfigError: there is none, or it is incomplete; the message does not repeat its token.
    """
    found = _LINE.search(text[:_MOST_LINE_CHARACTERS])
    if found is None:
        raise ConfigError("joining line: expected what `farmhand agents add` printed")
    line = found[0].rstrip(_SHELL_QUOTES)
    try:
        parts = urlsplit(line.removeprefix(_SCHEME))
        pairs = parse_qsl(parts.query, strict_parsing=True, max_num_fields=_MOST_KEYS)
    except ValueError:
        raise ConfigError("joining line: is torn; copy it once more") from None
    told = dict(pairs)
    unknown = told.keys() - _KEYS
    if unknown or len(told) < len(pairs):
        raise ConfigError("joining line: is not of this version of farmhand")
    url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return _checked(Invitation(url, told.get("pin"), *_given(told)))


def _given(told: Mapping[str, str]) -> tuple[str, str, str, str]:
    return told.get("token", ""), told.get("host", ""), told.get("rack", ""), told.get("site", "")


def _checked(invitation: Invitation) -> Invitation:
    settings.check_url(invitation.url, "joining line")
    settings.check_name(invitation.host, "joining line: host")
    settings.check_name(invitation.site, "joining line: site")
    settings.check_name(invitation.rack or "none", "joining line: rack")
    if not _TOKEN.fullmatch(invitation.token):
        raise ConfigError("joining line: has no whole token; copy it once more")
    is_https = invitation.url.startswith("https:")
    if is_https != (invitation.pin is not None) or not _PIN.fullmatch(invitation.pin or "0" * 64):
        raise ConfigError("joining line: has no whole fingerprint; copy it once more")
    return invitation


# --- asking the collector ----------------------------------------------------------------------


def authority(invitation: Invitation) -> str | None:
    """The authority's certificate (PEM), believed by its fingerprint; None where there is no TLS.

    Nothing secret is sent: whoever answers is not known yet.

    Raises:
        FailedError: nobody answers, or what answers has another certificate.
    """
    if invitation.pin is None:
        return None
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    status, body = _asked(invitation.url, anyone, "GET", "/ca.pem")
    try:
        pem = body.decode("ascii")
        der = ssl.PEM_cert_to_DER_cert(pem)
    except ValueError:
        told = f"HTTP {status} and no certificate at {invitation.url}/ca.pem: is it a collector?"
        raise FailedError(told) from None
    if not hmac.compare_digest(hashlib.sha256(der).hexdigest(), invitation.pin):
        raise FailedError(
            f"{invitation.url} has another certificate authority than the line names: somebody is "
            "between this node and the collector, or the collector was set up anew since; nothing "
            "was changed and the token was not sent"
        )
    # What was checked is written, and nothing that may stand beside it.
    return ssl.DER_cert_to_PEM_cert(der)


def try_out(invitation: Invitation, authority_pem: str | None) -> None:
    """Ask the collector as the agent will: that it is there, and that it takes the token.

    Raises:
        FailedError: one of these is not so; the message is one line.
    """
    verified = None
    if authority_pem is not None:
        verified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        verified.load_verify_locations(cadata=authority_pem)
    status, _ = _asked(invitation.url, verified, "GET", "/ping")
    if status != http.HTTPStatus.NO_CONTENT:
        raise FailedError(f"HTTP {status} at {invitation.url}/ping: is it a collector?")
    # A post without a reading: it is taken or refused by its token alone.
    headers = {"Authorization": f"Token {invitation.token}"}
    target = "/api/v2/write?org=farmhand&bucket=farmhand"
    status, _ = _asked(invitation.url, verified, "POST", target, headers)
    if status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
        raise FailedError(
            f"{invitation.url} does not take the token of {invitation.host}: it was revoked or "
            "rotated since; make a new line on the collector with `farmhand agents`"
        )
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        raise FailedError(f"HTTP {status} from {invitation.url}: try again when it is well")


def _asked(
    url: str,
    tls: ssl.SSLContext | None,
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Status and the beginning of the body of an answer."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPConnection(host, parts.port, timeout=_ANSWER_SECONDS)
        if parts.scheme == "http"
        else http.client.HTTPSConnection(host, parts.port, timeout=_ANSWER_SECONDS, context=tls)
    )
    body = b"" if method == "POST" else None
    try:
        connection.request(method, parts.path.rstrip("/") + target, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read(_MOST_ANSWER_BYTES)
    except ssl.SSLCertVerificationError as error:
        told = f"{url}: the certificate does not hold: {clean(error.verify_message)}"
        raise FailedError(told) from None
    except (OSError, http.client.HTTPException) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise FailedError(f"{url} does not answer: {clean(reason or 'no reason')}") from None
    finally:
        connection.close()


# --- what is told and written ------------------------------------------------------------------


class Place(NamedTuple):
    """Files of a node that has joined."""

    config: Path

    @property
    def token(self) -> Path:
        """The write token."""
        return self.config.with_name("write-token")

    @property
    def authority(self) -> Path:
        """Who may vouch for the collector."""
        return self.config.with_name("ca.pem")


class Joined(NamedTuple):
    """What `settle` changed."""

    token_only: bool
    """The configuration said all this before."""
    copy: Path | None
    """Where the configuration before lies now, if there was another one."""
    new_authority: bool = False
    """Another authority vouches for the collector than before."""


def report(place: Place, invitation: Invitation, joined: Joined) -> list[str]:
    """What was done and what is left to do, line by line."""
    way = "the line's fingerprint vouches for it" if invitation.pin else "WITHOUT TLS"
    told = [f"{invitation.url} answers and takes the token of {invitation.host} ({way})"]
    if config.host_name() != invitation.host:
        told.append(f"note: this machine calls itself {config.host_name()}")
    if joined.token_only:
        told.append(f"new token in {place.token}; {place.config} stays as it was")
        told.append(
            "the certificate authority is another one; now: systemctl restart farmhand-agent"
            if joined.new_authority
            else "a running agent takes it up by itself"
        )
        return told
    if joined.copy is not None:
        told.append(f"the configuration before is kept as {joined.copy}")
    told.append(f"{place.config} is written; now: systemctl restart farmhand-agent")
    return told


def check_place(place: Place, invitation: Invitation, *, replace: bool) -> None:
    """Refuse to overwrite the configuration of a node that ships elsewhere, or is another one.

    Raises:
        ConfigError: there is one and it is not to be replaced.
    """
    before = _before(place)
    if replace or before is None:
        return
    unset = config.Ship().url
    url = before.get("ship", {}).get("url", unset)
    host = before.get("host", invitation.host)
    if url != unset and (url, host) != (invitation.url, invitation.host):
        told = f"{host} ships to {url} already, expected --replace to overwrite it"
        raise ConfigError(clean(f"{place.config}: {told}"))


def settle(
    place: Place, invitation: Invitation, authority_pem: str | None, *, replace: bool = False
) -> Joined:
    """Write token, authority and configuration, in this order.

    The configuration of a node that has joined this collector under this name before stays as it
    is, unless it is to be replaced. Keys that have nothing to do with joining stay always; a
    changed configuration is kept beside the new one.

    Raises:
        FailedError: something cannot be written.
    """
    before = _before(place)
    token_only = before is not None and not replace and _has_joined(before, place, invitation)
    copy, new_authority = None, False
    try:
        place.config.parent.mkdir(parents=True, exist_ok=True)
        if authority_pem is not None:
            new_authority = _text(place.authority) != authority_pem
            durable.write(place.authority, authority_pem.encode(), durable.PUBLIC)
        durable.write(place.token, f"{invitation.token}\n".encode())
        _give_to_service(place.token)
        if not token_only:
            copy = _set_aside(place.config)
            content = _merged(before or {}, place, invitation)
            text = json.dumps(content, indent=2) if _is_json(place.config) else toml(content)
            durable.write(place.config, text.encode(), durable.PUBLIC)
    except OSError as error:
        raise FailedError(f"{error.filename or place.config.parent}: {error.strerror}") from None
    return Joined(token_only, copy, new_authority)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _before(place: Place) -> dict[str, Any] | None:
    """The configuration that is there; None where there is none.

    Raises:
        ConfigError: it cannot be read, so nobody knows what would be lost.
    """
    if not place.config.exists():
        return None
    # Its shape alone: a token that it names need not be there yet.
    settings.load(place.config, config.Config)
    text = place.config.read_text(encoding="utf-8")
    before: dict[str, Any] = json.loads(text) if _is_json(place.config) else tomllib.loads(text)
    return before


def _is_json(path: Path) -> bool:
    return path.suffix == ".json"


def _joined_keys(place: Place, invitation: Invitation) -> dict[str, Any]:
    """What an invitation says, as the configuration has it."""
    ship = {"url": invitation.url, "token_file": str(place.token)}
    if invitation.pin is not None:
        ship["ca_file"] = str(place.authority)
    told = {"site": invitation.site, "rack": invitation.rack, "host": invitation.host}
    return {**told, "ship": ship}


def _has_joined(before: Mapping[str, Any], place: Place, invitation: Invitation) -> bool:
    """Whether nothing but the token, and perhaps where the node stands, would change."""
    after = _merged(before, place, invitation)
    return all(after.get(key) == before.get(key) for key in ("host", "ship"))


def _merged(before: Mapping[str, Any], place: Place, invitation: Invitation) -> dict[str, Any]:
    joined = _joined_keys(place, invitation)
    # Of another server: who vouched for it, and that it need not be vouched for.
    strange = ("ca_file", "verify_tls", "token_file")
    kept = {key: value for key, value in before.get("ship", {}).items() if key not in strange}
    return {**before, **joined, "ship": {**kept, **joined["ship"]}}


def _set_aside(path: Path) -> Path | None:
    """Copy a configuration beside itself, if there is one; the copy's name tells when."""
    if not path.exists():
        return None
    copy = path.with_name(f"{path.name}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    durable.write(copy, path.read_bytes(), path.stat().st_mode & 0o777)
    return copy


def _give_to_service(path: Path) -> None:
    """Let the agent's own user read its token, so that a new one needs no restart."""
    if os.geteuid() != 0:
        return
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return
    os.chown(path, user.pw_uid, user.pw_gid)


def toml(content: Mapping[str, Any]) -> str:
    """Texts, numbers, flags and tables of these as TOML."""
    plain = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    lines = [f"{key} = {_toml_value(value)}" for key, value in plain.items()]
    for name, table in content.items():
        if isinstance(table, Mapping) and table:
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {_toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines).lstrip("\n") + "\n"


def _toml_value(value: str | float | bool) -> str:
    if isinstance(value, str):
        # A JSON text is a TOML text, but for one control character that JSON lets stand.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
