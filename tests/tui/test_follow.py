"""The threads that ask the collector."""

import queue
from collections.abc import Iterator
from typing import TypeVar

import pytest
from textual.message import Message

from farmhand_tui.client import Client, CollectorUnreachable, NotFound
from farmhand_tui.follow import (
    CardArrived,
    CardFollower,
    CardLost,
    ChangesArrived,
    CollectorLost,
    FarmFollower,
    FindingsArrived,
    SnapshotArrived,
)
from tests.tui.server import FarmServer
from tests.tui.synthetic import NOW, SyntheticFarm

Kind = TypeVar("Kind", bound=Message)


class Post:
    """Takes messages as the screen would, and waits for the next of a kind."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Message] = queue.Queue()

    def __call__(self, message: Message) -> None:
        self.messages.put(message)

    def next(self, kind: type[Kind]) -> Kind:
        while True:
            message = self.messages.get(timeout=10)
            if isinstance(message, kind):
                return message


@pytest.fixture
def post() -> Post:
    """Return a place for messages."""
    return Post()


@pytest.fixture
def follower(server: FarmServer, post: Post) -> Iterator[FarmFollower]:
    """Follow the synthetic farm."""
    follower = FarmFollower(Client(server.url), post)
    follower.start()
    yield follower
    follower.stop()
    follower.join(10)
    assert not follower.is_alive()


@pytest.mark.usefixtures("follower")
def test_a_snapshot_comes_first_then_findings(post: Post) -> None:
    """The screen gets the farm before what is said about it."""
    assert isinstance(post.messages.get(timeout=10), SnapshotArrived)
    assert isinstance(post.messages.get(timeout=10), FindingsArrived)


@pytest.mark.usefixtures("follower")
def test_a_change_arrives_as_it_happens(post: Post, synthetic: SyntheticFarm) -> None:
    """After the snapshot, only what changed is told."""
    post.next(FindingsArrived)
    synthetic.set("card-00004", state="watch")

    assert post.next(ChangesArrived).changes.columns["key"] == ["card-00004"]


@pytest.mark.usefixtures("follower")
def test_findings_follow_a_change_though_nothing_else_happens(
    post: Post, synthetic: SyntheticFarm
) -> None:
    """A quiet farm holds back the next change, not what is to be said of the last one."""
    post.next(FindingsArrived)
    synthetic.set("card-00004", state="lost", reason="gone")

    findings = post.next(FindingsArrived).findings
    assert "card-00004" in {finding.key for finding in findings}


@pytest.mark.usefixtures("follower")
def test_a_stale_cursor_takes_a_new_snapshot(post: Post, synthetic: SyntheticFarm) -> None:
    """A collector that restarted is followed from the ground up, without a word of trouble."""
    post.next(FindingsArrived)
    synthetic.restart()

    message = post.messages.get(timeout=10)
    assert isinstance(message, SnapshotArrived)
    assert message.snapshot.cursor == "2:0"


def test_a_refresh_takes_a_new_snapshot_at_once(follower: FarmFollower, post: Post) -> None:
    """The long poll under way is broken off."""
    post.next(FindingsArrived)
    follower.refresh()

    assert isinstance(post.messages.get(timeout=10), SnapshotArrived)


def test_while_paused_nothing_arrives(
    follower: FarmFollower, post: Post, synthetic: SyntheticFarm
) -> None:
    """What happened meanwhile arrives when the keeper looks again."""
    post.next(FindingsArrived)
    follower.pause(True)
    synthetic.set("card-00004", state="watch")
    with pytest.raises(queue.Empty):
        post.messages.get(timeout=0.3)

    follower.pause(False)

    assert post.next(ChangesArrived).changes.columns["key"] == ["card-00004"]


def test_a_lost_collector_is_told_and_found_again(synthetic: SyntheticFarm, post: Post) -> None:
    """When the collector is back at its address, the farm is shown anew."""
    first = FarmServer(synthetic).start()
    port = first.server_address[1]
    follower = FarmFollower(Client(first.url), post)
    follower.start()
    post.next(FindingsArrived)

    first.stop()
    assert isinstance(post.next(CollectorLost).error, CollectorUnreachable)
    second = FarmServer(synthetic, port=port).start()
    try:
        assert post.next(SnapshotArrived).snapshot.columns["key"]
    finally:
        follower.stop()
        follower.join(10)
        second.stop()


def test_a_card_is_asked_for_again_when_the_range_changes(server: FarmServer, post: Post) -> None:
    """The history of another span arrives at once."""
    follower = CardFollower(Client(server.url), "card-00001", post, lambda: NOW, 3600)
    follower.start()
    assert post.next(CardArrived).since == NOW - 3600

    follower.show(86400)

    arrived = post.next(CardArrived)
    assert (arrived.since, arrived.until) == (NOW - 86400, NOW)
    assert len(arrived.series.fields["power_limit_watts"]) == len(arrived.series.times)
    follower.stop()
    follower.join(10)
    assert not follower.is_alive()


def test_a_card_that_is_not_there_is_told(server: FarmServer, post: Post) -> None:
    """The screen of a card that went says so."""
    follower = CardFollower(Client(server.url), "nobody", post, lambda: NOW, 3600)
    follower.start()

    assert isinstance(post.next(CardLost).error, NotFound)
    follower.stop()
    follower.join(10)
