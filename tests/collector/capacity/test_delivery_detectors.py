"""What each detector of delivery is there to tell, and what it must not take for a fault."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from farmhand_collector.capacity.baseline import BASELINE_SPANS, FIELDS, learnt
from farmhand_collector.capacity.boards import doubles, mining_cards, npus
from farmhand_collector.capacity.detector import (
    ACTIONS,
    CAUSES,
    DEGRADED,
    FAILING,
    NOT_JUDGED,
    OK,
    UNKNOWN,
    WATCH,
    Detector,
    Facts,
    Score,
)
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.capacity.detectors.identity import HELD_NS
from farmhand_collector.capacity.frame import NO_READING, READ_LOST, READ_OK, Frame, Work
from farmhand_collector.capacity.roster import Roster
from farmhand_collector.capacity.state import State
from farmhand_collector.catalogue.findings import meanings
from tests.collector.capacity import stories_delivery as story
from tests.collector.capacity.farm import (
    FACTS,
    FARM,
    IDLE,
    SICK,
    START_NS,
    Array,
    at,
    cards,
    found,
    frame,
    judged,
    scored,
    stepped,
    stories,
    working,
)

DETECTORS: dict[str, Detector] = {detector.name: detector for detector in all_detectors()}
SECOND = 10**9


def last(name: str, frames: Sequence[Frame], facts: Facts = FACTS) -> Score:
    """What a detector says of the last frame."""
    return scored(DETECTORS[name], frames, facts).scores[-1]


def levels(name: str, frames: Sequence[Frame], facts: Facts = FACTS) -> list[int]:
    """Level that a detector gives the sick card in the last frame, and the worst of the others."""
    level = last(name, frames, facts).level
    return [int(level[SICK]), int(np.delete(level, SICK).max())]


def expecting(n: int = 16, **columns: float) -> Facts:
    """Facts that know the same of each card."""
    return Facts(expected={name: np.full(n, value) for name, value in columns.items()})


@pytest.mark.parametrize("name", story.STORIES)
def test_a_fault_is_raised_when_it_lasts(name: str) -> None:
    """Through the whole step: by its own detector, for the sick card and no other."""
    frames = stories()[name]()
    latest = frames[-1]
    number = (latest.start_ns - START_NS) // (latest.end_ns - latest.start_ns)
    again = [_moved(latest, number + more) for more in range(1, DETECTORS[name].raise_after)]

    findings = found(judged([*frames, *again]))

    assert findings.keys() == {SICK}
    assert name in findings[SICK]


def _moved(seen: Frame, number: int) -> Frame:
    length_ns = seen.end_ns - seen.start_ns
    start_ns = START_NS + number * length_ns
    return replace(seen, start_ns=start_ns, end_ns=start_ns + length_ns)


@pytest.mark.parametrize("name", story.STORIES)
def test_words_are_there_in_each_language(name: str) -> None:
    """The same places and the same number of steps, so that no reader is told less."""
    told = [meanings(language)[name] for language in ("en", "zh", "ko")]

    assert len({len(meaning.steps) for meaning in told}) == 1
    values = last(name, stories()[name]()).evidence
    shown = {key: float(column[SICK]) for key, column in values.items()}
    for meaning in told:
        assert meaning.sentence(shown) != meaning.brief


class TestBandwidth:
    """Memory traffic under load."""

    def test_a_missing_channel_is_named(self) -> None:
        """Seven of eight channels are a clean step."""
        evidence = last("bandwidth", story.little_traffic()).evidence

        assert evidence["channels_missing"][SICK] == 1

    def test_a_shortfall_between_two_steps_names_no_channel(self) -> None:
        """It has another cause."""
        seen = story.traffic(0, at(SICK, 325e9, 400e9))

        assert np.isnan(last("bandwidth", [seen]).evidence["channels_missing"][SICK])

    def test_another_job_is_no_measure(self) -> None:
        """Traffic says what the work asks for."""
        seen = story.traffic(
            0, at(SICK, 40e9, 400e9), work=working(1.0, job=np.where(np.arange(16) == SICK, 2, 1))
        )

        assert levels("bandwidth", [seen]) == [NOT_JUDGED, OK]

    def test_without_a_job_nothing_is_said(self) -> None:
        """Nobody knows what the work asks for."""
        seen = story.traffic(0, at(SICK, 40e9, 400e9), work=None)

        assert levels("bandwidth", [seen]) == [NOT_JUDGED, NOT_JUDGED]

    def test_work_that_tells_nothing_is_not_the_job_before(self) -> None:
        """Its job ended, and somebody runs something else."""
        untold = working(at(SICK, np.nan, 1.0), job=at(SICK, 0, 1).astype(int))
        frames = [story.traffic(0, 400e9), story.traffic(1, at(SICK, 40e9, 400e9), work=untold)]

        assert levels("bandwidth", frames) == [NOT_JUDGED, OK]

    def test_a_little_less_is_no_fault(self) -> None:
        """Eight percent are within what equal cards differ by."""
        assert levels("bandwidth", [story.traffic(0, at(SICK, 368e9, 400e9))]) == [OK, OK]

    def test_an_idle_card_is_not_judged(self) -> None:
        """Its last traffic was judged when it worked."""
        rests = {"utilization_ratio": at(SICK, 0.0, 1.0)}
        frames = [story.traffic(0, 400e9), story.traffic(1, at(SICK, 1e9, 400e9), **rests)]

        assert levels("bandwidth", frames) == [NOT_JUDGED, OK]

    def test_a_card_cut_into_instances_is_not_judged(self) -> None:
        """Its traffic is that of some instances."""
        facts = {"mig_instances": at(SICK, 3.0, 0.0)}

        assert levels("bandwidth", [story.traffic(0, at(SICK, 40e9, 400e9), facts=facts)]) == [
            NOT_JUDGED,
            OK,
        ]

    def test_who_gets_as_much_done_with_less_traffic_lacks_none(self) -> None:
        """Caches, batch sizes and counters differ."""
        seen = story.traffic(0, at(SICK, 340e9, 400e9), work=working(1.0))

        assert levels("bandwidth", [seen]) == [OK, OK]

    def test_three_cards_of_a_job_have_no_measure(self) -> None:
        """The median of two others is one card's whim."""
        farm = cards(3)
        seen = frame(
            0,
            farm,
            work=working(1.0, n=3),
            memory_bandwidth_bytes_per_second=np.array([4e11, 4e11, 1e11]),
        )

        assert last("bandwidth", [seen]).level.max() <= OK


