"""Card models: the table, how a card is found in it, and what is expected of a card."""

import csv
from collections.abc import Iterator
from importlib.resources import files

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from farmhand_agent.reading import parse_lines
from farmhand_collector import catalogue
from farmhand_collector.catalogue.cards import (
    ECC_RATIO,
    MIB,
    REFERENCE_NAME,
    UNLOCKED_RATIO,
    Capacity,
    CardModel,
    Fraction,
    How,
    Match,
    Shown,
    a100_equivalents,
    achievable,
    capacity,
    card_models,
    computed,
    expectation,
    match,
    memory_bandwidth,
    memory_bytes_by_model,
)
from tests.standin.captures import MODELS
from tests.standin.goldens import golden_path

BY_NAME = {model.name: model for model in card_models()}
NAMED = [model for model in card_models() if model.reported_name]
TELLS_CLOCK_AND_BUS = [
    model
    for model in card_models()
    if model.memory_clock_max_mhz and model.memory_bus_bits and model.vendor == "nvidia"
]

CAPTURED = {
    "GTX 1070 Ti": ("GeForce GTX 1070 Ti", How.MEMORY_ODD),
    "GTX 1660 Ti": ("GeForce GTX 1660", How.ID_ALONE),
    "Quadro P400": ("Quadro P400", How.EXACT),
    "Quadro P2000": ("Quadro P2000", How.EXACT),
    "RTX 2080 SUPER": ("GeForce RTX 2080 SUPER", How.EXACT),
    "RTX 3060": ("GeForce RTX 3060 12GB", How.EXACT),
    "RTX 3080": ("GeForce RTX 3080 10GB", How.EXACT),
    "RTX 3090": ("GeForce RTX 3090", How.EXACT),
    "RTX 4000 SFF Ada": ("RTX 4000 SFF Ada", How.EXACT),
    "RTX 4080 SUPER": ("GeForce RTX 4080 SUPER", How.EXACT),
    "T4": ("T4", How.EXACT),
    "A10G": ("A10G", How.EXACT),
    "A100 MIG": ("A100 SXM4 80GB", How.EXACT),
    "L40S": ("L40S", How.EXACT),
    "H100": ("H100 SXM5 80GB", How.EXACT),
    "H100 MIG": ("H100 SXM5 80GB", How.EXACT),
    "H200": ("H200 SXM5 141GB", How.EXACT),
    "H200 MIG": ("H200 SXM5 141GB", How.EXACT),
}
"""Captured card to model. One has the memory of no such card; one is older than its driver's
list of names."""


def captured(model: str) -> Shown:
    """What a captured card shows of itself."""
    readings = parse_lines(golden_path(model).read_text(encoding="utf-8"))
    info = next(reading for reading in readings if reading.measurement == "card_info")
    return Shown.of(info.tags["vendor"], info.fields)


def shown(name: str, gib: float | None = None, clock: float | None = None) -> Shown:
    """A card of a name."""
    return Shown(name, None if gib is None else gib * 1024 * MIB, clock)


def found(card: Shown) -> Match:
    """The match of a card that is listed."""
    matched = match(card)
    assert matched is not None
    return matched


def as_made(model: CardModel, memory: float = 1.0) -> Shown:
    """A card that shows all that its model says, with a share of its memory."""
    return Shown(
        name=model.reported_name,
        memory_total_bytes=None if model.memory_bytes is None else model.memory_bytes * memory,
        memory_clock_max_mhz=model.memory_clock_max_mhz,
        memory_bus_bits=model.memory_bus_bits,
        device_id=min(model.device_ids, default=None),
        vendor=model.vendor,
        fp32_flops=None if model.locked else model.fp32_flops,
    )


def alternatives(matched: Match) -> list[str]:
    """Names of what else the card may be."""
    return [model.name for model in matched.alternatives]


