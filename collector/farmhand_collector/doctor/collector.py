"""Whether the collector answers, and knows our token."""

from farmhand_collector.examination import CannotTell, Check, Level, Result, Setup

_RUN = "Start the collector (systemctl start farmhand-collector) and read its log."
_TOKEN = "Give the read token of this collector in token_file of farmhand.toml."  # noqa: S105


def _examine(setup: Setup) -> Result:
    url = setup.url
    try:
        status, _ = setup.ask("/v1/snapshot?columns=key")
    except CannotTell as error:
        return Result(Level.BAD, str(error), _RUN)
    if status in (401, 403) and not setup.has_token:
        raise CannotTell(f"{url} asks for a token", "Name a file with a read token: --token-file.")
    if status in (401, 403):
        return Result(Level.BAD, f"{url} does not take the token", _TOKEN)
    if status != 200:
        return Result(Level.BAD, f"{url} answered {status}", _RUN)
    return Result(Level.OK, f"{url} answers")


CHECK = Check("collector", "The collector answers", _examine)
