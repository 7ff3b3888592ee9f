"""What each thermal detector is there to tell, and what it must not take for a fault."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farmhand_collector.capacity.detector import (
    ACTIONS,
    CAUSES,
    DEGRADED,
    NOT_JUDGED,
    OK,
    WATCH,
    Facts,
    Score,
)
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.capacity.frame import NO_READING, READ_OK, Frame
from farmhand_collector.capacity.places import (
    beyond_equals,
    has_any,
    others_least,
    shared_median,
)
from farmhand_collector.capacity.roster import Roster
from farmhand_collector.capacity.state import State
from farmhand_collector.capacity.statistics import LEAST_PEERS
from farmhand_collector.capacity.step import step
from farmhand_collector.catalogue.findings import meanings
from tests.collector.capacity.farm import (
    FARM,
    IDLE,
    SICK,
    Array,
    at,
    cards,
    found,
    frame,
    judged,
    scored,
    stepped,
)
from tests.collector.capacity.stories_thermal import (
    COMMISSIONED,
    HOTSPOT,
    MEMORY,
    REST,
    STORIES,
    commissioned,
    resting,
)

DETECTORS = {detector.name: detector for detector in all_detectors()}
N = len(FARM)
NODE = range(4, 8)
"""The cards of the sick card's node."""


def last(name: str, frames: Sequence[Frame]) -> Score:
    """What a detector says of the last frame."""
    return scored(DETECTORS[name], frames).scores[-1]


def levels(name: str, *frames: Frame) -> list[int]:
    """Level that a detector gives the sick card in the last frame, and the worst of the others."""
    level = last(name, frames).level
    return [int(level[SICK]), int(np.delete(level, SICK).max(initial=NOT_JUDGED))]


def action_of(score: Score, name: str, card: int = SICK) -> str:
    """What a score says that hands do about a card."""
    if score.action is None or score.action[card] < 0:
        return DETECTORS[name].action
    return ACTIONS[int(score.action[card])]


@pytest.mark.parametrize("name", STORIES)
def test_a_fault_is_raised_after_its_windows_and_cleared_after_good_ones(name: str) -> None:
    """Not before; by its own detector; and no other card is named."""
    detector = DETECTORS[name]
    *before, bad = STORIES[name]()
    start = len(before)
    last_bad = start + detector.raise_after
    frames = [*before, *(_again(bad, number) for number in range(start, last_bad))]
    good = range(last_bad, last_bad + detector.clear_after)
    frames += [_again(before[0], number) for number in good]

    raised = [found(verdicts) for _, verdicts in stepped(frames)]

    named = [name in cards.get(SICK, []) for cards in raised]
    first = named.index(True)
    assert first + 1 - start == detector.raise_after
    assert all(named[first:-1])
    assert not named[-1]
    assert {card for cards in raised for card in cards} == {SICK}


def _again(seen: Frame, number: int) -> Frame:
    """A frame at another time."""
    moved = frame(number, seen.roster)
    return replace(seen, start_ns=moved.start_ns, end_ns=moved.end_ns)


@pytest.mark.parametrize("name", STORIES)
def test_every_language_tells_the_finding_from_its_evidence(name: str) -> None:
    """No place of a sentence is left, and there are steps for the hands."""
    score = last(name, STORIES[name]())
    values = {key: float(column[SICK]) for key, column in score.evidence.items()}

    for language in ("en", "zh", "ko"):
        meaning = meanings(language)[name]
        assert meaning.sentence(values) == meaning.text.format_map(values)
        assert meaning.steps


