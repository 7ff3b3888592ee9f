"""What every detector must hold to; called with each of them by `test_detectors`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from farmhand_collector.capacity.detector import (
    ACTIONS,
    CAUSES,
    NOT_JUDGED,
    OK,
    Detector,
    Facts,
    Score,
)
from farmhand_collector.capacity.frame import NO_READING, READ_OK, Event, Frame
from farmhand_collector.capacity.roster import Roster
from farmhand_collector.capacity.span import Spans, gathered
from farmhand_collector.catalogue.findings import meanings
from farmhand_collector.report import evidence
from tests.collector.capacity.farm import (
    FACTS,
    FARM,
    HEALTHY,
    SICK,
    Array,
    cards,
    frame,
    fresh_memory,
    scored,
    stories,
)

COMPONENTS = {"compute", "bandwidth", "memory", "link", None}

Check = Callable[[Detector], None]


def random_frames(seed: int, roster: Roster = FARM, count: int = 4) -> list[Frame]:
    """Frames of cards of all sorts: healthy, broken, idle, silent, with values missing."""
    rng = np.random.default_rng(seed)
    n = len(roster)

    def column(value: float) -> Array:
        spoiled: Array = value * rng.choice(
            [1.0, 0.97, 0.5, 1.4, np.nan], n, p=[0.6, 0.2, 0.08, 0.04, 0.08]
        )
        spoiled += rng.choice([0.0, 0.2], n, p=[0.9, 0.1]) * (value == 0)
        return spoiled

    def one(number: int) -> Frame:
        columns: dict[str, Any] = {name: column(value) for name, value in HEALTHY.items()}
        columns["utilization_ratio"] = rng.choice([1.0, 0.1, np.nan], n, p=[0.8, 0.15, 0.05])
        read = rng.choice([READ_OK, NO_READING, 1, 2], n, p=[0.85, 0.05, 0.05, 0.05])
        time_ns = frame(number).start_ns + 5
        events = [
            Event(card, time_ns, "xid", "79", "") for card in np.flatnonzero(read == 2).tolist()
        ]
        return frame(number, roster, read=read, events=events, **columns)

    return [one(number) for number in range(count)]


def reordered(seen: Frame, order: Array) -> Frame:
    """The same frame with its cards in another order."""
    place = {int(card): at for at, card in enumerate(order)}
    return replace(
        seen,
        roster=Roster(seen.roster[card] for card in order),
        read=seen.read[order],
        values={name: column[order] for name, column in seen.values.items()},
        loaded={name: column[order] for name, column in seen.loaded.items()},
        loaded_share=seen.loaded_share[order],
        facts=_picked(seen.facts, order),
        events=tuple(event._replace(card=place[event.card]) for event in seen.events),
        work=seen.work._replace(
            rate=seen.work.rate[order], job=seen.work.job[order], gang=seen.work.gang[order]
        ),
        host=_picked(seen.host, order),
        probe=_picked(seen.probe, order),
        booted=seen.booted[order],
        late=seen.late[order],
    )


def _picked(columns: Mapping[str, Array], order: Array) -> dict[str, Array]:
    return {name: column[order] for name, column in columns.items()}


def assert_same(one: Score, other: Score, order: Array | None = None) -> None:
    """Two scores say the same, the second of cards in another order."""
    chosen: Array = np.arange(len(one.level)) if order is None else order
    np.testing.assert_array_equal(one.level[chosen], other.level)
    assert one.evidence.keys() == other.evidence.keys()
    columns: list[tuple[Array | None, Array | None]]
    columns = [(one.evidence[name], other.evidence[name]) for name in one.evidence]
    columns += [(one.delivered, other.delivered), (one.p_value, other.p_value)]
    for first, second in columns:
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            np.testing.assert_array_equal(first[chosen], second)


def check_order_does_not_matter(detector: Detector) -> None:
    """A card is judged the same wherever it stands on the roster."""
    for seed in range(5):
        frames = random_frames(seed)
        order = np.random.default_rng(seed).permutation(len(FARM))

        straight = scored(detector, frames).scores
        mixed = scored(detector, [reordered(seen, order) for seen in frames]).scores

        for one, other in zip(straight, mixed, strict=True):
            assert_same(one, other, order)


def check_nothing_given_is_not_judged(detector: Detector) -> None:
    """A card of which nothing is heard is neither good nor bad."""
    silent = [frame(number, read=NO_READING) for number in range(3)]

    for score in scored(detector, silent).scores:
        assert set(score.level.tolist()) == {NOT_JUDGED}


def check_missing_values_are_tolerated(detector: Detector) -> None:
    """A card that gives its state and nothing else is not flagged, and no neighbour for it."""
    bare: dict[str, Any] = dict.fromkeys(HEALTHY, np.nan)
    for name in HEALTHY:
        one: dict[str, Any] = {name: np.nan}
        for seen in (frame(**one), frame(**bare), frame(**bare, width_max=np.nan)):
            level = scored(detector, [seen, seen]).scores[-1].level
            assert level.max() <= OK, name


def check_a_farm_of_one_card(detector: Detector) -> None:
    """One card has no peers; it is judged by what needs none, and never wrongly."""
    for score in scored(detector, [frame(number, cards(1)) for number in range(3)]).scores:
        assert len(score.level) == 1
        assert score.level.max() <= OK


def check_new_cards_may_join(detector: Detector) -> None:
    """Cards that join are judged, and what was remembered of the others stays theirs."""
    few, many = cards(12), cards(16)
    before = [frame(number, few) for number in range(2)]

    joined = scored(detector, [*before, *(frame(number, many) for number in range(2, 5))])

    level = joined.scores[-1].level
    assert set(level.tolist()) in ({OK}, {NOT_JUDGED})


def check_memory_is_not_changed_in_place(detector: Detector) -> None:
    """Scoring is pure: the memory, the frame's columns and the facts stay as they are."""
    for seen in (*random_frames(3), stories()[detector.name]()[-1]):
        seen, _ = gathered(seen, Spans())
        memory = fresh_memory(detector, len(seen))
        memory_before, values_before = memory.tobytes(), _bytes(seen)

        with np.errstate(all="ignore"):
            detector.score(seen, memory, FACTS)

        assert memory.tobytes() == memory_before
        assert _bytes(seen) == values_before


