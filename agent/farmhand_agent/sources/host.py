"""The node itself: processors, memory, disks, network, the air around it and its fans."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from farmhand_agent.sources.base import Fields
from farmhand_agent.sources.sensors import Sensors
from farmhand_agent.sources.sysfs import Listed, number, text

_SECTOR_BYTES = 512
"""Unit of the kernel's disk counters, whatever the disk's own sectors are."""
_DECIMALS = 6
"""Differences of the kernel's seconds are no finer."""
_ERRORS = ("rx_errors", "tx_errors", "rx_missed_errors")
"""Packets dropped because nobody listens for their protocol are no errors, so not `rx_dropped`."""


class HostSource:
    """Reads the fields of `host`; what the machine does not give is left out.

    Shares and rates are over the time since the last call. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        state_dir: Path,
        sysfs: Path = Path("/sys"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state_dir = state_dir
        self._processors = _Processors()
        self._disks = _Disks(sysfs / "block", clock)
        self._ports = _Ports(sysfs / "class/net", clock)
        self._errors = _MemoryErrors(sysfs / "devices/system/edac/mc")
        self._sensors = Sensors(sysfs / "class/hwmon", clock)

    def read(self) -> Fields:
        """Fields of `host` now."""
        parts = (
            self._processors.read,
            _load,
            _memory,
            self._state_disk,
            self._disks.read,
            self._ports.read,
            self._errors.read,
            self._sensors.read,
            _uptime,
        )
        fields: dict[str, float | str] = {}
        for part in parts:
            # One part that cannot be read must not take the others with it.
            with contextlib.suppress(OSError, psutil.Error):
                fields |= part()
        return fields

    def _state_disk(self) -> Fields:
        usage = psutil.disk_usage(str(self._state_dir))
        return {"disk_free_bytes": float(usage.free), "disk_total_bytes": float(usage.total)}


def _load() -> Fields:
    return {"load1": os.getloadavg()[0], "cpu_count": float(os.cpu_count() or 1)}


def _memory() -> Fields:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "memory_used_bytes": float(memory.total - memory.available),
        "memory_total_bytes": float(memory.total),
        "swap_used_bytes": float(swap.used),
        "swap_total_bytes": float(swap.total),
    }


def _uptime() -> Fields:
    return {"uptime_seconds": time.clock_gettime(time.CLOCK_BOOTTIME)}


class _Processors:
    """Shares of the processors' time."""

    def __init__(self) -> None:
        self._before = _processor_times()

    def read(self) -> Fields:
        (busy_before, wait_before, total_before), self._before = self._before, _processor_times()
        busy, wait, total = self._before
        passed = total - total_before
        if passed <= 0:
            return {}
        return {
            "cpu_ratio": _share(busy - busy_before, passed),
            "cpu_wait_ratio": _share(wait - wait_before, passed),
        }


def _share(seconds: float, of_seconds: float) -> float:
    return round(min(max(seconds / of_seconds, 0.0), 1.0), _DECIMALS)


def _processor_times() -> tuple[float, float, float]:
    """Seconds that processors were busy, waited for disks, and all their seconds, since boot."""
    times = psutil.cpu_times()
    # Time of guests is counted in `user` and `nice` already.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    wait = getattr(times, "iowait", 0.0)
    return total - times.idle - wait, wait, total


class _Growth:
    """Growth per second of counters that come and go, such as those of disks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._before: Mapping[str, tuple[float, ...]] = {}
        self._counted = clock()

    def per_second(self, counts: Mapping[str, tuple[float, ...]]) -> list[float]:
        """Sum over what was there at the last call; empty without it, and when one went down."""
        before, self._before = self._before, counts
        counted, self._counted = self._counted, self._clock()
        passed = self._counted - counted
        grown = [
            [now - then for now, then in zip(counts[name], before[name], strict=True)]
            for name in counts.keys() & before.keys()
        ]
        if not grown or passed <= 0 or any(value < 0 for row in grown for value in row):
            return []
        return [sum(column) / passed for column in zip(*grown, strict=True)]


class _Disks:
    """Traffic of the disks that are hardware: what is made of them would count it twice."""

    def __init__(self, block: Path, clock: Callable[[], float]) -> None:
        self._paths = Listed(block, _disks)
        self._growth = _Growth(clock)
        self.read()

    def read(self) -> Fields:
        sectors = {name: _sectors(path) for name, path in self._paths.now().items()}
        counts = {name: count for name, count in sectors.items() if count is not None}
        names = ("disk_read_bytes_per_second", "disk_write_bytes_per_second")
        rates = [rate * _SECTOR_BYTES for rate in self._growth.per_second(counts)]
        return dict(zip(names, rates, strict=False))


def _disks(block: Path) -> dict[str, Path]:
    """Counters by disk; the hidden ones are paths to a disk that is listed too."""
    return {
        disk.name: disk / "stat"
        for disk in sorted(block.glob("*"))
        if (disk / "device").exists() and text(disk / "hidden") != "1"
    }


def _sectors(stat: Path) -> tuple[float, ...] | None:
    """Sectors read and written."""
    columns = (text(stat) or "").split()
    try:
        return float(columns[2]), float(columns[6])
    except (IndexError, ValueError):
        return None


class _Ports:
    """Traffic and errors of the network ports that are hardware."""

    def __init__(self, net: Path, clock: Callable[[], float]) -> None:
        self._statistics = Listed(net, _ports)
        self._growth = _Growth(clock)
        self.read()

    def read(self) -> Fields:
        statistics = self._statistics.now()
        bytes_ = {n: _numbers(path, ("rx_bytes", "tx_bytes")) for n, path in statistics.items()}
        counts = {name: count for name, count in bytes_.items() if count is not None}
        names = ("network_rx_bytes_per_second", "network_tx_bytes_per_second")
        fields = dict(zip(names, self._growth.per_second(counts), strict=False))
        errors = [_numbers(path, _ERRORS) for path in statistics.values()]
        return fields | _total("network_errors_total", errors)


def _ports(net: Path) -> dict[str, Path]:
    """Statistics by port.

    What has no device behind it (bonds, bridges, tunnels, containers) is made of ports. A virtual
    function is a part of its card's port; so is the fast path below a hypervisor's port.
    """
    return {
        port.name: port / "statistics"
        for port in sorted(net.glob("*"))
        if (port / "device").exists()
        and not (port / "device/physfn").exists()
        and not (port / "master/device").exists()
    }


def _numbers(directory: Path, names: tuple[str, ...]) -> tuple[float, ...] | None:
    """Counters in a directory; None where one of them is missing."""
    counts = [number(directory / name) for name in names]
    given = tuple(count for count in counts if count is not None)
    return given if len(given) == len(names) else None


def _total(field: str, counts: list[tuple[float, ...] | None]) -> dict[str, float]:
    """A counter over all parts; left out while one does not answer: half a sum is a false one."""
    given = [sum(count) for count in counts if count is not None]
    return {field: sum(given)} if given and len(given) == len(counts) else {}


class _MemoryErrors:
    """Errors of main memory, over all its controllers."""

    def __init__(self, controllers: Path) -> None:
        self._controllers = Listed(controllers, lambda path: sorted(path.glob("mc[0-9]*")))

    def read(self) -> Fields:
        controllers = self._controllers.now()
        corrected = [_numbers(controller, ("ce_count",)) for controller in controllers]
        uncorrected = [_numbers(controller, ("ue_count",)) for controller in controllers]
        return {
            **_total("memory_corrected_total", corrected),
            **_total("memory_uncorrected_total", uncorrected),
        }
