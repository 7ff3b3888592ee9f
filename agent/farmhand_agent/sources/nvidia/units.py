"""How busy the units of an NVIDIA card are, from GPM: counters of the hardware between two samples.

Datacenter cards from Hopper on have it, and gaming cards from Blackwell on. It is the one place
where NVML measures memory traffic rather than the time in which there was any.
"""

from typing import Any

import pynvml

from farmhand_agent.reading import Value
from farmhand_agent.sources.base import CardUnreadable
from farmhand_agent.sources.nvidia.driver import Driver, Refused

_SHARES = {
    pynvml.NVML_GPM_METRIC_SM_UTIL: "sm_active_ratio",
    pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL: "tensor_active_ratio",
}
_BANDWIDTH = pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL
_METRICS = (*_SHARES, _BANDWIDTH)


class Units:
    """The units of one card; each reading covers the time since the one before."""

    FIELDS = frozenset({*_SHARES.values(), "memory_bandwidth_bytes_per_second"})

    def __init__(self, driver: Driver, slot: str, handle: Any) -> None:
        self._driver, self._slot, self._handle = driver, slot, handle
        self._ask = driver.asking(slot)
        self._samples: list[Any] = []
        self._peak: float | None = None
        self._begun = False
        self.supported = True

    def anew(self) -> "Units":
        """The same card's units, as if nothing was known of them."""
        return Units(self._driver, self._slot, self._handle)

    def begin(self) -> None:
        """Take the first sample, if that was not done yet."""
        if self._begun:
            return
        self._begun = True
        try:
            support = self._ask("nvmlGpmQueryDeviceSupport", self._handle)
            if not support.isSupportedDevice:
                raise Refused("no such counters")
            self._samples = [self._ask("nvmlGpmSampleAlloc") for _ in range(2)]
            self._peak = self._bytes_per_second_at_most()
            self._ask("nvmlGpmSampleGet", self._handle, self._samples[-1])
        except Refused:
            self.supported = False
        except CardUnreadable:
            self._begun = False

    def read(self) -> dict[str, Value]:
        """Fields since the last reading; none where the card does not count."""
        if not (self._begun and self.supported):
            return {}
        self._samples.reverse()
        before, now = self._samples
        try:
            self._ask("nvmlGpmSampleGet", self._handle, now)
            metrics = pynvml.c_nvmlGpmMetricsGet_t()
            metrics.version = pynvml.NVML_GPM_METRICS_GET_VERSION
            metrics.numMetrics = len(_METRICS)
            metrics.sample1, metrics.sample2 = before, now
            for place, number in enumerate(_METRICS):
                metrics.metrics[place].metricId = number
            self._ask("nvmlGpmMetricsGet", metrics)
        except Refused:
            # Cutting the card into instances takes its own counters away.
            self.supported = False
            return {}
        except CardUnreadable:
            return {}
        return self._fields(metrics.metrics[: len(_METRICS)])

    def _fields(self, metrics: Any) -> dict[str, Value]:
        shares = {
            metric.metricId: metric.value / 100.0
            for metric in metrics
            if metric.nvmlReturn == pynvml.NVML_SUCCESS and 0.0 <= metric.value <= 100.0
        }
        fields: dict[str, Value] = {
            name: shares[number] for number, name in _SHARES.items() if number in shares
        }
        if self._peak is not None and _BANDWIDTH in shares:
            fields["memory_bandwidth_bytes_per_second"] = shares[_BANDWIDTH] * self._peak
        return fields

    def _bytes_per_second_at_most(self) -> float | None:
        """Traffic that the counters call 100 %: two transfers a clock over the whole bus."""
        try:
            mhz = self._ask("nvmlDeviceGetMaxClockInfo", self._handle, pynvml.NVML_CLOCK_MEM)
            bits = self._ask("nvmlDeviceGetMemoryBusWidth", self._handle)
        except (Refused, CardUnreadable):
            return None
        peak = 2.0 * mhz * 1e6 * bits / 8.0
        return peak if 1e9 <= peak <= 1e14 else None