class TestCooling:
    """Thermal resistance."""

    @pytest.mark.parametrize(
        ("celsius", "level"), [(76.0, OK), (79.0, WATCH), (84.0, DEGRADED), (60.0, OK)]
    )
    def test_a_rise_over_its_own_baseline(self, celsius: float, level: int) -> None:
        """A quarter more than the first hour's 38 °C above the air is a sign, two fifths cost."""
        hot = frame(COMMISSIONED, core_temperature_celsius=at(SICK, celsius, 68.0))

        assert levels("cooling", *commissioned(), hot) == [level, OK]

    def test_a_rise_that_reaches_throttling_is_degraded(self) -> None:
        """From there on it costs."""
        hot = frame(
            COMMISSIONED,
            core_temperature_celsius=at(SICK, 79.0, 68.0),
            throttle_thermal_ratio=at(SICK, 0.2, 0.0),
        )

        assert levels("cooling", *commissioned(), hot) == [DEGRADED, OK]

    def test_the_baseline_does_not_slide(self) -> None:
        """Half a degree an hour shows in the end, however slowly it came."""
        frames = commissioned()
        for hour in range(24):
            celsius = at(SICK, 68.0 + hour / 2, 68.0)
            frames.append(frame(COMMISSIONED + hour, core_temperature_celsius=celsius))

        assert levels("cooling", *frames) == [WATCH, OK]

    @pytest.mark.parametrize("kelvin", [8.0, 12.0, -12.0])
    def test_a_hot_week_is_no_fault(self, kelvin: float) -> None:
        """All cards of the site rise together, and no sensor tells the air."""
        hot = frame(COMMISSIONED, core_temperature_celsius=68.0 + kelvin)

        assert levels("cooling", *commissioned(), hot) == [OK, OK]

    def test_a_fan_that_absorbs_warm_air_hides_it_from_no_card(self) -> None:
        """Those that have speed left stay cool in a hot week; those without rise together."""
        spent = np.arange(N) % 3 == 0
        fans = np.where(spent, 1.0, 0.6)
        warm = np.where(spent, 80.0, 68.0)
        frames = [frame(number, fan_ratio=fans) for number in range(COMMISSIONED)]

        hot = frame(COMMISSIONED, fan_ratio=fans, core_temperature_celsius=warm)

        assert last("cooling", [*frames, hot]).level.tolist() == [OK] * N

    def test_others_that_work_more_make_no_card_worse(self) -> None:
        """Their resistance fell: more power at one temperature. This one's did not rise."""
        steps = [(285.0, 325.0), (270.0, 350.0)]
        frames = [
            frame(
                COMMISSIONED + later,
                power_watts=at(SICK, *watts),
                core_temperature_celsius=at_sick(69.0),
            )
            for later, watts in enumerate(steps)
        ]

        assert levels("cooling", *commissioned(), *frames)[0] <= OK

    def test_a_hot_week_hides_no_dust(self) -> None:
        """What is left of the rise is the card's."""
        hot = frame(COMMISSIONED, core_temperature_celsius=at(SICK, 90.0, 78.0))

        assert levels("cooling", *commissioned(), hot) == [WATCH, OK]

    def test_a_card_that_joins_in_winter_is_no_fault_in_summer(self) -> None:
        """Its baseline is taken in the air that the others tell of."""
        few = cards(12)
        frames = [frame(number, few) for number in range(COMMISSIONED)]
        numbers = range(COMMISSIONED, 2 * COMMISSIONED)
        frames += [frame(number, core_temperature_celsius=58.0) for number in numbers]
        frames.append(frame(2 * COMMISSIONED, core_temperature_celsius=68.0))

        assert last("cooling", frames).level.tolist() == [OK] * N

    @pytest.mark.parametrize("inlet", [30.0, 22.0])
    def test_a_farm_of_one_card_is_judged_where_the_inlet_is_measured(self, inlet: float) -> None:
        """Warm air explains warm cards; without warm air the card has no excuse."""
        alone = cards(1)
        frames = [
            frame(number, alone, host={"inlet_temperature_celsius": 22.0})
            for number in range(COMMISSIONED)
        ]
        hot = frame(
            COMMISSIONED,
            alone,
            host={"inlet_temperature_celsius": inlet},
            core_temperature_celsius=80.0,
        )

        expected = OK if inlet > 22.0 else WATCH
        assert last("cooling", [*frames, hot]).level.tolist() == [expected]

    def test_a_farm_of_one_card_without_inlet_is_not_judged(self) -> None:
        """A hot week and dust look the same."""
        alone = cards(1)
        frames = [frame(number, alone) for number in range(COMMISSIONED)]
        hot = frame(COMMISSIONED, alone, core_temperature_celsius=84.0)

        assert last("cooling", [*frames, hot]).level.tolist() == [NOT_JUDGED]

    def test_a_sensor_that_comes_later_begins_its_own_baseline(self) -> None:
        """Until then the air is assumed as before, and nothing is flagged."""
        told = {"inlet_temperature_celsius": 15.0}
        frames = commissioned()
        frames += [frame(COMMISSIONED + later, host=told) for later in range(COMMISSIONED)]
        hot = frame(2 * COMMISSIONED, host=told, core_temperature_celsius=at(SICK, 84.0, 68.0))

        assert last("cooling", frames).level.tolist() == [OK] * N
        assert levels("cooling", *frames, hot) == [WATCH, OK]

    def test_cards_of_one_node_rise_together(self) -> None:
        """A blocked chassis: each shows it, the step makes one finding of it."""
        hot = [
            frame(COMMISSIONED + later, core_temperature_celsius=at(NODE, 79.0, 68.0))
            for later in range(8)
        ]

        verdicts = judged([*commissioned(), *hot])

        assert found(verdicts) == {}
        assert [(wide.scope, wide.cards) for wide in verdicts.wide] == [("node", tuple(NODE))]

    def test_a_warmer_node_does_not_make_its_worst_card_a_fault(self) -> None:
        """What all its cards have risen by is taken off."""
        column = at(NODE, 74.0, 68.0)
        column[SICK] = 78.0
        hot = frame(COMMISSIONED, core_temperature_celsius=column)

        assert levels("cooling", *commissioned(), hot) == [OK, OK]

    def test_two_cards_of_a_node_that_rise_together_point_to_the_node(self) -> None:
        """Too few for a finding about the node, enough not to blame the paste."""
        farm = cards(16, per_node=2)
        frames = [frame(number, farm) for number in range(COMMISSIONED)]
        both = at([4, 5], 79.0, 68.0)

        score = last("cooling", [*frames, frame(COMMISSIONED, farm, core_temperature_celsius=both)])

        assert np.flatnonzero(score.level > OK).tolist() == [4, 5]
        assert {action_of(score, "cooling", card) for card in (4, 5)} == {"look-at-node"}

    @pytest.mark.parametrize(
        ("fan", "action"), [(0.7, "repaste"), (1.0, "clean-fan"), (np.nan, "repaste")]
    )
    def test_the_fan_decides_what_hands_do(self, fan: float, action: str) -> None:
        """A fan that copes leaves the paste; one at full speed is clogged."""
        hot = frame(
            COMMISSIONED,
            core_temperature_celsius=at(SICK, 84.0, 68.0),
            fan_ratio=at(SICK, fan, 0.6),
        )

        assert action_of(last("cooling", [*commissioned(), hot]), "cooling") == action

    def test_a_slower_fan_explains_a_rise_over_the_own_past(self) -> None:
        """Winter air lets the fan slow down, the core stays where the driver wants it."""
        alone = cards(1)
        frames = [
            frame(number, alone, host={"inlet_temperature_celsius": 28.0})
            for number in range(COMMISSIONED)
        ]
        host = {"inlet_temperature_celsius": 12.0}
        cold = [frame(COMMISSIONED, alone, host=host, fan_ratio=fan) for fan in (0.35, 0.6)]

        assert last("cooling", [*frames, cold[0]]).level.tolist() == [NOT_JUDGED]
        assert last("cooling", [*frames, cold[1]]).level.tolist() == [DEGRADED]

    def test_less_power_with_a_fan_that_follows_is_no_rise(self) -> None:
        """At half the power a GeForce lets its fan rest at nearly the same temperature."""
        light: dict[str, Any] = {"power_watts": at(SICK, 190.0, 300.0)}
        frames = [
            frame(COMMISSIONED + later, **light, core_temperature_celsius=at_sick(66.0))
            for later in range(2)
        ]

        assert levels("cooling", *commissioned(), *frames)[0] <= OK

    def test_power_that_jumps_is_not_judged(self) -> None:
        """The heatsink has not caught up with it."""
        jumped = frame(
            COMMISSIONED,
            power_watts=at(SICK, 345.0, 300.0),
            core_temperature_celsius=at(SICK, 90.0, 68.0),
        )

        assert levels("cooling", *commissioned(), jumped) == [NOT_JUDGED, OK]

    def test_light_load_is_not_judged(self) -> None:
        """Below half of the limit a degree is too large a part."""
        light = [frame(number, power_watts=150.0) for number in range(COMMISSIONED + 1)]

        assert levels("cooling", *light) == [NOT_JUDGED, NOT_JUDGED]

    def test_without_a_limit_the_board_s_power_says_what_is_light(self) -> None:
        """Some cards tell no limit."""
        light: dict[str, Any] = {"power_watts": 150.0, "power_limit_watts": np.nan}
        frames = [frame(number, **light) for number in range(2)]
        facts = Facts(expected={"power_watts": np.full(N, 350.0)})

        assert set(scored(DETECTORS["cooling"], frames, facts).scores[-1].level) == {NOT_JUDGED}

    @pytest.mark.parametrize(("celsius", "level"), [(78.0, OK), (86.0, WATCH)])
    def test_hotter_than_equals_from_the_first_day(self, celsius: float, level: int) -> None:
        """A card that came with dry paste has no better past."""
        hot: dict[str, Any] = {"core_temperature_celsius": at(SICK, celsius, 68.0)}

        assert levels("cooling", *(frame(number, **hot) for number in range(2))) == [level, OK]

    def test_a_warm_slot_is_taken_out(self) -> None:
        """Every second card is in the warm flow of the one before it."""
        rng = np.random.default_rng(3)
        slots = np.tile([60.0, 74.0, 60.0, 74.0], 4) + rng.normal(0, 0.5, N)

        healthy = [frame(number, core_temperature_celsius=slots) for number in range(2)]
        worse = slots.copy()
        worse[SICK] = 90.0
        hot = [frame(number, core_temperature_celsius=worse) for number in range(2)]

        assert last("cooling", healthy).level.max() == OK
        assert levels("cooling", *hot) == [WATCH, OK]

    def test_a_warm_rack_is_taken_out(self) -> None:
        """One cabinet of a hall runs 6 °C warmer, or 14."""
        racks = Roster(key._replace(rack="ab"[i >= 8]) for i, key in enumerate(cards(16)))
        warm = at(range(8, 16), 84.0, 68.0)

        frames = [frame(number, racks, core_temperature_celsius=warm) for number in range(2)]

        assert last("cooling", frames).level.tolist() == [OK] * N

    def test_boards_of_another_maker_have_another_cooler(self) -> None:
        """Two blowers among sixteen cards of one name are hot, not sick."""
        blowers = at([5, 6], 88.0, 68.0)
        facts = {"subsystem_id": at([5, 6], 2.0, 1.0)}
        frames = [
            frame(number, core_temperature_celsius=blowers, facts=facts) for number in range(2)
        ]

        assert last("cooling", frames).level.max() == OK

    def test_a_limit_lowered_on_purpose_is_no_poor_cooling(self) -> None:
        """One card at 200 W of 350, its fan slower, is hotter per watt."""
        lowered: dict[str, Any] = {
            "power_watts": at(SICK, 200.0, 300.0),
            "power_limit_watts": at(SICK, 200.0, 350.0),
            "core_temperature_celsius": at(SICK, 64.0, 68.0),
            "fan_ratio": at(SICK, 0.4, 0.6),
        }
        frames = [frame(COMMISSIONED + later, **lowered) for later in range(3)]

        assert levels("cooling", *commissioned(), *frames)[0] <= OK

    def test_long_recordings_of_one_job_each_are_judged(self) -> None:
        """Their means are steady by their length."""
        hour = 3600 * 10**9
        hot: dict[str, Any] = {"core_temperature_celsius": at(SICK, 88.0, 68.0)}

        assert levels("cooling", frame(0, length_ns=hour, **hot)) == [WATCH, OK]

    def test_the_baseline_survives_a_restart(self) -> None:
        """It was taken on the first day, and is saved with the state."""
        *_, (state, _) = stepped(commissioned())
        hot = [
            frame(COMMISSIONED + later, core_temperature_celsius=at_sick(82.0))
            for later in range(7)
        ]

        assert "cooling" in found(judged(hot, State.from_bytes(state.to_bytes())))[SICK]


