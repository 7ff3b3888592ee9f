"""MIG: cards cut into instances, whose compute cannot be judged as that of one card."""

from farmhand_collector.capacity.frame import Bools, Frame


def is_divided(frame: Frame) -> Bools:
    """(n,) whether a card is cut into instances, or set to be."""
    divided: Bools = (frame.facts["mig_instances"] > 0) | (frame.facts["mig_enabled"] > 0)
    return divided
