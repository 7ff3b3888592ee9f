"""What a post may be, and what became of all of them."""

from collections import Counter
from dataclasses import dataclass, field

_MOST_WRITERS = 4096
_OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a post may be; `docs/ingest.md` tells them to the keeper."""

    wire_bytes: int = 1 << 20
    """An agent posts 1,000,000 bytes at most, not compressed."""
    inflated_bytes: int = 2 << 20
    """Twice what an agent posts; each thread may hold that much."""
    lines: int = 10_000
    """An agent posts 5,000 readings at most."""
    fields: int = 256
    """In a line, unknown ones included; a card has 67 in this schema."""
    tags: int = 16
    """In a line, whatever its measurement; the contract has 8 at most."""
    tag_key_bytes: int = 64
    """The longest name in the contract has 33."""
    body_seconds: float = 10
    """Time in which a body must have arrived."""
    posts: int = 128
    """Posts at work at once, waiting for the store included."""
    threads: int = 32
    parsers: int = 2
    """Bodies that are inflated and parsed at once; more would only take memory from each other."""
    behind_seconds: float = 5
    """A store that has worked on one post for so long gets no more until it is through."""
    series_per_day: int = 500_000
    """Different tag sets seen in one day; more are likely garbage, and each costs memory."""
    host_series_per_day: int = 500
    """The same for a writer that is bound to one host: 16 cards with 8 lanes of work each, once
    with and once without their identity, make 400."""
    failed_tokens_per_minute: int = 20
    """From one source address, before it has to wait; an agent tries again once a minute."""
    loopback_exempt: bool = True
    """Whether the machine itself, which may be a proxy for all, never has to wait."""
    retention_days: int = 30
    """Age of the oldest reading that the store would keep."""
    future_seconds: int = 300


@dataclass(slots=True)
class Counts:
    """What was taken in and what was not, since the start. Used in the event loop alone."""

    accepted: int = 0
    """Readings."""
    refused_readings: Counter[str] = field(default_factory=Counter)
    """By reason: `time_past`, `time_future`, `host`, `tags`, `fields`, `series`."""
    refused_posts: Counter[str] = field(default_factory=Counter)
    """By reason: `unauthorized`, `throttled`, `malformed`, `too_large`, `encoding`, `slow`,
    `disconnected`, `busy`, `behind`, `store`, `clock`."""
    by_writer: dict[str, Counter[str]] = field(default_factory=dict)
    """The name of a grant, and what was refused of it: `readings_` or `posts_` and the reason.

    Those beyond the first thousands of writers are counted together as `others`.
    """

    def take(self, writer: str, accepted: int, refused: Counter[str]) -> None:
        """Count the readings of a post that was looked into."""
        self.accepted += accepted
        if refused:
            self.refused_readings.update(refused)
            theirs = self._of(writer)
            for reason, readings in refused.items():
                theirs[f"readings_{reason}"] += readings

    def refuse(self, reason: str, writer: str | None) -> None:
        """Count a post that was refused as a whole; `writer` is None where no token was good."""
        self.refused_posts[reason] += 1
        if writer is not None:
            self._of(writer)[f"posts_{reason}"] += 1

    def _of(self, writer: str) -> Counter[str]:
        if writer not in self.by_writer and len(self.by_writer) >= _MOST_WRITERS:
            writer = _OTHERS
        return self.by_writer.setdefault(writer, Counter())