BANDWIDTH = "memory_bandwidth_bytes_per_second"


def probed(number: int, measured: Array | float, name: str = BANDWIDTH, **changed: Any) -> Frame:
    """A frame in which probes measured so much."""
    return frame(number, probe={name: measured}, **changed)


class TestProbe:
    """Active tests of the memory."""

    @pytest.mark.parametrize(
        ("share", "level"), [(1.05, OK), (0.82, OK), (0.78, DEGRADED), (0.6, FAILING)]
    )
    def test_the_catalogue_decides_for_a_card_without_peers(self, share: float, level: int) -> None:
        """Warn below 80 % of what a real test reaches, fail below 65 %."""
        facts = expecting(
            1, memory_bandwidth_bytes_per_second=936e9, achievable_memory_bandwidth_ratio=0.85
        )
        seen = frame(0, cards(1), probe={BANDWIDTH: share * 0.85 * 936e9})

        assert last("probe", [seen], facts).level.tolist() == [level]

    def test_p2_lowers_what_is_expected(self) -> None:
        """The memory clock is a step lower while a GeForce card computes."""
        facts = expecting(
            1, memory_bandwidth_bytes_per_second=936e9, achievable_memory_bandwidth_ratio=0.85
        )
        shown = {"memory_clock_max_mhz": 10_000.0}

        def level(clock_mhz: float) -> int:
            seen = frame(
                0,
                cards(1),
                probe={BANDWIDTH: 0.78 * 0.85 * 936e9},
                facts=shown,
                memory_clock_mhz=clock_mhz,
            )
            return int(last("probe", [seen], facts).level[0])

        assert level(9_500.0) == OK
        assert level(10_000.0) == DEGRADED

    def test_a_stuck_memory_clock_is_no_excuse(self) -> None:
        """Half the clock gives half the bandwidth, and that is the fault."""
        facts = expecting(
            1, memory_bandwidth_bytes_per_second=936e9, achievable_memory_bandwidth_ratio=0.85
        )
        seen = frame(
            0,
            cards(1),
            probe={BANDWIDTH: 0.5 * 0.85 * 936e9},
            facts={"memory_clock_max_mhz": 10_000.0},
            memory_clock_mhz=5_000.0,
        )

        assert last("probe", [seen], facts).level.tolist() == [FAILING]

    def test_a_missing_channel_stands_out_among_equals(self) -> None:
        """Eleven of twelve channels pass the catalogue, and no peer is like that."""
        assert levels("probe", [probed(0, at(SICK, 800e9 * 11 / 12, 800e9))]) == [WATCH, OK]

    def test_a_card_is_held_against_its_first_probe(self) -> None:
        """It has no peer that tells."""
        farm = cards(1)
        frames = [frame(n, farm, probe={BANDWIDTH: v}) for n, v in enumerate((800e9, 700e9))]

        assert last("probe", frames).level.tolist() == [DEGRADED]

    def test_a_slow_decline_does_not_hide(self) -> None:
        """The first probe stays the measure, however little each one loses."""
        farm = cards(1)
        values = 800e9 * 0.98 ** np.arange(7)
        frames = [frame(n, farm, probe={BANDWIDTH: v}) for n, v in enumerate(values.tolist())]

        assert last("probe", frames).level.tolist() == [DEGRADED]

    def test_wrong_words_are_failing_and_of_the_memory(self) -> None:
        """One wrong word is one too many, whatever the bandwidth."""
        score = last("probe", [probed(0, at(SICK, 1.0, 0.0), "memory_errors")])

        assert score.level[SICK] == FAILING
        assert np.delete(score.level, SICK).max() == OK
        assert score.action is not None
        assert ACTIONS[score.action[SICK]] == "reball"

    def test_a_finding_stays_until_a_better_probe(self) -> None:
        """Frames without a probe say nothing of it."""
        bad = [probed(0, 800e9), probed(1, at(SICK, 500e9, 800e9))]
        quiet = [frame(number) for number in range(2, 30)]

        assert found(judged([*bad, *quiet])) == {SICK: ["probe"]}
        assert found(judged([*bad, *quiet, probed(30, 800e9)])) == {}

    def test_a_probe_of_words_alone_does_not_clear_slow_memory(self) -> None:
        """Each test speaks of what it tested."""
        bad = [probed(0, 800e9), probed(1, at(SICK, 500e9, 800e9))]

        assert levels("probe", [*bad, probed(2, 0.0, "memory_errors")]) == [FAILING, OK]

    def test_a_card_that_was_never_probed_is_not_judged(self) -> None:
        """Nothing is known."""
        assert levels("probe", [frame(0)]) == [NOT_JUDGED, NOT_JUDGED]

    def test_a_locked_card_has_its_bandwidth(self) -> None:
        """Its lock is of the compute units, and a bandwidth test is fair to it."""
        facts = expecting(
            locked=1.0,
            memory_bandwidth_bytes_per_second=560e9,
            achievable_memory_bandwidth_ratio=0.85,
        )
        frames = [frame(0, story.MINERS, probe={BANDWIDTH: 505e9, "fp32_flops": 0.43e12})]

        assert last("probe", frames, facts).level.max() == OK


