"""What events and error counters say of a card."""

from collections.abc import Sequence
from itertools import pairwise
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farmhand_collector.capacity.detector import (
    ACTIONS,
    CAUSES,
    DEGRADED,
    FAILING,
    NOT_JUDGED,
    OK,
    WATCH,
    Detector,
    Score,
)
from farmhand_collector.capacity.detectors import (
    link_errors,
    memory_errors,
    npu_fault,
    remap,
    solder,
    xid,
)
from farmhand_collector.capacity.frame import (
    NO_READING,
    READ_LOST,
    READ_OK,
    Event,
    Frame,
)
from farmhand_collector.capacity.occurrences import (
    BURST_SECONDS,
    MEMORY,
    SLOTS,
    Burst,
    Told,
    bursts,
    noted,
    rules_of,
)
from farmhand_collector.facts import catalogue_facts
from tests.collector.capacity.farm import (
    SICK,
    START_NS,
    at,
    cards,
    frame,
    scored,
    working,
)
from tests.collector.capacity.farm import (
    judged as verdicts_of,
)
from tests.collector.capacity.stories_events import (
    DAY,
    HOUR,
    LEAST_COUNT,
    LOAD_FRAMES,
    SECOND,
    counted,
    cycles,
    event,
    on_ramps,
    ramps,
    silent_at,
    told,
)

FIVE_MINUTES = 300
HOUR_S, DAY_S = 3600, 86_400


def judged(module: Any, frames: Sequence[Frame]) -> Score:
    """What a detector says of the last frame, with the catalogue that comes with farmhand."""
    detector: Detector = module.DETECTOR
    return scored(detector, frames, catalogue_facts()).scores[-1]


def levels(module: Any, frames: Sequence[Frame]) -> list[int]:
    """Level of the sick card in the last frame, and the worst of the others."""
    level = judged(module, frames).level
    return [int(level[SICK]), int(np.delete(level, SICK).max())]


