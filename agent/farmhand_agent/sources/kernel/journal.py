"""The kernel log from the journal, as `journalctl` prints it."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence

import msgspec

from farmhand_agent.sources.kernel.record import (
    Chunk,
    LogEnded,
    NoLog,
    Position,
    Record,
    Wanted,
    boot_id,
)

JOURNALCTL = "journalctl"
PROOF_SECONDS = 10.0
"""Time in which journald must show one entry; without permission it shows none, for ever."""

_LINES_BYTES = 64 * 1024
_READS_AT_ONCE = 16
_LONGEST_LINE_BYTES = 1024 * 1024


class _Entry(msgspec.Struct):
    """A journal entry, as far as it matters; fields with an underscore cannot be made up."""

    message: object = msgspec.field(name="MESSAGE", default=None)
    facility: str = msgspec.field(name="SYSLOG_FACILITY", default="")
    transport: str = msgspec.field(name="_TRANSPORT", default="")
    usec: str = msgspec.field(name="_SOURCE_MONOTONIC_TIMESTAMP", default="")
    taken_usec: str = msgspec.field(name="__MONOTONIC_TIMESTAMP", default="")
    boot: str = msgspec.field(name="_BOOT_ID", default="")
    cursor: str = msgspec.field(name="__CURSOR", default="")

    def is_kernels(self, boot: str) -> bool:
        """Whether the kernel wrote it in this boot."""
        return self.transport == "kernel" and self.facility == "0" and self.boot == boot


_FIELDS = "MESSAGE,SYSLOG_FACILITY,_TRANSPORT,_SOURCE_MONOTONIC_TIMESTAMP,_BOOT_ID"
_NUMBERS = re.compile(rb'"MESSAGE"\s*:\s*\[')
"""A message that is no text comes as the numbers of its bytes."""


class JournalLog:
    """Reads what `journalctl` prints as it follows the log of this boot.

    `others` says why the log is not read in another way, for the complaint that this fails too.

    Raises:
        NoLog: it cannot be started.
    """

    lost = 0

    def __init__(
        self,
        after: Position,
        wanted: Wanted,
        program: str = JOURNALCTL,
        boot: str = "",
        others: Sequence[str] = (),
    ) -> None:
        self._after = after
        self._wanted = wanted
        self._boot = (boot or boot_id()).replace("-", "")
        self._others = others
        self._rest = b""
        self._last_usec, self._order = -1, 0
        self.due: float | None = time.monotonic() + PROOF_SECONDS
        try:
            self._process = subprocess.Popen(
                _journal_command(program, after),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        except OSError as error:
            raise NoLog(f"{program}: {error.strerror}") from None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._out, self._err = self._process.stdout.fileno(), self._process.stderr.fileno()
        os.set_blocking(self._out, False)
        os.set_blocking(self._err, False)

    @property
    def how(self) -> str:
        """See `Log`."""
        return "journal" if self.due is None else "none"

    @property
    def pid(self) -> int | None:
        """See `Log`."""
        return self._process.pid

    def fileno(self) -> int:
        """See `Log`."""
        return self._out

    def read(self) -> Chunk:
        """See `Log`."""
        records: list[Record] = []
        for _ in range(_READS_AT_ONCE):
            try:
                data = os.read(self._out, _LINES_BYTES)
            except BlockingIOError:
                if self.due is not None and time.monotonic() >= self.due:
                    raise LogEnded(self._complaint("shows no entry of the kernel")) from None
                return Chunk(records, drained=True)
            if not data and records:
                break
            if not data:
                raise LogEnded(self._complaint("ended"))
            for line in self._lines(data):
                records += self._taken(line)
        return Chunk(records, drained=False)

    def close(self) -> None:
        """See `Log`."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _lines(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE_BYTES:
            self._rest = b""
        if lines:
            self.due = None
        return lines

    def _taken(self, line: bytes) -> Iterator[Record]:
        if not (self._wanted(line) or _NUMBERS.search(line)):
            return
        try:
            entry = msgspec.json.decode(line, type=_Entry)
            usec, taken_usec = int(entry.usec), int(entry.taken_usec)
        except ValueError:
            return
        text = _text(entry.message)
        if not (entry.is_kernels(self._boot) and self._wanted(text.encode(errors="replace"))):
            return
        self._order = (self._order + 1) % 1000 if taken_usec == self._last_usec else 0
        self._last_usec = taken_usec
        position = Position(usec, cursor=entry.cursor)
        if not self._after.is_past(position):
            yield Record(text, usec, self._order, position, taken_usec)

    def _complaint(self, otherwise: str) -> str:
        """What it said last on its way out."""
        said = b""
        with contextlib.suppress(BlockingIOError):
            said = os.read(self._err, _LINES_BYTES)
        lines = said.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), otherwise)
        return "; ".join((*self._others, f"journalctl: {last}"))


def _journal_command(program: str, after: Position) -> list[str]:
    """Command that starts at the last known entry: at least that one proves that it can read."""
    known = [f"--cursor={after.cursor}"] if after.cursor else []
    return [
        *(program, "--dmesg", "--boot", "--follow", "--no-tail", "--no-pager"),
        *("--output=json", f"--output-fields={_FIELDS}", *known),
    ]


def _text(message: object) -> str:
    """Text of an entry; what is no text comes as a list of bytes, what is too long as null."""
    if isinstance(message, list):
        try:
            return bytes(message).decode(errors="replace")
        except (TypeError, ValueError):
            return ""
    return message if isinstance(message, str) else ""
