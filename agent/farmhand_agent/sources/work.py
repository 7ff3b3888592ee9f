"""Useful work per second, as jobs tell it in small files of a directory; `docs/work.md` is theirs.

Anyone on the machine may write there, so nothing in it is trusted: links are not followed, nothing
is waited for, only so much is read, and what is not understood costs one line in the log.
"""

import logging
import math
import os
import re
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from farmhand_agent.inventory import Place
from farmhand_agent.reading import UNIDENTIFIED, Value, clean

log = logging.getLogger(__name__)

LANES = 8
STALE_SECONDS = 120.0
MOST_BYTES = 4096
MOST_FILES = 256
_MOST_ENTRIES = 4096
_PASSED_OVER = (".tmp", ".part")
_PATIENCE_SECONDS = 25.0
"""How long a file must be wrong before it is told: one that is half written is right soon."""
_MOST_TOLD = 50
_TOLD_SECONDS = 3600.0

_LANE_NUMBERS = frozenset(map(str, range(LANES)))
_TEXTS = ("unit", "job", "gang")

_UUID = re.compile(r"([0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12})(?:/.*)?")
"""With what follows it in `MIG-GPU-UUID/1/0`, an instance of that card."""
_PCI = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})(?:\.([0-7]))?")
_PREFIX = re.compile(r"(?:mig-)?(?:gpu-)?")


class KnownCard(NamedTuple):
    """A card and the names by which a job may call it, besides its slot and its identity."""

    place: Place
    pci_address: str = ""
    number: int | None = None
    """Number that the driver's own tools give it."""


class Work(NamedTuple):
    """What one job does on one card: the fields of a `work` reading."""

    place: Place
    lane: int
    fields: dict[str, Value]


class _Wrong(Exception):
    """A file cannot be used; the message is the same however often it is written anew."""


class _Report(NamedTuple):
    card: str
    slot: str
    lane: int | None
    fields: dict[str, Value]


Signature = tuple[int, int, int]
"""Inode, time of change in nanoseconds, size."""


@dataclass(slots=True)
class _File:
    signature: Signature
    seen: float
    """When it was found to be like this."""
    age_seconds: float
    """How old it was then."""
    report: _Report | None = None


