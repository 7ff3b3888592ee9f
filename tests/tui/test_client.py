"""The client against a real server on a real socket."""

import socket
import subprocess
import sys
import threading

import pytest

from farmhand_tui.client import (
    Aborted,
    BadAnswer,
    Client,
    CollectorUnreachable,
    NotFound,
    StaleCursor,
    Unauthorized,
)
from farmhand_tui.farm import COLUMNS
from tests.tui.server import FarmServer
from tests.tui.synthetic import NOW, SyntheticFarm


def test_a_snapshot_has_every_card(client: Client) -> None:
    """The farm comes as columns of equal length, with where to follow from."""
    snapshot = client.snapshot(COLUMNS)

    assert len(snapshot.columns["key"]) == len(snapshot.columns["power_watts"]) == 120
    assert snapshot.cursor == "1:0"
    assert snapshot.simulated is not None and snapshot.simulated.seed == 7


def test_changes_wait_until_there_are_some(client: Client, synthetic: SyntheticFarm) -> None:
    """A long poll answers when something happens, with just that."""
    cursor = client.snapshot(COLUMNS).cursor
    timer = threading.Timer(0.05, synthetic.set, ("card-00003",), {"power_watts": 5.0})
    timer.start()

    changes = client.changes(cursor, ("power_watts",), wait=10.0)

    timer.join()
    assert changes.columns == {"key": ["card-00003"], "power_watts": [5.0]}


def test_nothing_new_is_an_empty_answer(client: Client) -> None:
    """A long poll that ends without news is no error."""
    changes = client.changes(client.snapshot(COLUMNS).cursor, COLUMNS, wait=0.0)

    assert changes.columns["key"] == []


def test_a_forgotten_cursor_is_stale(client: Client, synthetic: SyntheticFarm) -> None:
    """After a restart the collector wants a new snapshot to be taken."""
    cursor = client.snapshot(COLUMNS).cursor
    synthetic.restart()

    with pytest.raises(StaleCursor, match="410"):
        client.changes(cursor, COLUMNS, wait=0.0)


def test_a_card_comes_with_its_story(client: Client) -> None:
    """One card's verdict, identity and events are one answer."""
    detail = client.card("card-00005")

    assert detail.verdict.state == "lost"
    assert detail.info["vbios"] == "94.02.42.00.A9"
    assert [event.kind for event in detail.events] == ["verdict", "xid"]


def test_an_unknown_card_is_not_found(client: Client) -> None:
    """The collector's own words say what is missing, whatever the key looks like."""
    with pytest.raises(NotFound, match="no such card"):
        client.card("../../etc/passwd ?#")


def test_a_series_is_thinned_by_the_collector(client: Client) -> None:
    """History comes as points between two times."""
    series = client.series("card-00001", ("power_watts",), NOW - 3600, NOW, 60)

    assert len(series.times) == len(series.fields["power_watts"]) == 60


def test_findings_and_status_are_typed(client: Client) -> None:
    """The lists of the other two paths arrive as the wire says."""
    assert client.findings()[0].state == "lost"
    assert len(client.status().cards) == 120


def test_capacity_is_typed(client: Client) -> None:
    """By whatever is asked."""
    (farm,) = client.capacity("farm")

    assert farm.cards == 120
    assert sum(row.cards for row in client.capacity("node")) == 120


def test_a_repair_is_asked_for_by_keys(client: Client) -> None:
    """Several at once, and a gang with them."""
    answer = client.what_if(["card-00001", "card-00002"], "llm")

    assert answer.cards == ["card-00001", "card-00002"]
    assert answer.gang is not None and answer.gang.left_out == 2


def test_a_repair_of_what_is_not_known_is_not_found(client: Client) -> None:
    """The collector's own words say so."""
    with pytest.raises(NotFound, match="no such card or gang"):
        client.what_if(["card-99999"])


def test_one_connection_serves_many_requests(client: Client, server: FarmServer) -> None:
    """The connection is kept."""
    for _ in range(3):
        client.findings()

    assert server.connections == 1


