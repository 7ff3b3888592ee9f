"""Framing, beside a twin made of dictionaries."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farmhand_agent.reading import Kind, Reading, Value, fields_of
from farmhand_collector.block import block_of
from farmhand_collector.capacity.frame import (
    HOST_FIELDS,
    LOADED,
    LOADED_RATIO,
    MARKS,
    NO_READING,
    READ_LOST,
    READ_OK,
    READ_UNREADABLE,
    Frame,
    Framer,
    code_of,
)

SECOND = 10**9
EVERY_NS = 10 * SECOND
LAG_NS = 5 * SECOND
CARD = fields_of("card")
GAUGES = [name for name, f in CARD.items() if f.kind is Kind.GAUGE]
PEAKS = [name for name, f in CARD.items() if f.kind in (Kind.PEAK, Kind.FLAG)]
COUNTERS = [name for name, f in CARD.items() if f.kind is Kind.COUNTER]
STATES = {"ok": READ_OK, "unreadable": READ_UNREADABLE, "lost": READ_LOST}


def tags(slot: int, host: str = "shelf", rack: str = "a") -> dict[str, str]:
    """Tags of a card; one without a rack leaves the tag out."""
    found = {"site": "barn", "host": host, "slot": f"{slot}", "card": f"GPU-{host}-{slot}"}
    return found | ({"rack": rack} if rack else {}) | {"vendor": "nvidia", "model": "RTX 3090"}


def card(seconds: float, slot: int = 0, *, host: str = "shelf", **fields: Value) -> Reading:
    """A reading of a card."""
    fields = fields or {"core_clock_mhz": 1700.0}
    return Reading("card", tags(slot, host), fields, int(seconds * SECOND))


def event(seconds: float, slot: int = 0, code: str = "79") -> Reading:
    """An XID of a card."""
    fields: dict[str, Value] = {"kind": "xid", "code": code, "text": "fell off"}
    return Reading("card_event", tags(slot), fields, int(seconds * SECOND))


def info(seconds: float, slot: int = 0, **fields: Value) -> Reading:
    """Facts of a card."""
    return Reading("card_info", tags(slot), fields, int(seconds * SECOND))


def pulse(seconds: float) -> Reading:
    """The collector's word that time passes."""
    return Reading("collector", {"site": "barn"}, {"ticks_total": 1.0}, int(seconds * SECOND))


def framed(*pieces: Sequence[Reading], framer: Framer | None = None) -> list[Frame]:
    """Frames that pieces of readings close, each piece pushed at once."""
    framer = framer or Framer(EVERY_NS, LAG_NS)
    arrival, frames = 1, []
    for piece in pieces:
        frames += list(framer.push(block_of(piece, arrival)))
        arrival += len(piece)
    return frames


def all_frames(*pieces: Sequence[Reading]) -> list[Frame]:
    """Frames of pieces of readings and those still open at the end."""
    framer = Framer(EVERY_NS, LAG_NS)
    return [*framed(*pieces, framer=framer), *framer.flush()]


class Plain(NamedTuple):
    """A frame as plain values, for comparing."""

    start_ns: int
    end_ns: int
    roster: list[tuple[str, ...]]
    read: list[int]
    columns: dict[str, list[float]]
    events: list[tuple[Any, ...]]
    paced: bool


def plain(frame: Frame) -> Plain:
    """A frame with all of its columns under one name each."""
    columns = {f"value.{name}": column.tolist() for name, column in frame.values.items()}
    columns |= {f"loaded.{name}": column.tolist() for name, column in frame.loaded.items()}
    columns |= {f"fact.{name}": column.tolist() for name, column in frame.facts.items()}
    columns |= {f"host.{name}": column.tolist() for name, column in frame.host.items()}
    columns |= {f"probe.{name}": column.tolist() for name, column in frame.probe.items()}
    columns["loaded_share"] = frame.loaded_share.tolist()
    columns["rate"] = frame.work.rate.tolist()
    columns["job"], columns["gang"] = frame.work.job.tolist(), frame.work.gang.tolist()
    columns["booted"], columns["late"] = frame.booted.tolist(), frame.late.tolist()
    return Plain(
        frame.start_ns,
        frame.end_ns,
        [tuple(key) for key in frame.roster],
        frame.read.tolist(),
        columns,
        [tuple(event) for event in frame.events],
        frame.paced,
    )


