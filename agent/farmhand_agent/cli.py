"""The command `farmhand-agent`: once, run, check, forget, join."""

import argparse
import faulthandler
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from farmhand_agent import card_check, config
from farmhand_agent.child import Pace
from farmhand_agent.command import FailedError, Parser, log_to_stderr, one_line, parser, run
from farmhand_agent.inventory import Inventory
from farmhand_agent.once import read_once
from farmhand_agent.publisher import Publisher
from farmhand_agent.reader import Message
from farmhand_agent.reading import Reading, parse_line
from farmhand_agent.settings import ConfigError
from farmhand_agent.sources import vendors
from farmhand_agent.sources.host import HostSource
from farmhand_agent.sources.kernel.log import open_log
from farmhand_agent.sources.kernel.nvrm import is_of_interest
from farmhand_agent.sources.kernel.record import NoLog, Position

ONCE_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is for `sys.exit`."""
    options = _parser().parse_args(arguments)
    return run("farmhand-agent", lambda: int(options.command(options)))


def _parser() -> Parser:
    made = parser("farmhand-agent", "Sample the cards of this node and ship what they say.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    shared = Parser(add_help=False)
    shared.add_argument("--config", type=Path, metavar="FILE", help="configuration (TOML)")

    once = commands.add_parser("once", parents=[shared], help="print one interval of readings")
    form = once.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON object")
    form.add_argument("--line-protocol", action="store_true", help="as they would be shipped")
    once.add_argument("--interval", type=float, default=ONCE_SECONDS, metavar="SECONDS")
    once.set_defaults(command=_once)

    service = commands.add_parser("run", parents=[shared], help="sample and ship until stopped")
    service.set_defaults(command=_run)
    check = commands.add_parser("check", parents=[shared], help="say what is wrong with the setup")
    check.add_argument(
        "--cards", action="store_true", help="also say what each card gives; takes a minute"
    )
    check.set_defaults(command=_check)

    forget = commands.add_parser(
        "forget", parents=[shared], help="expect a card no more that was taken out"
    )
    forget.add_argument("slots", nargs="+", metavar="SLOT", help="as the readings name it")
    forget.set_defaults(command=_forget)

    join = commands.add_parser(
        "join", help="join a farm by the line that `farmhand agents add` printed"
    )
    join.add_argument("--config", type=Path, metavar="FILE", help="configuration to write (TOML)")
    join.add_argument(
        "--replace", action="store_true", help="even if this node ships to another server"
    )
    join.add_argument("on_command_line", nargs="*", help=argparse.SUPPRESS)
    join.set_defaults(command=_join)
    return made


def _once(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    if not 0 < options.interval <= 600:
        raise ConfigError(f"--interval: {options.interval:g}, expected more than 0, at most 600")
    # Made before the cards are read: processor load is measured from here on.
    host = HostSource(Path(settings.state_dir))
    message = _read_cards(settings, options.interval)
    lines = _lines(settings, host, message)
    if options.line_protocol:
        print("\n".join(lines))
    elif options.json:
        print(msgspec.json.format(msgspec.json.encode(_object(lines, message))).decode())
    else:
        print(_text(lines, message))
    return 0


def _read_cards(settings: config.Config, interval_seconds: float) -> Message | None:
    if not settings.nvidia.enabled:
        return None
    return read_once("nvidia", _pace(settings, interval_seconds))


def _pace(settings: config.Config, interval_seconds: float) -> Pace:
    sample_seconds = min(settings.sample_seconds, interval_seconds)
    return Pace(interval_seconds, sample_seconds, Path(settings.sysfs))


def _lines(settings: config.Config, host: HostSource, message: Message | None) -> list[str]:
    lines: list[str] = []
    tags = {"site": settings.site, "rack": settings.rack, "host": settings.host}
    publisher = Publisher(tags, lines.extend)
    publisher.host(time.time_ns(), host.read())
    if message is not None:
        publisher.cards(message.time_ns, message.cards)
    return lines


def _object(lines: Sequence[str], message: Message | None) -> dict[str, Any]:
    readings = [parse_line(line) for line in lines]
    infos = {r.tags["slot"]: dict(r.fields) for r in readings if r.measurement == "card_info"}
    return {
        "schema": 1,
        "host": next(_reading(r) for r in readings if r.measurement == "host"),
        "cards": [
            _reading(r) | {"info": infos.get(r.tags["slot"], {})}
            for r in readings
            if r.measurement == "card"
        ],
        "note": _note(message),
    }


def _reading(reading: Reading) -> dict[str, Any]:
    return {**reading.tags, "time": reading.time_ns / 1e9, **reading.fields}


def _note(message: Message | None) -> str | None:
    if message is None:
        return "no card was looked for: nvidia.enabled is false"
    if message.nothing is not None:
        return f"no card was found: {message.nothing}"
    return None if message.cards else "no card was found: the driver lists none"


def _text(lines: Sequence[str], message: Message | None) -> str:
    out = []
    for reading in map(parse_line, lines):
        place = " ".join(reading.tags.get(key, "") for key in ("host", "slot", "model")).rstrip()
        out.append(f"{reading.measurement} {place}".rstrip())
        out += [f"  {name:<36} {_shown(value)}" for name, value in reading.fields.items()]
    note = _note(message)
    return "\n".join([*out, note] if note else out)


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value.is_integer() else f"{value:.10g}"


def _run(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    log_to_stderr()
    # A watchdog that aborts us leaves word of where we hung.
    faulthandler.enable()
    from farmhand_agent.service import Service

    Service(settings).run()
    return 0


def _check(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    state_dir = Path(settings.state_dir)
    try:
        existing = next(p for p in (state_dir, *state_dir.parents) if p.exists())
        trouble = None if existing.is_dir() else f"{existing} is not a directory"
    except OSError as error:
        trouble = f"{state_dir} cannot be reached: {error.strerror}"
    if trouble:
        raise ConfigError(f"{options.config or 'defaults'}: state_dir: {trouble}")
    print(f"configuration is good: {settings.host} ships to {settings.ship.url}")
    print(one_line(f"kernel log: {_kernel_log()}"))
    if options.cards:
        _check_cards(settings)
    return 0


def _kernel_log() -> str:
    """How the user who asks could read it; the service has a user of its own."""
    try:
        opened = open_log(Position(), is_of_interest)
    except NoLog as none:
        return f"cannot be read: {none}"
    opened.close()
    return f"is read as {opened.how}"


def _forget(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    path = Path(settings.state_dir) / "inventory.json"
    if not path.exists():
        raise FailedError(f"{path}: there is no such file: the agent has not seen a card yet")
    inventory = Inventory(path)
    known = [place.slot for vendor in vendors() for place in inventory.expected(vendor)]
    unknown = [slot for slot in options.slots if slot not in known]
    if unknown:
        told = f"{', '.join(unknown)}: no card is expected there, only in {', '.join(known)}"
        raise ConfigError(told)
    for place in inventory.forget(options.slots):
        print(one_line(f"forgotten: {place.slot} {place.model} {place.card}"))
    return 0


def _join(options: argparse.Namespace) -> int:
    from farmhand_agent import joining

    if options.on_command_line:
        raise ConfigError(
            "join: the line holds a secret, which all on this machine can read on a command line; "
            "run `farmhand-agent join` alone and paste it when asked, or pipe it in"
        )
    place = joining.Place((options.config or joining.USUAL_CONFIG).absolute())
    invitation = joining.parsed(_pasted())
    joining.check_place(place, invitation, replace=options.replace)
    authority = joining.authority(invitation)
    joining.try_out(invitation, authority)
    joined = joining.settle(place, invitation, authority, replace=options.replace)
    print("\n".join(map(one_line, joining.report(place, invitation, joined))))
    return 0


def _pasted() -> str:
    """A line from a pipe, or typed without being shown."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    import getpass

    return getpass.getpass("Paste the joining line (it is not shown): ")


def _check_cards(settings: config.Config) -> None:
    message = _read_cards(settings, ONCE_SECONDS)
    note = _note(message)
    if message is None or note is not None:
        print(note)
        return
    print(f"measuring idle power, {4 * card_check.MEASURED_SECONDS:g} s …", file=sys.stderr)
    idle = card_check.idle_power("nvidia", _pace(settings, card_check.MEASURED_SECONDS))
    print("\n".join(card_check.report(message, idle)))


if __name__ == "__main__":
    sys.exit(main())
