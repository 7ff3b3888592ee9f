"""Readings from one store into another."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from farmhand_agent.reading import Reading
from farmhand_collector.migration import Difference, Progress, differences, migrate
from farmhand_collector.store.base import StoreBusyError, StoreError
from farmhand_collector.store.embedded import EmbeddedStore
from tests.collector.store.examples import DAY_NS, NOON_NS, SECOND_NS, card, read_all

HOUR_NS = 3600 * SECOND_NS


@pytest.fixture
def source(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """Two days of a card."""
    store = EmbeddedStore(tmp_path / "source")
    store.write([card(NOON_NS - n * HOUR_NS, power_watts=float(n)) for n in range(48)])
    yield store
    store.close()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """An empty store."""
    store = EmbeddedStore(tmp_path / "target")
    yield store
    store.close()


def test_all_readings_come_over(
    source: EmbeddedStore, target: EmbeddedStore, tmp_path: Path
) -> None:
    """And nothing is missing when they are counted."""
    done = migrate(source, target, tmp_path / "memory")

    assert (done.written, done.too_old) == (48, 0)
    assert sorted(read_all(target)) == sorted(read_all(source))
    assert list(differences(source, target, NOON_NS - 3 * DAY_NS, NOON_NS + HOUR_NS)) == []


def test_it_goes_on_where_it_stopped(
    source: EmbeddedStore,
    target: EmbeddedStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that was broken off costs no second start."""
    monkeypatch.setattr("farmhand_collector.migration.PIECE_ROWS", 10)

    def stop(now: Progress) -> None:
        if now.written >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate(source, target, tmp_path / "memory", told=stop)

    assert migrate(source, target, tmp_path / "memory").written == 28
    assert sorted(read_all(target)) == sorted(read_all(source))


def test_what_the_target_would_forget_is_passed_over(
    source: EmbeddedStore, target: EmbeddedStore, tmp_path: Path
) -> None:
    """A server refuses readings that are past its retention."""
    done = migrate(source, target, tmp_path / "memory", oldest_ns=NOON_NS - 23 * HOUR_NS)

    assert (done.written, done.too_old) == (24, 24)


def test_hours_that_lack_readings_are_told(source: EmbeddedStore, target: EmbeddedStore) -> None:
    """By measurement and hour."""
    target.write([card(NOON_NS - n * HOUR_NS, power_watts=float(n)) for n in range(48) if n != 5])

    begin_ns = (NOON_NS - 5 * HOUR_NS) // HOUR_NS * HOUR_NS
    assert list(differences(source, target, NOON_NS - 3 * DAY_NS, NOON_NS + HOUR_NS)) == [
        Difference("card", begin_ns, 1, 0)
    ]


class _Busy:
    """A store that is busy some times."""

    def __init__(self, store: EmbeddedStore, times: int) -> None:
        self._store, self._times = store, times

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def write(self, readings: Sequence[Reading]) -> None:
        self._times -= 1
        if self._times >= 0:
            raise StoreBusyError("busy")
        self._store.write(readings)


def test_a_busy_server_is_waited_for(
    source: EmbeddedStore, target: EmbeddedStore, tmp_path: Path
) -> None:
    """It says so under load."""
    waited: list[float] = []

    migrate(source, _Busy(target, 3), tmp_path / "memory", sleep=waited.append)  # type: ignore[arg-type]

    assert len(waited) == 3
    assert len(read_all(target)) == 48


def test_a_damaged_memory_is_told(
    source: EmbeddedStore, target: EmbeddedStore, tmp_path: Path
) -> None:
    """Beginning anew is the keeper's choice."""
    (tmp_path / "memory").write_text("{", encoding="utf-8")

    with pytest.raises(StoreError, match="delete it to begin anew"):
        migrate(source, target, tmp_path / "memory")
