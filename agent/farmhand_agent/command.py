"""What the three command lines share: exit status and how a mistake is said."""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from farmhand_agent.settings import EXIT_CONFIG, ConfigError

EXIT_FAILED = 1
"""Exit status of a program that could not do its work now and may later."""


class FailedError(Exception):
    """A program cannot do its work, though its configuration is good; the message is one line."""


class Parser(argparse.ArgumentParser):
    """Says a bad command line in one line and exits with the status of a bad configuration."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and exit."""
        self.exit(EXIT_CONFIG, f"{one_line(f'{self.prog}: {message}')} (try {self.prog} --help)\n")


def one_line(text: str) -> str:
    """Text that a terminal shows as it is, on one line: it may quote a file or a command line."""
    return "".join(character if character.isprintable() else " " for character in text)


class _Version(argparse.Action):
    """Prints the version, which is looked up no sooner."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from farmhand_agent import __version__

        sys.stdout.write(f"farmhand {__version__}\n")
        parser.exit()


def parser(program: str, about: str) -> Parser:
    """A parser with `--version`."""
    made = Parser(prog=program, description=about)
    made.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    return made


def run(program: str, command: Callable[[], int]) -> int:
    """Run a command; a bad configuration becomes one line on stderr and its exit status."""
    try:
        status = command()
        sys.stdout.flush()
    except ConfigError as error:
        _complain(program, error)
        return EXIT_CONFIG
    except KeyboardInterrupt:
        return 130
    except FailedError as error:
        _complain(program, error)
        return EXIT_FAILED
    except BrokenPipeError:
        # The reader of our output went away (a pager, `head`): not worth a trace, and what is
        # still to be written at exit goes nowhere.
        _discard_output()
        return 141
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"{program}: cannot write its output: {error.strerror}", file=sys.stderr)  # noqa: T201
        _discard_output()
        return EXIT_FAILED
    return status


def _complain(program: str, error: Exception) -> None:
    told = one_line(f"{program}: {error}")
    if _stderr_is_the_journal():
        told = _prefixed(told, _PRIORITIES[logging.ERROR])
    print(told, file=sys.stderr)  # noqa: T201  the one place for all three


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _JournalFormatter(logging.Formatter):
    """Begins each line with its priority, as journald takes it (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        return _prefixed(super().format(record), _PRIORITIES.get(record.levelno, 6))


_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.DEBUG: 7}
"""Of syslog(3), by level; the others are informational (6)."""


def _prefixed(text: str, priority: int) -> str:
    return "\n".join(f"<{priority}>{line}" for line in text.splitlines())


def _stderr_is_the_journal() -> bool:
    """Whether stderr is the stream that systemd named, and not one that was put in its place."""
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"


def log_to_stderr(level: str = "INFO") -> None:
    """Log one line a record to stderr; journald adds time and unit, a terminal needs neither."""
    handler = logging.StreamHandler(sys.stderr)
    if _stderr_is_the_journal():
        handler.setFormatter(_JournalFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    # Schedulers and HTTP pools tell each run and retry; only their trouble is worth a line.
    for chatty in ("apscheduler", "urllib3", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
