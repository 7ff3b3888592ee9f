"""The farm as plain text."""

from farmhand_collector.wire import SCHEMA, CardVerdict, Evidence, FarmState
from farmhand_tui.tables import cards_text, status_text
from tests.tui.synthetic import SyntheticFarm


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def card(**values: object) -> CardVerdict:
    known: dict[str, object] = {
        "card": "GPU-1",
        "board": "",
        "site": "",
        "rack": "",
        "host": "n1",
        "slot": "1",
        "model": "RTX 3090",
        "state": "ok",
        "cause": None,
        "component": None,
        "delivered": {},
        "action": None,
        "since": None,
        "confidence": None,
        "evidence": [],
    }
    return CardVerdict(**(known | values))  # type: ignore[arg-type]


def test_the_status_begins_with_what_is_not_real(synthetic: SyntheticFarm) -> None:
    """A simulated farm says so before anything else."""
    assert status_text(synthetic.status()).startswith("SIMULATED (seed 7)\n120 cards: 116 ok, ")


def test_a_real_farm_is_not_marked() -> None:
    """Only what is simulated says so."""
    text = status_text(SyntheticFarm(8, simulated=False).status())

    assert "SIMULATED" not in text
    assert text.startswith("8 cards: 7 ok, 1 lost (data of ")


def test_findings_of_wider_scope_come_before_cards(synthetic: SyntheticFarm) -> None:
    """One cause that explains many cards is read first."""
    text = status_text(synthetic.status())

    assert 0 < text.index("node002") < text.index("barn/r01/node001/slot6")


def test_the_worst_card_comes_first(synthetic: SyntheticFarm) -> None:
    """Lost before failing before degraded, each with reason and action."""
    words = lines(status_text(synthetic.status()).split("\n\n")[-1])

    assert [line[0] for line in words[1:]] == [
        "barn/r01/node001/slot6",
        "barn/r01/node006/slot3",
        "barn/r02/node010/slot8",
        "barn/r02/node015/slot5",
    ]
    assert "reseat" in words[1] and "(XID" in words[1]


def test_columns_stand_one_below_the_other(synthetic: SyntheticFarm) -> None:
    """A column begins at the same place in every line."""
    table = status_text(synthetic.status()).split("\n\n")[-1].splitlines()

    at = table[0].index("state")
    assert {line[at - 2 : at] for line in table} == {"  "}
    assert {line[at] for line in table[1:]} == {"l", "f", "d"}


def test_no_flagged_card_is_said_in_words() -> None:
    """A farm that is fine does not end in an empty table."""
    state = FarmState(SCHEMA, None, None, [card()], [])

    assert status_text(state) == "1 card: 1 ok (data of no known time)\n\nno card is flagged\n"


def test_no_card_is_said_in_words() -> None:
    """A farm of which nothing is known yet says so."""
    state = FarmState(SCHEMA, None, None, [], [])

    assert status_text(state) == cards_text(state) == "no card is known yet\n"


def test_the_table_of_cards_has_all_of_them(synthetic: SyntheticFarm) -> None:
    """Every card is one line, the worst on top, empty columns left out."""
    words = lines(cards_text(synthetic.status()).split("\n\n")[-1])

    assert len(words) == 1 + 120
    assert words[0][:5] == ["site", "rack", "host", "slot", "model"]
    assert words[1][2:4] == ["node001", "slot6"]


def test_nothing_from_the_wire_commands_the_terminal() -> None:
    """Names and reasons are made safe, and no colour is written at all."""
    evidence = [Evidence("x", {}, "line\nbreak \x1b[31m")]
    state = FarmState(
        SCHEMA, None, None, [card(host="\x1b[2J", state="lost", evidence=evidence)], []
    )

    for text in (status_text(state), cards_text(state)):
        assert "\x1b" not in text
        assert r"line\x0abreak \x1b[31m" in text
