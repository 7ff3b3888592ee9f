"""Text from the wire on a terminal."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from farmhand_tui.escape import pad, safe, tail

NASTY = st.text(
    st.one_of(
        st.characters(codec=None),
        st.sampled_from("\x1b\x07\x9b\x7f\u202e\u2066\u200b\u200d\ufeff\ud800\u0301\ufe0f\u115f"),
    )
)


def test_plain_text_stays_as_it_is() -> None:
    """Nothing happens to a host name."""
    assert safe("node-17") == "node-17"


def test_letters_of_all_scripts_stay() -> None:
    """Words that a keeper can read are not spelt out."""
    assert safe("机架 3 · Zürich · 서버") == "机架 3 · Zürich · 서버"


def test_a_terminal_command_is_spelt_out() -> None:
    """An escape sequence shows, and does nothing."""
    assert safe("\x1b]0;pwned\x07") == r"\x1b]0;pwned\x07"


def test_a_turn_of_direction_is_spelt_out() -> None:
    """Text cannot be made to read backwards."""
    assert safe("gpu\u202e001") == r"gpu\u202e001"


def test_what_cannot_be_seen_is_spelt_out() -> None:
    """Two names that look alike are told apart."""
    assert safe("a\u200bb") == r"a\u200bb"


def test_a_lone_surrogate_is_spelt_out() -> None:
    """What no encoding can write is not written."""
    assert safe("\udcff") == r"\udcff"


def test_long_text_ends_in_an_ellipsis() -> None:
    """Text is cut to the cells that it may take."""
    assert safe("abcdef", 4) == "abc…"


def test_wide_letters_count_twice() -> None:
    """The cap is in cells, not in letters."""
    assert safe("机架机架", 5) == "机架…"


def test_padding_makes_columns_straight() -> None:
    """Short and long, narrow and wide text take the same room."""
    assert [pad("ab", 4), pad("机架机", 4), pad("7", 4, right=True)] == ["ab  ", "机… ", "   7"]


def test_the_end_of_a_name_is_kept() -> None:
    """Names that begin alike differ at their end."""
    assert tail("gpu-farm-node-0017", 6) == "…-0017"


@given(NASTY, st.integers(0, 40))
def test_nothing_dangerous_ever_passes(text: str, width: int) -> None:
    """Whatever comes in, what goes out is visible, writable and no wider than allowed."""
    shown = safe(text, width)

    assert cell_len(shown) <= width
    assert not {unicodedata.category(character) for character in shown} & {
        "Cc",
        "Cf",
        "Cs",
        "Co",
        "Cn",
        "Zl",
        "Zp",
    }
    assert all(cell_len(character) > 0 for character in shown)
    shown.encode()


@given(NASTY)
def test_what_is_safe_stays_as_it_is(text: str) -> None:
    """Text that was made safe twice is the same as once."""
    assert safe(safe(text)) == safe(text)


@given(NASTY, st.integers(1, 40), st.booleans())
def test_padded_text_has_the_exact_width(text: str, width: int, right: bool) -> None:
    """No text can move the column behind it."""
    assert cell_len(pad(text, width, right=right)) == width
