"""The NVIDIA driver as it is called: one way in, and what its return codes mean."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pynvml

from farmhand_agent.reading import clean
from farmhand_agent.sources.base import (
    CardLost,
    CardUnreadable,
    NothingHere,
    OnCall,
    SourceStale,
)

_NOTHING = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver library on this machine",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "the NVIDIA driver library is too old or not one",
}
_STALE = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
_LOST = frozenset(
    {
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_GPU_NOT_FOUND,
    }
)
_REFUSED = frozenset(
    {
        pynvml.NVML_ERROR_INVALID_ARGUMENT,
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    }
)


class Refused(Exception):
    """The card will not give this value, however often it is asked."""


class NotThere(Refused):
    """What was asked for by its place is not there now."""


def fault(call: str, code: int) -> Exception:
    """Outcome of a call by its return code."""
    told = f"{call} returned {code}"
    if code in _STALE:
        return SourceStale(told)
    if code in _LOST:
        return CardLost(told)
    if code == pynvml.NVML_ERROR_NOT_FOUND:
        return NotThere(told)
    return Refused(told) if code in _REFUSED else CardUnreadable(told)


class Driver:
    """Calls NVML, telling of each call before it is made; the slot is empty where none is known."""

    def __init__(self, on_call: OnCall) -> None:
        self._on_call = on_call
        self.version = ""
        self.branch = 0

    def open(self) -> None:
        """Load the library and connect to the driver.

        Raises:
            NothingHere: there is no library or no driver, or one from before 2019.
            SourceStale: library and driver do not fit, or the driver refuses for now.
        """
        try:
            self._call("", "nvmlInit")
        except pynvml.NVMLError as error:
            if error.value in _NOTHING:
                raise NothingHere(_NOTHING[error.value]) from None
            raise SourceStale(f"nvmlInit returned {error.value}") from None
        self.version = self.text("", "nvmlSystemGetDriverVersion")
        branch = self.version.partition(".")[0]
        self.branch = int(branch) if branch.isdecimal() else 0

    def close(self) -> None:
        """Let go of the library."""
        with suppress(pynvml.NVMLError):
            self._call("", "nvmlShutdown")

    def ask(self, slot: str, name: str, *arguments: Any) -> Any:
        """Answer of the library.

        Raises:
            CardLost, CardUnreadable, SourceStale, Refused: what its return code means.
        """
        try:
            return self._call(slot, name, *arguments)
        except pynvml.NVMLError as error:
            raise fault(name, error.value) from None
        except UnicodeDecodeError:
            raise Refused(f"{name} returned bytes that are no text") from None

    def text(self, slot: str, name: str, *arguments: Any) -> str:
        """Answer as text; empty where there is none.

        Raises:
            SourceStale: the driver was replaced or reset.
        """
        try:
            return clean(self.ask(slot, name, *arguments))
        except (Refused, CardLost, CardUnreadable):
            return ""

    def asking(self, slot: str) -> Callable[..., Any]:
        """The function that asks about the card in a slot."""
        return lambda name, *arguments: self.ask(slot, name, *arguments)

    def _call(self, slot: str, name: str, *arguments: Any) -> Any:
        self._on_call(slot, name)
        return getattr(pynvml, name)(*arguments)
