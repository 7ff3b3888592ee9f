"""What becomes of a window on its way to the spool."""

import logging
from pathlib import Path

import pytest

from farmhand_agent import boots
from farmhand_agent.inventory import Place
from farmhand_agent.publisher import Publisher
from farmhand_agent.reader import CardWindow, State
from farmhand_agent.reading import UNIDENTIFIED, Reading, Value, parse_line
from farmhand_agent.sources.work import Work
from farmhand_agent.spool import Spool

NODE = {"site": "home", "rack": "a", "host": "node1"}
TIME_NS = 1_800_000_000_000_000_000


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def publisher(lines: list[str]) -> Publisher:
    return Publisher(NODE, lines.extend)


def window(
    card: str = "GPU-a", state: State = "ok", info: dict[str, Value] | None = None
) -> CardWindow:
    fields: dict[str, Value] = {"power_watts": 250.0} if state == "ok" else {}
    return CardWindow("3", card, "nvidia", "GeForce RTX 3090", state, fields, info)


def readings(lines: list[str], measurement: str) -> list[Reading]:
    found = [parse_line(line) for line in lines]
    return [reading for reading in found if reading.measurement == measurement]


def events(lines: list[str]) -> list[Value]:
    return [reading.fields["kind"] for reading in readings(lines, "card_event")]


def test_a_window_is_a_reading_with_all_tags(publisher: Publisher, lines: list[str]) -> None:
    """Where it stands, what it is, how it is, and when that was."""
    publisher.cards(TIME_NS, [window()])
    (line,) = lines
    place = {"slot": "3", "card": "GPU-a", "vendor": "nvidia", "model": "GeForce RTX 3090"}
    fields: dict[str, Value] = {"state": "ok", "power_watts": 250.0}
    assert parse_line(line) == Reading("card", NODE | place, fields, TIME_NS)


def test_identity_is_told_where_it_came_along(publisher: Publisher, lines: list[str]) -> None:
    """It has the tags and the time of the card's reading."""
    publisher.cards(TIME_NS, [window(info={"vbios": "94.02", "core_count": 10496.0})])
    (card,), (info,) = readings(lines, "card"), readings(lines, "card_info")
    assert info == Reading("card_info", card.tags, info.fields, TIME_NS)
    assert info.fields == {"vbios": "94.02", "core_count": 10496.0}


def test_a_card_that_is_lost_is_one_event(publisher: Publisher, lines: list[str]) -> None:
    """It stays lost without being told again."""
    for state in ("ok", "lost", "lost"):
        publisher.cards(TIME_NS, [window(state=state)])
    assert events(lines) == ["lost"]
    assert [r.fields["state"] for r in readings(lines, "card")] == ["ok", "lost", "lost"]


def test_a_card_that_comes_back_is_one_event(publisher: Publisher, lines: list[str]) -> None:
    """A card that answers again after it was lost has returned."""
    for state in ("ok", "unreadable", "lost", "lost", "unreadable", "ok"):
        publisher.cards(TIME_NS, [window(state=state)])
    assert events(lines) == ["lost", "returned"]


def test_an_unreadable_card_is_no_event(publisher: Publisher, lines: list[str]) -> None:
    """It is still there; its state says the rest."""
    for state in ("ok", "unreadable", "ok"):
        publisher.cards(TIME_NS, [window(state=state)])
    assert events(lines) == []


def test_the_first_window_is_no_event(publisher: Publisher, lines: list[str]) -> None:
    """A restart of the agent tells nothing new of a card that was lost before."""
    publisher.cards(TIME_NS, [window(state="lost")])
    assert events(lines) == []


def test_another_card_in_a_slot_is_an_event(publisher: Publisher, lines: list[str]) -> None:
    """It names both, under the tags of the new one."""
    publisher.cards(TIME_NS, [window("GPU-a")])
    publisher.cards(TIME_NS, [window("GPU-b")])
    (event,) = readings(lines, "card_event")
    assert (event.fields["kind"], event.tags["card"]) == ("identity", "GPU-b")
    assert event.fields["text"] == ("GeForce RTX 3090 GPU-a was replaced by GeForce RTX 3090 GPU-b")


def test_a_card_that_was_replaced_while_the_agent_did_not_run_is_an_event(
    lines: list[str],
) -> None:
    """Cards are swapped with the power off."""
    before = Place("3", "GPU-a", "nvidia", "GeForce RTX 3080")
    publisher = Publisher(NODE, lines.extend, [before])
    publisher.cards(TIME_NS, [window("GPU-b")])
    assert events(lines) == ["identity"]


