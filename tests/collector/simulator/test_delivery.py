from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from farmhand_collector.simulator import Farm
from tests.collector.simulator.play import START

HOST = "node-001"


def farm(duplicates: float = 0.0) -> Farm:
    return Farm(12, 2, "none", START, duplicates=duplicates)


def test_an_outage_holds_readings_back() -> None:
    """Nothing of the host arrives meanwhile; the others go on."""
    cut = farm()
    cut.outage(HOST, START + 100.0, START + 200.0)
    arrived = list(cut.readings(START + 200.0))
    assert max(batch.time for batch in arrived if batch.host == HOST) < START + 100.0
    assert max(batch.time for batch in arrived if batch.host != HOST) > START + 190.0


def test_after_an_outage_live_readings_go_first() -> None:
    """The first batch to arrive is fresh; the old ones follow in their order."""
    cut = farm()
    cut.outage(HOST, START + 100.0, START + 200.0)
    batches = [b for b in cut.readings(START + 215.0) if b.host == HOST]
    late = [b.time for b in batches if b.time >= START + 100.0]
    assert late[0] >= START + 200.0
    assert late[1:11] == sorted(late[1:11])
    assert late[1] < START + 110.0


@settings(max_examples=15)
@given(
    begin=st.floats(0.0, 150.0),
    length=st.floats(0.0, 150.0),
    pieces=st.lists(st.floats(0.0, 400.0), max_size=3),
)
def test_an_outage_loses_nothing(begin: float, length: float, pieces: list[float]) -> None:
    """Whatever the outage, all that was measured arrives once."""
    cut = farm()
    cut.outage(HOST, START + begin, START + begin + length)
    untils = [START + piece for piece in sorted(pieces)] + [START + 400.0]
    arrived = Counter((b.host, b.time) for until in untils for b in cut.readings(until))
    assert arrived == Counter((b.host, b.time) for b in farm().readings(START + 400.0))


def test_duplicates_repeat_whole_batches() -> None:
    """What arrives twice is the same both times."""
    arrived = list(farm(duplicates=0.3).readings(START + 300.0))
    once = list(farm().readings(START + 300.0))
    repeats = [b for a, b in pairwise(arrived) if a == b]
    assert len(arrived) == len(once) + len(repeats)
    assert 0.1 * len(once) < len(repeats) < 0.5 * len(once)
