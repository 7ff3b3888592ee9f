"""From scores to verdicts: persistence, silence, idleness, time, attribution, memory."""

import zlib
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farmhand_collector.capacity.detector import (
    DEGRADED,
    FAILING,
    LOST,
    OK,
    SPAN_NS,
    UNKNOWN,
    WATCH,
)
from farmhand_collector.capacity.frame import NO_READING, READ_LOST, READ_OK, Frame
from farmhand_collector.capacity.roster import Roster
from farmhand_collector.capacity.state import State, StateError
from farmhand_collector.capacity.step import (
    JUDGED_HOLDS_NS,
    Verdicts,
    step,
)
from tests.collector.capacity.checks import random_frames
from tests.collector.capacity.farm import (
    FACTS,
    FARM,
    FAULTS,
    IDLE,
    SICK,
    START_NS,
    at,
    cards,
    faulty,
    found,
    frame,
    judged,
    stepped,
)

SHORT_NS = 30 * 10**9


def hot(number: int, duty: float, card: int | range = SICK) -> Frame:
    """A frame in which heat holds cards back for a share of the time."""
    return frame(number, throttle_thermal_ratio=at(card, duty, 0.0))


def states(frames: Iterable[Frame], card: int = SICK) -> list[int]:
    """The state of a card after each frame."""
    return [int(verdicts.state[card]) for _, verdicts in stepped(list(frames))]


class TestPersistence:
    """A verdict needs judged windows in a row, and as many more to go."""

    def test_a_good_window_begins_the_count_anew(self) -> None:
        """Bad, good, bad is no fault that lasts."""
        assert set(states(hot(n, duty) for n, duty in enumerate([0.0, 0.5, 0.0, 0.5, 0.0]))) == {OK}

    def test_windows_that_cannot_be_judged_do_not_count(self) -> None:
        """Idle time between two bad windows neither raises nor clears."""
        pause = [frame(2, **IDLE), frame(3, read=at(SICK, NO_READING, READ_OK))]

        after = states([frame(0), hot(1, 0.5), *pause, hot(4, 0.5)])

        assert after == [OK, OK, OK, UNKNOWN, DEGRADED]

    def test_a_raised_fault_is_not_forgotten_while_the_card_rests(self) -> None:
        """A card is not healed by having nothing to do."""
        rest = [frame(number, **IDLE) for number in range(3, 20)]

        assert states([frame(0), hot(1, 0.5), hot(2, 0.5), *rest])[-1] == DEGRADED

    def test_a_level_needs_as_many_windows_as_any_other(self) -> None:
        """One worse window among watched ones makes no worse verdict."""
        duties = [0.0, 0.1, 0.1, 0.5, 0.1, 0.5, 0.5]

        after = states(hot(number, duty) for number, duty in enumerate(duties))

        assert after == [OK, OK, WATCH, WATCH, WATCH, WATCH, DEGRADED]

    def test_a_card_that_was_never_good_is_watched_at_once(self) -> None:
        """There is nothing to be patient for; one good window ends it."""
        assert states(hot(number, duty) for number, duty in enumerate([0.5, 0.0])) == [WATCH, OK]

    def test_a_window_as_long_as_several_counts_for_them(self) -> None:
        """A reading may tell of a run that took a quarter of an hour."""
        run = frame(1, **{**FAULTS["throttle_thermal"], "window_seconds": 900.0})

        assert states([frame(0), run]) == [OK, DEGRADED]

    def test_a_level_is_left_as_slowly_as_any_other(self) -> None:
        """A fault at the border of two levels does not change its verdict each window."""
        duties = [0.0, 0.5, 0.5, *[0.1, 0.5] * 4, *[0.1] * 6]

        after = states(hot(number, duty) for number, duty in enumerate(duties))

        assert after == [OK, OK, *[DEGRADED] * 14, WATCH]

    def test_evidence_of_a_blip_is_not_kept(self) -> None:
        """What raised nothing and passed leaves no trace in the state."""
        *_, (state, _) = stepped([frame(0), hot(1, 0.5), frame(2)])

        assert not any(streaks.evidence for streaks in state.streaks.values())

    def test_evidence_tells_of_the_last_bad_window(self) -> None:
        """The figures are those of now, not of the day it began."""
        verdicts = judged([frame(0), hot(1, 0.5), hot(2, 0.6), hot(3, 0.7), frame(4)])

        (finding,) = verdicts.findings[SICK]
        assert finding.values["duty"] == pytest.approx(0.7)


