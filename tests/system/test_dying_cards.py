"""Everything that a dying card or driver does, to a real agent on a node of eight cards.

In each of these the healthy cards miss two intervals at most, the bad one is told as what it is
under the tags it had, readers do not pile up, and the agent is there until it is told to end. The
agent has a tenth of its patience and interval; one test gives it all of both.
"""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from farmhand_agent.reading import Reading
from tests import standin
from tests.standin.fixtures import nvml_library
from tests.system.farm_node import (
    CARDS,
    INTERVAL_SECONDS,
    PATIENT,
    SHARE,
    Node,
    hurried,
    node_in,
    stalling_file,
    what_stalling_lacks,
)
from tests.system.programs import wait_until

__all__ = ["nvml_library"]

pytestmark = pytest.mark.system

BAD = 2
"""Number of the card that sickens."""
NEW = 7
"""Number of the card that is plugged in while the agent runs."""
SLOW_SECONDS = 45 * SHARE
"""Of one call, on a card whose memory fails under load."""


@pytest.fixture(scope="module", autouse=True)
def grown_node(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that got another card while its agent ran.

    It stands beside all tests here: a list of the bus is good for a minute, which nobody waits for.
    """
    with node_in(tmp_path_factory.mktemp("grown"), nvml_library) as grown:
        grown.bus.unplug(NEW)
        grown.farm.change(NEW, absent=1)
        grown.start(silent={NEW})
        grown.bus.plug(NEW)
        grown.farm.change(NEW, absent=0)
        yield grown


@pytest.fixture
def node(nvml_library: Path, tmp_path: Path) -> Iterator[Node]:
    """A node whose hurried agent runs and has read all its cards."""
    with node_in(tmp_path, nvml_library) as made:
        made.start()
        yield made


def number_of(reading: Reading, field: str) -> float:
    """A field of a reading that is a number."""
    value = reading.fields[field]
    assert isinstance(value, float)
    return value


def slowest_answer(node: Node, number: int) -> float:
    """Longest `read_seconds` of a card among its readings that are `ok`."""
    answers = [r for r in node.readings(number) if r.fields["state"] == "ok"]
    return max(number_of(answer, "read_seconds") for answer in answers)


def needs_stalling() -> None:
    """Fail where no file system can be frozen."""
    lacking = what_stalling_lacks()
    if lacking:
        pytest.fail(lacking, pytrace=False)


# --- a call that does not come back --------------------------------------------------------------


def test_a_call_that_crashes(node: Node) -> None:
    """The card is tried again, and is well as soon as it answers."""
    node.farm.change(BAD, utilization=standin.CRASH)
    node.wait_for(BAD, "unreadable", 3)
    node.farm.change(BAD, utilization=40)
    node.wait_for(BAD, "ok", 2)

    node.check_promises(bad={BAD})
    assert node.story(BAD) == ["ok", "unreadable", "ok"]


def test_a_call_that_hangs_for_a_minute(node: Node) -> None:
    """Its own reader has the patience, and tells how long it took."""
    node.farm.change(BAD, utilization=standin.hang(60 * SHARE, 40))
    node.wait_for(BAD, "unreadable")
    node.wait_for(BAD, "ok")
    node.farm.change(BAD, utilization=40)
    node.wait_for(BAD, "ok", 2)

    node.check_promises(bad={BAD})
    assert node.story(BAD)[:3] == ["ok", "unreadable", "ok"]
    assert 60 * SHARE <= slowest_answer(node, BAD) < 60 * SHARE + 2


def test_a_call_that_hangs_for_ever_on_an_agent_that_is_not_hurried(
    nvml_library: Path, tmp_path: Path
) -> None:
    """The promise in full: two intervals of ten seconds."""
    pace = {"interval_seconds": 10.0, "sample_seconds": 1.0}
    with node_in(tmp_path, nvml_library, PATIENT, **pace) as patient:
        patient.start()
        patient.farm.change(BAD, utilization=standin.HANG)
        patient.wait_for(BAD, "unreadable", 3)

        patient.check_promises(bad={BAD})
        assert patient.story(BAD) == ["ok", "unreadable"]


def test_a_card_that_hangs_when_it_is_opened(node: Node) -> None:
    """From the agent's start on: the bad one is known by its place and keeps its name."""
    node.stop()
    node.farm.change(BAD, handle=standin.HANG)
    node.start()
    node.wait_for(BAD, "unreadable", 2)

    node.check_promises(bad={BAD})
    assert node.story(BAD) == ["ok", "unreadable"]


def test_a_call_that_not_even_a_kill_ends(node: Node, tmp_path: Path) -> None:
    """Its reader sleeps in the kernel: none is started beside it, and the agent ends without it."""
    needs_stalling()
    with stalling_file(tmp_path) as file:
        with file.frozen():
            node.farm.change(BAD, utilization=standin.sleep_in(file.path, 40))
            node.wait_for(BAD, "unreadable", 8)
            (asleep,) = [p for p in node.readers() if p.status == psutil.STATUS_DISK_SLEEP]
            assert node.own_readers(BAD) == []
        node.wait_for(BAD, "ok", 2)
        assert not psutil.pid_exists(asleep.pid)
        with file.frozen():
            node.wait_for(BAD, "unreadable", 2)
            node.check_promises(bad={BAD})

    assert node.story(BAD) == ["ok", "unreadable", "ok", "unreadable"]
    # Its own reader has nobody else to read, so its silence is soon known.
    assert node.longest_gap_seconds(BAD) < 4 * INTERVAL_SECONDS


def test_an_agent_that_starts_beside_a_reader_that_cannot_be_killed(
    node: Node, tmp_path: Path
) -> None:
    """It probes nothing that the old one's reader still sleeps in: processes do not pile up."""
    needs_stalling()
    with stalling_file(tmp_path) as file:
        with file.frozen():
            node.farm.change(BAD, utilization=standin.sleep_in(file.path, 40))
            node.wait_for(BAD, "unreadable", 3)
            (asleep,) = [p for p in node.readers() if p.status == psutil.STATUS_DISK_SLEEP]
            for _ in range(2):
                node.stop()
                node.start()
                node.wait_for(BAD, "unreadable", 3)
                assert psutil.Process(asleep.pid).status() == psutil.STATUS_DISK_SLEEP
                assert {p.chosen for p in node.readers()} == {f"--skip={node.bus.slot(BAD)}"}
        node.wait_for(BAD, "ok", 2)
        assert not psutil.pid_exists(asleep.pid)
        node.check_promises(bad={BAD})

    assert node.story(BAD) == ["ok", "unreadable", "ok"]


def test_an_xid_that_is_the_last_word_of_a_card(node: Node) -> None:
    """The driver tells of it and hangs in the card: it is told at once, and once."""
    node.farm.cards[BAD]["utilization"] = standin.HANG
    node.farm.raise_xid(BAD, 79)
    wait_until(lambda: node.events(BAD, "xid") == ["xid 79"], 20, "the XID is told")
    node.wait_for(BAD, "unreadable", 2)

    node.check_promises(bad={BAD})
    assert node.events(BAD, "xid") == ["xid 79"]


def test_a_crash_while_the_driver_is_asked_for_events(node: Node) -> None:
    """No card is to blame: all are read on, without what the driver would tell."""
    node.farm.library["event_wait"] = standin.CRASH
    node.farm.write()
    node.farm.raise_xid(BAD, 31)
    wait_until(lambda: "crashed when asked for events" in node.log(), 20, "the crash")
    node.wait_for(BAD, "ok", 3)

    node.check_promises(bad=())


def test_a_card_that_recovers_now_and_then(nvml_library: Path, tmp_path: Path) -> None:
    """It joins the others when it has been well for long without a break, not before."""
    rejoin_seconds = 4
    with node_in(tmp_path, nvml_library, hurried(rejoin_seconds)) as node:
        node.start()
        node.farm.change(BAD, utilization=standin.CRASH)
        node.wait_for(BAD, "unreadable")
        node.farm.change(BAD, utilization=40)
        node.wait_for(BAD, "ok", 2)
        for _ in range(2):
            node.farm.change(BAD, card=standin.error(999))
            node.wait_for(BAD, "unreadable", 2)
            node.farm.change(BAD, card=0)
            node.wait_for(BAD, "ok", 2)
        assert len(node.own_readers(BAD)) == 1
        wait_until(lambda: node.own_readers(BAD) == [], 20, "the card joins the others")

        node.check_promises(bad={BAD})


# --- calls that come back late -------------------------------------------------------------------


def test_a_call_that_takes_45_seconds(node: Node) -> None:
    """As on a card with failing memory under load: it is slow, and says so; it is not dead."""
    node.farm.change(BAD, ecc_corrected_aggregate=standin.slow(1000 * SLOW_SECONDS, 17_700))
    node.wait_for(BAD, "unreadable")
    node.wait_for(BAD, "ok", 2)
    node.farm.change(BAD, ecc_corrected_aggregate=17_700)
    node.wait_for(BAD, "ok", 3)

    node.check_promises(bad={BAD})
    assert SLOW_SECONDS <= slowest_answer(node, BAD) < SLOW_SECONDS + 2
    assert number_of(node.readings(BAD)[-1], "read_seconds") < 1


def test_a_card_that_is_slow_in_each_call_under_load(node: Node) -> None:
    """No call is stuck, but together they would hold the others up."""
    node.farm.change(BAD, utilization=97, loaded_delay_ms=250)
    node.wait_for(BAD, "unreadable")
    node.wait_for(BAD, "ok")
    node.farm.change(BAD, utilization=3)
    node.wait_for(BAD, "ok", 3)

    node.check_promises(bad={BAD})
    assert slowest_answer(node, BAD) > 1
    assert number_of(node.readings(BAD)[-1], "read_seconds") < 1


# --- cards that go -------------------------------------------------------------------------------


def test_a_card_that_the_driver_calls_lost(node: Node) -> None:
    """With the XID that said why, told once, and the moments when it went and came back."""
    node.farm.raise_xid(BAD, 79)
    node.farm.change(BAD, card=standin.LOST)
    node.wait_for(BAD, "lost", 2)
    node.farm.change(BAD, card=0)
    node.wait_for(BAD, "ok", 2)
    wait_until(lambda: node.events(BAD, "xid") == ["xid 79"], 20, "the XID is told")

    node.check_promises(bad={BAD}, apart=0)
    assert node.story(BAD) == ["ok", "lost", "ok"]
    assert node.events(BAD, "lost", "returned", "xid") == ["xid 79", "lost", "returned"]


def test_cards_that_are_gone_when_the_driver_is_loaded_again(node: Node) -> None:
    """Off the bus, dead on the bus, or withheld by the driver: each is told as what it is."""
    off_the_bus, dead, withheld = 1, 3, 5
    node.bus.unplug(off_the_bus)
    node.bus.fall_off(dead)
    node.farm.cards[off_the_bus]["absent"] = 1
    node.farm.cards[dead]["handle"] = node.farm.cards[withheld]["handle"] = standin.error(6)
    node.farm.library["reload"] = 1
    node.farm.write()
    node.wait_for(off_the_bus, "lost", 2)
    node.wait_for(dead, "lost", 2)
    node.wait_for(withheld, "unreadable", 2)

    node.check_promises(bad={off_the_bus, dead, withheld}, apart=0)
    assert node.story(off_the_bus) == node.story(dead) == ["ok", "lost"]
    assert node.story(withheld) == ["ok", "unreadable"]


def test_a_card_that_is_gone_after_a_reboot(node: Node) -> None:
    """It is lost under its name; its neighbours, on other bus numbers now, are who they were."""
    node.stop()
    for number in CARDS[BAD:]:
        node.bus.unplug(number)
    for number in CARDS[BAD + 1 :]:
        node.bus.plug(number, bus=number)
        node.farm.cards[number]["pci_address"] = f"00000000:{number:02X}:00.0"
    node.farm.change(BAD, absent=1)
    node.start()
    node.wait_for(BAD, "lost", 2)

    node.check_promises(bad={BAD}, apart=0)
    assert node.story(BAD) == ["ok", "lost"]
    assert [node.events(number, "identity") for number in CARDS] == [[]] * len(CARDS)


def test_a_driver_that_is_replaced(node: Node) -> None:
    """First it is not there, then it does not fit its library; then all is as it was."""
    for trouble in (standin.error(9), standin.error(18)):
        node.farm.library |= {"init": trouble, "reload": 1}
        node.farm.write()
        node.wait_for_each(CARDS, "unreadable", 2)
    node.farm.library |= {"init": 0, "reload": 2}
    node.farm.write()
    node.wait_for_each(CARDS, "ok", 2)

    node.check_promises(bad=CARDS, apart=0)
    for number in CARDS:
        assert node.story(number) == ["ok", "unreadable", "ok"]
        assert node.events(number, "lost", "returned", "identity") == []
        # Nobody has to be waited for to know it.
        assert node.longest_gap_seconds(number) < 3 * INTERVAL_SECONDS


# --- cards that say strange things ---------------------------------------------------------------

NAMELESS, TWIN, OTHER_TWIN, PATCHY, JUNK = 1, 3, 4, 5, 6


@pytest.fixture(scope="module")
def odd_node(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose cards say strange things all at once, after its agent has ended well."""
    with node_in(tmp_path_factory.mktemp("odd"), nvml_library) as odd:
        odd.farm.cards[TWIN]["uuid"] = odd.farm.cards[OTHER_TWIN]["uuid"]
        odd.farm.write()
        odd.start()
        odd.farm.library["reload"] = 1
        odd.farm.cards[NAMELESS]["uuid"] = standin.error(999)
        odd.farm.cards[PATCHY] |= dict.fromkeys(("clock_memory", "fan_0"), standin.error(999))
        odd.farm.cards[JUNK] |= {
            "clock_memory": 2**32 - 1,
            "power_usage": 2**32 - 1,
            "field_83": 9 * 10**18,
            "temperature": 0,
            "temperature_v": 0,
            "utilization": 255,
        }
        odd.farm.write()
        odd.wait_for_each(CARDS, "ok", 3)
        odd.farm.change(JUNK, temperature=120, temperature_v=120)
        odd.wait_for(JUNK, "ok", 3)
        odd.check_promises(bad=())
        yield odd


def test_a_card_that_no_longer_says_its_name(odd_node: Node) -> None:
    """It is the one that was last seen in its slot."""
    assert odd_node.tags(NAMELESS) == {odd_node.identities[NAMELESS]}
    assert odd_node.events(NAMELESS, "identity", "lost") == []


def test_two_cards_that_say_the_same_name(odd_node: Node) -> None:
    """Both are read, each in its slot; none has moved."""
    for number in (TWIN, OTHER_TWIN):
        assert odd_node.story(number) == ["ok"]
        assert odd_node.events(number, "identity", "lost", "returned") == []
    (name, _), (other_name, _) = (odd_node.identities[n] for n in (TWIN, OTHER_TWIN))
    assert name == other_name


def test_a_card_that_gives_some_values_no_more(odd_node: Node) -> None:
    """They are left out, and only they."""
    first, *_, last = odd_node.readings(PATCHY)
    gone = set(first.fields) - set(last.fields)
    assert {"memory_clock_mhz", "fan_ratio"} <= gone
    assert {"core_clock_mhz", "core_temperature_celsius", "power_watts"} <= set(last.fields)


def test_a_card_that_gives_numbers_that_cannot_be(odd_node: Node) -> None:
    """None becomes data; a jump to 120 °C can be, and does."""
    impossible = {"memory_clock_mhz", "power_watts", "energy_joules", "utilization_ratio"}
    readings = odd_node.readings(JUNK)
    without = [r for r in readings if "core_temperature_celsius" not in r.fields]
    assert without and not impossible & set(without[-1].fields)
    assert "core_clock_mhz" in without[-1].fields
    assert number_of(readings[-1], "core_temperature_celsius") == 120
    assert not impossible & set(readings[-1].fields)


# --- an agent that is held up itself -------------------------------------------------------------


def test_an_agent_that_was_stopped_while_a_card_recovered(
    nvml_library: Path, tmp_path: Path
) -> None:
    """It catches up with what its readers said, and lets the card join the others again."""
    rejoin_seconds = 3
    with node_in(tmp_path, nvml_library, hurried(rejoin_seconds)) as node:
        node.start()
        node.farm.change(BAD, utilization=standin.CRASH)
        node.wait_for(BAD, "unreadable")
        node.farm.change(BAD, utilization=40)
        node.wait_for(BAD, "ok")
        node.agent.send_signal(signal.SIGSTOP)
        time.sleep(rejoin_seconds + 2)
        node.agent.send_signal(signal.SIGCONT)
        wait_until(lambda: node.own_readers(BAD) == [], 20, "the card joins the others again")
        node.wait_for_each(CARDS, "ok", 2)

        node.check_promises(bad={BAD})
        assert node.story(BAD) == ["ok", "unreadable", "ok"]


def test_a_disk_that_stalls(nvml_library: Path, tmp_path: Path) -> None:
    """The agent cannot hand on what it hears, and still takes no card for a silent one."""
    needs_stalling()
    with stalling_file(tmp_path) as file:
        state_dir = str(file.path.with_name("state"))
        with node_in(tmp_path / "node", nvml_library, state_dir=state_dir) as node:
            node.start()
            with file.frozen():
                time.sleep(6)
            node.wait_for_each(CARDS, "ok", 3)

            node.check_promises(bad=())


# --- a card that comes ---------------------------------------------------------------------------


def test_a_card_that_is_plugged_in(grown_node: Node) -> None:
    """It is found within a minute, and the others are read on by the same reader."""
    wait_until(lambda: grown_node.story(NEW) == ["ok"], 90, "the new card is read")

    grown_node.check_promises(bad=())
    assert len({process.pid for look in grown_node.looks for process in look}) == 1
