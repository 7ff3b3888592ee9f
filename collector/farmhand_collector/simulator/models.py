"""Kinds of card that a farm of this sort holds, and how each behaves.

Names, sizes, limits and clocks are those that the driver reports. `sustained_clock_mhz`, resting
and floor powers and temperatures are typical figures for a median chip, not guaranteed ones.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

MIB = 1024.0 * 1024.0
GDDR6X_LIMIT_CELSIUS = 110.0
"""Junction temperature at which GDDR6X is slowed down."""


class Origin(StrEnum):
    """Where a kind of card comes from."""

    GAMING = "gaming"
    REWORKED = "reworked"
    MINING = "mining"
    DATACENTRE = "datacentre"


_FAN = frozenset({"fan_ratio"})
_ENERGY = frozenset({"energy_joules"})
_REMAP = frozenset({"remapped_rows_total", "remap_pending", "remap_failed"})
_ECC = frozenset({"ecc_corrected_total", "ecc_uncorrected_total"})
_RETIRED = frozenset({"retired_pages_total"})
_MEMORY_TEMPERATURE = frozenset({"memory_temperature_celsius", "memory_temperature_max_celsius"})
_MEMORY_TRAFFIC = frozenset({"memory_bandwidth_bytes_per_second"})
_LINK_BYTES = frozenset({"pcie_rx_bytes_per_second", "pcie_tx_bytes_per_second"})

OPTIONAL_FIELDS = (
    _FAN | _ENERGY | _REMAP | _ECC | _RETIRED | _MEMORY_TEMPERATURE | _MEMORY_TRAFFIC | _LINK_BYTES
)
"""Fields of `card` that only some kinds of card give."""


@dataclass(frozen=True, kw_only=True)
class CardModel:
    """One kind of card.

    `memory_mhz_lower` are the memory clocks of lower performance states, empty where the memory
    has but one. `sustained_clock_mhz` is where a median chip settles at its default power limit
    under a full load; `boost_clock_mhz` where it goes when the limit does not bind.
    `floor_power_watts` is drawn at load clocks with nothing to do. `full_temperature_celsius` is
    the die at the default limit, air at 25 °C, fan at 70 %. `lock_ratio` is the share of the
    nominal throughput that the maker left in a mining card. `memory_rise_kelvin` is how far the
    memory is above the heat sink in training, `memory_limit_celsius` where it is slowed down.
    """

    name: str
    origin: Origin
    device_id: str
    core_count: int
    memory_mib: int
    memory_bus_bits: int
    bar1_mib: int
    power_limit_watts: float
    idle_power_watts: float
    floor_power_watts: float
    core_clock_max_mhz: float
    boost_clock_mhz: float
    sustained_clock_mhz: float
    idle_clock_mhz: float
    memory_clock_max_mhz: float
    memory_clock_load_mhz: float
    memory_clock_idle_mhz: float
    memory_mhz_lower: tuple[float, ...]
    full_temperature_celsius: float
    target_temperature_celsius: float
    pcie_generation: int
    pcie_lanes: int
    fp16_tflops: float
    gives: frozenset[str]
    memory_rise_kelvin: float = 14.0
    memory_limit_celsius: float = 105.0
    lock_ratio: float = 1.0
    idles_on_slow_link: bool = True

    @property
    def model(self) -> str:
        """The `model` tag: the driver's name without its vendor."""
        return self.name.removeprefix("NVIDIA ")

    @property
    def memory_bytes_per_second(self) -> float:
        """Nominal memory traffic: two bits a pin in each cycle of the clock as drivers name it."""
        return self.memory_bus_bits / 8.0 * self.memory_clock_max_mhz * 2e6

    @property
    def has_fan(self) -> bool:
        """Whether the card cools itself; the others live on the air of the chassis."""
        return "fan_ratio" in self.gives


_3060 = CardModel(
    name="NVIDIA GeForce RTX 3060",
    origin=Origin.GAMING,
    device_id="10de:2487",
    core_count=3584,
    memory_mib=12288,
    memory_bus_bits=192,
    bar1_mib=256,
    power_limit_watts=170.0,
    idle_power_watts=12.0,
    floor_power_watts=38.0,
    core_clock_max_mhz=2145.0,
    boost_clock_mhz=1950.0,
    sustained_clock_mhz=1785.0,
    idle_clock_mhz=210.0,
    memory_clock_max_mhz=7501.0,
    memory_clock_load_mhz=7301.0,
    memory_clock_idle_mhz=405.0,
    memory_mhz_lower=(810.0, 5001.0),
    full_temperature_celsius=64.0,
    target_temperature_celsius=83.0,
    pcie_generation=4,
    pcie_lanes=16,
    fp16_tflops=25.5,
    gives=_FAN | _ENERGY,
)

_3060_TI = replace(
    _3060,
    name="NVIDIA GeForce RTX 3060 Ti",
    origin=Origin.MINING,
    device_id="10de:2486",
    core_count=4864,
    memory_mib=8192,
    memory_bus_bits=256,
    power_limit_watts=200.0,
    idle_power_watts=13.0,
    floor_power_watts=46.0,
    core_clock_max_mhz=2100.0,
    boost_clock_mhz=1935.0,
    sustained_clock_mhz=1740.0,
    memory_clock_max_mhz=7001.0,
    memory_clock_load_mhz=6801.0,
    full_temperature_celsius=66.0,
    fp16_tflops=32.4,
)

