"""The cards a node is expected to have, remembered across reboots.

A card that vanishes would otherwise just be missing from the readings. It stays in the inventory
under its slot and keeps its tags, so that it is seen as lost.
"""

import contextlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from farmhand_agent.reading import UNIDENTIFIED

log = logging.getLogger(__name__)


class Place(msgspec.Struct, frozen=True):
    """One expected card: its physical place and its tags."""

    slot: str
    card: str
    vendor: str
    model: str


class Inventory:
    """Expected cards by slot, saved to a file whenever they change.

    A file that cannot be read or written costs the memory of earlier boots, nothing else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places = {place.slot: place for place in self._load()}

    def _load(self) -> list[Place]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Place])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s: cannot be used, starting a new one: %s", self._path, error)
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_suffix(".unreadable"))
            return []

    def expected(self, vendor: str) -> list[Place]:
        """The cards of one vendor that should be here."""
        return [place for place in self._places.values() if place.vendor == vendor]

    def see(self, seen: Iterable[Place]) -> None:
        """Take note of cards that are present; a card seen in a new slot has left its old one.

        Two cards that show the same identity at once are two cards: neither has moved.
        """
        seen = list(seen)
        taken = {place.slot for place in seen}
        identities = {place.card for place in seen} - {UNIDENTIFIED}
        left = {p.slot for p in self._places.values() if p.card in identities} - taken
        places = {slot: place for slot, place in self._places.items() if slot not in left}
        places |= {place.slot: place for place in seen}
        if places != self._places:
            self._places = places
            self._save()

    def _save(self) -> None:
        beside = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(msgspec.json.encode(list(self._places.values())))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            log.warning("%s: cannot be saved: %s", self._path, error.strerror)
