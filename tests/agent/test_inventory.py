"""The cards that a node is expected to have."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_agent.inventory import Inventory, Place
from farmhand_agent.reading import UNIDENTIFIED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "inventory.json"


def place(slot: str, card: str, model: str = "GeForce RTX 3090") -> Place:
    return Place(slot, card, "nvidia", model)


def known(path: Path) -> dict[str, str]:
    """Cards by slot, as the next start will find them."""
    return {p.slot: p.card for p in Inventory(path).expected("nvidia")}


def test_a_card_is_expected_after_a_restart(path: Path) -> None:
    """Its tags outlive the process."""
    Inventory(path).see([place("1", "GPU-a")])
    assert Inventory(path).expected("nvidia") == [place("1", "GPU-a")]


def test_a_card_that_is_not_seen_stays_expected(path: Path) -> None:
    """That is how it is seen as lost."""
    inventory = Inventory(path)
    inventory.see([place("1", "GPU-a"), place("2", "GPU-b")])
    inventory.see([place("1", "GPU-a")])
    assert known(path) == {"1": "GPU-a", "2": "GPU-b"}


def test_a_card_seen_in_a_new_slot_has_left_its_old_one(path: Path) -> None:
    """A card that was moved is not lost."""
    inventory = Inventory(path)
    inventory.see([place("1", "GPU-a"), place("2", "GPU-b")])
    inventory.see([place("3", "GPU-a"), place("2", "GPU-b")], {"2", "3"})
    assert known(path) == {"2": "GPU-b", "3": "GPU-a"}


def test_two_cards_that_changed_places_are_both_expected_where_they_are(path: Path) -> None:
    """Neither is lost, nor there twice."""
    inventory = Inventory(path)
    inventory.see([place("1", "GPU-a"), place("2", "GPU-b")])
    inventory.see([place("1", "GPU-b"), place("2", "GPU-a")], {"1", "2"})
    assert known(path) == {"1": "GPU-b", "2": "GPU-a"}


def test_a_replaced_card_takes_the_slot(path: Path) -> None:
    """The slot has one card."""
    inventory = Inventory(path)
    inventory.see([place("1", "GPU-a")])
    inventory.see([place("1", "GPU-b", "A100")])
    assert Inventory(path).expected("nvidia") == [place("1", "GPU-b", "A100")]


def test_two_cards_with_one_identity_are_two_cards(path: Path) -> None:
    """A copied VBIOS does not make one of them vanish."""
    inventory = Inventory(path)
    inventory.see([place("1", "GPU-a"), place("2", "GPU-a")])
    inventory.see([place("1", "GPU-a"), place("2", "GPU-a")])
    assert known(path) == {"1": "GPU-a", "2": "GPU-a"}


def test_two_cards_with_one_identity_may_be_read_by_different_readers(path: Path) -> None:
    """A slot that the driver lists has not been left, whoever reads it."""
    inventory = Inventory(path)
    for slot in ("1", "2", "1", "2"):
        inventory.see([place(slot, "GPU-a")], {"1", "2"})
    assert known(path) == {"1": "GPU-a", "2": "GPU-a"}


def test_a_card_that_hides_its_identity_is_the_one_that_was_there(path: Path) -> None:
    """A dying card keeps its tags, and its name is not forgotten."""
    inventory = Inventory(path)
    inventory.see([place("1", "GPU-a")])
    assert inventory.see([place("1", UNIDENTIFIED, "")]) == [place("1", "GPU-a")]
    assert known(path) == {"1": "GPU-a"}


def test_an_unknown_card_that_hides_its_identity_stays_unidentified(path: Path) -> None:
    """Nothing is guessed."""
    hidden = place("1", UNIDENTIFIED, "")
    assert Inventory(path).see([hidden]) == [hidden]


def test_a_card_of_another_model_is_not_the_one_that_was_there(path: Path) -> None:
    """It has another card's name, though no identity."""
    inventory = Inventory(path)
    inventory.see([place("1", "GPU-a")])
    other = place("1", UNIDENTIFIED, "Tesla T4")
    assert inventory.see([other]) == [other]


