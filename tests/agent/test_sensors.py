"""Temperatures and fans of the node."""

import os
import threading
from pathlib import Path

import pytest

from farmhand_agent.reading import Value
from farmhand_agent.sources.sensors import Sensors

# Names, labels and values as the kernel gives them on a rack server: a processor, a management
# controller with an inlet sensor, a disk.
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
# A desktop board with an NCT6798D: most of its inputs have no probe and float, PCH is not wired.
DESKTOP = {
    "hwmon0": {"name": "acpitz", "temp1_input": "27800"},
    "hwmon1": {"name": "k10temp", "temp1_label": "Tctl", "temp1_input": "31000"},
    "hwmon2": {
        "name": "nct6798",
        "temp1_label": "SYSTIN",
        "temp1_input": "35000",
        "temp2_label": "CPUTIN",
        "temp2_input": "-62500",
        "temp3_label": "AUXTIN0",
        "temp3_input": "102000",
        "temp4_label": "AUXTIN1",
        "temp4_input": "-128000",
        "temp5_label": "SMBUSMASTER 0",
        "temp5_input": "58000",
        "temp7_label": "PCH_CHIP_CPU_MAX_TEMP",
        "temp7_input": "0",
        "temp8_label": "PCH_CHIP_TEMP",
        "temp8_input": "0",
        "fan1_input": "0",
        "fan2_input": "1869",
        "fan3_input": "1648",
    },
    "hwmon3": {"name": "amdgpu", "temp1_label": "edge", "temp1_input": "28000", "fan1_input": "0"},
}


def sensors(root: Path, chips: dict[str, dict[str, str]]) -> Path:
    for chip, files in chips.items():
        (root / chip).mkdir(exist_ok=True)
        for name, text in files.items():
            (root / chip / name).write_text(f"{text}\n")
    return root


def one_chip(root: Path, **files: str) -> Sensors:
    return Sensors(sensors(root, {"hwmon0": files}))


# --- temperatures --------------------------------------------------------------------------------


def test_the_inlet_is_the_sensor_that_says_so(tmp_path: Path) -> None:
    """Of a server's sensors only the one labelled as inlet is the air at the inlet."""
    fields = Sensors(sensors(tmp_path, SERVER)).read()
    assert fields["inlet_temperature_celsius"] == 23.5


def test_the_coolest_of_several_inlets_counts(tmp_path: Path) -> None:
    """The warmer ones are nearer to what heats them."""
    labels = {"temp1_label": "Inlet 1", "temp2_label": "Ambient"}
    read = one_chip(tmp_path, temp1_input="24000", temp2_input="31000", **labels).read()
    assert read["inlet_temperature_celsius"] == 24.0


def test_without_an_inlet_sensor_the_field_is_left_out(tmp_path: Path) -> None:
    """A desktop board has no such sensor; no other one is taken for it."""
    assert "inlet_temperature_celsius" not in Sensors(sensors(tmp_path, DESKTOP)).read()


@pytest.mark.parametrize("text", ["0", "-128000", "127000", "", "n/a"])
def test_a_broken_sensor_is_left_out(tmp_path: Path, text: str) -> None:
    """What chips read without a probe never becomes data."""
    assert not one_chip(tmp_path, temp1_label="Ambient", temp1_input=text).read()


def test_the_board_is_the_sensor_wired_on_it(tmp_path: Path) -> None:
    """Inputs without a probe float at 102 °C, and the ACPI zone shows 27.8 °C for ever."""
    fields = Sensors(sensors(tmp_path, DESKTOP)).read()
    assert fields["board_temperature_celsius"] == 35.0


def test_the_warmest_sensor_of_the_board_counts(tmp_path: Path) -> None:
    """Board, chipset and voltage regulators are board; the processor's socket is not."""
    fields = one_chip(
        tmp_path,
        name="asusec",
        temp1_label="Chipset",
        temp1_input="61000",
        temp2_label="Motherboard",
        temp2_input="33000",
        temp3_label="CPU Package",
        temp3_input="80000",
        temp4_label="T_Sensor",
        temp4_input="-40000",
    ).read()
    assert fields == {"board_temperature_celsius": 61.0}


