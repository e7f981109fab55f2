"""The vendor's side of the protocol: who is connected, who may do what, who holds what.

Its shell is `server`; `orders` and `rest` work on the same object.  Rules and texts: massive-protocol.md 3, 4 and 9.
"""

import time
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from mcm.core.markets import MARKETS
from mcm.simulator import SimulatorSettings, frames
from mcm.simulator.connection import Acknowledging, Connection, State
from mcm.simulator.keys import Keys
from mcm.simulator.tape import Tape, Topic

__all__ = ["Counters", "Dial", "Vendor", "wall_ms"]

POLICY_VIOLATION = 1008  # RFC 6455 7.4.1; how the vendor closes one connection too many
# Events per turn of the loop at most: a minute burst must not keep pings waiting.
MAX_EVENTS_PER_TURN = 2_000
# How many ended connections a report still tells of.
REMEMBERED = 1_000
REMEMBERED_DIALS = 10_000


class Dial(NamedTuple):
    """One dial: when (monotonic seconds of the simulator), where, and as which connection; None: refused with 503."""

    at_s: float
    market: str
    connection: int | None


class _ClientMessage(msgspec.Struct):
    action: str
    params: str = ""


@dataclass
class Counters:
    """What has happened since the start, in all.

    Attributes:
        dials: connections that were upgraded.
        upgrades_refused: dials answered with 503.
        auths, auth_failures: answers to ``auth``.
        evictions: connections closed because of the cap.
        slow_consumers: connections cut because they did not read.
        events: tape events written to connections, each connection counted.
    """

    dials: int = 0
    upgrades_refused: int = 0
    auths: int = 0
    auth_failures: int = 0
    evictions: int = 0
    slow_consumers: int = 0
    events: int = 0


def wall_ms() -> float:
    return time.time_ns() / 1e6


