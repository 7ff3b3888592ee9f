"""Whether tokens are secret, and long enough."""

import os
from pathlib import Path

from farmhand_agent.settings import ConfigError, read_secret
from farmhand_collector.config import has_tokens
from farmhand_collector.examination import CannotTell, Check, Level, Result, Setup

LEAST_CHARACTERS = 22
"""128 bits in base64: what no one guesses."""


def _examine(setup: Setup) -> Result:
    listen = setup.config.listen
    named = {"write_token_file": listen.write_token_file, "read_token_file": listen.read_token_file}
    files = {key: Path(path) for key, path in named.items() if path is not None}
    stored = Path(setup.config.data_dir) / "tokens.json"
    open_to_others = [path for path in (*files.values(), stored) if _is_open(path)]
    if open_to_others:
        seen = f"others may read {', '.join(sorted({str(path) for path in open_to_others}))}"
        return Result(Level.BAD, seen, "Take their rights away (chmod 600) and make new tokens.")
    hidden = [path for path in files.values() if path.exists() and not os.access(path, os.R_OK)]
    if hidden:
        raise CannotTell(f"this user may not read {hidden[0]}", "Run this as root.")
    try:
        tokens = {key: read_secret(path, f"listen.{key}") for key, path in files.items()}
    except ConfigError as error:
        return Result(Level.BAD, str(error), "Write a token into this file (docs/deploy.md).")
    short = [key for key, token in tokens.items() if len(token) < LEAST_CHARACTERS]
    if short:
        seen = f"listen.{short[0]} holds fewer than {LEAST_CHARACTERS} characters"
        return Result(Level.WARNING, seen, "Make a longer token at random (docs/deploy.md).")
    if not setup.is_local_address and len(set(tokens.values())) < len(tokens):
        seen = "agents and terminals share one token"
        return Result(Level.WARNING, seen, "Make a token of its own for each (docs/deploy.md).")
    kept = [*files, "tokens.json"] if has_tokens(setup.config) else list(files)
    if not kept:
        seen = "no token is asked for: whoever is on this machine writes and reads"
        return Result(Level.OK, seen)
    return Result(Level.OK, f"{' and '.join(kept)}: for their owner only")


def _is_open(path: Path) -> bool:
    """Whether others than owner and group may read it, or the group may write."""
    try:
        return bool(path.stat().st_mode & 0o027)
    except OSError:
        return False  # told when it is read


CHECK = Check("tokens", "Tokens are secret", _examine)
