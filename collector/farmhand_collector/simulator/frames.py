"""Columns of a simulated farm over stretches of time, straight from its state.

No reading is worded, parsed or stored on the way, so that months of large farms can be judged in
minutes. What comes out is what the collector's framing makes of the same farm's readings; it
holds only arrays and texts, so that the simulator knows nothing of how cards are judged.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farmhand_agent.reading import CARD_TAGS, Kind, Value, fields_of
from farmhand_collector.simulator.effects import Array, Effects, Flags
from farmhand_collector.simulator.farm import Farm
from farmhand_collector.simulator.fleet import Fleet
from farmhand_collector.simulator.reports import (
    INFO_EVERY_SECONDS,
    QUIET_FIELDS,
    Chance,
    Window,
    card_info,
    card_tags,
    gang_name,
    given_fields,
    is_due,
    rounded,
)
from farmhand_collector.simulator.sensors import DECIMALS
from farmhand_collector.simulator.stretch import HOST_FIELDS, Codes, Index, Stretch, divided
from farmhand_collector.simulator.workload import JOB_KINDS

READ_OK, READ_UNREADABLE, READ_LOST = 0, 1, 2

_QUIET = np.array([name in QUIET_FIELDS for name in DECIMALS])
_NUMBERS = [name for name, told in fields_of("card_info").items() if told.kind is not Kind.TEXT]
_TEXTS = [name for name, told in fields_of("card_info").items() if told.kind is Kind.TEXT]
_TRAINS = np.array([kind.trains for kind in JOB_KINDS])


class CardNews(NamedTuple):
    """An event of a card of the roster."""

    card: int
    time_ns: int
    kind: str
    code: str
    text: str


class Told(NamedTuple):
    """What jobs told of n cards: mean rate of the main job, NaN and empty where none was told."""

    rate: Array
    job: list[str]
    unit: list[str]
    gang: list[str]


class Columns(NamedTuple):
    """One stretch of time over n cards, in the order in which they joined; NaN where not given.

    `keys` are tags, as `CARD_TAGS` orders them. `values` holds gauges as means weighted by window
    length, peaks and flags as maxima, counters as their last value; `loaded` gauges over loaded
    windows, and `loaded_share` their share. `numbers` and `texts` are those of `card_info` last
    told. `late` counts readings that came too late for their stretch.
    """

    start_ns: int
    end_ns: int
    keys: tuple[tuple[str, ...], ...]
    read: Codes
    values: dict[str, Array]
    loaded: dict[str, Array]
    loaded_share: Array
    numbers: dict[str, Array]
    texts: dict[str, list[str]]
    events: list[CardNews]
    told: Told
    host: dict[str, Array]
    probe: dict[str, Array]
    booted: Flags
    late: Array


def columns(
    farm: Farm,
    until: float,
    every_seconds: float,
    lag_seconds: float,
    loaded_ratio: float,
) -> Iterator[Columns]:
    """Stretches of a farm that has not been asked before, up to a time, closed in order.

    A stretch begins at a multiple of `every_seconds` and closes when readings of `lag_seconds`
    after its end arrive. Outages and duplicates of the farm's delivery are not played; readings
    that a fault makes late are counted as late, not judged.
    """
    cutter = _Cutter(farm, every_seconds, lag_seconds, loaded_ratio)
    for window in farm.windows():
        yield from cutter.take(window, until)
        if window.times.min() >= until:
            return


class _Cutter:
    """Cuts windows into stretches as the nodes' readings would arrive."""

    def __init__(
        self, farm: Farm, every_seconds: float, lag_seconds: float, loaded_ratio: float
    ) -> None:
        self._farm, self._fleet = farm, farm.fleet
        self._every_ns = round(every_seconds * 1e9)
        self._lag_ns = round(lag_seconds * 1e9)
        self._lag = lag_seconds
        self._loaded_ratio = loaded_ratio
        self._open: dict[int, Stretch] = {}
        self._roster = _Joined(self._fleet)
        self._facts = _Facts()
        self._untold: set[int] = set()
        self._late: list[tuple[int, int]] = []
        self._node_of_card = np.array([card.node for card in self._fleet.cards])
        self._given = np.array([_gives(self._fleet, at, {}) for at in range(len(farm.fleet.cards))])
        self._first_open = -1

    def take(self, window: Window, until: float) -> Iterator[Columns]:
        """Add a window, and give the stretches that its readings close."""
        chance = self._farm.reports.draw(window)
        rows, read = self._rows(window), _read_codes(window.effects)
        rates = _significant(window.rates)
        heard = (window.times >= window.effects.node_silent_until) & (window.times < until)
        times_ns = np.round(window.times * 1e9).astype(np.int64)
        first_open = (times_ns - self._lag_ns) // self._every_ns
        for number in np.unique(first_open[heard]).tolist():
            for closed in [at for at in sorted(self._open) if at < number]:
                yield self._close(closed)
            self._first_open = number
            nodes = np.flatnonzero(heard & (first_open == number))
            self._add(window, chance, rows, read, rates, nodes, times_ns)

    def _rows(self, window: Window) -> Array:
        """(fields, cards) as the readings would give them, NaN for what is left out."""
        withheld = window.effects.withheld
        for place in withheld:
            self._given[place] = _gives(self._fleet, place, withheld)
        rows = np.where(self._given.T, rounded(window.fields), np.nan)
        quiet = window.effects.lost | window.effects.unreadable
        rows[np.ix_(~_QUIET, quiet)] = np.nan
        return rows

    def _add(
        self,
        window: Window,
        chance: Chance,
        rows: Array,
        read: Codes,
        rates: Array,
        nodes: Index,
        times_ns: npt.NDArray[np.int64],
    ) -> None:
        """Add what some nodes say, all of it heard while the same stretches are open."""
        late = window.effects.node_late_seconds[nodes] > self._lag
        self._note_late(window, nodes[late])
        in_time = nodes[~late]
        ordered = in_time[np.argsort(times_ns[in_time], kind="stable")]
        self._roster.join(window, ordered.tolist())
        numbers = times_ns // self._every_ns
        for number in np.unique(numbers[in_time]).tolist():
            opened = self._opened(number)
            opened.fit(len(self._roster.keys))
            chosen = in_time[numbers[in_time] == number]
            cards = np.flatnonzero(np.isin(self._node_of_card, chosen))
            of_roster = self._roster.rows[cards]
            opened.add_cards(rows[:, cards], read[cards], of_roster, self._loaded_ratio)
            self._add_work(opened, window, rates, chosen)
            self._add_hosts(opened, window, chance, chosen)
            self._add_facts(opened, window, chosen)
            opened.probes |= {
                int(self._roster.rows[at]): told
                for at, told in window.probes.items()
                if self._node_of_card[at] in set(chosen.tolist())
            }
        self._add_events(window, chance, set(nodes.tolist()))

    def _opened(self, number: int) -> Stretch:
        number = max(number, self._first_open)
        if number not in self._open:
            self._open[number] = Stretch(len(self._fleet.nodes))
        return self._open[number]

    def _add_work(self, opened: Stretch, window: Window, rates: Array, nodes: Index) -> None:
        told = window.assignment
        nodes = nodes[told.reports[nodes] & (told.job[nodes] >= 0)]
        cards = np.flatnonzero(np.isin(self._node_of_card, nodes) & (rates > 0))
        job, rows = told.job[self._node_of_card[cards]], self._roster.rows[cards]
        opened.rates[job, rows] += rates[cards]
        opened.rate_counts[job, rows] += 1
        job = told.job[nodes]
        new = (opened.leaders[job, nodes] < 0) & _TRAINS[job]
        opened.leaders[job[new], nodes[new]] = told.leader[nodes[new]]
        opened.numbers[job[new], nodes[new]] = told.number[nodes[new]]

    def _add_hosts(self, opened: Stretch, window: Window, chance: Chance, nodes: Index) -> None:
        sensor = np.array([self._fleet.nodes[at].has_inlet_sensor for at in nodes], bool)
        opened.host_sums[0, nodes] += np.where(sensor, np.round(window.inlet[nodes]), 0.0)
        opened.host_counts[0, nodes] += sensor
        opened.host_sums[1, nodes] += chance.cpu_ratio()[nodes]
        opened.host_counts[1, nodes] += 1

    def _add_facts(self, opened: Stretch, window: Window, nodes: Index) -> None:
        """Identities that are told in this window."""
        effects, told = window.effects, window.moment.told
        gone = effects.lost | effects.unreadable
        totals = np.round(window.fields["memory_total_bytes"])
        interval = self._farm.interval_seconds
        hardware = self._farm.simulation.hardware
        for node in nodes.tolist():
            due = is_due(window.number, node, INFO_EVERY_SECONDS, interval)
            cards = self._fleet.nodes[node].card_range
            for at in cards if due else sorted(told.intersection(cards)):
                row = int(self._roster.rows[at])
                # What is told each hour says nothing new, but for a card that could not tell it.
                news = at in told or (due and (row in self._untold or not self._facts.knows(row)))
                if news and gone[at]:
                    self._untold.add(row)
                elif news:
                    self._untold.discard(row)
                    fields = card_info(self._fleet, hardware, effects, at, float(totals[at]))
                    opened.facts[row] = fields

    def _add_events(self, window: Window, chance: Chance, nodes: set[int]) -> None:
        events = [e for e in window.moment.events if self._node_of_card[e.place] in nodes]
        events += [
            self._farm.reports.stray_event(window, at)
            for at in sorted(chance.strays)
            if self._node_of_card[at] in nodes
        ]
        for event in events:
            self._opened(round(event.time * 1e9) // self._every_ns).events.append(event)
        for news in window.moment.host_events:
            if news.node in nodes and news.kind == "boot":
                self._opened(round(news.time * 1e9) // self._every_ns).booted.add(news.node)

    def _note_late(self, window: Window, nodes: Index) -> None:
        for node in nodes.tolist():
            arrives = window.times[node] + window.effects.node_late_seconds[node] - self._lag
            number = round(arrives * 1e9) // self._every_ns
            self._late += [(number, at) for at in self._fleet.nodes[node].card_range]

    def _close(self, number: int) -> Columns:
        opened = self._open.pop(number)
        count = len(self._roster.keys)
        opened.fit(count)
        self._facts.learn(opened.facts, count)
        places = np.array(self._roster.places, np.intp)
        return Columns(
            start_ns=number * self._every_ns,
            end_ns=(number + 1) * self._every_ns,
            keys=tuple(self._roster.keys),
            read=opened.read[0].astype(np.int8),
            values=opened.values(),
            loaded=opened.loaded_values(),
            loaded_share=opened.loaded_share(),
            numbers={name: column.copy() for name, column in self._facts.numbers.items()},
            texts=self._facts.texts,
            events=self._news(opened),
            told=self._told(opened, places),
            host=self._hosts(opened, places),
            probe=_probes(opened, count),
            booted=np.isin(self._node_of_card[places], list(opened.booted)),
            late=self._lateness(number, count),
        )

    def _news(self, opened: Stretch) -> list[CardNews]:
        news = [
            CardNews(
                int(self._roster.rows[event.place]),
                round(event.time * 1e9),
                event.kind,
                event.code,
                event.text,
            )
            for event in opened.events
        ]
        return sorted(news, key=lambda event: event.time_ns)

    def _told(self, opened: Stretch, places: Index) -> Told:
        main = opened.rate_counts.argmax(axis=0)
        every = np.arange(len(main))
        rate = divided(opened.rates[main, every], opened.rate_counts[main, every])
        job, unit, gang = [""] * len(main), [""] * len(main), [""] * len(main)
        for row in np.flatnonzero(~np.isnan(rate)).tolist():
            at = int(main[row])
            job[row], unit[row] = JOB_KINDS[at].name, JOB_KINDS[at].unit
            node = self._node_of_card[places[row]]
            leader, number = int(opened.leaders[at, node]), int(opened.numbers[at, node])
            if leader >= 0:
                gang[row] = gang_name(self._fleet, job[row], leader, number)
        return Told(rate, job, unit, gang)

    def _hosts(self, opened: Stretch, places: Index) -> dict[str, Array]:
        nodes = self._node_of_card[places]
        return {
            name: divided(opened.host_sums[at], opened.host_counts[at])[nodes]
            for at, name in enumerate(HOST_FIELDS)
        }

    def _lateness(self, number: int, count: int) -> Array:
        late = np.zeros(count)
        for due, place in self._late:
            row = int(self._roster.rows[place])
            if due <= number and row >= 0:
                late[row] += 1
        self._late = [(due, place) for due, place in self._late if due > number]
        return late


class _Joined:
    """Cards by row, in the order in which they were first heard of."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.keys: list[tuple[str, ...]] = []
        self.places: list[int] = []
        self.rows = np.full(len(fleet.cards), -1, np.intp)
        """Row of the card that each place shows now, -1 where none was heard."""
        self._row_of_key: dict[tuple[str, ...], int] = {}

    def join(self, window: Window, nodes: list[int]) -> None:
        """Let cards of nodes that speak join, where they are new or others than before."""
        told = window.moment.told
        for node in nodes if told or np.any(self.rows < 0) else ():
            cards = self._fleet.nodes[node].card_range
            if self.rows[cards.start] < 0:
                told = told | set(cards)
            for place in sorted(told.intersection(cards)):
                self._join(place, window.effects)

    def _join(self, place: int, effects: Effects) -> None:
        tags = card_tags(self._fleet, place, effects)
        key = tuple(tags[name] for name in CARD_TAGS)
        row = self._row_of_key.setdefault(key, len(self.keys))
        if row == len(self.keys):
            self.keys.append(key)
            self.places.append(place)
        self.rows[place] = row


class _Facts:
    """What `card_info` last told, by row; a table of texts is replaced, never changed."""

    def __init__(self) -> None:
        self.numbers = {name: np.zeros(0) for name in _NUMBERS}
        self.texts: dict[str, list[str]] = {name: [] for name in _TEXTS}

    def knows(self, row: int) -> bool:
        """Whether anything was told of a card."""
        names = self.texts["name"]
        return row < len(names) and bool(names[row])

    def learn(self, told: dict[int, dict[str, Value]], count: int) -> None:
        """Take what was told of some of so many cards."""
        more = np.full(count - len(self.numbers[_NUMBERS[0]]), np.nan)
        if len(more):
            self.numbers = {n: np.concatenate([c, more]) for n, c in self.numbers.items()}
            self.texts = {n: [*column, *[""] * len(more)] for n, column in self.texts.items()}
        if any(self.texts[n][row] != f.get(n, "") for row, f in told.items() for n in _TEXTS):
            self.texts = {name: list(column) for name, column in self.texts.items()}
        for row, fields in told.items():
            for name, value in fields.items():
                if isinstance(value, str):
                    self.texts[name][row] = value
                else:
                    self.numbers[name][row] = value


def _probes(opened: Stretch, count: int) -> dict[str, Array]:
    probes = {name: np.full(count, np.nan) for name in fields_of("probe")}
    for row, fields in opened.probes.items():
        for name, value in fields.items():
            probes[name][row] = value
    return probes


def _gives(fleet: Fleet, place: int, withheld: dict[int, frozenset[str]]) -> Flags:
    names = given_fields(fleet.cards[place].model.gives, withheld.get(place, frozenset()))
    return np.array([name in names for name in DECIMALS])


def _read_codes(effects: Effects) -> Codes:
    read = np.where(effects.unreadable, READ_UNREADABLE, READ_OK)
    return np.where(effects.lost, READ_LOST, read).astype(np.int8)


def _significant(rates: Array) -> Array:
    """Rates with the five digits that are written."""
    with np.errstate(divide="ignore"):
        digits = 4.0 - np.floor(np.log10(rates))
    scale = 10.0 ** np.where(np.isfinite(digits), digits, 0.0)
    return np.asarray(np.round(rates * scale) / scale)
