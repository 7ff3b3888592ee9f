"""The ledger of events: each happening is handed on once, durably, whatever fails meanwhile."""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.events.fold import LogState, Tags, driver_event
from farmhand_agent.events.ledger import LOCATE_SECONDS, Clocks, EventLedger, Locate
from farmhand_agent.reading import Reading, Value, parse_line, to_line
from farmhand_agent.sources.kernel.record import Position, Record
from farmhand_agent.spool import Spool

SECOND = 10**9
WALL_NS = 1_700_000_000 * SECOND
"""Wall clock when this machine booted."""
ADDRESS = "0000:01:00.0"
UUID = "GPU-509665ad-b600-ac93-3616-d754b23d636d"
CARD = {"slot": "3", "card": UUID, "vendor": "nvidia", "model": "GeForce RTX 3090"}
NOBODY = {"slot": ADDRESS, "card": "unidentified", "vendor": "nvidia"}


def record(seq: int, second: float, text: str) -> Record:
    usec = int(second * 1_000_000)
    return Record(f"NVRM: {text}", usec, seq % 1000, Position(usec, seq))


def xid(seq: int, second: float, code: int = 31, text: str = "MMU fault") -> Record:
    return record(seq, second, f"Xid (PCI:0000:01:00): {code}, {text}")


def clocks(second: float, wall_ns: int = WALL_NS) -> Clocks:
    return Clocks(wall_ns + int(second * SECOND), int(second * SECOND))


def here(name: str) -> Tags | None:
    return CARD if name == ADDRESS else None


def elsewhere(name: str) -> Tags | None:
    return CARD | {"slot": "4"} if name == ADDRESS else None


def by_uuid(name: str) -> Tags | None:
    return CARD if name == UUID else None


def nowhere(_: str) -> Tags | None:
    return None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "events.json"


class Handed:
    """What was handed on, and the ledgers that do it, one after the other on one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.readings: list[Reading] = []

    def put(self, readings: Sequence[Reading]) -> None:
        self.readings += readings

    def ledger(
        self, locate: Locate = here, boot: str = "boot-1", started: float = 0.0
    ) -> EventLedger:
        return EventLedger(self.path, boot, self.put, locate, started)

    @property
    def brief(self) -> list[tuple[str, str, float]]:
        """Kind, code and count of each."""
        fields = [reading.fields for reading in self.readings]
        return [(str(f["kind"]), str(f.get("code", "")), float(f["count"])) for f in fields]


@pytest.fixture
def handed(path: Path) -> Handed:
    return Handed(path)


def test_an_event_has_the_tags_of_its_card_and_the_time_of_its_record(handed: Handed) -> None:
    """The record's number makes the time its own."""
    ledger = handed.ledger()
    ledger.hear([xid(7, 3.5, 79, "GPU has fallen off the bus.")], clocks(4), is_live=False)
    ledger.hand_over()
    fields: dict[str, Value] = {
        "kind": "xid",
        "code": "79",
        "count": 1.0,
        "text": "GPU has fallen off the bus.",
    }
    time_ns = WALL_NS + 3_500_000_007
    assert handed.readings == [Reading("card_event", CARD, fields, time_ns)]


def test_an_event_fits_the_spool(handed: Handed, tmp_path: Path) -> None:
    """As a line it comes out as it went in, whatever the driver said."""
    spool = Spool(tmp_path / "spool.sqlite", 2**20)
    ledger = EventLedger(
        handed.path, "boot-1", lambda rs: spool.put([to_line(r) for r in rs]), here, 0.0
    )
    ledger.hear([xid(7, 3.5, text='"\\ ,=\x07' + "x" * 500)], clocks(4), is_live=False)
    ledger.hand_over()
    (batch,) = spool.batches()
    reading = parse_line(batch.body.decode())
    assert reading.tags == CARD
    assert str(reading.fields["text"]).startswith('"\\ ,= xxx')
    spool.close()


