"""The farm's own authority and the server's certificate, judged by OpenSSL and real handshakes."""

import contextlib
import socket
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farmhand_agent.settings import ConfigError
from farmhand_collector.certificates import (
    AUTHORITY_DAYS,
    CHECK_SECONDS,
    DAY_SECONDS,
    SERVER_DAYS,
    Folder,
    Server,
    current_server,
    fingerprint,
    make_authority,
    names_of_machine,
    read_authority,
)

NAMES = ["127.0.0.1", "collector.lan"]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An authority that was just made."""
    made = Folder(tmp_path)
    make_authority(made, "cellar", time.time())
    return made


class SetClock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def serial(folder: Folder) -> int:
    """Serial number of the server certificate on disk."""
    return int(asked("x509", "-in", str(folder.server), "-noout", "-serial").split("=")[1], 16)


def asked(*command: str) -> str:
    """What OpenSSL says."""
    done = subprocess.run(["openssl", *command], capture_output=True, text=True, check=True)
    return done.stdout


@contextmanager
def listening(context: ssl.SSLContext) -> Iterator[int]:
    """A server that shakes hands with everyone; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with (
                        contextlib.suppress(OSError),
                        connection,
                        context.wrap_socket(connection, server_side=True) as shaken,
                    ):
                        shaken.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def shown_to(port: int, authority: Path, name: str) -> tuple[int, str | None]:
    """Serial number and TLS version that a client which trusts the authority sees."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(authority)
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname=name) as shaken,
    ):
        told = shaken.getpeercert()
        assert told is not None
        return int(str(told["serialNumber"]), 16), shaken.version()


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_trusts_the_authority_trusts_the_server(folder: Folder, name: str) -> None:
    """Under each of its names and addresses, by the strictest checks that Python makes."""
    server = Server(folder, lambda: NAMES)

    with listening(server.context) as port:
        assert shown_to(port, folder.authority, name) == (serial(folder), "TLSv1.3")


def test_another_name_is_not_trusted(folder: Folder) -> None:
    """Nor does the authority of another farm help."""
    server = Server(folder, lambda: NAMES)

    with (
        listening(server.context) as port,
        pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"),
    ):
        shown_to(port, folder.authority, "elsewhere.lan")


def test_keys_are_their_owners_alone(folder: Folder) -> None:
    """The certificate of the authority is for all to read."""
    Server(folder, lambda: NAMES)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()}

    assert modes == {"ca.pem": 0o644, "ca-key.pem": 0o600, "server.pem": 0o600}
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("at", [86_400, int(time.time()) + 300 * DAY_SECONDS])
def test_a_node_with_a_wrong_clock_still_trusts_it(folder: Folder, at: int) -> None:
    """A dead clock battery says 1970; the collector's clock is how the agent learns better."""
    Server(folder, lambda: NAMES)
    command = ["verify", "-attime", str(at), "-CAfile", str(folder.authority)]

    assert asked(*command, str(folder.server)).endswith(": OK\n")


def test_the_authority_vouches_for_no_further_one(folder: Folder, tmp_path: Path) -> None:
    """OpenSSL refuses what a made authority below it has signed, and any client certificate."""
    Server(folder, lambda: NAMES)
    below, key = tmp_path / "below.pem", tmp_path / "below.key"
    signer = ["-CA", str(folder.authority), "-CAkey", str(folder.authority_key)]
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    asked(
        "req", "-x509", *new, "-subj", "/CN=below", *signer, "-keyout", str(key), "-out", str(below)
    )
    leaf = tmp_path / "leaf.pem"
    by_below = ["-CA", str(below), "-CAkey", str(key), "-keyout", str(tmp_path / "leaf.key")]
    asked("req", "-x509", *new, "-subj", "/CN=leaf", *by_below, "-out", str(leaf))

    trust = ["-CAfile", str(folder.authority), "-untrusted", str(below)]
    assert "path length" in refused("verify", *trust, str(leaf))
    client = ["verify", "-purpose", "sslclient", "-CAfile", str(folder.authority)]
    assert refused(*client, str(folder.server))


