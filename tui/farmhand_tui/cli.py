"""The command `farmhand`; Textual is imported only where it is shown."""

import argparse
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from farmhand_agent.command import Parser, parser, run
from farmhand_agent.settings import ConfigError, in_range
from farmhand_collector import nagios
from farmhand_collector.wire import CAPACITY_SCOPES, FarmState
from farmhand_tui import config, up
from farmhand_tui.client import Client, ClientError
from farmhand_tui.farm import COLUMNS
from farmhand_tui.filter import Filter, FilterError
from farmhand_tui.tables import capacity_text, cards_text, status_text, what_if_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is for `sys.exit`."""
    options = _parser().parse_args(arguments)
    return run("farmhand", lambda: _told(options))


def _told(options: argparse.Namespace) -> int:
    """Run a command; a collector that cannot be asked is one line and `could not judge`."""
    try:
        return int(options.command(options))
    except (ClientError, up.ProcessEndedError) as error:
        print(f"farmhand: {error}", file=sys.stderr)
        return nagios.UNKNOWN


def _parser() -> Parser:
    made = parser("farmhand", "Which boards do not give what they should, why, and what to do.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    shared = Parser(add_help=False)
    shared.add_argument("--config", type=Path, metavar="FILE", help="where the collector is (TOML)")
    as_json = Parser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="as one JSON object")
    _add_up(commands, as_json)
    ui = commands.add_parser("ui", parents=[shared], help="the terminal UI on a running collector")
    ui.set_defaults(command=_ui)
    status = commands.add_parser("status", parents=[shared, as_json], help="what is wrong now")
    status.set_defaults(command=_status)
    cards = commands.add_parser("cards", parents=[shared, as_json], help="every card and its state")
    cards.add_argument("--where", default="", metavar="FILTER", help="as typed after / in the UI")
    cards.set_defaults(command=_cards)
    capacity = commands.add_parser(
        "capacity", parents=[shared, as_json], help="what is delivered of what is expected"
    )
    capacity.add_argument("--by", choices=CAPACITY_SCOPES, default="farm", help="added up by")
    capacity.set_defaults(command=_capacity)
    what_if = commands.add_parser(
        "what-if", parents=[shared, as_json], help="what repairs would bring back"
    )
    what_if.add_argument("cards", nargs="*", metavar="CARD", help="key of a card to repair")
    what_if.add_argument("--gang", default="", metavar="NAME", help="and how fast a gang would be")
    what_if.set_defaults(command=_what_if)
    _add_agents(commands)
    _add_doctor(commands, as_json)
    return made


def _add_up(
    commands: "argparse._SubParsersAction[Parser]",
    as_json: Parser,
) -> None:
    made = commands.add_parser("up", parents=[as_json], help="all of it on this machine")
    made.add_argument("--simulate", type=int, metavar="N", help="a simulated farm of N cards")
    made.add_argument(
        "--faults", default="some", help="none, some, all, or kinds with commas between"
    )
    made.add_argument("--seed", type=int, help="of the simulation; drawn when not given")
    made.add_argument(
        "--history",
        type=float,
        default=up.DEFAULT_HISTORY_SECONDS,
        metavar="SECONDS",
        help="simulated past to begin with",
    )
    made.add_argument("--headless", action="store_true", help="no UI; print the state at the end")
    made.add_argument("--for", type=float, dest="seconds", metavar="SECONDS", help="then end")
    made.set_defaults(command=_up)


def _add_agents(
    commands: "argparse._SubParsersAction[Parser]",
) -> None:
    made = commands.add_parser("agents", help="let nodes join, on the collector's machine")
    asked = made.add_subparsers(required=True, metavar="COMMAND")
    shared = Parser(add_help=False)
    shared.add_argument(
        "--config", type=Path, metavar="FILE", help="the collector's configuration (TOML)"
    )
    host = Parser(add_help=False)
    host.add_argument("host", metavar="HOST", help="name of the node, unique in the farm")
    line = Parser(add_help=False)
    line.add_argument("--rack", default="", help="rack or shelf that it stands in")
    line.add_argument("--site", default="", help="farm; the collector's own by default")
    line.add_argument("--url", default="", help="where this node reaches the collector")
    for name, parents, command, text in (
        ("add", [shared, host, line], _agents_add, "print the line by which a node joins"),
        ("rotate", [shared, host, line], _agents_rotate, "print a line with a new token"),
        ("drop-old", [shared, host], _agents_drop_old, "end the token that a new one replaces"),
        ("revoke", [shared, host], _agents_revoke, "end all tokens of a node"),
        ("list", [shared], _agents_list, "the tokens of all nodes, and when they were used"),
    ):
        each = asked.add_parser(name, parents=parents, help=text)
        each.set_defaults(command=command)
        if name == "add":
            each.add_argument("--note", default="", help="for the list")
        elif name == "drop-old":
            each.add_argument("--force", action="store_true", help="even if the new one is unused")
        elif name == "list":
            each.add_argument("--json", action="store_true", help="as one JSON object")


def _add_doctor(
    commands: "argparse._SubParsersAction[Parser]",
    as_json: Parser,
) -> None:
    made = commands.add_parser("doctor", parents=[as_json], help="what is wrong with farmhand")
    made.add_argument(
        "--config", type=Path, metavar="FILE", help="the collector's configuration (TOML)"
    )
    made.add_argument("--url", help="where the collector answers, when not as configured")
    made.add_argument("--token-file", metavar="FILE", help="the read token, when not as configured")
    made.add_argument("--bundle", metavar="FILE", help="write a support bundle (.tar.gz) too")
    made.add_argument("--with-names", action="store_true", help="with names of hosts and cards")
    made.set_defaults(command=_doctor)


# --- up ---


def _up(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _exit_on_signal)
    signal.signal(signal.SIGHUP, _exit_on_signal)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal and not options.headless and (running := up.registered()):
        print("attaching to the farm that runs already", file=sys.stderr)
        return _show(running.url, running.token)
    simulation = _simulation(options)
    with up.farm(simulation) as farm:
        if options.headless:
            return _headless(farm, options)
        if terminal:
            with up.register(farm.running):
                return _attached(farm)
        return _text(farm, options)


def _exit_on_signal(number: int, frame: object) -> None:
    """End as ctrl+c does, so that the processes are ended too."""
    del frame
    raise SystemExit(128 + number)


def _simulation(options: argparse.Namespace) -> up.Simulation | None:
    if options.seconds is not None:
        in_range(options.seconds, "--for", 1, 10**9)
    cards = options.simulate
    if cards is None:
        missing = up.missing_cards()
        if missing is None:
            return None
        print(f"no card here ({missing}): showing a simulated farm", file=sys.stderr)
        cards = up.DEFAULT_CARDS
    seed = random.randrange(2**31) if options.seed is None else options.seed
    simulation = up.Simulation(cards, seed, options.faults, options.history)
    up.check_simulation(simulation)
    return simulation


def _attached(farm: up.Farm) -> int:
    if not up.wait_for(farm, _answers, up.START_SECONDS):
        raise up.ProcessEndedError(f"the collector did not answer in {up.START_SECONDS:g} s")
    return _show(farm.url, farm.running.token)


def _answers(client: Client) -> bool:
    client.snapshot(["key"])
    return True


def _show(url: str, token: str | None, ca_file: str | None = None) -> int:
    from farmhand_tui import app

    app.run(url, token, ca_file)
    return 0


def _headless(farm: up.Farm, options: argparse.Namespace) -> int:
    """Run for the time asked, or until stopped, then print the state."""
    end = None if options.seconds is None else time.monotonic() + options.seconds
    try:
        while end is None or time.monotonic() < end:
            farm.check()
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    return _print_state(farm.status(), as_json=options.json)


def _text(farm: up.Farm, options: argparse.Namespace) -> int:
    """Print the state once it is judged: there is no terminal to show it on."""
    seconds = options.seconds or up.FIRST_STATE_SECONDS
    judged = up.wait_for(farm, farm.has_state, seconds)
    _print_state(farm.status(), as_json=options.json)
    return nagios.OK if judged else nagios.UNKNOWN


# --- questions to a collector ---


def _collector(options: argparse.Namespace) -> tuple[str, str | None, str | None]:
    """URL, token and authority of the collector: the one named, a running `up`, or the usual."""
    if options.config is None and (running := up.registered()):
        return running.url, running.token, None
    settings = config.load(options.config)
    return settings.url, config.token(settings), settings.ca_file


def _client(options: argparse.Namespace) -> Client:
    return Client(*_collector(options))


def _ui(options: argparse.Namespace) -> int:
    return _show(*_collector(options))


def _status(options: argparse.Namespace) -> int:
    with closing(_client(options)) as client:
        return _print_state(client.status(), as_json=options.json)


STALE_SECONDS = 300.0
"""Older verdicts say nothing of the farm as it is now: a frame takes less than a minute."""


def _print_state(state: FarmState, *, as_json: bool) -> int:
    print(msgspec.json.encode(state).decode() if as_json else status_text(state), end="")
    if as_json:
        print()
    return _exit_status(state)


def _exit_status(state: FarmState) -> int:
    if state.time is not None and time.time() - state.time > STALE_SECONDS:
        minutes = (time.time() - state.time) / 60
        print(f"farmhand: the last verdicts are {minutes:.0f} min old", file=sys.stderr)
        return nagios.UNKNOWN
    return nagios.exit_status(state)


def _cards(options: argparse.Namespace) -> int:
    try:
        wanted = Filter.parse(options.where)
    except FilterError as error:
        raise ConfigError(f"--where: {error}") from None
    with closing(_client(options)) as client:
        state = _chosen(client, wanted)
    print(msgspec.json.encode(state).decode() if options.json else cards_text(state))
    return nagios.exit_status(state)


def _chosen(client: Client, wanted: Filter) -> FarmState:
    """The farm's state with the cards that match only, and what is found about them."""
    state = client.status()
    if not wanted:
        return state
    columns = client.snapshot(COLUMNS).columns
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    matching = [row for row in rows if wanted.matches(row)]
    places = {(row["site"], row["host"], row["slot"], row["card"]) for row in matching}
    keys = {row["key"] for row in matching}
    cards = [c for c in state.cards if (c.site, c.host, c.slot, c.card) in places]
    findings = [found for found in state.findings if keys.intersection(found.cards)]
    return msgspec.structs.replace(state, cards=cards, findings=findings, capacity=None)


