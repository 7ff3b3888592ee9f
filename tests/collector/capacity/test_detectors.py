"""The checks that hold for every detector, then what each one is there to tell."""

from typing import Any

import numpy as np
import pytest

from farmhand_collector.capacity.detector import (
    DEGRADED,
    FAILING,
    LOST,
    NOT_JUDGED,
    OK,
    SPAN_NS,
    WATCH,
    Detector,
)
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.capacity.frame import (
    NO_READING,
    READ_LOST,
    READ_OK,
    Event,
    Frame,
)
from farmhand_collector.capacity.roster import Roster
from farmhand_collector.catalogue.cards import memory_bytes_by_model
from tests.collector.capacity.checks import ALL_CHECKS, Check
from tests.collector.capacity.farm import (
    FAULTS,
    GIB,
    IDLE,
    SICK,
    START_NS,
    at,
    cards,
    faulty,
    found,
    frame,
    judged,
    scored,
    stepped,
)

SECOND = 10**9
DETECTORS = {detector.name: detector for detector in all_detectors()}


def check_name(check: Check) -> str:
    """The name under which a check is reported."""
    return getattr(check, "__name__", "").removeprefix("check_")


@pytest.mark.parametrize("detector", all_detectors(), ids=lambda detector: detector.name)
@pytest.mark.parametrize("check", ALL_CHECKS, ids=check_name)
def test_every_detector(check: Check, detector: Detector) -> None:
    """Each check, see there, holds for each detector."""
    check(detector)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_raised_after_its_windows(name: str) -> None:
    """Not before; then by its own detector, and no healthy card with it."""
    patience = DETECTORS[name].raise_after
    frames = [frame(0), *(faulty(name, number) for number in range(1, 1 + patience))]

    *_, before, after = (found(verdicts) for _, verdicts in stepped(frames))

    assert name not in before.get(SICK, [])
    assert after.keys() == {SICK}
    assert name in after[SICK]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_cleared_after_its_good_windows(name: str) -> None:
    """One good window fewer and it stays."""
    detector = DETECTORS[name]
    bad = detector.raise_after
    frames = [frame(0), *(faulty(name, number) for number in range(1, 1 + bad))]
    # A fall that was told by an event ends with the first good window after it.
    frames += [frame(number) for number in range(1 + bad, 1 + bad + detector.clear_after)]

    *_, before, after = (found(verdicts) for _, verdicts in stepped(frames))

    assert name in before[SICK]
    assert after == {}


@pytest.mark.parametrize("name", FAULTS)
def test_a_single_bad_window_is_no_fault(name: str) -> None:
    """A blip raises nothing, except where the card itself says that it is gone."""
    frames = [frame(0), faulty(name, 1), *(frame(number) for number in range(2, 8))]

    raised = any(found(verdicts) for _, verdicts in stepped(frames))

    assert raised == (name == "lost")


def levels(name: str, *frames: Frame) -> list[int]:
    """Level that a detector gives the sick card in the last frame, and the worst of the others."""
    level = scored(DETECTORS[name], frames).scores[-1].level
    return [int(level[SICK]), int(np.delete(level, SICK).max())]


class TestLost:
    """The card is gone."""

    def test_a_reading_says_lost(self) -> None:
        """The agent no longer finds the card at its place."""
        assert levels("lost", faulty("lost")) == [LOST, OK]

    @pytest.mark.parametrize("code", ["79", "167"])
    def test_an_xid_says_that_it_fell_off_the_bus(self, code: str) -> None:
        """The window may still be told as good: it was sampled before the fall."""
        fall = Event(SICK, START_NS + SECOND, "xid", code, "")

        assert levels("lost", frame(events=[fall])) == [LOST, OK]

    def test_other_xids_take_no_card_away(self) -> None:
        """XID 13 is the application's."""
        assert levels("lost", frame(events=[Event(SICK, START_NS + 1, "xid", "13", "")])) == [
            OK,
            OK,
        ]

    def test_it_stays_lost_while_nothing_is_heard(self) -> None:
        """The whole node may be silent after its card fell."""
        fall = Event(SICK, START_NS + SECOND, "xid", "79", "")
        silent = frame(1, read=at(SICK, NO_READING, READ_OK))

        assert levels("lost", frame(events=[fall]), silent) == [LOST, OK]

    def test_a_good_window_after_the_fall_brings_it_back(self) -> None:
        """The node was switched off and on."""
        fall = Event(SICK, START_NS + SECOND, "xid", "79", "")

        assert levels("lost", frame(events=[fall]), frame(1)) == [OK, OK]

    def test_an_event_of_before_a_good_window_is_no_news(self) -> None:
        """A backlog tells of a fall of yesterday, or a restart tells of one twice."""
        fall = Event(SICK, START_NS + SECOND, "xid", "79", "")
        silent = frame(2, read=at(SICK, NO_READING, READ_OK), events=[fall])

        assert levels("lost", frame(0), frame(1), silent) == [NOT_JUDGED, OK]

    def test_an_older_event_does_not_hide_a_newer_one(self) -> None:
        """Events may come out of order."""
        events = [Event(SICK, START_NS + at_ns, "xid", "79", "") for at_ns in (9 * SECOND, -SECOND)]

        assert levels("lost", frame(events=events[:1]), frame(0, events=events[1:])) == [LOST, OK]