class Vendor:
    """The account's other side.  Orders reach in from outside and change what is public here.

    Attributes:
    connections: the living ones, by number.
    ended: the last thousand that ended.
    cap, cap_mode: see SimulatorSettings.
    refuses_upgrades: markets whose dials are answered with 503.
    acknowledging: per market, for connections to come.
    rest_failures: HTTP statuses that the next REST requests are answered with.
    dials: every dial of late, for bounding how often a client dials.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.tape = Tape(settings.seed, settings.ticks_per_s, settings.minute_bars_every_s)
        self.keys = Keys(settings.keys)
        self.counters = Counters()
        self.connections: dict[int, Connection] = {}
        self.ended: deque[Connection] = deque(maxlen=REMEMBERED)
        self.cap, self.cap_mode = settings.cap, settings.cap_mode
        self.send_buffer_bytes = settings.send_buffer_bytes
        self.refuses_upgrades: set[str] = set()
        self.acknowledging: dict[str, Acknowledging] = {market: Acknowledging() for market in MARKETS}
        self.rest_failures: deque[int] = deque()
        self.dials: deque[Dial] = deque(maxlen=REMEMBERED_DIALS)
        self._wild: defaultdict[tuple[str, str], list[Connection]] = defaultdict(list)

    # --- life of a connection

    def admit(self, connection: Connection) -> None:
        self.counters.dials += 1
        self.dials.append(Dial(time.monotonic(), connection.market, connection.number))
        self.connections[connection.number] = connection
        connection.send(frames.CONNECTED)

    def refuse_upgrade(self, market: str) -> None:
        self.counters.upgrades_refused += 1
        self.dials.append(Dial(time.monotonic(), market, None))

    def receive(self, connection: Connection, text: bytes | str) -> None:
        """Take one message of a client; what is not understood is ignored, as far as anybody knows."""
        try:
            message = msgspec.json.decode(text, type=_ClientMessage)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if message.action == "auth":
            self._authenticate(connection, message.params.strip())
        elif not connection.is_authenticated:
            connection.send(frames.AUTH_REQUIRED)
        elif message.action == "subscribe":
            self._subscribe(connection, message.params)
        elif message.action == "unsubscribe":
            self._unsubscribe(connection, message.params)

    def forget(self, connection: Connection) -> None:
        """The TCP connection is gone."""
        connection.end("the client was gone")
        for holders in self._wild.values():
            if connection in holders:
                holders.remove(connection)
        connection.state = State.CLOSED
        connection.closed_ms = int(wall_ms())
        if self.connections.pop(connection.number, None):
            self.ended.append(connection)

    # --- authentication and the cap

    def _authenticate(self, connection: Connection, key: str) -> None:
        connection.key = key
        plan = self.keys.entitlement(key)
        if plan is None or not plan.covers(connection.market):
            self.counters.auth_failures += 1
            connection.hang_up(frames.AUTH_FAILED if plan is None else frames.NOT_IN_PLAN)
            return
        self.counters.auths += 1
        connection.plan, connection.is_authenticated = plan, True
        connection.send(frames.AUTH_SUCCESS)
        self._enforce_cap(connection)

    def _enforce_cap(self, newcomer: Connection) -> None:
        """The extra connection is let in first; then one of them is closed (massive-protocol 3.4)."""
        rivals = [
            other
            for other in self.connections.values()
            if other.is_authenticated and (other.key, other.market) == (newcomer.key, newcomer.market) and other.is_open
        ]
        if not self.cap or len(rivals) <= self.cap:
            return
        if self.cap_mode == "refuse-newest":
            self.evict(newcomer)
        else:
            for rival in rivals[: -self.cap]:  # several, when the cap was lowered meanwhile
                self.evict(rival)

    def evict(self, connection: Connection) -> None:
        self.counters.evictions += 1
        connection.close(POLICY_VIOLATION, frames.MAX_CONNECTIONS)

    # --- subscriptions

    def _subscribe(self, connection: Connection, params: str) -> None:
        wanted = [item for item in self._items(connection.market, params) if item.held not in connection.items]
        if excess := self._excess(connection, wanted):
            connection.acknowledge([frames.LIMIT_REACHED] * excess)
            return
        errors, accepted = [], []
        for item in wanted:
            if f"{connection.market}.{item.channel}" in connection.plan.lacks:
                errors.append(frames.NOT_AUTHORIZED)
            elif item.held not in connection.items:  # the same item twice in one message
                connection.items.add(item.held)
                accepted.append(item)
        # Errors first: the vendor was seen doing that, and it is the harder order for a client.
        connection.acknowledge(errors + [frames.subscribed(item.asked) for item in accepted])
        for item in accepted:
            self._attach(connection, item)

    def _attach(self, connection: Connection, item: "_Item") -> None:
        now_ms = wall_ms()
        if item.symbol == "*":
            self._wild[connection.market, item.channel].append(connection)
            for topic in self.tape.name_all(connection.market, item.channel, now_ms):
                self._tell_wild(topic)
            return
        topic = self.tape.name(connection.market, item.channel, item.symbol, now_ms)
        if topic.is_known:
            connection.join(topic)
            self._tell_wild(topic)

    def _tell_wild(self, topic: Topic) -> None:
        for connection in self._wild[topic.market, topic.channel]:
            connection.join(topic)

    def _unsubscribe(self, connection: Connection, params: str) -> None:
        """Items that are not held get no answer; what the vendor does with them is not known."""
        released = []
        for item in self._items(connection.market, params):
            if item.held not in connection.items:
                continue
            released.append(item)
            connection.items.remove(item.held)
            if item.symbol == "*":
                self._wild[connection.market, item.channel].remove(connection)
            for topic in self._topics_of(connection.market, item):
                if not connection.holds(topic):
                    connection.leave(topic)
        connection.acknowledge([frames.unsubscribed(item.asked) for item in released])

    def _topics_of(self, market: str, item: "_Item") -> list[Topic]:
        if item.symbol == "*":
            return self.tape.by_channel[market, item.channel]
        topic = self.tape.topics.get(f"{market}.{item.channel}.{item.symbol}")
        return [topic] if topic else []

    def _items(self, market: str, params: str) -> list["_Item"]:
        """Split a subscribe list; an unknown prefix, or a wildcard that does not exist, vanishes without a word."""
        items = []
        for text in params.split(","):
            asked = text.strip()
            channel, dot, symbol = asked.partition(".")
            if not dot or not symbol or channel not in MARKETS[market].channels:
                continue
            if symbol == "*" and channel in MARKETS[market].no_wildcard:
                continue
            if market == "forex" and ":" not in symbol:
                symbol = symbol.replace("-", "/")  # EUR-USD is accepted, events say EUR/USD
            items.append(_Item(asked, channel, symbol))
        return items

    @staticmethod
    def _excess(connection: Connection, wanted: list["_Item"]) -> int:
        """By how many items this message would go over a channel's limit."""
        excess = 0
        for channel, limit in MARKETS[connection.market].held_limit.items():
            held = {item for item in connection.items if item.startswith(f"{channel}.")}
            new = {item.held for item in wanted if item.channel == channel}
            excess += max(0, len(held | new) - limit)
        return excess

    # --- the tape

    def turn(self) -> bool:
        """Emit what is due and send it; true when more is due already."""
        taken = self.tape.take(wall_ms(), MAX_EVENTS_PER_TURN)
        for topic in taken:
            if batches := topic.batches:
                text = topic.advance()  # written once: every connection gets the same bytes
                for batch in batches:
                    batch.append(text)
            else:
                topic.next_n += 1  # it ticks on, unseen
        for connection in list(self.connections.values()):
            if connection.batch:
                self.counters.events += len(connection.batch)
                if connection.flush() > self.send_buffer_bytes:
                    self.cut_slow(connection)
        return len(taken) >= MAX_EVENTS_PER_TURN

    def cut_slow(self, connection: Connection, *, with_status: bool = True) -> None:
        """Slow-consumer kick.  The status gets through only to a client that happens to read right now."""
        self.counters.slow_consumers += 1
        if with_status:
            connection.send(frames.SLOW_CONSUMER)
        connection.abort()


class _Item(msgspec.Struct, frozen=True):
    """One item of a subscribe list: as it was asked for (and is acknowledged), and what it means."""

    asked: str
    channel: str
    symbol: str

    @property
    def held(self) -> str:
        return f"{self.channel}.{self.symbol}"
