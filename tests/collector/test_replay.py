"""Judging recordings: any cadence, with gaps, in whatever order, or not readable at all."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from farmhand_agent.reading import Reading, to_line
from farmhand_agent.settings import ConfigError
from farmhand_collector import nagios
from farmhand_collector.block import block_of
from farmhand_collector.replay import cadence_ns, frame_length_ns, judge_files
from farmhand_collector.wire import CardVerdict, FarmState
from tests.collector.farms import START, gone, healthy, simulated, times

HOURS = 3600.0
HOT = {"throttle_thermal_ratio": 0.6, "core_clock_mhz": 1640.0}


def recorded(path: Path, readings: Iterable[Reading]) -> Path:
    """A file of readings in line protocol."""
    path.write_text("".join(f"{to_line(reading)}\n" for reading in readings))
    return path


def judged(path: Path, readings: Iterable[Reading]) -> FarmState:
    """The farm's state as of a recording."""
    return judge_files([recorded(path, readings)])[0]


def by_card(state: FarmState) -> dict[str, CardVerdict]:
    """Verdicts by identity."""
    return {verdict.card: verdict for verdict in state.cards}


def farm(every: float, hours: float = 1.0) -> list[Reading]:
    """Eight cards; the second is hot, the sixth is gone for the last quarter of the time."""
    end = hours * HOURS
    readings = []
    for at in times(end, every):
        for card in range(8):
            if card == 5 and at > 0.75 * end:
                readings.append(gone(card, at))
            else:
                readings.append(healthy(card, at, **(HOT if card == 1 else {})))
    return readings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where to record."""
    return tmp_path / "farm.lp"


@pytest.mark.parametrize("every", [1.0, 10.0, 60.0, 300.0])
def test_recordings_of_any_cadence_are_judged(path: Path, every: float) -> None:
    """From each second to every five minutes: the same verdicts."""
    hours = {1.0: 0.5, 10.0: 1.0}.get(every, 2.0)

    verdicts = by_card(judged(path, farm(every, hours)))

    assert {card: verdict.state for card, verdict in verdicts.items()} == {
        **{f"GPU-{card}": "ok" for card in range(8)},
        "GPU-1": "degraded",
        "GPU-5": "lost",
    }
    assert verdicts["GPU-1"].cause == "thermal"
    assert verdicts["GPU-5"].cause == "unreachable"


def test_a_gap_in_the_recording_changes_nothing(path: Path) -> None:
    """The recorder was off for a quarter of an hour."""
    readings = [r for r in farm(10.0) if not 900 < r.time_ns / 1e9 - START < 1800]

    verdicts = by_card(judged(path, readings))

    assert verdicts["GPU-1"].state == "degraded"
    assert verdicts["GPU-5"].state == "lost"
    assert verdicts["GPU-0"].state == "ok"


def test_each_card_is_judged_as_of_its_own_last_window(path: Path) -> None:
    """A node that was recorded for half of the time only is not unknown."""
    readings = [
        r for r in farm(10.0) if r.tags["host"] == "node-0" or r.time_ns / 1e9 < START + 1800
    ]

    verdicts = by_card(judged(path, readings))

    assert verdicts["GPU-4"].state == "ok"
    assert verdicts["GPU-1"].state == "degraded"


def test_capacity_is_that_of_each_cards_own_last_window(path: Path) -> None:
    """A slow card whose recording ends early is missing all the same, and counts as judged."""
    slow = {"core_clock_mhz": 0.75 * 1700.0}
    readings = [healthy(0, at, **slow) for at in times(1800.0, 10.0)]
    readings += [healthy(card, at) for at in times(3600.0, 10.0) for card in range(1, 8)]

    capacity = judged(path, sorted(readings, key=lambda reading: reading.time_ns)).capacity

    assert capacity is not None
    assert (capacity.cards, capacity.judged_ratio) == (8, 1.0)
    assert capacity.compute.expected is not None
    assert capacity.compute.missing_by_cause == {
        "compute": pytest.approx(capacity.compute.expected * 0.25 / 8)
    }


def test_a_node_finding_is_told_as_of_the_nodes_last_window(path: Path) -> None:
    """Its cards point to it, so it must be there although the node fell silent later."""
    readings = [
        healthy(card, at, **(HOT if card < 4 else {}))
        for at in times(3600, 10.0)
        for card in range(8)
        if card >= 4 or at < 1800
    ]

    state = judged(path, readings)

    (node,) = state.findings
    assert (node.name, node.cause, len(node.cards)) == ("node-0", "thermal", 4)
    assert by_card(state)["GPU-2"].evidence[0].text == "Explained by a finding about node node-0."


def test_files_of_the_same_time_are_read_side_by_side(tmp_path: Path) -> None:
    """A file per node; in whatever order they are named."""
    readings = farm(10.0)
    files = [
        recorded(tmp_path / host, [r for r in readings if r.tags["host"] == host])
        for host in ("node-0", "node-1")
    ]

    one, other = judge_files(files)[0], judge_files(files[::-1])[0]

    assert by_card(one)["GPU-5"].state == by_card(other)["GPU-5"].state == "lost"
    assert by_card(one)["GPU-1"].state == by_card(other)["GPU-1"].state == "degraded"


@pytest.mark.parametrize("cards", [2, 8])
def test_a_recording_that_a_database_gave_card_by_card_is_judged(path: Path, cards: int) -> None:
    """All readings of one card, then all of the next."""
    readings = [r for r in farm(10.0) if int(r.tags["card"][4:]) < cards]
    by_series = sorted(readings, key=lambda reading: reading.tags["card"])

    assert judged(path, by_series).cards == judged(path, readings).cards


def test_a_late_backlog_is_history(path: Path) -> None:
    """Live it came too late to be judged, so it is not judged now either."""
    readings = farm(10.0)
    outage = range(int((START + 900) * 1e9), int((START + 1800) * 1e9))
    late = [r for r in readings if r.tags["host"] == "node-0" and r.time_ns in outage]
    rest = [r for r in readings if r.tags["host"] != "node-0" or r.time_ns not in outage]

    with_backlog = judged(path, [*rest, *late])

    assert with_backlog.cards == judged(path, rest).cards


def test_changes_are_told_in_order(path: Path) -> None:
    """Each once, as of the frame that brought it."""
    changes = judge_files([recorded(path, farm(10.0))]).changes

    told = {key: [c.state for c in changes if c.key == key] for key in ("GPU-0", "GPU-1", "GPU-5")}
    assert told == {"GPU-0": ["ok"], "GPU-1": ["watch", "degraded"], "GPU-5": ["ok", "lost"]}
    assert [change.time for change in changes] == sorted(change.time for change in changes)


def test_an_empty_file_holds_no_farm(path: Path) -> None:
    """No card is unknown: there is none, and nothing could be judged."""
    state = judged(path, [])

    assert (state.cards, state.findings, state.time) == ([], [], None)
    assert nagios.exit_status(state) == nagios.UNKNOWN


def test_a_file_without_cards_holds_no_farm(path: Path) -> None:
    """Time passes and that is all."""
    pulse = Reading("collector", {"site": "barn"}, {"ticks_total": 1.0}, int(START * 1e9))

    assert judged(path, [pulse]).cards == []


def test_blank_lines_and_comments_are_passed_over(path: Path) -> None:
    """People note in their recordings what they did."""
    lines = [to_line(reading) for reading in farm(60.0)]
    path.write_text("\n# swapped the riser\n   \n" + "\r\n".join(lines) + "\r\n")

    assert by_card(judge_files([path])[0])["GPU-1"].state == "degraded"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'card,host=a state="ok" 1\ncard broken\n', "line 2: expected `measurement"),
        (b"x\n" * 5000, r"line 1: .* \(1000 of 1000 lines are bad\)"),
        (b"card,host=a power_watts=nan 1\n", "line 1: field power_watts"),
        (b'card,host=\xff state="ok" 1\n', "not UTF-8 text"),
    ],
)
def test_a_bad_file_is_named_with_its_line(path: Path, content: bytes, message: str) -> None:
    """The keeper sees where to look."""
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=message) as raised:
        judge_files([path])

    assert str(raised.value).startswith(f"{path}: ")


def test_a_torn_line_in_a_good_file_is_left_out(path: Path) -> None:
    """And told; the rest is judged as if it were not there."""
    lines = [to_line(reading) for reading in farm(10.0)]
    path.write_text("\n".join([*lines[:40], lines[40][:25], *lines[41:], "1 2"]))
    whole = path.with_name("whole.lp")
    whole.write_text("\n".join([*lines[:40], *lines[41:]]))

    state, changes, (left,) = judge_files([path])

    assert (state, changes) == judge_files([whole])[:2]
    assert str(left).startswith(f"{path}: 2 lines left out; line 41: ")


def test_a_missing_file_is_named(path: Path) -> None:
    """And why it cannot be read."""
    with pytest.raises(ConfigError, match=r"farm\.lp: cannot be read: No such file"):
        judge_files([path])


def test_a_replay_in_another_batching_says_the_same(tmp_path: Path) -> None:
    """The second half in a file of its own changes no verdict and no change."""
    readings = simulated(16, 3, "all", 1800.0).readings
    whole = recorded(tmp_path / "whole", readings)
    middle = len(readings) // 2
    halves = [
        recorded(tmp_path / n, r) for n, r in (("a", readings[:middle]), ("b", readings[middle:]))
    ]

    assert judge_files(halves) == judge_files([whole])


@pytest.mark.parametrize(
    ("cadence", "seconds"),
    [(1, 30), (10, 30), (11, 30), (60, 120), (300, 600), (100, 210), (301, 300), (0, 300)],
)
def test_a_frame_holds_a_reading_of_each_card(cadence: int, seconds: int) -> None:
    """Two readings where they come seldom, three of a live agent; whole half minutes.

    Where readings are of whole runs, or each card has but one, no frame holds two of a card.
    """
    assert frame_length_ns(cadence * 10**9) == seconds * 10**9


def test_the_cadence_is_the_usual_step_of_a_card() -> None:
    """Missing and doubled readings do not change it, nor where a file was cut into blocks."""
    rng = random.Random(3)
    readings = [r for r in farm(60.0) if rng.random() > 0.1]
    readings += readings[:40]
    pieces: Sequence[Sequence[Reading]] = [
        readings[at : at + 5] for at in range(0, len(readings), 5)
    ]

    blocks = [block for piece in pieces for block in block_of(piece, 1)]

    assert cadence_ns(blocks) == 60 * 10**9


def test_the_cadence_of_single_readings_is_unknown() -> None:
    """One reading of each card has no step."""
    assert cadence_ns(block_of([healthy(0, 0), healthy(1, 5)], 1)) == 0
    assert cadence_ns([]) == 0
