"""What links carry beside ticks: notices for the router, and notices for everybody.

A notice is a group of a batch like any other, so it is in order with the ticks of its link, in the link file, and taken
exactly once.  On ``mcm.control`` the router itself is told something; ``mcm.status`` and ``mcm.gap`` it publishes.
"""

from collections.abc import Sequence

import msgspec

from mcm.core.wire import Group

__all__ = [
    "BACKFILL",
    "CONTROL",
    "STATUS",
    "SUPERVISOR",
    "CoverChange",
    "LineMark",
    "LineNotice",
    "Notice",
    "TopicMark",
    "group_of",
    "readable_notices",
]

CONTROL = b"mcm.control"
STATUS = b"mcm.status"
BACKFILL = "backfill"  # the link of repaired ticks; it is no line, and never arbitrated
SUPERVISOR = "supervisor"  # the name of the supervisor's own link; no connection may have it


class LineMark(msgspec.Struct, tag="line", tag_field="ev", frozen=True):
    """A line has begun or ended: what it brings next may follow a gap.  In its own link, or by who knows it is dead."""

    connection: str


class TopicMark(msgspec.Struct, tag="topics", tag_field="ev", frozen=True):
    """A line subscribes these topics anew: what it brings of them next may follow a gap.  In its own link."""

    connection: str
    topics: list[str]


class CoverChange(msgspec.Struct, tag="cover", tag_field="ev", frozen=True):
    """These topics are carried by *lines* from now on, two or more; by fewer, they need no arbitration any more.

    Attributes:
        carried_by: those of the lines that publish them already.
    """

    topics: list[str]
    lines: list[str]
    carried_by: list[str]


class LineNotice(msgspec.Struct, tag="line", tag_field="ev", frozen=True):
    """For everybody: a connection has changed its state, *t_ns* wall clock, with the reason in words."""

    connection: str
    state: str
    reason: str
    t_ns: int


Notice = LineMark | TopicMark | CoverChange

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Notice]).decode


def group_of(topic: bytes, notices: Sequence[object]) -> Group:
    """Notices as a group of a batch."""
    return Group(topic, len(notices), _encode(notices))


def readable_notices(ticks: bytes) -> list[Notice]:
    """What stands on ``mcm.control``; nothing if that is no list of notices."""
    try:
        return _decode(ticks)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
