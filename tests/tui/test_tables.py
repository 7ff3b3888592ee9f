"""The farm as plain text."""

import re

import msgspec
import pytest

from farmhand_collector.wire import (
    SCHEMA,
    CapacityRow,
    CardVerdict,
    ComponentCapacity,
    Evidence,
    FarmState,
    GangWhatIf,
    WhatIf,
)
from farmhand_tui.tables import capacity_text, cards_text, status_text, what_if_text
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


def test_the_status_says_what_the_farm_delivers(synthetic: SyntheticFarm) -> None:
    """In one line, below the counts."""
    state = synthetic.status()

    assert state.capacity is not None
    assert status_text(state).splitlines()[2] == f"the farm {state.capacity.text}"


COMPUTE = ComponentCapacity(
    default=900e12,
    expected=800e12,
    by_choice=100e12,
    delivered=620e12,
    missing=80e12,
    unjudged=100e12,
    missing_by_cause={"power": 20e12, "thermal": 60e12},
    unknown_cards=0,
    expected_a100_equivalents=2.564,
    delivered_a100_equivalents=1.9872,
)
NOTHING = ComponentCapacity(None, None, None, None, None, None, {}, 8, None, None)
LINK = msgspec.structs.replace(COMPUTE, missing_by_cause={"link": 30e9})
ROW = CapacityRow(
    *("rack", "barn", "r01", 8, 7, 0.875, 0, 2), COMPUTE, NOTHING, NOTHING, LINK, "delivers"
)


def test_capacity_is_delivered_of_expected_in_units_and_as_so_many_a100() -> None:
    """With what is missing by cause, most first, what limits take, and how many are judged."""
    state = SyntheticFarm(8, simulated=False).status()

    header, row = capacity_text(state, "rack", [ROW]).splitlines()[-2:]

    assert re.split(r"  +", header) == [
        *("site", "rack", "cards", "judged", "compute TFLOP/s", "A100", "bandwidth TB/s", "A100"),
        *("memory GiB", "link GB/s", "by choice", "not judged", "by fp32", "missing"),
    ]
    assert re.split(r"  +", row) == [
        *("barn", "r01", "8", "88 %", "620/800", "1.99/2.56", "-/-", "-/-", "-/-"),
        *("620000/800000", "100 TFLOP/s", "100 TFLOP/s", "2"),
        "compute: thermal 60, power 20 TFLOP/s; link: link 30 GB/s",
    ]


def test_cards_of_no_named_rack_are_a_dash_and_the_farm_is_all() -> None:
    """Every row has something to be called by."""
    state = SyntheticFarm(8, simulated=False).status()
    nameless = msgspec.structs.replace(ROW, site="", name="")

    rows = capacity_text(state, "rack", [ROW, nameless]).splitlines()

    assert rows[-1].split()[:3] == ["-", "-", "8"]
    assert capacity_text(state, "farm", [nameless]).splitlines()[-1].split()[0] == "all"


def test_capacity_of_no_cards_is_said_in_words() -> None:
    """As everywhere."""
    state = FarmState(SCHEMA, None, None, [], [])

    assert capacity_text(state, "farm", []) == "no card is known yet\n"


GANG = GangWhatIf("llm", ["a", "b", "c"], ["c"], 4e14, 3e14, 1, 6e14)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            WhatIf(["a"], [], {"compute": 1.25e12, "link": 3e9}, {"compute": 0.004}, None),
            "repaired a: 1.25 TFLOP/s of compute (0.004 A100 equivalents), "
            "3 GB/s of link (- A100 equivalents) come back\n",
        ),
        (WhatIf(["a", "b"], [], {"compute": 0.0}, {}, None), "repaired a, b: nothing comes back\n"),
        (
            WhatIf(["a"], ["a"], {}, {}, None),
            "repaired a: nothing comes back\nnot judged, so that nothing is known of it: a\n",
        ),
        (
            WhatIf([], [], {}, {}, GANG),
            "gang llm: 2 cards in lock step give 400 TFLOP/s, without the slowest 300 TFLOP/s; "
            "most with 1 left out: 600 TFLOP/s\nnot counted, as nothing is known of it: c\n",
        ),
        (
            WhatIf([], [], {}, {}, GangWhatIf("llm", ["a"], ["a"], None, None, 0, None)),
            "gang llm: nothing is known of its cards yet\n",
        ),
    ],
)
def test_a_repair_is_told_in_words(answer: WhatIf, told: str) -> None:
    """What comes back, of what nothing is known, and how fast a gang would be."""
    assert what_if_text(answer, None) == told


def test_names_of_things_and_gangs_command_no_terminal(synthetic: SyntheticFarm) -> None:
    """Nor do keys, nor the collector's sentence."""
    (row,) = synthetic.capacity("farm")
    evil = msgspec.structs.replace(row, name="\x1b[2J", site="\x1b[1m", text="\x1b[0m")
    state = msgspec.structs.replace(synthetic.status(), capacity=evil)
    gang = msgspec.structs.replace(GANG, name="\x1b[2J", unjudged=["\x1b[2J"])

    for text in (
        status_text(state),
        capacity_text(state, "rack", [evil]),
        what_if_text(WhatIf(["\x1b[2J"], ["\x1b[2J"], {}, {}, gang), None),
    ):
        assert "\x1b" not in text
        assert r"\x1b[" in text
