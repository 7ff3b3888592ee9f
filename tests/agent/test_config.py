"""The agent's configuration."""

import socket
from pathlib import Path

import pytest

from farmhand_agent import config
from farmhand_agent.settings import ConfigError
from farmhand_agent.spool import Spool
from tests.agent import certificate


def written(directory: Path, text: str) -> Path:
    path = directory / "agent.toml"
    path.write_text(text)
    return path


def test_an_agent_without_a_file_ships_to_this_machine() -> None:
    """It needs nothing to be tried out; servers of a default are on loopback."""
    settings = config.load(None)
    assert settings.ship.url == "http://127.0.0.1:8428"
    assert settings.host == socket.gethostname().split(".")[0]
    assert config.token(settings) is None


def test_a_file_is_taken_as_written(tmp_path: Path) -> None:
    """Every key that an installation usually sets."""
    (tmp_path / "token").write_text("s3cret\n")
    ca_file, _ = certificate.make(tmp_path)
    path = written(
        tmp_path,
        f"""
        site = "cellar"
        rack = "shelf 2"
        host = "node-京"
        interval_seconds = 5
        sample_seconds = 0.5
        state_dir = "{tmp_path}"
        [ship]
        url = "https://influx.example.org/prefix"
        token_file = "{tmp_path}/token"
        org = "o"
        bucket = "farm/raw"
        spool_bytes = 1048576
        verify_tls = false
        ca_file = "{ca_file}"
        [nvidia]
        enabled = false
        """,
    )
    settings = config.load(path)
    assert (settings.site, settings.rack, settings.host) == ("cellar", "shelf 2", "node-京")
    assert (settings.interval_seconds, settings.sample_seconds) == (5.0, 0.5)
    assert settings.ship.bucket == "farm/raw"
    assert (settings.ship.verify_tls, settings.ship.ca_file) == (False, str(ca_file))
    assert not settings.nvidia.enabled
    assert config.token(settings) == "s3cret"


def test_servers_are_verified_unless_the_file_says_otherwise() -> None:
    """By the certificates of the system."""
    ship = config.load(None).ship
    assert (ship.verify_tls, ship.ca_file) == (True, None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "holds no certificates, expected PEM"),
        ("not a certificate", "holds no certificates, expected PEM"),
    ],
)
def test_a_file_without_certificates_is_refused_at_the_start(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    """Rather than found out by the first post."""
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    path = written(tmp_path, f'[ship]\nca_file = "{ca_file}"')
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value) == f"{path}: ship.ca_file: {ca_file} {reason}"


@pytest.mark.parametrize("spool_bytes", [2**20, 2**30])
def test_what_is_accepted_as_a_cap_is_one(tmp_path: Path, spool_bytes: int) -> None:
    """A configuration that was checked does not fail when the agent starts."""
    settings = config.load(written(tmp_path, f"[ship]\nspool_bytes = {spool_bytes}"))
    (tmp_path / "in the way").write_text("")
    Spool(tmp_path / "in the way" / "spool.sqlite", settings.ship.spool_bytes).close()


def test_a_cap_that_the_spool_refuses_is_refused(tmp_path: Path) -> None:
    """It leaves no room for readings."""
    with pytest.raises(ConfigError, match=r"spool_bytes: 1048575 is out .* 1048576 to"):
        config.load(written(tmp_path, f"[ship]\nspool_bytes = {2**20 - 1}"))


def test_a_mistake_in_the_defaults_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a usable name has to be given one."""
    monkeypatch.setattr(socket, "gethostname", lambda: "a\x1bb")
    with pytest.raises(ConfigError, match=r"^defaults: host: 'a\\x1bb', expected a printable"):
        config.load(None)
