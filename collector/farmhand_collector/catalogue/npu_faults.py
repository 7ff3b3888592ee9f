"""What the fault codes of Ascend NPUs say about a card.

Severities follow the levels by which the vendor's own tools isolate a card; a table of this size
holds the codes that matter to hands, and families by their first digits.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import msgspec

from farmhand_collector.catalogue.xid import Fault, FaultKind, Severity, read_faults

UNLISTED_NPU_FAULT = Fault(
    code="",
    name="unlisted fault code",
    kind=FaultKind.HARDWARE,
    severity=Severity.WATCH,
    cause="driver",
    action="look-at-node",
    source="the card's own health level decides about codes outside of the list",
)
"""What is said of a code that the catalogue does not hold."""


@cache
def npu_faults() -> Mapping[str, Fault]:
    """All listed fault codes, upper-case hexadecimal without a prefix.

    A code of which only the first digits matter ends in `x` for each of the others.
    """
    return MappingProxyType({fault.code: fault for fault in read_faults("npu_faults.csv")})


def npu_fault(code: str) -> Fault:
    """What is known of a code, listed or not; case and a leading `0x` do not matter.

    A listed code goes before its family.
    """
    digits = code.upper().removeprefix("0X")
    listed = npu_faults()
    for unknown in range(len(digits)):
        known = len(digits) - unknown
        fault = listed.get(digits[:known] + "x" * unknown)
        if fault:
            return msgspec.structs.replace(fault, code=digits)
    return msgspec.structs.replace(UNLISTED_NPU_FAULT, code=digits)