def framed(*events: Event, after_s: float = 0, **changed: Any) -> list[Frame]:
    """A frame for each event, in the order given, and one that ends so long after the last."""
    numbers = [(each.time_ns - START_NS) // (FIVE_MINUTES * SECOND) for each in events]
    frames = [
        frame(number, events=[each], **changed)
        for number, each in zip(numbers, events, strict=True)
    ]
    last = max(numbers) + 1 + int(after_s // FIVE_MINUTES)
    return [*frames, frame(last)]


class TestXid:
    """Errors that the driver tells by number."""

    @pytest.mark.parametrize(
        ("code", "level", "cause"),
        [
            ("48", DEGRADED, "memory"),
            ("54", FAILING, "power"),
            ("46", WATCH, "driver"),
            ("74", DEGRADED, "link"),
            ("997", WATCH, "driver"),
        ],
    )
    def test_a_single_event_means_what_the_catalogue_says(
        self, code: str, level: int, cause: str
    ) -> None:
        """Level and cause come from the rule; a code of no list is one to ask about."""
        score = judged(xid, framed(event(1, code)))

        assert score.level[SICK] == level
        assert score.cause is not None
        assert CAUSES[score.cause[SICK]] == cause

    @pytest.mark.parametrize("code", ["13", "31", "43", "45"])
    def test_an_error_of_the_application_blames_no_board(self, code: str) -> None:
        """A bad pointer is the program's."""
        assert levels(xid, framed(event(1, code))) == [OK, OK]

    def test_events_close_together_are_one_occurrence(self) -> None:
        """A hanging firmware is told of each minute, and is one hang."""
        events = [event(60 * number, "119") for number in range(30)]

        assert levels(xid, framed(*events)) == [WATCH, OK]

    def test_a_second_occurrence_within_a_day_is_a_fault_of_the_card(self) -> None:
        """One hang is noise, two are not."""
        score = judged(xid, framed(event(1, "119"), event(5 * HOUR_S, "119")))

        assert score.level[SICK] == DEGRADED
        assert score.evidence["code"][SICK] == 119
        assert score.evidence["times"][SICK] == 2

    def test_a_second_occurrence_after_the_time_that_counts_is_a_first_one(self) -> None:
        """Two hangs in a month say nothing."""
        assert levels(xid, framed(event(1, "119"), event(2 * DAY_S, "119"))) == [WATCH, OK]

    def test_double_bit_errors_twice_in_two_weeks_fail(self) -> None:
        """A reset took the first row out of use; the next one says that more will follow."""
        assert levels(xid, framed(event(1), event(10 * DAY_S))) == [FAILING, OK]

    def test_a_late_event_counts_at_its_own_time(self) -> None:
        """A backlog is told the wrong way round."""
        late = [frame(3, events=[event(14 * 60, "119"), event(2, "119")])]

        assert levels(xid, late) == [DEGRADED, OK]

    def test_a_late_event_does_not_shorten_what_a_newer_one_means(self) -> None:
        """A backlog tells of a loose plug of last week, after that of today."""
        late = event(1, "54")
        newer = frame(5 * 288, events=[event(5 * DAY_S, "54")])

        assert levels(xid, [newer, frame(5 * 288 + 1, events=[late]), frame(10 * 288)]) == [
            FAILING,
            OK,
        ]

    def test_an_event_told_twice_counts_once(self) -> None:
        """Delivery is at least once."""
        again = [event(1, "119"), event(100, "119"), event(1, "119")]

        assert levels(xid, framed(*again)) == [WATCH, OK]

    def test_old_news_is_no_news(self) -> None:
        """A node that was silent for a month tells of what is long over."""
        old = event(-30 * DAY_S, "54")

        assert levels(xid, [frame(0, events=[old])]) == [OK, OK]

    @pytest.mark.parametrize("time_ns", [0, -5, 2**62])
    def test_an_absurd_time_is_passed_over(self, time_ns: int) -> None:
        """A clock that was never set is no reason to fall over."""
        absurd = Event(SICK, time_ns, "xid", "54", "")

        assert levels(xid, [frame(0, events=[absurd])]) == [OK, OK]

    @pytest.mark.parametrize(
        ("code", "hours", "level"),
        [("46", 23, WATCH), ("46", 25, OK), ("54", 6 * 24, FAILING), ("54", 8 * 24, OK)],
    )
    def test_it_is_held_for_a_while_and_then_forgiven(
        self, code: str, hours: float, level: int
    ) -> None:
        """A day for what may be noise, a week for what fails: a reset mends nothing."""
        assert levels(xid, framed(event(1, code), after_s=hours * HOUR_S)) == [level, OK]

    def test_the_worst_of_several_codes_is_told(self) -> None:
        """A newer, lesser one does not hide it."""
        score = judged(xid, framed(event(1, "64"), event(400, "46"), event(800, "63")))

        assert score.level[SICK] == FAILING
        assert score.evidence["code"][SICK] == 64
        assert score.action is not None
        assert ACTIONS[score.action[SICK]] == "retire"

    def test_a_storm_of_codes_leaves_the_worst_in_memory(self) -> None:
        """Memory is bounded; what means least and is oldest goes first."""
        storm = [event(400 + 400 * number, str(120 + number)) for number in range(2 * SLOTS)]

        assert levels(xid, framed(event(1, "64"), *storm)) == [FAILING, OK]

    def test_other_kinds_of_events_are_not_its_business(self) -> None:
        """A number may be another vendor's."""
        assert levels(xid, framed(event(1, "48", "npu_fault"))) == [OK, OK]

    def test_a_silent_card_is_not_judged(self) -> None:
        """What was raised stays as it was."""
        silent = frame(1, read=at(SICK, NO_READING, READ_OK))

        assert levels(xid, [frame(0), silent]) == [NOT_JUDGED, OK]


class TestXidOfTheApplication:
    """XIDs that are the program's until they follow the card."""

    def told_of(self, jobs: Sequence[int], hours: float) -> list[int]:
        """An MMU fault during each job, so many hours apart."""
        frames = []
        for number, job in enumerate(jobs):
            each = event(number * hours * HOUR_S + 1, "31")
            frames += framed(each, work=working(1.0, job) if job else None)
        return levels(xid, frames)

    def test_two_different_jobs_that_crash_on_one_card_blame_it(self) -> None:
        """Memory without error correction shows in no other way."""
        assert self.told_of([1, 2], 1) == [DEGRADED, OK]

    def test_one_job_that_crashes_again_and_again_is_to_blame_itself(self) -> None:
        """The program has a bad pointer, today as yesterday."""
        assert self.told_of([1, 1, 1, 1], 7) == [OK, OK]

    def test_a_job_that_crashed_before_does_not_hide_another(self) -> None:
        """Repeats of one job take no room from others."""
        assert self.told_of([1, 1, 1, 2, 1, 1], 1) == [DEGRADED, OK]

    @pytest.mark.parametrize(("hours", "level"), [(1, OK), (7, DEGRADED)])
    def test_without_names_only_hours_tell_jobs_apart(self, hours: float, level: int) -> None:
        """A loop that starts the program again does so at once."""
        assert self.told_of([0, 0], hours) == [level, OK]

    def test_a_crash_on_several_cards_of_a_node_blames_none(self) -> None:
        """The same code on other cards at the same time is the work's."""
        frames = []
        for hours in (0, 8):
            both = [event(hours * HOUR_S + card, "31", card=card) for card in (SICK, SICK + 1)]
            frames.append(frame(hours * 12, events=both, work=working(1.0, 1 + hours)))

        assert levels(xid, frames) == [OK, OK]

    def test_crashes_that_go_on_for_hours_on_one_card_blame_it(self) -> None:
        """No name is told, so the hours are what there is."""
        assert self.told_of([0] * 12, 0.4) == [OK, OK]
        assert self.told_of([0] * 18, 0.4) == [DEGRADED, OK]

    def test_crashes_on_one_card_after_the_other_blame_none(self) -> None:
        """The work goes round the node and fails everywhere."""
        node = [4, 7, 6, SICK]
        crashes = [
            event(number * 2 * HOUR_S + 1, "31", card=node[number % 4]) for number in range(12)
        ]

        assert levels(xid, framed(*crashes)) == [OK, OK]

    def test_a_hardware_error_on_several_cards_is_told_of_each(self) -> None:
        """Nothing else explains an uncorrectable error."""
        both = [event(card, "48", card=card) for card in (SICK, SICK + 1)]

        assert levels(xid, [frame(0, events=both)]) == [DEGRADED, DEGRADED]


def test_a_verdict_on_an_event_stays_until_it_is_forgiven() -> None:
    """Raised by the first window, cleared by the first one after its time."""
    hang = [frame(0), *framed(event(301, "46"), after_s=HOUR_S)]
    raised = verdicts_of(hang).findings[SICK]

    assert [finding.detector.name for finding in raised] == ["xid"]
    assert not verdicts_of([*hang, frame(25 * 12)]).findings


class TestFallsOffTheBus:
    """XID 79, as far as it is not told by `lost`."""

    def test_it_is_not_told_while_the_card_is_gone(self) -> None:
        """The card that is lost has one finding, and it is another."""
        fall = event(1, "79")

        assert levels(xid, [frame(0, events=[fall])])[0] == OK
        gone = frame(1, read=at(SICK, READ_LOST, READ_OK))
        assert levels(xid, [frame(0, events=[fall]), gone]) == [NOT_JUDGED, OK]

    def test_a_card_that_came_back_is_worth_a_look(self) -> None:
        """It may have been the plug that somebody touched."""
        score = judged(xid, framed(event(1, "79")))

        assert score.level[SICK] == WATCH
        assert score.action is not None
        assert ACTIONS[score.action[SICK]] == "reseat"

    @pytest.mark.parametrize("second", [("79", "xid"), ("167", "xid"), ("", "off_bus")])
    def test_a_card_that_falls_again_within_two_weeks_is_failing(
        self, second: tuple[str, str]
    ) -> None:
        """By whichever name the driver tells it."""
        again = event(10 * DAY_S, *second)

        assert levels(xid, framed(event(1, "79"), again)) == [FAILING, OK]


class TestNpuFault:
    """Faults that Ascends tell by code."""

    @pytest.mark.parametrize(
        ("code", "level"),
        [
            ("80E18402", FAILING),
            ("0x80e18402", FAILING),
            ("80CB8042", WATCH),
            ("8F180001", DEGRADED),
            ("DEADBEEF", WATCH),
            ("80E18400", OK),
        ],
    )
    def test_a_code_means_what_the_catalogue_says(self, code: str, level: int) -> None:
        """In either case, alone, by its family, or as one of no list."""
        assert levels(npu_fault, framed(event(1, code, "npu_fault"))) == [level, OK]

    def test_the_fifth_link_down_of_a_day_counts(self) -> None:
        """A port that goes down once is no fault."""
        downs = [event(1 + HOUR_S * number, "81078603", "npu_fault") for number in range(5)]

        assert levels(npu_fault, framed(*downs[:4])) == [OK, OK]
        assert levels(npu_fault, framed(*downs)) == [DEGRADED, OK]

    def test_evidence_holds_the_code_as_a_number(self) -> None:
        """Evidence is numbers; a code of the vendor is one."""
        score = judged(npu_fault, framed(event(1, "80E18402", "npu_fault")))

        assert score.evidence["code"][SICK] == 0x80E18402


class TestOccurrences:
    """The machinery under both."""

    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3000)), max_size=30))
    def test_bursts_are_runs_without_a_gap(self, seen: list[tuple[int, int]]) -> None:
        """Any two events of a card are in one burst when no gap lies between them."""
        found = bursts(Told(card, "48", seconds * SECOND) for card, seconds in seen)

        for card in range(3):
            times = sorted({seconds for one, seconds in seen if one == card})
            gaps = sum(later - before > BURST_SECONDS for before, later in pairwise(times))
            mine = [burst for burst in found if burst.card == card]
            assert len(mine) == (gaps + 1 if times else 0)
            assert all(later.first_s - one.last_s > BURST_SECONDS for one, later in pairwise(mine))

    @example([0, 1, 2, 30], 5)
    @example([0, 4, 1, 5], 37)
    @example([0, 1, 2, 0, 30], 5)
    @given(st.lists(st.integers(0, 40), min_size=1, max_size=25), st.integers(1, 60))
    def test_a_fault_is_found_in_whatever_order_it_is_told(
        self, hours: list[int], apart: int
    ) -> None:
        """Twice within a day, as a naive look over all events finds it."""
        seconds = [hour * apart * 600 + 1 for hour in hours]
        events = [event(each, "119") for each in seconds]
        last = max(seconds)

        level = levels(
            xid, [*(frame(0, events=[each]) for each in events), framed(events[-1])[-1]]
        )[0]

        starts = _starts(seconds)
        repeated = any(0 < later - before <= DAY_S for before, later in pairwise(starts))
        if last == seconds[-1]:
            assert (level == DEGRADED) >= (
                repeated and len(starts) > 1 and last - starts[-2] <= DAY_S
            )
        assert level <= (DEGRADED if repeated else WATCH)

    def test_nothing_new_leaves_the_memory_as_it_is(self) -> None:
        """A hundred thousand cards are not copied each frame for nothing."""
        memory = np.zeros(16, MEMORY)

        assert noted(memory, [], frame(), {}) is memory

    def test_a_code_of_its_own_goes_before_its_family(self) -> None:
        """80CB8001 is worse than the rest of 80CB80xx."""
        rules = catalogue_facts().npu_faults

        assert rules_of("80CB8001", rules) == rules["80CB8001"]
        assert rules_of("80CB8002", rules) == rules["80CB80xx"]

    def test_a_code_that_nobody_numbers_is_remembered_too(self) -> None:
        """Texts of a driver to come."""
        unknown = [Burst(0, "no number", 10**9, 10**9)]

        assert noted(np.zeros(16, MEMORY), unknown, frame(), {})["until_s"][0] > 10**9