@pytest.mark.parametrize("state", ["ok", "lost"])
def test_a_remembered_card_is_no_event_at_the_start(lines: list[str], state: State) -> None:
    """What is known of earlier boots is its identity, not its state."""
    before = Place("3", "GPU-a", "nvidia", "GeForce RTX 3090")
    publisher = Publisher(NODE, lines.extend, [before])
    publisher.cards(TIME_NS, [window("GPU-a", state)])
    assert events(lines) == []


def test_a_card_that_shows_its_identity_late_was_not_replaced(
    publisher: Publisher, lines: list[str]
) -> None:
    """It was the same card that could not say its name."""
    publisher.cards(TIME_NS, [window(UNIDENTIFIED)])
    publisher.cards(TIME_NS, [window("GPU-a")])
    assert events(lines) == []


def test_hostile_text_of_a_driver_stays_inside_its_field(
    publisher: Publisher, lines: list[str]
) -> None:
    """It can neither forge a reading nor break one."""
    forged = 'x" 1\ncard,host=other power_watts=0 1\n\\'
    publisher.cards(TIME_NS, [window(f"GPU,{forged}", info={"serial": forged})])
    card, info = map(parse_line, lines)
    assert card.tags["host"] == info.tags["host"] == "node1"
    assert info.fields == {"serial": 'x" 1 card,host=other power_watts=0 1'}


def test_readings_of_the_node_and_the_agent_have_the_nodes_tags(
    publisher: Publisher, lines: list[str]
) -> None:
    """They are no card's."""
    publisher.host(TIME_NS, {"load1": 0.5})
    publisher.agent(TIME_NS, {"version": "1.0"})
    assert list(map(parse_line, lines)) == [
        Reading("host", NODE, {"load1": 0.5}, TIME_NS),
        Reading("agent", NODE, {"version": "1.0"}, TIME_NS),
    ]


def test_a_node_that_gives_nothing_is_no_reading(publisher: Publisher, lines: list[str]) -> None:
    """A point without values is not put at all."""
    publisher.host(TIME_NS, {})
    assert lines == []


def test_without_a_disk_readings_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The spool keeps them in memory; whoever publishes does not notice."""
    caplog.set_level(logging.CRITICAL, "farmhand_agent.spool")
    (tmp_path / "state").write_text("a file is in the way")
    spool = Spool(tmp_path / "state" / "spool.sqlite", 2**20)
    publisher = Publisher(NODE, spool.put)
    publisher.cards(TIME_NS, [window()])
    publisher.cards(TIME_NS + 1, [window(state="lost")])
    assert spool.degraded is not None
    bodies = b"\n".join(batch.body for batch in spool.batches()).decode().split("\n")
    assert [parse_line(line).measurement for line in bodies] == ["card", "card", "card_event"]
    spool.close()


def test_what_is_known_of_a_slot_goes_with_its_card(lines: list[str]) -> None:
    """Errors of its link are told of a lost card too."""
    publisher = Publisher(NODE, lines.extend, beside=lambda slot: {"pcie_fatal_total": float(slot)})
    publisher.cards(TIME_NS, [window(state="lost")])
    (card,) = readings(lines, "card")
    assert card.fields == {"state": "lost", "pcie_fatal_total": 3.0}


def test_work_has_the_tags_of_its_card_and_a_lane(publisher: Publisher, lines: list[str]) -> None:
    """Two jobs on one card are two series."""
    place = Place("3", "GPU-a", "nvidia", "GeForce RTX 3090")
    publisher.work(TIME_NS, [Work(place, 0, {"rate": 1.5}), Work(place, 1, {"rate": 2.5})])
    assert [work.tags["lane"] for work in readings(lines, "work")] == ["0", "1"]
    assert {work.tags["card"] for work in readings(lines, "work")} == {"GPU-a"}


def test_an_event_of_a_card_gets_the_tags_of_the_node(
    publisher: Publisher, lines: list[str]
) -> None:
    """Its time is its own."""
    card = {"slot": "3", "card": "GPU-a", "vendor": "nvidia", "model": "GeForce RTX 3090"}
    publisher.card_events([Reading("card_event", card, {"kind": "xid", "code": "79"}, 42)])
    (event,) = readings(lines, "card_event")
    assert event == Reading("card_event", NODE | card, {"kind": "xid", "code": "79"}, 42)


def test_a_boot_is_an_event_of_the_node(publisher: Publisher, lines: list[str]) -> None:
    """Dated when it was, not when it was told."""
    publisher.host_event(boots.Event("boot", "after a power cut", 42))
    (event,) = readings(lines, "host_event")
    assert event == Reading("host_event", NODE, {"kind": "boot", "text": "after a power cut"}, 42)
