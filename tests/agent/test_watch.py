"""The watch with real reader processes on the stand-in for the driver's library."""

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import pynvml
import pytest

from farmhand_agent.child import Pace, Patience
from farmhand_agent.hung import HungReaders
from farmhand_agent.inventory import Inventory, Place
from farmhand_agent.once import read_once
from farmhand_agent.reader import CardWindow
from farmhand_agent.sources.base import CardEvent
from farmhand_agent.watch import STOP_SECONDS, Watch
from tests import standin
from tests.standin.captures import farm_state

PATIENCE_SECONDS = 30.0
"""How long a test waits for what must come; only a failing test ever waits so long."""

INTERVAL_SECONDS = 0.2
PACE = Pace(INTERVAL_SECONDS, 0.1)
QUICK = Patience(
    stuck_seconds=0.5,
    apart_seconds=0.5,
    driver_seconds=1.0,
    retry_seconds=(0.2, 0.4),
    restart_seconds=0.1,
    nothing_seconds=0.2,
)


class Arrival(NamedTuple):
    """One window as it was delivered."""

    time_ns: int
    window: CardWindow


class Deliveries:
    """Takes what the watch delivers."""

    def __init__(self) -> None:
        self.all: list[Arrival] = []
        self.events: list[CardEvent] = []
        self.readers: list[list[str]] = []
        """Command lines of the readers that ran at each delivery."""
        self._changed = threading.Condition()

    def __call__(self, time_ns: int, windows: Sequence[CardWindow]) -> None:
        running = reader_commands()
        with self._changed:
            self.all += [Arrival(time_ns, window) for window in windows]
            self.readers.append(running)
            self._changed.notify_all()

    def tell(self, events: Sequence[CardEvent]) -> None:
        with self._changed:
            self.events += events
            self._changed.notify_all()

    def of(self, slot: str) -> list[CardWindow]:
        return [arrival.window for arrival in self.all if arrival.window.slot == slot]

    def states(self, slot: str) -> list[str]:
        return [window.state for window in self.of(slot)]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            came = self._changed.wait_for(condition, PATIENCE_SECONDS)
            assert came, {w.slot: self.states(w.slot) for _, w in self.all}

    def wait_for(self, slot: str, state: str, times: int = 1) -> None:
        """Wait until so many more windows of a card with this state were delivered."""
        wanted = self.states(slot).count(state) + times
        self.wait_until(lambda: self.states(slot).count(state) >= wanted)


def readers() -> list[psutil.Process]:
    """Reader processes of this process that are alive."""
    found = []
    for process in psutil.Process().children():
        try:
            if "farmhand_agent.reader" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def reader_commands() -> list[str]:
    """What each reader that is alive was asked to read."""
    commands = []
    for process in readers():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        commands.append(" ".join(word for word in words if word.startswith(("--only", "--skip"))))
    return commands


@pytest.fixture
def farm(
    nvml_state: standin.State, nvml_library: Path, monkeypatch: pytest.MonkeyPatch
) -> standin.State:
    """Three captured cards that reader processes find."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(nvml_library.parent))
    state = farm_state(nvml_state.path, ["RTX 3090", "T4", "H100"])
    state.write()
    return state


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return Inventory(tmp_path / "inventory.json")


@pytest.fixture
def deliveries() -> Deliveries:
    return Deliveries()


def made(
    farm: standin.State, inventory: Inventory, deliveries: Deliveries, patience: Patience
) -> Watch:
    """A watch over the farm's cards."""
    hung = HungReaders(farm.path.with_name("hung.json"))
    return Watch("nvidia", PACE, inventory, deliveries, deliveries.tell, hung, patience)


@pytest.fixture
def watch(farm: standin.State, inventory: Inventory, deliveries: Deliveries) -> Iterator[Watch]:
    """A watch on the farm, for the test to start."""
    assert farm.cards
    watch = made(farm, inventory, deliveries, QUICK)
    yield watch
    watch.stop()
    assert readers() == []


