"""Ships what the spool holds to the store: live readings first, the backlog behind them."""

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from farmhand_agent.clock import Clock
from farmhand_agent.config import Ship
from farmhand_agent.spool import Batch, Spool
from farmhand_agent.wire import TOO_LARGE, Answer, Kind, Wire

log = logging.getLogger(__name__)

POST_BYTES = 1_000_000
SMALLEST_POST_BYTES = 32_000
POST_POINTS = 5_000
BACKLOG_BYTES_PER_SECOND = 2_000_000
"""The backlog drains no faster, so that a farm coming back does not flood its store."""

BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_CAP_SECONDS = 60.0
HOLD_SECONDS = 60.0
IDLE_SECONDS = 60.0

MISDATED_SECONDS = 60.0
"""A clock that is off by less cannot be why a store refuses a time."""
SIFTING_POSTS = 128
"""Posts spent on taking refused readings apart before live readings get their turn."""

REJECTED_BYTES = 1_000_000
REJECTED_LOG_SECONDS = 3600.0


class State(StrEnum):
    """How shipping goes, in a word."""

    SHIPPING = "shipping"
    RETRYING = "retrying"
    HELD = "held"


_SAID = {
    State.SHIPPING: "readings are accepted",
    State.RETRYING: "the store cannot be reached or is busy; readings wait and are tried again",
    State.HELD: "the store refuses whatever it is sent; readings wait and are tried each minute",
}


