"""A farm's state as the exit status of a Nagios check."""

from farmhand_collector.wire import FarmState

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3


def exit_status(state: FarmState) -> int:
    """0 ok, 1 watch or degraded, 2 failing or lost, 3 nothing could be judged.

    A card that is merely idle does not make a farm unknown.
    """
    states = {card.state for card in state.cards} | {found.state for found in state.findings}
    if states & {"failing", "lost"}:
        return CRITICAL
    if states & {"watch", "degraded"}:
        return WARNING
    return OK if "ok" in states else UNKNOWN