class TestTable:
    """The table itself."""

    @pytest.mark.parametrize("name", ["cards", "fractions", "xid", "npu_faults"])
    def test_lines_have_as_many_cells_as_the_heading(self, name: str) -> None:
        """A comma too many would shift figures by a column."""
        text = files(catalogue).joinpath(f"{name}.csv").read_text(encoding="utf-8")

        heading, *lines = csv.reader(text.splitlines())

        assert lines
        assert {len(line) for line in lines} == {len(heading)}
        assert all(cell == cell.strip() for line in lines for cell in line)

    def test_models_have_names_of_their_own(self) -> None:
        """A model is named in views and passports by its canonical name."""
        assert len(BY_NAME) == len(card_models())

    def test_every_row_says_where_it_comes_from(self) -> None:
        """A figure without a source cannot be checked."""
        assert all(model.source for model in card_models())

    @pytest.mark.parametrize("model", card_models(), ids=lambda model: model.name)
    def test_figures_are_of_a_sane_size(self, model: CardModel) -> None:
        """Units were converted once, and not twice."""
        bounds = [
            (model.memory_bytes, 2e9, 2e11),
            (model.memory_bus_bits, 64, 8192),
            (model.memory_bandwidth_bytes_per_second, 3e10, 1e13),
            (model.memory_clock_max_mhz, 700, 16_000),
            (model.fp32_flops, 3e11, 2e14),
            (model.fp16_tensor_flops, 5e12, 3e15),
            (model.board_power_watts, 30, 1000),
            (model.boost_clock_mhz, 1000, 2700),
            (model.pcie_generation, 1, 5),
            (model.pcie_lanes, 1, 16),
            (model.slowdown_temperature_celsius, 80, 105),
            (model.units_per_module, 1, 4),
        ]
        assert all(low <= value <= high for value, low, high in bounds if value is not None)

    @pytest.mark.parametrize("model", card_models(), ids=lambda model: model.name)
    def test_device_ids_are_written_as_readings_write_them(self, model: CardModel) -> None:
        """Vendor and device, four hexadecimal digits each, in lower case."""
        for device_id in model.device_ids:
            vendor, device = device_id.split(":")
            assert vendor == "10de"
            assert f"{int(device, 16):04x}" == device

    @pytest.mark.parametrize("model", TELLS_CLOCK_AND_BUS, ids=lambda model: model.name)
    def test_bandwidth_follows_from_clock_and_bus(self, model: CardModel) -> None:
        """So it can be computed for cards that are not listed."""
        by_formula = memory_bandwidth(as_made(model))

        assert by_formula == pytest.approx(model.memory_bandwidth_bytes_per_second, rel=0.03)

    def test_nearly_all_cards_tell_clock_and_bus(self) -> None:
        """Else the formula above would be tested on nothing."""
        rest = {model.name for model in card_models() if model.vendor == "nvidia"} - {
            model.name for model in TELLS_CLOCK_AND_BUS
        }

        assert rest == {name for name in rest if name.startswith(("CMP 170HX", "CMP 100-210"))}

    def test_memory_sizes_by_the_model_tag(self) -> None:
        """All sizes of a shared name, ascending, in bytes."""
        sizes = [size / MIB for size in memory_bytes_by_model()["GeForce RTX 3080"]]

        assert sizes == [10240, 12288, 20480]