class Shipper:
    """Sends the spool's readings from a thread of its own until stopped.

    A reading leaves the spool only after the store said that it has it: it may be sent twice but
    is never missed. Readings put since the last post go first, the backlog follows, each in
    order. Failures of the way are retried for ever. A refused reading is found by halving, kept
    in `rejected.lp` beside the spool and counted as dropped, but only once the store has accepted
    another one since: a store that refuses everything has a fault of its own. Refused readings
    that a wrong clock dated are dated again by the store's clock first, those of earlier boots as
    well as it is known (`spool_boot`).
    """

    def __init__(
        self,
        spool: Spool,
        ship: Ship,
        *,
        rng: random.Random | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._spool = spool
        self._ship = ship
        self._clock = clock or Clock()
        self._rng = rng or random.Random()
        self._wire = Wire(ship, self._clock)
        self._rejected = _Rejected(spool.path.with_name("rejected.lp"), self._clock)
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)
        self._stopping = threading.Event()
        self._flush_until = 0.0
        self._size = _PostSize()
        self._failures = 0
        self._accepted_at = float("-inf")
        self._doubt: _Doubt | None = None
        self._live_after = spool.last_id
        self._state = State.SHIPPING

    @property
    def state(self) -> State:
        """How shipping goes now."""
        return self._state

    @property
    def clock_offset_seconds(self) -> float | None:
        """Store's clock minus ours, good to about a second; None before the first answer."""
        return self._wire.clock_offset_seconds

    def start(self) -> None:
        """Begin to ship."""
        if not self._ship.verify_tls and self._ship.url.startswith("https:"):
            log.warning(
                "ship.verify_tls is false: whoever answers for %s gets the token and the readings",
                self._ship.url,
            )
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def stop(self, flush_seconds: float) -> None:
        """Send what is left if the store takes it, and end; returns within `flush_seconds`."""
        self._flush_until = self._clock.monotonic() + flush_seconds
        self._stopping.set()
        self._spool.wake()
        if self._thread.ident is not None:
            self._thread.join(flush_seconds)

    # -- rounds --

    def _run(self) -> None:
        while not self._stopping.is_set():
            batches = self._live() or self._backlog()
            if batches:
                self._clock.wait(self._stopping, self._round(batches))
            else:
                self._spool.wait(IDLE_SECONDS)
        try:
            self._flush()
        finally:
            self._wire.close()

    def _flush(self) -> None:
        while self._clock.monotonic() < self._flush_until:
            batches = self._live() or self._backlog()
            if not batches or self._deliver(batches).kind is not Kind.ACCEPTED:
                return

    def _live(self) -> list[Batch]:
        """Batches put since the last post."""
        batches = self._spool.batches(
            after=self._live_after, max_bytes=self._size.bytes, max_points=POST_POINTS
        )
        if batches:
            self._live_after = batches[-1].id
        return batches

    def _backlog(self) -> list[Batch]:
        return self._spool.batches(
            upto=self._live_after, max_bytes=self._size.bytes, max_points=POST_POINTS
        )

    def _round(self, batches: Sequence[Batch]) -> float:
        """Deliver batches; returns for how long to pause after it."""
        try:
            answer = self._deliver(batches)
        except Exception:
            # A shipper that is gone would go unnoticed until the spool is full.
            log.exception("shipping failed in an unforeseen way")
            answer = Answer(Kind.UNREACHABLE, "internal error")
        if answer.kind is Kind.ACCEPTED:
            self._failures = 0
            self._enter(State.SHIPPING)
            return self._pace(batches)
        if answer.kind is Kind.FORBIDDEN:
            self._enter(State.HELD, answer.reason)
            return HOLD_SECONDS
        return self._backoff(answer)

    def _pace(self, batches: Sequence[Batch]) -> float:
        more = self._spool.points > 0
        return more * sum(len(batch.body) for batch in batches) / BACKLOG_BYTES_PER_SECOND

    def _backoff(self, answer: Answer) -> float:
        """Pause of a random length, so that a farm of agents does not come back as one."""
        longest = min(BACKOFF_FIRST_SECONDS * 2.0 ** min(self._failures, 16), BACKOFF_CAP_SECONDS)
        self._failures += 1
        if self._failures > 1:
            # A single failure may be a kept connection that the store closed as we used it.
            state = State.HELD if answer.kind is Kind.REFUSED else State.RETRYING
            self._enter(state, answer.reason)
        return answer.retry_after_seconds + self._rng.uniform(0.0, longest)

    def _enter(self, state: State, reason: str = "") -> None:
        if state is not self._state:
            self._state = state
            level = logging.INFO if state is State.SHIPPING else logging.WARNING
            log.log(level, "%s%s", _SAID[state], f": {reason}" if reason else "")

    # -- delivery --

    def _deliver(self, batches: Sequence[Batch]) -> Answer:
        answer = self._post(batch.body for batch in batches)
        if answer.kind is Kind.ACCEPTED:
            self._spool.ack([batch.id for batch in batches])
        elif answer.status == TOO_LARGE and len(batches) > 1:
            answer = self._deliver(batches[: len(batches) // 2])
        elif answer.kind is Kind.REFUSED:
            answer = self._sift(batches, answer)
        return answer

    def _post(self, texts: Iterable[bytes]) -> Answer:
        body = b"\n".join(texts)
        answer = self._wire.post(body)
        if self._wire.boot_began_ns is not None:
            self._spool.learn_boot(self._wire.boot_began_ns)
        if answer.kind is Kind.ACCEPTED:
            self._accepted_at = self._clock.monotonic()
            self._size.grow()
        elif answer.kind is Kind.UNREACHABLE:
            self._size.shrink()
        elif answer.status == TOO_LARGE:
            self._size.limit(len(body) // 2)
        return answer

    def _sift(self, batches: Sequence[Batch], refusal: Answer) -> Answer:
        """Deliver refused batches in ever smaller parts; set aside what is refused alone."""
        sieve = _Sieve(batches, self._misdated_by, cleared=self._is_cleared(batches))
        answer = refusal
        while sieve.parts and not sieve.is_spent():
            part = sieve.parts.pop()
            answer = self._post(line.text for line in part)
            if answer.kind is Kind.ACCEPTED:
                sieve.accept(part)
            elif answer.kind is Kind.REFUSED:
                refusal = answer
                sieve.refuse(part)
            else:
                break
        interrupted = answer.kind not in (Kind.ACCEPTED, Kind.REFUSED)
        if sieve.is_their_fault:
            self._settle(sieve, refusal.reason)
            return answer if interrupted else Answer(Kind.ACCEPTED)
        if not interrupted:
            self._doubt = _Doubt(batches[0].id, self._clock.monotonic())
        return answer

    def _is_cleared(self, batches: Sequence[Batch]) -> bool:
        """Whether the store took something else since it first refused all of these batches."""
        doubt = self._doubt
        return (
            doubt is not None
            and doubt.batch in (batch.id for batch in batches)
            and self._accepted_at > doubt.since
        )

    def _settle(self, sieve: "_Sieve", reason: str) -> None:
        done = sieve.done()
        refused = [line for line in sieve.refused if line.batch in done]
        if refused:
            self._rejected.add([line.text for line in refused], reason)
        counts = Counter(line.batch for line in refused)
        for batch in counts:
            self._spool.ack([batch], refused_points=counts[batch])
        self._spool.ack(sorted(done - counts.keys()))

    def _misdated_by(self, batch: Batch) -> int:
        """Nanoseconds by which a batch must be dated later; 0 where its clock was right.

        Whole seconds, so that the same batch is dated the same if it is sent again.
        """
        began_ns = self._spool.boot_began_ns(batch.boot)
        if began_ns is None:
            return 0
        seconds = round((began_ns - batch.boot_time_ns) / 1e9)
        return seconds * 10**9 if abs(seconds) > MISDATED_SECONDS else 0


class _PostSize:
    """How much is put into one post; a slow line or a strict store takes less at once."""

    def __init__(self) -> None:
        self.bytes = self._most = POST_BYTES

    def grow(self) -> None:
        self.bytes = min(self.bytes * 2, self._most)

    def shrink(self) -> None:
        self.bytes = max(self.bytes // 2, SMALLEST_POST_BYTES)

    def limit(self, most: int) -> None:
        self.bytes = self._most = max(min(most, self._most), SMALLEST_POST_BYTES)


class _Doubt(NamedTuple):
    """Batches refused with every reading, named by the first; it may be them or the store."""

    batch: int
    since: float


class _Line(NamedTuple):
    batch: int
    text: bytes
    misdated_by_ns: int

    def redated(self) -> "_Line":
        head, _, stamp = self.text.rpartition(b" ")
        try:
            text = b"%s %d" % (head, int(stamp) + self.misdated_by_ns)
        except ValueError:
            text = self.text
        return _Line(self.batch, text, 0)


class _Sieve:
    """Refused batches taken apart line by line."""

    def __init__(
        self, batches: Sequence[Batch], misdated_by: Callable[[Batch], int], *, cleared: bool
    ) -> None:
        self.parts: list[list[_Line]] = []
        """What is still to be sent, the next one last."""
        self.refused: list[_Line] = []
        self.is_their_fault = cleared
        """Whether the store takes others, so that a refused line is to blame itself."""
        self._unproven: list[list[_Line]] = []
        self._tried = 0
        lines = [
            _Line(batch.id, text, shift)
            for batch in batches
            for shift in (misdated_by(batch),)
            for text in batch.body.split(b"\n")
        ]
        self._left = Counter(line.batch for line in lines)
        self.refuse(lines)

    def accept(self, part: Sequence[_Line]) -> None:
        """Count a part as delivered."""
        # What was refused before may have been refused by a store that was not itself yet.
        self.parts += self._unproven
        self._unproven = []
        self.is_their_fault = True
        self._tried += 1
        self._settle(part)

    def refuse(self, part: list[_Line]) -> None:
        """Make smaller parts of a refused one; a single line is refused for good.

        A part that a wrong clock dated gets another chance under its right time first.
        """
        self._tried += 1
        half = len(part) // 2
        if all(line.misdated_by_ns for line in part):
            self.parts.append([line.redated() for line in part])
        elif half:
            self.parts += [part[half:], part[:half]]
        elif not self.is_their_fault:
            self._unproven.append(part)
        else:
            self.refused += part
            self._settle(part)

    def is_spent(self) -> bool:
        """Whether to stop here for now; never without a result, or it would start over."""
        return self._tried > SIFTING_POSTS and (not self.is_their_fault or bool(self.done()))

    def _settle(self, part: Iterable[_Line]) -> None:
        self._left.subtract(line.batch for line in part)

    def done(self) -> set[int]:
        """Batches of which every line is settled."""
        return {batch for batch, lines in self._left.items() if not lines}


class _Rejected:
    """The file of readings that the store refused, for a person to look at; the newest stay."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._logged_at = float("-inf")

    def add(self, lines: Sequence[bytes], reason: str) -> None:
        """Add lines, and say so unless that was done within the hour."""
        now = self._clock.monotonic()
        if now - self._logged_at >= REJECTED_LOG_SECONDS:
            self._logged_at = now
            log.warning(
                "the store refuses %d readings for good, see %s: %s", len(lines), self._path, reason
            )
        try:
            self._write(b"".join(line + b"\n" for line in lines))
        except OSError as error:
            log.warning("refused readings are lost: %s", error)

    def _write(self, text: bytes) -> None:
        self._path.touch(mode=0o600)
        if self._path.stat().st_size + len(text) <= REJECTED_BYTES:
            with self._path.open("ab") as file:
                file.write(text)
        else:
            newest = (self._path.read_bytes() + text)[-REJECTED_BYTES // 2 :]
            self._path.write_bytes(newest.partition(b"\n")[2])
