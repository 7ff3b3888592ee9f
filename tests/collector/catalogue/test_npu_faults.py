"""What fault codes of NPUs say about a card."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_collector.capacity.detector import Action, Cause
from farmhand_collector.catalogue.npu_faults import npu_fault, npu_faults
from farmhand_collector.catalogue.xid import Fault, Severity, read_faults


class TestTable:
    """The table itself."""

    def test_a_code_has_one_meaning(self) -> None:
        """No code is listed twice."""
        assert len(npu_faults()) == len(list(read_faults("npu_faults.csv")))

    @pytest.mark.parametrize("fault", npu_faults().values(), ids=lambda fault: fault.code)
    def test_a_row_speaks_the_words_of_findings(self, fault: Fault) -> None:
        """Cause and action are of the lists that the keeper knows."""
        assert fault.cause in get_args(Cause)
        assert fault.action in get_args(Action)
        assert int(fault.code.rstrip("x"), 16)
        assert fault.code.rstrip("x").isupper() or fault.code.rstrip("x").isdigit()


class TestNpuFault:
    """Single codes."""

    @pytest.mark.parametrize("code", ["80E18402", "0x80e18402"])
    def test_a_code_in_any_spelling(self, code: str) -> None:
        """Drivers and tools differ."""
        fault = npu_fault(code)

        assert (fault.severity, fault.cause, fault.action) == (Severity.FAILING, "memory", "retire")

    def test_a_family_of_codes(self) -> None:
        """Errors of vector cores share their first digits."""
        assert npu_fault("80CB8077").cause == "compute"
        assert npu_fault("80CB8077").code == "80CB8077"

    def test_a_listed_code_goes_before_its_family(self) -> None:
        """A core that could not be reset is worse than an error of one."""
        assert npu_fault("80CB8001").severity is Severity.DEGRADED
        assert npu_fault("80CB8002").severity is Severity.WATCH

    def test_the_rule_of_three_in_a_day(self) -> None:
        """The vendor's own tools isolate a card by it."""
        repeat = npu_fault("80E18005").repeat

        assert repeat is not None
        assert (repeat.count, repeat.within_seconds) == (3, 86_400.0)

    def test_a_dropped_card_is_unreachable(self) -> None:
        """It needs hands, not a rerun."""
        assert npu_fault("40F84E00").cause == "unreachable"

    @given(st.text() | st.from_regex(r"(0x)?[0-9A-Fa-f]{8,9}", fullmatch=True))
    def test_any_code_has_an_answer(self, code: str) -> None:
        """The vendor's list is longer than ours."""
        fault = npu_fault(code)

        assert fault.cause in get_args(Cause)
        assert fault.code in code.upper()
