"""What must not leave the farm: secrets always, names where they are not asked for."""

import hashlib
import hmac
import ipaddress
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

REMOVED = "[removed]"
LEAST_SECRET = 6
"""Characters; a shorter value stands in texts by chance, and is removed by its key alone."""

_SECRET_KEYS = re.compile(
    r"token|secret|passw|passphrase|pwd|\bpin\b|key|credential|auth|cookie|webhook|bearer|signature|dsn",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"fh1_[A-Za-z0-9_\-]+")
_IN_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*://)(?P<secret>\S*)@")
"""Up to the last @, as passwords may hold one, and quotes and slashes too."""
_ASSIGNED = re.compile(
    r"(?P<key>[A-Za-z_\-]*(?:token|secret|password|passwd|api[_\-]?key)[A-Za-z_\-]*(?<!_file)"
    r"[ \t]*[=:][ \t]*)"
    r"(?P<value>\"[^\"]*\"|'[^']*'|\S+)",
    re.IGNORECASE,
)
_HEADER = re.compile(r"\b(?P<scheme>Bearer|Token|Basic)\s+[A-Za-z0-9._~+/=\-]{6,}", re.IGNORECASE)
_LONG = re.compile(r"(?<![A-Za-z0-9+=_\-])[A-Za-z0-9+=_\-]{20,}")
"""Words long enough to be a token; those of letters alone, or of digits alone, are none."""
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL
)


def names_a_secret(key: str) -> bool:
    """Whether the value under such a key is likely one; `token_file` names a file, not a token."""
    is_place = key.endswith(("_file", "_dir")) or key in ("PWD", "OLDPWD")
    return bool(_SECRET_KEYS.search(key)) and not is_place


def secret_values(content: Any, key: str = "") -> set[str]:
    """Texts in a configuration, parsed or not checked yet, that stand under a secret's key."""
    if isinstance(content, Mapping):
        found: set[str] = set()
        for name, value in content.items():
            inherited = str(name) if names_a_secret(str(name)) else key
            found |= secret_values(value, inherited)
        return found
    if isinstance(content, list | tuple):
        return set().union(*(secret_values(value, key) for value in content))
    if isinstance(content, str) and not key:
        return {part for match in _IN_URL.finditer(content) for part in _parts(match["secret"])}
    return {str(content)} if key else set()


def _parts(credentials: str) -> set[str]:
    _, _, password = credentials.partition(":")
    return {part for part in (password or credentials, unquote(password)) if part}


def secrets_of_environment(environment: Mapping[str, str]) -> set[str]:
    """Values of variables whose names say that they are secret, and passwords in URLs in others."""
    return secret_values(environment)


