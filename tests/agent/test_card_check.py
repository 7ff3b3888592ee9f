"""What `farmhand-agent check --cards` says of each card."""

import time
from pathlib import Path

import pytest

from farmhand_agent.card_check import IdlePower, idle_power, report
from farmhand_agent.child import Pace
from farmhand_agent.reader import CardWindow, Message
from farmhand_agent.reading import Value
from tests import standin
from tests.standin.captures import farm_state

DARK = "\x1b[2J"


def message(
    info: dict[str, Value] | None, lacks: tuple[str, ...] = (), model: str = "T4"
) -> Message:
    window = CardWindow("3", "GPU-a", "nvidia", model, "ok" if info else "lost", {}, info, lacks)
    return Message(time.time_ns(), [window], ["3"])


def told(message: Message, idle: IdlePower | None = None) -> str:
    return "\n".join(report(message, {"3": idle} if idle else {}))


def test_what_a_card_does_not_give_is_listed() -> None:
    """The keeper sees why a column stays empty."""
    text = told(message({"driver": "580.65.06"}, ("fan_ratio", "memory_temperature_celsius")))
    assert "driver 580.65.06" in text
    assert "does not give fan_ratio, memory_temperature_celsius" in text


def test_persistence_mode_that_is_off_is_a_warning() -> None:
    """With what to do about it; where it is on, nothing is said."""
    assert "nvidia-smi -pm 1" in told(message({"persistence_enabled": 0.0}))
    assert "persistence" not in told(message({"persistence_enabled": 1.0}))


def test_instances_are_said() -> None:
    """As a whole such a card does not tell how busy it is."""
    assert "MIG" in told(message({"mig_enabled": 1.0}))


def test_a_card_that_says_nothing_is_told_by_its_state() -> None:
    """It still has a line."""
    assert "lost: it tells nothing about itself" in told(message(None))


def test_what_reading_costs_is_a_difference() -> None:
    """Both powers and what lies between them."""
    text = told(message({"driver": "580"}), IdlePower(21.4, 20.9))
    assert "21.4 W while read, 20.9 W while hardly read: reading adds +0.5 W" in text


def test_text_of_a_driver_cannot_paint_the_terminal() -> None:
    """Names come from a flash chip that anybody may have written."""
    assert "\x1b" not in told(message({"driver": DARK}, model=f"T4 {DARK}"))


def test_idle_power_is_measured_by_the_energy_counter(
    nvml_library: Path, nvml_state: standin.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card at work is left out: its power follows the work."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(nvml_library.parent))
    watts = standin.Counter.growing(30_000)
    idle: standin.Entries = {"utilization": 0, "field_83": watts}
    busy: standin.Entries = {"utilization": 90, "field_83": watts}
    farm_state(nvml_state.path, [("RTX 3090", idle), ("RTX 3090", busy)]).write()
    measured = idle_power("nvidia", Pace(0.5, 0.1), seconds=0.5)
    assert list(measured) == ["0000:01:00.0"]
    assert measured["0000:01:00.0"].read_watts == pytest.approx(30.0, rel=0.2)
