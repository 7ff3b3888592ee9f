"""A table of boards: what cards share, and what is wrong with a bad one."""

from pathlib import Path

import pytest

from farmhand_agent.settings import ConfigError
from farmhand_collector.boards.table import read_groups


def written(directory: Path, text: str) -> Path:
    """A file with this text."""
    path = directory / "boards.csv"
    path.write_bytes(text.encode())
    return path


def test_what_cards_share_is_told_by_scope(tmp_path: Path) -> None:
    """A card without a name for a scope belongs to none."""
    text = "card,label,batch,power_group\nGPU-1,B-01,spring,PSU 1\nGPU-2,B-02,,PSU 1\n"

    assert read_groups(written(tmp_path, text)) == {
        "batch": {"GPU-1": "spring"},
        "power_group": {"GPU-1": "PSU 1", "GPU-2": "PSU 1"},
    }


def test_a_table_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    """With its mark at the begin, its line ends and quotes."""
    text = '\ufeffcard,batch\r\n"node-1:3","first, small"\r\n'

    assert read_groups(written(tmp_path, text)) == {"batch": {"node-1:3": "first, small"}}


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "no column `card`"),
        ("board,batch\n1,a\n", 1, "no column `card`"),
        ("card,batch\n,a\n", 2, "no card"),
        ("card,batch\nGPU-1,a\nGPU-1,b\n", 3, "is in line 2 already"),
        ("card,batch\nGPU-1\n", 2, "another number of columns"),
        ("card,batch\nGPU-1,a,b\n", 2, "another number of columns"),
        ('card,batch\n"GPU-1,a\n', 2, "expected CSV"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, line: int, reason: str) -> None:
    """The file, the line, and what was expected."""
    path = written(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        read_groups(path)

    assert str(caught.value).startswith(f"{path}: line {line}: ")
    assert reason in str(caught.value)


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    """Such as a spreadsheet saved as itself."""
    path = tmp_path / "boards.csv"
    path.write_bytes(b"card\n\xff\xfe\n")

    with pytest.raises(ConfigError, match="not UTF-8"):
        read_groups(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(ConfigError, match=r"boards\.csv: cannot be read"):
        read_groups(tmp_path / "boards.csv")