class TestProbeCompute:
    """Active tests of the compute units."""

    def test_against_equal_cards(self) -> None:
        """From the first probe on."""
        assert levels("probe_compute", [probed(0, at(SICK, 55e12, 70e12), "fp16_flops")]) == [
            DEGRADED,
            OK,
        ]

    def test_slow_silicon_is_no_fault(self) -> None:
        """Seven percent may be the lottery."""
        assert levels("probe_compute", [probed(0, at(SICK, 65.1e12, 70e12), "fp16_flops")]) == [
            OK,
            OK,
        ]

    def test_less_than_in_its_first_probe_is_worth_a_look(self) -> None:
        """The lottery was drawn before that."""
        frames = [
            probed(0, 70e12, "fp16_flops"),
            probed(1, at(SICK, 65.1e12, 70e12), "fp16_flops"),
        ]

        assert levels("probe_compute", frames) == [WATCH, OK]

    def test_a_limit_lowered_on_purpose_begins_anew(self) -> None:
        """Less power by choice is less compute by choice."""
        lowered = at(SICK, 200.0, 350.0)
        frames = [
            probed(0, 70e12, "fp16_flops"),
            probed(1, at(SICK, 45e12, 70e12), "fp16_flops", power_limit_watts=lowered),
        ]

        assert levels("probe_compute", frames) == [OK, OK]

    def test_clocks_capped_on_purpose_are_no_fault(self) -> None:
        """A node runs at 85 % of the clock, and computes as much less."""
        node = range(4, 8)
        seen = probed(
            0, at(node, 60e12, 70e12), "fp16_flops", core_clock_mhz=at(node, 1450.0, 1700.0)
        )

        assert levels("probe_compute", [seen]) == [OK, OK]

    def test_a_clock_that_was_never_seen_under_load_may_be_capped(self) -> None:
        """The farm has no work; only the card's own first probe is a measure."""
        seen = probed(0, at(SICK, 60e12, 70e12), "fp16_flops", **IDLE)

        assert levels("probe_compute", [seen]) == [OK, OK]

    def test_a_limit_that_is_not_told_may_have_been_lowered(self) -> None:
        """Less than at first is no fault where nobody knows under which limit."""
        untold = {"power_limit_watts": at(SICK, np.nan, 350.0)}
        frames = [
            probed(0, 70e12, "fp16_flops", **untold),
            probed(1, at(SICK, 57e12, 70e12), "fp16_flops", **untold),
        ]

        assert levels("probe_compute", frames) == [OK, OK]

    def test_a_locked_card_never_has_this_fault(self) -> None:
        """It computes what its lock lets it."""
        frames = [frame(0, story.MINERS, probe={"fp32_flops": at(SICK, 0.43e12, 13.5e12)})]

        assert levels("probe_compute", frames) == [NOT_JUDGED, NOT_JUDGED]
        assert levels(
            "probe_compute",
            [probed(0, at(SICK, 0.43e12, 13.5e12), "fp32_flops")],
            expecting(locked=1.0),
        ) == [NOT_JUDGED, NOT_JUDGED]

    def test_it_judges_no_idle_card_for_good(self) -> None:
        """A probe of last month does not make a card good today."""
        assert levels("probe_compute", [probed(0, 70e12, "fp16_flops"), frame(1)]) == [
            NOT_JUDGED,
            NOT_JUDGED,
        ]


def after_first_hour(count: int = 8, **changed: Any) -> list[Frame]:
    """A good first hour, then spans in which something is different."""
    shown: dict[str, Any] = {"work": working(100.0), **changed}
    return [
        *story.first_hour(),
        *(frame(BASELINE_SPANS + more, **shown) for more in range(count)),
    ]


