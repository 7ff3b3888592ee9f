"""The node's own readings."""

from pathlib import Path

import psutil
import pytest

from farmhand_agent.reading import fields_of
from farmhand_agent.sources.host import HostSource


class Clock:
    """A clock that goes on only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def write(directory: Path, **files: object) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (directory / name).write_text(f"{value}\n")
    return directory


def add_disk(sysfs: Path, name: str, read: int, written: int, hardware: bool = True) -> None:
    """A disk with its counters in sectors, laid out as the kernel writes `stat`."""
    disk = write(sysfs / "block" / name, stat=f" 464721 34638 {read} 232577 5464 335 {written} 0 0")
    if hardware:
        (disk / "device").mkdir(exist_ok=True)


def add_port(sysfs: Path, name: str, hardware: bool = True, **counters: int) -> Path:
    port = sysfs / "class/net" / name
    names = ("rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_missed_errors", "rx_dropped")
    write(port / "statistics", **(dict.fromkeys(names, 0) | counters))
    if hardware:
        (port / "device").mkdir(exist_ok=True)
    return port


def number(source: HostSource, name: str) -> float:
    value = source.read()[name]
    assert isinstance(value, float)
    return value


# --- processors, memory, state disk --------------------------------------------------------------


def test_every_field_is_in_the_contract_and_a_float(tmp_path: Path) -> None:
    """What is read of this machine fits the table of readings, so that no store refuses it."""
    fields = HostSource(tmp_path).read()
    assert fields.keys() <= fields_of("host").keys()
    assert all(isinstance(value, float) for value in fields.values())


def test_memory_and_disk_are_those_of_the_machine(tmp_path: Path) -> None:
    """Memory in use is part of all memory; the disk is that of the state directory."""
    source = HostSource(tmp_path)
    assert number(source, "memory_total_bytes") == psutil.virtual_memory().total
    assert 0 < number(source, "memory_used_bytes") < psutil.virtual_memory().total
    assert number(source, "disk_total_bytes") == psutil.disk_usage(str(tmp_path)).total
    assert 0 < number(source, "disk_free_bytes") <= psutil.disk_usage(str(tmp_path)).total
    assert number(source, "swap_total_bytes") == psutil.swap_memory().total


def test_uptime_is_the_time_since_boot(tmp_path: Path) -> None:
    """It goes on while the machine sleeps, as the kernel's own figure does."""
    kernels = float(Path("/proc/uptime").read_text().split()[0])
    assert number(HostSource(tmp_path), "uptime_seconds") == pytest.approx(kernels, abs=60)


def test_processor_shares_are_over_the_time_since_the_last_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three busy seconds of four are 0.75; guests are not counted twice, waiting is its own."""
    before = psutil.cpu_times()
    after = before._replace(
        user=before.user + 3.0, guest=before.guest + 2.0, iowait=before.iowait + 1.0
    )
    monkeypatch.setattr(psutil, "cpu_times", lambda: before)
    source = HostSource(tmp_path)
    monkeypatch.setattr(psutil, "cpu_times", lambda: after)
    fields = source.read()
    assert fields["cpu_ratio"] == pytest.approx(0.75)
    assert fields["cpu_wait_ratio"] == pytest.approx(0.25)


def test_an_unchanged_clock_gives_no_processor_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls within one tick of the kernel have no share between them: it is left out."""
    now = psutil.cpu_times()
    monkeypatch.setattr(psutil, "cpu_times", lambda: now)
    assert "cpu_ratio" not in HostSource(tmp_path).read()


def test_a_missing_state_directory_only_loses_its_fields(tmp_path: Path) -> None:
    """A disk that went away must not take the other readings with it."""
    fields = HostSource(tmp_path / "gone").read()
    assert "disk_free_bytes" not in fields
    assert "load1" in fields


def test_a_machine_that_tells_nothing_more_gives_the_rest(tmp_path: Path) -> None:
    """Without disks, ports, sensors and error counters their fields are left out."""
    fields = HostSource(tmp_path, sysfs=tmp_path).read()
    about = ("disk_read", "network", "memory_corrected", "temperature", "fan")
    assert not [name for name in fields if any(word in name for word in about)]
    assert "uptime_seconds" in fields


