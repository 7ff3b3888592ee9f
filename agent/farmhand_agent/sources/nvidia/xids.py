"""XIDs as the NVIDIA driver hands them out: a code and a card, the moment they happen."""

import ctypes
import logging
import threading
import time
from typing import Any

import pynvml

from farmhand_agent.sources.base import Card, CardEvent, Tell
from farmhand_agent.sources.nvidia.driver import Driver, Refused

log = logging.getLogger(__name__)

WAIT_MILLISECONDS = 60_000
"""Longest wait in one call; an event ends it at once."""
PAUSE_SECONDS = 5.0
"""Between waits that fail: a lost card makes each fail at once."""


class Xids:
    """Listens in a thread of its own; nothing that happened before a card was added is told.

    An XID is often the last word of a card: it is told at once, also while the next call about
    the card hangs.
    """

    def __init__(self, driver: Driver, tell: Tell) -> None:
        self._driver = driver
        self._tell = tell
        self._set: Any = None
        self._slots: dict[int | None, str] = {}
        self._closed = threading.Event()

    def add(self, card: Card, handle: Any) -> None:
        """Listen to a card too; one that tells no events is left out.

        Raises:
            CardLost, CardUnreadable, SourceStale: see there.
        """
        try:
            if self._set is None:
                self._set = self._driver.ask("", "nvmlEventSetCreate")
                self._start()
            kinds = pynvml.nvmlEventTypeXidCriticalError
            self._driver.ask(card.slot, "nvmlDeviceRegisterEvents", handle, kinds, self._set)
        except Refused:
            return
        self._slots[_address(handle)] = card.slot

    def close(self) -> None:
        """Listen no more; a wait that is under way cannot be ended and goes with the process."""
        self._closed.set()

    def _start(self) -> None:
        threading.Thread(target=self._listen, name="xids", daemon=True).start()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                event = pynvml.nvmlEventSetWait_v2(self._set, WAIT_MILLISECONDS)
            except pynvml.NVMLError as error:
                if error.value in _ENDS:
                    log.info("the driver tells no more events: it returned %d", error.value)
                    return
                if error.value != pynvml.NVML_ERROR_TIMEOUT:
                    self._closed.wait(PAUSE_SECONDS)
                continue
            slot = self._slots.get(_address(event.device))
            if slot is not None:
                self._tell(CardEvent(slot, str(event.eventData), time.time_ns()))


_ENDS = (
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NOT_SUPPORTED,
)


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