def slot(number: int) -> str:
    """Where the farm's card of that number sits."""
    return f"0000:{number + 1:02x}:00.0"


def text(farm: standin.State, number: int, key: str) -> str:
    return str(farm.cards[number][key])


# --- a healthy farm ----------------------------------------------------------------------------


def test_each_card_has_a_window_each_interval(
    watch: Watch, farm: standin.State, deliveries: Deliveries
) -> None:
    """All from one reader, with the tags and the values of the card, each at its own time."""
    watch.start()
    deliveries.wait_until(lambda: len(deliveries.of(slot(2))) >= 4)
    for number in range(3):
        windows = deliveries.of(slot(number))
        assert {window.card for window in windows} == {text(farm, number, "uuid")}
        assert {window.state for window in windows} == {"ok"}
        celsius = float(text(farm, number, "temperature"))
        assert {window.fields["core_temperature_celsius"] for window in windows} == {celsius}
    times = [arrival.time_ns for arrival in deliveries.all if arrival.window.slot == slot(0)]
    assert times == sorted(set(times)) and times[-1] <= time.time_ns()
    assert all(running == [""] for running in deliveries.readers)


def test_identity_comes_with_the_first_window(watch: Watch, deliveries: Deliveries) -> None:
    """And not with each one."""
    watch.start()
    deliveries.wait_until(lambda: len(deliveries.of(slot(0))) >= 3)
    infos = [window.info for window in deliveries.of(slot(0))]
    assert infos[0] is not None and infos[0]["name"] == "NVIDIA GeForce RTX 3090"
    assert infos[1:] == [None] * len(infos[1:])


def test_the_readers_that_run_are_known(watch: Watch, deliveries: Deliveries) -> None:
    """The agent counts their memory as its own."""
    watch.start()
    deliveries.wait_for(slot(0), "ok")
    assert watch.pids() == [process.pid for process in readers()]


# --- cards that go -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["the driver says so", "the driver does not list it"])
def test_a_card_that_goes_is_lost_with_its_tags(
    watch: Watch, farm: standin.State, deliveries: Deliveries, how: str
) -> None:
    """Its neighbours are read on."""
    watch.start()
    deliveries.wait_for(slot(1), "ok")
    if how == "the driver says so":
        farm.change(1, card=standin.LOST)
    else:
        # The cards are listed anew when the driver was loaded again, else once a minute.
        farm.library["reload"] = 1
        farm.change(1, absent=1)
    deliveries.wait_for(slot(1), "lost", 2)
    deliveries.wait_for(slot(2), "ok", 2)
    lost = next(w for w in deliveries.of(slot(1)) if w.state == "lost")
    assert (lost.card, lost.vendor, lost.model) == (text(farm, 1, "uuid"), "nvidia", "Tesla T4")
    assert lost.fields == {}


def test_a_card_that_comes_back_is_read_again(
    watch: Watch, farm: standin.State, deliveries: Deliveries
) -> None:
    """Reseated and found: it is well."""
    watch.start()
    deliveries.wait_for(slot(1), "ok")
    farm.change(1, card=standin.LOST)
    deliveries.wait_for(slot(1), "lost")
    del farm.cards[1]["card"]
    farm.write()
    deliveries.wait_for(slot(1), "ok")


def test_a_card_missing_after_a_restart_is_lost(
    watch: Watch, farm: standin.State, inventory: Inventory, deliveries: Deliveries
) -> None:
    """The inventory remembers what the driver no longer lists."""
    gone = Place("0000:07:00.0", "GPU-gone", "nvidia", "GeForce RTX 3080")
    inventory.see([gone])
    watch.start()
    deliveries.wait_for(gone.slot, "lost", 2)
    window = deliveries.of(gone.slot)[0]
    assert (window.card, window.model) == ("GPU-gone", "GeForce RTX 3080")
    assert deliveries.states(slot(0))[0] == "ok"
    assert farm.cards


