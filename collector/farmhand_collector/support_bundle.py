"""The support bundle: what someone who helps from afar must see, and nothing that is secret."""

import io
import os
import platform
import socket
import subprocess
import tarfile
import time
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import apsw
import msgspec

from farmhand_agent import __version__
from farmhand_agent.command import FailedError
from farmhand_agent.settings import ConfigError
from farmhand_collector import config
from farmhand_collector.examination import CannotTell, Report, Setup
from farmhand_collector.redaction import (
    Pseudonyms,
    Redactor,
    pseudonym_key,
    secret_values,
    secrets_of_environment,
)
from farmhand_collector.store.base import StoreError
from farmhand_collector.wire import FarmState

SCHEMA = 1
LOG_LINES = 500
UNITS = ("farmhand-collector", "farmhand-agent")
_FOLDER = "farmhand-bundle"
_MOST_SECRET_BYTES = 64 * 1024
_README = """\
A support bundle of farmhand, schema {schema}.

doctor.json         what `farmhand doctor --json` said
configuration.json  the collector's configuration; secrets and unknown keys are removed
versions.json       farmhand, Python, SQLite, packages, system; names of FARMHAND_ variables
farm.json           how many cards and findings are in which state
log.txt             the last lines of the log, where the journal gave any

Secrets are removed by key, by form and by value. {names}
"""
_WITH_NAMES = "Names of hosts, racks and cards are as they are."
_WITHOUT_NAMES = (
    "Names of hosts, racks, sites, boards and cards, their serials, and addresses are replaced by "
    "others, which are the same in each bundle that this user makes. Names that farmhand does not "
    "know, in a line of the log, are not recognised: look through log.txt before you send it."
)


