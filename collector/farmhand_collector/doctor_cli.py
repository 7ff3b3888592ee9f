"""The doctor's command line: `farmhand doctor` starts it, on the collector's machine."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from farmhand_agent.command import one_line, parser, run
from farmhand_agent.settings import check_url, optional_secret
from farmhand_collector import support_bundle
from farmhand_collector.doctor import all_checks
from farmhand_collector.examination import Report, Setup, Told, examined, exit_status, loaded

USUAL_CONFIG = Path("/etc/farmhand/collector.toml")


def add_options(made: argparse.ArgumentParser) -> None:
    """Add the doctor's options."""
    made.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"the collector's configuration; {USUAL_CONFIG} where there is one",
    )
    made.add_argument("--url", help="where the collector answers, when not as configured")
    made.add_argument("--token-file", metavar="FILE", help="the read token, when not as configured")
    made.add_argument("--json", action="store_true", help="as one JSON object")
    made.add_argument(
        "--bundle", type=Path, metavar="FILE", help="write a support bundle (.tar.gz) too"
    )
    made.add_argument(
        "--with-names", action="store_true", help="keep names of hosts and cards in the bundle"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is for `sys.exit`."""
    made = parser("farmhand doctor", "What is wrong with farmhand itself, and what to do.")
    add_options(made)
    options = made.parse_args(arguments)
    return run("farmhand doctor", lambda: _doctor(options))


def _doctor(options: argparse.Namespace) -> int:
    setup = _setup(options)
    try:
        report = examined(setup, all_checks())
        if options.bundle is not None:
            support_bundle.write(options.bundle, setup, report, with_names=options.with_names)
    finally:
        setup.close()
    told = msgspec.json.encode(report).decode() + "\n" if options.json else text(report)
    sys.stdout.write(told)
    return exit_status(report)


def _setup(options: argparse.Namespace) -> Setup:
    if options.url is not None:
        check_url(options.url, "--url")
    token = optional_secret(options.token_file, "--token-file")
    path = options.config or (USUAL_CONFIG if USUAL_CONFIG.is_file() else None)
    if path is None:
        return Setup(url=options.url, token=token)
    return loaded(path, options.url, token)


def text(report: Report) -> str:
    """The report for people: a line a check, and under it what to do where something is."""
    width = max(len(check.id) for check in report.checks)
    lines = [line for check in report.checks for line in _lines(check, width)]
    return "\n".join([*lines, f"{report.level}: farmhand {report.version}"]) + "\n"


def _lines(check: Told, width: int) -> list[str]:
    first = f"{check.level:<11}  {check.id:<{width}}  {one_line(check.seen)}"
    return [first, f"{'':<{width + 15}}{check.remedy}"] if check.remedy else [first]


if __name__ == "__main__":
    sys.exit(main())
