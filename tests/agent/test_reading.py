"""The contract of readings, and its wire format."""

import math
import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farmhand_agent.reading import (
    FIELDS,
    MAX_LINE_BYTES,
    MAX_TAG_VALUE_CHARACTERS,
    TAGS,
    Field,
    Kind,
    LineError,
    Reading,
    Value,
    clean,
    fields_of,
    parse_line,
    parse_lines,
    tag_value,
    to_line,
)

# --- the table ---------------------------------------------------------------------------------

# The end of a name says the unit, so that nobody has to look it up.
UNITS = {
    "_celsius": "°C",
    "_watts": "W",
    "_joules": "J",
    "_mhz": "MHz",
    "_ratio": "0..1",
    "_bytes_per_second": "B/s",
    "_bytes": "B",
    "_seconds": "s",
    "_seconds_total": "s",
    "_bits": "bit",
    "_flops": "1/s",
}


def named(field: Field) -> str:
    return f"{field.measurement}.{field.name}"


@pytest.mark.parametrize("field", FIELDS, ids=named)
def test_every_field_has_a_meaning_and_the_unit_that_its_name_says(field: Field) -> None:
    """One look at the table, or at the name alone, tells what a value is."""
    assert field.meaning and field.meaning == field.meaning.strip()
    assert re.fullmatch(r"[a-z][a-z0-9_]*", field.name)
    ends = [end for end in UNITS if field.name.endswith(end)]
    if ends:
        assert field.unit == UNITS[max(ends, key=len)]
    elif field.kind is Kind.TEXT:
        assert field.unit == ""
    elif field.kind is Kind.FLAG:
        assert field.unit == "0/1"