class TestMatch:
    """Which model a card is."""

    @pytest.mark.parametrize("model", MODELS)
    def test_a_captured_card_is_its_model(self, model: str) -> None:
        """What real cards say of themselves is enough."""
        matched = found(captured(model))

        assert (matched.model.name, matched.how) == CAPTURED[model]

    @pytest.mark.parametrize("model", NAMED, ids=lambda model: model.name)
    def test_a_card_as_made_is_its_own_model(self, model: CardModel) -> None:
        """No row hides another."""
        assert found(as_made(model)).model is model

    @given(st.sampled_from(NAMED), st.floats(0.9701, 1.0299))
    def test_drivers_report_a_size_up_to_three_percent_apart(
        self, model: CardModel, share: float
    ) -> None:
        """Reserved memory makes no other card."""
        matched = found(as_made(model, share))

        assert matched.model is model
        assert matched.how is not How.MEMORY_ODD

    @given(
        st.sampled_from([model for model in NAMED if model.memory_bytes]),
        st.floats(0.5, 0.9) | st.floats(4.2, 9.0),
    )
    def test_a_size_that_nobody_made_is_odd(self, model: CardModel, share: float) -> None:
        """It is never passed over in silence."""
        size = (model.memory_bytes or 0.0) * share
        made = [other.memory_bytes for other in NAMED if other.reported_name == model.reported_name]
        assume(all(abs(size / other - 1) > 0.1 for other in made if other))

        assert found(as_made(model, share)).how is How.MEMORY_ODD

    @given(
        st.text(max_size=20) | st.sampled_from([model.reported_name for model in NAMED]),
        st.none() | st.floats(0, 1e12),
        st.none() | st.floats(0, 1e5),
        st.none() | st.text(max_size=9) | st.sampled_from(["10de:2204", "10DE:1D84"]),
    )
    def test_any_card_has_an_expectation(
        self, name: str, memory: float | None, clock: float | None, device_id: str | None
    ) -> None:
        """Whatever a driver says, there is one answer, and it is no alternative of itself."""
        matched = expectation(Shown(name, memory, clock, device_id=device_id))

        assert matched.model not in matched.alternatives

    @pytest.mark.parametrize("prefix", ["", "NVIDIA "])
    def test_old_drivers_leave_the_maker_out_of_the_name(self, prefix: str) -> None:
        """They are the same card."""
        assert found(shown(f"{prefix}P102-100", 10)).model.name == "P102-100 10GB (VBIOS)"

    @pytest.mark.parametrize(
        ("name", "gib", "model", "reworked"),
        [
            ("NVIDIA GeForce RTX 3080", 10, "GeForce RTX 3080 10GB", False),
            ("NVIDIA GeForce RTX 3080", 12, "GeForce RTX 3080 12GB", False),
            ("NVIDIA GeForce RTX 3080", 20, "RTX 3080 20GB (modded)", True),
            ("NVIDIA GeForce RTX 2080 Ti", 22, "RTX 2080 Ti 22GB (modded)", True),
            ("NVIDIA GeForce RTX 4090", 49140 / 1024, "RTX 4090 48GB (modded)", True),
            ("NVIDIA GeForce RTX 3060", 8, "GeForce RTX 3060 8GB", False),
            ("NVIDIA GeForce RTX 4060 Ti", 16380 / 1024, "GeForce RTX 4060 Ti 16GB", False),
        ],
    )
    def test_memory_tells_cards_of_one_name_apart(
        self, name: str, gib: float, model: str, reworked: bool
    ) -> None:
        """Reworked boards keep the name of the board they were."""
        matched = found(shown(name, gib))

        assert (matched.model.name, matched.how) == (model, How.EXACT)
        assert matched.model.reworked is reworked

    def test_a_reworked_board_computes_as_the_stock_one(self) -> None:
        """Twice the chips change nothing but the memory."""
        stock, reworked = BY_NAME["GeForce RTX 4090"], BY_NAME["RTX 4090 48GB (modded)"]

        assert capacity(reworked)._replace(memory=None) == capacity(stock)._replace(memory=None)

    @pytest.mark.parametrize("ecc", [1.0, ECC_RATIO])
    @pytest.mark.parametrize("name", ["RTX A6000", "L40S", "Quadro RTX 6000"])
    def test_ecc_takes_a_sixteenth_of_graphics_memory(self, name: str, ecc: float) -> None:
        """The table holds one of the two sizes, the card may show the other."""
        made = BY_NAME[name].memory_bytes or 0.0
        other = made * ecc if made / MIB in (49140, 24576) else made / ecc

        assert found(as_made(BY_NAME[name], other / made)).how is How.EXACT

    def test_ecc_takes_nothing_of_stacked_memory(self) -> None:
        """An A100 that shows a sixteenth less lacks it."""
        assert found(as_made(BY_NAME[REFERENCE_NAME], ECC_RATIO)).how is How.MEMORY_ODD

    @pytest.mark.parametrize(
        ("clock", "model"),
        [(7001.0, "GeForce RTX 3060 Ti"), (9501.0, "GeForce RTX 3060 Ti GDDR6X")],
    )
    def test_the_memory_clock_tells_kinds_of_memory_apart(self, clock: float, model: str) -> None:
        """Name and size are the same, bandwidth is not."""
        matched = found(shown("NVIDIA GeForce RTX 3060 Ti", 8, clock))

        assert (matched.model.name, matched.how) == (model, How.MEMORY_CLOCK)

    def test_the_device_id_tells_what_the_clock_does_not(self) -> None:
        """Here the driver does not give the clock."""
        matched = found(shown("GeForce RTX 3060 Ti", 8)._replace(device_id="10DE:24C9"))

        assert matched.model.name == "GeForce RTX 3060 Ti GDDR6X"
        assert matched.how is How.DEVICE_ID

    def test_the_bus_tells_which_card_has_an_odd_memory(self) -> None:
        """A 3080 of 384 bits was one of 12 GB, whatever it shows now."""
        matched = found(shown("GeForce RTX 3080", 9)._replace(memory_bus_bits=384.0))

        assert (matched.model.name, matched.how) == ("GeForce RTX 3080 12GB", How.MEMORY_ODD)

    def test_a_card_that_nothing_tells_apart_is_ambiguous(self) -> None:
        """It is taken for the common one, and the other is named."""
        matched = found(shown("NVIDIA GeForce RTX 3060 Ti", 8))

        assert (matched.model.name, matched.how) == ("GeForce RTX 3060 Ti", How.AMBIGUOUS)
        assert alternatives(matched) == ["GeForce RTX 3060 Ti GDDR6X"]

    def test_lost_memory_is_said(self) -> None:
        """A size between two made ones lacks some of the larger."""
        matched = found(shown("NVIDIA GeForce RTX 2080 Ti", 20))

        assert matched.model.name == "RTX 2080 Ti 22GB (modded)"
        assert matched.how is How.MEMORY_ODD
        assert "GeForce RTX 2080 Ti" in alternatives(matched)

    def test_memory_that_is_not_known_is_said(self) -> None:
        """The name is all there is."""
        assert found(shown("NVIDIA GeForce RTX 3090")).how is How.NAME_ALONE

    def test_a_device_id_finds_a_card_without_a_name(self) -> None:
        """Drivers older than a card call it a graphics device."""
        matched = found(shown("NVIDIA Graphics Device", 8)._replace(device_id="10de:20c2"))

        assert matched.how is How.ID_ALONE
        assert matched.model.name == "CMP 170HX 8GB (stock, locked)"

    def test_a_name_that_the_device_id_denies(self) -> None:
        """The id is fused: this mining card carries the VBIOS of a V100."""
        matched = found(shown("Tesla V100-PCIE-16GB", 16)._replace(device_id="10de:1d84"))

        assert matched.how is How.ID_AGAINST_NAME
        assert matched.model.name == "CMP 100-210 (16GB)"

    def test_a_device_id_that_is_not_listed_denies_nothing(self) -> None:
        """The table does not hold every id of a name."""
        card = shown("NVIDIA GeForce RTX 3090", 24)._replace(device_id="10de:ffff")

        assert found(card).how is How.EXACT

    def test_a_card_that_is_not_listed(self) -> None:
        """There is no model to be wrong about."""
        assert match(shown("NVIDIA GeForce RTX 9090", 64)) is None