def at_sick(value: float, usual: float = 68.0) -> Array:
    """A column of temperatures in which the sick card differs."""
    return at(SICK, value, usual)


class TestFan:
    """Fans of cards and of the chassis."""

    def test_a_fan_that_equals_explain_is_no_fault(self) -> None:
        """All run at full speed in a hot hall."""
        assert levels("fan", frame(0), frame(1, fan_ratio=1.0)) == [OK, OK]

    def test_a_fan_a_third_above_its_equals_is_none(self) -> None:
        """They are near their limits themselves."""
        assert levels("fan", frame(0), frame(1, fan_ratio=at(SICK, 1.0, 0.68))) == [OK, OK]

    def test_a_hot_card_has_reason_for_full_speed(self) -> None:
        """That is for its cooling to explain."""
        hot = frame(1, fan_ratio=at(SICK, 1.0, 0.6), core_temperature_celsius=at_sick(82.0))

        assert levels("fan", frame(0), hot) == [OK, OK]

    def test_a_fan_that_works_more_for_more_power_is_no_fault(self) -> None:
        """The others do light work."""
        heavy = frame(1, fan_ratio=at(SICK, 1.0, 0.6), power_watts=at(SICK, 345.0, 250.0))

        assert levels("fan", frame(0), heavy) == [OK, OK]

    def test_a_warm_slot_needs_its_fan(self) -> None:
        """The last card of each chassis breathes what the others let out."""
        last_slots = frame(1, fan_ratio=np.tile([0.5, 0.5, 0.5, 1.0], 4))

        assert levels("fan", frame(0), last_slots) == [OK, OK]

    def test_speeds_of_another_hour_say_nothing(self) -> None:
        """The others worked in the cool of the night."""
        only = at(SICK, 1.0, 0.0)
        noon = frame(40, fan_ratio=at(SICK, 1.0, 0.6), utilization_ratio=only)

        assert levels("fan", frame(0), noon) == [OK, NOT_JUDGED]

    def test_a_fan_set_by_hand_is_no_fault(self) -> None:
        """It was never seen slower, and its card is cool for it."""
        by_hand: dict[str, Any] = {
            "fan_ratio": at(SICK, 1.0, 0.6),
            "core_temperature_celsius": at_sick(56.0),
        }

        assert levels("fan", frame(0, **by_hand), frame(1, **by_hand)) == [OK, OK]

    def test_full_speed_over_a_cool_core_points_to_the_memory(self) -> None:
        """A fan that was regulated before, and now cools what has no sensor."""
        cold = frame(1, fan_ratio=at(SICK, 1.0, 0.6), core_temperature_celsius=at_sick(54.0))

        score = last("fan", [frame(0), cold])

        assert score.level[SICK] == WATCH
        assert action_of(score, "fan") == "repad"

    @pytest.mark.parametrize(("celsius", "level"), [(55.0, OK), (72.0, DEGRADED)])
    def test_a_fan_that_stands_still_on_a_hot_card(self, celsius: float, level: int) -> None:
        """Below 60 °C boards may stop it on purpose."""
        stopped = frame(1, fan_ratio=at(SICK, 0.0, 0.6), core_temperature_celsius=at_sick(celsius))

        assert levels("fan", frame(0), stopped) == [level, OK]

    def test_a_passive_card_is_not_judged(self) -> None:
        """Its fan was never seen to turn."""
        passive: dict[str, Any] = {
            "fan_ratio": at(SICK, 0.0, 0.6),
            "core_temperature_celsius": at_sick(85.0),
        }

        assert levels("fan", frame(0, **passive), frame(1, **passive)) == [NOT_JUDGED, OK]

    def test_without_equals_only_a_hot_card_tells_of_a_stopped_fan(self) -> None:
        """One card of its kind, which did spin."""
        alone = cards(1)
        seen = [frame(0, alone)]
        warm = frame(1, alone, fan_ratio=0.0, core_temperature_celsius=70.0)
        hot = frame(1, alone, fan_ratio=0.0, core_temperature_celsius=84.0)

        assert last("fan", [*seen, warm]).level.tolist() == [OK]
        assert last("fan", [*seen, hot]).level.tolist() == [DEGRADED]

    def test_a_chassis_fan_is_one_finding_of_its_node(self) -> None:
        """All cards behind it show it."""
        stopped = {"fans_stopped": at(NODE, 1.0, 0.0)}

        verdicts = judged([frame(number, host=stopped) for number in range(7)])

        assert found(verdicts) == {}
        (wide,) = verdicts.wide
        assert (wide.scope, wide.cards) == ("node", tuple(NODE))
        assert {finding.level for finding in wide.raised} == {WATCH}
        assert {finding.action for finding in wide.raised} == {"look-at-node"}

    def test_a_chassis_fan_before_a_hot_card_costs(self) -> None:
        """It is no longer only to be watched."""
        hot = frame(
            1, host={"fans_stopped": at(NODE, 1.0, 0.0)}, core_temperature_celsius=at_sick(82.0)
        )

        assert levels("fan", frame(0), hot) == [DEGRADED, WATCH]

    def test_a_chassis_at_rest_may_stop_its_fans(self) -> None:
        """Boards do so on purpose."""
        rest = frame(1, host={"fans_stopped": 1.0}, **REST)

        assert levels("fan", frame(0), rest) == [OK, OK]

    def test_a_silent_card_is_not_judged_by_its_chassis(self) -> None:
        """Nothing was heard of it."""
        read = at(SICK, NO_READING, READ_OK)
        seen = frame(1, read=read, host={"fans_stopped": 1.0})

        assert levels("fan", frame(0), seen)[0] == NOT_JUDGED


