"""Events of the stand-in, through the binding that the agent uses."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pynvml
import pytest

from tests import standin
from tests.standin import State
from tests.standin.conftest import Open, code_of

XID = pynvml.nvmlEventTypeXidCriticalError
EVENTS = {"supported_events": XID, "uuid": "GPU-1"}


@pytest.fixture
def event_set(nvml_state: State) -> Iterator[Any]:
    """A set that nothing is registered in yet."""
    nvml_state.write()
    pynvml.nvmlInit()
    made = pynvml.nvmlEventSetCreate()
    yield made
    pynvml.nvmlEventSetFree(made)
    pynvml.nvmlShutdown()


def codes(event_set: Any) -> list[int]:
    """Codes of all events that wait."""
    found = []
    while True:
        try:
            found.append(int(pynvml.nvmlEventSetWait(event_set, 0).eventData))
        except pynvml.NVMLError_Timeout:
            return found


def test_an_event_tells_its_card_and_code(event_set: Any, opened: Open, nvml_state: State) -> None:
    """The handle is good for calls about the card."""
    pynvml.nvmlDeviceRegisterEvents(opened(EVENTS), XID, event_set)
    nvml_state.raise_xid(0, 79)
    event = pynvml.nvmlEventSetWait(event_set, 0)
    assert (event.eventType, event.eventData) == (XID, 79)
    assert pynvml.nvmlDeviceGetUUID(event.device) == "GPU-1"


def test_each_event_comes_once_and_in_order(
    event_set: Any, opened: Open, nvml_state: State
) -> None:
    """Also when the same code is told again."""
    pynvml.nvmlDeviceRegisterEvents(opened(EVENTS), XID, event_set)
    for code in (31, 31, 79):
        nvml_state.raise_xid(0, code)
    assert codes(event_set) == [31, 31, 79]
    assert codes(event_set) == []


def test_what_came_before_registration_is_not_told(
    event_set: Any, opened: Open, nvml_state: State
) -> None:
    """The driver does not keep events for those who come late; each set begins on its own."""
    handle = opened({**EVENTS, "xids": "1:48 2:63"})
    pynvml.nvmlDeviceRegisterEvents(handle, XID, event_set)
    nvml_state.raise_xid(0, 79)
    late = pynvml.nvmlEventSetCreate()
    pynvml.nvmlDeviceRegisterEvents(handle, XID, late)
    nvml_state.raise_xid(0, 119)
    assert codes(event_set) == [79, 119]
    assert codes(late) == [119]
    pynvml.nvmlEventSetFree(late)


def test_a_wait_without_events_ends_in_time(event_set: Any, opened: Open) -> None:
    """Time-out is the usual answer."""
    pynvml.nvmlDeviceRegisterEvents(opened(EVENTS), XID, event_set)
    started = time.monotonic()
    assert code_of(lambda: pynvml.nvmlEventSetWait(event_set, 40)) == pynvml.NVML_ERROR_TIMEOUT
    assert time.monotonic() - started >= 0.04


def test_a_wait_ends_when_an_event_comes(event_set: Any, opened: Open, nvml_state: State) -> None:
    """Long before its time is over."""
    pynvml.nvmlDeviceRegisterEvents(opened(EVENTS), XID, event_set)
    events: list[Any] = []
    waiter = threading.Thread(
        target=lambda: events.append(pynvml.nvmlEventSetWait(event_set, 3_600_000))
    )
    waiter.start()
    nvml_state.raise_xid(0, 43)
    waiter.join()
    assert [event.eventData for event in events] == [43]


def test_events_of_two_cards_are_told_apart(
    event_set: Any, opened: Open, nvml_state: State
) -> None:
    """One set serves all cards."""
    opened(EVENTS)
    nvml_state.cards.append({**EVENTS, "uuid": "GPU-2"})
    nvml_state.write()
    for place in range(2):
        handle = pynvml.nvmlDeviceGetHandleByIndex(place)
        pynvml.nvmlDeviceRegisterEvents(handle, XID, event_set)
    nvml_state.raise_xid(1, 94)
    event = pynvml.nvmlEventSetWait(event_set, 0)
    assert (pynvml.nvmlDeviceGetUUID(event.device), event.eventData) == ("GPU-2", 94)


def test_only_types_that_were_asked_for_are_told(event_set: Any, opened: Open) -> None:
    """What the card cannot tell cannot be registered."""
    handle = opened({**EVENTS, "supported_events": XID | pynvml.nvmlEventTypeClock})
    pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeClock, event_set)
    unknown = pynvml.nvmlEventTypeSingleBitEccError
    assert code_of(lambda: pynvml.nvmlDeviceRegisterEvents(handle, unknown, event_set)) == 3
    assert codes(event_set) == []


def test_an_event_of_another_type_says_so(event_set: Any, opened: Open, nvml_state: State) -> None:
    """An entry of the list may name its type."""
    storm = pynvml.nvmlEventTypeSingleBitEccErrorStorm
    handle = opened({**EVENTS, "supported_events": XID | storm})
    pynvml.nvmlDeviceRegisterEvents(handle, storm, event_set)
    nvml_state.change(0, xids=f"1:79 2:5:{storm:#x}")
    event = pynvml.nvmlEventSetWait(event_set, 0)
    assert (event.eventType, event.eventData) == (storm, 5)


def test_a_card_without_events_cannot_be_registered(event_set: Any, opened: Open) -> None:
    """As on Windows."""
    handle = opened({"uuid": "GPU-1"})
    assert code_of(lambda: pynvml.nvmlDeviceRegisterEvents(handle, XID, event_set)) == 3


def test_a_lost_card_ends_a_wait_after_its_last_event(
    event_set: Any, opened: Open, nvml_state: State
) -> None:
    """What it still had to say comes first."""
    pynvml.nvmlDeviceRegisterEvents(opened(EVENTS), XID, event_set)
    nvml_state.cards[0]["card"] = standin.LOST
    nvml_state.raise_xid(0, 79)
    assert pynvml.nvmlEventSetWait(event_set, 3_600_000).eventData == 79
    assert code_of(lambda: pynvml.nvmlEventSetWait(event_set, 3_600_000)) == 15


def test_a_driver_that_goes_ends_a_wait(event_set: Any, opened: Open, nvml_state: State) -> None:
    """A reload while a wait is under way."""
    pynvml.nvmlDeviceRegisterEvents(opened(EVENTS), XID, event_set)
    answers: list[int] = []
    waiter = threading.Thread(
        target=lambda: answers.append(
            code_of(lambda: pynvml.nvmlEventSetWait(event_set, 3_600_000))
        )
    )
    waiter.start()
    nvml_state.library["calls"] = standin.error(18)
    nvml_state.write()
    waiter.join()
    assert answers == [18]


def test_waiting_itself_may_fail(event_set: Any, opened: Open, nvml_state: State) -> None:
    """The other calls go on."""
    handle = opened(EVENTS)
    nvml_state.library["event_wait"] = standin.error(999)
    nvml_state.write()
    assert code_of(lambda: pynvml.nvmlEventSetWait(event_set, 0)) == 999
    assert pynvml.nvmlDeviceGetUUID(handle) == "GPU-1"