# --- disks ---------------------------------------------------------------------------------------


def test_disk_traffic_is_per_second_since_the_last_call(tmp_path: Path) -> None:
    """Counters are in sectors of 512 bytes; two disks add up."""
    clock = Clock()
    add_disk(tmp_path, "nvme0n1", 1000, 500)
    add_disk(tmp_path, "sda", 0, 0)
    source = HostSource(tmp_path, tmp_path, clock)
    add_disk(tmp_path, "nvme0n1", 1100, 500)
    add_disk(tmp_path, "sda", 100, 40)
    clock.now += 10
    fields = source.read()
    assert fields["disk_read_bytes_per_second"] == 200 * 512 / 10
    assert fields["disk_write_bytes_per_second"] == 40 * 512 / 10


def test_what_is_made_of_disks_is_not_counted_again(tmp_path: Path) -> None:
    """Loops, RAID and volumes stand on disks, and a hidden path leads to a disk that is listed."""
    clock = Clock()
    disks = {"sda": True, "md0": False, "dm-0": False, "loop0": False, "nvme0c0n1": True}
    for name, hardware in disks.items():
        add_disk(tmp_path, name, 0, 0, hardware)
    write(tmp_path / "block/nvme0c0n1", hidden=1)
    source = HostSource(tmp_path, tmp_path, clock)
    for name, hardware in disks.items():
        add_disk(tmp_path, name, 10, 0, hardware)
    clock.now += 1
    assert number(source, "disk_read_bytes_per_second") == 10 * 512


def test_a_disk_that_was_plugged_in_does_not_bring_its_past(tmp_path: Path) -> None:
    """Its counters before the first look are no traffic of this interval."""
    clock = Clock()
    add_disk(tmp_path, "sda", 0, 0)
    source = HostSource(tmp_path, tmp_path, clock)
    add_disk(tmp_path, "sdb", 9_000_000, 0)
    clock.now += 1
    assert number(source, "disk_read_bytes_per_second") == 0.0
    add_disk(tmp_path, "sdb", 9_000_002, 0)
    clock.now += 1
    assert number(source, "disk_read_bytes_per_second") == 1024.0


def test_a_counter_that_went_down_leaves_the_rate_out(tmp_path: Path) -> None:
    """A driver that was loaded again starts at 0: no traffic can be told for that interval."""
    clock = Clock()
    add_disk(tmp_path, "sda", 1000, 0)
    source = HostSource(tmp_path, tmp_path, clock)
    add_disk(tmp_path, "sda", 10, 0)
    clock.now += 1
    assert "disk_read_bytes_per_second" not in source.read()
    add_disk(tmp_path, "sda", 12, 0)
    clock.now += 1
    assert number(source, "disk_read_bytes_per_second") == 1024.0


def test_two_calls_at_the_same_moment_have_no_rate(tmp_path: Path) -> None:
    """Nothing is divided by no time."""
    add_disk(tmp_path, "sda", 1000, 0)
    assert "disk_read_bytes_per_second" not in HostSource(tmp_path, tmp_path, Clock()).read()


@pytest.mark.parametrize("stat", ["", "1 2 3", "a b c d e f g h"])
def test_a_disk_that_does_not_count_is_left_out(tmp_path: Path, stat: str) -> None:
    """What cannot be read as counters is not given."""
    clock = Clock()
    write(tmp_path / "block/sda", stat=stat)
    (tmp_path / "block/sda/device").mkdir()
    source = HostSource(tmp_path, tmp_path, clock)
    clock.now += 1
    assert "disk_read_bytes_per_second" not in source.read()


# --- network -------------------------------------------------------------------------------------


