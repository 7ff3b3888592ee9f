"""The NPU told of faults by code that say something about the board."""

from farmhand_collector.capacity.detector import Detector, Facts, Memory, Score
from farmhand_collector.capacity.frame import Frame
from farmhand_collector.capacity.occurrences import MEMORY, Told, bursts, held, noted


def score(frame: Frame, memory: Memory, facts: Facts) -> tuple[Score, Memory]:
    """What the rules for each code say of its occurrences on one card, while they are held."""
    told = bursts(
        Told(event.card, event.code.upper().removeprefix("0X"), event.time_ns)
        for event in frame.events
        if event.kind == "npu_fault"
    )
    memory = noted(memory, told, frame, facts.npu_faults)
    return held(memory, frame), memory


DETECTOR = Detector(
    name="npu_fault",
    cause="driver",
    # Events measure nothing, so nothing is told as not delivered.
    component=None,
    action="look-at-node",
    # An event says that something broke; what is measured says what, so that comes first.
    precedence=20,
    raise_after=1,
    # The memory holds what was told for as long as it counts.
    clear_after=1,
    memory=MEMORY,
    score=score,
)
