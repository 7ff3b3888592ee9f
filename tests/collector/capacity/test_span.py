"""Spans: what is gathered over five minutes, and what is kept of cards that rest."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from farmhand_collector.capacity.detector import SPAN_NS, Facts
from farmhand_collector.capacity.frame import NO_READING, READ_OK, Frame, Span
from farmhand_collector.capacity.roster import Roster
from farmhand_collector.capacity.span import LATEST_HOLDS_NS, Spans, gathered, with_load
from tests.collector.capacity.farm import FARM, IDLE, SICK, START_NS, at, cards, frame, working

SHORT_NS = 30 * 10**9


def short(number: int, roster: Roster = FARM, **changed: Any) -> Frame:
    """A frame of half a minute."""
    return frame(number, roster, length_ns=SHORT_NS, **changed)


def spanned(frames: Sequence[Frame]) -> Span:
    """The span that ends with the last frame."""
    spans = Spans()
    for one in frames:
        seen, spans = gathered(one, spans)
    assert seen.span is not None
    return seen.span


def test_a_mean_is_over_the_time_for_which_a_value_was_given() -> None:
    """Frames in which the card did not give it neither count nor pull it to zero."""
    clocks = [1000.0, np.nan, 1600.0, *[np.nan] * 2, *[1300.0] * 5]

    span = spanned([short(at, core_clock_mhz=clock) for at, clock in enumerate(clocks)])

    assert span.loaded["core_clock_mhz"][SICK] == pytest.approx(np.nanmean(clocks))


def test_a_card_that_was_mostly_idle_has_no_loaded_mean() -> None:
    """A minute of load shows the last of the cold."""
    frames = [short(at, **(IDLE if at < 8 else {})) for at in range(10)]

    assert np.isnan(spanned(frames).loaded["core_clock_mhz"]).all()


def test_what_a_card_shows_at_rest_is_kept_apart() -> None:
    """It must have settled: nearly the whole span."""
    rest = spanned([short(at, **IDLE) for at in range(10)])
    mixed = spanned([short(at, **(IDLE if at < 7 else {})) for at in range(10)])

    assert rest.idle["power_watts"][SICK] == pytest.approx(22.0)
    assert np.isnan(mixed.idle["power_watts"]).all()


def test_a_card_that_rests_keeps_its_last_span_for_its_peers() -> None:
    """And is not judged on it again."""
    span = spanned([frame(0, core_clock_mhz=1650.0), frame(1, **IDLE)])

    assert span.latest["core_clock_mhz"].tolist() == [1650.0] * len(FARM)
    assert not span.fresh.any()
    assert np.isnan(span.loaded["core_clock_mhz"]).all()


def test_after_a_week_it_is_no_longer_worth_comparing_with() -> None:
    """Air, drivers and limits change."""
    later = START_NS + LATEST_HOLDS_NS + SPAN_NS
    span = spanned([frame(0), frame(start_ns=later, **IDLE)])

    assert np.isnan(span.latest["core_clock_mhz"]).all()


def test_a_rate_need_not_fill_the_span() -> None:
    """A job may tell it once in five minutes."""
    frames = [short(at, work=working(120.0) if at == 4 else None) for at in range(10)]

    assert spanned(frames).rate.tolist() == [120.0] * len(FARM)


def test_a_span_that_is_passed_over_is_dropped() -> None:
    """A silence tore it: what was gathered before belongs to another time."""
    far = START_NS + 10 * SPAN_NS

    spans = Spans()
    _, spans = gathered(short(0, core_clock_mhz=500.0), spans)
    seen, _ = gathered(frame(start_ns=far), spans)

    assert seen.span is not None
    assert seen.span.loaded["core_clock_mhz"][SICK] == 1700.0


def test_a_silent_card_has_no_span() -> None:
    """Nothing was heard for most of it."""
    frames = [
        short(number, read=at(SICK, NO_READING if number < 6 else READ_OK, READ_OK))
        for number in range(10)
    ]

    span = spanned(frames)

    assert np.flatnonzero(np.isnan(span.loaded["core_clock_mhz"])).tolist() == [SICK]


def test_cards_that_join_have_their_first_span_at_its_end() -> None:
    """The others' sums stay theirs."""
    span = spanned(
        [*(short(at, cards(12)) for at in range(5)), *(short(at) for at in range(5, 10))]
    )

    assert (span.loaded["core_clock_mhz"] == 1700.0).all()


