"""What the NVIDIA driver's lines in the kernel log say of which card."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.reading import clean
from farmhand_agent.sources.kernel.nvrm import (
    JOIN_MICROSECONDS,
    Heard,
    Message,
    is_of_interest,
    understand,
)
from farmhand_agent.sources.pci import normal_address

LOGS = Path(__file__).parents[1] / "data/kernel_logs"

# What tools print before a kernel message: a time, a level, or the head of a /dev/kmsg record.
PRINTED_BEFORE = re.compile(
    r"(?:kern +:\w+ +: \S+ |<\d>)?(?:\[[^\]]*\] )?|\d+,\d+,\d+,[^;]*;", re.ASCII
)


def messages(name: str) -> list[Message]:
    """What a captured log tells, line by line."""
    heard = Heard()
    found = []
    for usec, line in enumerate((LOGS / name).read_text(encoding="utf-8").splitlines()):
        start = PRINTED_BEFORE.match(line)
        text = line[start.end() :] if start else line
        message = understand(text, usec, heard) if is_of_interest(line.encode()) else None
        found += [message] if message else []
    return found


def told(text: str) -> tuple[str, str, str] | None:
    """Kind, address and code of a message by itself."""
    message = understand(text, 0, Heard())
    return message and (message.kind, message.address, message.code)


def test_a_card_that_stopped_answering_is_told_each_time() -> None:
    """Of a real log: five XIDs of one card; preamble, history, trace and rate limit are none."""
    found = messages("xid-119.dmesg")
    assert [(m.kind, m.address, m.code) for m in found] == [("xid", "0000:9b:00.0", "119")] * 5
    assert found[0].text == (
        "pid=2024380, name=nvidia-smi, Timeout after 6s of waiting for RPC response from GPU4 GSP! "
        "Expected function 103 (GSP_RM_ALLOC) (0x2081 0x4)."
    )
    assert "pid=1263500, name=cache_mgr_main" in found[3].text


def test_the_driver_names_the_card_before_it_complains() -> None:
    """Of a real log: the UUID of the card at the address."""
    heard = Heard()
    first = (LOGS / "xid-119.dmesg").read_text(encoding="utf-8").splitlines()[0]
    assert understand(first.partition("] ")[2], 0, heard) is None
    assert heard.uuids == {"0000:9b:00.0": "GPU-509665ad-b600-ac93-3616-d754b23d636d"}


@pytest.mark.parametrize(
    "name",
    ["nvswitch.kmsg", "peermem.kmsg", "panic.pstore", "segfault.dmesg", "fabricmanager.log"],
)
def test_logs_without_trouble_of_a_card_tell_nothing(name: str) -> None:
    """Of real logs: network, switches, peer memory, a panic, crashed programs."""
    assert messages(name) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NVRM: Xid (0000:01:00): 31, Ch 00000010, engmask 00000101", ("0000:01:00.0", "31")),
        ("NVRM: Xid (PCI:0000:B3:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off "
         "the bus.", ("0000:b3:00.0", "79")),
        ("NVRM: Xid (PCI:0000:b3:00.0): 79, pid=1, GPU has fallen off the bus.",
         ("0000:b3:00.0", "79")),
        ("NVRM: Xid (PCI:0000:3b:00): 45, pid=77, name=python3, Ch 00000008 preempted by "
         "previous Xid 31", ("0000:3b:00.0", "45")),
        ("NVRM: Xid (PCI:000f:01:00): 119, Timeout", ("000f:01:00.0", "119")),
        ("NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=7194, Contained: CE User Channel (0x9).",
         ("0000:01:00.0", "94")),
        ("NVRM: Xid (PCI:0000:3b:00 GPU-I:01 GPU-CI:02): 13, pid=9, name=a, Graphics Exception",
         ("0000:3b:00.0", "13")),
        ("NVRM: Xid (PCI:0000:05:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 "
         "(GPU Reset Required)", ("0000:05:00.0", "154")),
        ("NVRM: Xid (PCI:0000:05:00): 62", ("0000:05:00.0", "62")),
    ],
)  # fmt: skip
def test_each_form_of_an_xid_names_card_and_code(text: str, expected: tuple[str, str]) -> None:
    """Old, new, with a function, of a part of a card, without a word."""
    assert told(text) == ("xid", *expected)


@pytest.mark.parametrize(
    "text",
    [
        "NVRM: GPU 0000:0b:00.0: GPU has fallen off the bus.",
        "NVRM: GPU at 0000:0b:00.0 has fallen off the bus.",
        "NVRM: The NVIDIA GPU 0000:0b:00.0\nNVRM: (PCI ID: 10de:2204) installed in this system "
        "has\nNVRM: fallen off the bus and is not responding to commands.\n",
        "NVRM: The NVIDIA GPU 0000:0b:00.0\n       NVRM: installed in this system has\n"
        "       NVRM: fallen off the bus and is not responding to commands.",
        "NVRM: The NVIDIA GPU 0000:0b:00.0 (PCI ID: 10de:2d04)   installed in this system has\n"
        "NVRM:  fallen off the bus and is not responding to commands.",
        "nvidia 0000:0b:00.0: Unable to change power state from D3cold to D0, device inaccessible",
        "nvidia 0000:0b:00.0: can't change power state from D3cold to D0 (config space "
        "inaccessible)",
    ],
)
def test_a_card_that_is_gone_is_told_without_an_xid(text: str) -> None:
    """In one line or several, by the driver or by the kernel."""
    assert told(text) == ("off_bus", "0000:0b:00.0", "")


@pytest.mark.parametrize(
    "text",
    [
        "NVRM: GPU 0000:01:00.0: RmInitAdapter failed! (0x24:0xffff:1200)",
        "NVRM: GPU 0000:01:00.0: rm_init_adapter failed, device minor number 0",
        "NVRM: GPU 0000:01:00.0: GPU does not have the necessary power cables connected.",
        "NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:\n"
        "NVRM: BAR1 is 0M @ 0x0 (PCI:0000:01:00.0)",
        "NVRM: The NVIDIA GPU 0000:01:00.0 (PCI ID: 10de:1b06)\nNVRM: installed in this system "
        "is not supported by the NVIDIA 610.57 driver release.",
        "nvidia 0000:01:00.0: probe with driver nvidia failed with error -1",
        "nvidia: probe of 0000:01:00.0 failed with error -1",
    ],
)
def test_a_card_that_does_not_start_is_told(text: str) -> None:
    """Whatever the reason: its text says it."""
    assert told(text) == ("init_failed", "0000:01:00.0", "")


@pytest.mark.parametrize(
    "text",
    [
        "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, Non-fatal, Link 30 LTSSM Fault Up",
        "NVRM: Rate limiting GSP RPC error prints for GPU at PCI:0000:9b:00 (printing 1 of every "
        "30).  The GPU likely needs to be reset.",
        "NVRM: GPU Board Serial Number: 1650124014249",
        "NVRM: GPU 0000:41:00.0: GPU serial number is 1650124014249.",
        "NVRM: A GPU crash dump has been created. If possible, please run",
        "NVRM: None of the NVIDIA devices were initialized.",
        "NVRM: rm_init_adapter failed for device bearing minor number 0",
        "nvidia 0000:01:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer",
        "nvidia 0000:01:00.0: BAR 1 [mem size 0x10000000 64bit pref]: can't assign; no space",
        "vfio-pci 0000:01:00.0: Unable to change power state from D3cold to D0, device "
        "inaccessible",
        "python3[77]: NVRM: Xid (PCI:0000:01:00): 79, made up",
        "NVRM: Xid (PCI:nowhere): 79, no address",
        "NVRM: Xid (PCI:0000:01:00): none",
        "",
        "\n",
    ],
)
def test_other_lines_tell_nothing(text: str) -> None:
    """Switches, follow-ups without news, link errors, other drivers, what a program says."""
    assert told(text) is None


def test_a_message_that_comes_as_several_records_is_joined() -> None:
    """Even with another message between its lines."""
    heard = Heard()
    lines = [
        "NVRM: The NVIDIA GPU 0000:5d:00.0",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  525.125.06",
        "NVRM: (PCI ID: 10de:2330) installed in this system has",
        "NVRM: fallen off the bus and is not responding to commands.",
    ]
    *before, last = [understand(line, usec, heard) for usec, line in enumerate(lines)]
    assert before == [None, None, None]
    assert last is not None
    assert (last.kind, last.address) == ("off_bus", "0000:5d:00.0")
    assert last.text == (
        "The NVIDIA GPU 0000:5d:00.0 (PCI ID: 10de:2330) installed in this system has fallen off "
        "the bus and is not responding to commands."
    )


def test_lines_far_apart_are_not_joined() -> None:
    """Half a message and the end of another make no third."""
    heard = Heard()
    understand("NVRM: The NVIDIA GPU 0000:5d:00.0", 0, heard)
    late = JOIN_MICROSECONDS + 1
    assert understand("NVRM: fallen off the bus and is not responding", late, heard) is None


def test_a_joined_message_is_told_once() -> None:
    """Its last line again begins nothing."""
    heard = Heard()
    text = "NVRM: fallen off the bus and is not responding to commands."
    understand("NVRM: The NVIDIA GPU 0000:5d:00.0", 0, heard)
    assert understand(text, 1, heard) is not None
    assert understand(text, 2, heard) is None


def test_a_storm_of_link_errors_is_not_taken_apart() -> None:
    """The kernel's lines about a link hold the driver's name, but are not looked into."""
    line = b"4,77,1,-;nvidia 0000:01:00.0:    [ 0] RxErr                  (First)\n SUBSYSTEM=pci\n"
    assert not is_of_interest(line)


PIECES = st.sampled_from(
    [
        "NVRM: ", "nvidia ", "GPU ", "at ", "PCI:", "0000:01:00", ".0", ": ", "Xid (", ")", "79",
        ", ", "GPU has fallen off the bus.", "The NVIDIA GPU ", " installed in this system has",
        "\n", "probe", " failed", "D3cold", " inaccessible", "RmInitAdapter failed", "\\", "\x00",
        "(PCI ID: 10de:2204)", "GPU-509665ad-b600", "This PCI I/O region ", " is invalid: ", "(",
    ]
)  # fmt: skip


@given(st.lists(st.lists(PIECES, max_size=12).map("".join) | st.text(), max_size=6))
def test_whatever_the_log_holds_a_message_is_sound(texts: list[str]) -> None:
    """Nothing raises; a message has a proper address and text fit for a field."""
    heard = Heard()
    for usec, text in enumerate(texts):
        message = understand(text, usec, heard)
        if message is not None:
            assert message.address == normal_address(message.address)
            assert message.kind in ("xid", "off_bus", "init_failed")
            assert message.text == clean(message.text)
