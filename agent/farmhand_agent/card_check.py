"""What each card of this machine gives, what it does not, and what reading it costs in power."""

import selectors
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from farmhand_agent.child import Pace, ReaderProcess, reader_command
from farmhand_agent.command import one_line
from farmhand_agent.reader import CardWindow, Message

IDLE_RATIO = 0.01
"""A card counts as idle up to this utilisation: beyond it, its power follows the work."""
MEASURED_SECONDS = 10.0
WIDTH = 96
"""Columns of a line, besides what it is indented by."""
PERSISTENCE_OFF = (
    "persistence mode is off: the driver would put the card to sleep whenever nobody has it open, "
    "and the agent has; turn it on (nvidia-smi -pm 1, or the service nvidia-persistenced)"
)


class IdlePower(NamedTuple):
    """Mean power of an idle card, read at the agent's pace and hardly read at all."""

    read_watts: float
    unread_watts: float


def report(message: Message, idle: Mapping[str, IdlePower]) -> Iterator[str]:
    """Lines about each card of a message, whose texts come from the driver."""
    for window in message.cards:
        yield one_line(" ".join(filter(None, (window.slot, window.model, window.card))))
        yield f"  {_about(window)}"
        for line in _details(window, idle.get(window.slot)):
            yield f"  {line}"


def _about(window: CardWindow) -> str:
    if window.info is None:
        return f"{window.state}: it tells nothing about itself"
    told = {**window.info, **window.fields}
    return one_line(f"driver {told.get('driver', 'unknown')}, {len(told)} values")


def _details(window: CardWindow, idle: IdlePower | None) -> Iterator[str]:
    info = window.info or {}
    if window.lacks:
        yield from textwrap.wrap(f"does not give {', '.join(window.lacks)}", WIDTH)
    if info.get("mig_enabled") == 1.0:
        yield "cut into instances (MIG): how busy it is as a whole cannot be told"
    if info.get("persistence_enabled") == 0.0:
        yield f"warning: {PERSISTENCE_OFF}"
    if idle is not None:
        # Adding 0 makes a plain zero of one that is below it by less than is shown.
        added = round(idle.read_watts - idle.unread_watts, 1) + 0.0
        yield (
            f"idle power: {idle.read_watts:.1f} W while read, {idle.unread_watts:.1f} W while "
            f"hardly read: reading adds {added:+.1f} W"
        )


def idle_power(vendor: str, pace: Pace, seconds: float = MEASURED_SECONDS) -> dict[str, IdlePower]:
    """By slot, for idle cards that count their energy: mean power with and without reading.

    The driver is held open in both cases: what that costs by itself cannot be seen from within.
    """
    read = _mean_watts(vendor, pace._replace(interval_seconds=seconds))
    unread = _mean_watts(vendor, Pace(seconds, seconds, pace.sysfs))
    return {slot: IdlePower(read[slot], unread[slot]) for slot in read if slot in unread}


def _mean_watts(vendor: str, pace: Pace) -> dict[str, float]:
    """Mean power by slot between the ends of two windows; a card that worked is left out."""
    began, ended = _two_messages(vendor, pace)
    seconds = (ended.time_ns - began.time_ns) / 1e9
    before = {window.slot: _idle_energy(window) for window in began.cards}
    watts = {}
    for window in ended.cards:
        joules, earlier = _idle_energy(window), before.get(window.slot)
        if joules is not None and earlier is not None and joules >= earlier and seconds > 0:
            watts[window.slot] = (joules - earlier) / seconds
    return watts


def _idle_energy(window: CardWindow) -> float | None:
    joules, used = (window.fields.get(k) for k in ("energy_joules", "utilization_ratio"))
    idle = isinstance(used, float) and used <= IDLE_RATIO
    return joules if idle and isinstance(joules, float) else None


def _two_messages(vendor: str, pace: Pace) -> Sequence[Message]:
    """The first two messages of a reader; empty ones where it does not get that far."""
    child = ReaderProcess(reader_command(vendor, pace), None)
    told: list[Message] = []
    give_up = time.monotonic() + 4 * pace.interval_seconds + 30.0
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(child.fd, selectors.EVENT_READ)
            while len(told) < 2 and time.monotonic() < give_up:
                messages = child.receive() if selector.select(1.0) else []
                if messages is None:
                    break
                told += [m for m in messages if isinstance(m, Message)]
    finally:
        child.kill()
        child.close()
    return (told + [Message(0, [], [])] * 2)[:2]