class TestDrift:
    """A card against its own past."""

    @pytest.mark.parametrize(("loss", "level"), [(0.01, OK), (0.03, WATCH), (0.07, DEGRADED)])
    def test_loss_of_rate_decides(self, loss: float, level: int) -> None:
        """What peers cannot see below 8 %."""
        frames = after_first_hour(12, work=working(at(SICK, 100 * (1 - loss), 100.0)))

        assert levels("drift", frames) == [level, OK]

    def test_loss_of_clock_at_the_same_job_decides(self) -> None:
        """Whether power holds the card or not."""
        frames = after_first_hour(12, core_clock_mhz=at(SICK, 1600.0, 1700.0))

        assert levels("drift", frames) == [DEGRADED, OK]

    def test_a_slow_decline_shows(self) -> None:
        """A baseline that slides along would forget it."""
        frames = story.first_hour()
        for more in range(150):
            rate = at(SICK, 100 * (1 - 0.0005 * more), 100.0)
            frames.append(frame(BASELINE_SPANS + more, work=working(rate)))

        assert levels("drift", frames) == [DEGRADED, OK]

    def test_one_bad_span_is_none(self) -> None:
        """However bad: its memory must be gone before it counts as a loss that lasts."""
        bad = frame(BASELINE_SPANS, work=working(at(SICK, 50.0, 100.0)))
        good = [frame(BASELINE_SPANS + 1 + more, work=working(100.0)) for more in range(8)]
        scores = scored(DETECTORS["drift"], [*story.first_hour(), bad, *good]).scores

        assert [int(score.level[SICK]) for score in scores[BASELINE_SPANS + 1 :]] == [OK] * 8

    @pytest.mark.parametrize("share", [0.93, 1.05])
    def test_what_all_have_is_no_fault(self, share: float) -> None:
        """A hot week, a driver, a limit of the farm."""
        frames = after_first_hour(12, work=working(100 * share), core_clock_mhz=1700 * share)

        assert levels("drift", frames) == [OK, OK]

    def test_peers_that_go_are_no_fault_of_those_who_stay(self) -> None:
        """The median moves when half of the farm is away; the card itself does not."""
        lots = np.linspace(90.0, 110.0, 16)
        frames = story.first_hour(work=working(lots))
        faster = np.where(np.arange(16) < 8, lots, lots * 1.1)
        frames += [frame(BASELINE_SPANS + more, work=working(faster)) for more in range(12)]

        assert last("drift", frames).level.max() == OK

    def test_another_job_begins_anew(self) -> None:
        """Half the rate of another job is no half of this one."""
        other = working(at(SICK, 50.0, 100.0), job=np.where(np.arange(16) == SICK, 2, 1))

        assert levels("drift", after_first_hour(11, work=other))[0] <= OK

    def test_work_that_tells_nothing_is_not_the_job_before(self) -> None:
        """Heavier work at the power limit clocks lower."""
        untold = working(at(SICK, np.nan, 100.0), job=at(SICK, 0, 1).astype(int))
        frames = after_first_hour(
            12,
            work=untold,
            core_clock_mhz=at(SICK, 1450.0, 1700.0),
            power_watts=at(SICK, 348.0, 300.0),
        )

        assert levels("drift", frames)[0] <= OK

    def test_another_limit_begins_anew(self) -> None:
        """The keeper lowers one card's limit."""
        frames = after_first_hour(
            20,
            work=working(at(SICK, 80.0, 100.0)),
            core_clock_mhz=at(SICK, 1400.0, 1700.0),
            power_watts=at(SICK, 200.0, 300.0),
            power_limit_watts=at(SICK, 200.0, 350.0),
        )

        assert levels("drift", frames)[0] <= OK

    def test_heavier_work_is_no_fault(self) -> None:
        """Nobody tells of jobs, and a card at its power limit clocks by what it runs."""
        quiet = {"work": None}
        frames = [frame(number, work=None) for number in range(BASELINE_SPANS)]
        heavy: dict[str, Any] = {
            **quiet,
            "core_clock_mhz": at(SICK, 1450.0, 1700.0),
            "power_watts": at(SICK, 348.0, 290.0),
            "throttle_power_ratio": at(SICK, 0.95, 0.0),
        }
        frames += [frame(BASELINE_SPANS + more, **heavy) for more in range(12)]

        assert levels("drift", frames)[0] <= OK

    @pytest.mark.parametrize(("share", "level"), [(0.97, OK), (0.93, WATCH), (0.85, DEGRADED)])
    def test_a_card_with_power_to_spare_has_less_excuse(self, share: float, level: int) -> None:
        """Whatever it runs; but work moves a boost clock by some steps."""
        spare: dict[str, Any] = {"work": None, "power_watts": 250.0}
        frames = [frame(number, **spare) for number in range(BASELINE_SPANS)]
        slow = at(SICK, 1700 * share, 1700.0)
        frames += [frame(BASELINE_SPANS + more, core_clock_mhz=slow, **spare) for more in range(16)]

        assert levels("drift", frames) == [level, OK]

    @pytest.mark.parametrize(("loss", "level"), [(0.03, OK), (0.08, WATCH), (0.2, DEGRADED)])
    def test_a_card_without_peers_needs_a_larger_loss(self, loss: float, level: int) -> None:
        """A hot week cannot be told from a fault."""
        farm = cards(1)
        rates = [100.0] * BASELINE_SPANS + [100 * (1 - loss)] * 16
        frames = [frame(number, farm, work=working(rate, n=1)) for number, rate in enumerate(rates)]

        assert last("drift", frames).level.tolist() == [level]

    def test_work_that_varies_by_itself_is_no_fault(self) -> None:
        """A served model has its quiet hours; a loss must stand out of the card's own spread."""
        rng = np.random.default_rng(4)
        frames = [
            frame(number, work=working(100 * np.exp(0.05 * rng.standard_normal(16))))
            for number in range(80)
        ]

        scores = scored(DETECTORS["drift"], frames).scores

        assert max(int(score.level.max()) for score in scores) == OK

    def test_baselines_are_saved(self) -> None:
        """A restart of the collector forgets no first hour."""
        *_, (state, _) = stepped(story.first_hour())
        restored = State.from_bytes(state.to_bytes())
        slow = [
            frame(BASELINE_SPANS + more, work=working(at(SICK, 90.0, 100.0))) for more in range(8)
        ]

        assert "drift" in found(judged(slow, restored))[SICK]

    def test_heat_is_the_cause_where_it_is_hot(self) -> None:
        """Dust, and not the silicon."""
        frames = after_first_hour(
            8,
            core_clock_mhz=at(SICK, 1500.0, 1700.0),
            core_temperature_celsius=at(SICK, 84.0, 66.0),
        )

        score = last("drift", frames)

        assert score.cause is not None
        assert CAUSES[score.cause[SICK]] == "thermal"

    def test_a_card_cut_into_instances_is_not_judged(self) -> None:
        """Its rate is that of some instances."""
        frames = after_first_hour(
            8,
            work=working(at(SICK, 30.0, 100.0)),
            facts={"mig_enabled": at(SICK, 1.0, 0.0)},
        )

        assert levels("drift", frames) == [NOT_JUDGED, OK]