_3080 = replace(
    _3060,
    name="NVIDIA GeForce RTX 3080",
    device_id="10de:2206",
    core_count=8704,
    memory_mib=10240,
    memory_bus_bits=320,
    power_limit_watts=320.0,
    idle_power_watts=23.0,
    floor_power_watts=80.0,
    core_clock_max_mhz=2100.0,
    boost_clock_mhz=1935.0,
    sustained_clock_mhz=1710.0,
    memory_clock_max_mhz=9501.0,
    memory_clock_load_mhz=9251.0,
    full_temperature_celsius=67.0,
    fp16_tflops=59.5,
    memory_rise_kelvin=26.0,
    memory_limit_celsius=GDDR6X_LIMIT_CELSIUS,
)

_3080_20G = replace(
    _3080,
    origin=Origin.REWORKED,
    memory_mib=20480,
    idle_power_watts=27.0,
    full_temperature_celsius=68.0,
)

_3090 = replace(
    _3080,
    name="NVIDIA GeForce RTX 3090",
    device_id="10de:2204",
    core_count=10496,
    memory_mib=24576,
    memory_bus_bits=384,
    bar1_mib=32768,
    power_limit_watts=350.0,
    idle_power_watts=27.0,
    floor_power_watts=95.0,
    sustained_clock_mhz=1695.0,
    memory_clock_max_mhz=9751.0,
    memory_clock_load_mhz=9501.0,
    full_temperature_celsius=68.0,
    fp16_tflops=71.2,
    memory_rise_kelvin=32.0,
)

_4090 = replace(
    _3060,
    name="NVIDIA GeForce RTX 4090",
    device_id="10de:2684",
    core_count=16384,
    memory_mib=24564,
    memory_bus_bits=384,
    bar1_mib=32768,
    power_limit_watts=450.0,
    idle_power_watts=18.0,
    floor_power_watts=75.0,
    core_clock_max_mhz=3120.0,
    boost_clock_mhz=2730.0,
    sustained_clock_mhz=2520.0,
    memory_clock_max_mhz=10501.0,
    memory_clock_load_mhz=10251.0,
    full_temperature_celsius=65.0,
    fp16_tflops=165.2,
    gives=_FAN | _ENERGY | _REMAP,
    memory_rise_kelvin=20.0,
    memory_limit_celsius=GDDR6X_LIMIT_CELSIUS,
)

_4090_48G = replace(
    _4090,
    origin=Origin.REWORKED,
    memory_mib=49140,
    idle_power_watts=24.0,
    full_temperature_celsius=68.0,
)

_2080_TI_22G = replace(
    _3060,
    name="NVIDIA GeForce RTX 2080 Ti",
    origin=Origin.REWORKED,
    device_id="10de:1e07",
    core_count=4352,
    memory_mib=22528,
    memory_bus_bits=352,
    power_limit_watts=250.0,
    idle_power_watts=15.0,
    floor_power_watts=62.0,
    core_clock_max_mhz=2100.0,
    boost_clock_mhz=1860.0,
    sustained_clock_mhz=1620.0,
    idle_clock_mhz=300.0,
    memory_clock_max_mhz=7001.0,
    memory_clock_load_mhz=6801.0,
    full_temperature_celsius=68.0,
    pcie_generation=3,
    fp16_tflops=53.8,
)

_CMP_50HX = replace(
    _2080_TI_22G,
    name="NVIDIA CMP 50HX",
    origin=Origin.MINING,
    device_id="10de:1e09",
    core_count=3584,
    memory_mib=10240,
    memory_bus_bits=320,
    power_limit_watts=225.0,
    idle_power_watts=63.0,
    floor_power_watts=63.0,
    core_clock_max_mhz=1860.0,
    boost_clock_mhz=1740.0,
    sustained_clock_mhz=1560.0,
    idle_clock_mhz=1545.0,
    memory_clock_idle_mhz=6801.0,
    memory_mhz_lower=(810.0, 5001.0),
    full_temperature_celsius=66.0,
    pcie_generation=1,
    pcie_lanes=4,
    fp16_tflops=107.0,
    lock_ratio=0.03,
)

_P104_100 = replace(
    _3060,
    name="NVIDIA P104-100",
    origin=Origin.MINING,
    device_id="10de:1b87",
    core_count=1920,
    memory_mib=4096,
    memory_bus_bits=256,
    power_limit_watts=180.0,
    idle_power_watts=7.0,
    floor_power_watts=40.0,
    core_clock_max_mhz=1911.0,
    boost_clock_mhz=1860.0,
    sustained_clock_mhz=1710.0,
    idle_clock_mhz=139.0,
    memory_clock_max_mhz=5005.0,
    memory_clock_load_mhz=4513.0,
    memory_mhz_lower=(810.0,),
    full_temperature_celsius=67.0,
    pcie_generation=1,
    pcie_lanes=4,
    fp16_tflops=6.7,
    gives=_FAN,
)

