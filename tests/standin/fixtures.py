"""Fixtures of the stand-in, for the conftest of any test package."""

from pathlib import Path

import pytest

from tests import standin

__all__ = ["nvml_calls", "nvml_library", "nvml_state"]


def _built(directory: Path) -> str:
    """Build the library; says what is in the way, or nothing."""
    directory.mkdir(exist_ok=True)
    try:
        standin.build(directory)
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the stand-in once and load it into this process in place of the driver's library."""
    # Each conftest that takes the fixture has its own; they share one library.
    directory = tmp_path_factory.getbasetemp() / "nvml"
    library = directory / standin.SONAME
    reason = "" if library.exists() else _built(directory)
    if reason:
        pytest.fail(reason, pytrace=False)
    standin.load(library)
    return library


@pytest.fixture
def nvml_calls(tmp_path: Path) -> Path:
    """Name the file to which the stand-in appends a line for each call."""
    return tmp_path / "nvml.calls"


@pytest.fixture
def nvml_state(
    nvml_library: Path, nvml_calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> standin.State:
    """Give the loaded stand-in a state without cards, for the test to fill and write."""
    state = standin.State(tmp_path / "nvml.state")
    extra = standin.environment(nvml_library, state.path, nvml_calls)
    for name in ("FARMHAND_NVML_STATE", "FARMHAND_NVML_CALLS"):
        monkeypatch.setenv(name, extra[name])
    state.write()
    return state