def test_a_card_that_hides_its_identity_keeps_its_tags(
    watch: Watch, farm: standin.State, inventory: Inventory, deliveries: Deliveries
) -> None:
    """A dying card that no longer says its UUID is still the card of its slot."""
    known = Place(slot(1), text(farm, 1, "uuid"), "nvidia", "Tesla T4")
    inventory.see([known])
    farm.change(1, uuid=standin.error(999), name=standin.error(999))
    watch.start()
    deliveries.wait_for(slot(1), "ok")
    assert deliveries.of(slot(1))[0].card == known.card
    assert known in inventory.expected("nvidia")


def test_a_driver_that_is_gone_leaves_its_cards_unreadable(
    watch: Watch, farm: standin.State, deliveries: Deliveries
) -> None:
    """Each expected card has a reading each interval, and it says how long nobody answered."""
    watch.start()
    deliveries.wait_for(slot(0), "ok")
    farm.library |= {"init": standin.error(9), "reload": 1}
    farm.write()
    for number in range(3):
        deliveries.wait_for(slot(number), "unreadable", 2)
    silences = [
        float(str(window.fields["read_seconds"]))
        for window in deliveries.of(slot(0))
        if window.state == "unreadable"
    ]
    assert silences == sorted(silences)
    # The second follows after an interval, not after another wait for a reader that is long gone.
    assert silences[1] - silences[0] < 3 * INTERVAL_SECONDS + QUICK.stuck_seconds


# --- cards that hang or crash ------------------------------------------------------------------


def test_a_hanging_card_is_unreadable_and_its_neighbours_go_on(
    watch: Watch, farm: standin.State, deliveries: Deliveries
) -> None:
    """It is set apart; never is it probed twice at once, and the others have their own reader."""
    watch.start()
    deliveries.wait_for(slot(1), "ok")
    farm.change(1, utilization=standin.HANG)
    deliveries.wait_for(slot(1), "unreadable", 4)
    deliveries.wait_for(slot(0), "ok", 3)
    deliveries.wait_for(slot(2), "ok", 1)
    bad = next(w for w in deliveries.of(slot(1)) if w.state == "unreadable")
    assert (bad.card, bad.model) == (text(farm, 1, "uuid"), "Tesla T4")
    assert list(bad.fields) == ["read_seconds"]
    for running in deliveries.readers:
        assert len(running) <= 2
        probing = [words for words in running if f"--skip={slot(1)}" not in words]
        assert len(probing) <= 1


def test_a_card_that_hangs_at_first_and_is_mended_is_read_by_its_own_reader(
    watch: Watch, farm: standin.State, deliveries: Deliveries
) -> None:
    """It is tried again, and when it answers no reading is made up beside its own."""
    farm.change(1, utilization=standin.HANG)
    watch.start()
    deliveries.wait_for(slot(0), "ok", 2)
    farm.change(1, utilization=50)
    deliveries.wait_for(slot(1), "ok")
    begin = len(deliveries.of(slot(1)))
    deliveries.wait_for(slot(1), "ok", 5)
    assert set(deliveries.states(slot(1))[begin:]) == {"ok"}


def test_a_card_that_never_answered_is_unreadable_in_its_slot(
    watch: Watch, farm: standin.State, deliveries: Deliveries
) -> None:
    """Nobody knows its name yet, but that something sits there and hangs is worth a reading."""
    farm.change(1, utilization=standin.HANG)
    watch.start()
    deliveries.wait_for(slot(1), "unreadable", 2)
    assert deliveries.of(slot(1))[-1].card == "unidentified"
    deliveries.wait_for(slot(0), "ok", 2)
    farm.change(1, utilization=50)
    deliveries.wait_for(slot(1), "ok")
    assert deliveries.of(slot(1))[-1].card == text(farm, 1, "uuid")