LOCK_PAIRS = [
    (locked, unlocked)
    for locked in card_models()
    for unlocked in card_models()
    if locked.locked
    and unlocked.locked is False
    and (locked.reported_name, locked.memory_bytes)
    == (unlocked.reported_name, unlocked.memory_bytes)
]


class TestLock:
    """Mining cards: stock and unlocked look the same."""

    def test_pairs_exist(self) -> None:
        """Else the tests below say nothing."""
        assert len(LOCK_PAIRS) == 5

    @pytest.mark.parametrize(("locked", "unlocked"), LOCK_PAIRS, ids=lambda model: model.name)
    def test_a_card_that_was_not_measured_counts_as_locked(
        self, locked: CardModel, unlocked: CardModel
    ) -> None:
        """A locked card is no fault, so nothing more is expected of it."""
        matched = found(as_made(locked))

        assert matched == Match(locked, How.LOCK_ASSUMED, (unlocked,))

    @pytest.mark.parametrize(("locked", "unlocked"), LOCK_PAIRS, ids=lambda model: model.name)
    def test_a_probe_shows_the_lock(self, locked: CardModel, unlocked: CardModel) -> None:
        """Unlocked ones compute twenty times as fast."""
        full = unlocked.fp32_flops or 0.0
        fast, slow = (
            found(as_made(locked)._replace(fp32_flops=share * full)) for share in (0.8, 1 / 30)
        )

        assert (fast.model, fast.how) == (unlocked, How.LOCK_MEASURED)
        assert (slow.model, slow.how) == (locked, How.LOCK_MEASURED)

    @pytest.mark.parametrize(("share", "is_locked"), [(0.99, True), (1.0, False)])
    def test_five_times_the_locked_figure_is_the_line(self, share: float, is_locked: bool) -> None:
        """Below it the lock is the simpler story."""
        card = as_made(BY_NAME["CMP 50HX (stock, locked)"])
        measured = share * UNLOCKED_RATIO * (BY_NAME["CMP 50HX (stock, locked)"].fp32_flops or 0.0)

        assert found(card._replace(fp32_flops=measured)).model.locked is is_locked

    def test_a_reworked_mining_card_is_locked_too(self) -> None:
        """More memory does not lift the lock."""
        matched = found(shown("NVIDIA CMP 50HX", 20))

        assert matched.model.reworked
        assert matched.how is How.LOCK_ASSUMED

    def test_a_mining_card_with_odd_memory_counts_as_locked(self) -> None:
        """It is measured against what it surely is."""
        matched = found(shown("NVIDIA CMP 50HX", 9))

        assert (matched.model.name, matched.how) == ("CMP 50HX (stock, locked)", How.MEMORY_ODD)

    def test_an_unlocked_memory_says_nothing_of_the_compute(self) -> None:
        """The driver module that widens the memory need not lift the other lock."""
        assert found(shown("NVIDIA CMP 170HX", 64)).model.locked is None


