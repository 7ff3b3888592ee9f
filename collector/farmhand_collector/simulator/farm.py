"""A farm that can be asked for the readings its agents would send."""

from collections.abc import Iterator

from farmhand_collector.simulator.delivery import Delivery
from farmhand_collector.simulator.fleet import Fleet, draw_fleet
from farmhand_collector.simulator.kinds import Fault
from farmhand_collector.simulator.planting import (
    AT_START_SHARE,
    BEGINS_WITHIN,
    CARDS_PER_FAULT,
    NATURAL,
    NONE,
    Wish,
    draw,
)
from farmhand_collector.simulator.reports import Batch, Reports, Window
from farmhand_collector.simulator.simulation import Conduct, Simulation
from farmhand_collector.simulator.workload import REPORTS_SHARE
from farmhand_collector.wire import Planted

INTERVAL_SECONDS = 10.0
DEFAULT_SPAN_SECONDS = 3600.0


class Farm:
    """A simulated farm; the same arguments give the same readings.

    `faults` is `none`; `some`, about one card in twelve, and `all`, one of each kind, both of the
    kinds that an hour of a card tells; `mixed` and `every`, the same of all kinds; or kinds with
    commas between. `start` is in seconds since 1970. Faults that do not exist from the start
    begin in the first third of `span_seconds`. `duplicates` is the share of batches that arrive
    twice. `harmless` is `none`, `some`, `all` or names of `HARMLESS_KINDS` with commas between.
    `interval_seconds` may be long: windows are then means over it, in quasi-steady states.
    `onset` to `begins_within` are as `Wish` says, the rest as `Conduct` says.

    Raises:
        ValueError: fewer than one card, no interval, or `faults`, `harmless` or `onset` is
            none of these.
    """

    def __init__(
        self,
        cards: int,
        seed: int,
        faults: str,
        start: float,
        *,
        span_seconds: float = DEFAULT_SPAN_SECONDS,
        duplicates: float = 0.0,
        harmless: str = NONE,
        interval_seconds: float = INTERVAL_SECONDS,
        onset: str = NATURAL,
        cards_per_fault: float = CARDS_PER_FAULT,
        at_start_share: float = AT_START_SHARE,
        begins_within: tuple[float, float] = BEGINS_WITHIN,
        reports_share: float = REPORTS_SHARE,
        probe_every_seconds: float | None = None,
        gang_drag: bool = False,
    ) -> None:
        if not interval_seconds > 0:
            raise ValueError(f"an interval of {interval_seconds} s, expected more than 0")
        self.start = start
        self.interval_seconds = interval_seconds
        self.fleet = draw_fleet(cards, seed)
        wish = Wish(faults, harmless, onset, cards_per_fault, at_start_share, begins_within)
        self.faults, self.harmless = draw(self.fleet, seed, wish, start, span_seconds)
        """What was planted, in order of time, with kind and severity."""
        self._delivery = Delivery(seed, duplicates)
        cases = (*self.faults, *self.harmless)
        conduct = Conduct(interval_seconds, reports_share, probe_every_seconds, gang_drag)
        self.simulation = Simulation(self.fleet, seed, cases, start, conduct)
        self.reports = Reports(self.fleet, self.simulation.hardware, seed, interval_seconds)
        self._windows = self.simulation.windows()
        self._live = self._batches()
        self._next: Batch | None = None

    @property
    def planted(self) -> list[Planted]:
        """What was planted, as the interfaces tell it; one entry for each card of a fault."""
        return _planted(self.fleet, self.faults)

    def outage(self, host: str, begin: float, end: float) -> None:
        """Hold back the readings of a host; they follow late, after its first live ones."""
        self._delivery.add_outage(host, begin, end)

    def readings(self, until: float) -> Iterator[Batch]:
        """Batches of all hosts in the order they arrive, up to a time; going on from there."""
        while self.next_time() < until:
            batch, self._next = self._next, None
            assert batch is not None  # next_time() fetched it
            yield from self._delivery.deliver(batch)

    def next_time(self) -> float:
        """Time of the batch that an agent takes next."""
        if self._next is None:
            self._next = next(self._live)
        return self._next.time

    def windows(self) -> Iterator[Window]:
        """Interval after interval as arrays, no reading worded; instead of `readings`."""
        return self._windows

    def _batches(self) -> Iterator[Batch]:
        for window in self._windows:
            yield from self.reports.batches(window)


def plan(
    cards: int,
    seed: int,
    faults: str,
    start: float,
    span_seconds: float = DEFAULT_SPAN_SECONDS,
) -> list[Planted]:
    """What a `Farm` of the same arguments has planted, without running it.

    Raises:
        ValueError: as `Farm` does.
    """
    fleet = draw_fleet(cards, seed)
    return _planted(fleet, draw(fleet, seed, Wish(faults), start, span_seconds)[0])


def _planted(fleet: Fleet, faults: tuple[Fault, ...]) -> list[Planted]:
    planted = []
    for fault in faults:
        for index in fault.cards:
            card = fleet.cards[index]
            host = fleet.nodes[card.node].host
            planted.append(Planted(card.card, host, card.slot, fault.kind, fault.since))
    return planted
