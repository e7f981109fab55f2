"""Gaps: stretches of time in which nobody received a topic; what was sent then is missing, and is named so.

A gap belongs to a line, an interval and the topics that the line held and no other line carries.  It is opened when the
line ends, and closed topic by topic when a line confirms the topic again.  Records of all of it go out on ``mcm.gap``,
journaled like ticks, so that they survive every kill.
"""

from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass, field

import msgspec

from mcm.core.topics import is_wildcard, whole_channel

__all__ = ["GAP_TOPIC", "GapClosed", "GapOpened", "GapRecord", "GapRepaired", "Gaps", "OpenGap"]

GAP_TOPIC = b"mcm.gap"


class _Event(msgspec.Struct, tag_field="ev", frozen=True):
    """What a message on ``mcm.gap`` holds."""


class GapOpened(_Event, tag="gap_opened", frozen=True):
    """A line has ended: from *since_ns* on (wall clock, when it surely still received) these topics are missing."""

    id: str
    connection: str
    reason: str
    since_ns: int
    topics: list[str]


class GapClosed(_Event, tag="gap_closed", frozen=True):
    """Topics are carried again from *until_ns* on, by *connection*.

    *how* is ``reconnected``, ``other line``, ``no longer wanted``, ``let go`` where the line was found dead
    after it had been told to, or ``went on`` where only what it read had been lost.
    """

    id: str
    connection: str
    since_ns: int
    until_ns: int
    how: str
    topics: list[str]


class GapRepaired(_Event, tag="gap_repaired", frozen=True):
    """What back-filling made of one topic of a gap: so many events fetched, known already, and published.

    *how* is ``back-filled``, or ``not repaired`` with the reason behind it.
    """

    id: str
    topic: str
    since_ns: int
    until_ns: int
    fetched: int
    known: int
    published: int
    how: str


GapRecord = GapOpened | GapClosed | GapRepaired


@dataclass
class OpenGap:
    """A gap as far as it is open: *topics* are those that nobody carries yet."""

    id: str
    connection: str
    reason: str
    since_ns: int
    topics: set[str] = field(default_factory=set)


@dataclass
class Gaps:
    """All open gaps.

    Args:
        prefix: makes ids unique over starts of mcm.
    """

    prefix: str
    open: dict[str, OpenGap] = field(default_factory=dict)
    _count: int = 0

    def line_ended(self, connection: str, topics: Iterable[str], *, since_ns: int, reason: str) -> list[GapRecord]:
        """A line has ended that alone carried *topics*; those that are missing already stay in the older gap."""
        known = {topic for gap in self.open.values() for topic in gap.topics}
        missing = sorted(set(topics) - known)
        if not missing:
            return []
        self._count += 1
        gap = OpenGap(f"{self.prefix}-{self._count}", connection, reason, since_ns, set(missing))
        self.open[gap.id] = gap
        return [GapOpened(gap.id, connection, reason, since_ns, missing)]

    def carried(self, connection: str, topics: Iterable[str], *, until_ns: int) -> list[GapRecord]:
        """A line has confirmed *topics*: they are no longer missing; of a wildcard, neither are its single topics."""
        confirmed = set(topics)
        wildcards = set(filter(is_wildcard, confirmed))
        records: list[GapRecord] = []
        for gap in list(self.open.values()):
            closed = gap.topics & confirmed
            if wildcards:
                closed |= {topic for topic in gap.topics if whole_channel(topic) in wildcards}
            how = "reconnected" if connection == gap.connection else "other line"
            records += self._close(gap, closed, connection, until_ns, how)
        return records

    def unwanted(self, wanted: Container[str], *, until_ns: int) -> list[GapRecord]:
        """What is in no gap any more, because from *until_ns* on nobody wants it, neither it nor its channel."""
        records: list[GapRecord] = []
        for gap in list(self.open.values()):
            left = {topic for topic in gap.topics if topic not in wanted and whole_channel(topic) not in wanted}
            records += self._close(gap, left, gap.connection, until_ns, "no longer wanted")
        return records

    def _close(
        self, gap: OpenGap, topics: Collection[str], connection: str, until_ns: int, how: str
    ) -> list[GapRecord]:
        if not topics:
            return []
        gap.topics.difference_update(topics)
        if not gap.topics:
            del self.open[gap.id]
        return [GapClosed(gap.id, connection, gap.since_ns, until_ns, how, sorted(topics))]

    def lost(
        self, connection: str, topics: Iterable[str], *, since_ns: int, until_ns: int, reason: str, how: str = "went on"
    ) -> list[GapRecord]:
        """A gap that is over when it is known: what a line read in this time was lost on its way, for instance."""
        missing = sorted(topics)
        if not missing:
            return []
        self._count += 1
        name = f"{self.prefix}-{self._count}"
        return [
            GapOpened(name, connection, reason, since_ns, missing),
            GapClosed(name, connection, since_ns, until_ns, how, missing),
        ]

    def gap_of(self, topic: str) -> OpenGap | None:
        """The open gap that *topic* is missing in, by itself or with its channel; None where it is carried."""
        if not self.open:
            return None
        names = {topic, whole_channel(topic)}
        return next((gap for gap in self.open.values() if not names.isdisjoint(gap.topics)), None)
