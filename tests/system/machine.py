"""A machine for the system tests: Debian under its own systemd, in a container of systemd-nspawn.

It has the kernel and the network of the machine that tests, and file system, processes, users,
control groups and journal of its own. Root rights are needed, and mmdebstrap for the first one.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.system.programs import wait_until

RELEASE = "bookworm"
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3.11")
"""What the agent's package expects of a machine, and a bus for systemd-run and systemd-analyze."""

BOOT_SECONDS = 60.0
COMMAND_SECONDS = 90.0
POWER_OFF_SECONDS = 60.0

_TOOLS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}


def what_is_missing() -> str:
    """What stands in the way of a machine here, or nothing."""
    if os.geteuid() != 0:
        return "a machine for tests needs root rights"
    packages = {package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    return f"missing tools: apt-get install {' '.join(sorted(packages))}" if packages else ""


def fresh_root(directory: Path) -> Path:
    """A new root file system in `directory`; the archive behind it is made once and kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "farmhand-tests"
    archive = cache / f"{RELEASE}-{time.strftime('%Y-%m', time.gmtime())}.tar"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = archive.with_suffix(f".{os.getpid()}.tar")
        include = f"--include={','.join(PACKAGES)}"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", include, RELEASE, str(made)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        made.replace(archive)
    root = directory / "root"
    root.mkdir()
    # An archive made as root has device nodes; the container gets its own.
    subprocess.run(["tar", "-xf", str(archive), "-C", str(root), "--exclude=./dev/*"], check=True)
    return root


class _ControlGroup:
    """A control group of its own in each hierarchy that systemd uses, so that it can be removed."""

    def __init__(self, name: str) -> None:
        self._directories = [mounted / name for mounted in _hierarchies()]
        for directory in self._directories:
            directory.mkdir()

    def joining(self) -> str:
        """Shell commands by which a shell joins it."""
        return "".join(f"echo $$ > {d / 'cgroup.procs'}; " for d in self._directories)

    def remove(self) -> None:
        """Remove it and what was made in it; nothing may run in it any more."""
        for top in self._directories:
            for directory, _, _ in os.walk(top, topdown=False):
                with suppress(FileNotFoundError):
                    Path(directory).rmdir()


def _hierarchies() -> list[Path]:
    """Mount points of the unified hierarchy and, where there is one, of systemd's own."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    found = [
        Path(point)
        for _, point, kind, options, *_ in mounts
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(","))
    ]
    assert found, "no control groups of version 2 are mounted"
    return found


class Machine:
    """A container that boots `root`; what is written below `root` is seen in it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.console = root.with_name("console.log")
        self._name = f"farmhand-{secrets.token_hex(4)}"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._group: _ControlGroup | None = None
        self._pid = 0

    @property
    def is_running(self) -> bool:
        """Whether it was booted and not ended."""
        return self._nspawn is not None and self._nspawn.poll() is None

    def boot(self) -> None:
        """Start it and wait until systemd has started all it should."""
        self._group = _ControlGroup(self._name)
        # The machine ends with the tests, however they end.
        start = self._group.joining() + 'exec setpriv --pdeathsig TERM "$@"'
        with self.console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                ["sh", "-c", start, "sh", *self._command()],
                env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        wait_until(self._has_started, BOOT_SECONDS, "systemd starts in the container")
        self.run("systemctl", "is-system-running", "--wait", check=False)

    def _command(self) -> list[str]:
        command = [
            "systemd-nspawn",
            "--quiet",
            "--boot",
            f"--directory={self.root}",
            f"--machine={self._name}",
            "--settings=no",
            "--register=no",
            "--console=pipe",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            # What a machine has and a container does not: the kernel's log, and the filter of
            # devices that systemd makes of DevicePolicy.
            "--bind=/dev/kmsg",
            "--capability=CAP_SYSLOG,CAP_BPF,CAP_SYS_RESOURCE",
            "--system-call-filter=bpf",
        ]
        # Without systemd there is nobody who could be asked for a scope.
        return command if Path("/run/systemd/system").exists() else [*command, "--keep-unit"]

    def _has_started(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self.console.read_text(errors="replace")[-2000:]
        inside = [
            child.pid
            for child in psutil.Process(self._nspawn.pid).children()
            if child.name() == "systemd"
        ]
        if not inside:
            return False
        self._pid = inside[0]
        asked = self.run("systemctl", "show", "--property=Version", check=False)
        return asked.startswith("Version=")

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in it as root; its output.

        Raises:
            AssertionError: it failed, and `check` is set.
        """
        assert self._pid, "the machine is not booted"
        done = subprocess.run(
            ["nsenter", f"--target={self._pid}", "--all", "--", *command],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def property(self, unit: str, name: str) -> str:
        """A property of a unit, as systemd tells it."""
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        """Write a file into it."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
        file.chmod(mode)

    def power_off(self) -> None:
        """Shut it down as its keeper would, and wait for the end."""
        self.run("systemctl", "poweroff", check=False)
        assert self._nspawn is not None
        self._nspawn.wait(POWER_OFF_SECONDS)
        self._clear()

    def destroy(self) -> None:
        """End it at once, whatever it does."""
        if self._nspawn is not None:
            if self._pid:
                # The first process of a namespace takes all others with it.
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(10)
            self._nspawn.kill()
            self._nspawn.wait()
        self._clear()

    def _clear(self) -> None:
        self._nspawn, self._pid = None, 0
        shutil.rmtree(f"/run/systemd/nspawn/propagate/{self._name}", ignore_errors=True)
        if self._group is not None:
            self._group.remove()
            self._group = None


@contextmanager
def machine(directory: Path) -> Iterator[Machine]:
    """A machine that is not booted yet; it is gone after the block."""
    made = Machine(fresh_root(directory))
    try:
        yield made
    finally:
        made.destroy()
        shutil.rmtree(made.root)


@contextmanager
def _logging_packets(table: str, port: int, text: str) -> Iterator[None]:
    rules = f"""
        table ip {table} {{
            chain out {{
                type filter hook output priority 0; policy accept
                ip daddr 127.0.0.1 udp dport {port} log prefix "{text} " level err
            }}
        }}
    """
    subprocess.run(["nft", "--file", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "ip", table], check=True)


def kernel_says(text: str) -> None:
    """Put a message into the kernel's log as the kernel's own.

    Nobody can write there under the kernel's name, root neither. The packet filter can: it logs a
    packet under a prefix that root chose, followed by what the packet was.
    """
    assert re.fullmatch(r"[^\"\\\n]{1,120}", text), f"{text!r} is no prefix of a packet"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        port: int = receiver.getsockname()[1]
        with _logging_packets(f"farmhand_{secrets.token_hex(4)}", port, text):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"x", ("127.0.0.1", port))
            receiver.settimeout(5)
            receiver.recv(1)


def unpack(package: Path, directory: Path) -> Path:
    """The content of a Debian package, for a test to change."""
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(directory)], check=True)
    return directory


def pack(directory: Path, package: Path) -> Path:
    """A Debian package of a directory as `unpack` gives it."""
    command: Sequence[str] = ["dpkg-deb", "--root-owner-group", "-Znone", "--build"]
    subprocess.run([*command, str(directory), str(package)], check=True, capture_output=True)
    return package
