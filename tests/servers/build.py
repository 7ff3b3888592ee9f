"""InfluxDB servers of the versions that the tests run against, built from their published packages.

    make servers
    python -m tests.servers.build 2.9.1

A server that was built once lies in `~/.cache/farmhand-servers` (or `$FARMHAND_SERVERS`) and costs
nothing more. Building one takes minutes and needs go, cargo, gcc and pkg-config.
"""

import argparse
import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Recipe(NamedTuple):
    """How one server is built: its Go module, the sum of that, and what its build is told.

    The module's own go.sum vouches for everything that it needs in turn.
    """

    module: str
    version: str
    sum: str
    tags: str = ""


RECIPES = {
    recipe.version: recipe
    for recipe in (
        Recipe(
            module="github.com/influxdata/influxdb",
            version="1.12.4",
            sum="h1:vn/1rvFYkYpg9efRw79+PUPPnMX7HwyJV+hDIB9IrOQ=",
        ),
        Recipe(
            module="github.com/influxdata/influxdb/v2",
            version="2.9.1",
            sum="h1:lCCimWY/VpSmNyfOUm5WqKhZijlgJA8JHSD/+39XXuA=",
            tags="sqlite_foreign_keys,sqlite_json",
        ),
    )
}

TOOLS = ("go", "cargo", "gcc", "pkg-config")
OLDEST = {"go": (1, 25), "cargo": (1, 83)}
"""Version of a tool that the servers' own files ask for."""
TOOLCHAIN = {"RUSTUP_TOOLCHAIN": "stable"}
"""Any that is not too old will do; the query engine asks rustup for a certain one."""
PKG_CONFIG = "github.com/influxdata/pkg-config"
"""Stands in for pkg-config and has cargo build the query engine, which is written in Rust."""

GIB = 2**30
BUILD_BYTES = 3 * GIB
"""What a build takes in the cache folder while it lasts; 1.7 GiB were measured."""
GO_BUILDS_BYTES = 2 * GIB
GO_MODULES_BYTES = 3 * GIB
"""What Go keeps of both builds in its own caches."""
LOG_LINES = 20
"""Of a failed build's log that are told."""


class BuildFailed(Exception):
    """A server cannot be built here; the text says why."""


def binary(version: str) -> Path:
    """Path of the server of that version, which is built first when it is not there.

    Raises BuildFailed where that cannot be.
    """
    built = place(version)
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        with _lock(built.with_name("lock")):
            if not built.exists():
                _build(RECIPES[version], built)
    return built


def place(version: str) -> Path:
    """Where the server of that version lies once it is built."""
    default = Path.home() / ".cache" / "farmhand-servers"
    cache = Path(os.environ.get("FARMHAND_SERVERS") or default).absolute()
    return cache / f"influxd-{version}-{platform.system().lower()}-{platform.machine()}"


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Only one build at a time: each takes all processors, and they share their leftovers."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another build of a server is under way; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(recipe: Recipe, built: Path) -> None:
    """Build beside the place where the server is wanted, and move it there when it is whole."""
    began = time.monotonic()
    work = built.parent / "building"
    shutil.rmtree(work, ignore_errors=True)  # of a build that was killed
    work.mkdir()
    try:
        _check_tools()
        _check_space(built.parent)
        _say(f"building InfluxDB {recipe.version} for {built}; this takes minutes")
        made = _make(recipe, work, built.with_name(f"{built.name}.log"))
        made.rename(built)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    took = f"{time.monotonic() - began:.0f} s"
    _say(f"built InfluxDB {recipe.version}: {took}, {built.stat().st_size / 2**20:.0f} MiB")


def _make(recipe: Recipe, work: Path, log: Path) -> Path:
    """Build the server in the folder `work`. The log tells all, and goes when all went well."""
    log.write_bytes(b"")
    sources = _sources(recipe, log)
    wrapper, server = work / "influx-pkg-config", work / "influxd"
    environment = _environment(work, wrapper)
    build = ["go", "build", "-mod=readonly", "-trimpath"]
    _run([*build, "-o", str(wrapper), PKG_CONFIG], sources, environment, log)
    flags = f"-s -w -X main.version={recipe.version}"
    told = [f"-tags={recipe.tags}", f"-ldflags={flags}", "-o", str(server)]
    _run([*build, *told, "./cmd/influxd"], sources, environment, log)
    log.unlink()
    return server


