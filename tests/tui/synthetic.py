"""A made-up farm that answers in wire types, with verdicts spread over its cards by a seed."""

import math
import random
import threading
from typing import Any

from farmhand_collector.wire import (
    NUMBER_COLUMNS,
    SCHEMA,
    TEXT_COLUMNS,
    CapacityRow,
    CardDetail,
    CardVerdict,
    Changes,
    ComponentCapacity,
    Event,
    Evidence,
    FarmState,
    Finding,
    GangWhatIf,
    ScopeFinding,
    Series,
    Simulated,
    Snapshot,
    WhatIf,
)

NOW = 1_790_000_000.0

MODELS = (
    ("nvidia", "NVIDIA GeForce RTX 3090", 350.0, 1695.0, 24),
    ("nvidia", "NVIDIA CMP 170HX", 250.0, 1410.0, 8),
    ("nvidia", "NVIDIA GeForce RTX 3060", 170.0, 1777.0, 12),
    ("huawei", "Ascend 910B", 310.0, 1000.0, 32),
)

TROUBLES = (
    ("lost", "unreachable", None, "reseat", "The card has fallen off the bus (XID 79)."),
    ("failing", "memory", "memory", "reball", "14 uncorrected memory errors in an hour."),
    ("degraded", "thermal", "compute", "repaste", "1,320 MHz at 91 °C; its peers hold 1,695 MHz."),
    ("degraded", "link", "link", "swap-riser", "PCIe x1 where x16 is expected."),
    ("watch", "power", "compute", "check-power-cable", "11 % less power than its peers at work."),
    ("unknown", "", None, None, ""),
)

STEPS = ["Shut the node down.", "Take the cooler off, clean both faces.", "Put new paste on."]


