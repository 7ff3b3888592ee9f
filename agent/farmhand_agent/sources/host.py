"""The node itself: processor, memory, disk, and the air at its inlet."""

import os
from pathlib import Path

import psutil

from farmhand_agent.sources.base import Fields

HWMON = Path("/sys/class/hwmon")
INLET_LABELS = ("inlet", "ambient")
INLET_CELSIUS = (-30.0, 80.0)
"""Air outside of this is a broken sensor; exactly 0 is what a missing one reads."""


class HostSource:
    """Reads the fields of `host`; what the machine does not give is left out."""

    def __init__(self, state_dir: Path, hwmon: Path = HWMON) -> None:
        self._state_dir = state_dir
        self._hwmon = hwmon
        self._inlets = _inlets(hwmon)
        self._times = _processor_times()

    def read(self) -> Fields:
        """Fields of `host` now; `cpu_ratio` is over the time since the last call."""
        memory = psutil.virtual_memory()
        fields = {
            "load1": os.getloadavg()[0],
            "memory_used_bytes": float(memory.total - memory.available),
            "memory_total_bytes": float(memory.total),
        }
        optional = {
            "cpu_ratio": self._cpu_ratio(),
            "disk_free_bytes": _disk_free(self._state_dir),
            "inlet_temperature_celsius": self._inlet(),
        }
        return fields | {name: value for name, value in optional.items() if value is not None}

    def _cpu_ratio(self) -> float | None:
        busy_before, total_before = self._times
        self._times = busy, total = _processor_times()
        if total <= total_before:
            return None
        return min(max((busy - busy_before) / (total - total_before), 0.0), 1.0)

    def _inlet(self) -> float | None:
        """Temperature of the coolest inlet: the warmer ones are nearer to what heats them."""
        values = [value for path in self._inlets if (value := _celsius(path)) is not None]
        if not values:
            # Sensors are numbered anew when their driver is loaded again.
            self._inlets = _inlets(self._hwmon)
            return None
        return min(values)


def _processor_times() -> tuple[float, float]:
    """Seconds that processors were busy, and all their seconds, since boot."""
    times = psutil.cpu_times()
    # Time of guests is counted in `user` and `nice` already.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _disk_free(path: Path) -> float | None:
    try:
        return float(psutil.disk_usage(str(path)).free)
    except OSError:
        return None


def _inlets(hwmon: Path) -> list[Path]:
    """Find the inputs of sensors that are labelled as inlet; only these are ever read.

    Reading every sensor would wake sleeping disks and wait for slow chips.
    """
    return [
        label.with_name(label.name.replace("_label", "_input"))
        for label in sorted(hwmon.glob("hwmon*/temp*_label"))
        if any(word in _text(label).casefold() for word in INLET_LABELS)
    ]


def _celsius(path: Path) -> float | None:
    try:
        value = int(_text(path)) / 1000.0
    except ValueError:
        return None
    low, high = INLET_CELSIUS
    return value if low <= value <= high and value != 0.0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
