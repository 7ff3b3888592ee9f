"""What happens to cards is told once: repeats, mishaps in several lines, two tellers, counters."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.events.fold import (
    DRIVER_ONLY,
    HOLD_SECONDS,
    MAX_KEPT,
    REPEAT_NS,
    SAME_SECONDS,
    STORY_NS,
    Event,
    Fold,
    Increase,
    LogState,
    Tally,
    aer_event,
    driver_event,
)
from farmhand_agent.sources.kernel.nvrm import ALONE, GONE, GONE_TOO, Part

SECOND = 10**9
CARD = {"slot": "3", "card": "GPU-a", "vendor": "nvidia", "model": "GeForce RTX 3090"}
LATER = 1e9


def xid(second: float, code: str = "31", slot: str = "3", text: str = "") -> Event:
    """What the kernel log tells of a card."""
    part = GONE if code == "79" else ALONE
    tags = CARD | {"slot": slot}
    return Event(tags, "xid", code, text, int(second * SECOND), part=part)


def off_bus(second: float, slot: str = "3") -> Event:
    return Event(CARD | {"slot": slot}, "off_bus", "", "gone", int(second * SECOND), part=GONE_TOO)


def start(second: float, rank: int, text: str) -> Event:
    part = Part(("start",), rank)
    return Event(CARD, "init_failed", "", text, int(second * SECOND), part=part)


def driver(second: float, code: str = "31", slot: str = "3") -> Event:
    """What the driver's library tells of a card."""
    return driver_event(CARD | {"slot": slot}, code, int(second * SECOND))


def brief(events: Iterable[Event]) -> list[tuple[str, str, float, int]]:
    return [(e.kind, e.code, e.time_ns / SECOND, e.count) for e in events]


def heard(fold: Fold, events: Sequence[Event]) -> list[Event]:
    """All that is told of what the kernel log says."""
    told = [t for event in events for t in fold.kernel(event, event.time_ns / SECOND)]
    return told + fold.flush(LATER)


# --- repeats -----------------------------------------------------------------------------------


def test_the_first_of_a_kind_is_told_at_once() -> None:
    """A card that may be dying is not waited for."""
    event = xid(0)
    assert Fold().kernel(event, now=0.0) == [event]


def test_repeats_are_told_as_one() -> None:
    """With their number, and the time and the text of the last."""
    fold = Fold()
    told = [t for second in (0, 2, 9.9) for t in fold.kernel(xid(second, text=f"{second}"), 0.0)]
    assert brief(told) == [("xid", "31", 0, 1)]
    (repeats,) = fold.release(LATER, LogState.CAUGHT_UP)
    assert (repeats.text, repeats.count, repeats.time_ns) == ("9.9", 2, 9_900_000_000)


def test_repeats_are_told_when_none_can_come_any_more() -> None:
    """The log may be a little late."""
    fold = Fold()
    fold.kernel(xid(0), now=100.0)
    fold.kernel(xid(1), now=101.0)
    due = fold.due()
    assert due is not None
    assert due > 100.0 + REPEAT_NS / SECOND
    assert fold.release(due - 0.01, LogState.CAUGHT_UP) == []
    assert brief(fold.release(due, LogState.CAUGHT_UP)) == [("xid", "31", 1, 1)]
    assert fold.due() is None


def test_repeats_are_kept_while_the_log_is_behind() -> None:
    """What is still to be read may be more of them."""
    fold = Fold()
    fold.kernel(xid(0), now=0.0)
    fold.kernel(xid(1), now=0.0)
    assert fold.release(LATER, LogState.BEHIND) == []


def test_the_next_after_the_window_is_a_first_again() -> None:
    """The repeats before it are told before it."""
    told = heard(Fold(), [xid(0), xid(5), xid(10)])
    assert brief(told) == [("xid", "31", 0, 1), ("xid", "31", 5, 1), ("xid", "31", 10, 1)]


def test_what_follows_a_clock_that_was_set_back_is_no_repeat() -> None:
    """A time far before the first is a first of its own."""
    told = heard(Fold(), [xid(1000), xid(1), xid(2), xid(3)])
    assert brief(told) == [("xid", "31", 1000, 1), ("xid", "31", 1, 1), ("xid", "31", 3, 2)]


def test_other_cards_and_codes_are_no_repeats() -> None:
    """Each is a first."""
    events = [xid(0), xid(0, slot="4"), xid(0, code="43")]
    assert heard(Fold(), events) == events


def test_a_storm_is_a_few_events_that_count_all_of_it() -> None:
    """A hundred thousand lines within minutes, of three cards."""
    fold = Fold()
    storm = [xid(n / 1000, slot=str(n % 3)) for n in range(100_000)]
    told = heard(fold, storm)
    assert sum(event.count for event in told) == 100_000
    assert len(told) == 2 * 3 * 10
    assert len(msgspec.json.encode(fold)) < 50_000


