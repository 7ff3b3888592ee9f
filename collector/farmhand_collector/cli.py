"""The command `farmhand-collector`: init, run, check, judge, export, simulate."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from farmhand_agent.command import FailedError, Parser, log_to_stderr, one_line, parser, run
from farmhand_agent.settings import ConfigError, check_url, in_range, read_secret
from farmhand_collector import config
from farmhand_collector.backup import add_backup_commands
from farmhand_collector.nagios import exit_status
from farmhand_collector.wire import FarmState


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is for `sys.exit`."""
    options = _parser().parse_args(arguments)
    return run("farmhand-collector", lambda: int(options.command(options)))


def _parser() -> Parser:
    made = parser("farmhand-collector", "Keep readings, judge cards, answer the terminal.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    shared = Parser(add_help=False)
    shared.add_argument("--config", type=Path, metavar="FILE", help="configuration (TOML)")

    init = commands.add_parser(
        "init",
        parents=[shared],
        help="make tokens and certificates, for a farm of several machines",
    )
    init.add_argument(
        "--token",
        choices=("read", "write", "admin"),
        action="append",
        default=[],
        dest="more",
        help="make one more token; one to write is bound to no node",
    )
    init.add_argument("--list", action="store_true", help="show the tokens that are no node's")
    init.add_argument("--end", action="append", default=[], metavar="ID", help="end a token")
    init.set_defaults(command=_init)
    service = commands.add_parser("run", parents=[shared], help="serve until stopped")
    service.add_argument("--fd", type=int, metavar="N", help="listening socket passed as N")
    service.set_defaults(command=_run)
    check = commands.add_parser("check", parents=[shared], help="say what is wrong with the setup")
    check.set_defaults(command=_check)

    judge = commands.add_parser("judge", help="judge recorded line protocol; needs no server")
    judge.add_argument("files", nargs="+", type=Path, metavar="FILE")
    judge.add_argument(
        "--boards", type=Path, metavar="CSV", help="what boards share: card, batch, power_group"
    )
    judge.add_argument("--lang", default="en", help="language of the findings: en, zh or ko")
    form = judge.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON object")
    form.add_argument("--changes", action="store_true", help="each change of verdict, a line each")
    judge.set_defaults(command=_judge)

    add_backup_commands(commands, shared, config.load_unguarded)
    migrate = commands.add_parser(
        "migrate", parents=[shared], help="bring the embedded store's readings to InfluxDB"
    )
    migrate.set_defaults(command=_migrate)

    export = commands.add_parser(
        "export", parents=[shared], help="print all readings as line protocol, as they arrived"
    )
    export.set_defaults(command=_export)

    simulate = commands.add_parser("simulate", help="post a simulated farm to a collector")
    simulate.add_argument("--cards", type=int, default=64, metavar="N")
    simulate.add_argument("--seed", type=int, default=0)
    simulate.add_argument(
        "--faults", default="some", help="none, some, all, or kinds with commas between"
    )
    simulate.add_argument(
        "--harmless", default="none", help="what only looks like a fault: none, some, all, or kinds"
    )
    simulate.add_argument("--url", default="http://127.0.0.1:8428")
    simulate.add_argument("--token-file", type=Path, metavar="FILE")
    simulate.add_argument("--history", type=float, default=3600.0, metavar="SECONDS")
    simulate.add_argument("--start", type=float, metavar="TIME", help="begin of the history")
    simulate.set_defaults(command=_simulate)
    return made


def _init(options: argparse.Namespace) -> int:
    from farmhand_collector import joining

    settings = config.load_unguarded(options.config or joining.usual_config())
    if options.list:
        told = joining.shared_tokens(settings)
    elif options.end:
        told = joining.end_tokens(settings, options.end)
    else:
        told = joining.told_of(settings, joining.set_up(settings, more=options.more))
        told = [*told, *_prepared(settings)]
    print("\n".join(map(one_line, told)))
    return 0


def _prepared(settings: config.Config) -> list[str]:
    """What was made on a server that keeps the readings, or what the keeper must type there."""
    if settings.store.kind != "influxdb":
        return []
    from farmhand_collector.store.base import StoreError
    from farmhand_collector.store.choice import places
    from farmhand_collector.store.influx_setup import prepare, probe

    keep, server = settings.keep, places(settings.store.influxdb)
    try:
        found = probe(server[0])
        prepared = [
            prepare(*each) for each in zip(server, (keep.days, keep.kept_days), strict=True)
        ]
    except StoreError as error:
        raise FailedError(str(error)) from None
    name = f"InfluxDB {found.version}" if found.generation else "a server"
    told = [f"{settings.store.influxdb.url}: {name}{found.note and f' ({found.note})'}"]
    told += [line for one in prepared for line in one.done]
    by_hand = [line for one in prepared for line in one.to_type]
    return [*told, *(["The token may not make this; please type:"] if by_hand else []), *by_hand]


def _run(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    log_to_stderr()
    from farmhand_collector import service

    service.run(settings, options.fd)
    return 0


def _check(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    data_dir = Path(settings.data_dir)
    existing = next(p for p in (data_dir, *data_dir.parents) if p.exists())
    if not existing.is_dir():
        raise ConfigError(
            f"{options.config or 'defaults'}: data_dir: {existing} is not a directory"
        )
    if config.speaks_tls(settings):
        _check_certificates(data_dir)
    way = "https" if config.speaks_tls(settings) else "http"
    where = f"{settings.listen.address}:{settings.listen.port}"
    print(f"configuration is good: listens on {where}, {way}")
    return 0


def _check_certificates(data_dir: Path) -> None:
    from farmhand_collector import certificates

    certificates.read_authority(certificates.Folder(data_dir))


def _judge(options: argparse.Namespace) -> int:
    from farmhand_collector.boards.table import read_groups
    from farmhand_collector.catalogue.words import UnknownLanguage, known_language
    from farmhand_collector.facts import catalogue_facts
    from farmhand_collector.replay import judge_files
    from farmhand_collector.translation import in_language

    try:
        language = known_language(options.lang)
    except UnknownLanguage as error:
        raise ConfigError(f"--lang: {error}") from None
    groups = read_groups(options.boards) if options.boards else {}
    facts = replace(catalogue_facts(), groups=groups)
    state, changes, left_out = judge_files(options.files, facts)
    for left in left_out:
        print(f"farmhand-collector: {one_line(str(left))}", file=sys.stderr)
    if options.changes:
        for change in changes:
            print(msgspec.json.encode(change._asdict()).decode())
    elif options.json:
        print(msgspec.json.encode(in_language(state, language)).decode())
    else:
        print(_summary(in_language(state, language)))
    return exit_status(state)


def _summary(state: FarmState) -> str:
    lines = [
        f"{card.state:<9} {card.host} {card.slot} {card.model}: "
        + (card.evidence[0].text if card.evidence else "nothing is missing")
        for card in state.cards
    ]
    found = [f"{f.state:<9} {f.scope} {f.name}: {f.evidence[0].text}" for f in state.findings]
    sums = [f"the farm {state.capacity.text}"] if state.capacity else []
    return "\n".join(map(one_line, [*sums, *found, *lines])) or "no card in these readings"


def _migrate(options: argparse.Namespace) -> int:
    settings = config.load_unguarded(options.config)
    from farmhand_collector import migrating

    return migrating.run(settings, str(options.config or "defaults"))


def _export(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    from farmhand_collector.store.base import export
    from farmhand_collector.store.reader import EmbeddedReader

    directory = Path(settings.data_dir) / "readings"
    if not directory.is_dir():
        raise ConfigError(f"{options.config or 'defaults'}: data_dir: no readings in {directory}")
    store = EmbeddedReader(directory)
    try:
        for line in export(store):
            print(line)
    finally:
        store.close()
    return 0


def _simulate(options: argparse.Namespace) -> int:
    check_url(options.url, "--url")
    in_range(options.cards, "--cards", 1, 100_000)
    in_range(options.seed, "--seed", 0, 2**63 - 1)
    in_range(options.history, "--history", 0, 604_800)
    token = read_secret(options.token_file, "--token-file") if options.token_file else None
    log_to_stderr()
    from farmhand_collector import simulator

    for name, check in (("faults", simulator.check_faults), ("harmless", simulator.check_harmless)):
        try:
            check(getattr(options, name))
        except ValueError as error:
            raise ConfigError(f"--{name}: {error}") from None
    simulator.run(
        options.cards,
        options.seed,
        options.faults,
        options.url,
        token or "",
        options.history,
        start=options.start,
        harmless=options.harmless,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