def assert_equal(one: Sequence[Plain], other: Sequence[Plain], tolerance: float = 0.0) -> None:
    """All frames equal, numbers within a tolerance, NaN equal to NaN."""
    assert [f._replace(columns={}) for f in one] == [f._replace(columns={}) for f in other]
    for first, second in zip(one, other, strict=True):
        assert first.columns.keys() == second.columns.keys()
        for name, column in first.columns.items():
            np.testing.assert_allclose(column, second.columns[name], rtol=tolerance, err_msg=name)


class Twin:
    """Framing as it is described: one reading after another, everything in dictionaries."""

    def __init__(self) -> None:
        self.time_ns, self.paced = 0, False
        self.roster: list[tuple[str, ...]] = []
        self.facts: dict[int, dict[str, float]] = defaultdict(dict)
        self.open: dict[int, list[tuple[int, Reading]]] = {}
        self.late: Counter[tuple[str, ...]] = Counter()

    def frames(self, readings: Sequence[Reading]) -> Iterator[Plain]:
        """All frames of these readings."""
        for reading in readings:
            self._let_pass(reading)
            first_open = (self.time_ns - LAG_NS) // EVERY_NS
            for number in sorted(number for number in self.open if number < first_open):
                yield self._frame(number, self.open.pop(number))
            self._take(reading, first_open)
        for number in sorted(self.open):
            yield self._frame(number, self.open.pop(number))

    def _let_pass(self, reading: Reading) -> None:
        self.paced = self.paced or reading.measurement == "collector"
        if reading.measurement == "collector" or not self.paced:
            self.time_ns = max(self.time_ns, reading.time_ns)

    def _take(self, reading: Reading, first_open: int) -> None:
        number = reading.time_ns // EVERY_NS
        if reading.measurement in ("card_event", "host_event"):
            number = max(number, first_open)
        if number >= first_open:
            index = self._index(reading) if "slot" in reading.tags else -1
            self.open.setdefault(number, []).append((index, reading))
        elif reading.measurement == "card":
            self.late[_key(reading)] += 1

    def _index(self, reading: Reading) -> int:
        key = _key(reading)
        if key not in self.roster:
            self.roster.append(key)
        return self.roster.index(key)

    def _beside(self, rows: Sequence[tuple[int, Reading]]) -> dict[str, list[float]]:
        """What jobs, nodes and probes told."""
        of: dict[str, list[tuple[int, Reading]]] = defaultdict(list)
        for index, reading in rows:
            of[reading.measurement].append((index, reading))
        n = range(len(self.roster))
        hosts = [reading for _, reading in of["host"]]
        columns = {f"host.{name}": [mean(hosts, name)] * len(n) for name in HOST_FIELDS}
        columns |= {
            f"probe.{name}": [last([r for at, r in of["probe"] if at == i], name) for i in n]
            for name in fields_of("probe")
        }
        works = [main_work([r for at, r in of["work"] if at == i]) for i in n]
        columns["rate"], columns["job"], columns["gang"] = (
            [work[at] for work in works] for at in range(3)
        )
        columns["booted"] = [float(bool(of["host_event"]))] * len(n)
        columns["late"] = [float(self.late[key]) for key in self.roster]
        return columns

    def _frame(self, number: int, rows: Sequence[tuple[int, Reading]]) -> Plain:
        by_card: dict[int, list[Reading]] = defaultdict(list)
        for index, reading in rows:
            if reading.measurement == "card":
                by_card[index].append(reading)
            elif reading.measurement == "card_info":
                told = {k: float(v) for k, v in reading.fields.items() if k in FACTS}
                told |= {k: code_of(v) for k, v in reading.fields.items() if k in MARKS}
                self.facts[index] |= told
        for readings in by_card.values():
            readings.sort(key=lambda reading: reading.time_ns)
        events = sorted(
            (r.time_ns, order, index, r)
            for order, (index, r) in enumerate(rows)
            if r.measurement == "card_event"
        )
        n = range(len(self.roster))
        columns = {f"value.{name}": [mean(by_card[i], name) for i in n] for name in GAUGES}
        columns |= {f"value.{name}": [highest(by_card[i], name) for i in n] for name in PEAKS}
        columns |= {f"value.{name}": [last(by_card[i], name) for i in n] for name in COUNTERS}
        columns |= {f"loaded.{name}": [mean(by_card[i], name, True) for i in n] for name in LOADED}
        columns |= {
            f"fact.{name}": [self.facts[i].get(name, math.nan) for i in n]
            for name in (*FACTS, *MARKS)
        }
        columns |= self._beside(rows)
        columns["loaded_share"] = [loaded_share(by_card[i]) for i in n]
        read = [
            STATES.get(str(by_card[i][-1].fields.get("state")), READ_OK)
            if by_card[i]
            else NO_READING
            for i in n
        ]
        events_told: list[tuple[Any, ...]] = [
            (i, at, *(str(r.fields.get(f, "")) for f in ("kind", "code", "text")))
            for at, _, i, r in events
        ]
        self.late.clear()
        start_ns = number * EVERY_NS
        return Plain(
            start_ns, start_ns + EVERY_NS, list(self.roster), read, columns, events_told, self.paced
        )