class TestUnknown:
    """What cannot be judged is said to be unknown, never guessed to be fine."""

    def test_a_card_that_never_worked_is_unknown(self) -> None:
        """Clocks and power at idle tell nothing."""
        assert set(states(frame(number, **IDLE) for number in range(5))) == {UNKNOWN}

    def test_a_card_that_gives_only_its_state_is_unknown(self) -> None:
        """A driver that tells nothing is no proof of health."""
        bare: dict[str, Any] = dict.fromkeys(frame().values, np.nan)

        assert states([frame(0, **bare), frame(1, **bare)]) == [UNKNOWN, UNKNOWN]

    def test_the_good_name_of_the_last_load_holds_for_hours(self) -> None:
        """Then nobody knows."""
        windows = JUDGED_HOLDS_NS // SPAN_NS
        idle = [frame(number, **IDLE) for number in range(1, windows + 2)]

        after = states([frame(0), *idle])

        assert after[-2:] == [OK, UNKNOWN]

    def test_silence_makes_a_card_unknown(self) -> None:
        """Four silent frames of half a minute are patience enough."""
        silent = [short(n, read=at(SICK, NO_READING, READ_OK)) for n in range(10, 15)]

        after = states([*(short(n) for n in range(10)), *silent])

        assert after[-6:] == [OK, OK, OK, OK, OK, UNKNOWN]

    def test_silence_hides_a_fault_and_speech_shows_it_again(self) -> None:
        """Of a silent card nothing is known; nothing was mended either."""
        silent = [frame(number, read=at(SICK, NO_READING, READ_OK)) for number in (3, 4)]

        after = states([frame(0), hot(1, 0.5), hot(2, 0.5), *silent, frame(5)])

        assert after == [OK, OK, DEGRADED, UNKNOWN, UNKNOWN, DEGRADED]

    def test_a_lost_card_stays_lost_while_silent(self) -> None:
        """Its node may be switched off; the card is lost all the same."""
        silent = [frame(number, read=NO_READING) for number in range(2, 5)]

        assert states([frame(0), faulty("lost", 1), *silent]) == [OK, *[LOST] * 4]

    def test_a_card_first_heard_of_by_an_event_is_not_silent(self) -> None:
        """A card without any reading yet is unknown, not missing."""
        verdicts = judged([frame(0, read=NO_READING)])

        assert verdicts.state.tolist() == [UNKNOWN] * 16
        assert not verdicts.silent.any()


def short(number: int, **changed: Any) -> Frame:
    """A frame as long as those of a live farm."""
    return frame(number, length_ns=SHORT_NS, **changed)


class TestSince:
    """Every state says since when."""

    def test_a_fault_began_with_its_first_bad_window(self) -> None:
        """Not when it was raised."""
        verdicts = judged([frame(0), hot(1, 0.5), hot(2, 0.5)])

        assert verdicts.since_ns[SICK] == frame(1).start_ns

    def test_it_stays_while_the_state_stays(self) -> None:
        """Later windows do not make it younger."""
        verdicts = judged([frame(0), *(hot(number, 0.5) for number in range(1, 9))])

        assert verdicts.since_ns[SICK] == frame(1).start_ns
        assert verdicts.since_ns[0] == frame(0).start_ns

    def test_a_silent_card_is_unknown_since_it_was_last_heard(self) -> None:
        """Whatever it suffered from before."""
        silent = [frame(number, read=at(SICK, NO_READING, READ_OK)) for number in (3, 4)]

        verdicts = judged([frame(0), hot(1, 0.5), hot(2, 0.5), *silent])

        assert verdicts.state[SICK] == UNKNOWN
        assert verdicts.since_ns[SICK] == frame(2).end_ns

    def test_a_worse_level_has_its_own_beginning(self) -> None:
        """Watched since yesterday, degraded since now."""
        frames = [hot(number, duty) for number, duty in enumerate([0.1, 0.1, 0.1, 0.5, 0.5])]

        assert judged(frames[:4]).since_ns[SICK] == frame(0).start_ns
        assert judged(frames).since_ns[SICK] == frame(3).start_ns

    def test_a_lost_card_is_lost_since_the_frame_that_told(self) -> None:
        """The phone says when."""
        assert judged([frame(0), faulty("lost", 1), frame(2)]).since_ns[SICK] == frame(1).start_ns


