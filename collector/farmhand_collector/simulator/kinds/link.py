"""Faults of PCIe links: risers, contacts, solder."""

import numpy as np

from farmhand_collector.simulator.kinds.kind import SLOWLY, Case, Moment, has_lanes
from farmhand_collector.simulator.kinds.register import fault

_CAUSE = "link"
_BURST_SECONDS = (300.0, 900.0)
_BURSTS_PER_SECOND = 1.0 / 2400.0
_LOOSE_SECONDS = (40.0, 400.0)
_LOOSE_PER_SECOND = 1.0 / 54000.0
_LOOSE_PER_KELVIN = 0.012
"""Joints open on the ramps: a chance for each kelvin that the die warms or cools."""

_RETRAIN_REPLAYS_PER_SECOND = 1.5
_SOLDER_XIDS = (
    ("32", "pid=4242, name=python, Channel ID 00000008 intr 00040000"),
    ("62", "internal micro-controller halt (newer chip), 0x0000a1f2 0x00000000"),
    ("31", "pid=4242, name=python, Ch 00000008, MMU Fault: ENGINE CE2 faulted"),
)


@fault(_CAUSE, "a bad riser or contact leaves a quarter of the lanes", fits=has_lanes)
def link_width(moment: Moment, case: Case) -> None:
    """Fewer lanes, and packets sent again on those that are left."""
    at = case.fault.index
    moment.effects.pcie_width_ceiling[at] = moment.boards.hardware.pcie_width[at] // 4
    moment.effects.replays_per_second[at] = 0.3


@fault(
    _CAUSE,
    "the link trains at its lowest generation, under load as well",
    needs_load=True,
    fits=lambda card: card.model.pcie_generation > 1,
)
def link_generation(moment: Moment, case: Case) -> None:
    """At idle this is normal; under load it is not."""
    moment.effects.pcie_generation_ceiling[case.fault.index] = 1.0


@fault(
    _CAUSE,
    "bursts of packets sent again, the link else as it was; severity is replays a second",
    severity=(0.5, 6.0),
    ramp_seconds=SLOWLY,
    lasting=True,
)
def replay_bursts(moment: Moment, case: Case) -> None:
    """Minutes of replays, then quiet."""
    chance = 1.0 - np.exp(-_BURSTS_PER_SECOND * moment.seconds)
    bursting, _ = case.is_in_episode(moment, chance, _BURST_SECONDS)
    moment.effects.replays_per_second[case.fault.index] = case.size if bursting else 0.0


@fault(
    _CAUSE,
    "cracked solder that opens when the card warms or cools; severity scales how often",
    severity=(0.6, 1.6),
    ramp_seconds=SLOWLY,
    lasting=True,
    fits=has_lanes,
)
def solder(moment: Moment, case: Case) -> None:
    """The link trains again with fewer lanes for a while, with replays and now and then an Xid."""
    at = case.fault.index
    warming = float(abs(moment.warming[at]))
    often = _LOOSE_PER_SECOND * moment.seconds + _LOOSE_PER_KELVIN * warming
    chance = 1.0 - np.exp(-case.size * often)
    loose, begins = case.is_in_episode(moment, chance, _LOOSE_SECONDS)
    width = moment.boards.hardware.pcie_width[at]
    moment.effects.pcie_width_ceiling[at] = max(1.0, width // 4) if loose else np.inf
    moment.effects.replays_per_second[at] = _RETRAIN_REPLAYS_PER_SECOND if loose else 0.0
    if begins and (case.first or case.dice.random() < 0.5):
        code, said = _SOLDER_XIDS[int(case.dice.integers(len(_SOLDER_XIDS)))]
        time = case.fault.since if case.first else moment.time(at) - 0.5
        moment.xid(at, code, said, time)