def _key(reading: Reading) -> tuple[str, ...]:
    names = ("site", "rack", "host", "slot", "card", "vendor", "model")
    return tuple(reading.tags.get(name, "") for name in names)


FACTS = [name for name, f in fields_of("card_info").items() if f.kind is not Kind.TEXT]


def main_work(readings: Sequence[Reading]) -> tuple[float, int, int]:
    """Rate, job and gang of the job that was told of most."""
    lanes: dict[tuple[str, str], list[Reading]] = defaultdict(list)
    for reading in readings:
        lanes[str(reading.fields["job"]), reading.tags["lane"]].append(reading)
    jobs = sorted({job for job, _ in lanes}, key=lambda job: code_of(f"{job}\n"))
    if not jobs:
        return math.nan, 0, 0
    count = {job: sum(len(told) for (of, _), told in lanes.items() if of == job) for job in jobs}
    chosen = max(jobs, key=lambda job: (count[job], jobs.index(job)))
    rates = [
        sum(float(r.fields["rate"]) for r in told) / len(told)
        for (job, _), told in lanes.items()
        if job == chosen
    ]
    return sum(rates), code_of(f"{chosen}\n"), code_of(f"gang of {chosen}")


def weight(reading: Reading) -> float:
    """Length of a reading's window; 1 where it does not say."""
    return float(reading.fields.get("window_seconds", 1.0))


def is_loaded(reading: Reading) -> bool:
    """Whether the card worked in this window."""
    return float(reading.fields.get("utilization_ratio", 0.0)) >= LOADED_RATIO


def mean(readings: Sequence[Reading], name: str, loaded: bool = False) -> float:
    """Mean of a field weighted by length, over all readings or the loaded ones."""
    chosen = [r for r in readings if name in r.fields and (is_loaded(r) or not loaded)]
    total = sum(weight(r) for r in chosen)
    return sum(float(r.fields[name]) * weight(r) for r in chosen) / total if total else math.nan


def highest(readings: Sequence[Reading], name: str) -> float:
    """Largest value of a field."""
    return max((float(r.fields[name]) for r in readings if name in r.fields), default=math.nan)


def last(readings: Sequence[Reading], name: str) -> float:
    """Latest value of a field."""
    given = [float(r.fields[name]) for r in readings if name in r.fields]
    return given[-1] if given else math.nan


def loaded_share(readings: Sequence[Reading]) -> float:
    """Share of the time in which the card worked, of that for which it told."""
    told = [r for r in readings if "utilization_ratio" in r.fields]
    total = sum(map(weight, told))
    return sum(weight(r) for r in told if is_loaded(r)) / total if total else math.nan


