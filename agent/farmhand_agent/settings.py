"""Configuration files: TOML into a typed value, or one clear line that names file and key.

A file whose name ends in `.json` is read as JSON: that is what programs write.
"""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

EXIT_CONFIG = 78
"""Exit status of a bad configuration or command line (EX_CONFIG of sysexits.h)."""

Config = TypeVar("Config", bound=msgspec.Struct)


class ConfigError(Exception):
    """A configuration cannot be used; the message is one line: file, key, what was expected."""


def load(path: Path | None, kind: type[Config], check: Callable[[Config], object] = bool) -> Config:
    """The configuration in a file; defaults only where no path is given.

    Raises:
        ConfigError: the file cannot be read or parsed, has an unknown key or a wrong type, or
            `check` finds fault with it.
    """
    config = _read(path, kind)
    try:
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{path or 'defaults'}: {error}") from None
    return config


def _read(path: Path | None, kind: type[Config]) -> Config:
    if path is None:
        return kind()
    try:
        text = path.read_text(encoding="utf-8")
        content = msgspec.json.decode(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, msgspec.DecodeError, UnicodeDecodeError) as error:
        language = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigError(f"{path}: not valid {language}: {error}") from None
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error))}") from None


_UNKNOWN = re.compile(r"Object contains unknown field `(.+?)`")


def _explain(message: str) -> str:
    """Turn msgspec's `... - at `$.ship.url`` into `ship.url: ...`."""
    text, _, place = message.partition(" - at `$")
    key = place.rstrip("`").lstrip(".")
    if unknown := _UNKNOWN.match(text):
        return f"{f'{key}.' if key else ''}{unknown[1]}: unknown key"
    return f"{key or 'file'}: {text[0].lower()}{text[1:].replace('`', '')}"


def check_url(url: str, key: str) -> None:
    """Accept http and https URLs with a host and no more than a path prefix.

    Raises:
        ConfigError: it is something else.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username:
        raise ConfigError(
            f"{key}: {url!r} is no URL, expected http://HOST:PORT or https://HOST:PORT"
        )


def read_secret(path: Path, key: str) -> str:
    """The secret in a file of one line.

    Raises:
        ConfigError: the file cannot be read, is empty, or holds more than one line.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{key}: {path} is not text, expected one line") from None
    if not text or not text.isprintable() or not text.isascii():
        raise ConfigError(f"{key}: {path} is empty or not one line, expected one secret")
    return text


def optional_secret(path: str | None, key: str) -> str | None:
    """The secret in a file, or None where no file is named.

    Raises:
        ConfigError: as `read_secret` does.
    """
    return None if path is None else read_secret(Path(path), key)


def check_name(name: str, key: str) -> None:
    """Accept names that can be a tag and be shown: printable, not blank, not too long.

    Raises:
        ConfigError: it is something else.
    """
    if not name.strip() or not name.isprintable() or len(name) > MOST_NAME_CHARACTERS:
        shown = name if len(name) <= MOST_NAME_CHARACTERS else f"{name[:20]}…"
        most = f"a printable name of at most {MOST_NAME_CHARACTERS} characters"
        raise ConfigError(f"{key}: {shown!r}, expected {most}")


MOST_NAME_CHARACTERS = 128


def check_path(path: str, key: str) -> None:
    """Accept paths that can be named in a message and given to the system.

    Raises:
        ConfigError: it is something else.
    """
    if not path.strip() or not path.isprintable():
        raise ConfigError(f"{key}: {path!r}, expected a path")


def in_range(value: float, key: str, low: float, high: float) -> None:
    """Accept a number within bounds, both included.

    Raises:
        ConfigError: it is outside.
    """
    if not low <= value <= high:
        shown = [f"{n}" if isinstance(n, int) else f"{n:g}" for n in (value, low, high)]
        raise ConfigError("{}: {} is out of range, expected {} to {}".format(key, *shown))