def test_each_event_of_a_card_has_a_time_of_its_own(handed: Handed) -> None:
    """Two of one moment would be one point in the store."""
    ledger = handed.ledger()
    for code in ("31", "43"):
        event = driver_event(CARD, code, WALL_NS)
        ledger.hear_driver(event, 0.0, LogState.UNREADABLE)
    first = {"card": {"RxErr": 0, "BadTLP": 0}, "port": {"RxErr": 0}}
    more = {"card": {"RxErr": 1, "BadTLP": 1}, "port": {"RxErr": 1}}
    for totals in (first, more):
        ledger.hear_totals({ADDRESS: totals}, WALL_NS)
    ledger.hand_over()
    assert len({reading.time_ns for reading in handed.readings}) == 5


# --- which card --------------------------------------------------------------------------------


def test_a_card_that_is_not_known_yet_is_waited_for(handed: Handed) -> None:
    """At the first start the log of this boot is read before the driver has listed its cards."""
    cards: dict[str, Tags] = {}
    ledger = handed.ledger(cards.get)
    ledger.hear([xid(1, 1.0), xid(2, 30.0, 43)], clocks(40), is_live=False)
    ledger.release(41.0, LogState.BEHIND)
    ledger.hand_over()
    assert ledger.is_waiting
    assert ledger.position == Position()
    assert handed.readings == []
    cards[ADDRESS] = CARD
    ledger.release(43.0, LogState.BEHIND)
    ledger.hand_over()
    assert [reading.tags for reading in handed.readings] == [CARD, CARD]
    assert ledger.position == Position(30_000_000, 2)


def test_a_card_that_does_not_become_known_is_told_by_its_address(handed: Handed) -> None:
    """It fell off before anybody saw it."""
    ledger = handed.ledger(nowhere, started=100.0)
    ledger.hear([xid(1, 1.0, 79)], clocks(100), is_live=False)
    assert ledger.due(LogState.BEHIND) == 102.0
    ledger.release(100.0 + LOCATE_SECONDS, LogState.BEHIND)
    ledger.hand_over()
    assert [reading.tags for reading in handed.readings] == [NOBODY]


def test_long_after_the_start_no_card_is_waited_for(handed: Handed) -> None:
    """Its event, and those of the others behind it, must not be late."""
    ledger = handed.ledger(nowhere)
    ledger.hear([xid(1, 1000.0)], clocks(1000), is_live=False)
    ledger.hand_over()
    assert [reading.tags for reading in handed.readings] == [NOBODY]


def test_a_card_is_found_by_the_name_that_the_driver_gave_it(handed: Handed) -> None:
    """The inventory knows the UUID, not the address."""
    ledger = handed.ledger(by_uuid)
    lines = [record(0, 1.0, f"GPU at PCI:0000:01:00: {UUID}"), xid(1, 1.0)]
    ledger.hear(lines, clocks(2), is_live=False)
    ledger.hand_over()
    assert [reading.tags for reading in handed.readings] == [CARD]


def test_the_name_that_the_driver_gave_is_remembered(handed: Handed) -> None:
    """It gives it once a boot."""
    ledger = handed.ledger(by_uuid)
    lines = [record(0, 1.0, f"GPU at PCI:0000:01:00: {UUID}"), xid(1, 1.0)]
    ledger.hear(lines, clocks(2), is_live=False)
    ledger.hand_over()
    ledger = handed.ledger(by_uuid, started=1000.0)
    ledger.hear([xid(2, 1000.0)], clocks(1001), is_live=False)
    ledger.hand_over()
    assert [reading.tags for reading in handed.readings] == [CARD, CARD]


# --- restarts ----------------------------------------------------------------------------------


def test_what_happened_before_the_first_start_is_told(handed: Handed) -> None:
    """With its own time: a card may have died before the agent came."""
    ledger = handed.ledger(started=86_400.0)
    ledger.hear([xid(1, 60.0, 79)], clocks(86_400), is_live=False)
    ledger.hand_over()
    assert [reading.time_ns for reading in handed.readings] == [WALL_NS + 60 * SECOND + 1]


def test_a_restarted_ledger_knows_how_far_it_has_read(handed: Handed) -> None:
    """So nothing is told again."""
    ledger = handed.ledger()
    ledger.hear([xid(4, 1.0), xid(5, 50.0)], clocks(60), is_live=False)
    ledger.hand_over()
    assert handed.ledger().position == Position(50_000_000, 5)


