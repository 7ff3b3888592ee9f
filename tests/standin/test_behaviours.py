"""Cards and drivers of the stand-in that take their time."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from tests import standin
from tests.standin import State
from tests.standin.conftest import Open, code_of


def seconds(question: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.monotonic()
    question()
    return time.monotonic() - started


def test_a_slow_value_takes_its_time_alone(opened: Open) -> None:
    """The card's other values do not wait for it."""
    handle = opened({"cores": standin.slow(30, 10496), "serial": standin.slow(30, "42")})
    assert seconds(lambda: pynvml.nvmlDeviceGetNumGpuCores(handle)) >= 0.03
    assert pynvml.nvmlDeviceGetNumGpuCores(handle) == 10496
    assert pynvml.nvmlDeviceGetSerial(handle) == "42"


def test_a_hang_that_ends_is_answered(opened: Open) -> None:
    """With a value or with a word."""
    handle = opened(
        {"cores": standin.hang(0.03, 7), "fans": standin.hang(0.03, standin.error(999))}
    )
    assert seconds(lambda: pynvml.nvmlDeviceGetNumGpuCores(handle)) >= 0.03
    assert code_of(lambda: pynvml.nvmlDeviceGetNumFans(handle)) == 999


def test_a_gate_lets_pass_after_its_hang(opened: Open, nvml_state: State) -> None:
    """A card that hangs as a whole, and one that hangs only while it is opened."""
    handle = opened({"cores": 7, "card": standin.hang(0.03)})
    assert seconds(lambda: pynvml.nvmlDeviceGetNumGpuCores(handle)) >= 0.03
    nvml_state.cards[0] = {"cores": 7, "handle": standin.hang(0.03)}
    nvml_state.write()
    assert seconds(lambda: pynvml.nvmlDeviceGetHandleByIndex(0)) >= 0.03


def test_a_card_may_be_slow_only_under_load(opened: Open, nvml_state: State) -> None:
    """Its calls wait while it works, and only then."""
    an_hour = 3_600_000
    handle = opened({"cores": 1, "utilization": 49, "loaded_delay_ms": an_hour})
    assert pynvml.nvmlDeviceGetNumGpuCores(handle) == 1
    nvml_state.change(0, utilization=50, loaded_delay_ms=20)
    assert seconds(lambda: pynvml.nvmlDeviceGetNumGpuCores(handle)) >= 0.02


def test_a_slow_driver_delays_every_call(opened: Open, nvml_state: State) -> None:
    """Of each card, and those that concern no card."""
    handle = opened({"cores": 1})
    nvml_state.library["calls_delay_ms"] = 20
    nvml_state.write()
    assert seconds(lambda: pynvml.nvmlDeviceGetNumGpuCores(handle)) >= 0.02
    assert seconds(pynvml.nvmlDeviceGetCount) >= 0.02


def test_a_call_sleeps_until_its_file_takes_a_byte(opened: Open, tmp_path: Path) -> None:
    """A pipe without a reader holds it up, as a frozen file system does without a way out."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    handle = opened({"cores": standin.sleep_in(pipe, 7)})
    answers: list[int] = []
    asker = threading.Thread(target=lambda: answers.append(pynvml.nvmlDeviceGetNumGpuCores(handle)))
    asker.start()
    assert answers == []
    assert pipe.read_bytes() == b"\n"
    asker.join()
    assert answers == [7]


@pytest.mark.parametrize("entry", [4_294_967_295, 2**63 - 1, 9 * 10**18, 0])
def test_junk_comes_back_as_it_is(entry: int, opened: Open) -> None:
    """The library judges nothing."""
    handle = opened({"energy": entry})
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) == entry


@pytest.mark.parametrize("entry", ["hang 5", "slow 40", "slow", "sleep_in /dev/null", "double"])
def test_an_entry_without_an_answer_stops_the_process(
    entry: str, nvml_library: Path, tmp_path: Path
) -> None:
    """What a value says after it waited must be told."""
    state = State(tmp_path / "state", cards=[{"cores": entry}])
    state.write()
    done = subprocess.run(
        [sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"],
        env=standin.environment(nvml_library, state.path),
        capture_output=True,
        check=False,
    )
    assert done.returncode == -6


FIXED = """
import sys
import pynvml
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
print("open", flush=True)
sys.stdin.readline()
print(pynvml.nvmlDeviceGetNumGpuCores(handle))
"""


@pytest.mark.parametrize(("fixed", "answer"), [(True, "1"), (False, "2")])
def test_a_fixed_state_is_read_once(
    fixed: bool, answer: str, nvml_library: Path, tmp_path: Path
) -> None:
    """A benchmark does not pay for looking whether it changed."""
    state = State(tmp_path / "state", cards=[{"cores": 1}])
    state.write()
    process = subprocess.Popen(
        [sys.executable, "-c", FIXED],
        env=standin.environment(nvml_library, state.path, fixed=fixed),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    state.change(0, cores=2)
    out, _ = process.communicate("go\n")
    assert out.strip() == answer