def test_saved_and_restored_it_goes_on() -> None:
    """Every column comes back under its own name."""
    spans = Spans()
    for number in range(14):
        _, spans = gathered(short(number, host={"inlet_temperature_celsius": 24.0}), spans)

    restored = Spans.of(spans.number, spans.named())

    assert restored.named().keys() == spans.named().keys()
    for name, column in spans.named().items():
        np.testing.assert_array_equal(restored.named()[name], column)


# --- load ---------------------------------------------------------------------------------------


def test_a_card_whose_job_tells_a_rate_is_loaded() -> None:
    """Where it does not tell its utilisation."""
    seen = with_load(frame(utilization_ratio=np.nan, work=working(100.0)), Facts())

    assert (seen.loaded_share == 1).all()
    assert (seen.loaded["core_clock_mhz"] == 1700.0).all()


def test_a_card_that_draws_what_no_idle_card_draws_is_loaded() -> None:
    """Its board power is known from the catalogue."""
    facts = Facts(expected={"power_watts": np.full(len(FARM), 350.0)})
    power = at(SICK, 30.0, 300.0)

    seen = with_load(frame(utilization_ratio=np.nan, power_watts=power), facts)

    assert np.flatnonzero(np.isnan(seen.loaded_share)).tolist() == [SICK]


def test_a_card_that_says_that_it_rests_is_believed() -> None:
    """Whatever a job tells for it."""
    told = frame(**IDLE, work=working(100.0))

    assert with_load(told, Facts()) is told
    assert replace(told).loaded_share.tolist() == [0.0] * len(FARM)


def test_a_card_that_tells_no_limit_has_that_of_its_kind_on_its_node() -> None:
    """A limit that nobody saw change would look like a fault."""
    limits = at(range(4, 8), 280.0, 350.0)
    limits[SICK] = np.nan

    span = spanned([frame(0, power_limit_watts=limits)])

    assert span.loaded["power_limit_watts"][SICK] == 280.0


def test_a_regulated_clock_moves_and_a_fixed_one_does_not() -> None:
    """One step of 15 MHz in ten readings is seen."""
    clocks = [at(SICK, 1485.0 if number == 4 else 1500.0, 1700.0) for number in range(10)]

    spread = spanned([short(n, core_clock_mhz=c) for n, c in enumerate(clocks)]).spread

    assert spread["core_clock_mhz"][SICK] == pytest.approx(np.std([1485.0, *[1500.0] * 9]) / 1498.5)
    assert spread["core_clock_mhz"][SICK + 1] == pytest.approx(0.0, abs=1e-7)


def test_readings_in_which_a_card_rested_do_not_move_its_clock() -> None:
    """A checkpoint is a pause, not a regulator."""
    paused = short(0, core_clock_mhz=900.0, utilization_ratio=0.1)
    frames = [paused, *(short(number) for number in range(1, 10))]

    spread = spanned(frames).spread

    assert spread["core_clock_mhz"][SICK] == pytest.approx(0.0, abs=1e-7)


def test_of_long_frames_nobody_knows_whether_the_clock_moved() -> None:
    """They are means already."""
    assert np.isnan(spanned([frame(0)]).spread["core_clock_mhz"]).all()


def test_a_cap_is_seen_where_a_node_runs_at_one_clock() -> None:
    """Power lets each chip run at its own."""
    own = np.linspace(1500.0, 1650.0, len(FARM))
    clocks = np.where(np.isin(np.arange(16), range(4, 8)), 1350.0, own)

    caps = spanned([frame(0, core_clock_mhz=clocks)]).latest["capped_mhz"]

    assert caps.tolist() == [0.0] * 4 + [1350.0] * 4 + [0.0] * 8


def test_a_cap_is_known_while_one_card_works_alone() -> None:
    """From what the others of its node last ran at."""
    clocks = at(range(4, 8), 1350.0, 1700.0)
    alone = at(SICK, 1.0, 0.0)

    span = spanned(
        [
            frame(0, core_clock_mhz=clocks, utilization_ratio=1 - alone),
            frame(1, core_clock_mhz=clocks, utilization_ratio=alone),
        ]
    )

    assert span.latest["capped_mhz"][SICK] == 1350.0
