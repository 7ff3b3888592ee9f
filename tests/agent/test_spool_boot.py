"""When boots began that nobody measured."""

from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.spool_boot import EARLIEST_NS, begins
from farmhand_agent.spool_row import Row

SECOND = 10**9
DAY = 86_400 * SECOND
NOW_BEGAN = EARLIEST_NS + 300 * DAY


def last_row(boot: str, boot_time_ns: int, uptime_ns: int) -> Row:
    """The last row of a boot, with one reading at its end."""
    body = f"card power_watts=1.0 {boot_time_ns + uptime_ns}".encode()
    return Row(1, boot, boot_time_ns, 1, body)


def test_a_clock_that_may_have_been_right_is_believed() -> None:
    """A boot of yesterday that ended before this one began."""
    row = last_row("then", NOW_BEGAN - DAY, DAY // 2)
    assert begins([row], {}, NOW_BEGAN) == {"then": NOW_BEGAN - DAY}


def test_a_clock_without_a_battery_is_not_believed() -> None:
    """It starts in 1970: the boot is taken to have ended as this one began."""
    row = last_row("then", 0, DAY // 2)
    assert begins([row], {}, NOW_BEGAN) == {"then": NOW_BEGAN - DAY // 2}


def test_a_clock_from_the_future_is_not_believed() -> None:
    """A boot cannot have ended after the next began."""
    row = last_row("then", NOW_BEGAN + DAY, DAY // 2)
    assert begins([row], {}, NOW_BEGAN) == {"then": NOW_BEGAN - DAY // 2}


def test_what_was_measured_is_not_judged() -> None:
    """It bounds the boots before it."""
    rows = [last_row("known", 0, SECOND), last_row("unknown", 0, 5 * SECOND)]
    found = begins(rows, {"known": NOW_BEGAN - DAY}, NOW_BEGAN)
    assert found == {"unknown": NOW_BEGAN - DAY - 5 * SECOND}


def test_a_reading_without_a_time_counts_as_taken_at_the_boot() -> None:
    """A line that is no line must not stop the others."""
    row = Row(1, "then", 0, 1, b"no time")
    assert begins([row], {}, NOW_BEGAN) == {"then": NOW_BEGAN}


@given(
    boots=st.lists(st.tuples(st.integers(-(2**61), 2**61), st.integers(0, 1000 * DAY)), max_size=5)
)
def test_boots_follow_each_other(boots: list[tuple[int, int]]) -> None:
    """Whatever their clocks said, none ends more than a minute after the next began."""
    rows = [last_row(f"{n}", *boot) for n, boot in enumerate(boots)]
    found = begins(rows, {}, NOW_BEGAN)
    next_began = NOW_BEGAN
    for n, (_, uptime_ns) in enumerate(boots):
        assert found[f"{n}"] + uptime_ns <= next_began + 60 * SECOND
        next_began = min(next_began, found[f"{n}"])