def test_a_card_that_reads_well_for_long_joins_the_others_again(
    farm: standin.State, inventory: Inventory, deliveries: Deliveries
) -> None:
    """A reader of its own costs memory; one bad moment must not cost it for ever."""
    forgiving = QUICK._replace(rejoin_seconds=0.5)
    watch = made(farm, inventory, deliveries, forgiving)
    watch.start()
    try:
        deliveries.wait_for(slot(1), "ok")
        farm.change(1, utilization=standin.HANG)
        deliveries.wait_for(slot(1), "unreadable")
        farm.change(1, utilization=50)
        deliveries.wait_for(slot(1), "ok")
        assert len(watch.pids()) == 2
        deliveries.wait_until(lambda: len(watch.pids()) == 1)
        deliveries.wait_for(slot(1), "ok", 2)
        deliveries.wait_for(slot(0), "ok", 2)
        assert len(watch.pids()) == 1
    finally:
        watch.stop()


def test_a_crashing_card_is_set_apart(
    watch: Watch, farm: standin.State, deliveries: Deliveries, caplog: pytest.LogCaptureFixture
) -> None:
    """The process dies in it; the others lose a window or two, not their reader."""
    watch.start()
    deliveries.wait_for(slot(2), "ok")
    farm.change(2, utilization=standin.CRASH)
    deliveries.wait_for(slot(2), "unreadable", 3)
    deliveries.wait_for(slot(0), "ok", 3)
    deliveries.wait_for(slot(1), "ok", 1)
    named = [r.getMessage() for r in caplog.records if "ended in nvml" in r.getMessage()]
    assert named and all(slot(2) in message for message in named)


def test_two_bad_cards_are_set_apart_each(
    watch: Watch, farm: standin.State, deliveries: Deliveries
) -> None:
    """The one that is left is read on."""
    watch.start()
    deliveries.wait_for(slot(1), "ok")
    farm.cards[0]["utilization"] = standin.CRASH
    farm.cards[2]["utilization"] = standin.HANG
    farm.write()
    deliveries.wait_for(slot(0), "unreadable", 2)
    deliveries.wait_for(slot(2), "unreadable", 2)
    deliveries.wait_for(slot(1), "ok", 3)


def test_a_crash_while_listening_for_events_is_no_cards_fault(
    watch: Watch, farm: standin.State, deliveries: Deliveries
) -> None:
    """It happens in a thread of its own; the cards are read on without events."""
    farm.library["event_wait"] = standin.CRASH
    farm.write()
    watch.start()
    for number in range(3):
        deliveries.wait_for(slot(number), "ok", 3)
    assert watch.apart == []
    assert all("--deaf" in process.cmdline() for process in readers())


def test_the_last_word_of_a_card_that_hangs_is_told(
    watch: Watch, farm: standin.State, deliveries: Deliveries
) -> None:
    """The driver tells of an XID; the call about the card never comes back."""
    watch.start()
    deliveries.wait_for(slot(1), "ok")
    farm.change(1, utilization=standin.HANG)
    farm.raise_xid(1, 79)
    deliveries.wait_until(lambda: bool(deliveries.events))
    assert [(event.slot, event.code) for event in deliveries.events] == [(slot(1), "79")]


def test_a_driver_that_is_replaced_while_cards_are_listed_is_no_cards_fault(
    watch: Watch, farm: standin.State, inventory: Inventory, deliveries: Deliveries
) -> None:
    """The reader ends by itself, in the midst of a call about a card."""
    inventory.see([Place(slot(0), "GPU-a", "nvidia", "Tesla T4")])
    farm.change(1, uuid=standin.error(pynvml.NVML_ERROR_UNINITIALIZED))
    watch.start()
    deliveries.wait_for(slot(0), "unreadable", 3)
    assert watch.apart == []


