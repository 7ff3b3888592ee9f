"""Making a database for readings on an InfluxDB server, or saying what to type to make it."""

import json
from typing import Any, NamedTuple
from urllib.parse import quote

from farmhand_collector.store.base import StoreError
from farmhand_collector.store.influx_http import Server, Where
from farmhand_collector.store.influxql import identifier

_DAY_SECONDS = 86_400
_USUAL_POLICY = "autogen"
_TRIED = ("1.12", "2.9")
"""Versions that the tests run against."""


class Found(NamedTuple):
    """What answers at an address.

    `generation` is 1, 2 or 3, 0 for something that is no InfluxDB. `note` is empty, or says why it
    may not do.
    """

    generation: int
    version: str
    note: str


class Prepared(NamedTuple):
    """What was done, a line each; or what the keeper must type, because the token may not do it."""

    done: tuple[str, ...]
    to_type: tuple[str, ...] = ()


def probe(where: Where) -> Found:
    """Ask what answers at an address.

    Raises:
        StoreError: nothing does.
    """
    version = Server(where).version()
    first = version.partition(".")[0]
    generation = int(first) if first in ("1", "2", "3") else 0
    if generation == 0:
        return Found(0, version, "does not say that it is InfluxDB; it must answer InfluxQL")
    if not version.startswith(_TRIED):
        return Found(generation, version, f"not tried; known to work: {', '.join(_TRIED)}")
    return Found(generation, version, "")


def prepare(where: Where, retention_days: int) -> Prepared:
    """Make the database, its retention and what InfluxQL needs, where they are missing.

    Raises:
        StoreError: the server does not answer, or answers what nobody expects.
    """
    found = probe(where)
    server = Server(where)
    try:
        if found.generation == 1:
            return _database(server, where, retention_days)
        if found.generation == 2:
            return _bucket(server, where, retention_days)
    finally:
        server.close()
    return Prepared((), (f"create a database {where.database!r} that keeps {retention_days} days",))


# --- 1.x


def _database(server: Server, where: Where, retention_days: int) -> Prepared:
    name, _, policy = where.database.partition("/")
    database, kept = identifier(name), f"DURATION {retention_days}d REPLICATION 1"
    policies = _policies(server, database)
    if policies is None:
        named = "" if policy else f" WITH {kept} NAME {identifier(_USUAL_POLICY)}"
        made = _ran(server, f"CREATE DATABASE {database}{named}", f"made database {name}")
        if not policy or made.to_type:
            return made
        policies = {}
    told = f"policy {policy or _USUAL_POLICY} of database {name}"
    if policies.get(policy or _USUAL_POLICY) == retention_days * _DAY_SECONDS:
        return Prepared((f"{told} is there and keeps {retention_days} days",))
    verb = "ALTER" if (policy or _USUAL_POLICY) in policies else "CREATE"
    # Whoever names no policy writes to the default one: that of readings as they come.
    ending = "" if policy else " DEFAULT"
    on = f"{identifier(policy or _USUAL_POLICY)} ON {database}"
    change = f"{verb} RETENTION POLICY {on} {kept}{ending}"
    return _ran(server, change, f"{told} keeps {retention_days} days now")


def _policies(server: Server, database: str) -> dict[str, int] | None:
    """Seconds kept by each retention policy, 0 for ever; None where there is no such database."""
    answer = json.loads(
        server.query([f"SHOW RETENTION POLICIES ON {database}"], "application/json")
    )
    result = answer["results"][0]
    if "not found" in result.get("error", ""):
        return None
    if "error" in result:
        raise StoreError(f"InfluxDB: {result['error']}")
    (series,) = result["series"]
    name, duration = series["columns"].index("name"), series["columns"].index("duration")
    return {row[name]: _seconds(row[duration]) for row in series["values"]}


def _seconds(duration: str) -> int:
    """Seconds of a duration such as `720h0m0s`."""
    hours, _, rest = duration.rpartition("h") if "h" in duration else ("0", "", duration)
    minutes, _, seconds = rest.rpartition("m") if "m" in rest else ("0", "", rest)
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(float(seconds.rstrip("s") or 0))


def _ran(server: Server, statement: str, done: str) -> Prepared:
    try:
        answer = json.loads(server.query([statement], "application/json"))
    except StoreError as error:
        if not _is_forbidden(error):
            raise
        return Prepared((), (f"influx -execute '{statement}'",))
    result = answer["results"][0]
    if "error" in result:
        return Prepared((), (f"influx -execute '{statement}'",))
    return Prepared((done,))


# --- 2.x


def _bucket(server: Server, where: Where, retention_days: int) -> Prepared:
    seconds = retention_days * _DAY_SECONDS
    by_hand = (
        f"influx bucket create --org {where.org} --name {where.database} "
        f"--retention {retention_days}d"
    )
    try:
        bucket = _known_bucket(server, where)
        if bucket is None:
            bucket = server.call("POST", "/api/v2/buckets", _wanted(server, where, seconds))
            done = [f"made bucket {where.database} that keeps {retention_days} days"]
        elif _kept_seconds(bucket) != seconds:
            rules = {"retentionRules": [{"type": "expire", "everySeconds": seconds}]}
            server.call("PATCH", f"/api/v2/buckets/{bucket['id']}", rules)
            done = [f"bucket {where.database} keeps {retention_days} days now"]
        else:
            done = [f"bucket {where.database} is there and keeps {retention_days} days"]
        return Prepared((*done, *_mapped(server, where, bucket)))
    except StoreError as error:
        if not _is_forbidden(error):
            raise
        return Prepared((), (by_hand,))


def _known_bucket(server: Server, where: Where) -> Any:
    try:
        found = server.call("GET", f"/api/v2/buckets?name={_quoted(where.database)}")
    except StoreError as error:
        if "not found" in str(error):
            return None
        raise
    return next(iter(found["buckets"]), None)


def _wanted(server: Server, where: Where, seconds: int) -> dict[str, Any]:
    orgs = server.call("GET", f"/api/v2/orgs?org={_quoted(where.org)}")["orgs"]
    rules = [{"type": "expire", "everySeconds": seconds}]
    return {"orgID": orgs[0]["id"], "name": where.database, "retentionRules": rules}


def _mapped(server: Server, where: Where, bucket: Any) -> list[str]:
    """A mapping for InfluxQL, where the server has not made one of its own accord."""
    name, _, policy = where.database.partition("/")
    policy = policy or "autogen"
    asked = f"/api/v2/dbrps?orgID={bucket['orgID']}&db={_quoted(name)}&rp={_quoted(policy)}"
    if server.call("GET", asked).get("content"):
        return []
    mapping = {
        "bucketID": bucket["id"],
        "orgID": bucket["orgID"],
        "database": name,
        "retention_policy": policy,
        "default": policy == "autogen",
    }
    server.call("POST", "/api/v2/dbrps", mapping)
    return [f"mapped database {name} to the bucket, for InfluxQL"]


def _kept_seconds(bucket: Any) -> int:
    return next((int(rule["everySeconds"]) for rule in bucket.get("retentionRules", [])), 0)


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _is_forbidden(error: StoreError) -> bool:
    return any(f"answers {status}" in str(error) for status in (401, 403))
