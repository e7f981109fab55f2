"""Gaps: stretches of time in which nobody received a topic; what was sent then is missing, and is named so.

A gap belongs to a line, an interval and the topics that the line held and no other line carries.  It is opened when the
line ends, and closed topic by topic when a line confirms the topic again.  Records of all of it go out on ``mcm.gap``,
journaled like ticks, so that they survive every kill.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

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

    *how* is ``reconnected``, ``other line``, or ``went on`` where only what it read had been lost.
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
        """A line has confirmed *topics*: they are no longer missing."""
        confirmed = set(topics)
        records: list[GapRecord] = []
        for gap in list(self.open.values()):
            if closed := sorted(gap.topics & confirmed):
                gap.topics.difference_update(closed)
                how = "reconnected" if connection == gap.connection else "other line"
                records.append(GapClosed(gap.id, connection, gap.since_ns, until_ns, how, closed))
            if not gap.topics:
                del self.open[gap.id]
        return records

    def lost(
        self, connection: str, topics: Iterable[str], *, since_ns: int, until_ns: int, reason: str
    ) -> list[GapRecord]:
        """What a line read in this time was lost on its way: a gap that is over when it is known."""
        missing = sorted(topics)
        if not missing:
            return []
        self._count += 1
        name = f"{self.prefix}-{self._count}"
        return [
            GapOpened(name, connection, reason, since_ns, missing),
            GapClosed(name, connection, since_ns, until_ns, "went on", missing),
        ]

    def gap_of(self, topic: str) -> OpenGap | None:
        """The open gap that *topic* is missing in; None where it is carried."""
        return next((gap for gap in self.open.values() if topic in gap.topics), None)