class TestBaseline:
    """What baselines are."""

    def test_it_is_the_mean_and_spread_of_the_first_spans(self) -> None:
        """As numpy says of the same values; later ones change nothing."""
        rng = np.random.default_rng(0)
        values = 100 + rng.standard_normal((BASELINE_SPANS + 5, 3))
        values[3, 1] = np.nan
        memory = np.zeros(3, FIELDS)
        for row in values:
            learnt(memory, row)

        frozen = learnt(memory, np.full(3, 999.0))

        for card in range(3):
            first = values[~np.isnan(values[:, card]), card][:BASELINE_SPANS]
            assert frozen.mean[card] == pytest.approx(first.mean())
            assert frozen.sigma[card] == pytest.approx(first.std(ddof=1) / first.mean())

    def test_it_is_unknown_until_it_is_frozen(self) -> None:
        """One span more."""
        memory = np.zeros(1, FIELDS)
        known = [
            not np.isnan(learnt(memory, np.array([5.0])).mean[0]) for _ in range(BASELINE_SPANS + 1)
        ]

        assert known == [False] * BASELINE_SPANS + [True]


def miners(number: int, rate: Array | float | Work, **changed: Any) -> Frame:
    """Mining cards at a job."""
    work = rate if isinstance(rate, Work) else working(rate)
    shown: dict[str, Any] = {"work": work, **changed}
    return frame(number, story.MINERS, **shown)


LOCKED = at(SICK, 100.0 / 28, 100.0)


class TestUnlockLost:
    """Mining cards that start up locked."""

    def test_after_a_boot(self) -> None:
        """The patched boot program did not run."""
        score = last("unlock_lost", story.locked_again())

        assert score.level[SICK] == DEGRADED
        assert score.evidence["fall"][SICK] == pytest.approx(28)
        assert score.delivered is not None
        assert score.delivered[SICK] == pytest.approx(1 / 28)

    def test_after_a_new_driver(self) -> None:
        """The unlock is part of the one before."""
        frames = [
            miners(0, 100.0, facts={"driver": 1.0}),
            miners(1, 100.0, facts={"driver": 2.0}),
            miners(2, LOCKED, facts={"driver": 2.0}),
        ]

        assert levels("unlock_lost", frames) == [DEGRADED, OK]

    def test_without_a_start_it_is_another_fault(self) -> None:
        """A job that waits for its input."""
        assert levels("unlock_lost", [miners(0, 100.0), miners(1, LOCKED)]) == [OK, OK]

    @pytest.mark.parametrize("fall", [3.0, 100.0])
    def test_another_factor_is_another_fault(self, fall: float) -> None:
        """Half a rate is a slow card, a hundredth a job that stands."""
        rate = at(SICK, 100.0 / fall, 100.0)

        assert levels(
            "unlock_lost", [miners(0, 100.0), miners(1, 100.0, booted=True), miners(2, rate)]
        ) == [OK, OK]

    def test_a_clock_that_fell_is_another_fault(self) -> None:
        """The lock does not touch the clock."""
        frames = [
            miners(0, 100.0),
            miners(1, 100.0, booted=True),
            miners(2, LOCKED, core_clock_mhz=at(SICK, 300.0, 1700.0)),
        ]

        assert levels("unlock_lost", frames) == [OK, OK]

    def test_another_job_tells_nothing(self) -> None:
        """Its rate was never seen unlocked."""
        other = working(LOCKED, job=np.where(np.arange(16) == SICK, 2, 1))
        frames = [
            miners(0, 100.0),
            miners(1, 100.0, booted=True),
            frame(2, story.MINERS, work=other),
        ]

        assert levels("unlock_lost", frames)[0] <= OK

    def test_other_cards_have_no_lock(self) -> None:
        """A 3090 that falls so far is sick in another way."""
        frames = [
            frame(0, work=working(100.0)),
            frame(1, work=working(100.0), booted=True),
            frame(2, work=working(LOCKED)),
        ]

        assert levels("unlock_lost", frames) == [NOT_JUDGED, NOT_JUDGED]

    def test_the_catalogue_knows_locked_cards_by_more_than_their_name(self) -> None:
        """A CMP 100-210 says that it is a Tesla V100."""
        frames = [
            frame(0, work=working(100.0)),
            frame(1, work=working(100.0), booted=True),
            frame(2, work=working(LOCKED)),
        ]

        assert levels("unlock_lost", frames, expecting(locked=1.0)) == [DEGRADED, OK]

    def test_a_probe_tells_it_too(self) -> None:
        """And holds, for the next one may be weeks away."""
        fast, slow = 13.5e12, 0.43e12
        frames = [
            frame(0, story.MINERS, probe={"fp32_flops": fast}),
            frame(1, story.MINERS, booted=True),
            frame(2, story.MINERS, probe={"fp32_flops": at(SICK, slow, fast)}),
            frame(3, story.MINERS),
        ]

        assert levels("unlock_lost", frames)[0] == DEGRADED

    def test_unlocked_again_is_well(self) -> None:
        """The keeper ran the unlock."""
        frames = [*story.locked_again(), miners(3, LOCKED, booted=True), miners(4, 100.0)]

        assert levels("unlock_lost", frames) == [OK, OK]

    def test_a_gang_that_waits_for_a_locked_card_is_not_locked(self) -> None:
        """All its rates fall; the power of one does."""
        frames = [
            miners(0, working(100.0, gang=1)),
            miners(1, working(100.0, gang=1), booted=True),
            miners(2, working(4.0, gang=1), power_watts=at(SICK, 170.0, 220.0)),
        ]

        assert levels("unlock_lost", frames) == [DEGRADED, OK]

    def test_a_gang_of_which_all_are_locked_is(self) -> None:
        """The node's boot program did not run: none of them draws what it did."""
        frames = [
            miners(0, working(100.0, gang=1)),
            miners(1, working(100.0, gang=1), booted=True),
            miners(2, working(4.0, gang=1), power_watts=170.0),
        ]

        assert levels("unlock_lost", frames) == [DEGRADED, DEGRADED]

    def test_a_job_that_loads_after_a_start_is_no_lock(self) -> None:
        """Two minutes of a twentieth, then all of it."""
        short = 30 * SECOND

        def one(number: int, rate: float, **changed: Any) -> Frame:
            return miners(number, rate, length_ns=short, **changed)

        frames = [one(0, 100.0), one(1, 100.0, booted=True)]
        frames += [one(number, 5.0) for number in range(2, 6)]
        frames += [one(number, 100.0) for number in range(6, 10)]

        assert not any(found(verdicts) for _, verdicts in stepped(frames))


