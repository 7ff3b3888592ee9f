"""InfluxQL: the statements that read readings back, and the text that may stand in them.

Names come from the contract alone; tag values are quoted here and nowhere else.
"""

from collections.abc import Collection, Mapping

from farmhand_agent.reading import TAGS, fields_of
from farmhand_collector.store.base import StoreError

MOST_NS, LEAST_NS = 2**63 - 10**9, -(2**63) + 10**9
"""Times that InfluxDB takes in a condition."""


def rows(
    measurement: str,
    since_ns: int,
    until_ns: int,
    *,
    tags: Mapping[str, str] | None = None,
    fields: Collection[str] | None = None,
    limit: int | None = None,
) -> str:
    """All rows of `since_ns` ≤ time < `until_ns`, oldest first.

    Raises:
        StoreError: a tag or a field is not one of the measurement's.
    """
    where = [_after(since_ns), f"time < {_bounded(until_ns)}", *_tags(measurement, tags or {})]
    most = f" LIMIT {limit}" if limit is not None else ""
    return (
        f"SELECT {_columns(measurement, fields)} FROM {_name(measurement)} "  # noqa: S608 - names of the contract, quoted text
        f"WHERE {' AND '.join(where)} ORDER BY time ASC{most}"
    )


def last_rows(
    measurement: str,
    since_ns: int,
    *,
    tags: Mapping[str, str] | None = None,
    fields: Collection[str] | None = None,
) -> str:
    """The last row of each series, none older than `since_ns`.

    Raises:
        StoreError: a tag or a field is not one of the measurement's.
    """
    where = [_after(since_ns), *_tags(measurement, tags or {})]
    # Grouped by all tags there are, each series is a group.
    return (
        f"SELECT {_columns(measurement, fields, with_tags=False)} FROM {_name(measurement)} "  # noqa: S608 - as above
        f"WHERE {' AND '.join(where)} GROUP BY * ORDER BY time DESC LIMIT 1"
    )


def _columns(measurement: str, fields: Collection[str] | None, *, with_tags: bool = True) -> str:
    known = fields_of(measurement)
    if fields is None:
        return "*"
    for name in fields:
        if name not in known:
            raise StoreError(f"field {name!r} of {measurement}, expected one of {', '.join(known)}")
    told = [_name(name) for name in fields] or ["*"]
    return ", ".join([*told, *(f"{_name(tag)}::tag" for tag in TAGS[measurement] if with_tags)])


def _tags(measurement: str, tags: Mapping[str, str]) -> list[str]:
    known = TAGS[measurement]
    for name in tags:
        if name not in known:
            raise StoreError(f"tag {name!r} of {measurement}, expected one of {', '.join(known)}")
    return [f"{_name(name)} = {text(value)}" for name, value in tags.items()]


def _after(since_ns: int) -> str:
    return f"time >= {_bounded(since_ns)}"


def _bounded(time_ns: int) -> int:
    return min(max(time_ns, LEAST_NS), MOST_NS)


def _name(name: str) -> str:
    """A name of the contract or of the configuration, as an identifier."""
    return f'"{name}"'


def identifier(name: str) -> str:
    """Any text as an identifier."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def text(value: str) -> str:
    """Any text as a string literal."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
