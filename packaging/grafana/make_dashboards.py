"""Writes the dashboards for Grafana with an InfluxQL data source; run by `make docs`.

A dashboard is a list of panels, a panel a title, a unit and questions. What the questions ask is in
docs/readings.md; what the collector writes back (`verdict`, `capacity`) answers most of them.
"""

# ruff: noqa: S608 - statements of fixed text; Grafana fills in what its user chose

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
SOURCE = {"type": "influxdb", "uid": "${source}"}
WIDTH, HEIGHT = 24, 8
STATES = ("ok", "watch", "degraded", "failing", "lost", "unknown")
COLOURS = ("green", "yellow", "orange", "red", "purple", "gray")


class Question(NamedTuple):
    """An InfluxQL statement and what its curves are called."""

    statement: str
    alias: str = ""


class Panel(NamedTuple):
    """One panel: `kind` is Grafana's, `unit` too, `width` of 24 columns."""

    title: str
    unit: str
    questions: Sequence[Question]
    kind: str = "timeseries"
    width: int = 12
    states: bool = False


class Variable(NamedTuple):
    """A choice at the top: the values of a tag."""

    name: str
    statement: str


class Dashboard(NamedTuple):
    """A page and its choices."""

    uid: str
    title: str
    variables: Sequence[Variable]
    panels: Sequence[Panel]


def ask(
    fields: str, measurement: str, where: str = "", group: str = "time($__interval)", fill: str = ""
) -> str:
    """A statement over the time that the dashboard shows."""
    condition = f"$timeFilter AND {where}" if where else "$timeFilter"
    ending = f" fill({fill})" if fill else ""
    return f'SELECT {fields} FROM "{measurement}" WHERE {condition} GROUP BY {group}{ending}'


SITE = Variable("site", 'SHOW TAG VALUES FROM "verdict" WITH KEY = "site"')
HOST = Variable(
    "host", 'SHOW TAG VALUES FROM "verdict" WITH KEY = "host" WHERE "site" =~ /^$site$/'
)
CARD = Variable(
    "card", 'SHOW TAG VALUES FROM "verdict" WITH KEY = "card" WHERE "host" =~ /^$host$/'
)
OF_SITE = '"site" =~ /^$site$/'
OF_HOST = f'{OF_SITE} AND "host" =~ /^$host$/'
OF_CARD = f'{OF_HOST} AND "card" =~ /^$card$/'
BY_CARD = 'time($__interval), "host", "slot", "model"'
CARD_NAME = "$tag_host $tag_slot $tag_model"


def capacity(component: str) -> list[Question]:
    """Expected and delivered of one component of the whole farm."""
    of_farm = f"\"scope\" = 'farm' AND \"component\" = '{component}'"
    return [
        Question(ask(f'mean("{name}")', "capacity", of_farm, fill="none"), name)
        for name in ("default", "expected", "delivered")
    ]


FARM = Dashboard(
    "farmhand-farm",
    "farmhand: farm",
    [SITE],
    [
        Panel(
            "Delivered, in A100 equivalents",
            "short",
            [
                Question(
                    ask(
                        'mean("delivered_a100_equivalents")',
                        "capacity",
                        "\"scope\" = 'farm'",
                        'time($__interval), "component"',
                        "none",
                    ),
                    "$tag_component",
                )
            ],
            width=24,
        ),
        Panel("Compute", "flops", capacity("compute")),
        Panel("Memory bandwidth", "Bps", capacity("bandwidth")),
        Panel("Memory", "bytes", capacity("memory")),
        Panel("Link", "Bps", capacity("link")),
        Panel(
            "State of all cards",
            "short",
            [
                Question(
                    ask('last("state_level")', "verdict", OF_SITE, BY_CARD, "previous"), CARD_NAME
                )
            ],
            "state-timeline",
            24,
            states=True,
        ),
        Panel(
            "Share that each rack delivers",
            "percentunit",
            [
                Question(
                    ask(
                        'mean("delivered") / mean("expected")',
                        "capacity",
                        "\"scope\" = 'rack' AND \"component\" = 'compute'",
                        'time($__interval), "site", "name"',
                        "none",
                    ),
                    "$tag_site $tag_name",
                )
            ],
        ),
        Panel(
            "Power of the farm",
            "watt",
            [
                Question(
                    'SELECT sum("power") FROM (SELECT mean("power_watts") AS "power" FROM "card" '
                    f"WHERE $timeFilter AND {OF_SITE} "
                    'GROUP BY time($__interval), "host", "slot") '
                    "WHERE $timeFilter GROUP BY time($__interval) fill(none)",
                    "power",
                )
            ],
        ),
    ],
)

