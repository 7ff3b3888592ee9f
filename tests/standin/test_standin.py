import ctypes
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests import standin
from tests.standin import LOST, Counter, State
from tests.standin.captures import MODELS, capture_state, farm_state


@pytest.fixture
def opened(nvml_state: State) -> Iterator[Callable[[dict[str, standin.Entry]], Any]]:
    """Open the library on one card with some entries; gives its handle."""

    def open_on(entries: dict[str, standin.Entry]) -> Any:
        nvml_state.cards = [entries]
        nvml_state.write()
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByIndex(0)

    yield open_on
    nvml_state.library.clear()
    nvml_state.write()
    pynvml.nvmlShutdown()


Open = Callable[[dict[str, standin.Entry]], Any]


def code_of(question: Callable[[], object]) -> int:
    """Return code of a call that must fail."""
    with pytest.raises(pynvml.NVMLError) as raised:
        question()
    return int(raised.value.value)


def test_the_binding_loads_the_stand_in_by_its_soname(nvml_library: Path) -> None:
    """A library that is loaded already answers to its SONAME, wherever the file lies."""
    by_name, by_path = ctypes.CDLL(standin.SONAME), ctypes.CDLL(str(nvml_library))
    assert by_name._handle == by_path._handle


NUMBERS = [
    ("clock_graphics", lambda h: pynvml.nvmlDeviceGetClockInfo(h, 0)),
    ("clock_sm", lambda h: pynvml.nvmlDeviceGetClockInfo(h, 1)),
    ("clock_memory", lambda h: pynvml.nvmlDeviceGetClockInfo(h, 2)),
    ("clock_video", lambda h: pynvml.nvmlDeviceGetClockInfo(h, 3)),
    ("clock_max_graphics", lambda h: pynvml.nvmlDeviceGetMaxClockInfo(h, 0)),
    ("clock_max_video", lambda h: pynvml.nvmlDeviceGetMaxClockInfo(h, 3)),
    ("power_usage", pynvml.nvmlDeviceGetPowerUsage),
    ("power_limit_enforced", pynvml.nvmlDeviceGetEnforcedPowerLimit),
    ("power_limit_default", pynvml.nvmlDeviceGetPowerManagementDefaultLimit),
    ("temperature", lambda h: pynvml.nvmlDeviceGetTemperature(h, 0)),
    ("temperature_v", lambda h: pynvml.nvmlDeviceGetTemperatureV(h, 0)),
    ("hotspot", lambda h: pynvml.nvmlDeviceGetTemperatureV(h, 1)),
    ("memory_total", lambda h: pynvml.nvmlDeviceGetMemoryInfo(h).total),
    ("bar1_total", lambda h: pynvml.nvmlDeviceGetBAR1MemoryInfo(h).bar1Total),
    ("memory_bus", pynvml.nvmlDeviceGetMemoryBusWidth),
    ("cores", pynvml.nvmlDeviceGetNumGpuCores),
    ("fans", pynvml.nvmlDeviceGetNumFans),
    ("fan", pynvml.nvmlDeviceGetFanSpeed),
    ("fan_0", lambda h: pynvml.nvmlDeviceGetFanSpeed_v2(h, 0)),
    ("fan_3", lambda h: pynvml.nvmlDeviceGetFanSpeed_v2(h, 3)),
    ("event_reasons", pynvml.nvmlDeviceGetCurrentClocksEventReasons),
    ("throttle_reasons", pynvml.nvmlDeviceGetCurrentClocksThrottleReasons),
    ("pcie_generation", pynvml.nvmlDeviceGetCurrPcieLinkGeneration),
    ("pcie_width", pynvml.nvmlDeviceGetCurrPcieLinkWidth),
    ("pcie_generation_max", pynvml.nvmlDeviceGetMaxPcieLinkGeneration),
    ("pcie_width_max", pynvml.nvmlDeviceGetMaxPcieLinkWidth),
    ("pcie_replay", pynvml.nvmlDeviceGetPcieReplayCounter),
    ("ecc_corrected_volatile", lambda h: pynvml.nvmlDeviceGetTotalEccErrors(h, 0, 0)),
    ("ecc_corrected_aggregate", lambda h: pynvml.nvmlDeviceGetTotalEccErrors(h, 0, 1)),
    ("ecc_uncorrected_volatile", lambda h: pynvml.nvmlDeviceGetTotalEccErrors(h, 1, 0)),
    ("ecc_uncorrected_aggregate", lambda h: pynvml.nvmlDeviceGetTotalEccErrors(h, 1, 1)),
    ("mig_devices_max", pynvml.nvmlDeviceGetMaxMigDeviceCount),
    ("energy", pynvml.nvmlDeviceGetTotalEnergyConsumption),
]
FIELDS = [
    ("field_186", lambda h: pynvml.nvmlDeviceGetFieldValues(h, [186])[0].value.uiVal),
    ("field_74", lambda h: pynvml.nvmlDeviceGetFieldValues(h, [74])[0].value.ullVal),
]