class TestMemoryHeat:
    """Memory temperature."""

    @pytest.mark.parametrize(("celsius", "level"), [(94.0, OK), (101.0, WATCH), (105.0, DEGRADED)])
    def test_the_limit_of_gddr_where_none_is_told(self, celsius: float, level: int) -> None:
        """Alarm at 100 °C, act at 105; all cards alike, so that equals say nothing."""
        seen = frame(0, memory_temperature_celsius=celsius)

        assert levels("memory_heat", seen) == [level, level]

    @pytest.mark.parametrize(("celsius", "level"), [(88.0, OK), (91.0, WATCH), (95.0, DEGRADED)])
    def test_hbm_bears_less(self, celsius: float, level: int) -> None:
        """Its bus tells it; its heat goes through the paste of the die."""
        seen = frame(0, memory_temperature_celsius=celsius, facts={"memory_bus_bits": 5120.0})

        score = last("memory_heat", [seen])

        assert set(score.level.tolist()) == {level}
        assert action_of(score, "memory_heat") == "repaste"

    def test_the_limit_that_the_card_tells_goes_first(self) -> None:
        """Whatever its memory is."""
        told = {"memory_temperature_limit_celsius": 92.0}

        seen = frame(0, memory_temperature_celsius=93.0, facts=told)

        assert levels("memory_heat", seen) == [DEGRADED, DEGRADED]

    def test_a_limit_of_nought_is_none(self) -> None:
        """Drivers tell it for cards without one."""
        seen = frame(0, **MEMORY, facts={"memory_temperature_limit_celsius": 0.0})

        assert levels("memory_heat", seen) == [OK, OK]

    def test_memory_that_touches_its_limit_has_reached_it(self) -> None:
        """The card slows down there, so that the mean stays below."""
        seen = frame(
            0, memory_temperature_celsius=102.0, memory_temperature_max_celsius=at_sick(106, 103)
        )

        assert levels("memory_heat", seen) == [DEGRADED, WATCH]

    def test_one_wild_sample_is_no_heat(self) -> None:
        """The mean is far from the limit."""
        wild = {"memory_temperature_max_celsius": at_sick(127.0, 90.0)}

        assert levels("memory_heat", frame(0, **{**MEMORY, **wild})) == [OK, OK]

    def test_a_peak_stands_in_for_a_mean(self) -> None:
        """Some readers tell only that."""
        seen = frame(0, memory_temperature_max_celsius=at_sick(107.0, 90.0))

        assert levels("memory_heat", seen) == [DEGRADED, OK]

    @pytest.mark.parametrize(("celsius", "level"), [(92.0, OK), (98.0, WATCH)])
    def test_hotter_than_equals_over_its_core(self, celsius: float, level: int) -> None:
        """Pads of one card have gone, and it is not at its limit yet."""
        seen = frame(0, memory_temperature_celsius=at_sick(celsius, 84.0))

        assert levels("memory_heat", seen) == [level, OK]

    def test_a_hot_core_explains_hot_memory(self) -> None:
        """That is the cooler's finding."""
        seen = frame(
            0,
            memory_temperature_celsius=at_sick(98.0, 84.0),
            core_temperature_celsius=at_sick(82.0),
        )

        assert levels("memory_heat", seen) == [OK, OK]

    def test_an_idle_card_is_not_judged(self) -> None:
        """Heat is judged under load."""
        rest = frame(0, **REST, memory_temperature_max_celsius=120.0)

        assert levels("memory_heat", rest) == [NOT_JUDGED, NOT_JUDGED]


