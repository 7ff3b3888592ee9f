"""A bad configuration or command line is one clear line and exit status 78, for all programs."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent import cli as agent_cli
from farmhand_agent.command import one_line
from farmhand_agent.settings import (
    EXIT_CONFIG,
    ConfigError,
    check_url,
    in_range,
    load,
    read_secret,
)
from farmhand_collector import cli as collector_cli
from farmhand_tui import cli as terminal_cli

Main = Callable[[Sequence[str]], int]

PROGRAMS: dict[str, tuple[Main, list[str]]] = {
    "farmhand-agent": (agent_cli.main, ["check"]),
    "farmhand-collector": (collector_cli.main, ["check"]),
    "farmhand": (terminal_cli.main, ["status"]),
}
MODULES = {
    "farmhand-agent": "farmhand_agent.cli",
    "farmhand-collector": "farmhand_collector.cli",
    "farmhand": "farmhand_tui.cli",
}

BAD: list[tuple[str, str, str]] = [
    # program, file, what the line says behind the name of the file
    ("farmhand-agent", "rak = 'a'", "rak: unknown key"),
    ("farmhand-agent", "[ship]\nurll = 'x'", "ship.urll: unknown key"),
    ("farmhand-agent", "[shipp]\nurl = 'x'", "shipp: unknown key"),
    ("farmhand-agent", '"a\\nb" = 1', "unknown"),
    ("farmhand-agent", "interval_seconds = '10'", "interval_seconds: expected float, got str"),
    ("farmhand-agent", "nvidia = true", "nvidia: expected object, got bool"),
    ("farmhand-agent", "[nvidia]\nenabled = 1", "nvidia.enabled: expected bool, got int"),
    ("farmhand-agent", "host = 7", "host: expected str, got int"),
    ("farmhand-agent", "interval_seconds = 0", "interval_seconds: 0 is out of range, expected"),
    ("farmhand-agent", "interval_seconds = nan", "interval_seconds: nan is out of range"),
    ("farmhand-agent", "sample_seconds = 11", "sample_seconds: 11 is out of range, expected"),
    ("farmhand-agent", "interval_seconds = 0.5", "sample_seconds: 1 is out of range, expected"),
    ("farmhand-agent", "[ship]\nspool_bytes = 500000", "ship.spool_bytes: 500000 is out of range"),
    ("farmhand-agent", "[ship]\nurl = 'collector:8428'", "ship.url: 'collector:8428' is no URL"),
    ("farmhand-agent", "site = ''", "site: '', expected a printable name"),
    ("farmhand-agent", "host = ' '", "host: ' ', expected a printable name"),
    ("farmhand-agent", 'host = "a\\nb"', "host: 'a\\nb', expected a printable name"),
    (
        "farmhand-agent",
        'state_dir = "a\\u0000b"',
        "state_dir: 'a\\x00b', expected a path",
    ),
    ("farmhand-agent", "[ship]\ntoken_file = 'TOKEN'", "ship.token_file: TOKEN"),
    ("farmhand-agent", "site = ", "not valid TOML"),
    ("farmhand-collector", "sites = 'a'", "sites: unknown key"),
    ("farmhand-collector", "[listen]\nportt = 1", "listen.portt: unknown key"),
    ("farmhand-collector", "[listen]\nport = '1'", "listen.port: expected int, got str"),
    ("farmhand-collector", "[listen]\nport = 0", "listen.port: 0 is out of range, expected"),
    ("farmhand-collector", "[keep]\ndays = 0.5", "keep.days: expected int, got float"),
    ("farmhand-collector", "[listen]\naddress = 'here'", "listen.address: 'here', expected an IP"),
    ("farmhand-collector", "[listen]\naddress = '0.0.0.0'", "listen.address: 0.0.0.0 is reachable"),
    ("farmhand-collector", "[listen]\nread_token_file = 'TOKEN'", "listen.read_token_file: TOKEN"),
    (
        "farmhand-collector",
        "[listen]\nwrite_token_file = 'TOKEN'",
        "listen.write_token_file: TOKEN",
    ),
    ("farmhand-collector", "site = ''", "site: '', expected a printable name"),
    ("farmhand-collector", "site", "not valid TOML"),
    ("farmhand", "urll = 'x'", "urll: unknown key"),
    ("farmhand", "url = 8428", "url: expected str, got int"),
    ("farmhand", "url = 'ftp://collector'", "url: 'ftp://collector' is no URL"),
    ("farmhand", "token_file = 'TOKEN'", "token_file: TOKEN"),
    ("farmhand", "=", "not valid TOML"),
]

WRONG_TOKENS: dict[str, bytes | None] = {
    "missing": None,
    "empty": b"",
    "blank": b" \n\n",
    "two lines": b"one\ntwo\n",
    "not text": b"\xff\xfe\x00",
    "not for a header": "schlüssel".encode(),
}


def refusal(
    capsys: pytest.CaptureFixture[str], program: str, arguments: Sequence[str] | None = None
) -> str:
    """The one line in which a program refuses its configuration or its arguments."""
    main, usual = PROGRAMS[program]
    try:
        status = main(arguments if arguments is not None else usual)
    except SystemExit as ended:
        status = int(ended.code or 0)
    told = capsys.readouterr()
    assert (status, told.out) == (EXIT_CONFIG, "")
    assert told.err.startswith(program) and told.err.endswith("\n")
    line = told.err[:-1]
    assert line.isprintable()
    return line


@pytest.mark.parametrize(("program", "text", "why"), BAD)
def test_a_bad_file_is_one_line_with_file_and_key(
    program: str, text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who wrote it knows which file, which key and what was expected."""
    path, token = tmp_path / "config.toml", tmp_path / "token"
    path.write_text(text.replace("TOKEN", str(token)))
    line = refusal(capsys, program, [*PROGRAMS[program][1], "--config", str(path)])
    assert line.startswith(f"{program}: {path}: ")
    assert why.replace("TOKEN", str(token)) in line


