"""One conversation with an upstream, without any I/O: feed it what the upstream says, then ask what to send.

A session lives as long as one WebSocket.  It is told what is *wanted*; what has to be sent follows from the difference
to what has been asked and confirmed, so that a reconnect (a new session with the same wishes) is no special case.

    GREETING ──connected──▶ AUTHENTICATING ──accepted──▶ SUBSCRIBING ⇄ LIVE          any of them ──▶ ENDED
                                                          (items open)  (none open)

An item is *queued*, then *asked*; an acknowledgement **or a tick of it** confirms it, because an upstream does not
acknowledge twice.  What is not answered in time is asked once more and then named *unconfirmed*, with the reason.

Upstreams answer in the order of the requests, and an error names no item: it belongs to the oldest open request behind
the newest one that was acknowledged.  One request holds items of one channel only, because what an upstream refuses
(a channel outside the plan, one item over a limit) concerns a channel, but takes the whole message with it.

Some channels have a limit of items held at a time.  What is over it is not asked for but named, and asked for when
places become free.  What was refused by the upstream itself is treated alike.

After an unsubscription, old ticks may still be on their way; until it is acknowledged, a tick of such an item proves
nothing about a new subscription to it, or about a wildcard that takes its place.

Time comes in as *now* (monotonic seconds), so that a test needs no clock.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from mcm.core.market_hours import Kind
from mcm.core.rhythm import Rhythm, Trading

__all__ = [
    "Accepted",
    "Acknowledged",
    "Authenticate",
    "Ending",
    "Greeting",
    "Refused",
    "Request",
    "Said",
    "Session",
    "State",
    "Subscribe",
    "Unsubscribe",
]

ANSWER_LIMIT_S = 5.0
MESSAGE_ITEMS = 500
MESSAGE_BYTES = 500_000  # the vendor takes 1 MB; half of it leaves room for quoting
_MINUTE_BARS = frozenset({"AM", "CA", "XA"})  # massive-protocol.md 4.2


class State(Enum):
    """Where the conversation stands; the values appear in reports."""

    GREETING = "greeting"
    AUTHENTICATING = "authenticating"
    SUBSCRIBING = "subscribing"
    LIVE = "live"
    ENDED = "ended"


# --- what an upstream can say --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Greeting:
    """The connection is open; the upstream waits for the key."""


@dataclass(frozen=True)
class Accepted:
    """The key is good for this market."""


@dataclass(frozen=True)
class Acknowledged:
    """One item is now carried, or no longer."""

    item: str
    subscribed: bool


@dataclass(frozen=True)
class Refused:
    """Some item of the oldest open request is not to be had; the upstream does not say which."""

    message: str


@dataclass(frozen=True)
class Ending:
    """The upstream is about to close the connection, and why: one of core.dialling's reasons."""

    reason: str
    message: str


Said = Greeting | Accepted | Acknowledged | Refused | Ending

# --- what to send to it --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authenticate:
    """Send the key (which the session does not know)."""


