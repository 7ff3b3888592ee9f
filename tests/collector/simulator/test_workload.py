"""What the farm computes: gangs, bursts, starved jobs, and who tells of it."""

from collections import defaultdict

import numpy as np
import pytest

from farmhand_collector.simulator import Farm
from farmhand_collector.simulator.fleet import Profile
from farmhand_collector.simulator.workload import JOB_KINDS
from tests.collector.simulator.play import START, Played, play


@pytest.fixture(scope="module")
def busy() -> Played:
    """Four minutes of a farm on which every job reports."""
    return play(Farm(400, 5, "none", START, reports_share=1.0), 240.0)


def gangs(played: Played) -> dict[str, dict[str, set[str]]]:
    """Hosts and jobs by gang."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: {"hosts": set(), "jobs": set()})
    for reading in played.of("work"):
        if "gang" in reading.fields:
            told = found[str(reading.fields["gang"])]
            told["hosts"].add(reading.tags["host"])
            told["jobs"].add(str(reading.fields["job"]))
    return found


def test_some_gangs_span_nodes(busy: Played) -> None:
    """Most trainings stay on one node, some go in lock step over two or three."""
    sizes = [len(told["hosts"]) for told in gangs(busy).values()]
    assert sizes.count(1) > len(sizes) / 2
    assert {2, 3} & set(sizes)
    assert max(sizes) <= 3


def test_a_gang_does_one_job(busy: Played) -> None:
    """All of its members name the same kind of work."""
    assert all(len(told["jobs"]) == 1 for told in gangs(busy).values())


def test_the_slowest_holds_a_gang_over_nodes() -> None:
    """A slow card on one node shows in the rates of the gang's other nodes."""
    farm, twin = (Farm(400, 5, "none", START, harmless=h) for h in ("none", "none"))
    windows, twins = farm.windows(), twin.windows()
    first = next(windows)
    next(twins)
    leader = first.assignment.leader
    wide = [n for n in np.flatnonzero(leader != np.arange(len(leader))) if first.rates.any()]
    follower = int(wide[0])
    slow, other = farm.fleet.nodes[follower], farm.fleet.nodes[int(leader[follower])]
    trains = JOB_KINDS[int(first.assignment.job[follower])].trains
    farm.simulation.effects.compute_ratio[slow.first : slow.first + slow.size] = 0.5
    rates, usual = next(windows).rates, next(twins).rates
    there = slice(other.first, other.first + other.size)
    assert trains
    working = usual[there] > 0
    assert np.all(rates[there][working] < 0.8 * usual[there][working])


def test_jobs_that_do_not_report_are_silent() -> None:
    """Cards work, and no `work` line says so."""
    told = play(Farm(48, 5, "none", START, reports_share=0.0), 120.0)
    assert told.of("work") == []
    assert any(float(r.fields.get("utilization_ratio", 0.0)) > 0.9 for r in told.of("card"))


def test_starved_trainings_use_their_cards_little() -> None:
    """They wait for data: training jobs at a third to two thirds of the usual use."""
    farm = Farm(600, 5, "none", START)
    window = next(farm.windows())
    starved = np.flatnonzero(window.assignment.starved & (window.assignment.job >= 0))
    assert len(starved)
    for node in starved:
        place = farm.fleet.nodes[int(node)]
        assert place.profile is Profile.MIXED
        assert JOB_KINDS[int(window.assignment.job[node])].trains
        use = window.fields["utilization_ratio"][place.first : place.first + place.size]
        assert np.all(use < 0.7)


def test_serving_is_bursty_and_training_is_steady() -> None:
    """The use of a serving card wanders over minutes."""
    farm = Farm(300, 5, "none", START)
    windows = [window for _, window in zip(range(90), farm.windows(), strict=False)]
    use = np.array([window.fields["utilization_ratio"] for window in windows])
    busy = np.array([window.busy for window in windows]).min(axis=0) == 1.0
    job = windows[0].assignment.job[[card.node for card in farm.fleet.cards]]
    serves = np.array([at >= 0 and not JOB_KINDS[int(at)].trains for at in job])
    middle = np.median(use, axis=0)
    spread = np.percentile(use, 84, axis=0) - np.percentile(use, 16, axis=0)
    assert np.median(spread[busy & serves]) > 0.1
    assert np.median(spread[busy & ~serves & (middle > 0.9)]) < 0.03


def test_cards_that_wait_for_a_slow_one_draw_less() -> None:
    """With gang drag: the same use and clock at less power, on the mates of a slow card alone."""
    pair = [
        Farm(300, 5, "slow_compute", START, onset="sudden", gang_drag=drag)
        for drag in (False, True)
    ]
    (fault,) = pair[0].faults
    node = pair[0].fleet.nodes[pair[0].fleet.cards[fault.index].node]
    mates = [at for at in node.card_range if at != fault.index]
    free, waiting = ([next(farm.windows()) for _ in range(150)][-1].fields for farm in pair)
    works = free["utilization_ratio"][mates] > 0.9
    assert works.any()
    power = (waiting["power_watts"] / free["power_watts"])[mates][works]
    assert np.all(power < 0.99)
    use = waiting["utilization_ratio"] == free["utilization_ratio"]
    assert np.all(use[mates])