def _capacity(options: argparse.Namespace) -> int:
    with closing(_client(options)) as client:
        state, rows = client.status(), client.capacity(options.by)
    if options.json:
        told = {"schema": state.schema, "simulated": state.simulated, "time": state.time}
        print(msgspec.json.encode({**told, "by": options.by, "rows": rows}).decode())
    else:
        print(capacity_text(state, options.by, rows), end="")
    return _exit_status(state)


def _what_if(options: argparse.Namespace) -> int:
    if not options.cards and not options.gang:
        raise ConfigError("what-if: a CARD or --gang NAME is expected")
    with closing(_client(options)) as client:
        simulated = client.snapshot(["key"]).simulated
        answer = client.what_if(options.cards, options.gang)
    if options.json:
        print(msgspec.json.encode(answer).decode())
    else:
        print(what_if_text(answer, simulated), end="")
    is_told = answer.gang is not None and answer.gang.now is not None
    return nagios.OK if is_told or len(answer.unjudged) < len(answer.cards) else nagios.UNKNOWN


# --- agents ---


def _agents_add(options: argparse.Namespace) -> int:
    from farmhand_collector import joining

    keeper = joining.keeper(options.config)
    line = keeper.add(options.host, options.rack, options.site, options.url, options.note)
    print(joining.as_command(line))
    return nagios.OK