HOST = {"site": "barn", "host": "shelf"}
card_fields = st.fixed_dictionaries(
    {"samples": st.just(10.0)},
    optional={
        "state": st.sampled_from(["ok", "unreadable", "lost", "odd"]),
        "window_seconds": st.sampled_from([0.0, 4.0, 10.0]),
        "utilization_ratio": st.sampled_from([0.0, 0.79, 0.8, 1.0]),
        "core_clock_mhz": st.sampled_from([300.0, 1700.0]),
        "core_temperature_max_celsius": st.sampled_from([-5.0, 60.0, 90.0]),
        "energy_joules": st.sampled_from([0.0, 5e6]),
        "remap_failed": st.sampled_from([0.0, 1.0]),
    },
)
seconds = st.integers(0, 60)
slots = st.integers(0, 2)
readings = st.one_of(
    st.builds(lambda at, slot, fields: card(at, slot, **fields), seconds, slots, card_fields),
    st.builds(event, seconds, slots, st.sampled_from(["79", "13"])),
    st.builds(
        lambda at, slot, width, driver: info(at, slot, pcie_width_max=width, driver=driver),
        seconds,
        slots,
        st.sampled_from([8.0, 16.0]),
        st.sampled_from(["535.1", "580.2"]),
    ),
    st.builds(pulse, seconds),
    st.builds(
        lambda at, celsius: Reading(
            "host", HOST, {"inlet_temperature_celsius": celsius}, at * SECOND
        ),
        seconds,
        st.sampled_from([20.0, 30.0]),
    ),
    st.builds(lambda at: Reading("host_event", HOST, {"kind": "boot"}, at * SECOND), seconds),
    st.builds(
        lambda at, slot, lane, job, rate: Reading(
            "work",
            tags(slot) | {"lane": lane},
            {"rate": rate, "job": job, "gang": f"gang of {job}"},
            at * SECOND,
        ),
        seconds,
        slots,
        st.sampled_from(["0", "1"]),
        st.sampled_from(["train", "serve"]),
        st.sampled_from([3.0, 4.5]),
    ),
    st.builds(
        lambda at, slot, flops: Reading("probe", tags(slot), {"fp16_flops": flops}, at * SECOND),
        seconds,
        slots,
        st.sampled_from([1e12, 2e12]),
    ),
)
arrivals = st.lists(readings, max_size=25)


@given(arrivals)
def test_frames_are_those_of_the_twin(arrived: list[Reading]) -> None:
    """Every column of every frame, whatever arrives in whatever order."""
    expected = list(Twin().frames(arrived))

    assert_equal([plain(f) for f in all_frames(arrived)], expected, 1e-12)


@given(arrivals, st.lists(st.integers(0, 25), max_size=6))
def test_frames_do_not_depend_on_how_rows_are_batched(
    arrived: list[Reading], cuts: list[int]
) -> None:
    """Pieces of any size give the frames, to the bit, that one piece gives."""
    bounds = [0, *sorted(min(cut, len(arrived)) for cut in cuts), len(arrived)]
    pieces = [arrived[begin:end] for begin, end in pairwise(bounds)]

    in_pieces, at_once = all_frames(*pieces), all_frames(arrived)

    assert_equal([plain(f) for f in in_pieces], [plain(f) for f in at_once])


@settings(max_examples=60)
@given(arrivals, st.data())
def test_framing_goes_on_from_a_checkpoint(arrived: list[Reading], data: st.DataObject) -> None:
    """Restored from the last frame and fed again from the oldest waiting row, it loses nothing."""
    arrived = [r for r in arrived if r.measurement not in ("card_event", "host_event")]
    cut = data.draw(st.integers(0, len(arrived)))
    framer = Framer(EVERY_NS, LAG_NS)
    before = framed(arrived[:cut], framer=framer)
    pending = framer.first_pending_arrival()
    position = cut if pending is None else pending - 1
    if before:
        last = before[-1]
        watermark_ns = last.end_ns + LAG_NS
        restored = Framer(
            EVERY_NS,
            LAG_NS,
            last.roster,
            watermark_ns,
            last.facts,
            paced=last.paced,
            late_until=last.late_until,
        )
    else:
        restored = Framer(EVERY_NS, LAG_NS)

    after = list(restored.push(block_of(arrived[position:], position + 1)))
    after += list(restored.flush())

    assert_equal([plain(f) for f in [*before, *after]], [plain(f) for f in all_frames(arrived)])


def test_a_frame_closes_when_time_passed_its_end_by_the_lag() -> None:
    """Frame [0, 10) waits at 14.9 s and is given at 15 s."""
    assert framed([card(1), card(14.9)]) == []

    (frame,) = framed([card(1), card(15)])

    assert (frame.start_ns, frame.end_ns) == (0, EVERY_NS)


