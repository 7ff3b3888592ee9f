"""Reading the kernel log: from its device, through the door, from the journal."""

import contextlib
import json
import logging
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.sources.kernel.journal import JournalLog
from farmhand_agent.sources.kernel.kmsg import KmsgLog, borrow
from farmhand_agent.sources.kernel.log import KernelLog, Ways
from farmhand_agent.sources.kernel.record import (
    KernelClock,
    Log,
    LogEnded,
    NoLog,
    Position,
    Record,
    boot_id,
)
from tests.agent.kernel import HAS_REAL_LOG, Kernel, kernel_log

BOOT = "3109926c-c732-43ac-bc3d-384fd470fb31"
START = Position()
XID = "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."


def everything(_: bytes) -> bool:
    return True


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with kernel_log() as kernel:
        yield kernel


def kmsg(kernel: Kernel, after: Position = START) -> KmsgLog:
    return KmsgLog(kernel.fd(), "kmsg", after, everything)


def texts(records: list[Record]) -> list[str]:
    return [record.text for record in records]


def drain(log: Log) -> list[Record]:
    """All records until a log has no more or ends, each wait bounded."""
    found: list[Record] = []
    while select.select([log.fileno()], [], [], 10.0)[0]:
        try:
            found += log.read().records
        except LogEnded:
            return found
    raise AssertionError("the log did not end")


# --- /dev/kmsg ---------------------------------------------------------------------------------


def test_a_record_is_read_with_its_time_and_number(kernel: Kernel) -> None:
    """Two of the same microsecond are told apart by their number."""
    kernel.seq = 3972
    kernel.say(XID, usec=227_996_636)
    kernel.say("NVRM: again", usec=227_996_636)
    log = kmsg(kernel)
    chunk = log.read()
    log.close()
    assert chunk.drained
    assert chunk.records == [
        Record(XID, 227_996_636, 972, Position(227_996_636, 3972)),
        Record("NVRM: again", 227_996_636, 973, Position(227_996_636, 3973)),
    ]


def test_escapes_become_what_they_stand_for(kernel: Kernel) -> None:
    """New lines, backslashes, text in any language, and bytes that are none."""
    kernel.say("NVRM: one\nNVRM: two \\ Größe")
    kernel.raw(b"3,1,1,-;NVRM: \\xff\\xfe\n")
    log = kmsg(kernel)
    assert texts(log.read().records) == ["NVRM: one\nNVRM: two \\ Größe", "NVRM: \ufffd\ufffd"]
    log.close()


def test_what_is_said_of_devices_is_left_out(kernel: Kernel) -> None:
    """It follows the text in lines of its own."""
    kernel.raw(b"3,0,1,-;NVRM: text\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n")
    log = kmsg(kernel)
    assert texts(log.read().records) == ["NVRM: text"]
    log.close()


@pytest.mark.parametrize("priority", [8 + 3, 16 + 6, 8 * 23])
def test_only_the_kernel_is_believed(kernel: Kernel, priority: int) -> None:
    """What a program writes into the log has another facility, whatever it asks for."""
    kernel.say(XID, priority=priority)
    log = kmsg(kernel)
    assert log.read().records == []
    log.close()


@pytest.mark.parametrize(
    ("after", "left"),
    [
        (START, [0, 1, 2, 3]),
        (Position(usec=20, seq=1), [2, 3]),
        (Position(usec=20), [2, 3]),
        (Position(usec=20, cursor="s=1"), [2, 3]),
        (Position(usec=40, seq=3), []),
    ],
)
def test_records_that_were_dealt_with_are_passed_over(
    kernel: Kernel, after: Position, left: list[int]
) -> None:
    """By their number, or by their time where the log was read in another way before."""
    for number in range(4):
        kernel.say(f"NVRM: {number}", usec=10 * (number + 1))
    log = kmsg(kernel, after)
    assert texts(log.read().records) == [f"NVRM: {number}" for number in left]
    log.close()


