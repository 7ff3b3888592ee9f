"""Whether the packages are those that farmhand is tried with, the HTTP server above all."""

import re
from importlib import metadata

from farmhand_collector.examination import CannotTell, Check, Level, Result, Setup, listed

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_BOUND = re.compile(r"(>=|<=|==|<|>)\s*([0-9.]+)")


def _examine(setup: Setup) -> Result:
    del setup
    try:
        requirements = metadata.requires("farmhand") or []
    except metadata.PackageNotFoundError:
        raise CannotTell("farmhand is not installed as a package") from None
    wrong = [told for requirement in requirements if (told := _wrong(requirement))]
    if wrong:
        remedy = "Install again: pip install --require-hashes -r requirements.lock."
        return Result(Level.BAD, listed(wrong), remedy)
    return Result(Level.OK, f"uvicorn {metadata.version('uvicorn')} and all others as required")


def _wrong(requirement: str) -> str:
    """What is wrong with an installed package; one that is not installed may not be needed."""
    named = _NAME.match(requirement)
    assert named is not None
    try:
        version = metadata.version(named[0])
    except metadata.PackageNotFoundError:
        return ""
    bounds = _BOUND.findall(requirement.partition(";")[0])
    if all(_holds(version, sign, bound) for sign, bound in bounds):
        return ""
    return f"{named[0]} {version}, expected {','.join(sign + bound for sign, bound in bounds)}"


def _holds(version: str, sign: str, bound: str) -> bool:
    ours, theirs = _numbers(version), _numbers(bound)
    length = max(len(ours), len(theirs))
    ours, theirs = (part + (0,) * (length - len(part)) for part in (ours, theirs))
    return {
        ">=": ours >= theirs,
        "<=": ours <= theirs,
        "==": ours == theirs,
        "<": ours < theirs,
        ">": ours > theirs,
    }[sign]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


CHECK = Check("packages", "Versions of packages", _examine)
