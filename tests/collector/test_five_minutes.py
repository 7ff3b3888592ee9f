"""Five minutes of readings as one row, beside a twin that counts on its fingers."""

import math
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.reading import Reading, Value
from farmhand_collector.block import block_of
from farmhand_collector.five_minutes import SLICE_NS, increases, rolled
from tests.collector.store.examples import SECOND_NS, card_tags

BEGIN_NS = 1_790_000_000 * SECOND_NS // SLICE_NS * SLICE_NS


def reading(second: float, slot: int = 0, **fields: Value) -> Reading:
    """A reading of a card, so long after a slice began."""
    return Reading("card", card_tags(slot), fields, BEGIN_NS + round(second * SECOND_NS))


def rows(readings: Sequence[Reading]) -> list[Reading]:
    """What becomes of them, in order of card and time."""
    (block,) = block_of(readings, 1)
    return sorted(rolled(block).readings(), key=lambda r: (r.tags["slot"], r.time_ns))


def rises(readings: Sequence[Reading]) -> list[Reading]:
    """By how much counters rose."""
    (block,) = block_of(readings, 1)
    return sorted(increases(block).readings(), key=lambda r: (r.tags["slot"], r.time_ns))


def test_a_gauge_becomes_its_mean_by_the_length_of_the_windows() -> None:
    """A window of thirty seconds counts three times one of ten."""
    (row,) = rows(
        [
            reading(10, power_watts=100.0, window_seconds=10.0, samples=10.0),
            reading(40, power_watts=300.0, window_seconds=30.0, samples=30.0),
        ]
    )

    assert row.time_ns == BEGIN_NS
    assert row.fields == {"power_watts": 250.0, "window_seconds": 40.0, "samples": 40.0}


def test_what_was_not_given_does_not_count() -> None:
    """A mean over the rows that have a value; no value where none has."""
    (row,) = rows([reading(0, fan_ratio=0.5), reading(10, power_watts=200.0)])

    assert row.fields == {"fan_ratio": 0.5, "power_watts": 200.0}


def test_peaks_and_flags_are_maxima_and_texts_the_last() -> None:
    """A flag that stood for one reading was there."""
    (row,) = rows(
        [
            reading(0, core_temperature_max_celsius=70.0, remap_pending=1.0, state="unreadable"),
            reading(10, core_temperature_max_celsius=60.0, remap_pending=0.0, state="ok"),
            reading(20, core_temperature_max_celsius=65.0),
        ]
    )

    assert row.fields == {
        "core_temperature_max_celsius": 70.0,
        "remap_pending": 1.0,
        "state": "ok",
    }


def test_slices_and_cards_are_kept_apart() -> None:
    """Each card has a row for each five minutes in which it told something."""
    told = rows(
        [reading(s, slot, power_watts=1.0) for s in (0, 299.9, 300, 900) for slot in (0, 1)]
    )

    begins = [0, 300, 900] * 2
    assert [(r.tags["slot"], (r.time_ns - BEGIN_NS) // SECOND_NS) for r in told] == list(
        zip("000111", begins, strict=True)
    )


def test_a_counter_tells_its_last_value_and_by_how_much_it_rose() -> None:
    """From the reading before the slice on; from zero where it began anew."""
    told = [
        reading(second, pcie_replay_total=total)
        for second, total in [(0, 100.0), (290, 110.0), (310, 115.0), (320, 3.0), (330, 5.0)]
    ]

    assert [row.fields["pcie_replay_total"] for row in rows(told)] == [110.0, 5.0]
    assert [row.fields["pcie_replay_total"] for row in rises(told)] == [10.0, 5.0 + 3.0 + 2.0]


def test_the_first_reading_of_a_counter_is_no_rise() -> None:
    """What it counted before, nobody here saw."""
    assert rises([reading(0, pcie_replay_total=900.0)]) == [
        Reading("increase", card_tags(), {}, BEGIN_NS)
    ]


_seconds = st.integers(0, 1200)
_numbers = st.one_of(st.none(), st.integers(0, 50).map(float))
_told = st.lists(
    st.tuples(_seconds, st.integers(0, 2), _numbers, _numbers, _numbers),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[:2],
)
_NAMES = ("power_watts", "power_max_watts", "energy_joules")


@given(_told)
def test_it_is_what_a_twin_finds(
    told: list[tuple[int, int, float | None, float | None, float | None]],
) -> None:
    """Whatever is missing, in whatever order, for whatever cards."""
    readings = [
        reading(
            second,
            slot,
            state="ok",
            **{n: v for n, v in zip(_NAMES, told, strict=True) if v is not None},
        )
        for second, slot, *told in told
    ]

    found = {(r.tags["slot"], r.time_ns): r.fields for r in rows(readings)}
    risen = {(r.tags["slot"], r.time_ns): r.fields.get("energy_joules") for r in rises(readings)}

    cells: dict[tuple[str, int], list[Reading]] = defaultdict(list)
    last: dict[str, float] = {}
    rise: dict[tuple[str, int], float] = {}
    for one in sorted(readings, key=lambda r: r.time_ns):
        cell = (one.tags["slot"], one.time_ns // SLICE_NS * SLICE_NS)
        cells[cell].append(one)
        if "energy_joules" in one.fields:
            now, before = float(one.fields["energy_joules"]), last.get(cell[0])
            if before is not None:
                rise[cell] = rise.get(cell, 0.0) + (now - before if now >= before else now)
            last[cell[0]] = now
    assert found.keys() == cells.keys() == risen.keys()
    for cell, ones in cells.items():
        told_of = {n: [float(o.fields[n]) for o in ones if n in o.fields] for n in _NAMES}
        power, peak, energy = (told_of[name] for name in _NAMES)
        assert found[cell].get("power_watts") == (
            pytest.approx(math.fsum(power) / len(power)) if power else None
        )
        assert found[cell].get("power_max_watts") == (max(peak) if peak else None)
        assert found[cell].get("energy_joules") == (energy[-1] if energy else None)
        assert risen[cell] == rise.get(cell)