class TestHotspot:
    """Hotspot above core."""

    @pytest.mark.parametrize(("celsius", "level"), [(90.0, OK), (94.0, WATCH), (99.0, DEGRADED)])
    def test_far_above_core_and_equals(self, celsius: float, level: int) -> None:
        """From 25 °C watch, from 30 °C paste."""
        seen = frame(0, hotspot_temperature_celsius=at_sick(celsius, 80.0))

        assert levels("hotspot", seen) == [level, OK]

    def test_a_large_difference_of_the_whole_kind_is_its_design(self) -> None:
        """Large dies at high power have one."""
        seen = frame(0, hotspot_temperature_celsius=at_sick(104.0, 100.0))

        assert levels("hotspot", seen) == [OK, OK]

    @pytest.mark.parametrize(("celsius", "level"), [(96.0, OK), (104.0, WATCH)])
    def test_without_equals_it_is_at_most_watched(self, celsius: float, level: int) -> None:
        """What is normal for its die is not known."""
        seen = frame(0, cards(1), hotspot_temperature_celsius=celsius)

        assert last("hotspot", [seen]).level.tolist() == [level]

    def test_most_cards_have_no_such_sensor(self) -> None:
        """They are not judged."""
        assert levels("hotspot", frame(0)) == [NOT_JUDGED, NOT_JUDGED]

    def test_an_idle_card_is_not_judged(self) -> None:
        """The difference shows under load."""
        assert levels("hotspot", frame(0, **{**REST, **HOTSPOT})) == [NOT_JUDGED, NOT_JUDGED]


