"""Whether cards are judged now."""

import msgspec

from farmhand_collector.examination import Check, Level, Result, Setup
from farmhand_collector.wire import Snapshot

LATE_SECONDS = 120.0
"""A frame takes 30 s and waits 15 s for readings: later than this, judging falls behind."""
STALE_SECONDS = 300.0
"""As `farmhand status` has it: older verdicts say nothing of the farm as it is now."""
_LOOK = "Look for errors in the collector's log, and whether its disk is full or slow."


def _examine(setup: Setup) -> Result:
    snapshot = msgspec.json.decode(setup.get("/v1/snapshot?columns=key"), type=Snapshot)
    if snapshot.time is None:
        remedy = "Wait a minute after the start; then see whether agents ship readings."
        return Result(Level.WARNING, "nothing has been judged yet", remedy)
    age, cards = setup.now - snapshot.time, len(snapshot.columns["key"])
    seen = f"{cards} cards judged {age:.0f} s ago"
    if age > STALE_SECONDS:
        return Result(Level.BAD, seen, _LOOK)
    return Result(Level.WARNING, seen, _LOOK) if age > LATE_SECONDS else Result(Level.OK, seen)


CHECK = Check("judging", "Cards are judged", _examine)
