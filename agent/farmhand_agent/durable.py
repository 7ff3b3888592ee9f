"""Small files that are whole whatever happens: written beside, flushed, put in place."""

import os
from pathlib import Path

OWN = 0o600
"""Mode of a file for its owner alone."""
PUBLIC = 0o644
"""Mode of a file that all may read."""


def write(path: Path, content: bytes, mode: int = OWN) -> None:
    """Put a file in place of another one at once; after a power cut there is one of the two.

    It belongs to whom the file before it or else its directory belongs: root may have to write for
    a service that has a user of its own.

    Raises:
        OSError: it cannot be written; the file before it is as it was.
    """
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    # Its mode is right before there is anything in it.
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            _own_like(file.fileno(), path)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush_directory(path.parent)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Make a directory that belongs to whom the one above it belongs, unless it is there.

    Raises:
        OSError: it cannot be made.
    """
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=mode, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _own_like(descriptor, path.parent)
    finally:
        os.close(descriptor)


def flush_directory(path: Path) -> None:
    """Have the names in a directory on disk.

    Raises:
        OSError: the disk does not take them.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def identity(path: Path) -> tuple[int, ...] | None:
    """By which a changed file is known; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _own_like(descriptor: int, path: Path) -> None:
    if os.geteuid() != 0:
        return
    like = (path if path.exists() else path.parent).stat()
    os.fchown(descriptor, like.st_uid, like.st_gid)