class TestSeveralFaults:
    """The worst level is the card's state, the first cause its name."""

    def test_the_state_is_that_of_the_worst_finding(self) -> None:
        """A watched link beside a card that does not answer."""
        narrow: dict[str, Any] = {"pcie_width": at(SICK, 4.0, 16.0)}
        frames = [frame(number, **narrow) for number in range(3)]

        verdicts = judged([*frames, *(faulty("unreadable", number) for number in (3, 4))])

        assert verdicts.state[SICK] == FAILING
        assert found(verdicts)[SICK] == ["unreadable", "link_width"]

    def test_statistical_deviations_are_pooled_over_the_fleet(self) -> None:
        """A tenth below is a fault beside calm cards, not where every other card strays so."""
        clock = 1700.0 * np.exp(0.05 * np.linspace(-2, 2, 16))
        clock[SICK] = 1700 * 0.88

        assert (
            judged(
                [frame(number, core_clock_mhz=at(SICK, 1700 * 0.88, 1700.0)) for number in range(3)]
            ).state[SICK]
            == DEGRADED
        )
        assert judged([frame(n, core_clock_mhz=clock) for n in range(3)]).state[SICK] == OK


class TestNodes:
    """What most cards of a node show together is the node's."""

    def test_four_slow_cards_of_a_node_are_one_finding(self) -> None:
        """No board is pulled: the cards are fine and point to the node."""
        verdicts = judged([frame(0), *(hot(number, 0.5, range(4, 8)) for number in (1, 2))])

        (node,) = verdicts.wide
        assert (node.site, node.name) == ("barn", "node-1")
        assert {found.detector.name for found in node.raised} == {"throttle_thermal"}
        assert node.cards == (4, 5, 6, 7)
        assert verdicts.state.tolist() == [OK] * 16
        assert found(verdicts) == {}

    def test_two_of_four_are_two_cards(self) -> None:
        """Half a node is no node."""
        verdicts = judged([frame(0), *(hot(number, 0.5, range(4, 6)) for number in (1, 2))])

        assert verdicts.wide == []
        assert [verdicts.state[card] for card in (4, 5)] == [DEGRADED, DEGRADED]

    def test_cards_that_cannot_show_it_do_not_count(self) -> None:
        """Four of eight have work and all four are hot: the others say nothing against it."""
        farm = cards(16, per_node=8)
        use = at(range(4, 16), 0.0, 1.0)
        heat = at(range(4), 0.5, 0.0)
        frames = [
            frame(number, farm, utilization_ratio=use, throttle_thermal_ratio=heat)
            for number in range(2)
        ]

        (node,) = judged(frames).wide

        assert node.cards == (0, 1, 2, 3)

    def test_a_fault_that_no_node_can_cause_stays_with_the_cards(self) -> None:
        """Three lost cards are three lost cards."""
        read = at(range(4, 8), READ_LOST, READ_OK)

        verdicts = judged([frame(0), frame(1, read=read)])

        assert verdicts.wide == []
        assert verdicts.state.tolist().count(LOST) == 4

    def test_a_node_finding_stays_through_a_frame_without_readings(self) -> None:
        """A network blip must not turn one finding into four and back."""
        frames = [short(number) for number in range(10)]
        frames += [
            short(number, throttle_thermal_ratio=at(range(4, 8), 0.5, 0.0))
            for number in range(10, 30)
        ]
        blip = short(30, read=at(range(4, 8), NO_READING, READ_OK))

        verdicts = judged([*frames, blip])

        assert [node.cards for node in verdicts.wide] == [(4, 5, 6, 7)]
        assert verdicts.state.tolist() == [OK] * 16

    def test_nodes_of_one_name_at_two_sites_are_two(self) -> None:
        """Two cards hot here and two there make no node."""
        farm = Roster(
            key._replace(site="barn" if index % 4 < 2 else "cellar")
            for index, key in enumerate(FARM)
        )
        heat = at(range(4, 8), 0.5, 0.0)

        verdicts = judged([frame(number, farm, throttle_thermal_ratio=heat) for number in range(3)])

        assert verdicts.wide == []


def same(one: Verdicts, other: Verdicts) -> bool:
    """Whether two verdicts say the same."""
    return repr(_plain(one)) == repr(_plain(other))


def _plain(verdicts: Verdicts) -> list[Any]:
    return [v.tolist() if isinstance(v, np.ndarray) else v for v in verdicts]


