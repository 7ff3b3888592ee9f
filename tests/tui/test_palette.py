"""Colours and glyphs, and what they stand for."""

from collections.abc import Iterable
from itertools import pairwise

import pytest

from farmhand_collector.wire import STATES
from farmhand_tui.farm import COLUMNS, Farm
from farmhand_tui.metrics import METRICS, Metric
from farmhand_tui.palette import LEVEL_LOOKS, NO_DATA, STATE_LOOKS, Look, state_look
from tests.tui.synthetic import SyntheticFarm


def luminance(look: Look) -> float:
    """Return the relative luminance of a cell as WCAG 2 defines it."""
    color = look.cell.bgcolor
    assert color is not None and color.triplet is not None
    shares = [part / 255 for part in color.triplet]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def rises(values: Iterable[float]) -> bool:
    return all(low < high for low, high in pairwise(values))


def farm_with(**values: object) -> Farm:
    synthetic = SyntheticFarm(1)
    synthetic.set("card-00000", **values)
    farm = Farm()
    farm.load(synthetic.snapshot(list(COLUMNS)))
    return farm


def metric(name: str) -> Metric:
    return next(metric for metric in METRICS if metric.name == name)


def test_worse_states_are_brighter() -> None:
    """On a grey screen the worst still stands out."""
    assert rises(luminance(STATE_LOOKS[state]) for state in STATES[:5])


def test_higher_levels_are_brighter() -> None:
    """The ramp keeps its order for every kind of colour vision."""
    assert rises(map(luminance, LEVEL_LOOKS))


def test_every_state_and_level_has_a_glyph_of_its_own() -> None:
    """Without any colour, nothing looks like anything else."""
    states = [look.glyph for look in STATE_LOOKS.values()]
    levels = [look.glyph for look in (*LEVEL_LOOKS, NO_DATA, STATE_LOOKS["lost"])]

    assert len(set(states)) == len(states)
    assert len(set(levels)) == len(levels)


def test_glyphs_exist_on_the_linux_console() -> None:
    """Every glyph is in code page 437, or is one that its console font draws."""
    for look in (*STATE_LOOKS.values(), *LEVEL_LOOKS, NO_DATA):
        assert look.glyph == "▼" or look.glyph.encode("cp437")


def test_a_state_of_a_newer_collector_is_unknown() -> None:
    """A word that is not known here is not drawn as fine."""
    assert state_look("melting") is STATE_LOOKS["unknown"]


@pytest.mark.parametrize(("celsius", "level"), [(38.0, 1), (40.0, 2), (79.9, 5), (93.0, 7)])
def test_a_number_falls_into_its_level(celsius: float, level: int) -> None:
    """The bounds belong to the level above them."""
    shown = metric("temperature").shown(farm_with(core_temperature_celsius=celsius), 0)

    assert shown.look is LEVEL_LOOKS[level - 1]


def test_little_delivered_is_bright() -> None:
    """Where more is better, less stands out."""
    low = metric("delivered").shown(farm_with(delivered=0.3), 0)
    high = metric("delivered").shown(farm_with(delivered=1.0), 0)

    assert (low.look, low.text) == (LEVEL_LOOKS[6], "30")
    assert high.look is LEVEL_LOOKS[0]


def test_a_missing_reading_is_neither_cold_nor_hot() -> None:
    """No data has a look of its own."""
    shown = metric("temperature").shown(farm_with(core_temperature_celsius=None), 0)

    assert shown == (NO_DATA, "")


@pytest.mark.parametrize("name", [metric.name for metric in METRICS])
def test_a_lost_card_looks_lost_whatever_is_shown(name: str) -> None:
    """A hole in the farm is never hidden by the choice of metric."""
    assert metric(name).shown(farm_with(state="lost"), 0).look is STATE_LOOKS["lost"]


@pytest.mark.parametrize("name", [metric.name for metric in METRICS[1:]])
def test_the_legend_says_the_number_of_every_level(name: str) -> None:
    """Each level is listed once, in the order of its numbers."""
    legend = metric(name).legend(farm_with())

    looks = [look for look, _ in legend]
    assert set(looks[:7]) == set(LEVEL_LOOKS)
    assert legend[0][1] == f"<{metric(name).bounds[0]:g}"
    assert legend[6][1] == f">{metric(name).bounds[-1]:g}"


def test_the_legend_of_states_counts_them() -> None:
    """The first view says how many cards are in each state."""
    legend = METRICS[0].legend(farm_with(state="watch"))

    assert [meaning for _, meaning in legend if not meaning.endswith(" 0")] == ["watch 1"]