class WorkSource:
    """Reads a directory of work files; a missing directory is no work.

    `wall` is the clock of the files' times, `clock` a monotonic one, both in seconds.
    """

    def __init__(
        self,
        directory: Path,
        stale_seconds: float = STALE_SECONDS,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._stale_seconds = stale_seconds
        self._wall = wall
        self._clock = clock
        self._files: dict[str, _File] = {}
        self._lanes: dict[str, tuple[str, int]] = {}
        self._wrongs = _Wrongs(directory)

    def read(self, cards: Iterable[KnownCard]) -> list[Work]:
        """Work on the given cards that is reported and not stale, by slot and lane."""
        wrongs: dict[str, str] = {}
        self._look(wrongs)
        names = _Names(cards)
        found: dict[str, tuple[Place, _Report]] = {}
        for name, file in self._files.items():
            if file.report is None or self._is_stale(file):
                continue
            try:
                found[name] = names.place(file.report), file.report
            except _Wrong as wrong:
                wrongs[name] = str(wrong)
        self._assign_lanes(found, wrongs)
        self._wrongs.take(wrongs, self._clock())
        work = [
            Work(found[name][0], lane, found[name][1].fields)
            for name, (_, lane) in self._lanes.items()
        ]
        return sorted(work, key=lambda each: (each.place.slot, each.lane))

    # --- files ---

    def _look(self, wrongs: dict[str, str]) -> None:
        """Bring what is known of the files up to date."""
        try:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            self._files = {}
            return
        except OSError as error:
            self._files = {}
            wrongs[""] = f"cannot be read: {error.strerror}"
            return
        try:
            names = self._names(descriptor, wrongs)
            looked = {name: self._look_at(name, descriptor, wrongs) for name in names}
        finally:
            os.close(descriptor)
        self._files = {name: file for name, file in looked.items() if file is not None}

    def _names(self, directory: int, wrongs: dict[str, str]) -> list[str]:
        """The files to look at, those first that were good: a flood must not drown them."""
        try:
            with os.scandir(directory) as entries:
                listed = [entry.name for entry in islice(entries, _MOST_ENTRIES)]
        except OSError as error:
            wrongs[""] = f"cannot be read: {error.strerror}"
            listed = []
        good = [name for name, file in self._files.items() if file.report is not None]
        wanted = [n for n in listed if not n.startswith(".") and not n.endswith(_PASSED_OVER)]
        names = list(dict.fromkeys([*good, *wanted]))
        if len(names) > MOST_FILES or len(listed) == _MOST_ENTRIES:
            wrongs[""] = f"holds too many files, expected at most {MOST_FILES}"
        return names[:MOST_FILES]

    def _look_at(self, name: str, directory: int, wrongs: dict[str, str]) -> _File | None:
        """The file as it is now, read where it has changed or was wrong; None where it is gone.

        What a file said before stands until it is stale when the file is wrong now: it may be half
        written.
        """
        before = file = self._files.get(name)
        try:
            state = os.stat(name, dir_fd=directory, follow_symlinks=False)
            file = self._dated(before, state)
            if file.report is None and not self._is_stale(file):
                content, state = _content(name, directory, state)
                # It may have been replaced since: what counts is the file that was read.
                file = self._dated(file, state)
                file.report = _parse(content)
        except FileNotFoundError:
            return None
        except OSError as error:
            wrongs[name] = f"cannot be read: {error.strerror}"
        except _Wrong as wrong:
            wrongs[name] = str(wrong)
        good = before is not None and before.report is not None
        return before if good and name in wrongs else file

    def _dated(self, before: _File | None, state: os.stat_result) -> _File:
        """The file as known, or as it is from now on.

        A change that is seen happening is new, whatever the clocks say. Only of a file that was
        there before does its time tell how old it is; a time to come tells nothing.
        """
        signature = (state.st_ino, state.st_mtime_ns, state.st_size)
        if before is not None and before.signature == signature:
            return before
        age_seconds = max(self._wall() - state.st_mtime, 0.0) if before is None else 0.0
        return _File(signature, self._clock(), age_seconds)

    def _is_stale(self, file: _File) -> bool:
        return file.age_seconds + self._clock() - file.seen > self._stale_seconds

    # --- lanes ---

    def _assign_lanes(
        self, found: Mapping[str, tuple[Place, _Report]], wrongs: dict[str, str]
    ) -> None:
        """Give each file a lane of its card and let it keep it; those that ask for one go first."""
        taken: defaultdict[str, set[int]] = defaultdict(set)
        kept = {name: lane for name, lane in self._lanes.items() if _keeps(lane, found.get(name))}
        for slot, lane in kept.values():
            taken[slot].add(lane)
        new = sorted(found.keys() - kept.keys(), key=lambda n: (found[n][1].lane is None, n))
        for name in new:
            place, report = found[name]
            try:
                lane = _lane(report.lane, taken[place.slot])
            except _Wrong as wrong:
                wrongs[name] = str(wrong)
                continue
            taken[place.slot].add(lane)
            kept[name] = place.slot, lane
        self._lanes = kept


def _keeps(lane: tuple[str, int], found: tuple[Place, _Report] | None) -> bool:
    if found is None:
        return False
    place, report = found
    return place.slot == lane[0] and report.lane in (None, lane[1])


def _lane(wanted: int | None, taken: set[int]) -> int:
    """The lane that is asked for, or the first that is free.

    Raises:
        _Wrong: it is taken, or all are.
    """
    if wanted is not None and wanted in taken:
        raise _Wrong("asks for a lane that another file of the card has")
    free = [lane for lane in range(LANES) if lane not in taken]
    if not free:
        raise _Wrong(f"is one too many: a card has {LANES} lanes")
    return free[0] if wanted is None else wanted


class _Wrongs:
    """Tells once of each file that stays wrong, and of no more than a reader of the log bears."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._since: dict[tuple[str, str], float] = {}
        self._told: set[tuple[str, str]] = set()
        self._counted = 0
        self._counting = -math.inf

    def take(self, wrongs: Mapping[str, str], now: float) -> None:
        """Take what is wrong now, by file; the name of the directory itself is empty."""
        present = set(wrongs.items())
        self._since = {wrong: self._since.get(wrong, now) for wrong in present}
        self._told &= present
        for wrong in sorted(present - self._told):
            if now - self._since[wrong] >= _PATIENCE_SECONDS and self._may_tell(now):
                self._told.add(wrong)
                name, reason = wrong
                # Names are anyone's text: what is not printable is escaped.
                log.warning("work: %r %s", str(self._directory / name), reason)

    def _may_tell(self, now: float) -> bool:
        if now - self._counting >= _TOLD_SECONDS:
            self._counting, self._counted = now, 0
        self._counted += 1
        return self._counted <= _MOST_TOLD


# --- one file ------------------------------------------------------------------------------------


def _content(name: str, directory: int, state: os.stat_result) -> tuple[bytes, os.stat_result]:
    """Bytes of a plain file, and what it was when they were read.

    Raises:
        OSError: it cannot be read.
        _Wrong: it is no plain file, too large, or has a second name: the other may be in a place
            that its writer may not read, but the agent may.
    """
    _check_plain(state)
    # It may be replaced by something else at any moment: a link, a pipe that never says anything.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    descriptor = os.open(name, flags, dir_fd=directory)
    try:
        state = os.fstat(descriptor)
        _check_plain(state)
        content = os.read(descriptor, MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MOST_BYTES:
        raise _Wrong(f"is too large, expected at most {MOST_BYTES} bytes")
    return content, state


def _check_plain(state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise _Wrong("is no plain file")
    if state.st_nlink > 1:
        raise _Wrong("has a second name, expected no hard link")
    if state.st_size > MOST_BYTES:
        raise _Wrong(f"is too large, expected at most {MOST_BYTES} bytes")


def _parse(content: bytes) -> _Report:
    """What a file says.

    Raises:
        _Wrong: a line is not understood, or card or rate are missing.
    """
    pairs: dict[str, str] = {}
    for line in content.decode("utf-8-sig", "replace").split("\n"):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise _Wrong("has a line that is not key=value")
        pairs[key.strip().casefold()] = clean(value).strip("\"'")
    if not pairs.get("card") and not pairs.get("slot"):
        raise _Wrong("names no card, expected card=UUID, PCI address or number, or slot=SLOT")
    fields: dict[str, Value] = {"rate": _rate(pairs.get("rate", ""))}
    fields |= {name: pairs[name] for name in _TEXTS if pairs.get(name)}
    return _Report(pairs.get("card", ""), pairs.get("slot", ""), _lane_of(pairs), fields)


def _rate(value: str) -> float:
    try:
        rate = float(value)
    except ValueError:
        rate = math.nan
    if not 0 <= rate < math.inf:
        raise _Wrong("has no usable rate, expected rate= a number of 0 or more")
    return rate


def _lane_of(pairs: Mapping[str, str]) -> int | None:
    value = pairs.get("lane", "")
    if not value:
        return None
    if value not in _LANE_NUMBERS:
        raise _Wrong(f"has no usable lane, expected lane= 0 to {LANES - 1}")
    return int(value)


# --- names of cards ------------------------------------------------------------------------------


class _Names:
    """Finds the card that a file names."""

    def __init__(self, cards: Iterable[KnownCard]) -> None:
        self._by_name: defaultdict[str, dict[str, Place]] = defaultdict(dict)
        self._by_slot: dict[str, Place] = {}
        for card in cards:
            place = card.place
            self._by_slot[place.slot.casefold()] = place
            for name in _names_of(card):
                self._by_name[name][place.slot] = place

    def place(self, report: _Report) -> Place:
        """The place of the card.

        Raises:
            _Wrong: no card has this name, or more than one.
        """
        found = self._found(report)
        if not found:
            raise _Wrong("names a card that is not on this machine")
        if len(found) > 1:
            raise _Wrong("names more than one card of this machine")
        return found[0]

    def _found(self, report: _Report) -> list[Place]:
        if not report.card:
            place = self._by_slot.get(report.slot.casefold())
            return [] if place is None else [place]
        return list(self._by_name.get(_key(report.card), {}).values())


def _names_of(card: KnownCard) -> set[str]:
    place = card.place
    names = {_key(card.pci_address)} if card.pci_address else set()
    if place.card != UNIDENTIFIED:
        names.add(_key(place.card))
    if card.number is not None:
        names |= {str(card.number), f"{place.vendor}:{card.number}"}
    # A label that is a number would be mistaken for the driver's number.
    if not place.slot.isdecimal():
        names.add(_key(place.slot))
    return names


def _key(name: str) -> str:
    """One spelling for all spellings of a name."""
    folded = name.strip().casefold()
    uuid = _UUID.fullmatch(_PREFIX.sub("", folded, count=1))
    if uuid is not None:
        return uuid[1].replace("-", "")
    address = _PCI.fullmatch(folded)
    if address is not None:
        domain, bus, device = (int(part or "0", 16) for part in address.groups()[:3])
        return f"{domain:04x}:{bus:02x}:{device:02x}.{address[4] or 0}"
    return folded