def test_no_field_stands_in_the_table_twice() -> None:
    """A name within a measurement has one kind and one meaning."""
    names = [named(field) for field in FIELDS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("measurement", TAGS)
def test_every_measurement_has_fields_in_the_order_of_the_table(measurement: str) -> None:
    """The fields by measurement are a view of the one table."""
    fields = fields_of(measurement)
    assert list(fields.values()) == [f for f in FIELDS if f.measurement == measurement]
    assert fields


def test_an_unknown_measurement_has_no_fields() -> None:
    """What a newer agent writes is no error."""
    assert fields_of("from_the_future") == {}


# --- there and back ----------------------------------------------------------------------------

HOSTILE = st.text(st.sampled_from("ab,= \"\\#'\n\r\t\0\x1b\x85\u2028\ud800é京"), max_size=12)
TEXT = st.text(max_size=20) | HOSTILE
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    measurement = draw(st.sampled_from(sorted(TAGS)))
    tags = draw(st.dictionaries(st.sampled_from(TAGS[measurement]), TEXT))
    chosen = draw(st.sets(st.sampled_from(list(fields_of(measurement).values())), min_size=1))
    fields: dict[str, Value] = {
        f.name: draw(TEXT) if f.kind is Kind.TEXT else draw(NUMBER) for f in chosen
    }
    return Reading(measurement, tags, fields, draw(st.integers(-(2**63), 2**63 - 1)))


def printed(value: Value) -> Value:
    return clean(value) if isinstance(value, str) else value


@given(readings())
@example(Reading("card", {"host": "a\\ b", "rack": "\\,", "slot": "x\\\\=y"}, {"state": "\\"}, 0))
def test_a_line_gives_back_what_was_written(reading: Reading) -> None:
    """Numbers come back exactly; text comes back without what cannot be shown."""
    back = parse_line(to_line(reading))
    tags = {key: tag_value(value) for key, value in reading.tags.items()}
    assert back.tags == {key: value for key, value in tags.items() if value}
    assert back.fields == {name: printed(value) for name, value in reading.fields.items()}
    assert (back.measurement, back.time_ns) == (reading.measurement, reading.time_ns)


@given(readings())
def test_writing_a_line_that_was_read_changes_nothing(reading: Reading) -> None:
    """A reading keeps its identity however often it is handed on."""
    line = to_line(reading)
    assert to_line(parse_line(line)) == line


@given(readings())
def test_a_line_is_one_line_of_bounded_text(reading: Reading) -> None:
    """No text of a driver or a job breaks a line, an encoding or a terminal."""
    line = to_line(reading)
    assert re.search(r"[\x00-\x1f\x7f-\x9f]", line) is None
    assert line.encode().decode() == line


@given(st.lists(readings(), max_size=5))
def test_many_lines_are_read_in_their_order(several: list[Reading]) -> None:
    """A text of lines gives a reading a line."""
    lines = [to_line(reading) for reading in several]
    assert [to_line(reading) for reading in parse_lines("\n".join(lines))] == lines


def test_tags_are_sorted_and_an_empty_one_is_left_out() -> None:
    """The same series is written the same way by every agent."""
    reading = Reading("host", {"site": "home", "rack": "", "host": "node 1"}, {"load1": 1.0}, 7)
    assert to_line(reading) == r"host,host=node\ 1,site=home load1=1.0 7"


def test_numbers_are_written_as_floats() -> None:
    """A store that saw an integer first would drop the float that follows."""
    assert to_line(Reading("host", {}, {"load1": 3}, 7)) == "host load1=3.0 7"


def test_a_long_text_is_cut() -> None:
    """A driver that talks too much does not make a line too long."""
    back = parse_line(to_line(Reading("card_event", {}, {"text": "x" * 10_000}, 7)))
    assert back.fields["text"] == "x" * MAX_TAG_VALUE_CHARACTERS


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_not_written(value: float) -> None:
    """It names the field that was wrong."""
    with pytest.raises(LineError, match=r"^host\.load1 is .*, expected a finite number$"):
        to_line(Reading("host", {}, {"load1": value}, 7))


def test_a_reading_without_fields_is_not_written() -> None:
    """A point without values says nothing."""
    with pytest.raises(LineError, match=r"^host has no fields, expected at least one$"):
        to_line(Reading("host", {}, {}, 7))


# --- reading what others wrote -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "expected `measurement,tags fields time`"),
        ("card", "expected `measurement,tags fields time`"),
        ("card x=1", "expected `measurement,tags fields time`"),
        ("card x=1 now", "expected `measurement,tags fields time`"),
        ("card x=1 7 8", "expected `measurement,tags fields time`"),
        ("card  x=1 7", "expected `measurement,tags fields time`"),
        ('card text="open 7', "expected `measurement,tags fields time`"),
        ("card x=1 7\\", "expected `measurement,tags fields time`"),
        (",host=a x=1 7", "no measurement"),
        ("card,host x=1 7", "'host', expected key=value"),
        ("card,host= x=1 7", "'host=', expected key=value"),
        ("card,=a x=1 7", "'=a', expected key=value"),
        ("card,,host=a x=1 7", "'', expected key=value"),
        ("card,,host=a\\ b x=1 7", "a comma too many"),
        (",host=a\\ b x=1 7", "a comma too many"),
        ('card text="a\\"b",,x=1 7', "a comma too many"),
        ("card,host\\=a x=1 7", "expected key=value"),
        ("card x 7", "'x', expected key=value"),
        ("card x=one 7", "field x is 'one', expected a finite number or quoted text"),
        ("card x=nan 7", "field x is 'nan', expected a finite number"),
        ("card x=1e999 7", "field x is '1e999', expected a finite number"),
        ("card x=-inf 7", "field x is '-inf', expected a finite number"),
        ("card x=1.5i 7", "field x is '1.5i'"),
        ('card x="a"b"c" 7', "field x is"),
        ('card x="a"b 7', "field x is"),
        ("card x=1 9223372036854775808", "expected nanoseconds in 64 bits"),
        ("card x=1 99999999999999999999", "expected `measurement,tags fields time`"),
        ("card,host=a\x1b[2J x=1 7", "control character, expected printable text"),
        ("card\tx=1 7", "control character, expected printable text"),
        ("card x=" + "1" * MAX_LINE_BYTES + " 7", f"expected at most {MAX_LINE_BYTES}"),
    ],
)
def test_a_bad_line_says_what_is_wrong_in_one_line(line: str, why: str) -> None:
    """Who wrote it finds the place."""
    with pytest.raises(LineError) as caught:
        parse_line(line)
    assert why in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_first_bad_line_of_a_text_is_named() -> None:
    """What stood before it was read."""
    text = "# a comment\n\nhost load1=1.0 7\r\n  \nhost load1=two 8\nhost\n"
    found: list[Reading] = []
    with pytest.raises(LineError, match=r"^line 5: field load1 is 'two'"):
        found.extend(parse_lines(text))
    assert found == [Reading("host", {}, {"load1": 1.0}, 7)]


