"""What the samples of a window become."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.reading import Value, fields_of
from farmhand_agent.window import Window


def closed(*samples: tuple[Mapping[str, Value], float]) -> dict[str, Value]:
    """Fields of a window of samples, each with its length."""
    window = Window()
    for fields, length_seconds in samples:
        window.add(fields, length_seconds, 0.001)
    return window.close()


def test_a_gauge_is_a_mean_weighted_by_length() -> None:
    """Three seconds at 100 W and one at 300 W are 150 W."""
    fields = closed(({"power_watts": 100.0}, 3.0), ({"power_watts": 300.0}, 1.0))
    assert fields["power_watts"] == 150.0


def test_a_gauge_that_was_given_now_and_then_is_the_mean_of_those_times() -> None:
    """A value left out is not zero."""
    fields = closed(({"fan_ratio": 0.5}, 1.0), ({}, 8.0), ({"fan_ratio": 0.7}, 1.0))
    assert fields["fan_ratio"] == pytest.approx(0.6)


def test_a_sample_without_length_counts_only_where_nothing_else_does() -> None:
    """The first look at a card stands for no time yet."""
    first = {"power_watts": 10.0}
    assert closed((first, 0.0))["power_watts"] == 10.0
    both = closed((first, 0.0), ({"power_watts": 250.0}, 1.0))
    assert both["power_watts"] == pytest.approx(250.0, abs=1e-6)


def test_two_samples_without_length_weigh_the_same() -> None:
    """Nothing divides by zero."""
    fields = closed(({"power_watts": 10.0}, 0.0), ({"power_watts": 20.0}, 0.0))
    assert fields["power_watts"] == pytest.approx(15.0)


def test_a_peak_is_the_largest_sample_of_its_gauge() -> None:
    """A short spike is not lost in the mean."""
    fields = closed(
        ({"power_watts": 100.0, "core_temperature_celsius": 60.0}, 9.0),
        ({"power_watts": 400.0, "core_temperature_celsius": 71.0}, 0.0),
        ({"power_watts": 90.0, "core_temperature_celsius": 64.0}, 1.0),
    )
    assert (fields["power_max_watts"], fields["core_temperature_max_celsius"]) == (400.0, 71.0)


def test_a_peak_that_the_card_gives_itself_counts_too() -> None:
    """The larger of both is kept."""
    fields = closed(({"power_watts": 100.0, "power_max_watts": 120.0}, 1.0))
    assert fields["power_max_watts"] == 120.0


def test_a_counter_is_its_last_value() -> None:
    """Also where it was reset in between."""
    fields = closed(({"energy_joules": 900.0}, 1.0), ({"energy_joules": 5.0}, 1.0))
    assert fields["energy_joules"] == 5.0


def test_a_flag_stays_up_for_the_rest_of_the_window() -> None:
    """What was true for a moment is told."""
    fields = closed(({"remap_pending": 1.0}, 1.0), ({"remap_pending": 0.0}, 1.0))
    assert fields["remap_pending"] == 1.0


def test_a_text_is_the_last_one() -> None:
    """There is no mean of texts."""
    assert closed(({"state": "unreadable"}, 1.0), ({"state": "ok"}, 1.0))["state"] == "ok"


def test_a_window_tells_its_length_its_samples_and_the_slowest_read() -> None:
    """Who reads it knows how much it stands for."""
    window = Window()
    window.add({"power_watts": 100.0}, 1.5, 0.25)
    window.add({"power_watts": 100.0}, 1.0, 0.002)
    window.wait(0.75)
    fields = window.close()
    about = [fields[name] for name in ("window_seconds", "samples", "read_seconds")]
    assert about == [2.5, 2.0, 0.75]


def test_what_is_asked_once_a_window_is_no_sample() -> None:
    """It stands beside the samples, and adds no length."""
    window = Window()
    window.add({"power_watts": 100.0}, 1.0, 0.001)
    window.note({"ecc_corrected_total": 3.0, "pcie_width": 16.0})
    fields = window.close()
    assert (fields["ecc_corrected_total"], fields["pcie_width"]) == (3.0, 16.0)
    assert (fields["window_seconds"], fields["samples"]) == (1.0, 1.0)


def test_an_empty_window_has_no_values() -> None:
    """A card that never answered gives no zeros."""
    assert Window().close() == {"window_seconds": 0.0, "samples": 0.0, "read_seconds": 0.0}


SAMPLES = st.lists(
    st.tuples(st.floats(0.0, 1000.0), st.floats(0.0, 100.0)), min_size=1, max_size=30
)


@given(SAMPLES)
def test_a_mean_lies_between_its_samples_and_under_its_peak(
    samples: list[tuple[float, float]],
) -> None:
    """Whatever the lengths are, zero among them."""
    fields = closed(*(({"power_watts": watts}, seconds) for watts, seconds in samples))
    watts = [sample[0] for sample in samples]
    mean, peak = fields["power_watts"], fields["power_max_watts"]
    assert isinstance(mean, float)
    assert min(watts) - 1e-4 <= mean <= max(watts) + 1e-4
    assert peak == max(watts)


@given(SAMPLES)
def test_a_window_closes_into_fields_of_the_contract(samples: list[tuple[float, float]]) -> None:
    """Nothing else is ever made of a sample."""
    fields = closed(*(({"power_watts": watts}, seconds) for watts, seconds in samples))
    assert fields.keys() <= fields_of("card").keys()
