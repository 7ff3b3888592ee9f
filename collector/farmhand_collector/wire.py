"""What the collector's HTTP API says, as types; shared by the collector and the terminal.

Nothing here imports numpy or a database. Numbers that are not known are `None`, never zero.

=================================================  =============================================
`GET /v1/status`                                   `FarmState`
`GET /v1/snapshot?columns=a,b`                     `Snapshot`
`GET /v1/changes?cursor=E:S&columns=a,b&wait=25`   `Changes`; 410 where the cursor is stale
`GET /v1/cards/KEY`                                `CardDetail`; 404 where no such card is known
`GET /v1/cards/KEY/series?fields=a,b&since=T&until=T&points=N`  `Series`
`GET /v1/findings`                                 list of `Finding`
`GET /v1/capacity?by=rack`                         list of `CapacityRow`; see `CAPACITY_SCOPES`
`GET /v1/what-if?cards=KEY,KEY&gang=NAME`          `WhatIf`; 404 where no such card or gang is
=================================================  =============================================

`lang=zh` or `lang=ko` after `status`, `cards/KEY` and `findings` asks for another language than
English. Times are seconds since 1970, UTC. An error answers `{"error": "one line"}`.
"""

from typing import Any

import msgspec

SCHEMA = 1

STATES = ("ok", "watch", "degraded", "failing", "lost", "unknown")
"""States of a card or a finding; the first five go from best to worst."""

TEXT_COLUMNS = (
    "key",
    "card",
    "board",
    "site",
    "rack",
    "host",
    "slot",
    "vendor",
    "model",
    "state",
    "cause",
    "component",
    "action",
    "finding",
    "reason",
)
"""Columns of a snapshot that hold text: who and where, then the verdict.

`key` names the card in the API. `reason` is one plain sentence, empty where there is none.
"""

NUMBER_COLUMNS = (
    "delivered",
    "confidence",
    "since",
    "seen",
    "utilization_ratio",
    "memory_utilization_ratio",
    "memory_used_bytes",
    "memory_total_bytes",
    "core_clock_mhz",
    "memory_clock_mhz",
    "power_watts",
    "power_limit_watts",
    "core_temperature_celsius",
    "memory_temperature_celsius",
    "fan_ratio",
    "pcie_generation",
    "pcie_width",
    "throttle_thermal_ratio",
    "throttle_hardware_ratio",
)
"""Columns of a snapshot that hold numbers; None where the card does not give them.

`delivered` is the worst component's share of what is expected, 0..1. `since` is when the state
began and `seen` when the card was last heard of. The rest are readings of the last window.
"""


CAPACITY_SCOPES = ("farm", "site", "rack", "node", "model", "batch")
"""What capacity is added up by."""


class Planted(msgspec.Struct, frozen=True):
    """One fault that the simulator planted."""

    card: str
    host: str
    slot: str
    fault: str
    since: float


class Simulated(msgspec.Struct, frozen=True):
    """Said wherever the farm is not real."""

    seed: int
    planted: list[Planted]


class Evidence(msgspec.Struct, frozen=True):
    """Why: a finding of the catalogue, the values behind it, and both as one sentence."""

    finding: str
    values: dict[str, Any]
    text: str


class CardVerdict(msgspec.Struct, frozen=True):
    """What is to be said of one card."""

    card: str
    board: str
    site: str
    rack: str
    host: str
    slot: str
    model: str
    state: str
    cause: str | None
    component: str | None
    delivered: dict[str, float]
    action: str | None
    since: float | None
    confidence: float | None
    evidence: list[Evidence]