def _sources(recipe: Recipe, log: Path) -> Path:
    """Folder in Go's module cache where the server's sources lie, checked against their sum."""
    module = f"{recipe.module}@v{recipe.version}"
    command = ["go", "mod", "download", "-json", module]
    found = json.loads(_run(command, log.parent, os.environ, log))
    if found["Sum"] != recipe.sum:
        raise BuildFailed(f"{module} is not what it was: sum {found['Sum']}, not {recipe.sum}")
    return Path(found["Dir"])


def _environment(work: Path, wrapper: Path) -> Mapping[str, str]:
    """What the build is told around its commands; all that it leaves behind is under `work`."""
    # The stand-in keeps sources and leftovers of the Rust build, half a GiB, in what it takes for
    # Go's cache. PKG_CONFIG keeps them out of there.
    pkg_config = _script(work / "pkg-config", f'GOCACHE="{work}/flux" exec "{wrapper}" "$@"')
    # The query engine denies warnings, and newer compilers know new ones.
    rustc = _script(work / "rustc", 'exec "$@" --cap-lints=warn')
    temporary = work / "tmp"
    temporary.mkdir()
    return (
        os.environ
        | TOOLCHAIN
        | {
            "CGO_ENABLED": "1",
            "GOWORK": "off",
            "PKG_CONFIG": str(pkg_config),
            "RUSTC_WRAPPER": str(rustc),
            "TMPDIR": str(temporary),
        }
    )


def _script(path: Path, line: str) -> Path:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> str:
    """What a command writes to its standard output; the rest goes to the log."""
    with log.open("ab") as file:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=file, check=False
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        raise BuildFailed(f"{' '.join(command[:3])} failed; {log} ends with\n{tail}")
    return done.stdout.decode()


def _check_tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise BuildFailed(f"InfluxDB cannot be built here, missing: {' '.join(missing)}")
    for tool, oldest in OLDEST.items():
        told = _output(tool, "version")
        found = re.search(r"(\d+)\.(\d+)", told)
        if found is None or (int(found[1]), int(found[2])) < oldest:
            needed = ".".join(map(str, oldest))
            raise BuildFailed(f"InfluxDB needs {tool} {needed} or newer, here is: {told}")


def _check_space(cache: Path) -> None:
    """Say how much space there is; refuse where a build would fill the disk."""
    builds, modules = map(Path, _output("go", "env", "GOCACHE", "GOMODCACHE").splitlines())
    places = {cache: BUILD_BYTES, builds: GO_BUILDS_BYTES, modules: GO_MODULES_BYTES}
    needed: Counter[int] = Counter()
    free: dict[int, int] = {}
    for place, size in places.items():
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        device = there.stat().st_dev
        needed[device] += size
        free[device] = shutil.disk_usage(there).free
    told = ", ".join(
        f"{size / GIB:.0f} GiB with {free[device] / GIB:.1f} GiB free"
        for device, size in needed.items()
    )
    if any(free[device] < size for device, size in needed.items()):
        raise BuildFailed(f"too little space: {cache} and Go's caches may take {told}")
    _say(f"{cache} and Go's caches may take {told}")


def _output(*command: str) -> str:
    """What a tool says in one line; what it complains of, when it fails."""
    done = subprocess.run(
        command, env=os.environ | TOOLCHAIN, capture_output=True, text=True, check=False
    )
    return (done.stdout if done.returncode == 0 else done.stderr).strip()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the servers that are named, or all; say in one line what stands in the way."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.build", description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=" or ".join(RECIPES))
    versions = parser.parse_args(arguments).versions or list(RECIPES)
    for version in versions:
        if version not in RECIPES:
            parser.error(f"no version {version!r}; there are {', '.join(RECIPES)}")
    try:
        for version in versions:
            _say(f"InfluxDB {version}: {binary(version)}")
    except BuildFailed as failed:
        _say(str(failed))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
