"""One window of this machine's cards, read now and without a service."""

import selectors
import time
from collections.abc import Sequence

import msgspec

from farmhand_agent.child import PATIENCE, Pace, Patience, ReaderProcess, reader_command, what
from farmhand_agent.progress import Doing
from farmhand_agent.reader import CardWindow, Message
from farmhand_agent.reading import UNIDENTIFIED


def read_once(vendor: str, pace: Pace, patience: Patience = PATIENCE) -> Message:
    """One window of a vendor's cards, read now; a card that hangs or crashes is left unreadable.

    Such a card is `unidentified` and comes after the others. A driver that fails as a whole is
    told in `nothing`.
    """
    command = [*reader_command(vendor, pace), "--once", "--deaf"]
    skip: list[str] = []
    while True:
        chosen = [f"--skip={slot}" for slot in skip]
        try:
            message, doing = _try_once([*command, *chosen], pace.interval_seconds, patience)
        except OSError as error:
            return _nothing(f"a reader cannot be started: {error.strerror}")
        if message is not None:
            bad = [CardWindow(slot, UNIDENTIFIED, vendor, "", "unreadable", {}) for slot in skip]
            return msgspec.structs.replace(message, cards=[*message.cards, *bad])
        if not doing.slot or doing.slot in skip:
            return _nothing(f"the reader failed {what(doing)}")
        skip.append(doing.slot)


def _nothing(reason: str) -> Message:
    return Message(time.time_ns(), [], [], nothing=reason)


def _try_once(
    command: Sequence[str], interval_seconds: float, patience: Patience
) -> tuple[Message | None, Doing]:
    """A reader's one message, or None, and what it did last; the reader is gone then."""
    child = ReaderProcess(command, None)
    try:
        return _await(child, interval_seconds, patience), child.progress.read()
    finally:
        child.kill()
        child.close()


def _await(child: ReaderProcess, interval_seconds: float, patience: Patience) -> Message | None:
    """The reader's one message, or None when it crashed or is stuck."""
    with selectors.DefaultSelector() as selector:
        selector.register(child.fd, selectors.EVENT_READ)
        longest = interval_seconds + patience.driver_seconds + patience.stuck_seconds
        give_up = time.monotonic() + longest
        while time.monotonic() < give_up:
            if patience.is_stuck(child.progress.read()):
                break
            if selector.select(min(0.2, patience.stuck_seconds)):
                told = child.receive()
                if told is None:
                    return None
                windows = [message for message in told if isinstance(message, Message)]
                if windows:
                    child.wait(1.0)
                    return windows[0]
    return None
