"""The agent with less patience, so that a test sees in seconds what takes minutes on a node.

    python hurried_agent.py SHARE REJOIN_SECONDS CONFIG

SHARE is the share of its own patience, 0.1 for a tenth.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from farmhand_agent import config
from farmhand_agent.child import PATIENCE, Patience
from farmhand_agent.command import log_to_stderr
from farmhand_agent.service import Service


def hurried(share: float, rejoin_seconds: float) -> Patience:
    """The agent's patience with each time cut down to a share."""
    first, longest = PATIENCE.retry_seconds
    return Patience(
        stuck_seconds=PATIENCE.stuck_seconds * share,
        apart_seconds=PATIENCE.apart_seconds * share,
        driver_seconds=PATIENCE.driver_seconds * share,
        retry_seconds=(first * share, longest * share),
        restart_seconds=PATIENCE.restart_seconds * share,
        nothing_seconds=PATIENCE.nothing_seconds * share,
        rejoin_seconds=rejoin_seconds,
    )


def main(arguments: Sequence[str]) -> None:
    """Run the service as `farmhand-agent run` does."""
    share, rejoin_seconds, path = arguments
    settings = config.load(Path(path))
    log_to_stderr()
    Service(settings, hurried(float(share), float(rejoin_seconds))).run()


if __name__ == "__main__":
    main(sys.argv[1:])
