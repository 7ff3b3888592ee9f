"""Tables: which rows of the public data can be used."""

from tests.evaluate.real.table import numbers, usable


def test_a_repeated_row_is_dropped_and_counted() -> None:
    """The first of the rows with an equal key stands."""
    rows = [{"card": "a", "rate": "1"}, {"card": "b", "rate": "2"}, {"card": "a", "rate": "3"}]
    table = usable(rows, ["card"])
    assert (table.rows, table.dropped) == (rows[:2], 1)


def test_a_run_without_a_time_is_dropped_and_counted() -> None:
    """-1 stands for a time that nobody noted."""
    rows = [{"card": "a", "ts": "-1"}, {"card": "a", "ts": "1646005363"}]
    table = usable(rows, ["card", "ts"], "ts")
    assert (table.rows, table.dropped) == (rows[1:], 1)


def test_a_value_that_is_missing_gives_no_field() -> None:
    """Neither an empty cell nor a column that is not there becomes a number."""
    row = {"pwr": "297.1", "temp": ""}
    columns = [
        ("power_watts", "pwr"),
        ("core_temperature_celsius", "temp"),
        ("core_clock_mhz", "freq"),
    ]
    assert numbers(row, columns) == {"power_watts": 297.1}
