"""Amounts over cards: what is expected, given, missing and not known, against a naive twin."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from farmhand_collector.capacity.attribution import WideFinding
from farmhand_collector.capacity.detector import (
    CAUSES,
    EXPECTED,
    NO_MEMORY,
    OK,
    UNKNOWN,
    Detector,
    Facts,
    nothing_judged,
)
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.capacity.frame import NO_READING, READ_OK, Frame
from farmhand_collector.capacity.rollup import (
    COMPONENTS,
    Capacity,
    LastHeard,
    Rolled,
    capacity_of,
    gang_speeds,
    gang_without_slowest,
    rolled,
    what_if_repaired,
)
from farmhand_collector.capacity.roster import Roster
from farmhand_collector.capacity.step import Raised, Verdicts
from tests.collector.capacity.farm import at, cards, frame, working

TERA, GIGA = 1e12, 1e9
RTX_3090 = {
    "fp16_flops": 71 * TERA,
    "fp32_flops": 35.6 * TERA,
    "memory_bandwidth_bytes_per_second": 936 * GIGA,
    "memory_bytes": 24 * 2**30,
    "link_bytes_per_second": 31.5 * GIGA,
}
COMPUTE, BANDWIDTH, MEMORY, LINK = range(4)

Array = NDArray[Any]


def facts_of(n: int, **changed: Array | float) -> Facts:
    """What cards are made to give: all are RTX 3090 except for what is changed."""
    known = dict.fromkeys(EXPECTED, math.nan) | RTX_3090 | changed
    return Facts(expected={name: np.broadcast_to(v, n).astype(float) for name, v in known.items()})


def finding(
    component: str | None, delivered: float, cause: str = "thermal", name: str = "some"
) -> Raised:
    """One raised finding."""
    detector = Detector(
        *(name, cause, component, "reseat", 1, 1, 1, NO_MEMORY),
        score=lambda framed, memory, _: (nothing_judged(len(framed)), memory),
    )
    return Raised(detector, 2, 0, delivered, 1.0, {}, cause, "reseat")


def verdicts_of(
    n: int,
    findings: Mapping[int, list[Raised]] | None = None,
    wide: Sequence[WideFinding] = (),
    unknown: Sequence[int] = (),
) -> Verdicts:
    """Verdicts in which all cards are ok except for what is said."""
    times = np.zeros(n, np.int64)
    explained: dict[int, list[tuple[WideFinding, Raised]]] = {}
    for one in wide:
        for card, shown in one.shown:
            explained.setdefault(card, []).append((one, shown))
    state = at(list(unknown), UNKNOWN, OK, n).astype(np.int8)
    return Verdicts(
        *(0, state, times, times, np.zeros(n, bool)),
        *(dict(findings or {}), list(wide), explained),
    )


def capacity(
    framed: Frame, verdicts: Verdicts | None = None, facts: Facts | None = None
) -> Capacity:
    """Capacity after a frame, the first that is heard."""
    n = len(framed)
    heard = LastHeard.nothing().after(framed)
    return capacity_of(framed, facts or facts_of(n), verdicts or verdicts_of(n), heard)


def farm_of(n: int, **given: Any) -> Frame:
    """A frame of healthy cards whose boards are made for 350 W, the limit that they have."""
    facts = {"power_limit_default_watts": 350.0, **given.pop("facts", {})}
    return frame(0, cards(n), facts=facts, **given)


def whole(amounts: Capacity) -> Rolled:
    """All cards added up."""
    return rolled(amounts, np.zeros(len(amounts.judged), np.int64))


class TestExpected:
    """What cards should give, at default limits and at those in force."""

    def test_a_card_is_expected_to_give_what_its_model_is_made_for(self) -> None:
        """In the order of the components."""
        amounts = capacity(farm_of(2))

        assert amounts.in_force.tolist() == [[71e12, 936e9, 24 * 2**30, 31.5e9]] * 2
        assert not amounts.by_choice.any()

    def test_a_lowered_limit_takes_compute_by_the_cube_root(self) -> None:
        """And is a choice: nothing is missing. Memory hardly feels it."""
        amounts = capacity(farm_of(1, power_limit_watts=175.0))

        assert amounts.in_force[0, COMPUTE] == pytest.approx(71e12 * 0.5 ** (1 / 3))
        assert amounts.by_choice[0, COMPUTE] == pytest.approx(71e12 * (1 - 0.5 ** (1 / 3)))
        assert amounts.in_force[0, BANDWIDTH] == 936e9
        assert not amounts.missing.any()

    @pytest.mark.parametrize(
        ("limit", "default"),
        [(400.0, 350.0), (math.nan, 350.0), (300.0, math.nan), (0.0, 350.0), (300.0, 0.0)],
    )
    def test_no_limit_makes_more_of_a_card_or_nothing_of_it(
        self, limit: float, default: float
    ) -> None:
        """One that was raised, or is not known, leaves what the model is made for."""
        told = {"power_limit_default_watts": default}

        amounts = capacity(farm_of(1, power_limit_watts=limit, facts=told))

        assert amounts.in_force[0, COMPUTE] == 71e12

    def test_the_last_limit_holds_while_a_card_is_silent(self) -> None:
        """A lost card does not get its default limit back."""
        first, second = farm_of(2, power_limit_watts=175.0), farm_of(3, read=NO_READING)
        heard = LastHeard.nothing().after(first).after(second)

        assert heard.limit_watts.tolist() == pytest.approx([175, 175, math.nan], nan_ok=True)

    def test_a_card_without_a_tensor_figure_counts_by_fp32_and_is_marked(self) -> None:
        """The two are never mixed silently."""
        facts = facts_of(2, fp16_flops=np.array([math.nan, 71e12]))

        amounts = capacity(farm_of(2), facts=facts)

        assert amounts.in_force[:, COMPUTE].tolist() == [35.6e12, 71e12]
        assert whole(amounts).by_fp32.tolist() == [1]

    @pytest.mark.parametrize("told", [{"mig_instances": 2.0}, {"mig_enabled": 1.0}])
    def test_compute_of_a_card_cut_by_mig_is_not_known(self, told: Mapping[str, float]) -> None:
        """Its memory is; and its model is."""
        sums = whole(capacity(farm_of(1, facts=told)))

        assert sums.known.tolist() == [[0, 1, 1, 1]]
        assert sums.unknown_models.tolist() == [0]

    def test_cards_of_unknown_model_are_counted_and_add_nothing(self) -> None:
        """Not as zero: what is expected of the farm is then not known in full."""
        unknown = np.array([math.nan, 1.0])
        facts = facts_of(2, **{name: value * unknown for name, value in RTX_3090.items()})

        sums = whole(capacity(farm_of(2), facts=facts))

        assert (sums.cards.tolist(), sums.unknown_models.tolist()) == ([2], [1])
        assert sums.expected[0, COMPUTE] == 71e12
        assert sums.known.tolist() == [[1, 1, 1, 1]]


class TestDelivered:
    """What findings leave of it."""

    def test_the_worst_share_of_a_component_counts_and_the_first_cause(self) -> None:
        """Two findings about compute do not multiply, and say nothing of memory."""
        found = [finding("compute", 0.8, "thermal"), finding("compute", 0.6, "compute")]

        sums = whole(capacity(farm_of(1), verdicts_of(1, {0: found})))

        assert sums.delivered[0, COMPUTE] == pytest.approx(0.6 * 71e12)
        assert sums.delivered[0, BANDWIDTH] == 936e9
        assert causes(sums) == {("thermal", COMPUTE): pytest.approx(0.4 * 71e12)}

    def test_a_finding_that_tells_no_share_explains_what_another_one_takes(self) -> None:
        """Heat is why the clock is low."""
        found = [finding("compute", math.nan, "thermal"), finding("compute", 0.6, "compute")]

        sums = whole(capacity(farm_of(1), verdicts_of(1, {0: found})))

        assert causes(sums) == {("thermal", COMPUTE): pytest.approx(0.4 * 71e12)}

    def test_a_finding_of_no_component_takes_the_whole_card(self) -> None:
        """A lost card gives nothing of anything."""
        lost = {0: [finding(None, 0.0, "unreachable")]}

        sums = whole(capacity(farm_of(2), verdicts_of(2, lost)))

        assert (sums.delivered * 2 == sums.expected).all()
        assert {cause for cause, _ in causes(sums)} == {"unreachable"}
        assert len(causes(sums)) == 4

    def test_what_something_wider_explains_is_missing_too(self) -> None:
        """A hot rack costs what it costs, whoever is to blame."""
        heat = finding("compute", 0.9, "thermal")
        rack = WideFinding("rack", "barn", "a", tuple((card, heat) for card in range(3)))

        sums = whole(capacity(farm_of(4), verdicts_of(4, wide=[rack])))

        assert causes(sums) == {("thermal", COMPUTE): pytest.approx(3 * 0.1 * 71e12)}

    def test_what_a_job_is_slow_by_is_its_workload(self) -> None:
        """The cards are not blamed."""
        job = WideFinding("job", "barn", "llm", ((0, finding("compute", 0.9, "compute")),))

        sums = whole(capacity(farm_of(1), verdicts_of(1, wide=[job])))

        assert [cause for cause, _ in causes(sums)] == ["workload"]

    def test_a_share_that_is_not_known_or_above_one_takes_nothing(self) -> None:
        """There is something wrong, but nothing is known to be missing."""
        found = {0: [finding("compute", math.nan)], 1: [finding("link", 1.2)]}

        sums = whole(capacity(farm_of(2), verdicts_of(2, found)))

        assert (sums.delivered == sums.expected).all()
        assert causes(sums) == {}

    def test_a_card_that_is_not_judged_is_neither_delivering_nor_missing(self) -> None:
        """Whatever was found about it before."""
        found = {0: [finding("compute", 0.5)]}

        sums = whole(capacity(farm_of(2), verdicts_of(2, found, unknown=[0])))

        assert sums.judged.tolist() == [1]
        assert sums.unjudged.tolist() == sums.delivered.tolist()
        assert not sums.missing.any()

    def test_every_detector_speaks_of_a_component_that_is_added_up(self) -> None:
        """Or of the whole card."""
        assert {detector.component for detector in all_detectors()} <= {*COMPONENTS, None}


def causes(sums: Rolled) -> dict[tuple[str, int], Any]:
    """What is missing of the first group, by cause and component."""
    lost = sums.missing_by_cause[0]
    return {(CAUSES[c], k): float(lost[c, k]) for c, k in zip(*np.nonzero(lost), strict=True)}


class TestRolled:
    """Sums over groups."""

    def test_an_empty_farm_has_no_groups(self) -> None:
        """And makes no trouble."""
        amounts = capacity(frame(0, Roster()))

        sums = rolled(amounts, np.empty(0, np.int64))

        assert sums.cards.tolist() == []
        assert sums.missing_by_cause.shape == (0, len(CAUSES), 4)

    def test_cards_of_no_group_are_left_out(self) -> None:
        """A row that is no longer spoken of adds nothing."""
        sums = rolled(capacity(farm_of(3)), np.array([-1, 0, -5]))

        assert (sums.cards.tolist(), sums.first.tolist()) == ([1], [1])
        assert sums.expected[0, COMPUTE] == 71e12

    def test_a_code_that_no_card_has_is_an_empty_group(self) -> None:
        """Its first card is none of the roster."""
        sums = rolled(capacity(farm_of(2)), np.array([0, 2]))

        assert sums.cards.tolist() == [1, 0, 1]
        assert sums.first.tolist() == [0, 2, 1]
        assert not sums.expected[1].any()

    @given(st.data())
    def test_sums_are_those_of_a_card_by_card_count(self, data: st.DataObject) -> None:
        """Whatever is known, judged, missing, and however cards are grouped."""
        n = data.draw(st.integers(1, 12))
        some = st.lists(st.sampled_from([math.nan, 0.0, 1.0, 70.0]), min_size=n, max_size=n)
        facts = facts_of(n, **{name: np.array(data.draw(some)) for name in RTX_3090})
        shares = st.sampled_from([math.nan, 0.0, 0.3, 0.9, 1.0])
        raised = st.builds(
            finding, st.sampled_from([*COMPONENTS, None]), shares, st.sampled_from(CAUSES)
        )
        found = data.draw(st.dictionaries(st.integers(0, n - 1), st.lists(raised, max_size=3)))
        unknown = data.draw(st.sets(st.integers(0, n - 1)))
        codes = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n)))
        amounts = capacity(farm_of(n), verdicts_of(n, found, unknown=sorted(unknown)), facts)

        sums = rolled(amounts, codes)

        assert len(sums.cards) == codes.max() + 1
        for group in range(len(sums.cards)):
            members = [card for card in range(n) if codes[card] == group]
            for k, component in enumerate(COMPONENTS):
                twin = naive(members, k, component, facts, found, unknown)
                told = (sums.expected, sums.delivered, sums.missing, sums.unjudged)
                assert [float(each[group, k]) for each in told] == pytest.approx(twin)
                by_cause = sums.missing_by_cause[group, :, k].sum()
                assert by_cause == pytest.approx(sums.missing[group, k])
            assert sums.judged[group] == len([card for card in members if card not in unknown])


def naive(
    members: Sequence[int],
    number: int,
    component: str,
    facts: Facts,
    found: Mapping[int, list[Raised]],
    unknown: set[int],
) -> list[float]:
    """Expected, delivered, missing and unjudged of one component, card by card."""
    names = list(RTX_3090)
    columns = [["fp16_flops", "fp32_flops"], *([name] for name in names[2:])][number]
    expected = delivered = missing = unjudged = 0.0
    for card in members:
        figures = [float(facts.expected[name][card]) for name in columns]
        figure = next((each for each in figures if not math.isnan(each)), None)
        if figure is None:
            continue
        expected += figure
        if card in unknown:
            unjudged += figure
            continue
        share = 1.0
        for raised in found.get(card, []):
            about = raised.detector.component in (None, component)
            if about and not math.isnan(raised.delivered):
                share = min(share, raised.delivered)
        delivered += figure * share
        missing += figure * (1 - share)
    return [expected, delivered, missing, unjudged]


class TestWhatIf:
    """What repairs bring back."""

    def test_a_repaired_card_gives_all_that_it_should(self) -> None:
        """At the limits in force; the others stay as they are."""
        found = {0: [finding("compute", 0.5)], 1: [finding("link", 0.25)], 2: [finding(None, 0.0)]}
        amounts = capacity(farm_of(4), verdicts_of(4, found))

        assert what_if_repaired(amounts, [0, 1]).tolist() == [71e12 / 2, 0, 0, 31.5e9 * 0.75]
        assert what_if_repaired(amounts, [3]).tolist() == [0, 0, 0, 0]
        assert what_if_repaired(amounts, []).tolist() == [0, 0, 0, 0]

    def test_nothing_is_known_of_a_card_that_is_not_judged(self) -> None:
        """So nothing is promised."""
        amounts = capacity(farm_of(1), verdicts_of(1, unknown=[0]))

        assert what_if_repaired(amounts, [0]).tolist() == [0, 0, 0, 0]

    def gang(self, *own: tuple[int, float]) -> Capacity:
        """Four cards that wait for the first, some of which have troubles of their own."""
        slow = finding("compute", 0.6, "compute", "work_rate")
        shown = tuple((card, slow) for card in range(4))
        found = {card: [finding("compute", share, "thermal")] for card, share in own}
        gang = WideFinding("gang", "barn", "llm", shown, named=0)
        return capacity(farm_of(5), verdicts_of(5, found, [gang]))

    def test_a_gang_comes_back_with_the_card_that_it_waits_for(self) -> None:
        """Repairing one board frees four."""
        amounts = self.gang((0, 0.65))

        assert what_if_repaired(amounts, [0])[COMPUTE] == pytest.approx(4 * 0.4 * 71e12)
        assert what_if_repaired(amounts, [1])[COMPUTE] == pytest.approx(0.4 * 71e12)

    def test_a_freed_gang_waits_for_the_next_slowest(self) -> None:
        """What is repaired goes at full pace by itself, the others at that of the slowest left."""
        amounts = self.gang((0, 0.65), (2, 0.8))

        assert what_if_repaired(amounts, [0])[COMPUTE] == pytest.approx(
            (0.4 + 3 * (0.8 - 0.6)) * 71e12
        )

    def test_what_waiting_costs_is_workload_and_no_speed_of_a_member(self) -> None:
        """The named card's trouble is its own."""
        amounts = self.gang((0, 0.65), (1, math.nan))

        assert set(causes(whole(amounts))) == {("thermal", COMPUTE), ("workload", COMPUTE)}
        assert causes(whole(amounts))["workload", COMPUTE] == pytest.approx(3 * 0.4 * 71e12)
        assert gang_speeds(amounts, np.arange(4)).tolist() == pytest.approx(
            [0.65 * 71e12, *[71e12] * 3]
        )