class TestLinkGeneration:
    """Speed of the PCIe link."""

    def test_a_drop_under_load(self) -> None:
        """A bad riser."""
        score = last("link_generation", story.slow_link())

        assert score.level[SICK] == DEGRADED
        assert score.delivered is not None
        assert score.delivered[SICK] == pytest.approx(2.0 / 8)

    def test_idle_is_never_judged(self) -> None:
        """Generation falls to save power."""
        assert levels("link_generation", [frame(0), frame(1, **IDLE)]) == [NOT_JUDGED, NOT_JUDGED]

    def test_lower_than_possible_from_the_first_day_on(self) -> None:
        """It may be the riser that the keeper chose."""
        facts = {"pcie_generation_max_card": 4.0, "pcie_generation_max_slot": 4.0}
        seen = frame(0, facts=facts, pcie_generation=at(SICK, 3.0, 4.0))

        assert levels("link_generation", [seen]) == [WATCH, OK]

    def test_a_slot_of_an_older_board_is_no_fault(self) -> None:
        """A card of generation 4 in a slot of generation 3."""
        facts = {"pcie_generation_max_card": 4.0, "pcie_generation_max_slot": 3.0}

        assert levels("link_generation", [frame(0, facts=facts)]) == [OK, OK]

    def test_a_card_made_for_the_first_generation_is_no_fault(self) -> None:
        """Mining cards are."""
        facts = {"pcie_generation_max_card": 1.0, "pcie_generation_max_slot": 4.0}
        seen = frame(0, story.MINERS, facts=facts, pcie_generation=1.0)

        assert levels("link_generation", [seen]) == [OK, OK]

    def test_a_generation_set_in_the_firmware_is_no_fault(self) -> None:
        """The keeper set the slots to 2, since the risers stand no more."""
        frames = [
            frame(0, facts={"pcie_generation_max": 3.0}),
            frame(1, facts={"pcie_generation_max": 2.0}, pcie_generation=2.0),
        ]

        assert levels("link_generation", frames) == [OK, OK]

    def test_a_link_that_steps_up_with_the_work_is_no_fault(self) -> None:
        """A tenth of the span was spent below."""
        frames = [frame(0), frame(1, pcie_generation=at(SICK, 2.8, 3.0))]

        assert levels("link_generation", frames) == [OK, OK]


def marked(number: int, roster: Roster = FARM, **changed: Any) -> Frame:
    """Cards with the marks of their boards, except for what is changed."""
    marks = {name: changed.pop(name, value) for name, value in story.MARKS.items()}
    return frame(number, roster, facts=marks, **changed)