def _starts(seconds: Sequence[int]) -> list[int]:
    """Where bursts begin."""
    ordered = sorted(set(seconds))
    return ordered[:1] + [b for a, b in pairwise(ordered) if b - a > BURST_SECONDS]


class TestMemoryErrors:
    """Errors that memory makes."""

    @pytest.mark.parametrize(
        "name",
        ["ecc_uncorrected_total", "ecc_dram_uncorrected_total", "ecc_sram_uncorrected_total"],
    )
    def test_an_uncorrectable_error_is_a_fault(self, name: str) -> None:
        """Work was lost to it."""
        assert levels(memory_errors, counted(name, 2.0, 3.0)) == [DEGRADED, OK]

    def test_what_a_board_brings_along_is_no_news(self) -> None:
        """Total counts of a used card are its past."""
        assert levels(memory_errors, counted("ecc_uncorrected_total", 40.0, 40.0)) == [OK, OK]

    def test_a_reset_of_the_counters_is_no_growth(self) -> None:
        """They begin at nought with the driver."""
        assert levels(memory_errors, counted("ecc_uncorrected_total", 40.0, 0.0)) == [OK, OK]

    def test_errors_after_a_reset_count(self) -> None:
        """What a counter shows that was reset has been counted since."""
        assert levels(memory_errors, counted("ecc_uncorrected_total", 40.0, 1.0)) == [DEGRADED, OK]

    def test_it_is_forgiven_after_a_day(self) -> None:
        """The reset has replaced the row."""
        name = "ecc_uncorrected_total"
        frames = counted(name, 0.0, 1.0)
        later = [told(number, name, 1.0, LEAST_COUNT) for number in (200, 300)]

        assert levels(memory_errors, [*frames, later[0]]) == [DEGRADED, OK]
        assert levels(memory_errors, [*frames, *later]) == [OK, OK]

    @pytest.mark.parametrize(
        ("days", "level"), [(0.5, DEGRADED), (3, FAILING), (13, FAILING), (15, DEGRADED)]
    )
    def test_one_that_comes_again_fails(self, days: float, level: int) -> None:
        """Not within a day, in which jobs hit the same row; not after two weeks."""
        name = "ecc_uncorrected_total"
        again = told(int(days * DAY_S / FIVE_MINUTES), name, 2.0, LEAST_COUNT)

        assert levels(memory_errors, [*counted(name, 0.0, 1.0), again]) == [level, OK]

    @pytest.mark.parametrize("name", ["sram_threshold_exceeded", "memory_unrepairable"])
    def test_the_maker_s_own_limits_fail_at_once(self, name: str) -> None:
        """And stay, though a window does not give them."""
        shown = told(0, name, 1.0, 0.0)
        score = judged(memory_errors, [shown, frame(1)])

        assert score.level[SICK] == FAILING
        assert score.action is not None
        assert ACTIONS[score.action[SICK]] == "retire"

    def test_five_uncorrectable_errors_in_caches_fail(self) -> None:
        """However old they are: caches have no spares."""
        name = "ecc_sram_uncorrected_total"
        assert levels(memory_errors, [told(0, name, 5.0, 4.0)]) == [FAILING, OK]

    def corrected(self, per_second: float, others: float, spans: int) -> list[int]:
        """Corrected errors at a rate, on the sick card and on the others."""
        rates = at(SICK, per_second, others)
        frames = [
            frame(number, ecc_corrected_total=np.floor(rates * FIVE_MINUTES * number))
            for number in range(spans + 1)
        ]
        return levels(memory_errors, frames)

    def test_corrected_errors_are_noise(self) -> None:
        """A few an hour are the sky's."""
        assert self.corrected(0.5, 0.0, 30) == [OK, OK]

    def test_a_rate_far_above_all_others_for_an_hour_is_worth_a_look(self) -> None:
        """Cells decay."""
        assert self.corrected(5.0, 0.1, 11) == [OK, OK]
        assert self.corrected(5.0, 0.1, 13) == [WATCH, OK]

    def test_bursts_of_corrected_errors_add_up(self) -> None:
        """Ten minutes of each hour, through half a day."""
        grows = [3000.0 if number % 12 < 2 else 0.0 for number in range(144)]

        assert levels(
            memory_errors, counted("ecc_corrected_total", *np.cumsum(grows[:30]).tolist())
        ) == [OK, OK]
        assert levels(
            memory_errors, counted("ecc_corrected_total", *np.cumsum(grows).tolist())
        ) == [WATCH, OK]

    def test_a_rate_that_all_cards_show_is_no_card_s(self) -> None:
        """A kind of memory, or a driver that counts anew."""
        assert self.corrected(5.0, 4.0, 30) == [OK, OK]

    def test_a_card_without_equals_is_judged_by_a_higher_rate(self) -> None:
        """There is nobody to compare with."""
        for per_second, level in ((5.0, OK), (20.0, WATCH)):
            total = [float(300 * per_second * number) for number in range(15)]
            frames = [frame(n, cards(1), ecc_corrected_total=total[n]) for n in range(15)]
            assert judged(memory_errors, frames).level[0] == level

    def test_a_total_at_which_operators_pull_a_card_is_worth_a_look(self) -> None:
        """Azure's figures."""
        assert levels(memory_errors, [frame(0, ecc_dram_corrected_total=at(SICK, 2.1e7, 1e6))]) == [
            WATCH,
            OK,
        ]


