"""Cards that do not answer, for a while or for good."""

from farmhand_collector.simulator.kinds.kind import HOUR, SLOWLY, Case, Moment
from farmhand_collector.simulator.kinds.register import fault

_GONE_SECONDS = (120.0, 600.0)
_FALLS_PER_SECOND = 1.0 / HOUR
_HANG_SECONDS = (45.0, 120.0)
_HANGS_PER_SECOND = 1.0 / (0.5 * HOUR)


@fault("unreachable", "the card falls off the bus", known_before=True)
def lost(moment: Moment, case: Case) -> None:
    """Gone for good."""
    at, since = case.fault.index, case.fault.since
    moment.effects.lost[at] = True
    moment.xid(at, "79", "GPU has fallen off the bus.", since)
    moment.tell(at, "lost", "GPU is lost", since + 0.5)


@fault("driver", "the card is there but does not answer", known_before=True)
def unreadable(moment: Moment, case: Case) -> None:
    """Every read runs into its deadline."""
    moment.effects.unreadable[case.fault.index] = True


@fault(
    "unreachable",
    "the card falls off the bus, comes back, and falls off again; severity scales how often",
    severity=(0.5, 2.0),
    ramp_seconds=SLOWLY,
    known_before=True,
    lasting=True,
)
def off_and_on(moment: Moment, case: Case) -> None:
    """Xid 79 each time; heat, power, a riser or a dying chip."""
    at, was = case.fault.index, case.notes.get("gone", 0.0)
    chance = case.size * _FALLS_PER_SECOND * moment.seconds
    gone, begins = case.is_in_episode(moment, chance, _GONE_SECONDS)
    case.notes["gone"] = float(gone)
    moment.effects.lost[at] = gone
    if begins:
        time = case.fault.since if case.first else moment.time(at) - 0.5
        moment.xid(at, "79", "GPU has fallen off the bus.", time)
        moment.tell(at, "lost", "GPU is lost", time + 0.2)
    elif was and not gone:
        moment.told.add(at)
        moment.tell(at, "returned", "GPU answers again", moment.time(at) - 0.5)


# A second hang within a day is a fault of the card, its maker says.
@fault(
    "compute",
    "firmware on the card hangs again and again; severity scales how often",
    severity=(0.5, 2.0),
    ramp_seconds=SLOWLY,
    known_before=True,
    lasting=True,
)
def firmware_hang(moment: Moment, case: Case) -> None:
    """Xid 119 and a minute without answers each time."""
    at = case.fault.index
    chance = case.size * _HANGS_PER_SECOND * moment.seconds
    hangs, begins = case.is_in_episode(moment, chance, _HANG_SECONDS)
    moment.effects.unreadable[at] = hangs
    if begins:
        time = case.fault.since if case.first else moment.time(at) - 0.5
        said = "pid=4242, name=python, Timeout after 6s of waiting for RPC response from GPU0 GSP!"
        moment.xid(at, "119", said, time)
