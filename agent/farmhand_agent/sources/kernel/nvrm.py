"""What the NVIDIA driver says of its cards in the kernel log: one message in, one happening out.

Known are the driver's own lines (`NVRM: ...`) and those of the kernel about a card that the driver
holds (`nvidia 0000:01:00.0: ...`). Lines without an address of a card are passed over, and so are
the kernel's about address space (`BAR 1: no space`): it tries in several ways before it gives up,
and when it has the driver says so itself.
"""

import re
from typing import NamedTuple

import msgspec

from farmhand_agent.reading import clean
from farmhand_agent.sources.pci import normal_address

JOIN_MICROSECONDS = 1_000_000
"""Within this time lines of one message follow each other, where they come as several records."""


MAX_CHARACTERS = 2000
"""Of a message; the kernel's own are shorter."""


class Part(NamedTuple):
    """Which part of a longer story a message is: the driver tells one mishap in several lines."""

    stories: tuple[str, ...] = ()
    rank: int = 0
    """The line that says most has the lowest; one of a higher rank that follows it within seconds
    tells nothing new."""


ALONE = Part()
GONE = Part(("gone",), 0)
GONE_TOO = Part(("gone",), 1)


class Message(NamedTuple):
    """One thing that happened to one card."""

    kind: str
    """As in `card_event`: `xid`, `off_bus` or `init_failed`."""
    address: str
    """PCI address as the kernel writes it, such as `0000:9b:00.0`."""
    code: str
    text: str
    part: Part


class Heard(msgspec.Struct):
    """What must be remembered of earlier messages of this boot; empty at first."""

    uuids: dict[str, str] = {}
    """UUID by address, of cards that the driver named when it first had to complain."""
    opening: str = ""
    opening_usec: int = 0


def is_of_interest(raw: bytes) -> bool:
    """Whether a record may be about a card; cheap, for a log full of other things."""
    return b"NVRM" in raw or (b"nvidia" in raw and (b"probe" in raw or b"inaccessible" in raw))


def understand(text: str, usec: int, heard: Heard) -> Message | None:
    """What a message tells of a card; None where it tells nothing.

    `usec` is the kernel's time of the record. A message of several lines may come as one record
    or as several that follow each other; `heard` is brought up to date.
    """
    line = _one_line(text)
    named = _NAMED.match(line)
    if named:
        heard.uuids[_address(named)] = named["uuid"]
        return None
    if _CONTINUATION.match(line):
        line = _joined(line, usec, heard)
    heard.opening, heard.opening_usec = _opening(line, usec, heard)
    for form in _FORMS:
        match = form.pattern.match(line)
        if match:
            return _message(form, match)
    return None


def _one_line(text: str) -> str:
    """Lines of one message joined, each but the first without the driver's name."""
    first, *others = text.strip().splitlines() or [""]
    rest = (line.strip().removeprefix("NVRM:") for line in others)
    return " ".join(" ".join((first, *rest)).split())[:MAX_CHARACTERS]


def _joined(line: str, usec: int, heard: Heard) -> str:
    if not heard.opening or not 0 <= usec - heard.opening_usec <= JOIN_MICROSECONDS:
        return line
    return f"{heard.opening} {line.removeprefix('NVRM: ')}"


def _opening(line: str, usec: int, heard: Heard) -> tuple[str, int]:
    """The beginning that the next record may continue."""
    if _OPENS.match(line):
        return ("", 0) if _is_complete(line) else (line, usec)
    return heard.opening, heard.opening_usec


def _is_complete(line: str) -> bool:
    return any(form.pattern.match(line) for form in _FORMS)


class _Form(NamedTuple):
    pattern: re.Pattern[str]
    kind: str
    part: Part


def _form(pattern: str, kind: str, part: Part) -> _Form:
    return _Form(re.compile(pattern), kind, part)


_ADDRESS = (
    r"(?:PCI:)?(?P<device>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?P<function>\.[0-7])?"
)
_GPU = rf"NVRM: GPU(?: at)? {_ADDRESS}:? "
_KERNEL = rf"nvidia {_ADDRESS}: "

_NAMED = re.compile(rf"NVRM: GPU at {_ADDRESS}: (?P<uuid>GPU-[0-9a-fA-F-]{{8,}})")
_OPENS = re.compile(r"NVRM: (?:The NVIDIA GPU |This PCI I/O region assigned to your NVIDIA )")
_CONTINUATION = re.compile(r"NVRM: (?:\(PCI ID|installed in this|fallen off the bus and|BAR\d)")

_STARTING = Part(("start",), 0)
_STARTING_TOO = Part(("start",), 1)
_STARTING_AT_LAST = Part(("start",), 2)
_NOT_TAKEN = Part(("gone", "start"), 3)

_FORMS = (
    _form(rf"NVRM: Xid \({_ADDRESS}[^)]*\): (?P<code>79)\b,? ?(?P<text>.*)", "xid", GONE),
    _form(
        rf"NVRM: Xid \({_ADDRESS}[^)]*\): (?P<code>[0-9]{{1,6}})\b,? ?(?P<text>.*)", "xid", ALONE
    ),
    _form(rf"{_GPU}(?P<text>(?:GPU )?has fallen off the bus.*)", "off_bus", GONE_TOO),
    _form(
        rf"NVRM: (?P<text>The NVIDIA GPU {_ADDRESS} .*fallen off the bus.*)", "off_bus", GONE_TOO
    ),
    _form(rf"{_KERNEL}(?P<text>.*D3cold.* inaccessible.*)", "off_bus", GONE_TOO),
    _form(rf"{_GPU}(?P<text>.*necessary power cables connected.*)", "init_failed", _STARTING),
    _form(
        rf"NVRM: (?P<text>This PCI I/O region .* is invalid: .*\({_ADDRESS}\).*)",
        "init_failed",
        _STARTING,
    ),
    _form(
        rf"NVRM: (?P<text>The NVIDIA GPU {_ADDRESS} .*installed in this system is not.*)",
        "init_failed",
        _STARTING,
    ),
    _form(rf"{_GPU}(?P<text>RmInitAdapter failed.*)", "init_failed", _STARTING_TOO),
    _form(rf"{_GPU}(?P<text>rm_init_adapter failed.*)", "init_failed", _STARTING_AT_LAST),
    _form(rf"{_KERNEL}(?P<text>probe .*failed.*)", "init_failed", _NOT_TAKEN),
    _form(rf"(?P<text>nvidia: probe of {_ADDRESS} failed.*)", "init_failed", _NOT_TAKEN),
)


def _message(form: _Form, match: re.Match[str]) -> Message:
    code = match.groupdict().get("code") or ""
    return Message(form.kind, _address(match), code, clean(match["text"]), form.part)


def _address(match: re.Match[str]) -> str:
    return normal_address(match["device"] + (match["function"] or ".0"))