class TestUnreadable:
    """The card is there and does not answer."""

    def test_it_is_failing(self) -> None:
        """A blocked driver blocks its neighbours too."""
        assert levels("unreadable", faulty("unreadable")) == [FAILING, OK]

    def test_a_lost_card_is_not_unreadable(self) -> None:
        """What is gone cannot answer."""
        assert levels("unreadable", faulty("lost")) == [OK, OK]


class TestMemorySize:
    """Memory that is missing."""

    def test_a_card_that_shows_less_than_before(self) -> None:
        """A strap, a VBIOS or a chip was lost."""
        assert levels("memory_size", frame(0), faulty("memory_size", 1)) == [DEGRADED, OK]

    def test_a_card_that_shows_less_than_its_name_from_the_first_day(self) -> None:
        """A 3090 of 12 GiB was sold with a dead half."""
        assert levels("memory_size", faulty("memory_size")) == [DEGRADED, OK]

    @pytest.mark.parametrize("gib", [24 * 0.98, 24 * 0.94, 24 * 1.01])
    def test_drivers_report_one_size_differently(self, gib: float) -> None:
        """Reserved memory, and ECC that takes a sixteenth, are no loss."""
        shown = frame(0, memory_total_bytes=at(SICK, gib * GIB, 24 * GIB))

        assert levels("memory_size", shown) == [OK, OK]

    def test_either_size_of_a_shared_name_is_right(self) -> None:
        """A 3080 has 10 or 12 GiB."""
        farm = cards(16, model="RTX 3080")
        shown = frame(0, farm, memory_total_bytes=at(SICK, 12 * GIB, 10 * GIB))

        assert levels("memory_size", shown) == [OK, OK]

    def test_a_size_between_two_made_ones_lacks_the_larger(self) -> None:
        """A 3080 of 11 GiB is one of 12 with a chip missing."""
        farm = cards(16, model="RTX 3080")
        shown = frame(0, farm, memory_total_bytes=at(SICK, 10.9 * GIB, 10 * GIB))

        score = scored(DETECTORS["memory_size"], [shown]).scores[0]

        assert score.evidence["expected_bytes"][SICK] == 12 * GIB

    def test_more_memory_than_was_ever_made_is_no_fault(self) -> None:
        """Reworked boards carry twice the chips."""
        shown = frame(0, memory_total_bytes=at(SICK, 48 * GIB, 24 * GIB))

        assert levels("memory_size", shown) == [OK, OK]

    def test_every_model_of_the_catalogue_fits_its_own_sizes(self) -> None:
        """No card as it was made is told to lack memory."""
        for model, sizes in memory_bytes_by_model().items():
            assert list(sizes) == sorted(sizes)
            for size in sizes:
                shown = [frame(0, cards(1, model=model), memory_total_bytes=size)]
                assert scored(DETECTORS["memory_size"], shown).scores[0].level[0] == OK


class TestLinkWidth:
    """The PCIe link."""

    def test_a_link_that_became_narrower(self) -> None:
        """Width does not fall to save power, so it is a contact."""
        assert levels("link_width", frame(0), faulty("link_width", 1)) == [DEGRADED, OK]

    def test_a_link_that_was_always_narrow_is_worth_a_look(self) -> None:
        """It may be the riser that the keeper chose."""
        assert levels("link_width", faulty("link_width")) == [WATCH, OK]

    def test_an_idle_link_of_generation_one_is_no_fault(self) -> None:
        """Generation falls at idle to save power."""
        assert levels("link_width", frame(0), frame(1, **IDLE)) == [OK, OK]

    def test_a_width_is_not_missed_by_a_rounding(self) -> None:
        """Means of 12 lanes may differ in the last bit."""
        first = frame(0, pcie_width=12.0 * (1 + 1e-15), width_max=12.0)

        assert levels("link_width", first, frame(1, pcie_width=12.0, width_max=12.0)) == [OK, OK]


