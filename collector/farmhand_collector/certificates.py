"""The farm's own certificate authority, and the server certificate that it vouches for.

Nodes are told the authority's fingerprint when they join and trust nothing else, so the server's
certificate can be made anew without telling them.

* Both are valid from 1970 on: a board whose clock battery is dead must still reach the collector,
  for the collector's clock is how it learns the time. Nobody could have used a key that was not
  made yet, so nothing is given away.
* The authority may vouch for TLS servers only, and for no further authority. It is not bound to
  names: those of the collector change with the network, and no node asks it about anyone else.
"""

import contextlib
import datetime
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from farmhand_agent import durable
from farmhand_agent.settings import ConfigError

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400
AUTHORITY_DAYS = 3653
SERVER_DAYS = 396
"""Under 398 days, more than which some clients take for a mistake."""
RENEW_WHEN_LEFT = 1 / 3
"""Share of its life at which a server certificate is made anew."""
WARN_DAYS = 365
"""So long before the authority ends it is said: all nodes must then join again."""
CHECK_SECONDS = 3600.0
"""How often age and names are looked at; finding the host's names may take a while."""
_VALID_FROM = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

_KEY_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)

Now = Callable[[], float]
T = TypeVar("T")


class Held(NamedTuple):
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Folder:
    """Where the certificates of a collector lie: `ca.pem` is for all to read, the others not."""

    def __init__(self, data_dir: Path) -> None:
        """Name the files under a data directory."""
        self.path = data_dir / "tls"
        self.authority = self.path / "ca.pem"
        self.authority_key = self.path / "ca-key.pem"
        self.server = self.path / "server.pem"
        """The server's key and certificate in one file, so that they always match."""

    @property
    def is_made(self) -> bool:
        """Whether there is an authority."""
        return self.authority.exists()


# --- names -------------------------------------------------------------------------------------


def names_of_machine(given: Sequence[str], address: str) -> list[str]:
    """Names and addresses under which this machine may be asked, sorted, each once.

    Those that were given, the host's own, the address that is listened on, and where that is any
    address, all that the machine has now.
    """
    own = [socket.gethostname(), socket.getfqdn(), "localhost", "127.0.0.1", "::1", address]
    if ipaddress.ip_address(address).is_unspecified:
        own = [*own[:-1], *_addresses()]
    return sorted({_plain(name) for name in (*given, *own)} - {""})


def _addresses() -> list[str]:
    found = [told.address for all_told in psutil.net_if_addrs().values() for told in all_told]
    return [address for address in found if _is_usable(address)]


def _is_usable(address: str) -> bool:
    """Whether an address lasts: public ones of IPv6 may change every day, and can be given."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not found.is_link_local and (found.version == 4 or found.is_private)


def _plain(name: str) -> str:
    """A name as certificates have it; nothing for what cannot stand in one."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).compressed
    name = name.rstrip(".").lower()
    return name if name.isascii() and 0 < len(name) <= 253 else ""


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_in(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in found}


# --- the authority -----------------------------------------------------------------------------


def make_authority(folder: Folder, farm: str, now: float) -> Held:
    """Make the authority of a farm and put it on disk, its certificate last.

    Raises:
        ConfigError: it cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    common_name = f"farmhand {farm}"[:64]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        _builder(subject, subject, key.public_key(), now + AUTHORITY_DAYS * DAY_SECONDS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    made = Held(builder.sign(key, hashes.SHA256()), key)
    try:
        durable.make_directory(folder.path)
        durable.write(folder.authority_key, _key_pem(key))
        durable.write(folder.authority, _pem(made.certificate), durable.PUBLIC)
    except OSError as error:
        raise ConfigError(f"{folder.path}: cannot be written: {error.strerror}") from None
    return made


def read_authority(folder: Folder) -> Held:
    """The farm's authority.

    Raises:
        ConfigError: it is not there, is damaged, or key and certificate do not match.
    """
    if not folder.is_made:
        raise ConfigError(f"{folder.authority}: is not there, run `farmhand-collector init` first")
    certificate = _parsed(folder.authority, x509.load_pem_x509_certificate)
    key = _parsed(folder.authority_key, lambda pem: serialization.load_pem_private_key(pem, None))
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not _match(certificate, key):
        told = f"{folder.authority_key}: is not the key of {folder.authority.name}"
        raise ConfigError(told)
    return Held(certificate, key)


def fingerprint(certificate: x509.Certificate) -> str:
    """What a node checks: SHA-256 of the certificate (DER), hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


