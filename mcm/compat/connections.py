"""What is known of the connections of one object: who carries what, how each stands, what was counted.

Everything that users may read while other threads go on is replaced as a whole, never changed in place.
"""

import math
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mcm.core.compat_health import CONNECTED, CONNECTING, DISCONNECTED, ERROR, Event, Seen, assigned, judge
from mcm.core.status import ConnectionStatus, Status

__all__ = ["Board", "ConnectionInfo", "Told"]


@dataclass
class ConnectionInfo:
    """One connection.

    Attributes:
        client: the view of this connection alone, with the methods of a MassiveWebSocketClient.
        assigned_tickers: that it carries for this object.
        status: ``disconnected``, ``connecting``, ``connected`` or ``error``.
        message_count: ticks that it brought; last_message_time: when the last one was received, seconds since 1970.
        error_count: what went wrong on it, lost lines and events that could not be read included.
    """

    connection_id: str
    name: str
    client: Any = field(repr=False)
    assigned_tickers: set[str] = field(default_factory=set)
    status: str = DISCONNECTED
    message_count: int = 0
    error_count: int = 0
    last_message_time: float | None = None


class Told(NamedTuple):
    """What the status callback is to be told."""

    status: str
    data: dict[str, Any]


class Board:
    """All connections of one object, for any thread; *market* is the one that they serve."""

    def __init__(self, market: str) -> None:
        self._market = market
        self._changed = threading.Condition()
        self._seen: dict[str, Seen] = {}
        self._lines: dict[str, str] = {}  # id → line of mcm
        self._leaving: set[str] = set()
        self._looks = 0
        self.trouble: dict[str, str] = {}  # wanted topic → why it is not carried, or not confirmed
        self.unplaced: dict[str, str] = {}
        self.reasons: dict[str, str] = {}  # id → what was said last
        self.connections: dict[str, ConnectionInfo] = {}
        self.ticker_to_connection: dict[str, str] = {}
        self.ticks = 0
        self.own_errors = 0

    # --- which there are

    def add(self, connection_id: str, name: str, client: object, line: str | None = None) -> None:
        """One more connection; *line* is what mcm calls it, where that is not its id."""
        with self._changed:
            self._lines[connection_id] = line or connection_id
            self._leaving.discard(line or connection_id)
            self.connections = self.connections | {connection_id: ConnectionInfo(connection_id, name, client)}

    def remove(self, connection_id: str) -> None:
        """One fewer."""
        with self._changed:
            line = self._lines.pop(connection_id)
            self._leaving.add(line)
            self._seen.pop(connection_id, None)
            self.connections = {name: info for name, info in self.connections.items() if name != connection_id}
            self.ticker_to_connection = {
                ticker: name for ticker, name in self.ticker_to_connection.items() if name != connection_id
            }

    def line_of(self, connection_id: str) -> str:
        """What mcm calls it."""
        return self._lines[connection_id]

    def unknown(self, status: Status) -> list[str]:
        """Lines of the market that have no id here yet."""
        known = {*self._lines.values(), *self._leaving}
        return [name for name, line in status.connections.items() if line.market == self._market and name not in known]

    def free_id(self) -> str:
        """The next number that no connection has."""
        number = len(self.connections) + 1
        while f"connection_{number}" in self.connections:
            number += 1
        return f"connection_{number}"

    # --- what is seen

    def observe(self, status: Status, plan: Mapping[str, Sequence[str]], wanted: Collection[str]) -> list[Told]:
        """Take what mcm says of itself; what is to be told about it."""
        with self._changed:
            told: list[Told] = []
            carried = assigned({name: plan.get(name, ()) for name in self._lines.values()}, wanted, self._market)
            owners: dict[str, str] = {}
            for connection_id, line in self._lines.items():
                info = self.connections[connection_id]
                found = status.connections.get(line)
                tickers = set(carried.get(line, ()))
                if tickers != info.assigned_tickers:
                    info.assigned_tickers = tickers
                for ticker in tickers:
                    owners.setdefault(ticker, connection_id)
                if found is not None:
                    told += self._judge(info, found)
            if owners != self.ticker_to_connection:
                self.ticker_to_connection = owners
            self._leaving &= status.connections.keys()
            self.unplaced = {topic: why for topic, why in status.unplaced.items() if topic in wanted}
            self.trouble = self.unplaced | _unconfirmed(status, self._lines, wanted)
            self._looks += 1
            self._changed.notify_all()
            return told

    def _judge(self, info: ConnectionInfo, line: ConnectionStatus) -> list[Told]:
        before = self._seen.get(info.connection_id, Seen(info.status, line.reconnects))
        seen, events = judge(line, before)
        self._seen[info.connection_id] = seen
        info.status = seen.status
        self.reasons[info.connection_id] = line.reason
        info.error_count = max(info.error_count, sum(line.errors.values()))
        return [_told(info, event) for event in events]

    def absent(self, reason: str, status: str = DISCONNECTED) -> list[Told]:
        """There is no mcm that could carry anything."""
        with self._changed:
            told = []
            self._seen.clear()
            for info in self.connections.values():
                self.reasons[info.connection_id] = reason
                if info.status != status:
                    info.status = status
                    told.append(_told(info, Event(status, reason)))
            self._looks += 1
            self._changed.notify_all()
            return told

    def forget_assignments(self) -> None:
        """Nobody carries anything any more."""
        with self._changed:
            for info in self.connections.values():
                info.assigned_tickers = set()
            self.ticker_to_connection = {}

    def lost(self, ticker: str, reason: str) -> Told:
        """Ticks were lost on the way here: counted, and to be told."""
        with self._changed:
            self.own_errors += 1
            info = self.connections.get(self.ticker_to_connection.get(ticker, ""))
            if info is not None:
                return _told(info, Event(ERROR, reason))
            return Told(ERROR, {"connection_id": None, "message": reason, "timestamp": time.time()})

    def failed(self) -> None:
        """Something of the user's, or of the request, went wrong."""
        with self._changed:
            self.own_errors += 1

    def count(self, line: str, ticker: str, ticks: int, at_s: float) -> None:
        """*line*, or ``backfill`` for whoever has the ticker, has brought so many ticks."""
        with self._changed:
            self.ticks += ticks
            connection_id = next((name for name, one in self._lines.items() if one == line), None)
            info = self.connections.get(connection_id or self.ticker_to_connection.get(ticker, ""))
            if info is not None:
                info.message_count += ticks
                info.last_message_time = at_s

    # --- what is asked

    def wait_settled(self, limit_s: float, grace_s: float, is_ending: threading.Event) -> bool:
        """Whether one is connected; waits for it, and then a little for the others."""
        deadline, others_until = time.monotonic() + limit_s, math.inf
        with self._changed:
            while not is_ending.is_set():
                states = {info.status for info in self.connections.values()}
                if self._looks and states <= {CONNECTED, ERROR}:
                    break
                now = time.monotonic()
                if CONNECTED in states:
                    others_until = min(others_until, now + grace_s)
                left_s = min(deadline, others_until) - now
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            return self.is_connected and not is_ending.is_set()

    def begin(self) -> None:
        """A new life: nothing has been seen of it."""
        with self._changed:
            self._looks = 0
            for info in self.connections.values():
                info.status = CONNECTING

    def wake(self) -> None:
        """Have whoever waits look again."""
        with self._changed:
            self._changed.notify_all()

    @property
    def is_connected(self) -> bool:
        """Whether at least one is."""
        return any(info.status == CONNECTED for info in self.connections.values())

    @property
    def errors(self) -> int:
        """All of them."""
        return self.own_errors + sum(info.error_count for info in self.connections.values())

    def health(self) -> dict[str, Any]:
        """As get_health_status gives it."""
        with self._changed:
            return {
                "total_connections": len(self.connections),
                "connected_count": sum(info.status == CONNECTED for info in self.connections.values()),
                "total_ticks_received": self.ticks,
                "total_errors": self.errors,
                "connections": {
                    connection_id: {
                        "name": info.name,
                        "status": info.status,
                        "assigned_tickers": len(info.assigned_tickers),
                        "message_count": info.message_count,
                        "error_count": info.error_count,
                        "last_message_time": info.last_message_time,
                    }
                    for connection_id, info in self.connections.items()
                },
            }


def _told(info: ConnectionInfo, event: Event) -> Told:
    data = {
        "connection_id": info.connection_id,
        "name": info.name,
        "status": info.status,
        "message": event.message,
        "timestamp": time.time(),
    }
    return Told(event.status, data)


def _unconfirmed(status: Status, lines: Mapping[str, str], wanted: Collection[str]) -> dict[str, str]:
    found = {}
    for line in lines.values():
        if (one := status.connections.get(line)) is not None:
            for item in one.unconfirmed:
                if (topic := f"{one.market}.{item}") in wanted:
                    found[topic] = f"{line} has asked for it twice, and it was never confirmed"
    return found