class TestRemap:
    """Spare rows and pages."""

    @pytest.mark.parametrize(
        ("name", "value", "level"),
        [
            ("remap_failed", 1.0, FAILING),
            ("remap_pending", 1.0, WATCH),
            ("retired_pages_pending", 1.0, WATCH),
            ("remap_banks_none", 1.0, DEGRADED),
            ("remap_banks_low", 2.0, WATCH),
            ("retired_pages_total", 63.0, FAILING),
            ("retired_pages_total", 40.0, OK),
            ("remapped_rows_total", 12.0, OK),
        ],
    )
    def test_what_is_told_decides(self, name: str, value: float, level: int) -> None:
        """Rows that were replaced are mended."""
        assert levels(remap, [told(0, name, value, 0.0)]) == [level, OK]

    def test_it_holds_while_nothing_else_is_told(self) -> None:
        """Slow fields are not in each window."""
        pending = told(0, "remap_pending", 1.0, 0.0)

        assert levels(remap, [pending, frame(1)]) == [WATCH, OK]
        assert levels(remap, [pending, frame(1, remap_pending=0.0)]) == [OK, OK]

    @pytest.mark.parametrize(
        ("totals", "level"),
        [((16, 17, 18), FAILING), ((16, 18), FAILING), ((16, 17), OK), ((10, 11, 12), OK)],
    )
    def test_pages_that_go_one_after_another_fail(
        self, totals: tuple[float, ...], level: int
    ) -> None:
        """More than one within a week, on a card that has lost many (DCGM)."""
        assert levels(remap, counted("retired_pages_total", *totals)) == [level, OK]

    def test_pages_that_go_once_a_month_do_not(self) -> None:
        """Ageing is slow."""
        month = 30 * DAY // (FIVE_MINUTES * SECOND)
        frames = [
            frame(month * number, retired_pages_total=at(SICK, 16.0 + number, 0.0))
            for number in range(4)
        ]

        assert levels(remap, frames) == [OK, OK]