class SyntheticFarm:
    """Cards in racks of 8 nodes of 8; every second card of index 37 or so has some trouble."""

    def __init__(self, cards: int = 16, seed: int = 7, *, simulated: bool = True) -> None:
        self.random = random.Random(seed)
        self.simulated = Simulated(seed, []) if simulated else None
        self.epoch = 1
        self.time = NOW
        self.rows: dict[str, dict[str, Any]] = {}
        self.changed_at: dict[str, int] = {}
        self.removed_at: dict[str, int] = {}
        self.sequence = 0
        self.moved = threading.Condition()
        for index in range(cards):
            row = self._card(index)
            self.rows[row["key"]] = row

    def _card(self, index: int) -> dict[str, Any]:
        vendor, model, limit, clock, memory = MODELS[(index // 64) % len(MODELS)]
        node = index // 8
        busy = self.random.choice((0.0, 0.99, 0.99, 0.98, 0.97))
        row: dict[str, Any] = dict.fromkeys(TEXT_COLUMNS, "") | dict.fromkeys(NUMBER_COLUMNS)
        row |= {
            "key": f"card-{index:05d}",
            "card": f"GPU-{index:08x}-5e1f",
            "board": f"B{index:05d}",
            "site": "barn",
            "rack": f"r{node // 8 + 1:02d}",
            "host": f"node{node + 1:03d}",
            "slot": f"slot{index % 8 + 1}",
            "vendor": vendor,
            "model": model,
            "state": "ok",
            "delivered": round(self.random.uniform(0.96, 1.0), 3),
            "confidence": 0.9,
            "since": NOW - 86400.0,
            "seen": NOW,
            "utilization_ratio": busy,
            "memory_utilization_ratio": busy / 2,
            "memory_used_bytes": busy * memory * 0.8 * 2**30,
            "memory_total_bytes": float(memory * 2**30),
            "core_clock_mhz": clock * self.random.uniform(0.97, 1.0) if busy else 210.0,
            "memory_clock_mhz": 9501.0,
            "power_watts": limit * self.random.uniform(0.85, 0.99) if busy else 31.0,
            "power_limit_watts": limit,
            "core_temperature_celsius": float(self.random.randint(55, 78) if busy else 38),
            "fan_ratio": 0.7 if busy else 0.3,
            "pcie_generation": 3.0,
            "pcie_width": 16.0,
        }
        if vendor == "huawei":
            row["fan_ratio"] = None
        if index % 37 == 5:
            self._trouble(row, TROUBLES[(index // 37) % len(TROUBLES)])
        return row

    def _trouble(self, row: dict[str, Any], trouble: tuple[Any, ...]) -> None:
        state, cause, component, action, reason = trouble
        row |= {"state": state, "cause": cause, "component": component or "", "reason": reason}
        row |= {"action": action or "", "finding": cause and f"{cause}.something"}
        row["since"] = NOW - self.random.uniform(60, 86400)
        row["delivered"] = {"ok": 1.0, "watch": 0.91, "degraded": 0.78, "failing": 0.41}.get(state)
        if state == "lost":
            row |= {name: None for name in NUMBER_COLUMNS if name not in ("since", "seen")}
        if cause == "thermal":
            row |= {"core_temperature_celsius": 91.0, "core_clock_mhz": 1320.0}

    def set(self, key: str, **values: Any) -> None:
        """Change one card, or bring it in; whoever waits for changes hears of it."""
        with self.moved:
            self.sequence += 1
            blank = dict.fromkeys(TEXT_COLUMNS, "") | dict.fromkeys(NUMBER_COLUMNS)
            self.rows.setdefault(key, blank | {"key": key})
            self.rows[key].update(values)
            self.changed_at[key] = self.sequence
            self.moved.notify_all()

    def remove(self, key: str) -> None:
        """Take one card out."""
        with self.moved:
            self.sequence += 1
            del self.rows[key]
            self.removed_at[key] = self.sequence
            self.moved.notify_all()

    def restart(self) -> None:
        """Begin another epoch, so that every cursor is stale."""
        with self.moved:
            self.epoch += 1
            self.moved.notify_all()

    @property
    def cursor(self) -> str:
        return f"{self.epoch}:{self.sequence}"

    def snapshot(self, names: list[str]) -> Snapshot:
        columns = self._columns(list(self.rows), names)
        return Snapshot(SCHEMA, self.cursor, self.time, self.simulated, columns)

    def changes(self, cursor: str, names: list[str], wait: float) -> Changes | None:
        """Return changes since the cursor, or None where it is stale."""
        epoch, _, sequence = cursor.partition(":")
        since = int(sequence)

        def something() -> bool:
            return self.epoch != int(epoch) or self.sequence > since

        with self.moved:
            self.moved.wait_for(something, wait)
            if self.epoch != int(epoch):
                return None
            keys = [key for key, at in self.changed_at.items() if at > since and key in self.rows]
            gone = [key for key, at in self.removed_at.items() if at > since]
            return Changes(self.cursor, self.time, self._columns(keys, names), gone)

    def _columns(self, keys: list[str], names: list[str]) -> dict[str, list[Any]]:
        return {name: [self.rows[key][name] for key in keys] for name in {"key", *names}}

    def verdict(self, row: dict[str, Any]) -> CardVerdict:
        delivered = {} if row["delivered"] is None else {"compute": row["delivered"]}
        evidence = [Evidence(row["finding"], {}, row["reason"])] if row["reason"] else []
        places = {name: row[name] for name in ("card", "board", "site", "rack", "host", "slot")}
        return CardVerdict(
            **places,
            model=row["model"],
            state=row["state"],
            cause=row["cause"] or None,
            component=row["component"] or None,
            delivered=delivered,
            action=row["action"] or None,
            since=row["since"],
            confidence=row["confidence"],
            evidence=evidence,
        )

    def status(self) -> FarmState:
        cards = [self.verdict(row) for row in self.rows.values()]
        (capacity,) = self.capacity("farm")
        return FarmState(SCHEMA, self.simulated, self.time, cards, self._wider(), capacity)

    def capacity(self, by: str) -> list[CapacityRow]:
        """Each card is made for 100 TFLOP/s, 1 TB/s, 16 GiB and 10 GB/s."""
        rows = list(self.rows.values())
        if by == "farm":
            return [self._capacity_row(by, "", rows)]
        column = {"node": "host"}.get(by, by)
        names = dict.fromkeys(row[column] for row in rows)
        return [
            self._capacity_row(by, name, [row for row in rows if row[column] == name])
            for name in names
        ]

    def _capacity_row(self, by: str, name: str, rows: list[dict[str, Any]]) -> CapacityRow:
        shares = [row["delivered"] for row in rows if row["delivered"] is not None]
        figures = (100e12, 1e12, 16 * 2**30, 10e9)
        compute, bandwidth, memory, link = (
            self._component(figure, len(rows), shares) for figure in figures
        )
        return CapacityRow(
            scope=by,
            site="",
            name=name,
            cards=len(rows),
            judged=len(shares),
            judged_ratio=len(shares) / max(1, len(rows)),
            unknown_models=0,
            fp32_cards=0,
            compute=compute,
            bandwidth=bandwidth,
            memory=memory,
            link=link,
            text=f"delivers {sum(shares):g} of {len(rows)} somethings",
        )

    def _component(self, figure: float, cards: int, shares: list[float]) -> ComponentCapacity:
        missing = figure * (len(shares) - sum(shares))
        return ComponentCapacity(
            default=figure * cards * 1.1,
            expected=figure * cards,
            by_choice=figure * cards * 0.1,
            delivered=figure * sum(shares),
            missing=missing,
            unjudged=figure * (cards - len(shares)),
            missing_by_cause={"thermal": missing} if missing > 1e-3 else {},
            unknown_cards=0,
            expected_a100_equivalents=float(cards),
            delivered_a100_equivalents=sum(shares),
        )

    def what_if(self, keys: list[str], gang: str) -> WhatIf | None:
        """Return what comes back, or None where a card or the gang is not known."""
        if not all(key in self.rows for key in keys) or gang not in ("", "llm"):
            return None
        unjudged = [key for key in keys if self.rows[key]["delivered"] is None]
        members = self._node()
        pace = GangWhatIf("llm", members, members[:1], 4e14, 6e14, 2, 7e14)
        returns = {"compute": 12.5e12 * len(keys), "bandwidth": 0.0, "memory": 0.0, "link": 1e9}
        equivalents = {"compute": 0.04, "bandwidth": 0.0, "memory": 0.0, "link": 0.03}
        return WhatIf(keys, unjudged, returns, equivalents, pace if gang else None)

    def _node(self) -> list[str]:
        return [key for key, row in self.rows.items() if row["host"] == "node002"]

    def _wider(self) -> list[ScopeFinding]:
        text = "All 8 cards of node002 run 12 % slower since 09:10; the inlet is at 41 °C."
        evidence = [Evidence("node.hot", {"inlet": 41.0}, text)]
        cards = self._node()
        if not cards:
            return []
        finding = ScopeFinding(
            "node",
            "node002",
            "watch",
            "thermal",
            {},
            "look-at-node",
            NOW - 600,
            0.9,
            evidence,
            cards,
        )
        return [finding]

    def findings(self) -> list[Finding]:
        found = [self._finding(row) for row in self.rows.values() if row["reason"]]
        found += [
            Finding(
                scope=wider.scope,
                key=wider.name,
                place=f"barn/r01/{wider.name}",
                model="",
                state=wider.state,
                cause=wider.cause,
                component=None,
                finding="node.hot",
                text=wider.evidence[0].text,
                action=wider.action,
                steps=["Look whether the node's fans turn.", "Feel the air at its inlet."],
                delivered=None,
                since=wider.since,
                cards=wider.cards,
            )
            for wider in self._wider()
        ]
        order = ("lost", "failing", "degraded", "watch", "unknown", "ok")
        return sorted(found, key=lambda finding: (order.index(finding.state), -finding.since))

    def _finding(self, row: dict[str, Any]) -> Finding:
        return Finding(
            scope="card",
            key=row["key"],
            place="/".join(row[name] for name in ("site", "rack", "host", "slot")),
            model=row["model"],
            state=row["state"],
            cause=row["cause"],
            component=row["component"] or None,
            finding=row["finding"],
            text=row["reason"],
            action=row["action"] or None,
            steps=STEPS,
            delivered=row["delivered"],
            since=row["since"],
            cards=[row["key"]],
        )

    def detail(self, key: str) -> CardDetail | None:
        row = self.rows.get(key)
        if row is None:
            return None
        info = {
            "name": row["model"],
            "serial": "0324518123456",
            "vbios": "94.02.42.00.A9",
            "memory_total_bytes": row["memory_total_bytes"],
            "memory_bus_bits": 384.0,
            "power_limit_default_watts": row["power_limit_watts"],
            "pci_address": "0000:41:00.0",
            "driver": "580.82.07",
        }
        events = [
            Event(NOW - 600, "verdict", row["state"], row["reason"] or "as it should be"),
            Event(NOW - 7200, "xid", "43", "GPU stopped processing"),
        ]
        return CardDetail(key, self.verdict(row), info, events)

    def series(
        self, key: str, fields: list[str], since: float, until: float, points: int
    ) -> Series | None:
        row = self.rows.get(key)
        if row is None:
            return None
        times = [since + (until - since) * index / points for index in range(points)]
        values = {name: [self._reading(row, name, time) for time in times] for name in fields}
        return Series(key, times, values)

    def _reading(self, row: dict[str, Any], name: str, time: float) -> float | None:
        value: float | None = row[name]
        if value is None or 0.6 < ((time / 21600) % 1) < 0.66:
            return None
        if "limit" in name or name == "memory_clock_mhz":
            return value
        return value * (0.9 + 0.1 * math.sin(time / 1500) - 0.04 * self.random.random())
