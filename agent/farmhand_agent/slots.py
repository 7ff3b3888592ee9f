"""The node's slots as the kernel lists them: which card sits where, and how its link fares.

Nothing here asks a card: it works while cards and their driver hang.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from farmhand_agent.events.fold import Totals
from farmhand_agent.inventory import Inventory, Place
from farmhand_agent.reading import UNIDENTIFIED
from farmhand_agent.sources import pci
from farmhand_agent.sources.base import Fields
from farmhand_agent.sources.work import KnownCard

LISTED_SECONDS = 60.0
"""How long a list of the bus is good; cards are plugged in by hand."""
ASKED_SECONDS = 2.0
"""How soon an address that is not on the list makes us look again."""


class Slots:
    """Cards of the inventory by PCI address, and the errors that their links counted."""

    def __init__(
        self,
        inventory: Inventory,
        vendors: Sequence[str],
        sysfs: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inventory = inventory
        self._vendors = vendors
        self._sysfs = sysfs
        self._clock = clock
        self._lock = threading.Lock()
        self._listed = float("-inf")
        self._slots: dict[str, str] = {}
        self._errors: Mapping[str, Fields] = {}

    def cards(self) -> list[KnownCard]:
        """Cards that are expected here, with the names by which jobs may call them."""
        slots = self._list(LISTED_SECONDS)
        numbers = {address: number for number, address in enumerate(slots)}
        addresses = {slot: address for address, slot in slots.items()}
        return [
            KnownCard(place, address, numbers.get(address))
            for place in self._places()
            for address in (addresses.get(place.slot, place.slot),)
        ]

    def locate(self, name: str) -> dict[str, str] | None:
        """Tags of the card at a PCI address or with a UUID; None where there is none."""
        slot = self._list(LISTED_SECONDS).get(name) or self._list(ASKED_SECONDS).get(name, name)
        for place in self._places():
            if slot == place.slot or (name == place.card != UNIDENTIFIED):
                return tags(place)
        return None

    def at(self, slot: str) -> dict[str, str] | None:
        """Tags of the card in a slot; None where none is expected."""
        return next((tags(place) for place in self._places() if place.slot == slot), None)

    def count_errors(self) -> Totals:
        """Errors that the links of all cards on the bus have counted, by address."""
        slots = self._list(LISTED_SECONDS)
        errors = {address: pci.errors(address, self._sysfs) for address in slots}
        self._errors = {slots[address]: counted.totals() for address, counted in errors.items()}
        return {address: _by_end(counted) for address, counted in errors.items()}

    def errors(self, slot: str) -> Fields:
        """Fields of `card`: what the link of a slot had counted at the last look."""
        return self._errors.get(slot, {})

    def _places(self) -> list[Place]:
        return [place for vendor in self._vendors for place in self._inventory.expected(vendor)]

    def _list(self, good_seconds: float) -> Mapping[str, str]:
        """Slot by address of each card on the bus, in the driver's order."""
        with self._lock:
            now = self._clock()
            if now - self._listed >= good_seconds:
                self._listed = now
                addresses = pci.devices(self._sysfs)
                self._slots = {a: pci.slot_of(a, self._sysfs) for a in addresses}
            return self._slots


def tags(place: Place) -> dict[str, str]:
    """Tags of a card by which its readings are known."""
    return {name: getattr(place, name) for name in ("slot", "card", "vendor", "model")}


def _by_end(errors: pci.Errors) -> dict[str, dict[str, int]]:
    """Counts by the end of the link; a kind that cannot be read now is left out."""
    return {
        end: {name: count for counts in kinds.values() if counts for name, count in counts.items()}
        for end, kinds in (("card", errors.card), ("port", errors.port))
    }