def test_overwritten_records_are_counted(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    """Those from before it was opened are not: they may have been read and of no interest."""
    kernel.seq = 100
    kernel.say("NVRM: a")
    log = kmsg(kernel, Position(1, seq=50))
    assert texts(log.read().records) == ["NVRM: a"]
    assert log.lost == 0
    kernel.seq = 150
    kernel.say("NVRM: b")
    kernel.say("NVRM: c")
    assert texts(log.read().records) == ["NVRM: b", "NVRM: c"]
    assert log.lost == 49
    log.close()
    assert "49 records were overwritten" in caplog.text


def test_what_was_read_before_the_end_is_given(kernel: Kernel) -> None:
    """The end comes with the next read."""
    kernel.say("NVRM: last")
    log = kmsg(kernel)
    kernel.hang_up()
    assert texts(log.read().records) == ["NVRM: last"]
    with pytest.raises(LogEnded):
        log.read()
    log.close()


def test_a_log_that_is_closed_has_ended(kernel: Kernel) -> None:
    """A lent descriptor can go away."""
    log = kmsg(kernel)
    kernel.hang_up()
    with pytest.raises(LogEnded, match="closed by the other end"):
        log.read()
    log.close()


@given(st.lists(st.binary(min_size=1, max_size=60) | st.from_regex(rb"[0-9]+,[0-9]+,[0-9]+,.;.*")))
def test_a_malformed_record_does_no_harm(records: list[bytes]) -> None:
    """It is passed over, the next one is read."""
    with kernel_log() as kernel:
        log = kmsg(kernel)
        for record in [*filter(None, records), b"3,9999999999999999999,5,-;NVRM: sound\n"]:
            kernel.raw(record)
            last = log.read().records
        assert texts(last) == ["NVRM: sound"]
        log.close()


@pytest.mark.skipif(
    not (HAS_REAL_LOG and os.access("/dev/kmsg", os.W_OK)), reason="needs the real log, writable"
)
def test_what_root_writes_into_the_real_log_is_not_believed() -> None:
    """The kernel marks it as a program's."""
    mine, other = (os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK) for _ in range(2))
    for fd in (mine, other):
        os.lseek(fd, 0, os.SEEK_END)
    marker = f"NVRM: Xid (PCI:0000:01:00): 79, written by a test, process {os.getpid()}"
    log = KmsgLog(mine, "kmsg", START, everything)
    Path("/dev/kmsg").write_text(f"<3>{marker}\n")
    assert marker not in texts(log.read().records)
    there = []
    with contextlib.suppress(BlockingIOError):
        while True:
            there.append(os.read(other, 16384))
    assert any(marker.encode() in raw for raw in there)
    os.close(other)
    log.close()


# --- times -------------------------------------------------------------------------------------


def test_a_time_is_the_same_when_it_is_read_again() -> None:
    """Small errors of the clocks do not move it."""
    clock = KernelClock(boot_ns=1_700_000_000_000_000_000)
    record = Record(XID, 5_000_000, 7, START)
    later = clock.corrected(clock.boot_ns + 900_000_000 + 6 * 10**9, 6 * 10**9, record)
    assert later == clock
    assert later.time_ns(record) == 1_700_000_005_000_000_007


def test_a_clock_that_was_set_counts_from_then_on() -> None:
    """The machine booted with a wrong clock."""
    clock = KernelClock(boot_ns=0)
    right = clock.corrected(1_700_000_060_000_000_000, 60 * 10**9, None)
    assert right.time_ns(Record(XID, 61_000_000, 0, START)) == 1_700_000_061_000_000_000