_T4 = replace(
    _3060,
    name="Tesla T4",
    origin=Origin.DATACENTRE,
    device_id="10de:1eb8",
    core_count=2560,
    memory_mib=15360,
    memory_bus_bits=256,
    power_limit_watts=70.0,
    idle_power_watts=10.0,
    floor_power_watts=26.0,
    core_clock_max_mhz=1590.0,
    boost_clock_mhz=1590.0,
    sustained_clock_mhz=1110.0,
    idle_clock_mhz=300.0,
    memory_clock_max_mhz=5001.0,
    memory_clock_load_mhz=5001.0,
    memory_mhz_lower=(),
    full_temperature_celsius=60.0,
    target_temperature_celsius=85.0,
    pcie_generation=3,
    fp16_tflops=65.0,
    gives=_ENERGY | _ECC | _RETIRED,
    idles_on_slow_link=False,
)

_A100_SXM = replace(
    _T4,
    name="NVIDIA A100-SXM4-80GB",
    device_id="10de:20b2",
    core_count=6912,
    memory_mib=81920,
    memory_bus_bits=5120,
    bar1_mib=131072,
    power_limit_watts=400.0,
    idle_power_watts=60.0,
    floor_power_watts=88.0,
    core_clock_max_mhz=1410.0,
    boost_clock_mhz=1410.0,
    sustained_clock_mhz=1305.0,
    idle_clock_mhz=210.0,
    memory_clock_max_mhz=1593.0,
    memory_clock_load_mhz=1593.0,
    memory_clock_idle_mhz=1593.0,
    full_temperature_celsius=58.0,
    pcie_generation=4,
    fp16_tflops=312.0,
    gives=_ENERGY | _ECC | _REMAP | _MEMORY_TEMPERATURE | _LINK_BYTES,
    memory_limit_celsius=95.0,
)

_A100_PCIE = replace(
    _A100_SXM,
    name="NVIDIA A100 80GB PCIe",
    device_id="10de:20b5",
    power_limit_watts=300.0,
    idle_power_watts=45.0,
    floor_power_watts=70.0,
    sustained_clock_mhz=1215.0,
    memory_clock_max_mhz=1512.0,
    memory_clock_load_mhz=1512.0,
    memory_clock_idle_mhz=1512.0,
    full_temperature_celsius=60.0,
)

_H100_PCIE = replace(
    _A100_PCIE,
    name="NVIDIA H100 PCIe",
    device_id="10de:2331",
    core_count=14592,
    memory_mib=81559,
    power_limit_watts=350.0,
    idle_power_watts=47.0,
    floor_power_watts=80.0,
    core_clock_max_mhz=1755.0,
    boost_clock_mhz=1755.0,
    sustained_clock_mhz=1440.0,
    pcie_generation=5,
    fp16_tflops=756.0,
    gives=_A100_PCIE.gives | _MEMORY_TRAFFIC,
    memory_clock_max_mhz=1593.0,
    memory_clock_load_mhz=1593.0,
    memory_clock_idle_mhz=1593.0,
)

_V100_SXM2 = replace(
    _A100_SXM,
    name="Tesla V100-SXM2-16GB",
    device_id="10de:1db1",
    core_count=5120,
    memory_mib=16384,
    memory_bus_bits=4096,
    bar1_mib=16384,
    power_limit_watts=300.0,
    idle_power_watts=42.0,
    floor_power_watts=70.0,
    core_clock_max_mhz=1530.0,
    boost_clock_mhz=1530.0,
    sustained_clock_mhz=1365.0,
    idle_clock_mhz=135.0,
    memory_clock_max_mhz=877.0,
    memory_clock_load_mhz=877.0,
    memory_clock_idle_mhz=877.0,
    full_temperature_celsius=62.0,
    pcie_generation=3,
    fp16_tflops=125.0,
    gives=_ENERGY | _ECC | _RETIRED | _MEMORY_TEMPERATURE,
)

_P102_100_10G = replace(
    _P104_100,
    name="NVIDIA P102-100",
    device_id="10de:1b07",
    core_count=3200,
    memory_mib=10240,
    memory_bus_bits=320,
    power_limit_watts=250.0,
    idle_power_watts=9.0,
    floor_power_watts=55.0,
    sustained_clock_mhz=1680.0,
    memory_clock_max_mhz=5505.0,
    memory_clock_load_mhz=5005.0,
    fp16_tflops=10.8,
)

MODELS: tuple[CardModel, ...] = (
    _3060,
    _3080,
    _3090,
    _4090,
    _2080_TI_22G,
    _3080_20G,
    _4090_48G,
    _3060_TI,
    _CMP_50HX,
    _P104_100,
    _T4,
    _A100_SXM,
    _A100_PCIE,
)
"""Kinds that every farm of this sort has some of."""

RARE_MODELS: tuple[CardModel, ...] = (_H100_PCIE, _V100_SXM2, _P102_100_10G)
"""Kinds that only a large farm has."""
