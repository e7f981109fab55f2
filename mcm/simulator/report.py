"""What the simulator says about itself: records for both ends of ``GET /report``."""

import time
from typing import Any

import msgspec

from mcm.simulator.connection import Connection
from mcm.simulator.keys import tail_of
from mcm.simulator.tape import Topic
from mcm.simulator.vendor import Counters, Dial, Vendor

__all__ = ["ConnectionReport", "Report", "TapeSlice", "TopicReport", "report_on"]


class TopicReport(msgspec.Struct, frozen=True):
    """How far a topic is: events 1 to *count* have ticked, the last with sequence number *last_q*, if it has any."""

    count: int
    last_q: int | None


class ConnectionReport(msgspec.Struct, frozen=True):
    """One connection, living or ended.

    Attributes:
        key: the last characters of its API key.
        state: ``open``, ``silent``, ``half-open``, ``closing`` or ``closed``.
        is_open: whether it still takes a place under the cap; the half-open do.
        ending: how it ended, in words; empty while it is open.
        items: what it held last, e.g. ``T.AAPL``.
        ranges: topic → closed ranges ``[first n, last n]`` of the tape that it was sent.
        events_sent: tape events written to it, repetitions and faults not counted.
        pongs: pings of it that were answered.
        opened_ms, closed_ms: wall clock.
    """

    number: int
    market: str
    path: str
    key: str
    state: str
    is_open: bool
    ending: str
    items: list[str]
    ranges: dict[str, list[tuple[int, int]]]
    events_sent: int
    opened_ms: int
    closed_ms: int | None
    pongs: int = 0


class Report(msgspec.Struct, frozen=True):
    """Everything at one moment.

    Attributes:
        now_s: the simulator's monotonic clock, which the dials are stamped with.
        dials: the last 10,000, oldest first.
        connections: oldest first; of those that ended, the last 1,000.
    """

    now_s: float
    seed: int
    ticks_per_s: float
    is_paused: bool
    cap: int
    cap_mode: str
    counters: dict[str, int]
    dials: list[Dial]
    connections: list[ConnectionReport]
    topics: dict[str, TopicReport]

    def open_connections(self, market: str | None = None) -> list[ConnectionReport]:
        """Those that are open, oldest first."""
        return [one for one in self.connections if one.is_open and market in {None, one.market}]

    def dials_within(self, seconds: float) -> int:
        """How many dials there were in the last so many seconds, refused ones included."""
        return sum(dial.at_s >= self.now_s - seconds for dial in self.dials)


class TapeSlice(msgspec.Struct, frozen=True):
    """Events *first* to *last* of a topic, each as it stood on the wire."""

    topic: str
    first: int
    last: int
    events: list[str]


class _Sequenced(msgspec.Struct):
    q: int | None = None


def report_on(vendor: Vendor) -> Report:
    """The report at this moment."""
    tape = vendor.tape
    return Report(
        now_s=time.monotonic(),
        seed=tape.seed,
        ticks_per_s=tape.ticks_per_s,
        is_paused=tape.is_paused,
        cap=vendor.cap,
        cap_mode=vendor.cap_mode,
        counters=_counts(vendor.counters),
        dials=list(vendor.dials),
        connections=[_connection(one) for one in (*vendor.ended, *vendor.connections.values())],
        topics={topic.name: TopicReport(topic.count, _last_q(topic)) for topic in tape.topics.values()},
    )


def _counts(counters: Counters) -> dict[str, int]:
    counts: dict[str, Any] = msgspec.to_builtins(counters)
    return counts


def _last_q(topic: Topic) -> int | None:
    return msgspec.json.decode(topic.text(topic.count), type=_Sequenced).q if topic.count else None


def _connection(one: Connection) -> ConnectionReport:
    return ConnectionReport(
        number=one.number,
        market=one.market,
        path=one.path,
        key=tail_of(one.key),
        state=one.state.value,
        is_open=one.is_open,
        ending=one.ending,
        items=sorted(one.items),
        ranges=one.sent_ranges(),
        events_sent=one.sent_events,
        opened_ms=one.since_ms,
        closed_ms=one.closed_ms,
        pongs=one.pongs,
    )