def refused(*command: str) -> str:
    """Why OpenSSL says no."""
    done = subprocess.run(["openssl", *command], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done.stderr


# --- renewal ----------------------------------------------------------------------


def test_the_certificate_is_renewed_with_a_third_of_its_life_left(folder: Folder) -> None:
    """And no sooner."""
    clock = SetClock()
    server = Server(folder, lambda: NAMES, clock)
    first = serial(folder)

    clock.now += (SERVER_DAYS * 2 / 3 - 1) * DAY_SECONDS
    server.tend()
    assert serial(folder) == first
    clock.now += 2 * DAY_SECONDS
    server.tend()

    assert serial(folder) != first


def test_a_renewed_certificate_is_shown_without_a_restart(folder: Folder) -> None:
    """By the same listening server, to the next client, under the same authority."""
    clock = SetClock()
    server = Server(folder, lambda: NAMES, clock)
    with listening(server.context) as port:
        first, _ = shown_to(port, folder.authority, NAMES[0])
        clock.now += SERVER_DAYS * 0.7 * DAY_SECONDS
        server.tend()
        second, _ = shown_to(port, folder.authority, NAMES[0])

    assert first != second == serial(folder)


def test_one_that_another_program_renewed_is_taken_up(folder: Folder) -> None:
    """`init` after a change of `listen.names`, beside the running collector."""
    server = Server(folder, lambda: NAMES)
    more = [*NAMES, "farm.lan"]
    with listening(server.context) as port:
        current_server(folder, read_authority(folder), more, time.time())
        server.tend()

        assert shown_to(port, folder.authority, "farm.lan")


def test_a_new_address_of_the_machine_is_taken_up(folder: Folder) -> None:
    """Networks of small farms hand out new ones; nodes need not join again."""
    clock, names = SetClock(), list(NAMES)
    server = Server(folder, lambda: names, clock)
    names.append("127.0.0.7")
    clock.now += CHECK_SECONDS

    with listening(server.context) as port:
        server.tend()

        assert shown_to(port, folder.authority, "127.0.0.7")


def test_a_server_certificate_does_not_outlive_its_authority(folder: Folder) -> None:
    """And is not made anew each time it is looked at, when the authority is near its end."""
    clock = SetClock()
    clock.now += (AUTHORITY_DAYS - 10) * DAY_SECONDS
    server = Server(folder, lambda: NAMES, clock)
    first = serial(folder)
    ends = [
        asked("x509", "-in", str(p), "-noout", "-enddate")
        for p in (folder.server, folder.authority)
    ]

    clock.now += DAY_SECONDS
    server.tend()

    assert serial(folder) == first
    assert ends[0] == ends[1]


# --- damage ----------------------------------------------------------------------


def test_a_damaged_server_certificate_is_made_anew(folder: Folder) -> None:
    """It can be: the authority is what counts."""
    Server(folder, lambda: NAMES)
    folder.server.write_bytes(folder.server.read_bytes()[:100])

    server = Server(folder, lambda: NAMES)

    with listening(server.context) as port:
        assert shown_to(port, folder.authority, NAMES[0])


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
@pytest.mark.parametrize("damage", ["torn", "gone", "another"])
def test_a_damaged_authority_is_one_line_and_never_replaced(
    folder: Folder, tmp_path: Path, name: str, damage: str
) -> None:
    """A new one would lock every node out."""
    path = folder.path / name
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:80])
    elif damage == "gone":
        path.unlink()
    else:
        other = Folder(tmp_path / "other")
        make_authority(other, "attic", time.time())
        path.write_bytes((other.path / name).read_bytes())
    left = {p.name: p.read_bytes() for p in folder.path.iterdir()}

    with pytest.raises(ConfigError) as told:
        Server(folder, lambda: NAMES)

    assert str(folder.path) in str(told.value)
    assert "\n" not in str(told.value)
    assert {p.name: p.read_bytes() for p in folder.path.iterdir()} == left


def test_the_fingerprint_is_what_openssl_says(folder: Folder) -> None:
    """A keeper may compare it by eye."""
    told = asked("x509", "-in", str(folder.authority), "-noout", "-fingerprint", "-sha256")

    mine = fingerprint(read_authority(folder).certificate)
    assert told.strip().split("=")[1].replace(":", "").lower() == mine


def test_the_machine_is_known_by_what_was_given_and_what_it_has() -> None:
    """No scope ids, no link-local addresses, nothing that no certificate can hold."""
    names = names_of_machine(["Farm.LAN.", "10.1.2.3", "fd00::0001"], "0.0.0.0")  # noqa: S104

    assert {"farm.lan", "10.1.2.3", "fd00::1", "localhost", "127.0.0.1"} <= set(names)
    assert not [name for name in names if "%" in name or name.startswith(("fe80", "0."))]
    assert names == sorted(set(names))
