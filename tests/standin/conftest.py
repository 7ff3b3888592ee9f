"""Fixtures of the stand-in's own tests."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pynvml
import pytest

from tests import standin
from tests.standin.fixtures import nvml_calls, nvml_library, nvml_state

__all__ = ["Open", "code_of", "nvml_calls", "nvml_library", "nvml_state"]

Open = Callable[[Mapping[str, standin.Entry]], Any]


@pytest.fixture
def opened(nvml_state: standin.State) -> Iterator[Open]:
    """Open the library on one card with some entries; gives its handle."""

    def open_on(entries: Mapping[str, standin.Entry]) -> Any:
        nvml_state.cards = [dict(entries)]
        nvml_state.write()
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByIndex(0)

    yield open_on
    nvml_state.library.clear()
    nvml_state.write()
    pynvml.nvmlShutdown()


def code_of(question: Callable[[], object]) -> int:
    """Return code of a call that must fail."""
    with pytest.raises(pynvml.NVMLError) as raised:
        question()
    return int(raised.value.value)
