"""The evaluation counts right, and its baselines do what they are said to do."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.reading import Reading
from farmhand_collector.capacity.detector import DEGRADED, WATCH
from farmhand_collector.capacity.roster import CardKey
from tests.bench.agent import ENVIRONMENTS, PROJECT
from tests.evaluate.baselines.baseline import daily_peaks, flags, sustained, threshold
from tests.evaluate.baselines.history import OwnHistory
from tests.evaluate.baselines.outliers import LOCK, score
from tests.evaluate.baselines.peers import PeerZ
from tests.evaluate.baselines.thresholds import Thresholds
from tests.evaluate.features import METRICS, OUTLIER_FEATURES, RELATIVE, THROTTLES, Table
from tests.evaluate.frames import recorded
from tests.evaluate.page import written
from tests.evaluate.real.halves import Half, half
from tests.evaluate.real.labels import Labels
from tests.evaluate.result import Grid, TierResult
from tests.evaluate.scoring import DAY_NS, Episode, History, Share, WideEpisode, card_days
from tests.evaluate.tiers.attribution import RECORDINGS, outcome
from tests.evaluate.tiers.injection import Fault, HeldOut, injected
from tests.evaluate.tiers.simulated import false_episodes, found, play
from tests.evaluate.truth import truth

_MADE = ENVIRONMENTS / "outliers" / "lock"
HAS_PYOD = _MADE.exists() and _MADE.read_bytes() == (PROJECT / LOCK).read_bytes()
MINUTE_NS = 60 * 10**9
ROSTER = tuple(CardKey("s", "", f"h{at // 4}", str(at % 4), f"c{at}", "", "m") for at in range(8))


def history(*episodes: Episode, wide: tuple[WideEpisode, ...] = ()) -> History:
    """A day of eight cards on two hosts."""
    return History(ROSTER, 0, DAY_NS, list(episodes), list(wide))


def episode(
    card: int, begin: int, end: int, level: int = WATCH, *, is_open: bool = False
) -> Episode:
    """From a minute to a minute."""
    begin_ns = begin * MINUTE_NS
    return Episode(card, begin_ns, end * MINUTE_NS, level, "thermal", is_open, {level: begin_ns})


def table(spans: int = 12, **columns: float) -> Table:
    """A table in which eight equal cards are told some values throughout."""
    shape = (spans, len(ROSTER))
    every = {
        name: np.full(shape, columns.get(name, np.nan), np.float32)
        for name in (*METRICS, *RELATIVE, *THROTTLES, "z")
    }
    ends = np.arange(1, spans + 1) * 5 * MINUTE_NS
    return Table(ROSTER, ends, every, np.ones(shape, np.int32), np.zeros(shape, bool))


# --- counting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(5, 5, 0.5655, 1.0), (0, 10, 0.0, 0.2775), (8, 10, 0.4902, 0.9433), (1, 2, 0.0945, 0.9055)],
)
def test_wilson_intervals_are_those_of_the_tables(
    hits: int, of: int, low: float, high: float
) -> None:
    """Five of five leaves a lower bound of 57 %."""
    assert Share(hits, of).interval() == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share(counts: tuple[int, int]) -> None:
    """Whatever was counted."""
    share = Share(*counts)
    low, high = share.interval()
    assert 0 <= low <= share.value <= high <= 1


def test_a_share_of_nothing_says_nothing() -> None:
    """No division, and no number that looks like a result."""
    assert math.isnan(Share(0, 0).value)
    assert Share(0, 0).text() == "-"


def test_a_flag_that_stands_counts_on_each_day() -> None:
    """From noon of the first day to the end of the third."""
    standing = episode(1, 720, 721, is_open=True)
    assert card_days([standing], 3 * DAY_NS - 1) == 3
    assert card_days([episode(1, 10, 20), episode(1, 30, 40)], DAY_NS - 1) == 1


def test_a_card_listed_with_its_faulty_node_mates_is_named() -> None:
    """A wider finding that lists only cards at fault points at each."""
    wide = WideEpisode("node", "h0", (1, 2, 3), None, 0, DAY_NS, DEGRADED, "thermal")
    assert history(wide=(wide,)).pointed_at({0, 4, 5}) == {1, 2, 3}


def test_a_card_listed_with_healthy_ones_is_not_named() -> None:
    """Else naming a whole site would find everything."""
    wide = WideEpisode("node", "h0", (0, 1, 2), None, 0, DAY_NS, DEGRADED, "thermal")
    assert history(wide=(wide,)).pointed_at({0}) == set()


def test_of_a_gang_only_the_card_that_it_waits_for_is_named() -> None:
    """The others are victims."""
    wide = WideEpisode("gang", "job", (0, 1, 2, 3), 2, 0, DAY_NS, DEGRADED, "workload")
    assert history(wide=(wide,)).pointed_at({0, 1, 3}) == {2}


def test_a_flag_from_before_a_fault_counts_only_while_it_stands() -> None:
    """A false alarm an hour earlier has found nothing."""
    said = history(episode(1, 0, 30), episode(1, 90, 120))
    assert said.first_pointed_ns(1, set(), 60 * MINUTE_NS) == 90 * MINUTE_NS
    assert said.first_pointed_ns(1, set(), 130 * MINUTE_NS) is None


def test_cards_in_doubt_are_neither_healthy_nor_faulty() -> None:
    """Labels that the data leave open count neither way."""
    labels = Labels(
        cards={"c1": "thermal"},
        mates=frozenset({"c0"}),
        unclear_cards=frozenset({"c2"}),
        nodes={"h1": "resnet"},
    )
    known = truth(labels, ROSTER)
    assert (known.faulty, known.healthy) == ({1: "thermal"}, {3})
    assert (known.on_slow_nodes, known.healthy_nodes) == ({4, 5, 6, 7}, set())


# --- thresholds --------------------------------------------------------------------------------


def test_a_tuned_threshold_lets_just_so_many_through() -> None:
    """Two false flags are allowed: the third highest must not reach it."""
    worst = np.array([1.0, 5.0, 3.0, 4.0, -np.inf])
    assert (worst >= threshold(worst, 2)).sum() == 2
    assert (worst >= threshold(worst, 0)).sum() == 0


def test_a_score_counts_when_it_holds() -> None:
    """Three windows in a row, or one reading of a run as long as three."""
    scores = np.array([[9.0, 9.0], [9.0, 1.0], [9.0, 9.0]])
    windows = np.array([[1, 3], [1, 1], [1, 1]], np.int32)
    held = sustained(scores, windows)
    assert held[:, 0].tolist() == [-np.inf, -np.inf, 9.0]
    assert held[:, 1].tolist() == [9.0, 1.0, 1.0]


def test_no_score_neither_raises_nor_clears() -> None:
    """A card that rests keeps what was said of it."""
    scores = np.full((12, 8), np.nan)
    scores[[2, 9], 3] = 5.0
    said = flags(table(), scores, 4.0)
    assert [(e.card, e.begin_ns, e.is_open) for e in said.episodes] == [(3, 15 * MINUTE_NS, True)]


def test_the_worst_of_each_day_is_kept() -> None:
    """One number for a card and a day."""
    scores = np.array([[1.0], [3.0], [2.0]])
    ends = np.array([DAY_NS // 2, DAY_NS, DAY_NS + 1])
    assert daily_peaks(scores, ends).tolist() == [3.0, 2.0]


# --- baselines ---------------------------------------------------------------------------------


def test_fixed_thresholds_flag_what_reaches_a_limit() -> None:
    """Eighty degrees of the core; a lost card needs no limit."""
    told = table(core_temperature_celsius=70.0)
    told.columns["core_temperature_celsius"][:, 2] = 84.0
    told.broken[5, 4] = True
    (scores,) = Thresholds().scores([told], [])
    assert flags(told, scores, 1.0).flagged() == {2, 4}


def test_peer_z_flags_the_card_that_differs_for_long_enough() -> None:
    """One deviating window is not enough."""
    told = table(core_clock_mhz=1500.0, z=0.5)
    told.columns["z"][3:, 6] = 4.0
    told.columns["z"][3, 5] = 9.0
    (scores,) = PeerZ().scores([told], [])
    assert flags(told, sustained(scores, told.windows), 3.5).flagged() == {6}


def test_own_history_flags_the_card_that_changes() -> None:
    """A clock that falls by 5 % is five floors of the spread; another never was higher."""
    told = table(spans=20, core_clock_mhz=1500.0)
    told.columns["core_clock_mhz"][:, 1] = 1300.0
    told.columns["core_clock_mhz"][10:, 2] *= 0.95
    (scores,) = OwnHistory().scores([told], [])
    assert flags(told, scores, 10.0).flagged() == {2}


@pytest.mark.skipif(not HAS_PYOD, reason="PyOD's environment is made by `make evaluate`")
def test_outlier_detectors_score_outliers_high() -> None:
    """Clock and power far below those of others, in ten of 320 rows."""
    dice = np.random.default_rng(1)
    told = table(spans=40, core_clock_mhz=1500.0)
    for metric in ("core_clock_mhz.relative", "power_watts.relative"):
        told.columns[metric][:] = dice.normal(0.0, 0.01, (40, 8))
        told.columns[metric][30:, 3] -= 0.3
    rows = told.rows(OUTLIER_FEATURES, told.fresh)
    for scores in score(["ECOD", "IForest"], rows, rows):
        odd = rows[:, 0] < -0.2
        assert scores[odd].mean() > np.quantile(scores, 0.95)


# --- simulated farms ---------------------------------------------------------------------------


def test_a_lost_card_of_a_simulated_farm_is_found_with_its_cause() -> None:
    """It costs all that the card gives, and is told within two frames."""
    played = play(24, 4, "lost", 1800.0, 30.0, harmless="none", with_table=False)
    (one,) = found(played, played.history)
    assert one.cost == pytest.approx(1.0)
    assert one.is_right
    assert one.delay_seconds is not None
    assert one.delay_seconds <= 90.0


def test_a_flag_on_a_sound_card_of_a_simulated_farm_is_false() -> None:
    """And one on the faulty card is, when it comes before the fault."""
    played = play(24, 4, "lost", 600.0, 30.0, harmless="none", with_table=False)
    (fault,) = played.farm.faults
    faulty, sound = fault.index, (fault.index + 1) % 24
    since = int(fault.since * 1e9)
    said = [
        Episode(at, begin_ns, begin_ns + 1, WATCH, "link", False, {WATCH: begin_ns})
        for at, begin_ns in ((sound, since + 1), (faulty, since - 1), (faulty, since + 1))
    ]
    false = false_episodes(played, History(ROSTER, 0, since, said))
    assert [(e.card, e.begin_ns) for e in false] == [(sound, since + 1), (faulty, since - 1)]


# --- injection and pages -----------------------------------------------------------------------


def reading(card: str, measurement: str, time_ns: int, **fields: float | str) -> Reading:
    """Of a card that is a host of its own."""
    return Reading(measurement, {"host": card, "card": card}, fields, time_ns)


def test_a_fault_goes_into_held_out_runs_and_those_that_wait_for_them() -> None:
    """Nothing else is touched: neither other days nor other groups."""
    day = next(d for d in range(1000, 1100) if half("a", d * DAY_NS) is Half.REPORT)
    other = next(d for d in range(1000, 1100) if half("a", d * DAY_NS) is not Half.REPORT)
    readings = [
        reading("a", "card", day * DAY_NS, core_clock_mhz=1000.0),
        reading("a", "work", day * DAY_NS, rate=10.0, gang="g"),
        reading("b", "work", day * DAY_NS, rate=10.0, gang="g"),
        reading("b", "card", day * DAY_NS, core_clock_mhz=1000.0),
        reading("c", "work", day * DAY_NS, rate=10.0, gang="h"),
        reading("a", "card", other * DAY_NS, core_clock_mhz=1000.0),
    ]
    faults = {"a": Fault("clock", 0.1)}
    worse = [r.fields for r in injected(readings, faults, HeldOut("resnet", 0))]
    numbers = [fields.get("core_clock_mhz", fields.get("rate")) for fields in worse]
    assert numbers == pytest.approx([900.0, 9.0, 9.0, 1000.0, 10.0, 1000.0])


def test_only_the_tables_of_tiers_that_ran_are_written() -> None:
    """Running one tier keeps the results of the others."""
    page = "a\n<!-- T1 begin -->old<!-- T1 end -->\nb\n<!-- T2 begin -->kept<!-- T2 end -->\n"
    result = TierResult("T1", "new", [Grid("t", ["x", "y"], [["a|b", "1"]])])
    done = written(page, [result])
    assert "old" not in done
    assert "kept" in done
    assert "| a\\|b | 1 |" in done
    assert written(done, [result]) == done


def test_a_page_without_markers_is_refused() -> None:
    """Rather than losing a result unseen."""
    with pytest.raises(ValueError, match="T1"):
        written("no markers", [TierResult("T1", "new")])


def test_the_page_of_the_project_has_a_place_for_each_tier() -> None:
    """Markers that somebody removed would be noticed only after a long run."""
    page = Path(__file__).parents[2] / "docs" / "detection.md"
    tiers = [TierResult(name, "t") for name in ("T1", "T2", "T3", "T4")]
    assert written(page.read_text(encoding="utf-8"), tiers)


def test_nothing_recorded_gives_no_frame() -> None:
    """An empty file is no error of the framing."""
    assert list(recorded([])) == []


# --- the product, on public data ---------------------------------------------------------------

FOUND = {
    ("longhorn", "resnet"): {"c007-12-3", "c008-8-1", "c008-8-2", "c008-8-3"},
    ("frontera", "bert"): {"c198-21", "c198-62"},
    ("frontera", "resnet"): {"c196-91", "c196-112", "c197-91", "c198-32", "c198-52"},
    ("lonestar", "resnet"): {"c316-8", "c317-12"},
    ("bytedance", "AR"): {"AR-0"},
    ("ascend", "npu_smi"): {"worker-0-npu-0", "worker-0-npu-2"},
}
"""Cards and nodes at fault; in all other recordings there is none."""


@pytest.mark.parametrize(("name", "part"), RECORDINGS)
def test_public_data_are_attributed_to_whom_it_is(name: str, part: str) -> None:
    """Every labelled card as a card, every labelled node as a node, and nobody else."""
    said = outcome(name, part)
    assert said.cards | said.nodes == FOUND.get((name, part), set())
    assert said.false_cards | said.false_nodes == set()
    assert said.is_right