class TestPowerBrake:
    """The external brake."""

    @pytest.mark.parametrize(("duty", "level"), [(0.01, OK), (0.05, WATCH), (0.2, DEGRADED)])
    def test_duty_decides(self, duty: float, level: int) -> None:
        """One sample is none, a tenth of the time costs."""
        seen = frame(0, throttle_brake_ratio=at_sick(duty, 0.0))

        assert levels("power_brake", seen) == [level, OK]

    def test_other_slowdowns_are_not_the_brake(self) -> None:
        """They are told by others."""
        seen = frame(0, throttle_hardware_ratio=0.5, throttle_thermal_ratio=0.5)

        assert levels("power_brake", seen) == [OK, OK]

    def test_an_idle_card_is_not_judged(self) -> None:
        """Nothing is lost at rest."""
        seen = frame(0, **IDLE, throttle_brake_ratio=0.5)

        assert levels("power_brake", seen) == [NOT_JUDGED, NOT_JUDGED]

    def test_it_explains_the_hardware_slowdown(self) -> None:
        """The driver tells both."""
        both: dict[str, Any] = {name: at_sick(0.3, 0.0) for name in _SLOWDOWNS}

        verdicts = judged([frame(number, **both) for number in range(3)])

        assert found(verdicts)[SICK][0] == "power_brake"

    def test_one_supply_is_one_finding(self) -> None:
        """Four cards hang on it, in two nodes."""
        supply = [2, 3, 4, 5]
        groups = {"power_group": {f"GPU-{card}": "left" for card in supply}}
        braked: dict[str, Any] = {"throttle_brake_ratio": at(supply, 0.3, 0.0)}

        state = State()
        for number in range(3):
            state, verdicts = step(state, frame(number, **braked), Facts(groups=groups))

        shown = [
            (wide.scope, wide.name, wide.cards)
            for wide in verdicts.wide
            if any(finding.detector.name == "power_brake" for finding in wide.raised)
        ]
        assert shown == [("power_group", "left", tuple(supply))]