def summed(content: bytes) -> bytes:
    """With the checksum that goes before a saved state."""
    return zlib.crc32(content).to_bytes(4) + content


class TestState:
    """What is remembered can be saved and taken up again, and is never changed in place."""

    def test_step_leaves_the_given_state_as_it_was(self) -> None:
        """The same state and frame give the same again."""
        *_, (state, _) = stepped([*random_frames(1), *(faulty(name) for name in FAULTS)])
        before = state.to_bytes()

        first = [step(state, seen, FACTS)[1] for seen in (*random_frames(2), frame(9, cards(20)))]
        second = [step(state, seen, FACTS)[1] for seen in (*random_frames(2), frame(9, cards(20)))]

        assert state.to_bytes() == before
        assert all(same(one, other) for one, other in zip(first, second, strict=True))

    @settings(max_examples=15)
    @given(st.integers(0, 10**6), st.integers(0, 12))
    def test_a_run_goes_on_from_saved_bytes(self, seed: int, cut: int) -> None:
        """Saved anywhere in the middle, restored, the verdicts are those of the run in one go."""
        frames = random_frames(seed, count=8) + [hot(number, 0.5) for number in range(8, 12)]
        straight = [verdicts for _, verdicts in stepped(frames)]

        state = [State(), *(state for state, _ in stepped(frames[:cut]))][-1]
        resumed = stepped(frames[cut:], State.from_bytes(state.to_bytes()))

        for expected, (_, verdicts) in zip(straight[cut:], resumed, strict=True):
            assert same(verdicts, expected)

    def test_saving_what_was_restored_gives_the_same_bytes(self) -> None:
        """Nothing is lost on the way."""
        *_, (state, _) = stepped([*random_frames(3), hot(5, 0.5)])
        saved = state.to_bytes()

        restored = State.from_bytes(saved)

        assert restored.to_bytes() == saved
        assert restored.roster == state.roster
        assert len(fields(State)) == 10  # whoever adds a field saves it

    def test_a_new_state_can_be_saved(self) -> None:
        """A collector may stop before it has heard anything."""
        assert State.from_bytes(State().to_bytes()).roster == ()

    @pytest.mark.parametrize(
        "rubbish",
        [
            b"",
            b"rubbish",
            b"\x93NUMPY",
            b"PK\x03\x04",
            msgspec.msgpack.encode({"version": 2}),
            msgspec.msgpack.encode([1, 2]),
        ],
    )
    def test_rubbish_is_no_state(self, rubbish: bytes) -> None:
        """A damaged checkpoint is told as such."""
        with pytest.raises(StateError, match="not a saved state"):
            State.from_bytes(rubbish)

    def test_a_state_cut_short_or_changed_is_no_state_or_can_be_used(self) -> None:
        """Damage never comes out as another error, now or in the next step."""
        *_, (state, _) = stepped([frame(0), hot(1, 0.5)])
        saved = state.to_bytes()
        rng = np.random.default_rng(0)

        for place in rng.integers(0, len(saved), 60).tolist():
            for damaged in (saved[:place], saved[:place] + b"\x00" + saved[place + 1 :]):
                try:
                    restored = State.from_bytes(damaged)
                except StateError:
                    continue
                assert len(restored.cards) == len(restored.roster)

    def test_a_state_of_another_version_is_refused(self) -> None:
        """The message names both."""
        with pytest.raises(StateError, match="saved by version 1, expected"):
            State.from_bytes(summed(msgspec.msgpack.encode({"version": 1})))

    def test_columns_that_do_not_fit_the_roster_are_refused(self) -> None:
        """Rather than judging one card by the memory of another."""
        *_, (state, _) = stepped([frame(0)])
        state.roster = cards(3)

        with pytest.raises(StateError, match="do not fit 3 cards"):
            State.from_bytes(state.to_bytes())

    def test_what_a_detector_remembers_in_another_shape_is_dropped(self) -> None:
        """A new version begins that detector anew and keeps all else."""
        *_, (state, _) = stepped([frame(0), hot(1, 0.5)])
        state.memories["lost"] = np.zeros(len(FARM), [("other", "f4")])

        restored = State.from_bytes(state.to_bytes())

        assert "lost" not in restored.memories
        assert "link_width" in restored.memories
        assert judged([hot(2, 0.5)], restored).state[SICK] == DEGRADED