class TestAscend:
    """NPUs: bins, dies and names."""

    @pytest.mark.parametrize("name", ["910B3", "Ascend910B3", "Ascend 910B3"])
    def test_tools_write_a_bin_in_several_ways(self, name: str) -> None:
        """It is the same chip."""
        card = shown(name, 64)._replace(vendor="huawei")

        assert found(card).model.name == "Ascend 910B3"

    def test_the_name_of_a_module_of_two_dies(self) -> None:
        """Each die is a card; power is the module's."""
        model = found(shown("Ascend910", 64)).model

        assert model.name == "Ascend 910C (910_93) per die"
        assert model.units_per_module == 2

    def test_910b_without_a_digit_is_the_first_generation(self) -> None:
        """The later chip always says its bin."""
        assert found(shown("910B", 32)).model.name == "Ascend 910A"

    def test_a_chip_tells_its_own_compute(self) -> None:
        """Cores and rated clock stand above the table's figure for the bin."""
        card = shown("910B3", 64)._replace(
            vendor="huawei", core_count=20.0, core_clock_max_mhz=1800.0
        )

        model = expectation(card).model

        assert model.fp16_tensor_flops == 8192 * 20 * 1.8e9
        assert model.memory_bandwidth_bytes_per_second == 1.6e12

    def test_a_chip_that_does_not_tell_is_held_against_the_table(self) -> None:
        """The bin's figure is better than none."""
        card = shown("910B3", 64)._replace(vendor="huawei")

        assert expectation(card) == found(card)


