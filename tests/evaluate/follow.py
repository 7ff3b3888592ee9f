"""Follows one recording with farmhand's core and gathers, from the same frames, what others see."""

from collections.abc import Iterable

import numpy as np

from farmhand_collector.capacity.attribution import WideFinding
from farmhand_collector.capacity.detector import LEVELS, OK, UNKNOWN
from farmhand_collector.capacity.frame import Bools, Frame
from farmhand_collector.capacity.span import Spans, gathered, with_load
from farmhand_collector.capacity.state import State
from farmhand_collector.capacity.step import Verdicts, step
from farmhand_collector.facts import Expectations, catalogue_facts
from farmhand_collector.report import scope_finding
from farmhand_collector.wire import STATES
from tests.evaluate.features import Gatherer, Table
from tests.evaluate.scoring import Episode, History, Share, WideEpisode


class Followed:
    """What farmhand said of a recording, and the table that baselines are given."""

    def __init__(self, history: History, table: Table) -> None:
        self.history = history
        self.table = table


def follow(frames: Iterable[Frame], *, with_table: bool = True) -> Followed:
    """Judge frames in order of time.

    Raises:
        ValueError: there is no frame.
    """
    state, expectations, log = State(), Expectations(catalogue_facts()), Log()
    spans, gatherer = Spans(), Gatherer()
    for frame in frames:
        facts = expectations.of(frame)
        state, verdicts = step(state, frame, facts)
        log.note(frame, verdicts)
        if with_table:
            seen, spans = gathered(with_load(frame, facts), spans)
            gatherer.note(seen)
    return Followed(log.history(), gatherer.table())


class Log:
    """Turns verdicts, frame by frame, into episodes.

    As `farmhand-collector judge` does, it takes what is said of a card from frames in which the
    card gave a reading or an event: between two jobs nothing new is known of it.
    """

    def __init__(self) -> None:
        self._open: dict[int, Episode] = {}
        self._wide: dict[tuple[str, str, str], WideEpisode] = {}
        self._closed: list[Episode] = []
        self._closed_wide: list[WideEpisode] = []
        self._judged = self._heard = 0
        self._frame: Frame | None = None
        self._begin_ns = 0

    def note(self, frame: Frame, verdicts: Verdicts) -> None:
        """Take in the next frame."""
        self._begin_ns = self._begin_ns or frame.start_ns
        self._frame = frame
        told = frame.present.copy()
        told[[event.card for event in frame.events]] = True
        state = verdicts.state
        self._heard += int(told.sum())
        self._judged += int((told & (state != UNKNOWN)).sum())
        flagged = told & (state > OK) & (state < UNKNOWN)
        for card in [card for card in self._open if told[card] and not flagged[card]]:
            self._close(card, frame.end_ns)
        for card in np.flatnonzero(flagged).tolist():
            self._flag(card, int(state[card]), frame.end_ns, verdicts)
        self._note_wide(frame, verdicts, told)

    def _flag(self, card: int, level: int, end_ns: int, verdicts: Verdicts) -> None:
        raised = verdicts.findings.get(card)
        cause = raised[0].cause if raised else "unreachable"
        episode = self._open.setdefault(card, Episode(card, end_ns, end_ns, level, cause))
        episode.end_ns, episode.cause = end_ns, cause
        episode.finding = raised[0].detector.name if raised else "silent"
        episode.level = max(episode.level, level)
        for reached in LEVELS[level >= LEVELS].tolist():
            episode.reached_ns.setdefault(reached, end_ns)

    def _close(self, card: int, end_ns: int) -> None:
        episode = self._open.pop(card)
        episode.end_ns, episode.is_open = end_ns, False
        self._closed.append(episode)

    def _note_wide(self, frame: Frame, verdicts: Verdicts, told: Bools) -> None:
        standing = {(wide.scope, wide.site, wide.name): wide for wide in verdicts.wide}
        for key, episode in list(self._wide.items()):
            if key not in standing and told[list(episode.cards)].any():
                episode.is_open = False
                self._closed_wide.append(self._wide.pop(key))
        for key, wide in standing.items():
            self._note_one(key, wide, frame)

    def _note_one(self, key: tuple[str, str, str], wide: WideFinding, frame: Frame) -> None:
        episode = self._wide.get(key)
        if episode is None or episode.cards != wide.cards:
            names = dict.fromkeys(wide.cards, "")
            said = scope_finding(wide, frame.roster, names)
            level = STATES.index(said.state)
            begin_ns = episode.begin_ns if episode else frame.end_ns
            self._wide[key] = episode = WideEpisode(
                wide.scope,
                wide.name,
                wide.cards,
                wide.named,
                begin_ns,
                frame.end_ns,
                max(level, episode.level if episode else OK),
                said.cause,
                finding=wide.raised[0].detector.name,
            )
        episode.end_ns, episode.named = frame.end_ns, wide.named

    def history(self) -> History:
        """All that was said.

        Raises:
            ValueError: no frame was noted.
        """
        if self._frame is None:
            raise ValueError("no frame to judge")
        return History(
            self._frame.roster,
            self._begin_ns,
            self._frame.end_ns,
            [*self._closed, *self._open.values()],
            [*self._closed_wide, *self._wide.values()],
            Share(self._judged, self._heard),
        )
