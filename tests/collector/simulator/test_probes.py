"""Active tests that simulated cards go through."""

import numpy as np
import pytest

from farmhand_agent.reading import Reading
from farmhand_collector.simulator import Farm
from tests.collector.simulator.play import START, Played, play

EVERY_SECONDS = 300.0


def probed(faults: str = "none", cards: int = 160) -> Played:
    return play(Farm(cards, 6, faults, START, probe_every_seconds=EVERY_SECONDS), 900.0)


def values(readings: list[Reading], name: str) -> list[float]:
    return [float(reading.fields[name]) for reading in readings]


def test_a_farm_is_not_probed_unasked() -> None:
    """Tests take time from work."""
    assert play(Farm(12, 5, "none", START), 600.0).of("probe") == []


@pytest.fixture(scope="module")
def sound() -> Played:
    return probed()


def test_each_card_is_probed_in_its_turn(sound: Played) -> None:
    """Three times in a quarter of an hour, never the whole farm at once."""
    times = [reading.time_ns for reading in sound.of("probe")]
    assert len(times) == 3 * 160
    assert max(np.unique(np.array(times) // 10**10, return_counts=True)[1]) < 60


def test_a_sound_card_reaches_most_of_its_figures(sound: Played) -> None:
    """Nine tenths of an A100's bandwidth; a repeat differs by little."""
    by_card: dict[str, list[float]] = {}
    for reading in sound.of("probe"):
        if reading.tags["model"] == "A100-SXM4-80GB":
            by_card.setdefault(reading.tags["card"], []).append(
                float(reading.fields["memory_bandwidth_bytes_per_second"])
            )
    for repeats in by_card.values():
        assert np.mean(repeats) == pytest.approx(0.9 * 2.039e12, rel=0.02)
        assert np.ptp(repeats) < 0.02 * np.mean(repeats)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("memory_bandwidth", "memory_bandwidth_bytes_per_second"),
        ("slow_compute", "fp16_flops"),
        ("unlock_lost", "fp32_flops"),
        ("link_width", "host_to_device_bytes_per_second"),
    ],
)
def test_a_probe_measures_what_a_fault_took(kind: str, field: str, sound: Played) -> None:
    """A loss that clocks hide shows in a test."""
    told = probed(kind)
    (fault,) = told.farm.faults
    card = told.farm.fleet.cards[fault.index].card

    def mean(played: Played) -> float:
        mine = [r for r in played.of("probe") if r.tags["card"] == card]
        return float(np.mean(values([r for r in mine if r.time_ns >= fault.since * 1e9], field)))

    assert mean(told) < 0.92 * mean(sound)