class TestThrottleHardware:
    """The board slows itself down."""

    @pytest.mark.parametrize(("duty", "level"), [(0.01, OK), (0.05, WATCH), (0.2, DEGRADED)])
    def test_duty_decides(self, duty: float, level: int) -> None:
        """One sample at a change of state is none, a tenth of the time costs."""
        shown = frame(0, throttle_hardware_ratio=at(SICK, duty, 0.0))

        assert levels("throttle_hardware", shown) == [level, OK]

    def test_a_slowdown_from_heat_is_not_told_twice(self) -> None:
        """NVML sets both bits when it is hot."""
        hot = at(SICK, 0.4, 0.0)
        shown = frame(0, throttle_hardware_ratio=hot, throttle_thermal_ratio=hot)

        assert levels("throttle_hardware", shown) == [OK, OK]

    def test_a_slowdown_from_the_power_brake_is_not_told_twice(self) -> None:
        """It has a finding of its own, which speaks of the supply."""
        braked = at(SICK, 0.4, 0.0)
        shown = frame(0, throttle_brake_ratio=braked, throttle_hardware_ratio=braked)

        assert levels("throttle_hardware", shown) == [OK, OK]
        assert levels("power_brake", shown) == [DEGRADED, OK]

    @pytest.mark.parametrize("missing", [{"throttle_hardware_ratio": np.nan}, IDLE])
    def test_a_card_without_load_or_without_the_value_is_not_judged(
        self, missing: dict[str, Any]
    ) -> None:
        """What is not given is not nought."""
        shown = frame(0, **{"throttle_brake_ratio": np.nan, **missing})

        assert levels("throttle_hardware", shown) == [NOT_JUDGED, NOT_JUDGED]


class TestThrottleThermal:
    """Heat holds the card back."""

    @pytest.mark.parametrize(("duty", "level"), [(0.03, OK), (0.1, WATCH), (0.3, DEGRADED)])
    def test_duty_decides(self, duty: float, level: int) -> None:
        """A short touch of the limit is no fault."""
        shown = frame(0, throttle_thermal_ratio=at(SICK, duty, 0.0))

        assert levels("throttle_thermal", shown) == [level, OK]

    def test_one_short_blip_is_no_fault(self) -> None:
        """A door stood open for half a minute, in one frame of ten, and once more an hour later."""
        shown = [frame(number, length_ns=30 * SECOND) for number in range(140)]
        for number in (13, 133):
            shown[number] = frame(
                number, length_ns=30 * SECOND, throttle_thermal_ratio=at(SICK, 1.0, 0.0)
            )

        assert not any(found(verdicts) for _, verdicts in stepped(shown))


class TestPeerMemoryClock:
    """Memory in a lower state."""

    def test_far_below_the_others(self) -> None:
        """Half the rate is half the bandwidth."""
        assert levels("peer_memory_clock", faulty("peer_memory_clock")) == [DEGRADED, OK]

    def test_p2_is_no_fault(self) -> None:
        """GeForce cards compute some percent below the clock that their driver names."""
        shown = frame(0, memory_clock_mhz=at(SICK, 9251.0, 9501.0))

        assert levels("peer_memory_clock", shown) == [OK, OK]

    def test_another_model_has_its_own_clock(self) -> None:
        """A 3080 is no slow 3090."""
        mixed = [*cards(8), *cards(16, model="RTX 3080")[8:]]
        shown = frame(0, Roster(mixed), memory_clock_mhz=at(range(8, 16), 5001.0, 9501.0))

        assert levels("peer_memory_clock", shown) == [OK, OK]


class TestPeerPower:
    """Power that is missing."""

    @pytest.mark.parametrize(("watts", "level"), [(260.0, OK), (210.0, WATCH), (120.0, DEGRADED)])
    def test_shortfall_decides(self, watts: float, level: int) -> None:
        """Boards differ by a tenth and more."""
        shown = frame(0, power_watts=at(SICK, watts, 300.0))

        assert levels("peer_power", shown) == [level, OK]

    def test_a_low_clock_explains_low_power(self) -> None:
        """That is the core clock's finding."""
        shown = frame(
            0,
            power_watts=at(SICK, 100.0, 300.0),
            core_clock_mhz=at(SICK, 1700 * (100 / 300) ** 0.5, 1700.0),
        )

        assert levels("peer_power", shown) == [OK, OK]

    def test_a_limit_lowered_on_purpose_is_no_missing_power(self) -> None:
        """The keeper halves one card's limit."""
        shown = frame(
            0, power_watts=at(SICK, 150.0, 300.0), power_limit_watts=at(SICK, 150.0, 350.0)
        )

        assert levels("peer_power", shown)[0] <= OK

    def test_nodes_of_one_name_at_two_sites_are_two_nodes(self) -> None:
        """Only a node's own cards are known to do the same work."""
        here, there = cards(4), [key._replace(site="cellar") for key in cards(4)]
        watts = np.array([300.0, 300.0, 300.0, 300.0, 100.0, 100.0, 100.0, 100.0])

        score = scored(
            DETECTORS["peer_power"], [frame(0, Roster([*here, *there]), power_watts=watts)]
        )

        assert score.scores[0].level.max() == OK