def test_a_drift_of_the_kernels_own_clock_is_seen() -> None:
    """A record that was waited for has just been written, whatever its stamp says."""
    day_ns = 86_400 * 10**9
    stamped = Record(XID, (day_ns - 40 * 10**9) // 1000, 0, START)
    clock = KernelClock(boot_ns=0).corrected(day_ns, day_ns, stamped)
    assert clock.time_ns(stamped) == day_ns


# --- the door ----------------------------------------------------------------------------------


@contextmanager
def door(path: Path, lend: str | None) -> Iterator[Path]:
    """A door that lends a descriptor of some file, or nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(10.0)
        thread = threading.Thread(target=_serve, args=(server, lend))
        thread.start()
        yield path
        thread.join()


def _serve(server: socket.socket, lend: str | None) -> None:
    connection, _ = server.accept()
    with connection:
        if lend is not None:
            fd = os.open(lend, os.O_RDONLY)
            socket.send_fds(connection, [b"k"], [fd])
            os.close(fd)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("lent", ["/dev/null", "/proc/version"])
def test_only_the_kernel_log_is_taken_from_the_door(tmp_path: Path, lent: str) -> None:
    """Whoever listens there could lend anything; what it lent is let go of."""
    before = open_files()
    with door(tmp_path / "door", lent) as path, pytest.raises(NoLog, match="not the kernel log"):
        borrow(path)
    assert open_files() == before


def test_a_door_that_lends_nothing_is_said_so(tmp_path: Path) -> None:
    """It could not open the log itself."""
    with door(tmp_path / "door", None) as path, pytest.raises(NoLog, match="nothing was lent"):
        borrow(path)


def test_a_door_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    """The agent has other things to do."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "door"))
        server.listen()
        with pytest.raises(NoLog, match="timed out"):
            borrow(tmp_path / "door", seconds=0.05)


@pytest.mark.skipif(not HAS_REAL_LOG, reason="needs the real log")
def test_the_real_log_is_taken_from_the_door(tmp_path: Path) -> None:
    """It does not block, and no child inherits it."""
    with door(tmp_path / "door", "/dev/kmsg") as path:
        fd = borrow(path)
    assert stat.S_ISCHR(os.fstat(fd).st_mode)
    assert not os.get_blocking(fd)
    assert not os.get_inheritable(fd)
    os.close(fd)


# --- the journal -------------------------------------------------------------------------------


def entry(text: object, usec: int = 1, **changes: object) -> str:
    """An entry as `journalctl --output=json` prints it."""
    fields = {
        "__CURSOR": f"s={usec}",
        "__MONOTONIC_TIMESTAMP": str(usec + 5),
        "_BOOT_ID": BOOT.replace("-", ""),
        "_TRANSPORT": "kernel",
        "SYSLOG_FACILITY": "0",
        "_SOURCE_MONOTONIC_TIMESTAMP": str(usec),
        "MESSAGE": text,
        **changes,
    }
    return json.dumps({name: value for name, value in fields.items() if value != ""})


def journalctl(directory: Path, script: str) -> str:
    """A program that stands in for journalctl."""
    program = directory / "journalctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def printing(directory: Path, *lines: str) -> str:
    """A journalctl that prints lines and ends."""
    (directory / "journal").write_text("".join(f"{line}\n" for line in lines))
    return journalctl(directory, f"cat {directory / 'journal'}")


def journal(program: str, after: Position = START) -> JournalLog:
    return JournalLog(after, lambda line: b"NVRM" in line, program, BOOT)


def read_all(log: JournalLog) -> list[Record]:
    try:
        return drain(log)
    finally:
        log.close()


def test_an_entry_is_read_with_its_times_and_name(tmp_path: Path) -> None:
    """Two that were taken in the same microsecond are told apart."""
    again = entry("NVRM: again", 8, __MONOTONIC_TIMESTAMP="12")
    found = read_all(journal(printing(tmp_path, entry(XID, 7), again)))
    assert found == [
        Record(XID, 7, 0, Position(7, cursor="s=7"), 12),
        Record("NVRM: again", 8, 1, Position(8, cursor="s=8"), 12),
    ]


@pytest.mark.parametrize(
    "line",
    [
        entry(XID, _TRANSPORT="syslog"),
        entry(XID, SYSLOG_FACILITY="1"),
        entry(XID, SYSLOG_FACILITY=""),
        entry(XID, _BOOT_ID="0" * 32),
        entry(None),
        entry(5),
        entry([300, -1]),
        entry("eth0: link becomes ready"),
        entry([101, 116, 104]),
        entry(XID, _SOURCE_MONOTONIC_TIMESTAMP="soon"),
        XID,
        "{",
        "",
    ],
)
def test_other_entries_are_passed_over(tmp_path: Path, line: str) -> None:
    """Those of programs and of other boots, those of no interest, and what is no entry."""
    found = read_all(journal(printing(tmp_path, line, entry("NVRM: sound", 2))))
    assert texts(found) == ["NVRM: sound"]


def test_a_message_of_bytes_is_read(tmp_path: Path) -> None:
    """The journal prints what is no text as numbers."""
    found = read_all(journal(printing(tmp_path, entry(list(b"NVRM: \xff!")))))
    assert texts(found) == ["NVRM: \ufffd!"]


def test_the_last_known_entry_is_asked_for_and_passed_over(tmp_path: Path) -> None:
    """That it comes shows that the journal can be read; one of the same time is another."""
    lines = [entry("NVRM: a", 7), entry("NVRM: b", 7, __CURSOR="s=7b"), entry("NVRM: c", 9)]
    program = printing(tmp_path, *lines)
    script = Path(program).read_text()
    Path(program).write_text(script + f'\necho "$@" > {tmp_path / "asked"}\n')
    found = read_all(journal(program, Position(7, cursor="s=7")))
    assert texts(found) == ["NVRM: b", "NVRM: c"]
    assert "--cursor=s=7" in (tmp_path / "asked").read_text()


def test_a_journal_without_permission_says_what_it_lacks(tmp_path: Path) -> None:
    """Its last words are in the complaint, after why no other way is open."""
    words = "No journal files were opened due to insufficient permissions."
    program = journalctl(tmp_path, f"echo Hint: >&2; echo '{words}' >&2; exit 1")
    log = JournalLog(START, everything, program, BOOT, others=["/dev/kmsg: Permission denied"])
    select.select([log.fileno()], [], [], 10.0)
    with pytest.raises(LogEnded) as ended:
        log.read()
    log.close()
    assert str(ended.value) == f"/dev/kmsg: Permission denied; journalctl: {words}"


def test_a_journal_that_shows_nothing_is_not_relied_on(tmp_path: Path) -> None:
    """It may follow for ever a journal that has nothing for it; only an entry proves it."""
    log = journal(journalctl(tmp_path, "exec sleep 60"))
    assert log.read().drained
    assert log.how == "none"
    assert log.due is not None
    log.due = time.monotonic()
    with pytest.raises(LogEnded, match="shows no entry"):
        log.read()
    log.close()


def test_a_journal_that_shows_something_is_relied_on(tmp_path: Path) -> None:
    """Whatever it is about."""
    log = journal(journalctl(tmp_path, f"echo '{entry('eth0: up')}'; exec sleep 60"))
    select.select([log.fileno()], [], [], 10.0)
    log.read()
    assert log.how == "journal"
    assert log.due is None
    log.close()


def test_no_process_is_left_behind(tmp_path: Path) -> None:
    """Neither running nor as a zombie."""
    log = journal(journalctl(tmp_path, "exec sleep 60"))
    assert log.pid is not None
    log.close()
    assert not Path(f"/proc/{log.pid}").exists()


# --- the best way ------------------------------------------------------------------------------


def ways(tmp_path: Path, **some: Any) -> Ways:
    """No way but those named."""
    nothing = tmp_path / "missing"
    return Ways(**{"kmsg": nothing, "door": nothing, "journalctl": str(nothing), **some})


def test_the_device_is_the_first_way(kernel: Kernel, tmp_path: Path) -> None:
    """Where it can be opened."""
    kernel.say(XID)
    log = KernelLog(everything, ways(tmp_path, kmsg=kernel.device))
    assert texts(log.read(START, now=0.0, has_arrived=False)) == [XID]
    assert log.how == "kmsg"
    log.close()


@pytest.mark.skipif(not HAS_REAL_LOG, reason="needs the real log")
def test_the_door_is_the_second_way(tmp_path: Path) -> None:
    """Where the device cannot be opened."""
    with door(tmp_path / "door", "/dev/kmsg") as path:
        log = KernelLog(everything, ways(tmp_path, door=path))
        log.read(START, now=0.0, has_arrived=False)
    assert log.how == "lent"
    log.close()


def test_the_journal_is_the_last_way(tmp_path: Path) -> None:
    """It counts once it has shown something."""
    program = journalctl(tmp_path, f"echo '{entry(XID, _BOOT_ID=boot_id().replace('-', ''))}'; "
                                   "exec sleep 60")  # fmt: skip
    log = KernelLog(everything, ways(tmp_path, journalctl=program))
    found = log.read(START, now=0.0, has_arrived=False)
    for now in range(1, 100):
        fd = log.fileno(now)
        if found or fd is None:
            break
        select.select([fd], [], [], 10.0)
        found = log.read(START, now, has_arrived=True)
    assert texts(found) == [XID]
    assert log.how == "journal"
    log.close()


def test_a_place_that_the_journal_no_longer_knows_is_not_asked_for_again(tmp_path: Path) -> None:
    """The next try reads from the start of the boot, and passes over what was dealt with."""
    line = entry(XID, 20, _BOOT_ID=boot_id().replace("-", ""))
    refuse = "case \"$*\" in *--cursor*) echo 'Failed to seek to cursor' >&2; exit 1;; esac"
    program = journalctl(tmp_path, f"{refuse}; echo '{line}'; exec sleep 60")
    log = KernelLog(everything, ways(tmp_path, journalctl=program))
    found: list[Record] = []
    for now in range(100):
        found += log.read(Position(10, cursor="s=gone"), now, has_arrived=True)
        fd = log.fileno(now + 0.9)
        if found:
            break
        if fd is not None:
            select.select([fd], [], [], 10.0)
    assert texts(found) == [XID]
    log.close()


def test_no_way_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In one line that says of each way why, and what to do; ever more rarely."""
    log = KernelLog(everything, ways(tmp_path))
    dues = []
    now = 0.0
    for _ in range(12):
        assert log.read(START, now, has_arrived=False) == []
        due = log.due(now)
        assert due is not None
        dues.append(due - now)
        now = due
    assert log.how == "none"
    assert dues == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.count("missing: No such file or directory") == 3
    assert "enable farmhand-kernel-log.socket" in line


def test_a_log_that_ends_is_opened_again(
    kernel: Kernel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a while, and from where reading stood."""
    caplog.set_level(logging.INFO)
    device = tmp_path / "kmsg"
    device.symlink_to(kernel.device)
    log = KernelLog(everything, ways(tmp_path, kmsg=device))
    kernel.say("NVRM: a", usec=1)
    (first,) = log.read(START, 0.0, has_arrived=False)
    kernel.hang_up()
    assert log.read(first.position, 0.5, has_arrived=True) == []
    assert log.how == "none"
    with kernel_log() as after:
        device.unlink()
        device.symlink_to(after.device)
        after.say("NVRM: a", usec=1)
        after.say("NVRM: b", usec=2)
        assert log.read(first.position, 1.4, has_arrived=False) == []
        assert texts(log.read(first.position, 1.5, has_arrived=False)) == ["NVRM: b"]
        log.close()
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        "kernel log is read as kmsg",
        "kernel log cannot be read",
        "kernel log is read as kmsg",
    ]


def test_a_log_that_never_rests_is_looked_at_a_few_times_a_second(
    kernel: Kernel, tmp_path: Path
) -> None:
    """Each look takes all there is; between looks there is nothing to wait for."""
    kernel.say("a")
    log = KernelLog(everything, ways(tmp_path, kmsg=kernel.device))
    assert len(log.read(START, now=10.0, has_arrived=False)) == 1
    assert log.fileno(10.1) is None
    assert log.due(10.1) == 10.2
    assert log.fileno(10.3) is not None
    assert log.due(10.3) is None
    log.close()


def test_a_quiet_log_needs_no_timer(kernel: Kernel, tmp_path: Path) -> None:
    """Nothing is due, and a wake-up for another reason does not read it."""
    log = KernelLog(everything, ways(tmp_path, kmsg=kernel.device))
    log.read(START, now=0.0, has_arrived=False)
    kernel.say("a")
    assert log.due(1.0) is None
    assert log.read(START, now=1.0, has_arrived=False) == []
    assert texts(log.read(START, now=1.0, has_arrived=True)) == ["a"]
    log.close()
