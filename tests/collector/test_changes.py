"""What is worth a line in the history."""

from farmhand_collector.capacity.frame import NO_READING, READ_OK, Frame
from farmhand_collector.changes import Change, ChangeLog
from farmhand_collector.judging import Tick
from tests.collector.capacity.farm import IDLE, SICK, at, faulty, frame, stepped


def told(*frames: Frame, log: ChangeLog | None = None) -> list[list[Change]]:
    """Changes that each frame brings."""
    log = log or ChangeLog()
    verdicts = [verdicts for _, verdicts in stepped(frames)]
    return [log.of(Tick(*tick)) for tick in zip(frames, verdicts, strict=True)]


def test_a_verdict_is_told_once() -> None:
    """And not again while it stays."""
    first, second, third = told(frame(0), faulty("lost", 1), faulty("lost", 2))

    assert {change.state for change in first} == {"ok"}
    (change,) = second
    assert (change.key, change.state, change.cause, change.finding) == (
        *("GPU-5", "lost", "unreachable", "lost"),
    )
    assert change.time == frame(1).end_ns / 1e9
    assert change.text.startswith("The card is gone")
    assert third == []


def test_a_new_cause_is_a_change() -> None:
    """The state stays, what is to be done does not."""
    hot = [frame(n, throttle_thermal_ratio=at(SICK, 0.4, 0.0)) for n in range(3)]
    starved = [
        frame(
            n,
            throttle_thermal_ratio=at(SICK, 0.4, 0.0),
            throttle_hardware_ratio=at(SICK, 0.9, 0.0),
        )
        for n in range(3, 5)
    ]

    told_of_it = [(c.state, c.cause) for part in told(*hot, *starved)[1:] for c in part]

    assert told_of_it == [("degraded", "thermal"), ("degraded", "power")]


def test_an_idle_card_is_no_news() -> None:
    """Every card begins as unknown."""
    assert told(frame(0, **IDLE)) == [[]]


def test_silence_is_told() -> None:
    """Unknown because unheard of is another thing than unknown because idle."""
    *_, last = told(frame(0, **IDLE), frame(1, read=at(SICK, NO_READING, READ_OK), **IDLE))

    assert [(c.key, c.state, c.cause) for c in last] == [("GPU-5", "unknown", "unreachable")]


def test_what_was_said_before_a_restart_is_not_said_again() -> None:
    """The ledger remembers."""
    said = {f"GPU-{card}": ("ok", "") for card in range(16)}

    assert told(frame(0), log=ChangeLog(said)) == [[]]