def _agents_rotate(options: argparse.Namespace) -> int:
    from farmhand_collector import joining

    keeper = joining.keeper(options.config)
    line = keeper.rotate(options.host, options.rack, options.site, options.url)
    print(joining.as_command(line))
    return nagios.OK


def _agents_drop_old(options: argparse.Namespace) -> int:
    from farmhand_collector import joining

    for token in joining.keeper(options.config).drop_old(options.host, force=options.force):
        print(f"ended: {token.name}")
    return nagios.OK


def _agents_revoke(options: argparse.Namespace) -> int:
    from farmhand_collector import joining

    for token in joining.keeper(options.config).revoke(options.host):
        print(f"ended: {token.name}")
    return nagios.OK


def _agents_list(options: argparse.Namespace) -> int:
    from farmhand_collector import joining

    agents = joining.keeper(options.config).agents()
    if options.json:
        told = {"schema": 1, "agents": [agent._asdict() for agent in agents]}
        print(msgspec.json.encode(told).decode())
    else:
        print(joining.agents_text(agents))
    return nagios.OK


# --- doctor ---


def _doctor(options: argparse.Namespace) -> int:
    """Start the collector's doctor, which looks into its files; the terminal does not."""
    from farmhand_tui import doctor

    return doctor.run(options)


if __name__ == "__main__":
    sys.exit(main())