class TestSpans:
    """Means over five minutes, gathered frame by frame."""

    def clocks(self, frames: Iterable[Frame]) -> dict[str, float]:
        """Evidence of the core clock of the sick card, or none."""
        verdicts = judged(list(frames))
        for finding in verdicts.findings.get(SICK, []):
            if finding.detector.name == "peer_core_clock":
                return finding.values
        return {}

    def slow(self, number: int, **changed: Any) -> Frame:
        """A short frame in which the sick card is slow."""
        clock = {"core_clock_mhz": at(SICK, 1000.0, 1700.0)}
        return short(number, **{**clock, **changed})

    def test_a_span_is_judged_when_its_last_frame_is(self) -> None:
        """Three spans of ten frames each raise the clock finding, and not a frame earlier."""
        well = [short(number) for number in range(-10, 0)]
        frames = [*well, *(self.slow(number) for number in range(30))]

        assert self.clocks(frames[:-1]) == {}
        assert self.clocks(frames)["value"] == pytest.approx(1000.0)

    def test_a_fault_began_with_its_first_span(self) -> None:
        """Not with the frame that ended it."""
        verdicts = judged([self.slow(number) for number in range(30)])

        assert verdicts.since_ns[SICK] == START_NS

    def test_a_value_given_in_some_frames_is_not_pulled_to_zero(self) -> None:
        """Where every third clock is missing, the mean is that of the others."""
        missing = at(SICK, np.nan, 1700.0)
        frames = [
            self.slow(n, core_clock_mhz=missing) if n % 3 == 1 else self.slow(n) for n in range(30)
        ]

        assert self.clocks(frames)["value"] == pytest.approx(1000.0)

    def test_a_healthy_card_with_missing_values_is_not_slow(self) -> None:
        """Missing is not low."""
        missing = at(SICK, np.nan, 1700.0)
        frames = [short(n, core_clock_mhz=missing) if n % 3 else short(n) for n in range(60)]

        assert found(judged(frames)) == {}

    def test_a_value_given_too_seldom_is_not_judged(self) -> None:
        """A single frame of ten tells nothing of five minutes."""
        missing = at(SICK, np.nan, 1700.0)
        frames = [
            self.slow(n) if n % 10 == 1 else self.slow(n, core_clock_mhz=missing) for n in range(40)
        ]

        assert self.clocks(frames) == {}

    def test_what_was_gathered_in_a_span_that_never_ended_is_dropped(self) -> None:
        """A gap in the readings: the next span begins with nothing."""
        slow = [self.slow(number) for number in range(8)]
        healthy = [short(number) for number in range(10, 30)]

        assert found(judged([*slow, *healthy])) == {}

    def test_a_card_that_joins_late_in_a_span_is_not_judged_on_it(self) -> None:
        """Two minutes of five are too few."""
        few = [short(number, roster=cards(15)) for number in range(6)]
        joined = [short(number) for number in range(6, 10)]

        assert judged([*few, *joined]).state.tolist() == [*[OK] * 15, UNKNOWN]

    def test_frames_longer_than_a_span_are_windows_of_their_own(self) -> None:
        """Recordings of every five minutes are judged by frames of ten."""
        long_ns = 2 * SPAN_NS
        clock = at(SICK, 1000.0, 1700.0)
        frames = [frame(n, length_ns=long_ns, core_clock_mhz=clock) for n in range(3)]

        assert self.clocks(frames)["value"] == pytest.approx(1000.0)

    def test_frames_that_do_not_divide_a_span_are_judged_too(self) -> None:
        """Two minutes do not divide five; each span still ends with one frame."""
        length_ns = 120 * 10**9
        clock = at(SICK, 1000.0, 1700.0)
        start_ns = START_NS // length_ns * length_ns
        frames = [
            frame(start_ns=start_ns + n * length_ns, length_ns=length_ns, core_clock_mhz=clock)
            for n in range(12)
        ]

        assert self.clocks(frames)["value"] == pytest.approx(1000.0)

    def test_half_a_span_of_load_is_enough(self) -> None:
        """Jobs come and go; idle minutes do not dilute the clock."""
        idle = at(SICK, 0.0, 1.0)
        frames = [
            self.slow(n) if n % 2 else self.slow(n, utilization_ratio=idle) for n in range(30)
        ]

        assert self.clocks(frames)["value"] == pytest.approx(1000.0)
