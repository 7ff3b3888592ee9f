"""Text from the wire made safe to show in a terminal."""

import unicodedata
from functools import lru_cache

from rich.cells import cell_len

CAP_CELLS = 240
"""Widest text that is shown where the caller names no width."""

# Printable by their category, yet drawn as nothing: the Hangul fillers and the braille blank.
_INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0")


@lru_cache(maxsize=32768)
def safe(text: str, width: int = CAP_CELLS) -> str:
    r"""Text of at most `width` cells in which whatever a terminal would obey or hide is spelt out.

    Control characters, bidirectional and other format characters, lone surrogates and everything
    of zero width become escapes such as `\x1b` or `\u202e`; a longer text ends in an ellipsis.
    """
    if text.isascii() and text.isprintable():
        return text if len(text) <= width else text[: max(0, width - 1)] + "…"[:width]
    spelt = "".join(map(_spell, unicodedata.normalize("NFC", text)))
    return spelt if cell_len(spelt) <= width else _cut(spelt, width)


def pad(text: str, width: int, *, right: bool = False) -> str:
    """`text`, safe or not, as exactly `width` cells, cut or filled with spaces."""
    shown = safe(text, width)
    fill = " " * (width - cell_len(shown))
    return fill + shown if right else shown + fill


def tail(text: str, width: int) -> str:
    """Return the last `width` cells of a text: names that share a beginning differ at their end."""
    shown = safe(text)
    if cell_len(shown) <= width:
        return shown
    while cell_len(shown) > width - 1:
        shown = shown[1:]
    return "…" + shown


def _spell(character: str) -> str:
    if character.isprintable() and character not in _INVISIBLE and cell_len(character) > 0:
        return character
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _cut(text: str, width: int) -> str:
    used = 0
    for end, character in enumerate(text):
        used += cell_len(character)
        if used > width - 1:
            return text[:end] + "…"[:width]
    return text