def test_repeats_that_were_being_counted_are_not_forgotten(handed: Handed) -> None:
    """A restart in between costs none of them."""
    ledger = handed.ledger()
    ledger.hear([xid(0, 1.0), xid(1, 2.0), xid(2, 3.0, 43)], clocks(4), is_live=False)
    ledger.hand_over()
    ledger = handed.ledger()
    ledger.hear([xid(3, 4.0)], clocks(5), is_live=False)
    ledger.flush(60.0)
    ledger.hand_over()
    assert handed.brief == [("xid", "31", 1), ("xid", "43", 1), ("xid", "31", 2)]


def test_a_new_boot_has_a_new_log(handed: Handed) -> None:
    """What was still counted in the old one is told, its position means nothing any more."""
    ledger = handed.ledger()
    ledger.hear([xid(0, 1.0), xid(1, 2.0), xid(2, 3.0, 43)], clocks(4), is_live=False)
    ledger.hand_over()
    ledger = handed.ledger(boot="boot-2")
    ledger.hand_over()
    assert ledger.position == Position()
    assert handed.brief == [("xid", "31", 1), ("xid", "43", 1), ("xid", "31", 1)]
    ledger.hear([xid(0, 1.0)], clocks(4, WALL_NS + 60 * SECOND), is_live=False)
    ledger.hand_over()
    assert handed.readings[-1].time_ns == WALL_NS + 61 * SECOND


