"""What cards give of what they should, in amounts: a farm's capacity is the sum over its cards.

Four components are added up apart and never blended into one number: a card may be half an A100
for one kind of work and two for another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from farmhand_collector.capacity.attribution import WideFinding
from farmhand_collector.capacity.detector import CAUSES, STATE_NAMES, Facts
from farmhand_collector.capacity.frame import Bools, Codes, Floats, Frame, fitted, fitted_codes
from farmhand_collector.capacity.step import Raised, Verdicts

COMPONENTS = ("compute", "bandwidth", "memory", "link")
"""What capacity consists of: FLOP/s, B/s of memory, B of memory, B/s over the link one way."""
_COMPUTE = COMPONENTS.index("compute")

CLOCK_PER_POWER = 1 / 3
"""Near the top a board draws power by about the cube of its clock (the voltage rises with it), so a
lowered limit costs compute by the cube root. Work that is bound by memory hardly feels it."""

Integers = NDArray[np.int64]


class LastHeard(NamedTuple):
    """What cards told last of what not every frame repeats.

    `limit_watts` is NaN and `gang` 0 where none was told; `names` are those of the gangs, by code.
    """

    limit_watts: Floats
    gang: Integers
    names: Mapping[int, str]

    @classmethod
    def nothing(cls) -> "LastHeard":
        """No card was heard of."""
        return cls(np.empty(0), np.empty(0, np.int64), {})

    def after(self, frame: Frame) -> "LastHeard":
        """With what a frame tells; its roster is the one before, perhaps grown at its end."""
        n, work = len(frame), frame.work
        now = frame.values["power_limit_watts"]
        limit_watts = np.where(np.isnan(now), fitted(self.limit_watts, n, np.nan), now)
        gang = np.where(work.job > 0, work.gang, fitted_codes(self.gang, n))
        used = set(np.unique(gang).tolist())
        names = {code: name for code, name in {**self.names, **work.names}.items() if code in used}
        return LastHeard(limit_watts, gang, names)

    def members(self, name: str) -> Integers:
        """Cards of a gang; none where it is unknown."""
        codes = [code for code, known in self.names.items() if code and known == name]
        return np.flatnonzero(np.isin(self.gang, codes))


@dataclass(frozen=True, slots=True, eq=False)
class Capacity:
    """Capacity of n cards by component: (n, 4) in the order of `COMPONENTS`, NaN for not known.

    `default` is what a card is made to give at its default limits: nominal figures, not what tests
    reach. `in_force` is that at the limits that are set now. `share` is what the card's findings
    leave of it, NaN where the card is not judged, and `own_share` the same without what it loses
    by waiting for another card of its gang, `held_by` (-1 where it does not wait). `cause` is an
    index into `CAUSES`, -1 where nothing is missing.

    Compute is that of fp16 on tensor cores; of cards for which no such figure is known, most of
    which have no tensor cores, that of fp32: these are marked in `by_fp32`.
    """

    default: Floats
    in_force: Floats
    share: Floats
    own_share: Floats
    cause: Codes
    held_by: Integers
    judged: Bools
    unknown_model: Bools
    by_fp32: Bools

    @property
    def by_choice(self) -> Floats:
        """(n, 4) what limits take that were lowered on purpose."""
        return self.default - self.in_force

    @property
    def delivered(self) -> Floats:
        """(n, 4) what is left; NaN where the card is not judged."""
        return self.in_force * self.share

    @property
    def missing(self) -> Floats:
        """(n, 4) what is not given of what is expected; NaN where the card is not judged."""
        return self.in_force * (1 - self.share)


def capacity_of(frame: Frame, facts: Facts, verdicts: Verdicts, heard: LastHeard) -> Capacity:
    """What each card of a frame is expected to give and gives.

    Args:
        frame: the roster and what the cards tell of themselves.
        facts: what they are made to give.
        verdicts: what is to be said of them.
        heard: limits, this frame's among them.
    """
    n = len(frame)
    fp16, fp32 = facts.of_cards("fp16_flops", n), facts.of_cards("fp32_flops", n)
    bandwidth = facts.of_cards("memory_bandwidth_bytes_per_second", n)
    by_fp32 = np.isnan(fp16) & ~np.isnan(fp32)
    compute = np.where(by_fp32, fp32, fp16)
    memory, link = (facts.of_cards(name, n) for name in ("memory_bytes", "link_bytes_per_second"))
    # What an instance of a card cut by MIG can reach says nothing of the whole.
    whole = np.where(_is_cut(frame), np.nan, compute)
    default = np.stack([whole, bandwidth, memory, link]).T  # columns lie in one piece each
    in_force = default.copy(order="K")
    in_force[:, _COMPUTE] *= _limited(heard.limit_watts, frame.facts["power_limit_default_watts"])
    judged = verdicts.state != STATE_NAMES.index("unknown")
    left = _left_of(verdicts, judged)
    unknown_model = np.isnan(compute) & np.isnan(bandwidth)
    return Capacity(default, in_force, *left, judged, unknown_model, by_fp32 & ~np.isnan(whole))


def _is_cut(frame: Frame) -> Bools:
    instances, enabled = frame.facts["mig_instances"], frame.facts["mig_enabled"]
    cut: Bools = (instances > 0) | (enabled > 0)
    return cut


def _limited(limit_watts: Floats, default_watts: Floats) -> Floats:
    """(n,) share of the compute that a power limit leaves; 1 where nothing is known of it."""
    lowered = (limit_watts > 0) & (limit_watts < default_watts)
    limited = np.ones(len(limit_watts))
    limited[lowered] = (limit_watts[lowered] / default_watts[lowered]) ** CLOCK_PER_POWER
    return limited


# --- what findings leave -----------------------------------------------------------------------

_CODES = {cause: code for code, cause in enumerate(CAUSES)}
_NO_CAUSE = -1


def _left_of(verdicts: Verdicts, judged: Bools) -> tuple[Floats, Floats, Codes, Integers]:
    """Shares, own shares, causes and for whom each card waits; only cards with findings cost."""
    shape = (len(COMPONENTS), len(judged))
    share = np.broadcast_to(np.where(judged, 1.0, np.nan), shape).copy().T
    own_share = share.copy(order="K")
    cause = np.full(shape, _NO_CAUSE, np.int8).T
    held_by = np.full(len(judged), -1, np.int64)
    told = {
        card: _Left.of(card, verdicts)
        for card in {**verdicts.findings, **verdicts.explained}
        if judged[card]
    }
    if told:
        cards = list(told)
        share[cards], own_share[cards], cause[cards], held_by[cards] = zip(
            *told.values(), strict=True
        )
    return share, own_share, cause, held_by


class _Left(NamedTuple):
    """What findings leave of one card."""

    share: list[float]
    own_share: list[float]
    cause: list[int]
    held_by: int

    @classmethod
    def of(cls, card: int, verdicts: Verdicts) -> "_Left":
        wider = verdicts.explained.get(card, [])
        own_share, cause = [1.0] * len(COMPONENTS), [_NO_CAUSE] * len(COMPONENTS)
        for finding in verdicts.findings.get(card, []):
            _take(finding, finding.cause, own_share, cause)
        for wide, finding in wider:
            if wide.named is None:
                _take(finding, blamed(wide), own_share, cause)
        share, cause, held_by = own_share.copy(), _costly(own_share, cause), -1
        for wide, finding in wider:
            if wide.named is not None:
                _take(finding, blamed(wide), share, cause)
                held_by = wide.named if wide.named != card else -1
        return cls(share, own_share, _costly(share, cause), held_by)


def _take(finding: Raised, name: str, share: list[float], cause: list[int]) -> None:
    """Lower shares to what a finding leaves; the first one of a component names its cause.

    A finding without a component is about the whole card; one without a share takes nothing that
    is known, but may explain what another one takes.
    """
    component, given = finding.detector.component, finding.delivered
    touched = (COMPONENTS.index(component),) if component else range(len(COMPONENTS))
    for number in touched:
        if given < 1:
            share[number] = min(share[number], given)
        if cause[number] == _NO_CAUSE:
            cause[number] = _CODES[name]


def _costly(share: list[float], cause: list[int]) -> list[int]:
    """Causes where something is missing."""
    return [code if left < 1 else _NO_CAUSE for left, code in zip(share, cause, strict=True)]


def blamed(wide: WideFinding) -> str:
    """The cause that is told of a wider finding.

    A job or gang is work; a node whose cards are slow without a reason of theirs is the host.
    """
    if wide.scope in ("job", "gang"):
        return "workload"
    # Only what the work itself is slow by can be a job's fault, and says nothing of a board.
    is_work = all("job" in finding.detector.shared_by for finding in wide.raised)
    return "host" if is_work else wide.raised[0].cause


# --- sums --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Rolled:
    """Sums over g groups of cards; (g, 4) by component where nothing else is said.

    `first` is each group's first card, n where it has none. What is not known of a card adds
    nothing: `known` counts the cards whose figure is known, `weighed` those of them that are
    judged. `expected` is what the limits in force allow: `delivered`, `missing` and `unjudged`
    add up to it. `missing_by_cause` is (g, causes, 4).
    """

    first: Integers
    cards: Integers
    judged: Integers
    unknown_models: Integers
    by_fp32: Integers
    known: Integers
    weighed: Integers
    default: Floats
    expected: Floats
    by_choice: Floats
    delivered: Floats
    missing: Floats
    unjudged: Floats
    missing_by_cause: Floats


def rolled(capacity: Capacity, codes: Integers) -> Rolled:
    """Sums over groups.

    Args:
        capacity: that of n cards.
        codes: (n,) the group of each card, from 0 on without great gaps; cards of a negative one
            are left out.
    """
    groups = _Groups(np.fmax(codes, -1) + 1, int(codes.max(initial=-1)) + 1)
    known = ~np.isnan(capacity.in_force)
    judged = capacity.judged[:, np.newaxis]
    default, expected = (
        groups.sums(amounts, known) for amounts in (capacity.default, capacity.in_force)
    )
    missing, missing_by_cause = _missing(capacity, groups)
    return Rolled(
        first=groups.first(),
        cards=groups.count(codes >= 0),
        judged=groups.count(capacity.judged),
        unknown_models=groups.count(capacity.unknown_model),
        by_fp32=groups.count(capacity.by_fp32),
        known=groups.counts(known),
        weighed=groups.counts(known & judged),
        default=default,
        expected=expected,
        by_choice=default - expected,
        delivered=groups.sums(capacity.delivered, known & judged),
        missing=missing,
        unjudged=groups.sums(capacity.in_force, known & ~judged),
        missing_by_cause=missing_by_cause,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """The bin of each card, and how many groups there are; bin 0 is of cards of no group."""

    bins: Integers
    size: int

    def sums(self, values: Floats, which: Bools) -> Floats:
        """(g, k) sums by column over the cards for which it is so."""
        weights = np.where(which, values, 0.0)
        sums = [np.bincount(self.bins, column, self.size + 1)[1:] for column in weights.T]
        return np.stack(sums, axis=1).astype(np.float64, copy=False)

    def count(self, which: Bools) -> Integers:
        """(g,) cards for which it is so."""
        return np.bincount(self.bins[which], minlength=self.size + 1)[1:].astype(np.int64)

    def counts(self, which: Bools) -> Integers:
        """(g, k) the same by column."""
        return np.stack([self.count(column) for column in which.T], axis=1)

    def first(self) -> Integers:
        """(g,) the first card of each."""
        first = np.full(self.size + 1, len(self.bins), np.int64)
        # Of several values for one place the last one stays.
        first[self.bins[::-1]] = np.arange(len(self.bins))[::-1]
        return first[1:]


def _missing(capacity: Capacity, groups: _Groups) -> tuple[Floats, Floats]:
    """(g, 4) what is missing, and (g, causes, 4) what of it by cause; whatever is has a cause."""
    cards, components = np.nonzero(capacity.cause != _NO_CAUSE)
    lost = capacity.in_force[cards, components] * (1 - capacity.share[cards, components])
    lost[np.isnan(lost)] = 0.0
    bins, causes = groups.bins[cards], capacity.cause[cards, components]
    by_cause = np.zeros((groups.size + 1, len(CAUSES), len(COMPONENTS)))
    np.add.at(by_cause, (bins, causes, components), lost)
    missing = np.zeros((groups.size + 1, len(COMPONENTS)))
    np.add.at(missing, (bins, components), lost)
    return missing[1:], by_cause[1:]


# --- what if -----------------------------------------------------------------------------------


def what_if_repaired(capacity: Capacity, cards: Sequence[int]) -> Floats:
    """(4,) what comes back when cards give all that they should.

    Cards of a gang that wait for one of them then go at the pace of the next slowest. Cards that
    are not judged, and what is not known, bring nothing.
    """
    repaired = np.zeros(len(capacity.judged), bool)
    repaired[list(cards)] = True
    repaired &= capacity.judged
    able = np.where(repaired[:, np.newaxis], 1.0, capacity.own_share)
    share = np.where(repaired[:, np.newaxis], 1.0, capacity.share)
    for card in np.flatnonzero(repaired):
        freed = capacity.held_by == card
        if freed.any():
            share[freed] = able[freed]
            share[freed, _COMPUTE] = np.fmin.reduce(able[freed, _COMPUTE])
    gained = np.fmax(share - capacity.share, 0.0) * capacity.in_force
    returns: Floats = np.where(np.isnan(gained), 0.0, gained).sum(axis=0)
    return returns


class GangPace(NamedTuple):
    """What a gang in lock step does together, in the units of its members' speeds.

    `best` is the most that it does when it leaves out its `left_out` slowest members.
    """

    now: float
    without_slowest: float
    left_out: int
    best: float


def gang_without_slowest(speeds: Floats) -> GangPace:
    """Pace of a gang now and without its slowest members: all go as fast as the slowest.

    Members whose speed is NaN are not counted.
    """
    ordered = np.sort(speeds[~np.isnan(speeds)])
    paces = ordered * np.arange(len(ordered), 0, -1)
    if not len(paces):
        return GangPace(0.0, 0.0, 0, 0.0)
    without = float(paces[1]) if len(paces) > 1 else 0.0
    left_out = int(paces.argmax())
    return GangPace(float(paces[0]), without, left_out, float(paces[left_out]))


def gang_speeds(capacity: Capacity, members: Integers) -> Floats:
    """Compute that each member could give if it did not wait for another; NaN where unknown."""
    speeds: Floats = (capacity.in_force * capacity.own_share)[members, _COMPUTE]
    return speeds