def test_what_is_not_in_the_contract_is_kept() -> None:
    """Readers ignore what they do not know; whoever hands it on does not."""
    reading = parse_line('fan_wall,shelf=3 speed=2i,label="a, b",on=true 7')
    assert reading.tags == {"shelf": "3"}
    assert reading.fields == {"speed": 2.0, "label": "a, b", "on": 1.0}


def test_tags_of_a_series_are_shared_and_cannot_be_changed() -> None:
    """Readings of a series share one set of tags."""
    first, second = parse_lines("host,host=a load1=1 7\nhost,host=a load1=2 8")
    assert first.tags is second.tags
    with pytest.raises(TypeError):
        first.tags["host"] = "b"  # type: ignore[index]


# --- a naive twin of the parser ----------------------------------------------------------------


def pieces(text: str, separator: str, *, quotes: bool) -> Iterator[str]:
    """Split at the separator, a character at a time."""
    piece, quoted, rest = "", False, iter(text)
    for character in rest:
        if character == "\\":
            following = next(rest, None)
            if following is None:
                raise LineError("ends in a backslash")
            piece += character + following
        elif character == separator and not quoted:
            yield piece
            piece = ""
        else:
            quoted ^= quotes and character == '"'
            piece += character
    if quoted:
        raise LineError("open quote")
    yield piece


def plain(text: str, escaped: str) -> str:
    """Take the backslash away from the characters that it may escape."""
    out, rest = "", iter(text)
    for character in rest:
        if character == "\\":
            following = next(rest, "")
            out += following if following and following in escaped else character + following
        else:
            out += character
    return out


def pair(text: str) -> tuple[str, str]:
    key, *values = pieces(text, "=", quotes=False)
    if not key or not values or not "=".join(values):
        raise LineError("no key=value")
    return plain(key, ",= "), "=".join(values)


def number(text: str) -> float:
    if text in ("t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE"):
        return float(text[0] in "tT")
    if text[-1] in "iu" and text[:-1].removeprefix("-").isdecimal() and len(text) < 20:
        text = text[:-1]
    try:
        value = float(text)
    except ValueError:
        raise LineError("no number") from None
    if not math.isfinite(value):
        raise LineError("not finite")
    return value


def field_value(text: str) -> Value:
    if text[0] != '"':
        return number(text)
    inner = list(pieces(text, '"', quotes=False))
    if len(inner) != 3 or inner[0] or inner[2]:
        raise LineError("text goes on behind its quote")
    return plain(inner[1], '"\\')


def naive_parse(line: str) -> Reading:
    """The format as one would read it aloud, without a regular expression or a shortcut."""
    head = next(pieces(line, " ", quotes=False))
    parts = list(pieces(line[len(head) + 1 :], " ", quotes=True))
    if len(parts) != 2 or not head or not all(parts):
        raise LineError("no three parts")
    measurement, *tags = pieces(head, ",", quotes=False)
    fields = [pair(part) for part in pieces(parts[0], ",", quotes=True)]
    digits = parts[1].removeprefix("-")
    if not (measurement and digits.isascii() and digits.isdecimal() and len(digits) <= 19):
        raise LineError("no measurement or no time")
    if not -(2**63) <= int(parts[1]) < 2**63:
        raise LineError("time too far away")
    return Reading(
        plain(measurement, ",= "),
        {key: plain(value, ",= ") for key, value in map(pair, tags)},
        {name: field_value(text) for name, text in fields},
        int(parts[1]),
    )


def outcome(line: str, *, naive: bool) -> Reading | None:
    try:
        return naive_parse(line) if naive else parse_line(line)
    except LineError:
        return None


@st.composite
def nearly_lines(draw: st.DrawFn) -> str:
    """A good line, some characters of which were taken out, put in or doubled."""
    line = to_line(draw(readings()))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(line)))
        new = draw(st.sampled_from(["", ",", "=", " ", '"', "\\", "\\,", "\\=", "1", "x"]))
        line = line[:place] + new + line[place + draw(st.integers(0, 1)) :]
    return line


@given(nearly_lines() | st.text(st.sampled_from('ab1,= "\\-.ei'), max_size=30))
@example('a x="y\\\\",z=1 7')
@example('a,b=c\\=d x="y z=",w="" 7')
@example('a,b=\\\\= c="" 7')
@example("a\\ b,c\\,d=e\\=f g\\ h=1 7")
def test_the_parser_agrees_with_a_naive_one(line: str) -> None:
    """Shortcuts and hostile quoting change nothing about what a line means."""
    assert outcome(line, naive=False) == outcome(line, naive=True)