_SLOWDOWNS = ("throttle_hardware_ratio", "throttle_brake_ratio")


class TestIdleDraw:
    """Cards at rest."""

    @pytest.mark.parametrize(("watts", "level"), [(45.0, OK), (54.0, OK), (58.0, WATCH)])
    def test_more_power_than_equals(self, watts: float, level: int) -> None:
        """By 60 % and more than 15 W."""
        seen = resting(power_watts=at_sick(watts, 35.0))

        assert levels("idle_draw", *seen) == [level, OK]

    def test_twice_of_little_is_little(self) -> None:
        """A card that sleeps at 6 W has a neighbour with a monitor."""
        assert levels("idle_draw", *resting(power_watts=at_sick(18.0, 6.0))) == [OK, OK]

    def test_a_kind_that_never_rests_is_compared_with_itself(self) -> None:
        """A CMP 50HX idles at 62 to 64 W by design."""
        mixed = [*cards(8), *cards(16, model="CMP 50HX")[8:]]
        watts = np.where(np.arange(N) < 8, 20.0, 63.0)
        seen = [frame(number, Roster(mixed), **{**REST, "power_watts": watts}) for number in (0, 1)]

        assert last("idle_draw", seen).level.tolist() == [OK] * N

    def test_one_card_of_its_kind_is_not_judged(self) -> None:
        """A single 50HX among others."""
        mixed = [*cards(15), *cards(16, model="CMP 50HX")[15:]]
        watts = np.where(np.arange(N) < 15, 20.0, 63.0)
        seen = [frame(number, Roster(mixed), **{**REST, "power_watts": watts}) for number in (0, 1)]

        assert last("idle_draw", seen).level[15] == NOT_JUDGED

    def test_it_must_have_settled(self) -> None:
        """A heatsink that comes from load is warm for minutes."""
        first, _ = resting(power_watts=at_sick(60.0, 35.0))

        assert levels("idle_draw", first) == [NOT_JUDGED, NOT_JUDGED]
        assert levels("idle_draw", first, frame(1), _) == [NOT_JUDGED, NOT_JUDGED]

    @pytest.mark.parametrize(
        "held", [{"processes": 1.0}, {"memory_used_bytes": 20 * 2.0**30}], ids=["process", "memory"]
    )
    def test_a_card_that_somebody_holds_is_not_judged(self, held: dict[str, float]) -> None:
        """Its work rests, it does not."""
        columns = {name: at_sick(value, 0.0) for name, value in held.items()}
        seen = resting(power_watts=at_sick(60.0, 35.0), **columns)

        assert levels("idle_draw", *seen) == [NOT_JUDGED, OK]

    def test_memory_that_the_driver_reserves_holds_nothing(self) -> None:
        """Half a gibibyte is in use on any card."""
        used = 0.5 * 2.0**30
        seen = resting(power_watts=at_sick(60.0, 35.0), memory_used_bytes=used, processes=0.0)

        assert levels("idle_draw", *seen) == [WATCH, OK]

    @pytest.mark.parametrize(("celsius", "level"), [(45.0, OK), (58.0, WATCH)])
    def test_warmer_than_equals_at_rest(self, celsius: float, level: int) -> None:
        """Its cooler, or a leak."""
        seen = resting(core_temperature_celsius=at_sick(celsius, 36.0))

        score = last("idle_draw", seen)

        assert levels("idle_draw", *seen) == [level, OK]
        if level > OK:
            assert score.cause is not None
            assert CAUSES[score.cause[SICK]] == "thermal"
            assert action_of(score, "idle_draw") == "clean-fan"

    def test_a_card_beside_one_that_works_is_warm(self) -> None:
        """Its neighbours' air heats it."""
        busy = at([4, 6, 7], 1.0, 0.0)
        warm = {**REST, "utilization_ratio": busy, "core_temperature_celsius": at_sick(60.0, 36.0)}

        assert levels("idle_draw", *(frame(number, **warm) for number in range(2)))[0] == OK

    def test_a_warm_slot_is_taken_out(self) -> None:
        """Every fourth place is behind the supply."""
        warm = np.tile([30.0, 44.0, 30.0, 30.0], 4)

        assert last("idle_draw", resting(core_temperature_celsius=warm)).level.max() == OK

    def test_equals_are_known_from_their_last_rest(self) -> None:
        """Cards that work one after the other are never all at rest."""
        first = resting(power_watts=35.0)
        alone: dict[str, Any] = {
            "utilization_ratio": at(SICK, 0.0, 1.0),
            "power_watts": at(SICK, 60.0, 300.0),
        }
        later = [frame(2 + number, **alone) for number in range(2)]

        assert levels("idle_draw", *first, *later) == [WATCH, NOT_JUDGED]

    def test_temperatures_of_another_hour_say_nothing(self) -> None:
        """The others rested in the cool of the night; power is the same by day."""
        night = resting(core_temperature_celsius=30.0)
        alone: dict[str, Any] = {
            **REST,
            "utilization_ratio": np.where(np.isin(np.arange(N), NODE), 0.0, 1.0),
            "core_temperature_celsius": 46.0,
        }
        noon = [frame(60 + number, **alone) for number in range(2)]

        assert last("idle_draw", [*night, *noon]).level[SICK] == OK

    def test_a_rest_of_long_ago_is_forgotten(self) -> None:
        """Drivers change."""
        first = resting(power_watts=35.0)
        alone: dict[str, Any] = {
            "utilization_ratio": at(SICK, 0.0, 1.0),
            "power_watts": at(SICK, 60.0, 300.0),
        }
        later = [frame(300 + number, **alone) for number in range(2)]

        assert levels("idle_draw", *first, *later) == [NOT_JUDGED, NOT_JUDGED]

    def test_it_is_never_more_than_watched(self) -> None:
        """It costs nothing yet."""
        seen = resting(power_watts=at_sick(200.0, 20.0), core_temperature_celsius=at_sick(90.0, 30))

        assert levels("idle_draw", *seen) == [WATCH, OK]


