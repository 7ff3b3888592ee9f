"""A stand-in for the NVIDIA driver's library; README.md tells what it does."""

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SONAME = "libnvidia-ml.so.1"

NOT_SUPPORTED = "not supported"
LOST = "lost"
MISSING = "missing"
DEPRECATED = "deprecated"
HANG = "hang"
CRASH = "crash"


def error(code: int) -> str:
    """Entry that makes the call return `code`."""
    return f"error {code}"


def hang(seconds: float, entry: "Entry" = "") -> str:
    """Entry that hangs for a while and then answers `entry`; a gate then lets pass."""
    return f"hang {seconds!r} {entry}".strip()


def slow(milliseconds: float, entry: "Entry" = "") -> str:
    """Entry that takes its time before it answers `entry`; a gate then lets pass."""
    return f"slow {milliseconds!r} {entry}".strip()


def sleep_in(path: Path, entry: "Entry" = "") -> str:
    """Entry that writes to a file, which must exist, before it answers `entry`.

    On a frozen file system (`fsfreeze`) the call cannot be interrupted, not even killed.
    """
    return f"sleep_in {path} {entry}".strip()


def typed(kind: str, entry: "Entry | float") -> str:
    """Entry of a field value in a type of its own.

    `kind` is `double`, `uint`, `ulong`, `ulonglong`, `longlong`, `int` or `ushort`.
    """
    return f"{kind} {entry}"


def process_list(memory: "Mapping[int, int | None]") -> str:
    """Entry of a process list: memory in bytes by process number, None where it is not told."""
    told = (f"{pid}:{'n/a' if used is None else used}" for pid, used in memory.items())
    return " ".join(told) or "none"


class Counter(NamedTuple):
    """Entry that grows with the monotonic clock, in every process that reads it alike."""

    base: int
    per_second: float
    since: float

    @classmethod
    def growing(cls, per_second: float, base: int = 0) -> "Counter":
        """Counter at `base` now."""
        return cls(base, per_second, time.monotonic())

    def at(self, per_second: float) -> "Counter":
        """Counter that goes on from its present value at another speed."""
        now = time.monotonic()
        base = self.base + int(self.per_second * (now - self.since))
        return Counter(base, per_second, now)

    def __str__(self) -> str:
        return f"{self.base} +{self.per_second!r}/s @{self.since!r}"


Entry = int | str | Counter
Entries = Mapping[str, Entry]


@dataclass
class State:
    """What the stand-in answers; `write` puts it in place in one step.

    `library` takes any key of the driver that README.md names, each card any key of a card.
    """

    path: Path
    driver: str = "580.95.05"
    library: dict[str, Entry] = field(default_factory=dict)
    cards: list[dict[str, Entry]] = field(default_factory=list)

    def change(self, card: int, /, **entries: Entry) -> None:
        """Change one card's entries and write."""
        self.cards[card].update(entries)
        self.write()

    def raise_xid(self, card: int, /, code: int) -> None:
        """Let one card's driver tell of an XID, to all who registered before, and write."""
        earlier = str(self.cards[card].get("xids", "")).split()
        serial = 1 + max((int(entry.partition(":")[0]) for entry in earlier), default=0)
        self.change(card, xids=" ".join([*earlier, f"{serial}:{code}"]))

    def write(self) -> None:
        """Write the state file so that no reader sees half of it."""
        lines = [f"driver = {self.driver}"]
        lines += [f"{key} = {entry}" for key, entry in self.library.items()]
        for index, card in enumerate(self.cards):
            lines.append(f"[card {index}]")
            lines += [f"{key} = {entry}" for key, entry in card.items()]
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
        # The clock of a file system is coarse: without this two states can look the same.
        now_ns = time.time_ns()
        os.utime(fresh, ns=(now_ns, now_ns))
        fresh.replace(self.path)


def build(library_dir: Path) -> Path:
    """Compile the stand-in into `library_dir` under the name that the binding loads.

    Raises:
        RuntimeError: there is no gcc, or it does not accept the source.
    """
    gcc = shutil.which("gcc")
    if gcc is None:
        raise RuntimeError("gcc is missing: tests build the stand-in library (apt-get install gcc)")
    library = library_dir / SONAME
    sources = sorted(map(str, Path(__file__).parent.glob("*.c")))
    flags = "-std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -pthread"
    command = [gcc, *flags.split(), f"-Wl,-soname,{SONAME}", "-o", str(library), *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"gcc refused the stand-in:\n{done.stderr}")
    return library


def load(library: Path) -> None:
    """Load the stand-in into this process; loading its SONAME later gives the same library."""
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def environment(
    library: Path, state: Path, calls: Path | None = None, *, fixed: bool = False
) -> dict[str, str]:
    """Environment of a process that finds the stand-in where it looks for the driver's library.

    With `fixed` the process reads the state once, when it opens the library: for benchmarks.
    """
    extra = {"LD_LIBRARY_PATH": str(library.parent), "FARMHAND_NVML_STATE": str(state)}
    if fixed:
        extra["FARMHAND_NVML_FIXED"] = "1"
    if calls is not None:
        extra["FARMHAND_NVML_CALLS"] = str(calls)
    return os.environ | extra