def test_traffic_is_that_of_hardware_ports(tmp_path: Path) -> None:
    """The loopback, bonds and containers carry what a port carries too, or never leave."""
    clock = Clock()
    ports = {"eno1": True, "lo": False, "bond0": False, "veth12ab": False}
    for name, hardware in ports.items():
        add_port(tmp_path, name, hardware)
    source = HostSource(tmp_path, tmp_path, clock)
    for name, hardware in ports.items():
        add_port(tmp_path, name, hardware, rx_bytes=5000, tx_bytes=200)
    clock.now += 10
    fields = source.read()
    assert fields["network_rx_bytes_per_second"] == 500.0
    assert fields["network_tx_bytes_per_second"] == 20.0


def test_a_virtual_function_counts_with_its_port(tmp_path: Path) -> None:
    """The card's port has carried its packets already."""
    clock = Clock()
    add_port(tmp_path, "eno1")
    (add_port(tmp_path, "eno1v0") / "device/physfn").mkdir()
    source = HostSource(tmp_path, tmp_path, clock)
    for name in ("eno1", "eno1v0"):
        add_port(tmp_path, name, rx_bytes=100)
    clock.now += 1
    assert number(source, "network_rx_bytes_per_second") == 100.0


def test_a_port_below_a_port_is_counted_once(tmp_path: Path) -> None:
    """A hypervisor's port counts what goes the fast way below it; below a bond, ports count."""
    clock = Clock()
    for port, above, hardware in (("eth1", "eth0", True), ("eno1", "bond0", False)):
        add_port(tmp_path, above, hardware)
        (add_port(tmp_path, port) / "master").symlink_to(tmp_path / "class/net" / above)
    source = HostSource(tmp_path, tmp_path, clock)
    add_port(tmp_path, "eth0", rx_bytes=7)
    add_port(tmp_path, "eth1", rx_bytes=7)
    add_port(tmp_path, "eno1", rx_bytes=30)
    clock.now += 1
    assert number(source, "network_rx_bytes_per_second") == 37.0


def test_network_errors_are_damaged_and_missed_packets(tmp_path: Path) -> None:
    """Packets that were dropped because nobody wanted them are none."""
    add_port(tmp_path, "eno1", rx_errors=3, tx_errors=2, rx_missed_errors=4, rx_dropped=9999)
    add_port(tmp_path, "eno2", rx_errors=1)
    assert number(HostSource(tmp_path, tmp_path), "network_errors_total") == 10.0


def test_a_port_renamed_after_the_start_is_found(tmp_path: Path) -> None:
    """Ports are named by the system while it boots, which may be after the agent's start."""
    port = add_port(tmp_path, "eth0", rx_errors=1)
    source = HostSource(tmp_path, tmp_path)
    port.rename(port.with_name("enp5s0"))
    assert number(source, "network_errors_total") == 1.0


# --- memory errors -------------------------------------------------------------------------------


def test_memory_errors_are_summed_over_controllers(tmp_path: Path) -> None:
    """Each memory controller counts for itself."""
    controllers = tmp_path / "devices/system/edac/mc"
    write(controllers / "mc0", ce_count=40, ue_count=0)
    write(controllers / "mc1", ce_count=2, ue_count=1)
    source = HostSource(tmp_path, tmp_path)
    assert number(source, "memory_corrected_total") == 42.0
    assert number(source, "memory_uncorrected_total") == 1.0


def test_half_a_sum_of_memory_errors_is_left_out(tmp_path: Path) -> None:
    """While one controller does not answer the total would fall, as if counters had been reset."""
    controllers = tmp_path / "devices/system/edac/mc"
    write(controllers / "mc0", ce_count=40, ue_count=0)
    write(controllers / "mc1", ue_count=0)
    fields = HostSource(tmp_path, tmp_path).read()
    assert "memory_corrected_total" not in fields
    assert fields["memory_uncorrected_total"] == 0.0


def test_error_counters_that_turn_up_later_are_read(tmp_path: Path) -> None:
    """Their driver may be loaded after the agent has started."""
    source = HostSource(tmp_path, tmp_path)
    write(tmp_path / "devices/system/edac/mc/mc0", ce_count=1, ue_count=0)
    assert number(source, "memory_corrected_total") == 1.0
