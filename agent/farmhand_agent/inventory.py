"""The cards a node is expected to have, remembered across reboots.

A card that vanishes would otherwise just be missing from the readings. It stays in the inventory
under its slot and keeps its tags, so that it is seen as lost.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Collection, Iterable
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

    A file that cannot be read or written costs the memory of earlier boots, nothing else. One that
    another process changed, such as `farmhand-agent forget`, is read again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._known = _state(path)
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
        with self._lock:
            self._follow()
            return [place for place in self._places.values() if place.vendor == vendor]

    def forget(self, slots: Collection[str]) -> list[Place]:
        """Expect the cards of these slots no more; gives those that were."""
        with self._lock:
            self._follow()
            gone = [place for slot, place in self._places.items() if slot in slots]
            self._keep({s: place for s, place in self._places.items() if s not in slots})
            return gone

    def _follow(self) -> None:
        """Take over what another process wrote."""
        state = _state(self._path)
        if state is not None and state != self._known:
            self._known = state
            self._places = {place.slot: place for place in self._load()}

    def see(self, seen: Iterable[Place], present: Collection[str] = ()) -> list[Place]:
        """Take note of cards; a card seen in a new slot has left its old one.

        Two cards that show the same identity at once are two cards: neither has moved. So a slot
        that is `present`, whoever reads it, has not been left. Returns the cards as they are to
        be tagged: one that does not show its identity is the one that was last seen there.
        """
        with self._lock:
            self._follow()
            return self._see(list(seen), present)

    def _see(self, seen: list[Place], present: Collection[str]) -> list[Place]:
        identities = {place.card for place in seen} - {UNIDENTIFIED}
        seen = [self._recognised(place, identities) for place in seen]
        taken = {place.slot for place in seen} | set(present)
        left = {p.slot for p in self._places.values() if p.card in identities} - taken
        places = {slot: place for slot, place in self._places.items() if slot not in left}
        self._keep(places | {place.slot: place for place in seen})
        return seen

    def _keep(self, places: dict[str, Place]) -> None:
        if places != self._places:
            self._places = places
            self._save()

    def _recognised(self, place: Place, elsewhere: Collection[str]) -> Place:
        """The card that was last seen in a place, where nothing speaks against it."""
        before = self._places.get(place.slot)
        if place.card != UNIDENTIFIED or before is None or before.card in elsewhere:
            return place
        same = before.vendor == place.vendor and place.model in ("", before.model)
        return before if same else place

    def _save(self) -> None:
        beside = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(msgspec.json.encode(list(self._places.values())))
                file.flush()
                _own_like(file.fileno(), self._path)
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            log.warning("%s: cannot be saved: %s", self._path, error.strerror)
        self._known = _state(self._path)


def _state(path: Path) -> tuple[int, int] | None:
    """By which a changed file is known; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _own_like(fd: int, path: Path) -> None:
    """Give a file to whom the directory of `path` belongs: root may be the one who writes it."""
    owner = path.parent.stat()
    if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(fd, owner.st_uid, owner.st_gid)