class TestLinkErrors:
    """Errors of transmission."""

    def replays(self, per_span: Sequence[float], **changed: Any) -> list[int]:
        """Replays of the sick card in each span."""
        totals = LEAST_COUNT + np.cumsum([0.0, *per_span])
        return levels(
            link_errors,
            [
                told(number, "pcie_replay_total", total, **changed)
                for number, total in enumerate(totals.tolist())
            ],
        )

    def test_what_the_standard_allows_is_no_fault(self) -> None:
        """Eight a minute on sixteen lanes of generation 3."""
        assert self.replays([38.0] * 40) == [OK, OK]

    def test_more_than_that_again_and_again_is_worth_a_look(self) -> None:
        """Then it costs."""
        assert self.replays([100.0] * 4) == [WATCH, OK]
        assert self.replays([100.0] * 20) == [DEGRADED, OK]

    def test_a_single_burst_is_no_fault(self) -> None:
        """Somebody pulled at the cable."""
        assert self.replays([5000.0, *[0.0] * 3]) == [OK, OK]

    def test_bursts_hours_apart_that_come_again_add_up(self) -> None:
        """Minutes of errors, then quiet, then minutes of errors."""
        assert self.replays([*([400.0, 400.0, *[0.0] * 6] * 4), 400.0])[0] >= WATCH

    def test_a_single_lane_may_make_a_few(self) -> None:
        """Mining risers: less than one is allowed, and one is chance."""
        riser = {"pcie_width": 1.0, "pcie_generation": 1.0}

        assert self.replays([2.0] * 40, **riser) == [OK, OK]
        assert self.replays([20.0] * 4, **riser) == [WATCH, OK]

    def test_a_faster_link_may_make_more(self) -> None:
        """At generation 4 twice the bits are sent."""
        assert self.replays([100.0] * 20, pcie_generation=4.0) == [OK, OK]

    def test_a_link_that_rests_is_judged_as_the_fast_one_that_it_was(self) -> None:
        """The errors may be of the minutes of work before."""
        totals = [LEAST_COUNT + 100.0 * number for number in range(8)]
        frames = [
            frame(
                number,
                pcie_generation=4.0 if number == 0 else 1.0,
                pcie_replay_total=at(SICK, total, LEAST_COUNT),
            )
            for number, total in enumerate(totals)
        ]

        assert levels(link_errors, frames) == [OK, OK]

    def test_errors_of_a_boot_do_not_count(self) -> None:
        """Links make errors as they train."""
        totals = [LEAST_COUNT + 5000.0 * number for number in range(8)]
        frames = [
            frame(number, booted=True, pcie_replay_total=at(SICK, total, LEAST_COUNT))
            for number, total in enumerate(totals)
        ]

        assert levels(link_errors, frames) == [OK, OK]

    @pytest.mark.parametrize("name", ["pcie_nonfatal_total", "nvlink_replay_total"])
    def test_lost_packets_count_in_any_number(self, name: str) -> None:
        """One is chance, one in each of some spans is not."""
        assert levels(link_errors, counted(name, 0.0, 1.0, 1.0, 1.0)) == [OK, OK]
        assert levels(link_errors, counted(name, *map(float, range(6)))) == [WATCH, OK]

    def test_nvlink_is_reseated(self) -> None:
        """It has no riser."""
        score = judged(link_errors, counted("nvlink_crc_errors_total", *map(float, range(6))))

        assert score.action is not None
        assert ACTIONS[score.action[SICK]] == "reseat"

    def test_a_link_that_has_become_quiet_is_forgiven(self) -> None:
        """The riser was swapped."""
        assert self.replays([*[100.0] * 6, *[0.0] * 100]) == [OK, OK]