def write(
    target: Path,
    setup: Setup,
    report: Report,
    *,
    with_names: bool = False,
    log_lines: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Write a bundle, readable by its owner only.

    `log_lines` and `environment` are the journal's last lines and this process' own where they are
    not given.

    Raises:
        ConfigError: there is such a file already.
        FailedError: it could not be written.
    """
    environment = os.environ if environment is None else environment
    raw = _raw_configuration(setup)
    redactor = Redactor(_known_secrets(raw, environment))
    names = None if with_names else _pseudonyms(setup)
    lines = _journal() if log_lines is None else log_lines
    contents = {
        "doctor.json": msgspec.to_builtins(report),
        "configuration.json": _shown(raw, setup, redactor),
        "farm.json": _farm(setup),
        "log.txt": "\n".join(lines) + "\n",
        "README.txt": _README.format(
            schema=SCHEMA, names=_WITH_NAMES if with_names else _WITHOUT_NAMES
        ),
    }
    members = {name: _bytes(told, redactor, names) for name, told in contents.items()}
    # Without other names: versions look like addresses.
    members["versions.json"] = _bytes(_versions(environment), redactor, None)
    _write(target, members)


def _bytes(told: Any, redactor: Redactor, names: Pseudonyms | None) -> bytes:
    """Redacted while it is text, before JSON escapes what is looked for."""
    told = redactor.content(told, names)
    if isinstance(told, str):
        return told.encode("utf-8", "replace")
    return msgspec.json.format(msgspec.json.encode(told))


def _write(target: Path, members: Mapping[str, bytes]) -> None:
    try:
        descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise ConfigError(f"--bundle: {target} is there already") from None
    except OSError as error:
        raise FailedError(f"--bundle: {target}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
            for name, content in members.items():
                entry = tarfile.TarInfo(f"{_FOLDER}/{name}")
                entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
                tar.addfile(entry, io.BytesIO(content))
    except OSError as error:
        target.unlink(missing_ok=True)
        raise FailedError(f"--bundle: {target}: {error.strerror}") from None


# --- configuration and secrets -----------------------------------------------------------------


def _raw_configuration(setup: Setup) -> Any:
    """The file as it is parsed, also where it is not good; None where it cannot be parsed."""
    if setup.path is None:
        return None
    try:
        text = setup.path.read_text(encoding="utf-8")
        return msgspec.json.decode(text) if setup.path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, msgspec.DecodeError):
        return None


def _shown(raw: Any, setup: Setup, redactor: Redactor) -> Any:
    if raw is None:
        return {"file": str(setup.path), "error": setup.error or "no file"}
    return {"file": str(setup.path), "content": redactor.configuration(raw, _keys(config.Config))}


def _keys(kind: Any) -> dict[str, Any]:
    """Names of a configuration's keys, nested as its sections are."""
    return {
        field.name: _keys(field.type) if _is_section(field.type) else {}
        for field in msgspec.structs.fields(kind)
    }


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _known_secrets(raw: Any, environment: Mapping[str, str]) -> set[str]:
    """What is secret on this machine, by value: so it is found wherever it stands."""
    known = secret_values(raw) | secrets_of_environment(environment)
    for path in _secret_files(raw):
        with suppress(OSError):
            content = path.read_bytes()[:_MOST_SECRET_BYTES].decode("utf-8", "replace")
            known |= {content.strip(), *content.split()}
    return known


def _secret_files(content: Any, key: str = "") -> set[Path]:
    """Files that a configuration names as holding a secret."""
    if isinstance(content, Mapping):
        found = (_secret_files(value, str(name)) for name, value in content.items())
        return set().union(*found)
    if isinstance(content, list):
        return set().union(*(_secret_files(value, key) for value in content))
    is_named = isinstance(content, str) and key.endswith("_file") and "\0" not in content
    return {Path(content)} if is_named else set()


# --- names -------------------------------------------------------------------------------------


def _pseudonyms(setup: Setup) -> Pseudonyms:
    names = Pseudonyms(pseudonym_key())
    names.know("host", {socket.gethostname(), platform.node()})
    with suppress(CannotTell):
        names.know("host", {urlsplit(setup.url).hostname or ""} - {"127.0.0.1", "::1", "localhost"})
    with suppress(CannotTell):
        names.know("site", {setup.config.site})
    with suppress(CannotTell, StoreError):
        for measurement in ("agent", "host", "card", "card_info"):
            _know_tags(names, setup, measurement)
    return names


def _know_tags(names: Pseudonyms, setup: Setup, measurement: str) -> None:
    fields = ("serial",) if measurement == "card_info" else ()
    block = setup.readings.latest(measurement, fields=fields)
    for tag in ("host", "rack", "site", "card"):
        names.know(tag, {tags.get(tag, "") for tags in block.tags} - {"unidentified"})
    if "serial" in block.texts:
        names.know("serial", {str(text) for text in block.texts["serial"] if text})


# --- what is told ------------------------------------------------------------------------------


def _versions(environment: Mapping[str, str]) -> dict[str, Any]:
    wanted = ("apsw", "numpy", "starlette", "uvicorn", "h11", "msgspec", "textual", "urllib3")
    packages = {}
    for name in wanted:
        with suppress(metadata.PackageNotFoundError):
            packages[name] = metadata.version(name)
    return {
        "schema": SCHEMA,
        "farmhand": __version__,
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": packages,
        "environment": sorted(name for name in environment if name.startswith("FARMHAND_")),
    }


def _farm(setup: Setup) -> dict[str, Any]:
    """How many of what, without a name."""
    try:
        state = msgspec.json.decode(setup.get("/v1/status"), type=FarmState)
    except (CannotTell, msgspec.DecodeError) as error:
        return {"error": str(error)}
    findings = Counter((f.scope, f.state, f.cause) for f in state.findings)
    cards = Counter((card.model, card.state, card.cause or "") for card in state.cards)
    return {
        "simulated": state.simulated is not None,
        "judged_until": state.time,
        "cards": [_counted(("model", "state", "cause"), *one) for one in sorted(cards.items())],
        "findings": [_counted(("scope", "state", "cause"), *o) for o in sorted(findings.items())],
    }


def _counted(names: Sequence[str], values: Sequence[str], count: int) -> dict[str, Any]:
    return {**dict(zip(names, values, strict=True)), "count": count}


def _journal() -> list[str]:
    """The last lines of our units, without the host's name in front; none where there are none."""
    units = [option for unit in UNITS for option in ("--unit", unit)]
    form = ["--output=short-iso", "--no-hostname", "--no-pager", "--quiet"]
    command = ["journalctl", *units, *form, f"--lines={LOG_LINES}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.decode("utf-8", "replace").splitlines()