class Redactor:
    """Takes secrets out of texts: those that are known, and what has the form of one."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """Know secrets by value; longer ones are looked for first."""
        long = {value.strip() for value in known if len(value.strip()) >= LEAST_SECRET}
        forms = {form for value in long for form in _forms(value)}
        self._known = sorted(forms, key=lambda value: (-len(value), value))

    def text(self, text: str, names: "Pseudonyms | None" = None) -> str:
        """The text without secrets, and with other names where pseudonyms are given.

        Known secrets go first, as names may be parts of them, and what only has the form of one
        last, as names may look like that.
        """
        for value in self._known:
            text = text.replace(value, REMOVED)
        text = text if names is None else names.text(text)
        text = _PRIVATE_KEY.sub(REMOVED, text)
        text = _IN_URL.sub(rf"\g<scheme>{REMOVED}@", text)
        text = _TOKEN.sub(REMOVED, text)
        text = _ASSIGNED.sub(rf"\g<key>{REMOVED}", text)
        text = _HEADER.sub(rf"\g<scheme> {REMOVED}", text)
        return _LONG.sub(_if_random, text)

    def content(self, content: Any, names: "Pseudonyms | None" = None) -> Any:
        """Parsed content, the keys of which are ours, with `text` done to each text."""
        if isinstance(content, Mapping):
            return {name: self.content(value, names) for name, value in content.items()}
        if isinstance(content, list | tuple):
            return [self.content(value, names) for value in content]
        return self.text(content, names) if isinstance(content, str) else content

    def configuration(self, content: Any, known_keys: Mapping[str, Any]) -> Any:
        """A configuration without secrets.

        `known_keys` are those whose values may be shown, nested as its sections are; a value under
        another key is removed, for nobody knows what it is.
        """
        if isinstance(content, Mapping):
            return {
                self.text(str(name)): self._value(str(name), value, known_keys)
                for name, value in content.items()
            }
        if isinstance(content, list | tuple):
            return [self.configuration(value, known_keys) for value in content]
        return self.text(content) if isinstance(content, str) else content

    def _value(self, name: str, value: Any, known_keys: Mapping[str, Any]) -> Any:
        is_section = isinstance(value, Mapping)
        if name not in known_keys or (names_a_secret(name) and not is_section):
            return REMOVED
        return self.configuration(value, known_keys[name])


def _forms(value: str) -> set[str]:
    """A secret as it is, and as Python and JSON quote it."""
    quoted = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
    return {value, repr(value)[1:-1], *quoted}


def _if_random(match: re.Match[str]) -> str:
    word = match[0]
    has_digit = any(character.isdigit() for character in word)
    return REMOVED if has_digit and any(character.isalpha() for character in word) else word


class Pseudonyms:
    """Other names for hosts, racks, cards and so on: the same for the same in every bundle."""

    def __init__(self, key: bytes) -> None:
        """Make them by a key that stays on the farm: without it nobody can try names through."""
        self._key = key
        self._known: dict[str, str] = {}
        self._by_word: dict[str, list[tuple[int, str]]] = {}

    def know(self, kind: str, names: Iterable[str]) -> None:
        """Replace these names from now on by `kind-` and eight digits."""
        for name in names:
            word = _WORD.search(name)
            if word is not None and name not in self._known:
                self._known[name] = self._made(kind, name)
                self._by_word.setdefault(word[0], []).append((word.start(), name))

    def text(self, text: str) -> str:
        """The text with names, card identities and addresses replaced."""
        text = self._replaced(text)
        text = _CARD.sub(lambda match: self._made("card", match[0]), text)
        return _ADDRESS.sub(self._address, text)

    def _replaced(self, text: str) -> str:
        """Each name at whose first word the text is; the longest, where several fit.

        A farm has thousands of names: looking for each of them in turn would take minutes.
        """
        parts, done = [], 0
        for word in _WORD.finditer(text):
            if word.start() < done:
                continue
            fitting = [
                (len(name), word.start() - offset, name)
                for offset, name in self._by_word.get(word[0], ())
                if _stands(name, text, word.start() - offset, done)
            ]
            if fitting:
                length, start, name = max(fitting)
                parts += [text[done:start], self._known[name]]
                done = start + length
        return "".join([*parts, text[done:]])

    def _made(self, kind: str, name: str) -> str:
        digest = hmac.new(self._key, f"{kind}/{name}".encode("utf-8", "replace"), hashlib.sha256)
        return f"{kind}-{digest.hexdigest()[:8]}"

    def _address(self, match: re.Match[str]) -> str:
        address = match[0]
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return address  # a time, a version
        is_ours = parsed.is_loopback or parsed.is_unspecified
        return address if is_ours else self._made("address", address)


def _stands(name: str, text: str, start: int, earliest: int) -> bool:
    """Whether a whole name stands there, not a part of a longer word."""
    end = start + len(name)
    whole = not (text[end : end + 1].isalnum() and name[-1].isalnum())
    return start >= earliest and whole and text.startswith(name, start)


_WORD = re.compile(r"\w+")
_CARD = re.compile(r"\b(?:GPU|MIG)-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_ADDRESS = re.compile(
    r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}|(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4})(?![\w.])"
)


def pseudonym_key() -> bytes:
    """The key of this user, made at the first call; one for this call where none can be kept."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    path = Path(home) / "farmhand" / "pseudonym-key"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(secrets.token_bytes(32))
        return path.read_bytes() or secrets.token_bytes(32)
    except OSError:
        return secrets.token_bytes(32)
