"""What is known of the cards of a dataset."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Labels:
    """The truth that a dataset states, or that its own columns leave no doubt about.

    A card that stands in none of these, on a host that stands in none, is healthy.
    """

    cards: Mapping[str, str | None] = field(default_factory=dict)
    """Cards at fault, by the tag `card`, with the cause; None where the data do not tell it."""
    nodes: Mapping[str, str] = field(default_factory=dict)
    """Hosts whose cards are slow together, none of them at fault, and the job that shows it."""
    mates: frozenset[str] = frozenset()
    """Cards that are slow only because they wait for one of `cards`."""
    unclear_cards: frozenset[str] = frozenset()
    """Cards of which the data support either answer: they count neither way."""
    unclear_nodes: frozenset[str] = frozenset()
    """Hosts of which the data support either answer, with all their cards."""