NODE = Dashboard(
    "farmhand-node",
    "farmhand: node",
    [SITE, HOST],
    [
        Panel(
            "State of its cards",
            "short",
            [
                Question(
                    ask('last("state_level")', "verdict", OF_HOST, BY_CARD, "previous"), CARD_NAME
                )
            ],
            "state-timeline",
            24,
            states=True,
        ),
        *(
            Panel(
                title,
                unit,
                [Question(ask(f'mean("{field}")', "card", OF_HOST, BY_CARD, "none"), CARD_NAME)],
            )
            for title, unit, field in (
                ("Use", "percentunit", "utilization_ratio"),
                ("Power", "watt", "power_watts"),
                ("Core temperature", "celsius", "core_temperature_celsius"),
                ("Core clock", "rotmhz", "core_clock_mhz"),
                ("Fan", "percentunit", "fan_ratio"),
                ("Memory in use", "bytes", "memory_used_bytes"),
            )
        ),
        Panel(
            "Work",
            "short",
            [
                Question(
                    ask('mean("rate")', "work", OF_HOST, f'{BY_CARD}, "lane"', "none"),
                    f"{CARD_NAME} $tag_lane",
                )
            ],
        ),
        Panel(
            "Air and load",
            "short",
            [
                Question(
                    ask(f'mean("{field}")', "host", OF_HOST, "time($__interval)", "none"), field
                )
                for field in ("inlet_temperature_celsius", "load1")
            ],
        ),
        Panel(
            "Agent: readings that wait",
            "short",
            [
                Question(
                    ask('max("spool_points")', "agent", OF_HOST, "time($__interval)", "none"),
                    "spool",
                )
            ],
        ),
    ],
)

CARD_PAGE = Dashboard(
    "farmhand-card",
    "farmhand: card",
    [SITE, HOST, CARD],
    [
        Panel(
            "State",
            "short",
            [
                Question(
                    ask('last("state_level")', "verdict", OF_CARD, BY_CARD, "previous"), CARD_NAME
                )
            ],
            "state-timeline",
            24,
            states=True,
        ),
        Panel(
            "Delivered",
            "percentunit",
            [
                Question(
                    ask('last("delivered_ratio")', "verdict", OF_CARD, BY_CARD, "previous"),
                    CARD_NAME,
                )
            ],
        ),
        Panel(
            "Temperatures",
            "celsius",
            [
                Question(ask(f'max("{field}")', "card", OF_CARD, fill="none"), field)
                for field in (
                    "core_temperature_celsius",
                    "hotspot_temperature_celsius",
                    "memory_temperature_celsius",
                )
            ],
        ),
        Panel(
            "Power and limit",
            "watt",
            [
                Question(ask(f'mean("{field}")', "card", OF_CARD, fill="none"), field)
                for field in ("power_watts", "power_limit_watts")
            ],
        ),
        Panel(
            "Clocks",
            "rotmhz",
            [
                Question(ask(f'mean("{field}")', "card", OF_CARD, fill="none"), field)
                for field in ("core_clock_mhz", "memory_clock_mhz")
            ],
        ),
        Panel(
            "Held back by",
            "percentunit",
            [
                Question(ask(f'mean("{field}")', "card", OF_CARD, fill="none"), field)
                for field in (
                    "throttle_power_ratio",
                    "throttle_thermal_ratio",
                    "throttle_hardware_ratio",
                    "throttle_brake_ratio",
                )
            ],
        ),
        Panel(
            "Link",
            "short",
            [
                Question(ask(f'last("{field}")', "card", OF_CARD, fill="none"), field)
                for field in ("pcie_generation", "pcie_width")
            ],
        ),
        Panel(
            "Errors a minute",
            "short",
            [
                Question(
                    ask(
                        f'non_negative_derivative(max("{field}"), 1m)',
                        "card",
                        OF_CARD,
                        fill="none",
                    ),
                    field,
                )
                for field in ("pcie_replay_total", "ecc_corrected_total", "ecc_uncorrected_total")
            ],
        ),
        Panel(
            "Events",
            "short",
            [
                Question(
                    'SELECT "kind", "code", "text", "host", "slot" FROM "card_event" '
                    f"WHERE $timeFilter AND {OF_CARD} ORDER BY time DESC LIMIT 200"
                )
            ],
            "table",
            24,
        ),
    ],
)

