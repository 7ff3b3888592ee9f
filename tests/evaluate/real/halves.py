"""Halves of the data: thresholds are chosen on one and reported on the other."""

from enum import StrEnum
from zlib import crc32

_DAY_NS = 86_400 * 10**9


class Half(StrEnum):
    """What a part of the data is for."""

    CHOOSE = "choose"
    REPORT = "report"


def card_half(card: str) -> Half:
    """The half of a card, the same for ever.

    Cards that go in lock step leak slowness to each other: give the host for those, so that they
    stay together.
    """
    return _half(crc32(card.encode()))


def half(card: str, time_ns: int) -> Half | None:
    """The half of a run, by card and by day (UTC); None where they disagree.

    The halves share no card and no day. A card measured on one day only may be in neither.
    """
    by_card = card_half(card)
    return by_card if by_card is _half(time_ns // _DAY_NS) else None


def _half(number: int) -> Half:
    return Half.REPORT if number % 2 else Half.CHOOSE
