"""T2: whose fault it is. Cards, nodes and works of public data that are known to be slow."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from farmhand_collector.capacity.detector import WATCH
from tests.evaluate.baselines.baseline import Baseline
from tests.evaluate.contest import Contender, contenders
from tests.evaluate.follow import Followed, follow
from tests.evaluate.frames import recorded
from tests.evaluate.real.datasets import DATASETS
from tests.evaluate.real.labels import Labels
from tests.evaluate.result import Grid, TierResult
from tests.evaluate.scoring import Share
from tests.evaluate.truth import Truth, truth

RECORDINGS = (
    ("longhorn", "resnet"),
    ("frontera", "bert"),
    ("frontera", "resnet"),
    ("frontera", "pagerank"),
    ("lonestar", "resnet"),
    ("bytedance", "AR"),
    ("bytedance", "SE"),
    ("bytedance", "ST"),
    ("ascend", "npu_smi"),
)
"""Each is judged by itself, as a file of its own."""
NOTES = [
    "Right: each labelled card named, each labelled node found as a node, and nobody else flagged "
    "as of the last reading of each card.",
    "On a node that is slow as a whole, no card is at fault: a judge that knows only cards sends "
    "the keeper to pull each of them (the second number). Cards in doubt count neither way.",
    "ST has two ranks a stage: nobody there can be compared, and `unknown` is what should be said.",
]


class Outcome(NamedTuple):
    """What was said of a recording as of its end."""

    recording: str
    expected_cards: set[str]
    cards: set[str]
    """Cards at fault that were named."""
    causes: dict[str, set[str]]
    """Causes told of them."""
    expected_nodes: set[str]
    nodes: set[str]
    """Slow nodes that were found as such."""
    false_cards: set[str]
    """Healthy cards, and cards of slow nodes, that were flagged themselves."""
    false_nodes: set[str]
    judged: Share

    @property
    def is_right(self) -> bool:
        """Everything that is labelled, and nothing else."""
        missed = (self.expected_cards - self.cards) | (self.expected_nodes - self.nodes)
        return not (missed or self.false_cards or self.false_nodes)


def outcome(name: str, part: str) -> Outcome:
    """Judge one recording with farmhand."""
    return _outcome(name, part, *_followed(name, part, with_table=False))


def _followed(name: str, part: str, *, with_table: bool) -> tuple[Followed, Truth]:
    dataset = DATASETS[name]
    followed = follow(recorded(dataset.readings([part])), with_table=with_table)
    labels = _labels_of(dataset.labels(), part)
    return followed, truth(labels, followed.history.roster)


def _labels_of(labels: Labels, part: str) -> Labels:
    """Labels as they hold in one benchmark: elsewhere, its slow nodes are in doubt."""
    here = {host: job for host, job in labels.nodes.items() if job == part}
    doubtful = labels.unclear_nodes | (set(labels.nodes) - set(here))
    return Labels(labels.cards, here, labels.mates, labels.unclear_cards, frozenset(doubtful))


def _outcome(name: str, part: str, followed: Followed, known: Truth) -> Outcome:
    history = followed.history
    roster = history.roster
    named = history.pointed_at(known.healthy, at_end=True) & set(known.faulty)
    wide = [w for w in history.wide if w.is_open]
    nodes = {w.name for w in wide if w.scope == "node"}
    flagged = history.flagged(at_end=True)
    causes = {
        roster[card].card: {e.cause for e in history.episodes if e.card == card and e.is_open}
        | {w.cause for w in wide if card in w.blamed and w.named is None}
        for card in named
    }
    return Outcome(
        f"{name} {part}",
        {roster[card].card for card in known.faulty},
        {roster[card].card for card in named},
        causes,
        known.slow_nodes,
        nodes & known.slow_nodes,
        {roster[card].card for card in flagged & (known.healthy | known.on_slow_nodes)},
        {w.name for w in wide if _is_false(w.scope, w.name, w.cards, known)},
        history.judged,
    )


def _is_false(scope: str, name: str, cards: tuple[int, ...], known: Truth) -> bool:
    """Whether a wider finding speaks of nothing but healthy cards."""
    if scope == "node":
        return name in known.healthy_nodes
    return set(cards) <= known.healthy


def run(baselines: Sequence[Baseline]) -> TierResult:
    """Judge all recordings."""
    outcomes, rows = [], []
    for name, part in RECORDINGS:
        followed, known = _followed(name, part, with_table=True)
        outcomes.append(_outcome(name, part, followed, known))
        judges = {_title(judge): judge for judge in contenders(followed, known, baselines)}
        titles = ["farmhand", *(_title_of(baseline) for baseline in baselines)]
        cells = [_boards(judges[t], known) if t in judges else "-" for t in titles]
        rows.append([f"{name} {part}", *cells])
    right = Share(sum(one.is_right for one in outcomes), len(outcomes))
    result = TierResult("T2", f"attribution: {right.text()} recordings right", notes=NOTES)
    result.grids = [
        Grid("farmhand", _HEAD, list(_rows(outcomes))),
        Grid(
            "boards flagged at the end: at fault + on slow nodes + healthy",
            ["recording", *titles],
            rows,
        ),
    ]
    result.numbers = {one.recording: _numbers(one) for one in outcomes}
    return result


def _title(judge: Contender) -> str:
    return judge.label() if judge.name == "farmhand" else judge.name.replace(", tuned", " (tuned)")


def _title_of(baseline: Baseline) -> str:
    """Each as it is used, or tuned where it has no threshold of its own."""
    return baseline.name if baseline.usual is not None else f"{baseline.name} (tuned)"


def _boards(judge: Contender, known: Truth) -> str:
    flagged = judge.history.flagged(WATCH, at_end=True)
    named = judge.history.pointed_at(known.healthy, at_end=True) & set(known.faulty)
    return f"{len(named)} + {len(flagged & known.on_slow_nodes)} + {len(flagged & known.healthy)}"


_HEAD = [
    "recording",
    "cards named",
    "causes",
    "nodes found",
    "false cards",
    "false nodes",
    "judged",
    "right",
]


def _rows(outcomes: Sequence[Outcome]) -> Iterator[list[str]]:
    for one in outcomes:
        causes = {cause for told in one.causes.values() for cause in told}
        yield [
            one.recording,
            f"{len(one.cards)}/{len(one.expected_cards)}",
            ", ".join(sorted(causes)) or "-",
            f"{len(one.nodes)}/{len(one.expected_nodes)}",
            str(len(one.false_cards)),
            str(len(one.false_nodes)),
            f"{100 * one.judged.value:.0f} %",
            "yes" if one.is_right else "no",
        ]


def _numbers(one: Outcome) -> dict[str, object]:
    return {
        "right": one.is_right,
        "cards": sorted(one.cards),
        "missed_cards": sorted(one.expected_cards - one.cards),
        "nodes": sorted(one.nodes),
        "missed_nodes": sorted(one.expected_nodes - one.nodes),
        "false_cards": sorted(one.false_cards),
        "false_nodes": sorted(one.false_nodes),
        "judged": one.judged._asdict(),
    }