# --- places ------------------------------------------------------------------------------------

_COLUMNS = st.lists(
    st.tuples(
        st.sampled_from([np.nan, 0.0, 1.0, 2.0, 5.5, 9.0]), st.integers(min_value=0, max_value=3)
    ),
    min_size=1,
    max_size=24,
).map(lambda rows: (np.array([v for v, _ in rows]), np.array([g for _, g in rows], np.int64)))


def _mates(values: Array, groups: Array, card: int, *, itself: bool) -> list[float]:
    return [
        float(values[other])
        for other in range(len(values))
        if groups[other] == groups[card]
        and not np.isnan(values[other])
        and (itself or other != card)
    ]


@settings(max_examples=60)
@given(_COLUMNS)
def test_a_shared_median_is_that_of_the_group(column: tuple[Array, Array]) -> None:
    """Told to every card of a group that is large enough."""
    values, groups = column

    shared = shared_median(values, groups)

    for card in range(len(values)):
        mates = _mates(values, groups, card, itself=True)
        expected = np.median(mates) if len(mates) > LEAST_PEERS else np.nan
        np.testing.assert_equal(shared[card], expected)


@settings(max_examples=60)
@given(_COLUMNS)
def test_the_least_of_the_others_leaves_the_card_out(column: tuple[Array, Array]) -> None:
    """One other is enough; a card that takes no part is told nothing."""
    values, groups = column

    least = others_least(values, groups)

    for card in range(len(values)):
        mates = _mates(values, groups, card, itself=False)
        expected = min(mates) if mates and not np.isnan(values[card]) else np.nan
        np.testing.assert_equal(least[card], expected)


@settings(max_examples=30)
@given(_COLUMNS)
def test_a_group_has_any_if_one_of_its_cards_is(column: tuple[Array, Array]) -> None:
    """By counting."""
    values, groups = column
    which = values > 1

    expected = [bool(which[groups == group].any()) for group in groups]

    assert has_any(which, groups).tolist() == expected


def test_places_are_taken_out_and_a_sick_card_does_not_pull_them() -> None:
    """What is left is what the card does by itself; its neighbours in rack and slot stay put."""
    farm = Roster(key._replace(rack="ab"[index >= 16]) for index, key in enumerate(cards(32)))
    values = np.tile([0.0, 7.0, 0.0, 7.0], 8) + np.where(np.arange(32) < 16, 0.0, 6.0)
    values[SICK] += 10.0

    left = beyond_equals(values, np.zeros(32, np.int64), farm)

    np.testing.assert_allclose(left, at(SICK, 10.0, 0.0, 32))