def test_a_chip_without_labels_shows_the_board_by_its_thermistors(tmp_path: Path) -> None:
    """A diode or a digital input of such a chip belongs to a processor."""
    fields = one_chip(
        tmp_path,
        name="it8686",
        temp1_input="38000",
        temp1_type="4",
        temp2_input="71000",
        temp2_type="6",
    ).read()
    assert fields == {"board_temperature_celsius": 38.0}


@pytest.mark.parametrize("chip", ["pch_cannonlake", "gigabyte_wmi"])
def test_chips_that_name_no_input_show_the_board(tmp_path: Path, chip: str) -> None:
    """They have nothing but sensors of the board."""
    assert one_chip(tmp_path, name=chip, temp1_input="48000").read() == {
        "board_temperature_celsius": 48.0
    }


def test_the_hottest_processor_counts(tmp_path: Path) -> None:
    """Of two sockets the packages are read, not each core."""
    cores = {"temp2_label": "Core 0", "temp2_input": "99000"}
    first = {"name": "coretemp", "temp1_label": "Package id 0", "temp1_input": "54000"} | cores
    second = {"name": "coretemp", "temp1_label": "Package id 1", "temp1_input": "67000"} | cores
    fields = Sensors(sensors(tmp_path, {"hwmon0": first, "hwmon1": second})).read()
    assert fields == {"cpu_temperature_celsius": 67.0}


def test_the_die_is_read_before_the_shifted_control_value(tmp_path: Path) -> None:
    """Some processors add 27 °C to Tctl so that fans turn faster."""
    fields = one_chip(
        tmp_path,
        name="k10temp",
        temp1_label="Tctl",
        temp1_input="77000",
        temp2_label="Tdie",
        temp2_input="50000",
    ).read()
    assert fields == {"cpu_temperature_celsius": 50.0}


def test_sensors_that_stop_the_machine_are_not_read(tmp_path: Path) -> None:
    """On some machines the firmware answers while all processors wait."""
    fields = one_chip(
        tmp_path, name="dell_smm", temp1_label="Ambient", temp1_input="24000", fan1_input="2000"
    ).read()
    assert fields == {}


# --- fans ----------------------------------------------------------------------------------------


def test_fans_are_those_of_the_board_that_turn(tmp_path: Path) -> None:
    """An empty header stands still and is no fan; nor is the fan of a graphics card."""
    fields = Sensors(sensors(tmp_path, DESKTOP)).read()
    assert (fields["fan_rpm_min"], fields["fans"], fields["fans_stopped"]) == (1648.0, 2.0, 0.0)


def test_a_fan_that_stands_still_after_it_turned_is_told(tmp_path: Path) -> None:
    """It stays the slowest fan, at 0."""
    source = Sensors(sensors(tmp_path, DESKTOP))
    for _ in range(3):
        source.read()
    (tmp_path / "hwmon2/fan3_input").write_text("0\n")
    fields = source.read()
    assert (fields["fan_rpm_min"], fields["fans"], fields["fans_stopped"]) == (0.0, 2.0, 1.0)


def test_a_fan_is_remembered_when_its_chip_is_numbered_anew(tmp_path: Path) -> None:
    """Which device it belongs to stays the same."""
    sensors(tmp_path, DESKTOP)
    (tmp_path / "nct6775.656").mkdir()
    (tmp_path / "hwmon2/device").symlink_to(tmp_path / "nct6775.656")
    source = Sensors(tmp_path)
    for _ in range(3):
        source.read()
    (tmp_path / "hwmon2/fan3_input").write_text("0\n")
    (tmp_path / "hwmon2").rename(tmp_path / "hwmon5")
    assert source.read()["fans_stopped"] == 1.0


def test_a_header_that_once_showed_a_speed_is_no_fan(tmp_path: Path) -> None:
    """Noise on an open wire must not become a fan that has stopped."""
    source = Sensors(sensors(tmp_path, DESKTOP))
    (tmp_path / "hwmon2/fan1_input").write_text("675\n")
    source.read()
    (tmp_path / "hwmon2/fan1_input").write_text("0\n")
    assert source.read()["fans"] == 2.0


