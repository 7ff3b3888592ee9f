"""A disk that can lose power, fill up and fail, for a process that is started with it.

A shim stands between the process and the system and notes each change that it makes to the files
of one directory, and each sync. After a power cut the directory holds what was synced, and of the
changes since then any part: a sector of 512 bytes is the smallest thing that is written as a
whole, sectors reach the disk in any order, and names change in the order in which they were
changed. A sync of one file also makes durable all changes of names and sizes before it, as the
journals of ext4 and XFS do.
"""

import mmap
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from enum import Enum, IntEnum
from pathlib import Path
from typing import NamedTuple

SECTOR_BYTES = 512
_NUMBER = struct.Struct("<q")
_HEAD = struct.Struct("<4q")


class Kind(IntEnum):
    """What was done to a file; as in crash_disk.c."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    UNLINK = 5
    RENAME = 6


class Change(NamedTuple):
    """One record of the shim."""

    kind: Kind
    path: str
    data: bytes
    offset: int


class Unsynced(Enum):
    """What a power cut leaves of changes that were not synced."""

    NOTHING = "nothing"
    ANYTHING = "anything"
    EVERYTHING = "everything"


def build(directory: Path) -> Path:
    """Compile the shim.

    Raises:
        RuntimeError: there is no gcc, or it does not accept the source.
    """
    gcc = shutil.which("gcc")
    if gcc is None:
        raise RuntimeError("gcc is missing: tests build a disk that fails (apt-get install gcc)")
    library = directory / "crash_disk.so"
    source = Path(__file__).with_name("crash_disk.c")
    flags = "-std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC"
    command = [gcc, *flags.split(), "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"gcc refused {source.name}:\n{done.stderr}")
    return library


class CrashDisk:
    """The disk; `root` is the directory on it."""

    def __init__(self, library: Path, directory: Path) -> None:
        self.root = directory / "disk"
        self.root.mkdir()
        self._library = library
        self._log = directory / "log"
        self._log.touch()
        self._shared = directory / "control"
        self._shared.write_bytes(bytes(5 * _NUMBER.size))
        with self._shared.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), 0)
        self._base: dict[str, bytes] = {}
        self.heal()
        self.settle()

    def environment(self) -> dict[str, str]:
        """Environment of a process that works on the disk."""
        shim = {"LD_PRELOAD": self._library, "CRASH_DISK_ROOT": self.root}
        files = {"CRASH_DISK_LOG": self._log, "CRASH_DISK_CONTROL": self._shared}
        return os.environ | {key: str(path) for key, path in (shim | files).items()}

    def close(self) -> None:
        """Let go of the disk."""
        self._control.close()

    # -- what the process meets --

    def kill_before(self, change: int) -> None:
        """Kill the process just before its so many-th change from now; 0 for never."""
        self._set(0, change)

    def fill(self, free_bytes: int, *, copies_on_write: bool = False) -> None:
        """Let files grow by so much and no more; or let so much be written at all."""
        self._set(1, free_bytes)
        self._set(3, copies_on_write)

    def fail(self, error: int, *, after: int = 0) -> None:
        """Fail each change but the next few, and each opening for writing, with an error."""
        self._set(2, error)
        self._set(4, after)

    def heal(self) -> None:
        """Work again, with room for anything."""
        self._set(0, 0)
        self._set(1, -1)
        self._set(2, 0)

    def _set(self, index: int, value: int) -> None:
        _NUMBER.pack_into(self._control, index * _NUMBER.size, value)

    # -- what happens to the files; no process may be at work --

    def settle(self) -> None:
        """Take what is there now as synced."""
        self._base = self.files()
        os.truncate(self._log, 0)

    def files(self) -> dict[str, bytes]:
        """What is in the directory now."""
        return {path.name: path.read_bytes() for path in self.root.iterdir()}

    def cut_power(self, left: Unsynced, seed: int) -> None:
        """Leave in the directory what a power cut leaves; the seed decides what is any part."""
        image = _Image(self._base)
        for change in self.changes():
            image.apply(change)
        assert image.now() == self.files(), "the shim missed a change"
        durable = image.after_power_cut(left, random.Random(seed))
        for path in self.root.iterdir():
            path.unlink()
        for name, data in durable.items():
            (self.root / name).write_bytes(data)
        self.settle()

    def largest_bytes(self, *names: str) -> int:
        """Most that these files ever held together since the disk was settled."""
        sizes = {name: len(data) for name, data in self._base.items()}
        most = 0
        for change in self.changes():
            _resize(sizes, change)
            most = max(most, sum(sizes.get(name, 0) for name in names))
        return most

    def changes(self) -> Iterator[Change]:
        """What was done since the disk was settled."""
        log = memoryview(self._log.read_bytes())
        place = 0
        while place < len(log):
            kind, path_size, data_size, offset = _HEAD.unpack_from(log, place)
            path_at = place + _HEAD.size
            data_at = path_at + path_size
            place = data_at + data_size
            name = Path(os.fsdecode(bytes(log[path_at:data_at]))).name
            yield Change(Kind(kind), name, bytes(log[data_at:place]), offset)


def _resize(sizes: dict[str, int], change: Change) -> None:
    name = change.path
    if change.kind is Kind.RENAME:
        sizes[Path(os.fsdecode(change.data)).name] = sizes.pop(name)
    elif change.kind is Kind.UNLINK:
        sizes.pop(name)
    elif change.kind is Kind.TRUNCATE:
        sizes[name] = change.offset
    elif change.kind is Kind.CREATE:
        sizes[name] = 0
    elif change.kind is Kind.WRITE and name in sizes:
        sizes[name] = max(sizes[name], change.offset + len(change.data))


class _File:
    """A file: what is synced, and what was changed since."""

    def __init__(self, data: bytes = b"") -> None:
        self.synced = bytearray(data)
        self.now = bytearray(data)
        self.writes: list[tuple[int, bytes]] = []

    def write(self, offset: int, data: bytes) -> None:
        _write(self.now, offset, data)
        self.writes.append((offset, data))

    def sync(self) -> None:
        for offset, data in self.writes:
            _write(self.synced, offset, data)
        self.writes = []

    def truncate(self, size: int) -> None:
        _truncate(self.now, size)
        self.writes = [(at, data[: size - at]) for at, data in self.writes if at < size]


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _truncate(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


class _Image:
    """Files as the process sees them, and as they would be after a power cut."""

    def __init__(self, base: dict[str, bytes]) -> None:
        self._names = {name: _File(data) for name, data in base.items()}
        self._synced_names = dict(self._names)
        self._journal: list[tuple[Change, _File]] = []
        """Changes of names and sizes that no sync has made durable, each with its file."""

    def now(self) -> dict[str, bytes]:
        return {name: bytes(file.now) for name, file in self._names.items()}

    def apply(self, change: Change) -> None:
        if change.kind is Kind.WRITE:
            # What is written to a file that has no name any more is of no interest.
            if change.path in self._names:
                self._names[change.path].write(change.offset, change.data)
        elif change.kind is Kind.SYNC:
            self._commit(len(self._journal))
            if change.path in self._names:
                self._names[change.path].sync()
        else:
            made = change.kind is Kind.CREATE
            file = _File() if made else self._names[change.path]
            _rename(self._names, change, file)
            if change.kind is Kind.TRUNCATE:
                file.truncate(change.offset)
            self._journal.append((change, file))

    def after_power_cut(self, left: Unsynced, rng: random.Random) -> dict[str, bytes]:
        if left is Unsynced.EVERYTHING:
            return self.now()
        anything = left is Unsynced.ANYTHING
        self._commit(rng.randint(0, len(self._journal)) if anything else 0)
        if anything:
            for file in self._synced_names.values():
                self._scatter(file, rng)
        return {name: bytes(file.synced) for name, file in self._synced_names.items()}

    def _commit(self, count: int) -> None:
        """Make so many changes of names and sizes durable."""
        for change, file in self._journal[:count]:
            _rename(self._synced_names, change, file)
            if change.kind is Kind.TRUNCATE:
                _truncate(file.synced, change.offset)
        del self._journal[:count]

    @staticmethod
    def _scatter(file: _File, rng: random.Random) -> None:
        """Let any sectors of what was not synced reach the disk."""
        share = rng.random()
        for offset, data in file.writes:
            place = 0
            while place < len(data):
                size = min(SECTOR_BYTES - (offset + place) % SECTOR_BYTES, len(data) - place)
                if rng.random() < share:
                    _write(file.synced, offset + place, data[place : place + size])
                place += size


def _rename(names: dict[str, _File], change: Change, file: _File) -> None:
    if change.kind in (Kind.UNLINK, Kind.RENAME):
        del names[change.path]
    if change.kind is Kind.CREATE:
        names[change.path] = file
    elif change.kind is Kind.RENAME:
        names[Path(os.fsdecode(change.data)).name] = file
