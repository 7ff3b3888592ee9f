"""What XIDs say about a card."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farmhand_collector.capacity.detector import Action, Cause
from farmhand_collector.capacity.detectors.lost import OFF_THE_BUS
from farmhand_collector.catalogue.xid import (
    Fault,
    FaultKind,
    Severity,
    read_faults,
    xid,
    xids,
)

SEVERITIES = list(Severity)


def all_faults() -> list[Fault]:
    """Every line of the table, doubles included."""
    return list(read_faults("xid.csv"))


REPEATING = [fault for fault in all_faults() if fault.repeat]


class TestTable:
    """The table itself."""

    def test_a_code_has_one_meaning(self) -> None:
        """Spans of numbers do not overlap."""
        codes = [fault.code for fault in all_faults()]

        assert len(codes) == len(set(codes))

    @pytest.mark.parametrize("fault", all_faults(), ids=lambda fault: fault.code)
    def test_a_row_speaks_the_words_of_findings(self, fault: Fault) -> None:
        """Cause and action are of the lists that the keeper knows."""
        assert fault.cause in get_args(Cause)
        assert fault.action in get_args(Action)
        assert fault.name and fault.source

    @pytest.mark.parametrize("fault", REPEATING, ids=lambda fault: fault.code)
    def test_repeats_are_worse_or_ask_for_more(self, fault: Fault) -> None:
        """A rule that says what one event says already would be none."""
        repeat = fault.repeat
        assert repeat is not None

        assert repeat.count >= 2
        assert 0 < repeat.within_seconds <= 14 * 86_400
        assert SEVERITIES.index(repeat.severity) >= SEVERITIES.index(fault.severity)
        assert (repeat.severity, repeat.action) != (fault.severity, fault.action)

    def test_the_table_cannot_be_changed(self) -> None:
        """It is shared by all who ask."""
        with pytest.raises(TypeError):
            xids()["13"] = xid("79")  # type: ignore[index]


class TestXid:
    """Single codes."""

    @pytest.mark.parametrize("code", ["13", "31", "43", "45", "8", "25", "69"])
    def test_faults_of_applications_blame_no_board(self, code: str) -> None:
        """One event is the job's."""
        fault = xid(code)

        assert fault.kind is FaultKind.APPLICATION
        assert (fault.severity, fault.cause) == (Severity.IGNORE, "workload")

    @pytest.mark.parametrize("code", ["13", "31"])
    def test_repeats_in_different_jobs_do(self, code: str) -> None:
        """Twice a day on one card, whatever runs on it."""
        repeat = xid(code).repeat

        assert repeat is not None
        assert (repeat.count, repeat.within_seconds, repeat.jobs) == (2, 86_400.0, 2)
        assert repeat.severity is Severity.DEGRADED
        assert repeat.cause != "workload"

    @pytest.mark.parametrize("code", ["43", "45"])
    def test_followers_never_do(self, code: str) -> None:
        """The card stays healthy, or another XID has told what is wrong."""
        assert xid(code).repeat is None

    @pytest.mark.parametrize("code", ["46", "62", "109", "119", "120", "158"])
    def test_one_hang_is_noise_and_the_second_is_the_card(self, code: str) -> None:
        """Within a day."""
        fault = xid(code)

        assert fault.severity is Severity.WATCH
        assert fault.repeat is not None
        assert fault.repeat.severity is Severity.DEGRADED
        assert fault.repeat.jobs == 1

    @pytest.mark.parametrize(
        ("code", "cause", "action"),
        [
            ("54", "power", "check-power-cable"),
            ("64", "memory", "retire"),
            ("79", "unreachable", "reseat"),
        ],
    )
    def test_some_need_hands_at_once(self, code: str, cause: str, action: str) -> None:
        """Nothing is waited for."""
        fault = xid(code)

        assert fault.severity is Severity.FAILING
        assert (fault.cause, fault.action) == (cause, action)

    def test_a_span_of_codes(self) -> None:
        """Copy engines have many numbers and one meaning."""
        assert {xid(code).name for code in ("39", "41", "85", "135")} == {"copy engine exception"}

    def test_events_that_lose_a_card_are_failing(self) -> None:
        """The detector of lost cards and the table agree."""
        codes = [code for kind, code in OFF_THE_BUS if kind == "xid"]

        assert codes
        assert {xid(code).cause for code in codes} == {"unreachable"}
        assert {xid(code).severity for code in codes} == {Severity.FAILING}

    @given(st.text())
    def test_any_code_has_an_answer(self, code: str) -> None:
        """Drivers learn new numbers before the table does."""
        fault = xid(code)

        assert fault.code == code
        assert code in xids() or (fault.severity, fault.cause) == (Severity.WATCH, "driver")
