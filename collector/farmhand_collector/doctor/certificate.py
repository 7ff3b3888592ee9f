"""How long the certificates still hold."""

import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from farmhand_collector.examination import ANSWER_SECONDS, CannotTell, Check, Level, Result, Setup

WARNING_DAYS = 14.0
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def _examine(setup: Setup) -> Result:
    ends = dict(_ends(setup))
    if not ends:
        if not setup.is_local_address:
            seen = f"{setup.url}: tokens and readings cross the network in the clear"
            return Result(
                Level.WARNING,
                seen,
                "Let farmhand-collector init make certificates (docs/deploy.md).",
            )
        return Result(Level.OK, "no TLS is used, and none is needed on one machine")
    first = min(ends, key=lambda name: ends[name])
    days = (ends[first] - setup.now) / 86_400
    remedy = "Renew this certificate; the collector renews its own while it runs."
    if days < 0:
        return Result(Level.BAD, f"{first} ran out {-days:.0f} days ago", remedy)
    level = Level.WARNING if days < WARNING_DAYS else Level.OK
    return Result(level, f"{first} holds for {days:.0f} days", remedy if level != Level.OK else "")


def _ends(setup: Setup) -> Iterator[tuple[str, float]]:
    parts = urlsplit(setup.url)
    if parts.scheme == "https":
        address = (parts.hostname or "", parts.port or 443)
        try:
            served = ssl.get_server_certificate(address, timeout=ANSWER_SECONDS)
        except OSError as error:
            raise CannotTell(f"{setup.url}: {error}") from None
        yield f"the certificate of {setup.url}", _valid_until(served.encode())
    try:
        folder = setup.data_dir / "tls"
    except CannotTell:
        return
    for path in _files(folder):
        for number, found in enumerate(_PEM.findall(path.read_bytes())):
            yield f"{path.name}{f' ({number + 1})' if number else ''}", _valid_until(found)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in (".pem", ".crt", ".cert"))


def _valid_until(pem: bytes) -> float:
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()


CHECK = Check("certificate", "Life of certificates", _examine)