def test_times_hold_over_a_restart_though_the_clock_crept(handed: Handed) -> None:
    """The same record read again must be the same event; a clock that was set counts from then."""
    for wall_ns in (WALL_NS, WALL_NS + SECOND // 2, WALL_NS + 3600 * SECOND):
        ledger = handed.ledger()
        ledger.hear([xid(1, 500.0)], clocks(600, wall_ns), is_live=False)
        ledger.flush(600.0)
        ledger.hand_over()
    first, second, third = (reading.time_ns for reading in handed.readings)
    assert first == second
    assert third == first + 3600 * SECOND


def test_errors_of_links_are_counted_over_a_restart(handed: Handed) -> None:
    """What came while the agent was away is told; a new boot starts anew."""
    for boot, errors in (("boot-1", 5), ("boot-1", 5), ("boot-1", 9), ("boot-2", 20)):
        ledger = handed.ledger(boot=boot)
        ledger.hear_totals({ADDRESS: {"card": {"RxErr": errors}}}, WALL_NS)
        ledger.hand_over()
    assert handed.brief == [("aer", "RxErr", 4)]


@pytest.mark.parametrize("content", [b"", b"{", b'{"boot": 7}', b"\xff"])
def test_a_memory_that_cannot_be_read_is_begun_anew(
    handed: Handed, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept beside, for whoever wants to know why."""
    handed.path.parent.mkdir()
    handed.path.write_bytes(content)
    assert handed.ledger().position == Position()
    assert "events.json: cannot be used" in caplog.text
    assert handed.path.with_suffix(".unreadable").read_bytes() == content


def test_a_memory_that_cannot_be_written_costs_no_event(
    handed: Handed, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once."""
    handed.path.parent.write_text("a file where the directory should be")
    ledger = handed.ledger()
    for number in range(2):
        ledger.hear([xid(number, 20.0 * number)], clocks(60), is_live=False)
        ledger.hand_over()
    assert handed.brief == [("xid", "31", 1), ("xid", "31", 1)]
    assert caplog.text.count("cannot be saved") == 1


# --- crashes -----------------------------------------------------------------------------------


class CrashError(Exception):
    """The process ends here."""


class Crashing:
    """A spool that keeps what it was given, and a process that ends before or after it did."""

    def __init__(self, crashes: Sequence[str]) -> None:
        self.kept: list[Reading] = []
        self._crashes = iter(crashes)

    def put(self, readings: Sequence[Reading]) -> None:
        crash = next(self._crashes, "")
        if crash == "before":
            raise CrashError
        self.kept += readings
        if crash == "after":
            raise CrashError


LINES: list[Callable[[int, float], Record]] = [
    xid,
    lambda seq, second: xid(seq, second, 43),
    lambda seq, second: xid(seq, second, 79),
    lambda seq, second: record(seq, second, f"GPU {ADDRESS}: GPU has fallen off the bus."),
    lambda seq, second: record(seq, second, f"GPU {ADDRESS}: RmInitAdapter failed! (0x24)"),
    lambda seq, second: record(seq, second, "The NVIDIA GPU 0000:01:00.0"),
    lambda seq, second: record(seq, second, "fallen off the bus and is not responding"),
]


def run(path: Path, log: Sequence[Record], put: Crashing, sizes: Sequence[int]) -> None:
    """Read a log in chunks of some sizes, from where the last process stood, until all is told."""
    sizes = list(sizes)
    while True:
        ledger = EventLedger(path, "boot-1", put.put, here, 0.0)
        left = [r for r in log if not ledger.position.is_past(r.position)]
        try:
            ledger.hand_over()
            while left:
                size = sizes.pop(0) if sizes else len(left)
                ledger.hear(left[:size], clocks(3600), is_live=False)
                left = left[size:]
                ledger.hand_over()
            ledger.flush(3600.0)
            ledger.hand_over()
        except CrashError:
            continue
        return


def identity(reading: Reading) -> tuple[object, ...]:
    return (tuple(reading.tags.items()), reading.time_ns, tuple(sorted(reading.fields.items())))


@given(
    st.lists(
        st.tuples(st.sampled_from(LINES), st.sampled_from([0.0, 0.2, 3.0, 11.0])), max_size=20
    ),
    st.lists(st.sampled_from(["", "before", "after"]), max_size=6),
    st.lists(st.integers(1, 4), max_size=20),
)
def test_a_crash_at_any_point_loses_nothing_and_doubles_nothing(
    lines: list[tuple[Callable[[int, float], Record], float]],
    crashes: list[str],
    sizes: list[int],
) -> None:
    """What the store holds in the end is what it would hold without: same times, same counts."""
    log, second = [], 1.0
    for seq, (line, wait) in enumerate(lines):
        second += wait
        log.append(line(seq, second))
    with tempfile.TemporaryDirectory() as place:
        calm, rough = Crashing([]), Crashing(crashes)
        run(Path(place) / "calm.json", log, calm, [])
        run(Path(place) / "rough.json", log, rough, sizes)
    # The store keeps one of what is the same in tags and time.
    stored = {identity(reading)[:2]: identity(reading) for reading in rough.kept}
    assert set(stored.values()) == set(map(identity, calm.kept))
    assert len(stored) == len(set(map(identity, rough.kept)))


def test_a_crash_before_the_spool_has_it_is_made_good(handed: Handed) -> None:
    """Though the cards are called otherwise by then: what was to be told is told as it was."""
    crashing = Crashing(["before"])
    ledger = EventLedger(handed.path, "boot-1", crashing.put, here, 0.0)
    ledger.hear([xid(0, 1.0)], clocks(2), is_live=False)
    with pytest.raises(CrashError):
        ledger.hand_over()
    handed.ledger(elsewhere).hand_over()
    assert [reading.tags for reading in handed.readings] == [CARD]


def test_a_crash_that_took_the_machine_with_it_is_made_good(handed: Handed) -> None:
    """The log is gone with the boot, what was to be told of it is not."""
    crashing = Crashing(["before"])
    ledger = EventLedger(handed.path, "boot-1", crashing.put, here, 0.0)
    ledger.hear([xid(0, 1.0, 79)], clocks(2), is_live=False)
    with pytest.raises(CrashError):
        ledger.hand_over()
    handed.ledger(boot="boot-2").hand_over()
    assert handed.brief == [("xid", "79", 1)]


def test_what_was_handed_on_is_not_handed_on_again(handed: Handed) -> None:
    """A restart does not tell old events."""
    ledger = handed.ledger()
    ledger.hear([xid(0, 1.0)], clocks(2), is_live=False)
    ledger.hand_over()
    handed.ledger().hand_over()
    assert Counter(handed.brief) == {("xid", "31", 1.0): 1}