def test_a_storm_of_ever_new_kinds_is_bounded_too() -> None:
    """Nothing of it goes unsaid."""
    fold = Fold()
    kinds = 3 * MAX_KEPT
    told = [t for n in range(2 * kinds) for t in fold.kernel(xid(0, code=str(1000 + n // 2)), 0.0)]
    assert len(fold.repeats.groups) <= MAX_KEPT
    assert sum(event.count for event in told + fold.flush(LATER)) == 2 * kinds


seconds = st.integers(0, 1000).map(lambda tenth: tenth / 10)
codes = st.sampled_from(["31", "43", "79"])
slots = st.sampled_from(["3", "4"])
xids = st.builds(xid, seconds, codes, slots)


def in_order(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event.time_ns)


def naive_repeats(events: Sequence[Event]) -> Counter[tuple[str, str, int, int]]:
    """Slot, code, time and count of what is to be told, by looking at one kind after another."""
    told: Counter[tuple[str, str, int, int]] = Counter()
    for slot, code in {(event.slot, event.code) for event in events}:
        times = [e.time_ns for e in events if (e.slot, e.code) == (slot, code)]
        while times:
            window = [time for time in times if time < times[0] + REPEAT_NS]
            times = times[len(window) :]
            told[slot, code, window[0], 1] += 1
            if window[1:]:
                told[slot, code, window[-1], len(window) - 1] += 1
    return told


@given(st.lists(xids).map(in_order))
def test_repeats_are_what_a_look_at_the_whole_would_make_of_them(events: list[Event]) -> None:
    """Whatever comes in between."""
    told = heard(Fold(), events)
    assert Counter((e.slot, e.code, e.time_ns, e.count) for e in told) == naive_repeats(events)


# --- one mishap, several lines -----------------------------------------------------------------


def test_a_card_that_fell_off_the_bus_is_told_once() -> None:
    """The driver says it a second time, without the number."""
    assert brief(heard(Fold(), [xid(0, "79"), off_bus(0.001)])) == [("xid", "79", 0, 1)]


def test_a_card_that_fell_off_the_bus_without_an_xid_is_told() -> None:
    """Newer drivers say it so."""
    assert brief(heard(Fold(), [off_bus(0)])) == [("off_bus", "", 0, 1)]


def test_another_card_that_falls_off_the_bus_is_told() -> None:
    """A riser with two cards takes both."""
    told = heard(Fold(), [xid(0, "79"), off_bus(0.001), off_bus(0.002, slot="4")])
    assert brief(told) == [("xid", "79", 0, 1), ("off_bus", "", 0.002, 1)]


def test_long_after_the_xid_it_is_news_again() -> None:
    """The card came back and went again."""
    late = 1 + STORY_NS / SECOND
    told = heard(Fold(), [xid(0, "79"), off_bus(late)])
    assert brief(told) == [("xid", "79", 0, 1), ("off_bus", "", late, 1)]


def test_a_card_that_does_not_start_is_told_once_with_the_reason() -> None:
    """The driver gives the reason first, and then up each step that failed for it."""
    lines = [start(0, 0, "no power cable"), start(0.1, 1, "RmInit"), start(0.2, 2, "rm_init")]
    (told,) = heard(Fold(), lines)
    assert told.text == "no power cable"


def test_each_time_that_a_card_does_not_start_counts() -> None:
    """It is tried again and again, and each try has two lines."""
    tries = [line for t in (0, 4, 8) for line in (start(t, 1, "RmInit"), start(t + 0.1, 2, "rm"))]
    assert brief(heard(Fold(), tries)) == [("init_failed", "", 0, 1), ("init_failed", "", 8, 2)]


# --- two tellers -------------------------------------------------------------------------------


def test_the_logs_word_counts_where_both_tell() -> None:
    """The driver's library is later as a rule, and has no text."""
    fold = Fold()
    told = fold.kernel(xid(0, text="MMU fault"), now=0.0)
    told += fold.driver(driver(0.01), now=9.0, log=LogState.CAUGHT_UP)
    told += fold.flush(LATER)
    assert [(event.text, event.count) for event in told] == [("MMU fault", 1)]


def test_the_drivers_word_waits_for_the_log() -> None:
    """It may be read a moment later."""
    fold = Fold()
    assert fold.driver(driver(0), now=0.0, log=LogState.CAUGHT_UP) == []
    told = fold.kernel(xid(0.01, text="MMU fault"), now=0.1) + fold.flush(LATER)
    assert [event.text for event in told] == ["MMU fault"]


def test_what_only_the_driver_tells_is_told_after_a_while() -> None:
    """Some XIDs never reach the log."""
    fold = Fold()
    fold.driver(driver(0), now=0.0, log=LogState.CAUGHT_UP)
    assert fold.due() == HOLD_SECONDS
    assert fold.release(HOLD_SECONDS - 0.01, LogState.CAUGHT_UP) == []
    (told,) = fold.release(HOLD_SECONDS, LogState.CAUGHT_UP)
    assert (told.kind, told.code, told.text, told.tags) == ("xid", "31", DRIVER_ONLY, CARD)


def test_the_drivers_word_waits_for_a_log_that_is_behind() -> None:
    """However long."""
    fold = Fold()
    fold.driver(driver(0), now=0.0, log=LogState.BEHIND)
    assert fold.release(LATER, LogState.BEHIND) == []


def test_without_a_log_the_driver_is_believed_at_once() -> None:
    """There is nothing to wait for."""
    told = Fold().driver(driver(0), now=0.0, log=LogState.UNREADABLE)
    assert brief(told) == [("xid", "31", 0, 1)]


def test_a_log_that_is_read_later_does_not_tell_it_again() -> None:
    """The keeper lets the agent read it after weeks; the rest of it is news."""
    fold = Fold()
    told = fold.driver(driver(0), now=0.0, log=LogState.UNREADABLE)
    told += heard(fold, [xid(0), xid(500)])
    assert brief(told) == [("xid", "31", 0, 1), ("xid", "31", 500, 1)]


def test_as_many_are_dropped_as_the_log_tells() -> None:
    """The driver counted one more."""
    fold = Fold()
    told = heard(fold, [xid(0), xid(1)])
    for second in (0, 1, 2):
        told += fold.driver(driver(second), now=5.0, log=LogState.CAUGHT_UP)
    told += fold.flush(LATER)
    assert sum(event.count for event in told) == 3


def test_another_code_or_card_or_time_is_another_happening() -> None:
    """Both are told."""
    far = SAME_SECONDS + 1
    for other in (driver(0, code="43"), driver(0, slot="4"), driver(far)):
        fold = Fold()
        told = fold.kernel(xid(0), now=0.0) + fold.driver(other, 0.0, LogState.CAUGHT_UP)
        assert len(told + fold.flush(LATER)) == 2


@pytest.mark.parametrize("word", ["79", "999"])
def test_the_drivers_word_for_a_lost_card_is_that_of_the_log(word: str) -> None:
    """With its number, or as a device that is gone."""
    for line in (xid(0, "79"), off_bus(0)):
        fold = Fold()
        told = fold.kernel(line, 0.0) + fold.driver(driver(0.1, word), 1.0, LogState.CAUGHT_UP)
        assert told + fold.flush(LATER) == [line]


def test_a_device_that_is_gone_has_no_number() -> None:
    """The driver's own is no XID."""
    told = Fold().driver(driver(0, "999"), 0.0, LogState.UNREADABLE)
    assert brief(told) == [("off_bus", "", 0, 1)]


def test_a_lost_card_is_told_once_though_the_driver_says_it_twice() -> None:
    """An XID, and a moment later that the device is gone."""
    fold = Fold()
    told = fold.driver(driver(0, "79"), 0.0, LogState.UNREADABLE)
    told += fold.driver(driver(0.1, "999"), 0.1, LogState.UNREADABLE)
    assert brief(told + fold.flush(LATER)) == [("xid", "79", 0, 1)]


def naive_merge(log: Sequence[Event], told: Sequence[Event]) -> Counter[tuple[str, str]]:
    """How often each is to be told: all that the log says, and what of the driver's is left over.

    Each of the driver's is matched with the earliest that it may be, both in order of time.
    """
    count = Counter((event.slot, event.code) for event in log)
    left = [(e.slot, e.code, e.time_ns // SECOND) for e in log]
    for event in told:
        same = [
            entry
            for entry in left
            if entry[:2] == (event.slot, event.code)
            and abs(entry[2] - event.time_ns // SECOND) <= SAME_SECONDS
        ]
        if same:
            left.remove(same[0])
        else:
            count[event.slot, event.code] += 1
    return count


def totals(told: Iterable[Event]) -> Counter[tuple[str, str]]:
    count: Counter[tuple[str, str]] = Counter()
    for event in told:
        count[event.slot, event.code] += event.count
    return count


drivers = st.builds(driver, seconds, codes, slots)


@given(st.lists(xids).map(in_order), st.lists(drivers).map(in_order))
def test_nothing_is_lost_and_nothing_doubled_between_two_tellers(
    log: list[Event], words: list[Event]
) -> None:
    """The log first, then the driver, late, as it comes from its reader."""
    fold = Fold()
    told = [t for event in log for t in fold.kernel(event, 0.0)]
    told += [t for event in words for t in fold.driver(event, 0.0, LogState.CAUGHT_UP)]
    assert totals(told + fold.flush(LATER)) == naive_merge(log, words)


@given(st.data(), st.lists(xids, max_size=8), st.lists(drivers, max_size=8))
def test_who_is_first_does_not_matter(
    data: st.DataObject, log: list[Event], words: list[Event]
) -> None:
    """Of what happened at about one time, as many are told as the one tells that tells more."""
    at_once = [msgspec.structs.replace(e, time_ns=e.time_ns % (5 * SECOND)) for e in log + words]
    fold = Fold()
    told = []
    for event in data.draw(st.permutations(at_once)):
        if event.text == DRIVER_ONLY:
            told += fold.driver(event, 0.0, LogState.CAUGHT_UP)
        else:
            told += fold.kernel(event, 0.0)
    of_log, of_driver = totals(log), totals(words)
    assert totals(told + fold.flush(LATER)) == of_log | of_driver


steps = st.lists(
    st.tuples(xids | drivers, st.sampled_from(LogState), st.sampled_from([0.0, 1.0, 6.0, 60.0]))
)


@given(steps)
def test_a_fold_that_was_saved_and_loaded_goes_on_as_before(
    steps: list[tuple[Event, LogState, float]],
) -> None:
    """After each step."""
    one, other = Fold(), Fold()
    now = 0.0
    for event, log, wait in steps:
        now += wait
        assert told_by(one, event, log, now) == told_by(other, event, log, now)
        other = msgspec.json.decode(msgspec.json.encode(other), type=Fold)
        assert other == one


def told_by(fold: Fold, event: Event, log: LogState, now: float) -> list[Event]:
    if event.text == DRIVER_ONLY:
        return fold.driver(event, now, log) + fold.release(now, log)
    return fold.kernel(event, now) + fold.release(now, log)


@given(steps)
def test_whatever_the_log_does_counts_stay_between_the_most_and_the_sum(
    steps: list[tuple[Event, LogState, float]],
) -> None:
    """Readable or not, behind or not: no happening is told by neither, or by more than both."""
    fold = Fold()
    now, told = 0.0, []
    for event, log, wait in steps:
        now += wait
        told += told_by(fold, event, log, now)
    told += fold.flush(LATER)
    words = [event for event, _, _ in steps]
    of_driver = totals(event for event in words if event.text == DRIVER_ONLY)
    of_log = totals(event for event in words if event.text != DRIVER_ONLY)
    assert of_log | of_driver <= totals(told) <= of_log + of_driver


# --- counters ----------------------------------------------------------------------------------

LINK = "0000:41:00.0"


def test_what_a_link_had_counted_before_is_not_told() -> None:
    """The first look only says where counting starts."""
    assert Tally().count({LINK: {"card": {"RxErr": 7}}}) == []


def test_more_errors_of_a_link_are_told() -> None:
    """Each kind at each end by itself."""
    tally = Tally()
    tally.count({LINK: {"card": {"RxErr": 7, "BadTLP": 0}, "port": {"RxErr": 1}}})
    increases = tally.count({LINK: {"card": {"RxErr": 7, "BadTLP": 2}, "port": {"RxErr": 4}}})
    assert increases == [Increase(LINK, "card", "BadTLP", 2), Increase(LINK, "port", "RxErr", 3)]


def test_a_counter_that_went_down_started_from_zero() -> None:
    """The card was taken out and put in again."""
    tally = Tally()
    tally.count({LINK: {"card": {"RxErr": 7}}})
    assert tally.count({LINK: {"card": {"RxErr": 2}}}) == [Increase(LINK, "card", "RxErr", 2)]
    assert tally.count({LINK: {"card": {"RxErr": 0}}}) == []


def test_errors_of_a_link_are_an_event_of_its_card() -> None:
    """It says what, how often and at which end."""
    event = aer_event(CARD, Increase(LINK, "port", "BadDLLP", 12), SECOND)
    assert (event.kind, event.code, event.count) == ("aer", "BadDLLP", 12)
    assert event.text == "counted at the port's end of the link"


@given(st.lists(st.integers(0, 100), min_size=1))
def test_increases_add_up(counts: list[int]) -> None:
    """To what was counted since the first look."""
    tally = Tally()
    told = [i.more for n in counts for i in tally.count({LINK: {"card": {"RxErr": n}}})]
    pairs = itertools.pairwise(counts)
    assert sum(told) == sum(after - before if after >= before else after for before, after in pairs)