@dataclass(frozen=True)
class Subscribe:
    """Ask for these items, in one message."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Unsubscribe:
    """Give these items up, in one message."""

    items: tuple[str, ...]


Request = Authenticate | Subscribe | Unsubscribe


@dataclass
class _Asked:
    """A subscribe message on its way: what of it is still unanswered, and what the upstream complained."""

    number: int
    open: set[str]
    sent: float
    again: bool
    error: str | None = None


@dataclass
class Session:
    """The conversation over one WebSocket.

    Attributes:
        wanted: items that are to be carried; change it by :meth:`want`.
        held_limit: channel → how many of its items this upstream lets one connection hold.
        unproven: items asked for and not confirmed; a tick of one of them is to be reported by :meth:`proven`.
        unconfirmed: item → reason, for items given up on until they tick.
        ending: what the upstream said about why it will close, if it did.
        trading: the session of the market; None where nothing is known of it.
    """

    wanted: set[str] = field(default_factory=set)
    held_limit: Mapping[str, int] = field(default_factory=dict)
    state: State = State.GREETING
    unproven: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    unconfirmed: dict[str, str] = field(default_factory=dict)
    ending: Ending | None = None
    trading: Trading | None = None
    _queue: dict[str, bool] = field(default_factory=dict)  # item → is it the second try; in order
    _told: set[str] = field(default_factory=set)  # asked for, with whatever answer
    _leaving: dict[str, None] = field(default_factory=dict)  # told, and no longer wanted
    _departed: dict[str, float] = field(default_factory=dict)  # item → when it was unsubscribed; until acknowledged
    _doubted: set[str] = field(default_factory=set)  # ticked meanwhile
    _held: Counter[str] = field(default_factory=Counter)  # of the channels that have a limit
    _crowded: dict[str, dict[str, None]] = field(default_factory=dict)  # channel → items without a place; in order
    _asked: deque[_Asked] = field(default_factory=deque)
    _request_of: dict[str, _Asked] = field(default_factory=dict)
    _requests: int = 0
    _acknowledged: int = 0  # number of the newest request of which an item was
    _outbox: list[Request] = field(default_factory=list)
    _rhythm: Rhythm = field(default_factory=Rhythm)
    _speaks_by_the_minute: bool = False
    _first_tick: float | None = None
    _last_tick: float | None = None

    def __post_init__(self) -> None:
        """Queue what is wanted from the start."""
        wanted, self.wanted = self.wanted, set()
        self.want(wanted)

    # --- wishes ---

    def want(self, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Change what is wanted; the requests follow from :meth:`to_send`.  Removed and added again is no change."""
        for item in tuple(remove):
            if item in self.wanted:
                self._drop(item)
        for item in sorted(add):
            if item not in self.wanted:
                self._add(item)
        self._settle()

    def _drop(self, item: str) -> None:
        self.wanted.discard(item)
        if item in self._told:
            self._leaving[item] = None
        else:
            self._queue.pop(item, None)
            self._leave_crowd(item)
            self.unconfirmed.pop(item, None)

    def _add(self, item: str) -> None:
        self.wanted.add(item)
        if item in self._leaving:
            del self._leaving[item]
        else:
            self._queue[item] = False
        if _channel(item) in _MINUTE_BARS:
            self._speaks_by_the_minute = True

    # --- what comes in ---

    def receive(self, said: Said) -> None:
        """Take one status of the upstream."""
        match said:
            case Greeting() if self.state is State.GREETING:
                self.state = State.AUTHENTICATING
                self._outbox.append(Authenticate())
            case Accepted() if self.state is State.AUTHENTICATING:
                self.state = State.SUBSCRIBING
            case Acknowledged(item, subscribed=True):
                if item in self._request_of:
                    self._acknowledged = max(self._acknowledged, self._request_of[item].number)
                self._confirm(item)
            case Acknowledged(item, subscribed=False):
                self._departed.pop(item, None)
                if item == _wildcard(item):
                    self._doubted = {other for other in self._doubted if _wildcard(other) != item}
                self._doubted.discard(item)
            case Refused(message):
                self._refused(message)
            case Ending():
                self.ending = self.ending or said
                self.state = State.ENDED
            case _:
                pass  # a repeated greeting: nothing follows from it
        self._settle()

    def _refused(self, message: str) -> None:
        """Note the complaint where it belongs; one request is not refused in two ways, so another text goes on."""
        for asked in self._asked:
            if asked.open and asked.number >= self._acknowledged and asked.error in {None, message}:
                asked.error = message
                return

    def proven(self, item: str) -> None:
        """A tick of *item* has come: it is carried, be it by its own subscription or by its channel's wildcard."""
        whole = _wildcard(item)
        proves = item if item in self.unproven or item in self.unconfirmed or item in self.confirmed else whole
        if item not in self._departed and whole not in self._departed:
            self._confirm(proves)
        elif proves in self._told and proves not in self.confirmed:
            self._doubted.add(item)

    def _confirm(self, item: str) -> None:
        if item not in self._told or item in self.confirmed:
            return
        if self._leave_crowd(item):
            self._held[_channel(item)] += 1  # it was refused, and has a place all the same
        self.unproven.discard(item)
        self.unconfirmed.pop(item, None)
        self.confirmed.add(item)
        self._answered(item)
        self._settle()

    def _answered(self, item: str) -> None:
        asked = self._request_of.pop(item, None)
        if asked is not None:
            asked.open.discard(item)
        while self._asked and not self._asked[0].open:
            self._asked.popleft()

    def ticked(self, count: int, now: float) -> None:
        """*count* ticks were read at *now*; teaches the session how often this line speaks."""
        if self._first_tick is None:
            self._first_tick = now
        self._last_tick = now
        self._rhythm.spoke(count, now)

    # --- what to do ---

    def to_send(self, *, now: float) -> list[Request]:
        """The requests that are due, to be sent in this order; taken once."""
        requests, self._outbox = self._outbox, []
        if self.state is State.ENDED:
            return []
        if self.is_authenticated:
            # Leaving first: it frees places that the upstream counts.
            requests += map(Unsubscribe, self._leave(now))
            self._stop_doubting(now)
            self._give_up_waiting(now)
            requests += map(Subscribe, self._ask(now))
            self._settle()
        return requests

    def _leave(self, now: float) -> Iterator[tuple[str, ...]]:
        leaving, self._leaving = self._leaving, {}
        freed: Counter[str] = Counter()
        for item in leaving:
            channel = _channel(item)
            if not self._leave_crowd(item) and channel in self.held_limit:
                freed[channel] += 1
            self._told.discard(item)
            self.unproven.discard(item)
            self.confirmed.discard(item)
            self.unconfirmed.pop(item, None)
            self._answered(item)
            self._departed.pop(item, None)
            self._departed[item] = now
        if leaving:
            self._rhythm = Rhythm()  # fewer items, other habits
        self._held -= freed
        next_ones = [item for channel, places in freed.items() for item in self._next_in_line(channel, places)]
        self._queue = dict.fromkeys(next_ones, False) | self._queue
        return _cut(leaving)

    def _next_in_line(self, channel: str, places: int) -> Iterator[str]:
        crowd = self._crowded.get(channel, {})
        for item in tuple(crowd)[:places]:
            del crowd[item], self.unconfirmed[item]
            yield item

    def _stop_doubting(self, now: float) -> None:
        """Where unsubscriptions are not acknowledged, whatever ticked meanwhile gets the benefit of the doubt."""
        if not self._departed:
            return
        for item in [item for item, since in self._departed.items() if now - since >= ANSWER_LIMIT_S]:
            del self._departed[item]
        if not self._departed:
            doubted, self._doubted = self._doubted, set()
            for item in doubted:
                self.proven(item)

    def _give_up_waiting(self, now: float) -> None:
        while self._asked and now - self._asked[0].sent >= ANSWER_LIMIT_S:
            asked = self._asked.popleft()
            for item in sorted(asked.open):
                del self._request_of[item]
                self.unproven.discard(item)
                if not asked.again:
                    self._queue[item] = True
                    continue
                self.unconfirmed[item] = asked.error or "no answer"
                channel = _channel(item)
                if asked.error is not None and channel in self.held_limit:
                    self._held[channel] -= 1
                    self._join_crowd(item)

    def _ask(self, now: float) -> Iterator[tuple[str, ...]]:
        queue, self._queue = self._queue, {}
        messages: dict[tuple[bool, str], list[str]] = {}
        for item, again in queue.items():
            channel = _channel(item)
            if again or self._finds_place(item, channel):
                messages.setdefault((again, channel), []).append(item)
        for (again, _), wanted in messages.items():
            for items in _cut(wanted):
                self._requests += 1
                asked = _Asked(self._requests, set(items), now, again)
                self._asked.append(asked)
                self._request_of.update(dict.fromkeys(items, asked))
                self._told.update(items)
                self.unproven.update(items)
                yield items

    def _finds_place(self, item: str, channel: str) -> bool:
        limit = self.held_limit.get(channel)
        if limit is None:
            return True
        if self._held[channel] >= limit:
            self.unconfirmed[item] = f"over the limit of {limit:,} {channel} items per connection"
            self._join_crowd(item)
            return False
        self._held[channel] += 1
        return True

    def _join_crowd(self, item: str) -> None:
        self._crowded.setdefault(_channel(item), {})[item] = None

    def _leave_crowd(self, item: str) -> bool:
        """Whether it was there."""
        crowd = self._crowded.get(_channel(item), {})
        was_there = item in crowd
        crowd.pop(item, None)
        return was_there

    def _settle(self) -> None:
        if self.state in {State.SUBSCRIBING, State.LIVE}:
            self.state = State.SUBSCRIBING if self._queue or self.unproven else State.LIVE

    def end(self) -> None:
        """The WebSocket has closed."""
        self.state = State.ENDED

    # --- what it looks like ---

    @property
    def is_authenticated(self) -> bool:
        """Whether the upstream has accepted the key and not announced the end."""
        return self.state in {State.SUBSCRIBING, State.LIVE}

    def quiet_limit_s(self) -> float | None:
        """After how many seconds of silence this line counts as stale; None before its rate is known.

        Learned from the ticks of the last minute or so.  A line that never ticked has no rate: it may be night.
        """
        by_the_minute = self._speaks_by_the_minute
        if self.trading is None:
            return self._rhythm.quiet_limit_s(speaks_by_the_minute=by_the_minute)
        return self._rhythm.quiet_limit_within_s(self.trading, speaks_by_the_minute=by_the_minute)

    def trades(self, trading: Trading) -> None:
        """The market has changed its session; where it has been closed, habits of the day before say nothing."""
        if self.trading is not None and self.trading.kind is Kind.CLOSED and trading.kind is not Kind.CLOSED:
            self._rhythm = Rhythm()
        self.trading = trading

    def is_stale(self, *, now: float) -> bool:
        """Whether the line has been silent for longer than its own habits explain."""
        limit = self.quiet_limit_s()
        begin = self.trading.since if self.trading is not None else -math.inf  # before, silence meant something else
        return limit is not None and now - max(begin, self._rhythm.last) > limit

    def tick_age_s(self, *, now: float) -> float | None:
        """Seconds since the last tick; None before the first."""
        return None if self._last_tick is None else now - self._last_tick

    def fed_s(self, *, now: float) -> float:
        """For how long this session has carried data, seconds since its first tick."""
        return 0.0 if self._first_tick is None else now - self._first_tick


def _channel(item: str) -> str:
    return item.partition(".")[0]


def _wildcard(item: str) -> str:
    return _channel(item) + ".*"


def _cut(items: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Parts that fit into a message each."""
    part: list[str] = []
    size = 0
    for item in items:
        length = len(item.encode()) + 1
        if part and (len(part) == MESSAGE_ITEMS or size + length > MESSAGE_BYTES):
            yield tuple(part)
            part, size = [], 0
        part.append(item)
        size += length
    if part:
        yield tuple(part)