class TestSolder:
    """A joint that opens with temperature."""

    @pytest.mark.parametrize(
        "added",
        [
            {"pcie_replay_total": 400.0},
            {"pcie_recovery_total": 1.0},
            {"pcie_recovery_total": 2.0, "ecc_corrected_total": 50.0},
        ],
    )
    def test_bursts_on_ramps_are_of_the_link(self, added: dict[str, float]) -> None:
        """Whichever sign a retraining leaves."""
        score = judged(solder, on_ramps(4, **added))

        assert score.level[SICK] >= WATCH
        assert score.cause is not None
        assert score.cause[SICK] == -1

    def test_memory_errors_on_ramps_are_of_the_memory(self) -> None:
        """The joint is under a memory chip."""
        score = judged(solder, on_ramps(4, ecc_corrected_total=50.0))

        assert score.level[SICK] >= WATCH
        assert score.cause is not None
        assert CAUSES[score.cause[SICK]] == "memory"

    def test_more_episodes_are_worse(self) -> None:
        """Five on ramps that take a quarter of the time are worth a look; many are certain."""
        assert levels(solder, on_ramps(3, pcie_replay_total=400.0)) == [WATCH, OK]
        assert levels(solder, on_ramps(6, pcie_replay_total=400.0)) == [DEGRADED, OK]

    def test_the_verdict_names_the_joint(self) -> None:
        """Errors of the link are what it explains, not the other way round."""
        first, *rest = verdicts_of(on_ramps(6, pcie_replay_total=1500.0)).findings[SICK]

        assert (first.detector.name, first.cause, first.action) == ("solder", "link", "reball")
        assert "link_errors" in [finding.detector.name for finding in rest]

    def test_lanes_lost_while_the_load_changes_count(self) -> None:
        """Power management changes the speed of a link, never its width."""
        narrow: dict[int, dict[str, Any]] = {}
        for number in ramps(4):
            narrow[number] = {
                "pcie_width": at(SICK, 4.0, 16.0),
                "utilization_ratio": np.full(16, 0.5),
            }

        assert levels(solder, cycles(4, narrow))[0] >= WATCH

    def test_two_episodes_say_nothing(self) -> None:
        """Chance does that."""
        assert levels(solder, on_ramps(2, pcie_replay_total=400.0)[: ramps(2)[1] + 1]) == [OK, OK]

    def test_a_link_that_loses_lanes_on_ramps(self) -> None:
        """It trains again with what is left, and gets them back."""
        narrow = {number: {"pcie_width": at(SICK, 4.0, 16.0)} for number in ramps(4)}

        assert levels(solder, cycles(4, narrow))[0] >= WATCH

    def test_a_link_that_falls_to_a_lower_generation_under_load(self) -> None:
        """At rest that is normal, and does not count."""
        slow = {number: {"pcie_generation": at(SICK, 1.0, 3.0)} for number in ramps(8)[1::2]}

        assert levels(solder, cycles(8, slow))[0] >= WATCH

    @pytest.mark.parametrize("code", ["79", "74", "32"])
    def test_xids_on_ramps(self, code: str) -> None:
        """What the driver says when packets are lost."""
        signs = {
            number: {"events": [event(number * FIVE_MINUTES + 9, code)]} for number in ramps(4)
        }

        assert levels(solder, cycles(4, signs))[0] >= WATCH

    def test_a_card_that_errs_all_the_time_has_no_open_joint(self) -> None:
        """That is the riser's."""
        every = dict.fromkeys(range(2 * LOAD_FRAMES * 6), 400.0)

        assert levels(solder, cycles(6, {}, {"pcie_replay_total": every})) == [OK, OK]

    def test_a_card_that_errs_whenever_it_works_has_none_either(self) -> None:
        """Errors begin with the work and go on with it: traffic brings them, not heat."""
        working_hours = {
            number: 400.0 for number in range(2 * LOAD_FRAMES * 6) if number // LOAD_FRAMES % 2 == 0
        }

        assert levels(solder, cycles(6, {}, {"pcie_replay_total": working_hours})) == [OK, OK]

    @pytest.mark.parametrize("seed", range(4))
    def test_errors_at_random_are_not_blamed_on_ramps(self, seed: int) -> None:
        """Some fall on ramps by chance."""
        chosen = np.random.default_rng(seed).choice(2 * LOAD_FRAMES * 6, 16, replace=False)
        bursts_at = dict.fromkeys(chosen.tolist(), 400.0)

        assert levels(solder, cycles(6, {}, {"pcie_replay_total": bursts_at})) == [OK, OK]

    def test_jobs_so_short_that_all_time_is_a_ramp_prove_nothing(self) -> None:
        """Then every error falls on one."""
        frames = []
        for number in range(60):
            total = at(SICK, LEAST_COUNT + 400.0 * (number // 6), LEAST_COUNT)
            frames.append(
                frame(
                    number,
                    core_temperature_celsius=45.0 + 25 * (number // 2 % 2),
                    pcie_replay_total=total,
                )
            )

        assert levels(solder, frames) == [OK, OK]

    def test_links_that_change_speed_with_the_load_train_again(self) -> None:
        """Power management is no fault; it comes with the change itself."""
        changes = {number - 1: 3.0 for number in ramps(6)}

        assert levels(solder, cycles(6, {}, {"pcie_recovery_total": changes})) == [OK, OK]

    def test_a_card_that_only_falls_silent_has_a_driver_to_blame(self) -> None:
        """Work that begins or ends keeps drivers busy."""
        assert levels(solder, cycles(4, silent_at(ramps(4))))[0] <= OK

    def test_boots_explain_what_comes_with_them(self) -> None:
        """A cold start warms the card, trains the link and loads the driver."""
        booted = {number: {"booted": True} for number in ramps(6)}
        trained = dict.fromkeys(ramps(6), 3.0)

        assert levels(solder, cycles(6, booted, {"pcie_recovery_total": trained})) == [OK, OK]

    def test_frames_that_hold_a_whole_ramp_are_not_judged(self) -> None:
        """A recording of one reading an hour shows no ramps."""
        long = [frame(number, length_ns=HOUR) for number in range(3)]

        assert set(judged(solder, long).level.tolist()) == {NOT_JUDGED}

    def test_what_is_weeks_ago_is_forgotten(self) -> None:
        """The board was mended since."""
        later = frame(15 * DAY // (FIVE_MINUTES * SECOND))

        assert levels(solder, [*on_ramps(6, pcie_replay_total=400.0), later]) == [OK, OK]

    @given(st.integers(1, 60), st.data(), st.floats(0.02, 0.98))
    def test_the_tail_is_that_of_the_binomial(
        self, trials: int, data: st.DataObject, share: float
    ) -> None:
        """As summed term by term."""
        hits = data.draw(st.integers(0, trials))

        tail = solder.upper_tail(
            np.array([float(hits)]), np.array([float(trials)]), np.array([share])
        )

        naive = sum(
            comb(trials, count) * share**count * (1 - share) ** (trials - count)
            for count in range(hits, trials + 1)
        )
        assert tail[0] == pytest.approx(naive, rel=1e-9)
