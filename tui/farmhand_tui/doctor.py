"""`farmhand doctor`: the collector's doctor as a process, told where the collector is."""

import argparse
import subprocess
import sys
from contextlib import closing

from farmhand_tui import config, up
from farmhand_tui.client import Client


def run(options: argparse.Namespace) -> int:
    """Run it and give its exit status."""
    token = None
    arguments = _given(options)
    if options.config is None and options.url is None:
        running = up.registered()
        if running is not None:
            token = running.token
            arguments += ["--url", running.url, *_config_of(running)]
            arguments += [] if options.token_file else ["--token-file", "/dev/stdin"]
    if token is None and options.config is None:
        arguments += _of_terminal(options)
    command = [sys.executable, "-m", "farmhand_collector.doctor_cli", *arguments]
    # A token on a command line would be there for all to see.
    told = None if token is None else f"{token}\n".encode()
    return subprocess.run(command, input=told, check=False).returncode


def _given(options: argparse.Namespace) -> list[str]:
    named = {
        "--config": options.config,
        "--url": options.url,
        "--token-file": options.token_file,
        "--bundle": options.bundle,
    }
    arguments = [f"{name}={value}" for name, value in named.items() if value is not None]
    flags = {"--json": options.json, "--with-names": options.with_names}
    return arguments + [name for name, given in flags.items() if given]


def _config_of(running: up.Running) -> list[str]:
    """The configuration of the collector of an `up`, unless its farm is simulated."""
    path = up.state_dir() / "collector.json"
    with closing(Client(running.url, running.token)) as client:
        is_real = client.snapshot(["key"]).simulated is None
    return ["--config", str(path)] if is_real and path.is_file() else []


def _of_terminal(options: argparse.Namespace) -> list[str]:
    """Address and token as the terminal has them configured, where it is the same collector."""
    if config.usual_path() is None:
        return []
    settings = config.load(None)
    if options.url not in (None, settings.url):
        return []
    arguments = [] if options.url else ["--url", settings.url]
    if settings.token_file and not options.token_file:
        arguments += ["--token-file", settings.token_file]
    return arguments