@pytest.mark.parametrize("content", WRONG_TOKENS.values(), ids=WRONG_TOKENS)
@pytest.mark.parametrize(
    ("program", "key"),
    [
        ("farmhand-agent", "ship.token_file"),
        ("farmhand-collector", "listen.read_token_file"),
        ("farmhand", "token_file"),
    ],
)
def test_a_bad_token_file_is_one_line_with_file_and_key(
    program: str,
    key: str,
    content: bytes | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The secret itself is not shown."""
    path, token = tmp_path / "config.toml", tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
    table, _, name = key.rpartition(".")
    path.write_text((f"[{table}]\n" if table else "") + f"{name} = '{token}'\n")
    line = refusal(capsys, program, [*PROGRAMS[program][1], "--config", str(path)])
    assert line.startswith(f"{program}: {path}: {key}: {token} ")
    assert "two" not in line and "schl" not in line


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_file_that_is_not_there_is_one_line(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defaults are taken only where no file was named."""
    path = tmp_path / "config.toml"
    line = refusal(capsys, program, [*PROGRAMS[program][1], "--config", str(path)])
    assert line == f"{program}: {path}: cannot be read: No such file or directory"


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    "arguments", [[], ["no-such-command"], ["--no-such-option"], ["no\nsuch\x1b[2Jcommand"]]
)
def test_a_bad_command_line_is_one_line(
    program: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It says where help is."""
    assert refusal(capsys, program, arguments).endswith(f"(try {program} --help)")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_real_program_refuses_a_bad_file(program: str, tmp_path: Path) -> None:
    """One line, nothing on stdout, status 78: what a unit file or a script sees."""
    path = tmp_path / "config.toml"
    path.write_text("no_such_key = 1\n")
    command = [sys.executable, "-m", MODULES[program], *PROGRAMS[program][1]]
    done = subprocess.run(
        [*command, "--config", str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (EXIT_CONFIG, "")
    assert done.stderr == f"{program}: {path}: no_such_key: unknown key\n"


def test_output_that_nobody_reads_is_no_trace() -> None:
    """`farmhand-agent --help | head -1` ends quietly."""
    command = [sys.executable, "-m", "farmhand_agent.cli", "once", "--interval", "0.1"]
    with subprocess.Popen(
        [*command, "--line-protocol"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


# --- the parts ---------------------------------------------------------------------------------


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: float = 1.0


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = "farm"
    inner: Inner = Inner()


def test_without_a_file_the_defaults_apply() -> None:
    """A program runs unconfigured."""
    assert load(None, Outer) == Outer()


def test_what_a_file_does_not_say_is_the_default(tmp_path: Path) -> None:
    """A whole number stands for a float."""
    path = tmp_path / "a.toml"
    path.write_text("[inner]\nnumber = 3\n")
    assert load(path, Outer) == Outer(inner=Inner(3.0))


def test_a_json_file_is_read_as_json(tmp_path: Path) -> None:
    """That is what programs write."""
    path = tmp_path / "a.json"
    path.write_text('{"name": "x", "inner": {"number": 2}}')
    assert load(path, Outer) == Outer("x", Inner(2.0))


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"", b"nul"])
def test_bad_json_says_so(tmp_path: Path, content: bytes) -> None:
    """In the same way as a bad TOML file."""
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.json: (not valid JSON|file: expected object)"):
        load(path, Outer)


VALUE = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers(), max_size=2)


@given(st.dictionaries(st.text(max_size=8) | st.just("inner"), VALUE, min_size=1))
def test_any_file_is_taken_or_refused_with_its_name(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    """Nothing in a file leads to anything but a configuration or one line."""
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(msgspec.json.encode(content))
    try:
        load(path, Outer)
    except ConfigError as error:
        assert one_line(f"farmhand: {error}").startswith(f"farmhand: {path}: ")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8428",
        "https://influx.example.org",
        "https://influx.example.org/prefix",
        "http://[::1]:8086",
    ],
)
def test_a_good_url_is_taken(url: str) -> None:
    """Host, port and a path prefix are what a server has."""
    check_url(url, "url")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "localhost:8428",
        "http://host:port",
        "http://host:0",
        "http://host:99999",
        "http://[::1",
        "http://user:secret@host",
        "http://host/?bucket=x",
        "http://host/#here",
        "http://ho st",
        "http://host\n",
        "file:///etc/passwd",
    ],
)
def test_a_bad_url_is_refused_with_what_was_expected(url: str) -> None:
    """A mistake is found at the start, not when the first reading is sent."""
    with pytest.raises(ConfigError, match=r"^key: .* is no URL, expected http://HOST:PORT or"):
        check_url(url, "key")


def test_a_secret_is_read_without_its_line_end(tmp_path: Path) -> None:
    """An editor's newline is not part of it."""
    path = tmp_path / "token"
    path.write_text("s3cret==\n")
    assert read_secret(path, "key") == "s3cret=="


@pytest.mark.parametrize("path", [Path("/"), Path("a\0b")])
def test_a_path_that_names_no_file_is_refused(path: Path) -> None:
    """A directory, or what no file can be called."""
    with pytest.raises(ConfigError, match=r"^key: "):
        read_secret(path, "key")


@pytest.mark.parametrize("value", [1.0, 2.0, 1.5])
def test_bounds_are_included(value: float) -> None:
    """The smallest and the largest value are good ones."""
    in_range(value, "key", 1, 2)


@pytest.mark.parametrize("value", [0.999, 2.001, float("nan"), float("inf")])
def test_out_of_bounds_says_the_bounds(value: float) -> None:
    """What was expected stands in the line."""
    with pytest.raises(ConfigError, match=r"^key: .* is out of range, expected 1 to 2$"):
        in_range(value, "key", 1, 2)