def test_an_identity_that_shows_elsewhere_is_not_lent(path: Path) -> None:
    """The card moved; what is in its old slot is another one."""
    inventory = Inventory(path)
    inventory.see([place("1", "GPU-a")])
    seen = [place("1", UNIDENTIFIED), place("2", "GPU-a")]
    assert inventory.see(seen, {"1", "2"}) == seen


def test_a_vendor_sees_its_own_cards_only(path: Path) -> None:
    """A watch does not speak for the cards of another one."""
    inventory = Inventory(path)
    inventory.see([place("1", "GPU-a"), Place("0.0", "NPU-a", "ascend", "910B")])
    assert [p.card for p in inventory.expected("ascend")] == ["NPU-a"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'[{"slot": "1"}]', b"\xff\xfe\0", b"null", b'{"slot": "1"}']
)
def test_a_file_that_cannot_be_used_is_set_aside(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent starts with a new one; the old one is kept for a person to look at."""
    path.parent.mkdir()
    path.write_bytes(content)
    inventory = Inventory(path)
    assert inventory.expected("nvidia") == []
    assert path.with_suffix(".unreadable").read_bytes() == content
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    inventory.see([place("1", "GPU-a")])
    assert known(path) == {"1": "GPU-a"}


def test_a_directory_that_cannot_be_written_costs_the_memory_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The cards are expected as long as the agent runs, and the reason is told once a change."""
    (tmp_path / "state").write_text("a file is in the way")
    inventory = Inventory(tmp_path / "state" / "inventory.json")
    for _ in range(3):
        inventory.see([place("1", "GPU-a")])
    assert inventory.expected("nvidia") == [place("1", "GPU-a")]
    assert len([r for r in caplog.records if "cannot be saved" in r.message]) == 1


def test_an_unchanged_inventory_is_not_written_again(path: Path) -> None:
    """A disk is not worn out by cards that stay where they are."""
    inventory = Inventory(path)
    inventory.see([place("1", "GPU-a")])
    path.unlink()
    inventory.see([place("1", "GPU-a")])
    assert not path.exists()


SIGHTS = st.lists(
    st.dictionaries(
        st.sampled_from(["1", "2", "3"]), st.sampled_from(["GPU-a", "GPU-b", UNIDENTIFIED])
    ),
    max_size=6,
)


@given(SIGHTS)
def test_what_is_seen_is_expected(
    tmp_path_factory: pytest.TempPathFactory, sights: list[dict[str, str]]
) -> None:
    """Whatever was there before: after a sight its cards are expected, and the file says so."""
    path = tmp_path_factory.mktemp("state") / "inventory.json"
    inventory = Inventory(path)
    for sight in sights:
        shown = inventory.see([place(*item) for item in sight.items()], sight.keys())
        expected = inventory.expected("nvidia")
        assert {p.slot for p in shown} == sight.keys()
        assert all(p in expected for p in shown)
        if expected:
            assert Inventory(path).expected("nvidia") == expected


def test_a_card_that_is_forgotten_is_expected_no_more(tmp_path: Path) -> None:
    """Its keeper took it out; the others stay."""
    inventory = Inventory(tmp_path / "inventory.json")
    inventory.see([Place("1", "GPU-a", "nvidia", "T4"), Place("2", "GPU-b", "nvidia", "T4")])
    assert inventory.forget(["1"]) == [Place("1", "GPU-a", "nvidia", "T4")]
    assert [place.slot for place in inventory.expected("nvidia")] == ["2"]


def test_what_another_process_forgets_is_forgotten_here(tmp_path: Path) -> None:
    """The command works while the service runs."""
    path = tmp_path / "inventory.json"
    service = Inventory(path)
    service.see([Place("1", "GPU-a", "nvidia", "T4"), Place("2", "GPU-b", "nvidia", "T4")])
    Inventory(path).forget(["1"])
    assert [place.slot for place in service.expected("nvidia")] == ["2"]
    service.see([Place("3", "GPU-c", "nvidia", "T4")])
    assert [place.slot for place in Inventory(path).expected("nvidia")] == ["2", "3"]