@pytest.mark.parametrize(("key", "question"), [*NUMBERS, *FIELDS])
def test_each_number_comes_back_through_the_binding(
    key: str, question: Callable[[Any], int], opened: Open
) -> None:
    """The state's number is the call's answer, and the layout is the binding's."""
    assert question(opened({key: 123, "memory_used": 0, "memory_reserved": 0})) == 123


@pytest.mark.parametrize("question", [question for _, question in NUMBERS])
def test_what_the_state_does_not_name_is_not_supported(
    question: Callable[[Any], int], opened: Open
) -> None:
    """A card gives nothing that it was not given."""
    handle = opened({"uuid": "GPU-1"})
    assert code_of(lambda: question(handle)) == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_structures_come_back_through_the_binding(opened: Open) -> None:
    """Answers of several values keep them apart."""
    handle = opened(
        {
            "utilization": 90,
            "memory_utilization": 30,
            "memory_total": 1000,
            "memory_used": 300,
            "memory_reserved": 100,
            "remapped_correctable": 1,
            "remapped_uncorrectable": 2,
            "remap_pending": 1,
            "remap_failed": 0,
        }
    )
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    assert (rates.gpu, rates.memory) == (90, 30)
    first = pynvml.nvmlDeviceGetMemoryInfo(handle)
    assert (first.total, first.free, first.used) == (1000, 600, 400)
    second = pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2)
    assert (second.total, second.reserved, second.free, second.used) == (1000, 100, 600, 300)
    assert pynvml.nvmlDeviceGetRemappedRows(handle) == (1, 2, 1, 0)


def test_identity_comes_back_through_the_binding(opened: Open) -> None:
    """Texts, and the address taken apart as the driver does."""
    handle = opened(
        {
            "uuid": "GPU-1",
            "name": "NVIDIA Test",
            "serial": "42",
            "vbios": "94.02",
            "pci_address": "00000000:0C:00.0",
            "pci_device_id": 0x220410DE,
            "pci_subsystem_id": 0x16131043,
        }
    )
    assert pynvml.nvmlDeviceGetUUID(handle) == "GPU-1"
    assert pynvml.nvmlDeviceGetName(handle) == "NVIDIA Test"
    assert pynvml.nvmlDeviceGetSerial(handle) == "42"
    assert pynvml.nvmlDeviceGetVbiosVersion(handle) == "94.02"
    info = pynvml.nvmlDeviceGetPciInfo(handle)
    assert (info.busId, info.bus, info.device) == ("00000000:0C:00.0", 12, 0)
    assert (info.pciDeviceId, info.pciSubSystemId) == (0x220410DE, 0x16131043)


def test_fields_answer_each_for_itself(opened: Open) -> None:
    """One batch, one return code for each field."""
    handle = opened({"field_82": LOST, "field_186": 90_000, "field_269": 7})
    batch = pynvml.nvmlDeviceGetFieldValues(handle, [82, 186, 75, 269])
    assert [field.nvmlReturn for field in batch] == [15, 0, 3, 0]
    assert (batch[1].valueType, batch[1].value.uiVal) == (1, 90_000)
    assert (batch[3].valueType, batch[3].value.ullVal) == (3, 7)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (standin.NOT_SUPPORTED, 3),
        (standin.LOST, 15),
        (standin.MISSING, 13),
        (standin.DEPRECATED, 26),
        (standin.error(999), 999),
    ],
)
def test_a_word_is_a_return_code(entry: str, code: int, opened: Open) -> None:
    """For one value, for a text, and for the card as a whole."""
    handle = opened({"cores": entry, "serial": entry})
    assert code_of(lambda: pynvml.nvmlDeviceGetNumGpuCores(handle)) == code
    assert code_of(lambda: pynvml.nvmlDeviceGetSerial(handle)) == code


def test_a_word_for_the_card_is_every_calls_answer(opened: Open, nvml_state: State) -> None:
    """A card falls off the bus while the library is open."""
    handle = opened({"cores": 1, "uuid": "GPU-1"})
    nvml_state.change(0, card=LOST)
    assert code_of(lambda: pynvml.nvmlDeviceGetNumGpuCores(handle)) == 15
    assert code_of(lambda: pynvml.nvmlDeviceGetUUID(handle)) == 15