class ScopeFinding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be said of a node, rack, batch or job; `cards` are the keys it explains.

    The name stands under the key of its scope too, so that scripts can ask for `node`.
    """

    scope: str
    name: str
    state: str
    cause: str
    delivered: dict[str, float]
    action: str | None
    since: float
    confidence: float
    evidence: list[Evidence]
    cards: list[str]
    node: str | None = None
    rack: str | None = None
    batch: str | None = None
    job: str | None = None

    def __post_init__(self) -> None:
        if self.scope in ("node", "rack", "batch", "job"):
            msgspec.structs.force_setattr(self, self.scope, self.name)


class ComponentCapacity(msgspec.Struct, frozen=True):
    """One component of the capacity of some cards, added up, in absolute units.

    `default` is what they are made to give at their default limits and `expected` what the limits
    in force allow; `by_choice` is the difference. `delivered`, `missing` and `unjudged` add up to
    what is expected. The amount of `unknown_cards` is not known, and in none of the sums; a sum to
    which no card adds anything that is known is None. The last two count in cards of the kind A100
    SXM of 80 GB.
    """

    default: float | None
    expected: float | None
    by_choice: float | None
    delivered: float | None
    missing: float | None
    unjudged: float | None
    missing_by_cause: dict[str, float]
    unknown_cards: int
    expected_a100_equivalents: float | None
    delivered_a100_equivalents: float | None


class CapacityRow(msgspec.Struct, frozen=True):
    """What the cards of one thing give of what they should, and how many of them are judged.

    Compute is in FLOP/s, of fp16 on tensor cores; `fp32_cards` are counted by their fp32, as no
    such figure is known of them. `bandwidth` is that of memory in B/s, `memory` in B, `link` in
    B/s one way. `name` is empty for the farm, and for cards of which no such thing is told.
    `judged_ratio` is None where there are no cards. `text` says it in plain words that follow a
    name.
    """

    scope: str
    site: str
    name: str
    cards: int
    judged: int
    judged_ratio: float | None
    unknown_models: int
    fp32_cards: int
    compute: ComponentCapacity
    bandwidth: ComponentCapacity
    memory: ComponentCapacity
    link: ComponentCapacity
    text: str


class GangWhatIf(msgspec.Struct, frozen=True):
    """How fast a gang in lock step goes: all its members as fast as the slowest.

    FLOP/s of all members together: now, without the slowest, and the most that it reaches when it
    leaves out its `left_out` slowest. `cards` are all members; of `unjudged` ones, among them,
    nothing is known, and they are not counted. Where nothing is known of any, the paces are None.
    """

    name: str
    cards: list[str]
    unjudged: list[str]
    now: float | None
    without_slowest: float | None
    left_out: int
    best: float | None


class WhatIf(msgspec.Struct, frozen=True):
    """What comes back when cards are repaired, in absolute units and in A100 equivalents.

    What waits for them in a gang comes back with them. Of `unjudged` ones nothing is known.
    """

    cards: list[str]
    unjudged: list[str]
    returns: dict[str, float]
    returns_a100_equivalents: dict[str, float]
    gang: GangWhatIf | None


class FarmState(msgspec.Struct, frozen=True):
    """The whole farm: the object that `status --json` and `judge --json` print.

    `capacity` is that of the whole farm; None where nothing is judged yet, or by a collector that
    does not tell it.
    """

    schema: int
    simulated: Simulated | None
    time: float | None
    cards: list[CardVerdict]
    findings: list[ScopeFinding]
    capacity: CapacityRow | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """The farm as columns of equal length, one entry a card, ordered by site, rack, host, slot."""

    schema: int
    cursor: str
    time: float | None
    simulated: Simulated | None
    columns: dict[str, list[Any]]


class Changes(msgspec.Struct, frozen=True):
    """Rows that changed since a cursor, as columns; `key` is always among them.

    A key that the snapshot did not hold is a new card; `removed` lists keys that went.
    """

    cursor: str
    time: float | None
    columns: dict[str, list[Any]]
    removed: list[str]


class Series(msgspec.Struct, frozen=True):
    """Readings of one card over time, thinned to at most the points that were asked for."""

    key: str
    times: list[float]
    fields: dict[str, list[float | None]]


class Event(msgspec.Struct, frozen=True):
    """A `card_event`, or a change of verdict."""

    time: float
    kind: str
    code: str
    text: str


class CardDetail(msgspec.Struct, frozen=True):
    """Everything that is known of one card now."""

    key: str
    verdict: CardVerdict
    info: dict[str, Any]
    events: list[Event]


class Finding(msgspec.Struct, frozen=True):
    """One entry of the findings list, a card's or a wider one's, worst and newest first.

    `scope` is `card` or that of a `ScopeFinding`; `key` names the card, or the node, rack, batch
    or job. `steps` tell the keeper's hands what to do.
    """

    scope: str
    key: str
    place: str
    model: str
    state: str
    cause: str
    component: str | None
    finding: str
    text: str
    action: str | None
    steps: list[str]
    delivered: float | None
    since: float
    cards: list[str]
