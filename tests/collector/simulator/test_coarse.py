"""Long intervals: the same farm, told in means over minutes."""

import numpy as np
import pytest

from farmhand_collector.simulator import FAULT_KINDS, Farm
from tests.collector.simulator.course import Course, course
from tests.collector.simulator.play import START, play

DAY = 86400.0


@pytest.fixture(scope="module")
def fine() -> Course:
    """Three hours in steps of ten seconds."""
    return course(Farm(80, 5, "none", START), 1080)


@pytest.fixture(scope="module")
def coarse() -> Course:
    """The same in steps of five minutes."""
    return course(Farm(80, 5, "none", START, interval_seconds=300.0), 36)


@pytest.mark.parametrize(
    "name",
    [
        "utilization_ratio",
        "core_clock_mhz",
        "memory_clock_mhz",
        "power_watts",
        "core_temperature_celsius",
        "memory_temperature_celsius",
        "fan_ratio",
        "throttle_power_ratio",
        "rate",
    ],
)
def test_means_are_those_of_short_intervals(fine: Course, coarse: Course, name: str) -> None:
    """Within two percent over the farm."""
    assert coarse.fields[name].mean() == pytest.approx(fine.fields[name].mean(), rel=0.02)


def test_long_windows_say_how_long_they_are() -> None:
    """Five minutes, a sample a second, and one point a card each."""
    told = play(Farm(12, 5, "none", START, interval_seconds=300.0), 3000.0)
    for points in told.cards.values():
        assert len(points) == 10
        for point in points:
            assert point.fields["window_seconds"] == pytest.approx(300.0, abs=0.1)
            assert point.fields["samples"] == 300.0


def test_no_sound_card_throttles_for_want_of_a_fan(coarse: Course) -> None:
    """A long window with a cold start counts on the fan that it would have had."""
    assert coarse.fields["throttle_thermal_ratio"].mean() < 0.002


def test_wear_takes_days() -> None:
    """Over a month a gradual fault grows for hours to days and not at once."""
    farm = Farm(200, 5, "paste_pump_out", START, span_seconds=30 * DAY, interval_seconds=300.0)
    (fault,) = farm.faults
    assert 0.25 * DAY <= fault.ramp_seconds <= 5 * DAY
    assert START + DAY < fault.since < START + 11 * DAY


def test_faults_come_at_their_time_in_a_month() -> None:
    """Long intervals let every kind of fault act."""
    farm = Farm(600, 5, "every", START, span_seconds=2 * DAY, interval_seconds=600.0)
    acted = {fault.kind for fault in farm.faults if fault.since < START + 0.7 * DAY}
    assert acted == set(FAULT_KINDS)
    told = course(farm, 110)
    for values in told.fields.values():
        assert np.isfinite(values).all()
    assert {"79", "48", "63", "64", "119"} <= {event.code for event in told.events}


def test_an_interval_of_nothing_is_refused() -> None:
    """It must be longer than zero."""
    with pytest.raises(ValueError, match="expected more than 0"):
        Farm(8, 1, "none", START, interval_seconds=0.0)


def test_an_unknown_onset_is_refused() -> None:
    """The message names the three there are."""
    with pytest.raises(ValueError, match="expected one of natural, sudden, gradual"):
        Farm(8, 1, "none", START, onset="slow")
