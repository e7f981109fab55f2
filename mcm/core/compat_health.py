"""What a program that knows four words for a connection is told of a line that has eight states.

``disconnected``, ``connecting``, ``connected`` and ``error``.  A line is connected from when everything it carries is
confirmed until it ends: what is subscribed, acknowledged or refused meanwhile changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from mcm.core.status import ConnectionStatus

__all__ = ["CONNECTED", "CONNECTING", "DISCONNECTED", "ERROR", "STATUS_UPDATE", "Event", "Seen", "assigned", "judge"]

DISCONNECTED, CONNECTING, CONNECTED, ERROR = "disconnected", "connecting", "connected", "error"
STATUS_UPDATE = "status_update"

_WORDS = {
    "starting": CONNECTING,
    "connecting": CONNECTING,
    "live": CONNECTED,
    "backoff": DISCONNECTED,
    "paused": DISCONNECTED,
    "stopped": DISCONNECTED,
    "parked": ERROR,
    "down": ERROR,
}


class Seen(NamedTuple):
    """How a line was found the last time; *reconnects* as mcm counts them."""

    status: str = DISCONNECTED
    reconnects: int = 0


class Event(NamedTuple):
    """What a status callback is called with: one of the four words or ``status_update``, and why."""

    status: str
    message: str


def judge(line: ConnectionStatus, before: Seen) -> tuple[Seen, list[Event]]:
    """How *line* is to be called now, and what to tell about the way there.

    A line that was lost and came back between two looks has been disconnected, too.
    """
    status = _WORDS.get(line.state, CONNECTING)
    if line.state == "connecting" and not line.reason and before.status == CONNECTED:
        status = CONNECTED  # it is up and subscribes something more
    seen = Seen(status, line.reconnects)
    message = line.reason or line.note
    was_up = before.status == CONNECTED
    is_another = status == CONNECTED and was_up and line.reconnects > before.reconnects
    events: list[Event] = []
    if was_up and (is_another or status == CONNECTING):
        events.append(Event(DISCONNECTED, message or "the line was lost"))
    if status != before.status or is_another:
        events.append(Event(STATUS_UPDATE if status == CONNECTING else status, message))
    return seen, events


def assigned(plan: Mapping[str, Sequence[str]], wanted: Collection[str], market: str) -> dict[str, dict[str, None]]:
    """Line → symbols of *wanted* topics that it carries by *plan* (line → items), by themselves or by a wildcard."""
    found: dict[str, dict[str, None]] = {line: {} for line in plan}
    left = {topic.partition(".")[2] for topic in wanted if topic.startswith(f"{market}.")}
    for line, items in plan.items():
        for item in items:
            if item in left:
                found[line][item.partition(".")[2]] = None
                left.discard(item)
    channels = {item.partition(".")[0]: line for line, items in plan.items() for item in items if item.endswith(".*")}
    for item in sorted(left):
        channel, _, symbol = item.partition(".")
        if (line_of := channels.get(channel)) is not None:
            found[line_of][symbol] = None
    return found