def test_a_kept_connection_that_was_closed_is_opened_anew(
    client: Client, server: FarmServer
) -> None:
    """A restart of the other side between two requests is not an error."""
    client.findings()
    server.drop_connections()

    assert client.findings()
    assert server.connections == 2


def test_the_token_is_sent(synthetic: SyntheticFarm) -> None:
    """With the right token the collector answers; without, it says so in one line."""
    server = FarmServer(synthetic, token="s3cret").start()
    friend, stranger = Client(server.url, "s3cret"), Client(server.url)
    try:
        assert friend.findings()
        with pytest.raises(Unauthorized, match="the token is wrong"):
            stranger.findings()
    finally:
        friend.close()
        stranger.close()
        server.stop()


def test_nobody_there_is_unreachable() -> None:
    """A refused connection names the address and the reason in one line."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    with pytest.raises(CollectorUnreachable, match=rf"{url}: connection refused"):
        Client(url).findings()


@pytest.mark.parametrize(
    "url", ["http://host:port", "http://[::1", "http://a b/", "ftp://host", "http://", ""]
)
def test_what_is_no_address_is_unreachable(url: str) -> None:
    """A mistyped address is one clear line, not a stack trace."""
    with pytest.raises(CollectorUnreachable):
        Client(url).findings()


@pytest.mark.parametrize("token", ["two\nlines", "秘密"])
def test_a_token_that_cannot_be_sent_is_told(token: str, server: FarmServer) -> None:
    """A token with a line break or outside Latin-1 is one clear line."""
    client = Client(server.url, token)

    with pytest.raises(CollectorUnreachable):
        client.findings()
    client.close()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>hello</html>",
        b"[]",
        b'{"schema":1,"cursor":"1:0","time":null,"simulated":null,"columns":{"key":[1,2],"host":[1]}}',
        b'{"schema":1,"cursor":"1:0","time":null,"simulated":null,'
        b'"columns":{"key":["a"],"power_watts":["hot"]}}',
    ],
)
def test_another_server_is_told_from_a_collector(
    body: bytes, client: Client, server: FarmServer
) -> None:
    """An answer that is not the API's is refused before it reaches the screen."""
    server.answer = (200, body)

    with pytest.raises(BadAnswer, match="collector"):
        client.snapshot(COLUMNS)


def test_an_error_of_the_collector_is_one_safe_line(client: Client, server: FarmServer) -> None:
    """Whatever the other side says, it cannot command the terminal."""
    server.answer = (500, b'{"error": "broken \\u001b[2J\\nstore"}')

    with pytest.raises(BadAnswer, match=r"500 Internal Server Error: broken \\x1b\[2J\\x0astore"):
        client.findings()


def test_text_that_is_null_is_empty(client: Client, server: FarmServer) -> None:
    """A column of text holds text only."""
    server.answer = (
        200,
        b'{"cursor":"1:1","time":null,"columns":{"key":["a"],"cause":[null]},"removed":[]}',
    )

    assert client.changes("1:0", ("cause",), 0.0).columns["cause"] == [""]


def test_a_waiting_call_can_be_broken_off(client: Client) -> None:
    """Leaving the screen does not wait for the end of a long poll."""
    cursor = client.snapshot(COLUMNS).cursor
    timer = threading.Timer(0.1, client.abort)
    timer.start()

    with pytest.raises(Aborted):
        client.changes(cursor, COLUMNS, wait=60.0)
    timer.join()


def test_a_call_that_is_broken_off_before_it_begins_does_not_wait(client: Client) -> None:
    """An abort between two calls holds for the next one, and for that one only."""
    client.abort()

    with pytest.raises(Aborted):
        client.findings()
    assert client.findings()


def test_the_command_line_does_not_load_the_screen() -> None:
    """Plain tables start fast: neither they nor the client import Textual."""
    code = (
        "import sys, farmhand_tui.tables, farmhand_tui.client\nsys.exit('textual' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
