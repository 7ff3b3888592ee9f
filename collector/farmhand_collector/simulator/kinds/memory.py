"""Faults of device memory."""

from farmhand_collector.simulator.fleet import Card
from farmhand_collector.simulator.kinds.kind import HOUR, SLOWLY, Case, Moment, given
from farmhand_collector.simulator.kinds.register import fault

_CAUSE = "memory"
_BURST_SECONDS = (300.0, 900.0)
_CORRECTED_BURSTS_PER_SECOND = 1.0 / 2400.0
_DOUBLE_BITS_PER_SECOND = 1.0 / (3 * HOUR)
_RETIREMENTS_PER_SECOND = 1.0 / 900.0
_CRASHES_PER_SECOND = 1.0 / 1200.0
_PAGES_AT_MOST = 60.0
_CRASH_XIDS = (
    ("13", "pid=4242, name=python, Graphics SM Warp Exception on (GPC 2, TPC 1, SM 0)"),
    ("31", "pid=4242, name=python, Ch 00000010, MMU Fault: ENGINE GRAPHICS GPC3 faulted"),
    ("8", "pid=4242, name=python, Channel 00000010"),
)


@fault(_CAUSE, "half of the memory is missing since a restart of the driver", known_before=True)
def memory_shrunk(moment: Moment, case: Case) -> None:
    """A strap, a VBIOS or a chip that no longer counts."""
    at = case.fault.index
    moment.effects.memory_total_ceiling[at] = moment.boards.hardware.memory_total[at] / 2
    moment.told.add(at)


@fault(
    _CAUSE,
    "the memory stays in a lower performance state under load",
    needs_load=True,
    fits=lambda card: bool(card.model.memory_mhz_lower),
)
def memory_clock(moment: Moment, case: Case) -> None:
    """The lowest or the highest of the lower states."""
    at = case.fault.index
    lower = moment.boards.hardware.memory_clock_lower[at, int(case.fault.variant)]
    moment.effects.memory_clock_ceiling[at] = lower


@fault(
    _CAUSE,
    "less memory traffic at a clock that reads normal; severity is the share lost",
    severity=(0.2, 0.6),
    needs_load=True,
    ramp_seconds=SLOWLY,
)
def memory_bandwidth(moment: Moment, case: Case) -> None:
    """Work gets slower, memory is busier for it; traffic shows where it is measured."""
    moment.effects.bandwidth_ratio[case.fault.index] = 1.0 - case.size


def _without_ecc(card: Card) -> bool:
    return "ecc_corrected_total" not in card.model.gives


@fault(
    _CAUSE,
    "bit errors on a card without ECC: programs crash on it again; severity scales how often",
    severity=(0.7, 2.0),
    ramp_seconds=SLOWLY,
    needs_load=True,
    lasting=True,
    fits=_without_ecc,
)
def memory_crashes(moment: Moment, case: Case) -> None:
    """Nothing counts them; application Xids repeat on one card whatever the job."""
    for time in case.happenings(case.size * _CRASHES_PER_SECOND, moment):
        code, said = _CRASH_XIDS[int(case.dice.integers(len(_CRASH_XIDS)))]
        moment.xid(case.fault.index, code, said, time)


@fault(
    _CAUSE,
    "bursts of corrected memory errors; severity is errors a second",
    severity=(0.5, 20.0),
    ramp_seconds=SLOWLY,
    lasting=True,
    fits=given("ecc_corrected_total"),
)
def ecc_corrected(moment: Moment, case: Case) -> None:
    """Minutes of errors that cost nothing yet."""
    chance = _CORRECTED_BURSTS_PER_SECOND * moment.seconds
    bursting, _ = case.is_in_episode(moment, chance, _BURST_SECONDS)
    moment.effects.corrected_per_second[case.fault.index] = case.size if bursting else 0.0


@fault(
    _CAUSE,
    "memory errors that cannot be corrected; severity scales how often",
    severity=(0.5, 2.0),
    ramp_seconds=SLOWLY,
    lasting=True,
    fits=given("ecc_uncorrected_total"),
)
def ecc_uncorrected(moment: Moment, case: Case) -> None:
    """Xid 48, and 94 or 95 where the chip contains errors."""
    at = case.fault.index
    for time in case.happenings(case.size * _DOUBLE_BITS_PER_SECOND, moment):
        moment.effects.counted["ecc_uncorrected_total"][at] += 1.0
        moment.xid(at, "48", "DBE (double bit error) ECC error detected at partition 4", time)
        if "remap_failed" in moment.fleet.cards[at].model.gives:
            code = "95" if case.fault.variant else "94"
            word = "Uncontained" if case.fault.variant else "Contained"
            moment.xid(at, code, f"{word} ECC error: partition 4, subpartition 0", time + 0.1)


@fault(_CAUSE, "a row of memory waits for a reset to be replaced", fits=given("remap_pending"))
def row_remap_pending(moment: Moment, case: Case) -> None:
    """Xid 63 and the flag; the card works on."""
    at = case.fault.index
    moment.effects.counted["remapped_rows_total"][at] += 1.0
    moment.effects.counted["remap_pending"][at] = 1.0
    moment.xid(at, "63", "Row Remapper: New row marked for remapping", case.fault.since)


@fault(_CAUSE, "no spare row is left for a bad one", fits=given("remap_failed"))
def row_remap_failed(moment: Moment, case: Case) -> None:
    """Xid 64 and the flag that ends a board's service."""
    at = case.fault.index
    moment.effects.counted["remap_failed"][at] = 1.0
    moment.xid(at, "64", "Row Remapper: Failed to remap a row", case.fault.since)


@fault(
    _CAUSE,
    "page after page of memory is taken out of use; severity scales how often",
    severity=(0.5, 2.0),
    ramp_seconds=SLOWLY,
    lasting=True,
    fits=given("retired_pages_total"),
)
def page_retirement(moment: Moment, case: Case) -> None:
    """Xid 63 with each, until hardly any may follow."""
    at = case.fault.index
    retired = moment.effects.counted["retired_pages_total"]
    for time in case.happenings(case.size * _RETIREMENTS_PER_SECOND, moment):
        if retired[at] < _PAGES_AT_MOST:
            retired[at] += 1.0
            moment.xid(at, "63", "Dynamic Page Retirement: New page retired", time)
