"""Captured cards as states of the stand-in."""

from pathlib import Path

import pynvml
import pytest

from tests import standin
from tests.standin import DEPRECATED, MISSING, NOT_SUPPORTED
from tests.standin.captures import DIRECTORY, MODELS, SINCE, capture_state, farm_state, for_branch
from tests.standin.told import number


def card_of(model: str) -> dict[str, standin.Entry]:
    """Entries of a captured card."""
    (card,) = capture_state(Path("unwritten"), model).cards
    return card


@pytest.mark.parametrize("model", MODELS)
def test_every_capture_makes_a_card_with_identity_and_place(model: str) -> None:
    """The least that a capture must tell."""
    card = card_of(model)
    assert str(card["uuid"]).startswith("GPU-")
    assert str(card["pci_address"]).endswith(".0")
    assert isinstance(card["memory_total"], int)


def test_every_capture_is_a_model() -> None:
    """No file is left over."""
    files = {path.name for path in DIRECTORY.iterdir()} - {"LICENSE", "ORIGIN"}
    assert files == set(MODELS.values())


@pytest.mark.usefixtures("nvml_library")
@pytest.mark.parametrize("model", MODELS)
def test_the_library_takes_every_captured_state(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its keys and values are known."""
    state = capture_state(tmp_path / "state", model)
    state.write()
    monkeypatch.setenv("FARMHAND_NVML_STATE", str(state.path))
    pynvml.nvmlInit()
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)) == state.cards[0]["uuid"]
    pynvml.nvmlShutdown()


@pytest.mark.parametrize(
    ("model", "key", "entry"),
    [
        # From the XML.
        ("RTX 4000 SFF Ada", "persistence_mode", 1),
        ("RTX 4000 SFF Ada", "brand", 13),
        ("RTX 4000 SFF Ada", "architecture", 8),
        ("RTX 4000 SFF Ada", "part_number", "900-5G192-1770-000"),
        ("RTX 4000 SFF Ada", "temperature_margin", 49),
        ("RTX 4000 SFF Ada", "field_193", -7),
        ("RTX 4000 SFF Ada", "threshold_acoustic_current", 88),
        ("RTX 4000 SFF Ada", "remap_banks_max", 96),
        ("RTX 4000 SFF Ada", "graphics_processes", "1842:429916160 3190:472907776 34626:191889408"),
        ("RTX 4000 SFF Ada", "compute_processes", "4937:167772160 34626:191889408"),
        ("T4", "part_number", "900-2G183-0000-001"),
        ("T4", "retired_pages_pending", 0),
        ("T4", "threshold_slowdown", 93),
        ("A100 MIG", "mig_mode", 1),
        ("A100 MIG", "mig_devices", 4),
        ("A100 MIG", "threshold_memory_max", 95),
        ("A100 MIG", "ecc_uncorrected_aggregate_dram", 0),
        ("RTX 3060", "field_230", 0),
        ("RTX 3060", "pcie_generation_max_card", 4),
        ("Quadro P2000", "power_limit_min", 75_000),
        # From the text.
        ("H100", "nvlink_17", 1),
        ("H100", "field_164_0", 26_562),
        ("H100", "compute_capability", "9.0"),
        ("H100", "inforom", "G520.0200.00.05"),
        ("H100", "ecc_mode", 1),
        ("H100", "field_194", -2),
        ("H100", "field_185_2", 85_830),
        ("H100", "sram_threshold_exceeded", 0),
        ("H100", "compute_processes", "11327:2690646016 11328:1616904192 11345:16452157440"),
        ("H200 MIG", "mig_mode", 1),
        ("H200 MIG", "mig_devices", 5),
        ("RTX 2080 SUPER", "nvlink_0", 0),
        ("RTX 2080 SUPER", "threshold_acoustic_current", 84),
        ("RTX 2080 SUPER", "performance_state", 2),
        ("RTX 2080 SUPER", "power_limit_max", 350_000),
        ("RTX 4080 SUPER", "threshold_shutdown", 101),
        ("L40S", "gsp_firmware", "595.80"),
    ],
)
def test_a_capture_tells_what_stands_in_it(model: str, key: str, entry: standin.Entry) -> None:
    """Read off by hand from the files."""
    assert card_of(model)[key] == entry


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("RTX 3060", "ecc_mode"),
        ("RTX 3090", "part_number"),
        ("RTX 4080 SUPER", "remap_banks_max"),
        ("H100", "threshold_shutdown"),
        ("H100", "field_186_1"),
        ("Quadro P400", "power_limit_min"),
        ("GTX 1070 Ti", "persistence_mode"),
    ],
)
def test_what_a_capture_does_not_give_is_not_supported(model: str, key: str) -> None:
    """Marked as not available, hidden by its giver, or not there."""
    assert card_of(model)[key] == NOT_SUPPORTED


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("GTX 1660 Ti", "compute_processes"),
        ("A100 MIG", "temperature_margin"),
        ("A10G", "clock_offset_memory"),
        ("H100", "power_on_seconds"),
        ("H100", "remapped_rows_v2"),
    ],
)
def test_a_call_newer_than_the_driver_is_missing(model: str, key: str) -> None:
    """Whatever the card could tell."""
    assert card_of(model)[key] == MISSING


@pytest.mark.parametrize("key", SINCE)
def test_a_newer_driver_gives_what_an_older_one_could_not(key: str) -> None:
    """From the branch on that brought the call."""
    assert for_branch(SINCE[key] - 1, {key: 1})[key] == MISSING
    assert for_branch(SINCE[key], {key: 1})[key] == 1


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("27.23 W", 27),
        ("16x", 16),
        ("P8", 8),
        ("-8 C", -8),
        ("192 bank(s)", 192),
        ("Yes", 1),
        ("Disabled", 0),
        ("[N/A]", NOT_SUPPORTED),
        ("[REDACTED]", NOT_SUPPORTED),
        ("Not available in WDDM driver model", NOT_SUPPORTED),
        ("Requested functionality has been deprecated", DEPRECATED),
        (None, NOT_SUPPORTED),
    ],
)
def test_a_told_value_is_an_entry(text: str | None, entry: standin.Entry) -> None:
    """With its unit, as a word, or not at all."""
    assert number(text) == entry


# --- a farm --------------------------------------------------------------------------------------


def test_a_farms_cards_have_identities_and_places_of_their_own(tmp_path: Path) -> None:
    """The same model twice is two cards, the same ones in each run."""
    models = ["H100", "H100", "RTX 3090"]
    one, other = (farm_state(tmp_path / "state", models) for _ in range(2))
    for key in ("uuid", "pci_address"):
        values = [card[key] for card in one.cards]
        assert len(set(values)) == len(models)
        assert values == [card[key] for card in other.cards]


def test_a_farms_cards_answer_as_its_driver_does(tmp_path: Path) -> None:
    """The captured driver does not matter; what a test changes stands."""
    card = ("L40S", {"power_on_seconds": 90_000})
    older, newer = (farm_state(tmp_path / "state", ["H100", card], d) for d in ("580.1", "595.1"))
    assert [card["memory_unrepairable"] for card in older.cards] == [MISSING, MISSING]
    assert newer.cards[0]["memory_unrepairable"] == 0
    assert [state.cards[1]["power_on_seconds"] for state in (older, newer)] == [90_000, 90_000]


def test_a_farms_cards_tell_what_their_kind_can(tmp_path: Path) -> None:
    """GPM on a whole Hopper, errors of links where there are any, clock offsets on GeForce."""
    state = farm_state(tmp_path / "state", ["H100", "H100 MIG", "RTX 3090"])
    whole, cut, geforce = state.cards
    assert [card.get("gpm") for card in state.cards] == [1, None, None]
    assert (whole["field_161_17"], "field_161_0" in cut) == (0, False)
    assert (geforce["clock_offset_memory"], "clock_offset_memory" in whole) == (0, False)
    assert geforce["supported_events"] == 0x1C
