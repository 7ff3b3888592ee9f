"""Fixtures of the stand-in's own tests."""

from tests.standin.fixtures import nvml_calls, nvml_library, nvml_state

__all__ = ["nvml_calls", "nvml_library", "nvml_state"]