# --- the server's certificate ------------------------------------------------------------------


def make_server(folder: Folder, authority: Held, names: Sequence[str], now: float) -> Held:
    """Make a server certificate for names and addresses and put it on disk.

    Raises:
        ConfigError: it cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    # No node would take it for longer than its authority.
    end = min(now + SERVER_DAYS * DAY_SECONDS, issuer.not_valid_after_utc.timestamp())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "farmhand collector")])
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(subject, issuer.subject, key.public_key(), end)
        .add_extension(authority_id, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(map(_general_name, names)), critical=False)
    )
    made = Held(builder.sign(authority.key, hashes.SHA256()), key)
    try:
        durable.write(folder.server, _key_pem(key) + _pem(made.certificate))
    except OSError as error:
        raise ConfigError(f"{folder.server}: cannot be written: {error.strerror}") from None
    return made


def reason_to_renew(server: Held, authority: Held, names: Iterable[str], now: float) -> str | None:
    """Why a server certificate must be made anew; None while it need not."""
    end = server.certificate.not_valid_after_utc
    left = end.timestamp() - now
    try:
        server.certificate.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, ValueError, TypeError):
        return "another authority vouches for it"
    can_last_longer = end < authority.certificate.not_valid_after_utc
    if can_last_longer and left < SERVER_DAYS * DAY_SECONDS * RENEW_WHEN_LEFT:
        return f"{max(left, 0) / DAY_SECONDS:.0f} days of its life are left"
    missing = set(names) - _names_in(server.certificate)
    return f"it does not name {', '.join(sorted(missing))}" if missing else None


def current_server(folder: Folder, authority: Held, names: Sequence[str], now: float) -> Held:
    """The server certificate on disk, made anew where that is due.

    Raises:
        ConfigError: one is due and cannot be written.
    """
    try:
        found = _read_server(folder)
        reason = reason_to_renew(found, authority, names, now)
        if reason is None:
            return found
    except ConfigError as error:
        reason = str(error)
    log.info("a new server certificate is made: %s", reason)
    return make_server(folder, authority, names, now)


def _read_server(folder: Folder) -> Held:
    certificate = _parsed(folder.server, x509.load_pem_x509_certificate)
    key = _parsed(folder.server, lambda pem: serialization.load_pem_private_key(pem, None))
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not _match(certificate, key):
        raise ConfigError(f"{folder.server}: key and certificate do not match")
    return Held(certificate, key)


class Server:
    """The TLS side of a running collector, whose certificate is renewed while it runs."""

    def __init__(self, folder: Folder, names: Callable[[], Sequence[str]], now: Now = time.time):
        """Have a certificate that is good.

        Raises:
            ConfigError: the authority is missing or damaged, or nothing can be written.
        """
        self._folder = folder
        self._names = names
        self._now = now
        self._authority = read_authority(folder)
        self._lock = threading.Lock()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen: tuple[int, ...] | None = None
        self._checked = 0.0
        self._renew()
        self._warn_of_end()

    @property
    def authority_pem(self) -> bytes:
        """The authority's certificate, for whoever asks: it is no secret."""
        return _pem(self._authority.certificate)

    def tend(self) -> None:
        """Renew the certificate where that is due, and take up one that was; called now and then.

        Connections that are open go on with the certificate that they began with.
        """
        unchanged = durable.identity(self._folder.server) == self._seen
        if unchanged and 0 <= self._now() - self._checked < CHECK_SECONDS:
            return
        try:
            self._renew()
        except ConfigError as error:
            log.error("the server certificate stays as it was: %s", error)

    def _renew(self) -> None:
        with self._lock:
            current_server(self._folder, self._authority, self._names(), self._now())
            self._seen = durable.identity(self._folder.server)
            self._checked = self._now()
            self.context.load_cert_chain(self._folder.server)

    def _warn_of_end(self) -> None:
        end = self._authority.certificate.not_valid_after_utc.timestamp()
        days = (end - self._now()) / DAY_SECONDS
        if days < WARN_DAYS:
            log.warning(
                "%s ends in %.0f days: make a new one and have all nodes join again",
                self._folder.authority,
                days,
            )


# --- parts of a certificate --------------------------------------------------------------------


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, end: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(datetime.datetime.fromtimestamp(int(end), datetime.UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in allowed for name in _KEY_USAGES})


def _match(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _parsed(path: Path, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise ConfigError(f"{path}: is damaged, expected PEM") from None