class TestGang:
    """Lock step: all go as fast as the slowest."""

    @pytest.mark.parametrize(
        ("speeds", "pace"),
        [
            ([], (0, 0, 0, 0)),
            ([7.0], (7, 0, 0, 7)),
            ([10.0, 4.0, 10.0], (12, 20, 1, 20)),
            ([9.0, 10.0, 10.0], (27, 20, 0, 27)),
            ([1.0, 1.0, 10.0, 10.0], (4, 3, 2, 20)),
            ([math.nan, 5.0, 6.0], (10, 6, 0, 10)),
        ],
    )
    def test_leaving_out_the_slowest_pays_when_it_holds_up_enough(
        self, speeds: list[float], pace: tuple[float, ...]
    ) -> None:
        """Now, without the slowest, how many to leave out at best, and what that gives."""
        assert gang_without_slowest(np.array(speeds)) == pace

    @given(st.lists(st.floats(0, 1e15), min_size=1, max_size=12))
    def test_the_best_is_the_best_of_all_ways_to_leave_out_the_slowest(
        self, speeds: list[float]
    ) -> None:
        """Against trying each."""
        ordered = sorted(speeds)
        ways = [min(ordered[k:]) * len(ordered[k:]) for k in range(len(ordered))]

        pace = gang_without_slowest(np.array(speeds))

        assert (pace.now, pace.best) == (ways[0], max(ways))
        assert ways[pace.left_out] == pace.best

    def test_members_are_known_by_the_name_of_their_gang(self) -> None:
        """Also while no report comes; one that takes up other work has left."""
        first = frame(0, cards(4), work=working(1.0, gang=np.array([7, 7, 7, 8]), n=4))
        silent = frame(1, cards(4), read=READ_OK)
        left = frame(2, cards(4), work=working(1.0, job=np.array([0, 0, 2, 0]), n=4))

        heard = LastHeard.nothing().after(first).after(silent).after(left)

        assert heard.members("name 7").tolist() == [0, 1]
        assert heard.members("name 8").tolist() == [3]
        assert heard.members("llm").tolist() == heard.members("").tolist() == []
