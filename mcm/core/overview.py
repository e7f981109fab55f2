"""What people look at beside the status: every connection that is configured, every wanted topic in a short row."""

import msgspec

__all__ = ["TOPICS_PER_ANSWER", "BriefGap", "BriefGaps", "Configured", "ConfiguredLine", "TopicRow", "TopicRows"]


TOPICS_PER_ANSWER = 5_000


class ConfiguredLine(msgspec.Struct, frozen=True):
    """A connection of the configuration, or one that was added by hand.

    Attributes:
        is_enabled: false where the file disables it, or somebody removed it: it has no process then.
        note: why it is not enabled, or that it was added by hand; else empty.
        watchlists: that are pinned to it.
    """

    name: str
    market: str
    is_enabled: bool
    note: str
    tiers: tuple[str, ...]
    max_symbols: int | None
    watchlists: list[str]


class Configured(msgspec.Struct, frozen=True):
    """What was asked for: no addresses, no keys, no environment.

    Attributes:
        watchlists: name → what it is pinned to; null where the strategy decides.
    """

    strategy: str
    connections: list[ConfiguredLine]
    watchlists: dict[str, str | None]


class TopicRow(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A wanted topic.

    Attributes:
        lines: that are told to carry it, sorted.
        copies: how many should.
        ticks_per_s: as measured, exponentially weighted; null before.
        watchlist: that wants it; empty for what was subscribed by hand or by a program.
        gap_since_ns: since when nobody receives it, wall clock; null where somebody does.
    """

    topic: str
    lines: list[str]
    copies: int
    ticks_per_s: float | None
    watchlist: str
    gap_since_ns: int | None


class BriefGap(msgspec.Struct, frozen=True, omit_defaults=True):
    """A gap that is open, or a record of one (see core.gaps), with the first few of its *count* topics.

    Attributes:
        ev: ``open``, or the record's.
        detail: why it was opened, or how it was closed or repaired.
        until_ns: 0 while it is open.
        fetched, published: ticks, of a repair.
    """

    ev: str
    connection: str
    detail: str
    topics: list[str]
    count: int
    since_ns: int
    until_ns: int = 0
    fetched: int = 0
    published: int = 0


class BriefGaps(msgspec.Struct, frozen=True):
    """Gaps that are open, and the newest records of all, oldest first."""

    open: list[BriefGap] = []
    recent: list[BriefGap] = []


class TopicRows(msgspec.Struct, frozen=True):
    """A part of all rows; *total* is how many there are."""

    rows: list[TopicRow]
    total: int
