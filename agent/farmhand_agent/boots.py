"""When the machine boots and goes down, and how: events of the node, told once each.

A small file remembers the boot and how the agent's last run ended, so that the next start can tell
a power cut from a shutdown. What is to be told is saved before it is told: after a crash in between
it is told again with the same time, which is the same event.
"""

import contextlib
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from farmhand_agent.reading import Value

log = logging.getLogger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
RUN = Path("/run")
ANSWER_SECONDS = 1.0
_MOST_UNTOLD = 16
"""Events kept for an agent that crashes again and again before it can tell them."""

Kind = Literal["boot", "shutdown", "agent_start", "agent_stop"]
Ended = Literal["running", "agent_stop", "shutdown"]

_BOOTED: dict[Ended, str] = {
    "shutdown": "the machine was shut down cleanly before",
    "running": "the machine went down without a clean shutdown: power cut, crash or reset",
    "agent_stop": "the agent had been stopped before: how the machine went down is not known",
}
_STARTED: dict[Ended, str] = {
    "agent_stop": "the agent had been stopped",
    "running": "the agent had ended without being stopped",
    "shutdown": "the agent had been stopped for a shutdown that did not come",
}


class Event(msgspec.Struct, frozen=True):
    """One reading of `host_event`."""

    kind: Kind
    text: str
    time_ns: int

    @property
    def fields(self) -> dict[str, Value]:
        """Fields of the reading."""
        return {"kind": self.kind, "text": self.text}


class _Memory(msgspec.Struct, frozen=True):
    boot_id: str
    ended: Ended
    """How the last run ended; `running` while one runs, or when it was cut off."""
    untold: tuple[Event, ...] = ()


Tell = Callable[[Event], None]
"""Takes an event for good: when it returns, the event is in the spool."""


class Boots:
    """Tells of boots and shutdowns of the machine, and of starts and stops of the agent.

    A file that cannot be read or written costs the memory of earlier runs, nothing else. `wall` is
    the wall clock in nanoseconds, `uptime` the time since boot in nanoseconds, sleep included.
    """

    def __init__(
        self,
        path: Path,
        wall: Callable[[], int] = time.time_ns,
        uptime: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        boot_id: Path = BOOT_ID,
    ) -> None:
        self._path = path
        self._wall = wall
        self._uptime = uptime
        self._boot_id = _boot_id(boot_id)

    def start(self, tell: Tell) -> None:
        """Tell that the machine has booted, or that the agent has started anew since then."""
        memory, lost = self._load()
        self._tell("running", memory, self._started(memory, lost), tell)

    def stop(self, tell: Tell, going_down: bool) -> None:
        """Tell that the agent stops, or that it does because the machine is going down."""
        memory, _ = self._load()
        if going_down:
            event = Event("shutdown", "the machine is going down", self._wall())
            self._tell("shutdown", memory, event, tell)
        else:
            event = Event("agent_stop", "the agent was stopped", self._wall())
            self._tell("agent_stop", memory, event, tell)

    def _started(self, memory: _Memory | None, lost: bool) -> Event:
        if memory is None:
            text = "what was known of earlier starts is lost" if lost else "first start"
            return Event("agent_start", text, self._wall())
        if self._boot_id and memory.boot_id and memory.boot_id != self._boot_id:
            return Event("boot", _BOOTED[memory.ended], self._wall() - self._uptime())
        return Event("agent_start", _STARTED[memory.ended], self._wall())

    def _tell(self, ended: Ended, before: _Memory | None, event: Event, tell: Tell) -> None:
        untold = () if before is None else before.untold[-_MOST_UNTOLD:]
        events = (*untold, event)
        self._save(_Memory(self._boot_id, ended, events))
        for each in events:
            tell(each)
        self._save(_Memory(self._boot_id, ended))

    # --- the file ---

    def _load(self) -> tuple[_Memory | None, bool]:
        """What was remembered, and whether something was that cannot be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Memory), False
        except FileNotFoundError:
            return None, False
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            log.warning("%s: cannot be used, starting a new one: %s", self._path, error)
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_suffix(".unreadable"))
            return None, True

    def _save(self, memory: _Memory) -> None:
        beside = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(msgspec.json.encode(memory))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            log.warning("%s: cannot be saved: %s", self._path, error.strerror)


def _boot_id(path: Path) -> str:
    """The kernel's name of this boot; empty where it tells none."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def machine_is_going_down(run: Path = RUN, systemctl: str | None = None) -> bool:
    """Whether the machine is being shut down; answers within a second or so.

    Where systemd does not answer, because there is none or its bus has gone already, the files
    that it leaves in `/run` tell.
    """
    state = _system_state(systemctl or shutil.which("systemctl"))
    if state:
        return state == "stopping"
    return any((run / name).exists() for name in ("nologin", "systemd/shutdown/scheduled"))


_STATES = frozenset({"initializing", "starting", "running", "degraded", "maintenance", "stopping"})


def _system_state(systemctl: str | None) -> str:
    """State of the system as systemd tells it; empty where it does not."""
    if systemctl is None:
        return ""
    try:
        answer = subprocess.run(
            [systemctl, "is-system-running"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    state = answer.stdout.decode("ascii", "replace").strip()
    return state if state in _STATES else ""