@pytest.mark.parametrize(("low_mhz", "cause"), [(8000.0, "thermal"), (7000.0, "memory")])
def test_memory_that_is_slowed_now_and_then_is_hot(low_mhz: float, cause: str) -> None:
    """Few cards tell how hot their memory is; a lower state is the same in all readings."""
    frames = [
        frame(
            number,
            length_ns=SPAN_NS // 10,
            memory_clock_mhz=at(SICK, low_mhz if number % 3 else 7000.0, 9501.0),
        )
        for number in range(50)
    ]

    raised = judged(frames).findings[SICK]

    assert [one.cause for one in raised if one.detector.name == "peer_memory_clock"] == [cause]


class TestPeerCoreClock:
    """The core clock."""

    def test_far_below_the_others(self) -> None:
        """A clock cap that an earlier owner left."""
        assert levels("peer_core_clock", faulty("peer_core_clock")) == [DEGRADED, OK]

    def test_slow_silicon_is_no_fault(self) -> None:
        """Cards of one model spread by some percent."""
        shown = frame(0, core_clock_mhz=at(SICK, 1700 * 0.95, 1700.0))

        assert levels("peer_core_clock", shown) == [OK, OK]

    def test_a_node_whose_limit_was_lowered_is_compared_with_itself(self) -> None:
        """Less power by choice is less clock by choice."""
        node = range(4, 8)
        shown = frame(
            0,
            core_clock_mhz=at(node, 1300.0, 1700.0),
            power_watts=at(node, 200.0, 345.0),
            power_limit_watts=at(node, 200.0, 350.0),
            throttle_power_ratio=0.9,
        )

        assert levels("peer_core_clock", shown) == [OK, OK]

    def test_a_card_at_its_power_limit_is_compared_with_others_at_theirs(self) -> None:
        """Light work lets the others run faster; that is no fault of the heavily loaded."""
        heavy = range(4, 8)
        shown = frame(
            0,
            core_clock_mhz=at(heavy, 1450.0, 1900.0),
            power_watts=at(heavy, 350.0, 200.0),
            throttle_power_ratio=at(heavy, 0.95, 0.0),
        )

        assert levels("peer_core_clock", shown) == [OK, OK]

    def test_a_card_that_power_does_not_hold_back_has_no_excuse(self) -> None:
        """It is slow beside cards that are at their limit."""
        shown = frame(
            0,
            core_clock_mhz=at(SICK, 1200.0, 1700.0),
            power_watts=at(SICK, 180.0, 350.0),
            throttle_power_ratio=at(SICK, 0.0, 0.95),
        )

        assert levels("peer_core_clock", shown) == [DEGRADED, OK]

    @pytest.mark.parametrize(("step_mhz", "cause"), [(15.0, "power"), (0.0, "compute")])
    def test_whether_the_clock_moves_tells_power_from_a_stuck_clock(
        self, step_mhz: float, cause: str
    ) -> None:
        """Too little power is regulated all the time; a fixed clock is the same in all readings."""
        frames = [
            frame(
                number,
                length_ns=SPAN_NS // 10,
                core_clock_mhz=at(SICK, 1200.0 + step_mhz * (number % 2), 1700.0),
                power_watts=at(SICK, 180.0, 300.0),
            )
            for number in range(50)
        ]

        raised = judged(frames).findings[SICK]

        assert [one.cause for one in raised if one.detector.name == "peer_core_clock"] == [cause]

    def test_partner_boards_with_a_little_more_limit_are_equals(self) -> None:
        """Three percent of limit is one of clock."""
        shown = frame(
            0,
            core_clock_mhz=at(SICK, 1720.0, 1700.0),
            power_watts=at(SICK, 360.0, 350.0),
            power_limit_watts=at(SICK, 360.0, 350.0),
            throttle_power_ratio=0.95,
        )

        assert levels("peer_core_clock", shown) == [OK, OK]


def test_what_explains_comes_first() -> None:
    """A hot card is slow because it is hot: heat is the cause, the clock is evidence."""
    hot = {**FAULTS["peer_core_clock"], **FAULTS["throttle_thermal"]}

    verdicts = judged([frame(number, **hot) for number in range(4)])

    assert found(verdicts)[SICK] == ["throttle_thermal", "peer_core_clock"]


def test_lost_explains_everything() -> None:
    """Precedence begins with the card that is gone."""
    assert all_detectors()[0].name == "lost"


def test_a_lost_card_of_another_frame_length_is_told_at_once() -> None:
    """Live frames are shorter than a span."""
    short = [frame(number, length_ns=30 * SECOND) for number in range(2)]
    gone = frame(2, length_ns=30 * SECOND, read=at(SICK, READ_LOST, READ_OK))

    assert found(judged([*short, gone])) == {SICK: ["lost"]}