BATCHES = Dashboard(
    "farmhand-batches",
    "farmhand: batches",
    [],
    [
        Panel(
            "Share that each batch delivers",
            "percentunit",
            [
                Question(
                    ask(
                        'mean("delivered") / mean("expected")',
                        "capacity",
                        "\"scope\" = 'batch' AND \"component\" = 'compute'",
                        'time($__interval), "site", "name"',
                        "none",
                    ),
                    "$tag_name",
                )
            ],
            width=24,
        ),
        Panel(
            "Cards of each batch",
            "short",
            [
                Question(
                    ask(
                        'last("cards")',
                        "capacity",
                        "\"scope\" = 'batch' AND \"component\" = 'compute'",
                        'time($__interval), "name"',
                        "none",
                    ),
                    "$tag_name",
                )
            ],
        ),
        Panel(
            "Share that each model delivers",
            "percentunit",
            [
                Question(
                    ask(
                        'mean("delivered") / mean("expected")',
                        "capacity",
                        "\"scope\" = 'model' AND \"component\" = 'compute'",
                        'time($__interval), "name"',
                        "none",
                    ),
                    "$tag_name",
                )
            ],
        ),
    ],
)

DASHBOARDS = (FARM, NODE, CARD_PAGE, BATCHES)


def rendered(dashboard: Dashboard) -> str:
    """A dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(dashboard.panels, 1):
        if x + panel.width > WIDTH:
            x, y = 0, y + HEIGHT
        place = {"x": x, "y": y, "w": panel.width, "h": HEIGHT}
        panels.append(_panel(panel, number, place))
        x += panel.width
    told = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["farmhand"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source(), *map(_variable, dashboard.variables)]},
        "panels": panels,
    }
    return json.dumps(told, indent=1, sort_keys=True) + "\n"


def _panel(panel: Panel, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.states:
        defaults["mappings"] = [_states()]
    targets = [
        {
            "refId": chr(ord("A") + at),
            "datasource": SOURCE,
            "rawQuery": True,
            "query": question.statement,
            "alias": question.alias,
            "resultFormat": "table" if panel.kind == "table" else "time_series",
        }
        for at, question in enumerate(panel.questions)
    ]
    return {
        "id": number,
        "title": panel.title,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": dict(place),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }


def _states() -> dict[str, Any]:
    options = {
        str(level): {"text": state, "color": colour, "index": level}
        for level, (state, colour) in enumerate(zip(STATES, COLOURS, strict=True))
    }
    return {"type": "value", "options": options}


def _source() -> dict[str, Any]:
    return {"name": "source", "type": "datasource", "query": "influxdb", "label": "InfluxDB"}


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "type": "query",
        "datasource": SOURCE,
        "query": variable.statement,
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
    }


def main() -> None:
    """Write all of them beside this file."""
    for dashboard in DASHBOARDS:
        path = HERE / f"{dashboard.uid.removeprefix('farmhand-')}.json"
        path.write_text(rendered(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
