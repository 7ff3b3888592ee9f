"""Faults of identity: what a card says it is."""

from farmhand_collector.simulator.kinds.kind import Case, Moment
from farmhand_collector.simulator.kinds.register import fault

_CAUSE = "identity"
_FOREIGN_VBIOS = "90.02.30.40.F7"
_FOREIGN_DEVICE = "10de:1fff"


@fault(_CAUSE, "the same UUID with another VBIOS, device or memory", known_before=True)
def fingerprint_changed(moment: Moment, case: Case) -> None:
    """A card flashed, or rebuilt, behind the keeper's back."""
    at = case.fault.index
    changed = {"vbios": _FOREIGN_VBIOS, "subsystem_id": "1462:1fff"}
    if case.fault.variant:
        changed["device_id"] = _FOREIGN_DEVICE
    moment.effects.identity[at] = dict(changed)
    moment.tell(at, "identity", "vbios changed", case.fault.since)
    moment.told.add(at)


@fault(_CAUSE, "a card shows the UUID of another one of the farm", known_before=True)
def uuid_duplicate(moment: Moment, case: Case) -> None:
    """Two boards with one image: the same identity in two places at once."""
    at = case.fault.index
    moment.effects.shown_card[at] = moment.fleet.cards[_other(moment, at)].card
    moment.told.add(at)


def _other(moment: Moment, index: int) -> int:
    """A card of the same kind in another node; any other where there is none."""
    cards = moment.fleet.cards
    mine = cards[index]
    others = [at for at in range(len(cards)) if at != index]
    alike = [at for at in others if cards[at].model == mine.model and cards[at].node != mine.node]
    return next(iter(alike or others), index)
