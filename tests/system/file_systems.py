"""File systems of the tests' own, on loop devices and in memory; need root, and leave nothing."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MIB = 2**20

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN: _IOR('X', 125, u32)."""
_WITHOUT_FLUSHING = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH."""


def _run(*command: str | Path) -> str:
    """What a program printed.

    Raises:
        AssertionError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = " ".join(map(str, command))
    assert done.returncode == 0, f"{line}: {done.stderr.strip()} (these tests need root)"
    return done.stdout.strip()


@contextmanager
def memory_disk(directory: Path, size_bytes: int) -> Iterator[Path]:
    """A tmpfs of a size; where it is mounted."""
    place = directory / "memory"
    place.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", place)
    try:
        yield place
    finally:
        _run("umount", "--lazy", place)


class Ext4:
    """An ext4 on a loop device; `place` is where it is mounted."""

    def __init__(self, directory: Path, size_bytes: int) -> None:
        self.place = directory / "ext4"
        self.place.mkdir()
        image = directory / "ext4.image"
        with image.open("wb") as file:
            file.truncate(size_bytes)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", image)
        self._device = _run("losetup", "--find", "--show", image)
        self._is_mounted = False

    def mount(self, options: str = "errors=remount-ro") -> None:
        """Mount it."""
        _run("mount", "-o", options, self._device, self.place)
        self._is_mounted = True

    def unmount(self) -> None:
        """Unmount it; nobody may use it."""
        _run("umount", self.place)
        self._is_mounted = False

    def remount(self, option: str) -> None:
        """Make it writable (`rw`) or not (`ro`)."""
        _run("mount", "-o", f"remount,{option}", self.place)

    def cut_power(self) -> None:
        """Stop writing to the device at once: what was not synced will never be there."""
        directory = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSHING))
        finally:
            os.close(directory)

    def find_error(self) -> None:
        """Let it find an error in itself: it becomes read-only under whoever writes."""
        name = Path(self._device).name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("made by a test")

    def repair(self) -> None:
        """Check and repair it; it must not be mounted."""
        # 0 is sound, 1 is repaired.
        done = subprocess.run(
            ["e2fsck", "-p", "-f", self._device], capture_output=True, check=False
        )
        assert done.returncode in (0, 1), done.stdout

    def close(self) -> None:
        """Unmount it whoever uses it, and give the device back."""
        if self._is_mounted:
            _run("umount", "--lazy", self.place)
        _run("losetup", "--detach", self._device)


@contextmanager
def ext4(directory: Path, size_bytes: int) -> Iterator[Ext4]:
    """An ext4 that is there, mounted, while the block runs."""
    made = Ext4(directory, size_bytes)
    try:
        made.mount()
        yield made
    finally:
        made.close()


def fill(place: Path) -> Path:
    """Take all the room that is left; returns the file that does so."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    with filler.open("rb") as file:
        os.fsync(file.fileno())
    return filler
