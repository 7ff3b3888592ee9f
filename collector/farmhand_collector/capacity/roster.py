"""Who is judged: the cards in the order in which they joined."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class CardKey(NamedTuple):
    """Who and where: a board in another slot is another row, another board in this slot too."""

    site: str
    rack: str
    host: str
    slot: str
    card: str
    vendor: str
    model: str


class Roster(tuple[CardKey, ...]):
    """Cards by index; a card keeps its index for good.

    What cards are grouped by is worked out once for each roster.
    """

    @cached_property
    def kinds(self) -> NDArray[np.int64]:
        """(n,) one code for all cards of a model."""
        return _codes((key.vendor, key.model) for key in self)

    @cached_property
    def node_codes(self) -> Mapping[tuple[str, str], int]:
        """The code of each node by site and host."""
        codes: dict[tuple[str, str], int] = {}
        for key in self:
            codes.setdefault((key.site, key.host), len(codes))
        return codes

    @cached_property
    def nodes(self) -> NDArray[np.int64]:
        """(n,) one code for all cards of a node."""
        return np.array([self.node_codes[key.site, key.host] for key in self], np.int64)

    @cached_property
    def racks(self) -> NDArray[np.int64]:
        """(n,) one code for all cards of a rack, -1 where none is told."""
        codes = _codes((key.site, key.rack) for key in self)
        codes[[not key.rack for key in self]] = -1
        return codes

    @cached_property
    def sites(self) -> NDArray[np.int64]:
        """(n,) one code for all cards of a site."""
        return _codes(key.site for key in self)

    @cached_property
    def slots(self) -> NDArray[np.int64]:
        """(n,) one code for all cards in a slot of the same name, whatever the node."""
        return _codes(key.slot for key in self)

    @cached_property
    def by_model(self) -> Mapping[str, NDArray[np.intp]]:
        """Indices of the cards of each model name."""
        cards: dict[str, list[int]] = defaultdict(list)
        for index, key in enumerate(self):
            cards[key.model].append(index)
        return {model: np.array(indices, np.intp) for model, indices in cards.items()}


def _codes(names: Iterable[Hashable]) -> NDArray[np.int64]:
    """A number for each distinct name, in the order of their first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
