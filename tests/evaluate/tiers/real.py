"""T1: cards of a real machine that throttled, among hundreds that did not, run after run."""

from collections.abc import Sequence

from farmhand_collector.capacity.detector import DEGRADED, FAILING, WATCH
from tests.evaluate.baselines.baseline import Baseline
from tests.evaluate.contest import Contender, contenders, false_share
from tests.evaluate.follow import follow
from tests.evaluate.frames import recorded
from tests.evaluate.real import longhorn
from tests.evaluate.real.halves import Half
from tests.evaluate.result import Grid, TierResult
from tests.evaluate.scoring import Share, minutes
from tests.evaluate.truth import Truth, truth

NOTES = [
    "Longhorn: V100s at TACC, runs of three benchmarks in the order in which they ended; each run "
    "is one reading. Four cards are labelled as throttled by heat; cards and nodes of which the "
    "data support either answer count neither way.",
    "A labelled card is named when it is flagged itself, or listed in a wider finding that lists "
    "no healthy card. Healthy ones that a wider finding lists are not flagged, and counted below.",
    "Tuned: the threshold at which, on the half of the nodes to choose on, no more healthy cards "
    "are flagged than by farmhand. False flags are of the other half.",
    "Four positives are a check, not an estimate: 4 of 4 is compatible with a recall of 51 %.",
]


def run(baselines: Sequence[Baseline]) -> TierResult:
    """Replay Longhorn once, and let all look at it."""
    followed = follow(recorded(longhorn.readings()))
    known = truth(longhorn.labels(), followed.history.roster)
    judges = list(contenders(followed, known, baselines))
    result = TierResult("T1", "throttled cards of Longhorn", notes=NOTES)
    result.grids = [_summary(judges, known), _cards(judges[0], known), _false(judges[0], known)]
    result.numbers = {judge.label(): _numbers(judge, known) for judge in judges}
    return result


def _named(judge: Contender, known: Truth) -> Share:
    found = judge.history.pointed_at(known.healthy) & set(known.faulty)
    return Share(len(found), len(known.faulty))


def _numbers(judge: Contender, known: Truth) -> dict[str, object]:
    false = false_share(judge.history, known, Half.REPORT, WATCH)
    return {
        "named": _named(judge, known)._asdict(),
        "false": false._asdict(),
        "judged": judge.history.judged._asdict(),
    }


def _summary(judges: Sequence[Contender], known: Truth) -> Grid:
    rows = []
    for judge in judges:
        at_end = judge.history.flagged(at_end=True) & known.healthy
        rows.append(
            [
                judge.label(),
                _named(judge, known).text(),
                false_share(judge.history, known, Half.REPORT, WATCH).text(),
                str(len(at_end)),
            ]
        )
    head = ["judge", "labelled cards named", "healthy cards ever flagged", "at the end (all)"]
    return Grid("all judges, same frames", head, rows)


def _cards(judge: Contender, known: Truth) -> Grid:
    rows = []
    history = judge.history
    for card, cause in known.faulty.items():
        first_ns = history.first_pointed_ns(card, known.healthy)
        told = [e.cause for e in history.episodes if e.card == card]
        told += [w.cause for w in history.wide if card in w.blamed]
        delay = "missed" if first_ns is None else minutes((first_ns - history.begin_ns) / 1e9)
        said = ", ".join(dict.fromkeys(told)) or "-"
        rows.append([history.roster[card].card, cause or "-", said, delay])
    title = "farmhand, card by card; time from the begin of the recording"
    return Grid(title, ["card", "labelled", "said", "time to first flag"], rows)


def _false(judge: Contender, known: Truth) -> Grid:
    levels = {"watch or worse": WATCH, "degraded or worse": DEGRADED, "failing or lost": FAILING}
    rows = []
    for name, level in levels.items():
        ever = false_share(judge.history, known, None, level)
        end = Share(
            len(judge.history.flagged(level, at_end=True) & known.healthy), len(known.healthy)
        )
        wide = {
            (w.scope, w.name)
            for w in judge.history.wide
            if w.level >= level and set(w.blamed) <= known.healthy
        }
        rows.append([name, ever.text(), end.text(), str(len(wide))])
    judged = judge.history.judged
    rows.append(["readings judged", judged.text(), "", ""])
    head = ["farmhand, all healthy cards", "ever flagged", "at the end", "healthy nodes, jobs"]
    return Grid("false flags by level", head, rows)
