"""What a source of card readings is: one file per vendor library, run inside a reader child."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from farmhand_agent.reading import Value

Fields = Mapping[str, Value]

OnCall = Callable[[str, str], None]
"""Told `(slot, call)` before each call into the vendor library; the watch judges a hang by it."""


class NothingHere(Exception):
    """No library, driver or card of this vendor is on this machine: a fact, not a failure."""


class CardLost(Exception):
    """The card was there and is gone; asking this handle again is useless."""


class CardUnreadable(Exception):
    """The card is there but does not answer."""


class SourceStale(Exception):
    """The driver was replaced or reset under us: close, open and enumerate again."""


class Card(NamedTuple):
    """One card as enumerated: its physical place, its tags and the library's handle."""

    slot: str
    card: str
    vendor: str
    model: str
    handle: Any


class Enumeration(NamedTuple):
    """Cards that are to be read, and the slots of all that are there, read here or elsewhere."""

    cards: list[Card]
    present: list[str]


class CardEvent(msgspec.Struct, frozen=True, tag="event"):
    """What happened to a card by its driver's word: a code of the vendor's list, and when."""

    slot: str
    code: str
    time_ns: int


Tell = Callable[[CardEvent], None]
"""Told of each event the moment it happens, from any thread."""


class CardSource(Protocol):
    """Reads all cards of one vendor.

    Every method may hang or crash with its library; none may be called outside a reader child.
    A value that the card does not give is left out. Values out of a plausible range never leave
    the source.
    """

    vendor: str

    def open(self) -> None:
        """Load the library and connect to the driver.

        Raises:
            NothingHere: there is none.
        """

    def cards(self, wanted: Callable[[str], bool]) -> Enumeration:
        """Cards in the slots that are wanted, in the driver's order; no other card is touched.

        Raises:
            SourceStale: see there.
        """

    def info(self, card: Card) -> Fields:
        """Fields of `card_info`: identity and limits, asked for at start and hourly."""

    def sample(self, card: Card) -> Fields:
        """Fast fields of `card`, asked for each second.

        Raises:
            CardLost, CardUnreadable, SourceStale: see there.
        """

    def slow(self, card: Card) -> Fields:
        """Fields of `card` that are dear or rarely change, asked for once a window.

        Raises:
            CardLost, CardUnreadable, SourceStale: see there.
        """

    def rare(self, card: Card) -> Fields:
        """Fields of `card` that are dearer still, asked for once a minute.

        Raises:
            CardLost, CardUnreadable, SourceStale: see there.
        """

    def has_changed(self, card: Card) -> bool:
        """Whether `info` of the card may have changed since it was last asked for."""

    def lacks(self, card: Card) -> Sequence[str]:
        """Fields that the card turned out not to have, by name."""

    def close(self) -> None:
        """Let go of the library."""
