"""Tables as CSV files."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_tui.export import guarded, write_csv


def test_a_table_is_written_as_it_is_read(tmp_path: Path) -> None:
    """The file holds titles and rows, quoted where they must be."""
    path = write_csv(tmp_path, "cards", ["host", "reason"], [["n1", 'hot, "very"'], ["n2", "-"]])

    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["host", "reason"], ["n1", 'hot, "very"'], ["n2", "-"]]
    assert path.name.startswith("farmhand-cards-")


def test_no_file_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two exports in the same second do not destroy each other."""
    monkeypatch.setattr("time.strftime", lambda pattern: pattern)
    write_csv(tmp_path, "cards", ["a"], [["1"]])

    with pytest.raises(FileExistsError):
        write_csv(tmp_path, "cards", ["a"], [["2"]])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2+3", "@SUM(A1)", "=cmd|' /C calc'!A0"])
def test_a_formula_is_text(text: str) -> None:
    """A host with a clever name runs nothing in the keeper's spreadsheet."""
    assert guarded(text) == f"'{text}"


@given(st.text(st.characters(codec="utf-8")))
def test_no_cell_begins_like_a_formula(text: str) -> None:
    """Whatever the wire says, no cell is more than text."""
    cell = guarded(text)

    assert cell == "-" or not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