def test_a_late_row_is_history_only() -> None:
    """A reading of a frame that is closed changes no frame and brings no card onto the roster."""
    framer = Framer(EVERY_NS, LAG_NS)

    first, second = framed([card(1), card(15), card(2, 1), card(30)], framer=framer)

    assert framer.late_rows == 1
    assert [len(first), len(second)] == [1, 1]


def test_a_late_event_enters_the_next_open_frame_with_its_own_time() -> None:
    """An XID told after a network outage is news, of then."""
    first, second = framed([card(1), card(15), event(2), card(30)])

    assert first.events == ()
    assert [(e.time_ns, e.code) for e in second.events] == [(2 * SECOND, "79")]


def test_a_card_joins_with_the_frame_in_which_it_is_first_heard() -> None:
    """An earlier frame does not know it, even when it is cut from the same batch."""
    first, second = framed([card(1), card(17), card(18, 1), card(40)])

    assert [len(first), len(second)] == [1, 2]


def test_a_node_whose_clock_runs_ahead_makes_no_other_late() -> None:
    """Where the collector's pulse is heard, it alone tells the time."""
    ahead = [card(at + 120, host="ahead") for at in (1, 11)]
    right = [card(at, host="right") for at in (2, 12)]

    frames = framed([pulse(0), ahead[0], right[0], pulse(10), ahead[1], right[1], pulse(26)])

    assert [frame.present.sum() for frame in frames] == [1, 1]
    assert frames[0].roster[1].host == "right"


def test_without_a_pulse_readings_tell_the_time() -> None:
    """A recording of agents alone is framed all the same."""
    assert len(framed([card(1), card(11), card(26)])) == 2


def test_a_mean_is_weighted_by_window_length() -> None:
    """Nine seconds at 1000 MHz and one at 2000 MHz are 1100 MHz."""
    rows = [
        card(1, core_clock_mhz=1000.0, window_seconds=9.0),
        card(2, core_clock_mhz=2000.0, window_seconds=1.0),
    ]

    (frame,) = all_frames(rows)

    assert frame.values["core_clock_mhz"].tolist() == pytest.approx([1100.0])


def test_a_loaded_mean_leaves_idle_windows_out() -> None:
    """The clock of a card that waits says nothing of what it can do."""
    rows = [
        card(1, core_clock_mhz=1700.0, utilization_ratio=0.9),
        card(2, core_clock_mhz=300.0, utilization_ratio=0.1),
    ]

    (frame,) = all_frames(rows)

    assert frame.loaded["core_clock_mhz"].tolist() == [1700.0]
    assert frame.loaded_share.tolist() == [0.5]


def test_the_last_state_by_time_counts() -> None:
    """Also when the readings arrive in another order."""
    (frame,) = all_frames([card(5, state="lost"), card(2, state="ok")])

    assert frame.read.tolist() == [READ_LOST]


def test_facts_stay_until_others_are_told() -> None:
    """`card_info` comes hourly; every frame in between holds it."""
    rows = [info(1, pcie_width_max=16.0), card(1), card(12), info(22, pcie_width_max=8.0)]

    frames = all_frames(rows)

    assert [f.facts["pcie_width_max"].tolist() for f in frames] == [[16.0], [16.0], [8.0]]


def test_a_card_whose_rack_is_named_anew_stays_the_same_card() -> None:
    """The keeper labels his racks: the roster follows, no second row appears."""
    old, new = tags(0, rack=""), tags(0, rack="b")
    rows = [Reading("card", t, {"samples": 1.0}, at * SECOND) for t, at in ((old, 1), (new, 16))]

    first, second = all_frames(rows[:1], rows[1:])

    assert [key.rack for key in first.roster] == [""]
    assert [key.rack for key in second.roster] == ["b"]


def test_columns_of_a_frame_without_cards_are_empty_or_nan() -> None:
    """Time passes although no card speaks."""
    framer = Framer(EVERY_NS, LAG_NS)

    first, second = framed([card(1), pulse(11), pulse(26)], framer=framer)

    assert first.present.tolist() == [True]
    assert second.present.tolist() == [False]
    assert math.isnan(second.values["core_clock_mhz"][0])


def test_nothing_pushed_gives_nothing() -> None:
    """An empty batch is no news."""
    framer = Framer(EVERY_NS, LAG_NS)

    assert list(framer.push([])) == []
    assert framer.first_pending_arrival() is None
