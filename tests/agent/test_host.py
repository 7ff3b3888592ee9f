"""The node's own readings."""

from pathlib import Path

import psutil
import pytest

from farmhand_agent.reading import fields_of
from farmhand_agent.sources.host import HostSource

# Names and labels as the kernel gives them on a rack server: a management controller with an
# inlet sensor, a processor, a disk.
SERVER = {
    "hwmon0": {"name": "coretemp", "temp1_label": "Package id 0", "temp1_input": "54000"},
    "hwmon1": {
        "name": "power_meter",
        "temp1_label": "Inlet Temp",
        "temp1_input": "23500",
        "temp2_label": "Exhaust Temp",
        "temp2_input": "38000",
    },
    "hwmon2": {"name": "nvme", "temp1_label": "Composite", "temp1_input": "31850"},
}


def sensors(root: Path, chips: dict[str, dict[str, str]]) -> Path:
    for chip, files in chips.items():
        (root / chip).mkdir(exist_ok=True)
        for name, text in files.items():
            (root / chip / name).write_text(f"{text}\n")
    return root


def number(source: HostSource, name: str) -> float:
    value = source.read()[name]
    assert isinstance(value, float)
    return value


def test_every_field_is_in_the_contract_and_a_float(tmp_path: Path) -> None:
    """What is read fits the table of readings, so that no store refuses it."""
    fields = HostSource(tmp_path, sensors(tmp_path, SERVER)).read()
    assert fields.keys() <= fields_of("host").keys()
    assert all(isinstance(value, float) for value in fields.values())


def test_memory_and_disk_are_those_of_the_machine(tmp_path: Path) -> None:
    """Memory in use is part of all memory; the disk is that of the state directory."""
    fields = HostSource(tmp_path).read()
    used, total, free = (
        fields[name] for name in ("memory_used_bytes", "memory_total_bytes", "disk_free_bytes")
    )
    assert isinstance(used, float) and isinstance(total, float) and isinstance(free, float)
    assert total == psutil.virtual_memory().total
    assert 0 < used < total
    assert 0 < free <= psutil.disk_usage(str(tmp_path)).total


def test_processor_share_is_over_the_time_since_the_last_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three busy seconds of four are 0.75; guests are not counted twice, waiting is not busy."""
    before = psutil.cpu_times()
    after = before._replace(
        user=before.user + 3.0, guest=before.guest + 2.0, iowait=before.iowait + 1.0
    )
    monkeypatch.setattr(psutil, "cpu_times", lambda: before)
    source = HostSource(tmp_path)
    monkeypatch.setattr(psutil, "cpu_times", lambda: after)
    assert number(source, "cpu_ratio") == pytest.approx(0.75)


def test_an_unchanged_clock_gives_no_processor_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls within one tick of the kernel have no share between them: it is left out."""
    now = psutil.cpu_times()
    monkeypatch.setattr(psutil, "cpu_times", lambda: now)
    assert "cpu_ratio" not in HostSource(tmp_path).read()


def test_the_inlet_is_the_sensor_that_says_so(tmp_path: Path) -> None:
    """Of a server's sensors only the one labelled as inlet is the air at the inlet."""
    source = HostSource(tmp_path, sensors(tmp_path, SERVER))
    assert number(source, "inlet_temperature_celsius") == 23.5


def test_without_an_inlet_sensor_the_field_is_left_out(tmp_path: Path) -> None:
    """A desktop board has no such sensor; no other one is taken for it."""
    desktop = {name: files for name, files in SERVER.items() if name != "hwmon1"}
    source = HostSource(tmp_path, sensors(tmp_path, desktop))
    assert "inlet_temperature_celsius" not in source.read()


@pytest.mark.parametrize("text", ["0", "-128000", "127000", "", "n/a"])
def test_a_broken_sensor_is_left_out(tmp_path: Path, text: str) -> None:
    """What chips read without a probe never becomes data."""
    broken = {"hwmon0": {"temp1_label": "Ambient", "temp1_input": text}}
    source = HostSource(tmp_path, sensors(tmp_path, broken))
    assert "inlet_temperature_celsius" not in source.read()


def test_a_sensor_that_is_numbered_anew_is_found_again(tmp_path: Path) -> None:
    """After its driver was loaded again the chip has another number."""
    source = HostSource(tmp_path, sensors(tmp_path, SERVER))
    (tmp_path / "hwmon1").rename(tmp_path / "hwmon7")
    assert "inlet_temperature_celsius" not in source.read()
    assert number(source, "inlet_temperature_celsius") == 23.5


def test_a_missing_state_directory_only_loses_its_field(tmp_path: Path) -> None:
    """A disk that went away must not take the other readings with it."""
    fields = HostSource(tmp_path / "gone").read()
    assert "disk_free_bytes" not in fields
    assert "load1" in fields
