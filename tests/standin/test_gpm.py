"""GPM metrics of the stand-in, through the binding that the agent uses."""

from collections.abc import Iterator
from typing import Any

import pynvml
import pytest

from tests import standin
from tests.standin import State
from tests.standin.conftest import Open, code_of

OCCUPANCY, BANDWIDTH = pynvml.NVML_GPM_METRIC_SM_UTIL, pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL
GPM: standin.Entries = {"gpm": 1, f"gpm_{OCCUPANCY}": "97.5", f"gpm_{BANDWIDTH}": 41}


@pytest.fixture
def samples(nvml_state: State) -> Iterator[tuple[Any, Any]]:
    """Two samples that nothing was read into yet."""
    nvml_state.write()
    pynvml.nvmlInit()
    first, second = pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()
    yield first, second
    for sample in (first, second):
        pynvml.nvmlGpmSampleFree(sample)
    pynvml.nvmlShutdown()


def between(first: Any, second: Any, *ids: int) -> list[tuple[int, float]]:
    """Return code and value of some metrics."""
    wanted = pynvml.c_nvmlGpmMetricsGet_t(
        version=pynvml.NVML_GPM_METRICS_GET_VERSION,
        numMetrics=len(ids),
        sample1=first,
        sample2=second,
    )
    for place, number in enumerate(ids):
        wanted.metrics[place].metricId = number
    got = pynvml.nvmlGpmMetricsGet(wanted)
    return [(metric.nvmlReturn, metric.value) for metric in got.metrics[: len(ids)]]


def test_metrics_come_between_two_samples(opened: Open, samples: tuple[Any, Any]) -> None:
    """Each with its own return code."""
    handle = opened(GPM)
    assert pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice == 1
    for sample in samples:
        pynvml.nvmlGpmSampleGet(handle, sample)
    assert between(*samples, OCCUPANCY, BANDWIDTH) == [(0, 97.5), (0, 41.0)]
    assert between(*samples, pynvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC)[0][0] == 3


def test_samples_that_are_no_pair_give_nothing(opened: Open, samples: tuple[Any, Any]) -> None:
    """Nothing was taken yet, or the later one stands first."""
    handle = opened(GPM)
    first, second = samples
    pynvml.nvmlGpmSampleGet(handle, first)
    assert code_of(lambda: between(first, second, OCCUPANCY)) == 2
    pynvml.nvmlGpmSampleGet(handle, second)
    assert code_of(lambda: between(second, first, OCCUPANCY)) == 2


def test_a_card_without_gpm_says_so(opened: Open, samples: tuple[Any, Any]) -> None:
    """The question is answered, the sample is refused."""
    handle = opened({"uuid": "GPU-1"})
    assert pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice == 0
    assert code_of(lambda: pynvml.nvmlGpmSampleGet(handle, samples[0])) == 3


def test_a_driver_without_gpm_has_no_such_call(opened: Open) -> None:
    """Older than the first that has it."""
    handle = opened({"gpm": standin.MISSING})
    assert code_of(lambda: pynvml.nvmlGpmQueryDeviceSupport(handle)) == 13