def test_nobody_is_started_beside_a_reader_that_an_earlier_agent_left_hanging(
    farm: standin.State, inventory: Inventory, deliveries: Deliveries
) -> None:
    """Its card is unreadable, the others are read; once it ends, its card is read again."""
    inventory.see([Place(slot(number), f"GPU-{number}", "nvidia", "Tesla T4") for number in (0, 1)])
    with subprocess.Popen(["sleep", "infinity"]) as left:
        HungReaders(farm.path.with_name("hung.json")).add(left.pid, slot(1))
        watch = made(farm, inventory, deliveries, QUICK)
        watch.start()
        deliveries.wait_for(slot(1), "unreadable", 2)
        deliveries.wait_for(slot(0), "ok", 2)
        assert deliveries.states(slot(1)) == ["unreadable"] * len(deliveries.states(slot(1)))
        left.kill()
    deliveries.wait_for(slot(1), "ok")
    watch.stop()


def started(calls: Path) -> int:
    """How many readers connected to the driver so far."""
    return calls.read_text().count("nvmlInit") if calls.exists() else 0


def test_a_driver_that_crashes_is_tried_ever_more_rarely(
    farm: standin.State, inventory: Inventory, deliveries: Deliveries, nvml_calls: Path
) -> None:
    """A reader that dies each time it starts does not take the processor."""
    inventory.see([Place(slot(0), "GPU-a", "nvidia", "Tesla T4")])
    farm.library["init"] = standin.CRASH
    farm.write()
    patience = QUICK._replace(retry_seconds=(1.0, 600.0))
    watch = made(farm, inventory, deliveries, patience)
    watch.start()
    begin = time.monotonic()
    deliveries.wait_for(slot(0), "unreadable", 6)
    passed = time.monotonic() - begin
    watch.stop()
    # At 0, 1, 3, 7 s and so on, each a little later.
    assert 1 <= started(nvml_calls) <= 2 + passed


def test_a_card_that_crashes_when_it_is_listed_is_tried_ever_more_rarely(
    farm: standin.State, inventory: Inventory, deliveries: Deliveries, nvml_calls: Path
) -> None:
    """Setting it apart does not help, so the driver as a whole waits; no tight loop."""
    inventory.see([Place(slot(0), "GPU-a", "nvidia", "Tesla T4")])
    farm.change(0, uuid=standin.CRASH)
    patience = QUICK._replace(retry_seconds=(1.0, 600.0))
    watch = made(farm, inventory, deliveries, patience)
    watch.start()
    begin = time.monotonic()
    deliveries.wait_for(slot(0), "unreadable", 6)
    passed = time.monotonic() - begin
    watch.stop()
    # The reader of all, and that of the card: each at most once a second in the long run.
    assert 1 <= started(nvml_calls) <= 2 * (2 + passed)


def test_many_restarts_leave_nothing_open(
    farm: standin.State, inventory: Inventory, deliveries: Deliveries, nvml_calls: Path
) -> None:
    """Neither a descriptor nor a dead process stays behind a reader that ended."""
    inventory.see([Place(slot(0), "GPU-a", "nvidia", "Tesla T4")])
    farm.library["init"] = standin.CRASH
    farm.write()
    before = psutil.Process().num_fds()
    patience = QUICK._replace(retry_seconds=(0.05, 0.05))
    watch = made(farm, inventory, deliveries, patience)
    watch.start()
    deliveries.wait_until(lambda: started(nvml_calls) >= 6)
    assert len(psutil.Process().children()) <= 1
    watch.stop()
    assert psutil.Process().children() == []
    assert psutil.Process().num_fds() <= before


def test_stop_does_not_wait_for_a_card_that_hangs(
    watch: Watch, farm: standin.State, deliveries: Deliveries, nvml_calls: Path
) -> None:
    """The agent ends in time, and its readers with it."""
    watch.start()
    deliveries.wait_for(slot(0), "ok")
    farm.change(0, utilization=standin.HANG)
    seen = nvml_calls.read_text().count("0 nvmlDeviceGetUtilizationRates")
    deliveries.wait_until(
        lambda: (
            nvml_calls.read_text().count("0 nvmlDeviceGetUtilizationRates") > seen
            or "unreadable" in deliveries.states(slot(0))
        )
    )
    begin = time.monotonic()
    watch.stop()
    assert time.monotonic() - begin < STOP_SECONDS
    assert readers() == []