def _bytes(seen: Frame) -> list[bytes]:
    columns: list[Array] = [*seen.values.values(), *seen.loaded.values(), *seen.facts.values()]
    return [column.tobytes() for column in [*columns, seen.read, seen.loaded_share]]


def check_scores_are_deterministic(detector: Detector) -> None:
    """The same frames give the same scores and the same memory."""
    frames = random_frames(11)

    one, other = scored(detector, frames), scored(detector, frames)

    assert one.memory.tobytes() == other.memory.tobytes()
    for first, second in zip(one.scores, other.scores, strict=True):
        assert_same(first, second)


def check_healthy_cards_are_never_flagged(detector: Detector) -> None:
    """Whether they work or rest, on partner boards, at the power limit or in P2."""
    for score in scored(
        detector, [frame(number, **healthy) for number, healthy in _healthy()]
    ).scores:
        assert score.level.max() <= OK


def _healthy() -> Sequence[tuple[int, dict[str, Any]]]:
    rng = np.random.default_rng(5)
    n = len(FARM)
    partner = 350.0 * rng.choice([1.0, 1.03], n)
    at_limit = {"power_watts": partner, "power_limit_watts": partner}
    held = at_limit | {"throttle_power_ratio": np.full(n, 0.9)}
    spread = 1700 * (1 + 0.02 * rng.standard_normal(n).clip(-2, 2))
    p2 = 9501 * rng.choice([1.0, 0.97], n)
    days: list[dict[str, Any]] = [{}, held, {"core_clock_mhz": spread}, {"memory_clock_mhz": p2}]
    days.append({"utilization_ratio": np.zeros(n), "power_watts": np.full(n, 20.0)})
    return list(enumerate(days * 4))


def check_the_fault_is_seen(detector: Detector) -> None:
    """A frame that shows its fault is bad for the sick card and for no other."""
    level = scored(detector, stories()[detector.name]()).scores[-1].level

    assert np.flatnonzero(level > OK).tolist() == [SICK]


def check_its_words_are_those_of_the_farm(detector: Detector) -> None:
    """Cause, component and action are of the few that everyone downstream knows."""
    assert detector.cause in CAUSES
    assert detector.component in COMPONENTS
    assert detector.action in ACTIONS
    assert detector.raise_after > 0
    assert detector.clear_after > 0


def check_its_finding_renders_from_its_evidence(detector: Detector) -> None:
    """The catalogue's sentence is filled from what the detector gives, not from the brief."""
    score = scored(detector, stories()[detector.name]()).scores[-1]
    values = {name: float(column[SICK]) for name, column in score.evidence.items()}
    meaning = meanings()[detector.name]

    text = evidence(detector.name, values).text

    assert meaning.steps
    assert "{" not in text
    assert text != meaning.brief or "{" not in meaning.text


def check_facts_may_be_missing(detector: Detector) -> None:
    """A farm of cards that no catalogue knows is judged by what it shows itself."""
    frames = [frame(number) for number in range(3)]

    assert scored(detector, frames, Facts()).scores[-1].level.max() <= OK


def check_shares_are_shares(detector: Detector) -> None:
    """What is delivered lies between nothing and all."""
    for seed in range(5):
        for score in scored(detector, random_frames(seed)).scores:
            if score.delivered is not None:
                given = score.delivered[~np.isnan(score.delivered)]
                assert ((given >= 0) & (given <= 1)).all()
            if score.p_value is not None:
                assert not np.isnan(score.p_value[score.level > OK]).any()


def check_there_is_a_fault_for_it(detector: Detector) -> None:
    """The examples hold a fault for each detector, so that every check here means something."""
    assert detector.name in stories()


ALL_CHECKS: tuple[Check, ...] = tuple(
    function for name, function in list(globals().items()) if name.startswith("check_")
)