def test_a_changed_state_shows_at_once(opened: Open, nvml_state: State) -> None:
    """Also when neither size nor time of the file tell the difference."""
    handle = opened({"cores": 100})
    for cores in range(101, 150):
        nvml_state.change(0, cores=cores)
        assert pynvml.nvmlDeviceGetNumGpuCores(handle) == cores


def test_an_absent_card_is_not_enumerated(opened: Open, nvml_state: State) -> None:
    """Its neighbours move up, its old handle is lost."""
    handle = opened({"uuid": "GPU-1"})
    nvml_state.cards.append({"uuid": "GPU-2"})
    nvml_state.change(0, absent=1)
    assert pynvml.nvmlDeviceGetCount() == 1
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)) == "GPU-2"
    assert code_of(lambda: pynvml.nvmlDeviceGetUUID(handle)) == 15
    assert code_of(lambda: pynvml.nvmlDeviceGetHandleByIndex(1)) == 2


def test_a_slow_card_takes_its_time(opened: Open) -> None:
    """Each call on it takes at least the delay."""
    handle = opened({"cores": 1, "delay_ms": 20})
    started = time.monotonic()
    pynvml.nvmlDeviceGetNumGpuCores(handle)
    assert time.monotonic() - started >= 0.02


def test_a_counter_grows_with_the_clock(opened: Open) -> None:
    """A live agent sees increments, and every process the same count."""
    started = time.monotonic()
    handle = opened({"energy": Counter(5_000, 1e6, started)})
    low = (time.monotonic() - started) * 1e6
    count = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - 5_000
    assert low - 1 <= count <= (time.monotonic() - started) * 1e6


def test_a_counter_keeps_its_count_when_its_speed_changes() -> None:
    """A card that starts to throttle goes on from where it was."""
    fast = Counter(10, 1e9, time.monotonic() - 1.0)
    slow = fast.at(0.0)
    assert slow.base >= 10 + 1e9
    assert slow.per_second == 0.0


def test_a_reload_voids_what_was_opened_before(opened: Open, nvml_state: State) -> None:
    """After the driver was reloaded the library must be opened anew."""
    handle = opened({"cores": 1})
    nvml_state.library["reload"] = 1
    nvml_state.write()
    assert code_of(lambda: pynvml.nvmlDeviceGetNumGpuCores(handle)) == 1
    pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    assert pynvml.nvmlDeviceGetNumGpuCores(pynvml.nvmlDeviceGetHandleByIndex(0)) == 1
    nvml_state.library["calls"] = standin.error(18)
    nvml_state.write()
    assert code_of(pynvml.nvmlDeviceGetCount) == 18


def test_mig_devices_end_with_not_found(opened: Open) -> None:
    """A place without an instance is not there."""
    handle = opened({"mig_devices_max": 7, "mig_devices": 2})
    pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 1)
    assert code_of(lambda: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 2)) == 6


@pytest.mark.usefixtures("nvml_library")
def test_without_a_state_there_is_no_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A missing file is a driver that is not loaded."""
    monkeypatch.setenv("FARMHAND_NVML_STATE", str(tmp_path / "none"))
    assert code_of(pynvml.nvmlInit) == 9


@pytest.mark.parametrize("line", ["colour = red", "[card 0]\ncors = 5", "[card 0]\ncores = many"])
def test_a_wrong_state_stops_the_process(line: str, nvml_library: Path, tmp_path: Path) -> None:
    """A misspelt key must not pass for a card that does not support the value."""
    state = tmp_path / "state"
    state.write_text(line + "\n")
    done = subprocess.run(
        [sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"],
        env=standin.environment(nvml_library, state),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -6
    assert done.stderr.startswith(f"{state}:{line.count(chr(10)) + 1}: ")


def test_a_missing_compiler_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who runs the tests learns what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"^gcc is missing: .*apt-get install gcc"):
        standin.build(tmp_path)


@pytest.mark.parametrize("model", MODELS)
def test_every_capture_makes_a_card_with_identity_and_place(model: str, tmp_path: Path) -> None:
    """The least that a capture must tell."""
    (card,) = capture_state(tmp_path / "state", model).cards
    assert str(card["uuid"]).startswith("GPU-")
    assert str(card["pci_address"]).endswith(".0")
    assert isinstance(card["memory_total"], int)


def test_a_farms_cards_have_identities_and_places_of_their_own(tmp_path: Path) -> None:
    """The same model twice is two cards, the same ones in each run."""
    models = ["H100", "H100", "RTX 3090"]
    one, other = (farm_state(tmp_path / "state", models) for _ in range(2))
    for key in ("uuid", "pci_address"):
        values = [card[key] for card in one.cards]
        assert len(set(values)) == len(models)
        assert values == [card[key] for card in other.cards]