def test_stop_before_start_does_nothing(watch: Watch) -> None:
    """An agent that fails to start is ended the same way."""
    watch.stop()


def test_a_failure_of_the_spool_does_not_end_the_watch(
    farm: standin.State, inventory: Inventory, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be delivered is told; the next window is."""
    deliveries = Deliveries()
    failures = [OSError("no space"), OSError("no space")]

    def deliver(time_ns: int, windows: Sequence[CardWindow]) -> None:
        if failures:
            raise failures.pop()
        deliveries(time_ns, windows)

    hung = HungReaders(farm.path.with_name("hung.json"))
    watch = Watch("nvidia", PACE, inventory, deliver, lambda _: None, hung, QUICK)
    watch.start()
    deliveries.wait_for(slot(0), "ok", 2)
    watch.stop()
    assert farm.cards
    assert [r.levelno for r in caplog.records] == [logging.ERROR, logging.ERROR]


# --- no cards ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["no library", "no driver", "no card"])
def test_a_machine_without_cards_is_quiet(
    what: str,
    farm: standin.State,
    nvml_calls: Path,
    inventory: Inventory,
    deliveries: Deliveries,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No reading, no card, and one line at most however often it is looked at."""
    caplog.set_level(logging.INFO)
    if what == "no library":
        (tmp_path / "none").mkdir()
        (tmp_path / "none" / standin.SONAME).write_text("no library")
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "none"))
    farm.cards.clear()
    farm.library |= {"init": standin.error(9)} if what == "no driver" else {}
    farm.write()
    watch = made(farm, inventory, deliveries, QUICK)
    watch.start()
    looked = threading.Event()
    pids: set[int] = set()
    end = time.monotonic() + PATIENCE_SECONDS
    while len(pids) < (1 if what == "no card" else 3) and time.monotonic() < end:
        pids |= set(watch.pids())
        looked.wait(0.02)
    if what != "no library":
        while started(nvml_calls) < 1 and time.monotonic() < end:
            looked.wait(0.02)
    watch.stop()
    assert pids and deliveries.all == []
    assert [r.levelno for r in caplog.records] == [logging.INFO] * (what != "no card")


# --- once --------------------------------------------------------------------------------------


def test_once_reads_each_card(farm: standin.State) -> None:
    """One window of everything that is there."""
    message = read_once("nvidia", PACE, QUICK)
    assert message.nothing is None
    assert [window.card for window in message.cards] == [str(c["uuid"]) for c in farm.cards]
    assert [window.state for window in message.cards] == ["ok", "ok", "ok"]
    assert readers() == []


@pytest.mark.parametrize("how", [standin.HANG, standin.CRASH])
def test_once_leaves_out_what_hangs_or_crashes(farm: standin.State, how: str) -> None:
    """The others are shown, the bad ones by their slots."""
    farm.cards[0]["utilization"] = how
    farm.cards[2]["clock_sm"] = farm.cards[2]["clock_graphics"] = how
    farm.write()
    message = read_once("nvidia", PACE, QUICK)
    states = {window.slot: window.state for window in message.cards}
    assert states == {slot(1): "ok", slot(0): "unreadable", slot(2): "unreadable"}
    assert readers() == []


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        (standin.CRASH, "the reader failed in nvmlInit of the driver"),
        (standin.HANG, "the reader failed in nvmlInit of the driver"),
        (standin.error(9), "the NVIDIA driver is not loaded"),
    ],
)
def test_once_says_why_there_is_nothing(farm: standin.State, init: str, reason: str) -> None:
    """A driver that fails as a whole is told in one phrase."""
    farm.library["init"] = init
    farm.write()
    message = read_once("nvidia", PACE, QUICK)
    assert (message.nothing, message.cards) == (reason, [])
    assert readers() == []