@pytest.mark.parametrize("text", ["1350000", "-1", "n/a"])
def test_an_impossible_speed_is_left_out(tmp_path: Path, text: str) -> None:
    """A counter that overflowed is no speed."""
    assert one_chip(tmp_path, name="nct6779", fan1_input=text).read() == {}


def test_what_is_labelled_as_no_fan_is_left_out(tmp_path: Path) -> None:
    """The flow of a water loop has the same kind of sensor."""
    assert one_chip(tmp_path, name="asusec", fan1_label="Water_Flow", fan1_input="90").read() == {}


# --- finding and hanging -------------------------------------------------------------------------


def test_a_sensor_that_is_numbered_anew_is_found_again(tmp_path: Path) -> None:
    """After its driver was loaded again the chip has another number."""
    source = Sensors(sensors(tmp_path, SERVER))
    (tmp_path / "hwmon1").rename(tmp_path / "hwmon7")
    assert source.read()["inlet_temperature_celsius"] == 23.5


def test_a_sensor_that_turns_up_later_is_read(tmp_path: Path) -> None:
    """Its driver may be loaded after the agent has started."""
    source = Sensors(tmp_path / "hwmon")
    assert source.read() == {}
    (tmp_path / "hwmon").mkdir()
    sensors(tmp_path / "hwmon", SERVER)
    assert source.read()["cpu_temperature_celsius"] == 54.0


class Hanging:
    """A node whose inlet sensor hangs in its read until `answer`; its processor's does not."""

    def __init__(self, root: Path) -> None:
        self.now = 0.0
        sensors(root, {name: SERVER[name] for name in ("hwmon0", "hwmon1")})
        self._inlet = root / "hwmon1/temp1_input"
        self._processor = root / "hwmon0/temp1_input"
        self._inlet.unlink()
        os.mkfifo(self._inlet)
        self._sensors = Sensors(root, lambda: self.now, patience_seconds=0.4)

    def read(self, processor: int) -> dict[str, Value]:
        """What is read while the processor has a temperature."""
        self._processor.write_text(f"{processor}000\n")
        return dict(self._sensors.read())

    def answer(self, inlet: int) -> None:
        """Let the read that waits have its answer, and wait until it is taken."""
        thread = next(t for t in threading.enumerate() if t.name == "sensors")
        self._inlet.write_text(f"{inlet}000\n")
        thread.join(10)


def test_a_slow_sensor_is_given_with_the_next_reading(tmp_path: Path) -> None:
    """The others do not wait for it, once it is known to be slow."""
    node = Hanging(tmp_path)
    node.read(processor=54)
    node.answer(inlet=22)
    assert node.read(processor=55) == {
        "inlet_temperature_celsius": 22.0,
        "cpu_temperature_celsius": 55.0,
    }
    node.answer(inlet=23)
    assert node.read(processor=56) == {
        "inlet_temperature_celsius": 23.0,
        "cpu_temperature_celsius": 56.0,
    }
    node.answer(inlet=23)


def test_a_sensor_that_hangs_is_let_be_and_the_others_go_on(tmp_path: Path) -> None:
    """After half a minute it has a thread of its own to wait in."""
    node = Hanging(tmp_path)
    node.read(processor=54)
    node.now = 31.0
    assert node.read(processor=60) == {"cpu_temperature_celsius": 60.0}
    assert node.read(processor=61) == {"cpu_temperature_celsius": 61.0}
    node.answer(inlet=22)


def test_a_sensor_that_hung_is_asked_again_once_it_has_answered(tmp_path: Path) -> None:
    """What it said after so long is not taken; what it says from then on is."""
    node = Hanging(tmp_path)
    node.read(processor=54)
    node.now = 31.0
    node.read(processor=60)
    node.answer(inlet=22)
    assert node.read(processor=61) == {"cpu_temperature_celsius": 61.0}
    node.answer(inlet=23)
    assert node.read(processor=62)["inlet_temperature_celsius"] == 23.0
    node.answer(inlet=23)