class TestIdentity:
    """Boards that are not what they were."""

    @pytest.mark.parametrize("mark", ["device_id", "core_count", "memory_bus_bits", "name"])
    def test_a_mark_of_the_die(self, mark: str) -> None:
        """Somebody flashed another card's image, or swapped the die."""
        changed: dict[str, Any] = {mark: at(SICK, 99.0, story.MARKS[mark])}
        frames = [marked(0), marked(1, **changed)]

        assert levels("identity", frames) == [DEGRADED, OK]

    @pytest.mark.parametrize("mark", ["vbios", "subsystem_id"])
    def test_a_mark_of_the_board(self, mark: str) -> None:
        """Another VBIOS alone is worth a look."""
        changed: dict[str, Any] = {mark: at(SICK, 99.0, story.MARKS[mark])}
        frames = [marked(0), marked(1, **changed)]

        assert levels("identity", frames) == [WATCH, OK]

    def test_a_new_driver_is_no_fault(self) -> None:
        """Nor that it calls the card by a longer name."""
        frames = [marked(0), marked(1, driver=99.0, name=98.0)]

        assert levels("identity", frames) == [OK, OK]

    def test_a_mark_that_is_told_later_is_no_change(self) -> None:
        """The first readings come before what the card is."""
        assert levels("identity", [frame(0), marked(1)]) == [OK, OK]

    def test_it_is_told_for_a_day(self) -> None:
        """So that who comes in the morning sees it."""
        frames = [marked(0), marked(1, vbios=at(SICK, 99.0, 13.0))]
        changed = frames[-1].end_ns
        evening, next_day = (
            marked(0, vbios=at(SICK, 99.0, 13.0), start_ns=changed + after_ns)
            for after_ns in (HELD_NS // 2, HELD_NS)
        )

        assert levels("identity", [*frames, evening]) == [WATCH, OK]
        assert levels("identity", [*frames, evening, next_day]) == [OK, OK]

    def test_a_board_that_was_flashed_and_put_elsewhere(self) -> None:
        """It keeps its identity, so what is remembered of it comes along."""
        there = Roster([*FARM, FARM[SICK]._replace(host="bench", slot="9")])
        n = len(there)
        gone = np.full(n, READ_OK)
        gone[SICK] = NO_READING
        new = np.full(n, 12.0)
        new[-1] = 99.0

        level = last("identity", [marked(0), marked(1, there, read=gone, device_id=new)]).level

        assert level[-1] == DEGRADED
        assert np.delete(level, -1).max() == OK

    def test_a_board_that_was_moved_is_no_fault(self) -> None:
        """In one frame it may be heard in both places."""
        there = Roster([*FARM, FARM[SICK]._replace(host="bench", slot="9")])
        both, after = np.full(len(there), READ_OK), np.full(len(there), READ_OK)
        after[SICK] = READ_LOST
        frames = [marked(0), marked(1, there, read=both), marked(2, there, read=after)]

        scores = scored(DETECTORS["identity"], frames).scores

        assert max(int(score.level.max()) for score in scores) == OK

    def test_one_identity_alive_in_two_places(self) -> None:
        """Two boards were flashed with one image: both are told."""
        there = Roster([*FARM, FARM[SICK]._replace(host="bench", slot="9")])
        level = last("identity", [marked(number, there) for number in range(3)]).level

        assert np.flatnonzero(level == WATCH).tolist() == [SICK, len(there) - 1]

    def test_cards_without_identity_are_not_one(self) -> None:
        """Several may be unreadable at once."""
        there = Roster(key._replace(card="unidentified") for key in FARM)

        assert last("identity", [marked(n, there) for n in range(3)]).level.max() == OK


class TestLate:
    """Readings that come too late to be judged."""

    def test_its_node_is_told_by_all_its_cards(self) -> None:
        """The clock or the network is the node's."""
        node = range(4, 8)
        seen = frame(0, late=at(node, 10.0, 0.0))

        assert np.flatnonzero(last("late", [seen]).level == WATCH).tolist() == list(node)

    def test_it_becomes_one_finding_of_the_node(self) -> None:
        """Not four cards to pull."""
        frames = [frame(number, late=at(range(4, 8), 10.0, 0.0)) for number in range(3)]

        verdicts = judged(frames)

        assert found(verdicts) == {}
        assert [(wide.scope, wide.name) for wide in verdicts.wide] == [("node", "node-1")]

    def test_a_node_of_which_nothing_comes_in_time_is_told_too(self) -> None:
        """Its cards are unknown; that their readings are late is known."""
        node = range(4, 8)
        silent = [
            frame(n, read=at(node, NO_READING, READ_OK), late=at(node, 30.0, 0.0))
            for n in range(1, 5)
        ]

        verdicts = judged([frame(0), *silent])

        assert [(wide.scope, wide.name) for wide in verdicts.wide] == [("node", "node-1")]
        assert {int(state) for state in verdicts.state[list(node)]} == {UNKNOWN}

    def test_a_few_late_readings_are_no_fault(self) -> None:
        """A twentieth of a span."""
        assert levels("late", [frame(0, late=at(range(4, 8), 1.5, 0.0))]) == [OK, OK]

    def test_some_in_three_frames_are(self) -> None:
        """However few each time."""
        short = 30 * SECOND
        shown = [frame(n, length_ns=short, late=at(SICK, 1.0, 0.0)) for n in range(3)]
        shown += [frame(n, length_ns=short) for n in range(3, 10)]

        assert levels("late", shown)[0] == WATCH
        assert levels("late", [*shown[:2], *shown[3:], frame(10, length_ns=short)])[0] <= OK

    def test_the_backlog_of_an_outage_is_no_fault(self) -> None:
        """It comes within minutes and once."""
        backlog = frame(2, late=at(range(4, 8), 360.0, 0.0))
        frames = [frame(0), frame(1), backlog, *(frame(number) for number in range(3, 8))]

        assert not any(found(verdicts) or verdicts.wide for _, verdicts in stepped(frames))

    def test_a_node_of_which_all_is_late(self) -> None:
        """Nothing of it is judged, and that is what is told."""
        seen = frame(0, read=at(range(4, 8), NO_READING, READ_OK), late=at(range(4, 8), 30.0, 0.0))

        assert levels("late", [seen]) == [WATCH, WATCH]


class TestClockRated:
    """NPUs below their rated clock."""

    def test_a_low_clock_without_heat(self) -> None:
        """A fault of supply or chip."""
        score = last("clock_rated", story.below_rated())

        assert score.level[SICK] == DEGRADED
        assert score.cause is not None
        assert score.cause[SICK] == -1

    @pytest.mark.parametrize("celsius", [107.0, 80.0])
    def test_heat_is_the_cause_where_there_is_some(self, celsius: float) -> None:
        """Hot, or much hotter than the others; once hot, the heat explains what follows."""
        slow = at(SICK, 800.0, 1000.0)
        frames = [
            story.npus(0, core_clock_mhz=slow, core_temperature_celsius=at(SICK, celsius, 50.0)),
            story.npus(1, core_clock_mhz=slow, core_temperature_celsius=55.0),
        ]

        score = last("clock_rated", frames)

        assert score.cause is not None
        assert CAUSES[score.cause[SICK]] == "thermal"

    def test_a_heat_that_is_over_explains_nothing(self) -> None:
        """The clock was back in between."""
        slow = at(SICK, 800.0, 1000.0)
        frames = [
            story.npus(0, core_clock_mhz=slow, core_temperature_celsius=at(SICK, 107.0, 50.0)),
            story.npus(1),
            story.npus(2, core_clock_mhz=slow),
        ]

        score = last("clock_rated", frames)

        assert score.cause is not None
        assert score.cause[SICK] == -1

    def test_an_idle_chip_is_not_judged(self) -> None:
        """910B chips rest at 800 of 1800 MHz."""
        seen = story.npus(0, core_clock_mhz=at(SICK, 400.0, 1000.0), utilization_ratio=0.0)

        assert levels("clock_rated", [seen]) == [NOT_JUDGED, NOT_JUDGED]

    def test_other_vendors_hold_no_rated_clock(self) -> None:
        """What NVIDIA calls the highest clock is reached by no card under load."""
        seen = frame(0, facts=story.RATED, core_clock_mhz=at(SICK, 500.0, 1000.0))

        assert levels("clock_rated", [seen]) == [NOT_JUDGED, NOT_JUDGED]

    def test_the_catalogue_knows_the_rated_clock(self) -> None:
        """The driver does not tell it."""
        seen = frame(0, story.NPUS, core_clock_mhz=at(SICK, 800.0, 1000.0))

        assert levels("clock_rated", [seen], expecting(core_clock_mhz=1000.0)) == [DEGRADED, OK]

    def test_work_is_known_by_power_where_the_clock_holds_at_rest(self) -> None:
        """First-generation chips hold it, and their recordings tell no use."""
        rest = story.npus(0, utilization_ratio=np.nan, power_watts=68.0)
        work = story.npus(
            1,
            utilization_ratio=np.nan,
            power_watts=at(range(8), 110.0, 69.0),
            core_clock_mhz=at(SICK, 800.0, 1000.0),
        )

        level = last("clock_rated", [rest, work]).level

        assert level[SICK] == DEGRADED
        assert set(level[8:].tolist()) == {NOT_JUDGED}

    def test_a_pause_is_no_low_clock(self) -> None:
        """A chip that clocks down at rest and does not tell its use may just have paused."""
        rest = story.npus(0, utilization_ratio=np.nan, power_watts=90.0, core_clock_mhz=800.0)
        mixed = story.npus(1, utilization_ratio=np.nan, power_watts=160.0, core_clock_mhz=880.0)

        assert levels("clock_rated", [rest, mixed]) == [NOT_JUDGED, NOT_JUDGED]


class TestBoards:
    """What a roster says of its boards."""

    @pytest.mark.parametrize(
        ("model", "is_mining"),
        [
            ("CMP 50HX", True),
            ("CMP 170HX", True),
            ("P104-100", True),
            ("P102-100", True),
            ("P106-090", True),
            ("RTX 3090", False),
            ("Tesla P100-PCIE-16GB", False),
        ],
    )
    def test_mining_cards_are_known_by_name(self, model: str, is_mining: bool) -> None:
        """P100 is none of them."""
        assert mining_cards(cards(2, model=model)).tolist() == [is_mining] * 2

    def test_npus_are_known_by_vendor(self) -> None:
        """Whatever their name."""
        assert npus(story.NPUS).all()
        assert not npus(FARM).any()

    def test_doubles_are_rows_of_one_card(self) -> None:
        """Rows without an identity are nobody's."""
        there = Roster([*FARM, FARM[2]._replace(slot="9"), FARM[0]._replace(card="", slot="8")])

        assert doubles(there).rows.tolist() == [2, 16]

    def test_each_roster_has_its_own_answer(self) -> None:
        """One was asked before the other."""
        assert len(npus(FARM)) == 16
        assert len(npus(cards(3))) == 3