class TestComputed:
    """Cards that are not listed."""

    UNKNOWN = Shown(
        "NVIDIA GeForce RTX 9090",
        memory_total_bytes=2.0**35,
        memory_clock_max_mhz=10_501.0,
        memory_bus_bits=384.0,
        core_count=16_384.0,
        core_clock_max_mhz=2520.0,
        power_limit_default_watts=450.0,
        pcie_generation_max=4.0,
        pcie_width_max=16.0,
    )

    def test_figures_follow_from_what_the_card_shows(self) -> None:
        """These are a 4090's, and so are its figures."""
        model, listed = computed(self.UNKNOWN), BY_NAME["GeForce RTX 4090"]

        assert model.fp32_flops == pytest.approx(listed.fp32_flops, rel=0.01)
        assert model.memory_bandwidth_bytes_per_second == pytest.approx(1008e9, rel=0.01)
        assert model.link_bytes_per_second == listed.link_bytes_per_second
        assert model.board_power_watts == 450.0

    def test_it_says_that_it_is_computed(self) -> None:
        """The keeper should not take it for a data sheet."""
        matched = expectation(self.UNKNOWN)

        assert matched.how is How.COMPUTED
        assert matched.model.confidence == "computed"

    def test_what_a_card_does_not_tell_is_not_guessed(self) -> None:
        """Not even that it has no lock."""
        model = computed(Shown("NVIDIA GeForce RTX 9090"))

        assert capacity(model) == Capacity()
        assert model.locked is None

    def test_an_unknown_npu(self) -> None:
        """Compute follows from its cores; the bus is not told, so the bandwidth is not either."""
        card = Shown("910Z", core_count=25.0, core_clock_max_mhz=1850.0, vendor="huawei")

        model = expectation(card).model

        assert model.fp16_tensor_flops == pytest.approx(378.9e12, rel=0.001)
        assert model.fp32_flops is None
        assert model.memory_bandwidth_bytes_per_second is None

    def test_no_formula_is_known_for_other_makers(self) -> None:
        """Two multiply-adds a clock is a fact about NVIDIA."""
        model = computed(self.UNKNOWN._replace(vendor="other"))

        assert (model.fp32_flops, model.fp16_tensor_flops) == (None, None)


def fractions() -> Iterator[tuple[CardModel, Fraction]]:
    """All fractions in use."""
    for model in card_models():
        yield from ((model, fraction) for fraction in achievable(model) if fraction is not None)


class TestAchievable:
    """What healthy cards reach of their figures."""

    def test_fractions_are_in_order(self) -> None:
        """A card that fails is below one that warns, and that is not above a healthy one."""
        for model, fraction in fractions():
            lines = [fraction.fail_below, fraction.warn_below, fraction.low]
            steps = [line for line in lines if line is not None]
            assert steps == sorted(steps), model.name
            assert 0 < fraction.low <= fraction.typical <= fraction.high < 1.2

    def test_every_class_is_measured_or_says_that_it_is_not(self) -> None:
        """A misspelt class would be held against nothing."""
        unmeasured = {m.fraction_class for m in card_models() if not any(achievable(m)[:3])}

        assert unmeasured == set()

    def test_modern_fp32_never_reaches_its_figure(self) -> None:
        """Two in three is healthy there, and would be sick on a Turing."""
        ampere = achievable(BY_NAME["GeForce RTX 3090"]).fp32
        turing = achievable(BY_NAME["GeForce RTX 2080 Ti"]).fp32

        assert ampere is not None and ampere.low < 0.7
        assert turing is not None and turing.low > 0.8

    def test_links_are_judged_by_their_generation(self) -> None:
        """Four lanes of generation 1 carry 0.8 GB/s."""
        model = BY_NAME["CMP 50HX (stock, locked)"]
        link = achievable(model).link

        assert link is not None and model.link_bytes_per_second is not None
        assert link.typical * model.link_bytes_per_second == pytest.approx(0.8e9)

    def test_nothing_is_said_of_compute_that_nobody_measured(self) -> None:
        """A class of its own, not a neighbour's."""
        assert achievable(BY_NAME["Quadro RTX 8000"]).fp16 is None


class TestEquivalents:
    """Capacity in A100s."""

    def test_the_reference_is_one_of_itself(self) -> None:
        """In every component."""
        assert a100_equivalents(capacity(BY_NAME[REFERENCE_NAME])) == Capacity(1, 1, 1, 1, 1)

    def test_components_are_not_blended(self) -> None:
        """An H20 is half an A100 for compute and two for bandwidth."""
        equivalents = a100_equivalents(capacity(BY_NAME["H20 96GB"]))

        assert equivalents.fp16 == pytest.approx(0.47, abs=0.01)
        assert equivalents.memory_bandwidth == pytest.approx(1.96, abs=0.01)

    def test_what_is_not_known_stays_so(self) -> None:
        """A card without tensor cores is not a card of zero."""
        assert a100_equivalents(capacity(BY_NAME["GeForce GTX 1070"])).fp16 is None
