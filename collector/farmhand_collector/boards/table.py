"""A table of boards in a file: which batch each is of, and which supply feeds it.

A CSV file with a header; `card` is the vendor's UUID as the readings have it, or `host:slot`.
Columns that are not known are passed over.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from farmhand_agent.settings import ConfigError

GROUPS = ("batch", "power_group")
"""Columns that name what boards share."""


def read_groups(path: Path) -> Mapping[str, Mapping[str, str]]:
    """By scope and by card, what the keeper has said cards share.

    Raises:
        ConfigError: the file cannot be read or a line is bad; the message names file and line.
    """
    groups: dict[str, dict[str, str]] = {scope: {} for scope in GROUPS}
    seen: dict[str, int] = {}
    for line, row in _rows(path):
        card = (row.get("card") or "").strip()
        if not card:
            raise ConfigError(f"{path}: line {line}: no card, expected its UUID or host:slot")
        if card in seen:
            raise ConfigError(f"{path}: line {line}: card {card} is in line {seen[card]} already")
        seen[card] = line
        for scope in GROUPS:
            name = (row.get(scope) or "").strip()
            if name:
                groups[scope][card] = name
    return {scope: named for scope, named in groups.items() if named}


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, str | None]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if "card" not in (reader.fieldnames or ()):
                raise ConfigError(f"{path}: line 1: no column `card`, expected a header with it")
            for row in reader:
                if None in row or None in row.values():
                    raise ConfigError(
                        f"{path}: line {reader.line_num}: another number of columns than the header"
                    )
                yield reader.line_num, row
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text, expected CSV") from None
    except csv.Error as error:
        at = reader.reader.line_num
        raise ConfigError(f"{path}: line {at}: {error}, expected CSV") from None
