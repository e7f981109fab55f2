"""One conversation with an upstream, without any I/O: feed it what the upstream says, then ask what to send.

A session lives as long as one WebSocket.  It is told what is *wanted*; what has to be sent follows from the difference
to what has been asked and confirmed, so that a reconnect (a new session with the same wishes) is no special case.

    GREETING ──connected──▶ AUTHENTICATING ──accepted──▶ SUBSCRIBING ⇄ LIVE          any of them ──▶ ENDED
                                                          (items open)  (none open)

An item is *queued*, then *asked*; an acknowledgement **or a tick of it** confirms it, because an upstream does not
acknowledge twice.  What is not answered in time is asked once more and then named *unconfirmed*, with the reason.
Upstreams answer in the order of the requests, so an error that names no item belongs to the oldest open request.

Time comes in as *now* (monotonic seconds), so that a test needs no clock.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

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
_RATE_MEMORY_S = 60.0
_QUIET_FACTOR = 20.0  # silent for so many mean intervals is no coincidence
_QUIET_S = (10.0, 120.0)


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
    """

    wanted: set[str] = field(default_factory=set)
    held_limit: Mapping[str, int] = field(default_factory=dict)
    state: State = State.GREETING
    unproven: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    unconfirmed: dict[str, str] = field(default_factory=dict)
    ending: Ending | None = None
    _queue: dict[str, bool] = field(default_factory=dict)  # item → is it the second try; in order
    _leaving: list[str] = field(default_factory=list)
    _asked: deque[_Asked] = field(default_factory=deque)
    _outbox: list[Request] = field(default_factory=list)
    _rate_weight: float = 0.0
    _first_tick: float | None = None
    _last_tick: float | None = None

    def __post_init__(self) -> None:
        """Queue what is wanted from the start."""
        self._enqueue(self.wanted)

    # --- wishes ---

    def want(self, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Change what is wanted; the requests follow from :meth:`to_send`."""
        gone = [item for item in remove if item in self.wanted]
        for item in gone:
            self.wanted.discard(item)
            if self._queue.pop(item, None) is None:
                self._leaving.append(item)  # asked for before, with whatever answer: take it back
            self.unproven.discard(item)
            self.confirmed.discard(item)
            self.unconfirmed.pop(item, None)
            self._answered(item)
        self._enqueue(item for item in add if item not in self.wanted)

    def _enqueue(self, items: Iterable[str]) -> None:
        for item in sorted(items):
            self.wanted.add(item)
            channel = item.partition(".")[0]
            limit = self.held_limit.get(channel)
            if limit is not None and self._held(channel) >= limit:
                self.unconfirmed[item] = f"over the limit of {limit:,} {channel} items per connection"
            else:
                self._queue[item] = False

    def _held(self, channel: str) -> int:
        prefix = channel + "."
        held = sum(item.startswith(prefix) for item in self._queue)
        return held + sum(item.startswith(prefix) for item in self.unproven | self.confirmed)

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
                self.proven(item)
            case Refused(message):
                for asked in self._asked:
                    if asked.open:
                        asked.error = message
                        break
            case Ending():
                self.ending = self.ending or said
                self.state = State.ENDED
            case _:
                pass  # a repeated greeting, an unsubscription confirmed: nothing follows from it
        self._settle()

    def proven(self, item: str) -> None:
        """A tick of *item*, or its acknowledgement, has come: it is carried."""
        if item not in self.unproven and item not in self.unconfirmed:
            wildcard = item.partition(".")[0] + ".*"
            if wildcard not in self.unproven and wildcard not in self.unconfirmed:
                return
            item = wildcard
        if item not in self.wanted or item in self._queue:
            return
        self.unproven.discard(item)
        self.unconfirmed.pop(item, None)
        self.confirmed.add(item)
        self._answered(item)
        self._settle()

    def _answered(self, item: str) -> None:
        for asked in self._asked:
            if item in asked.open:
                asked.open.remove(item)
                break
        while self._asked and not self._asked[0].open:
            self._asked.popleft()

    def ticked(self, count: int, *, now: float) -> None:
        """*count* ticks were read at *now*; teaches the session how often this line speaks."""
        if self._last_tick is None:
            self._first_tick = now
        else:
            self._rate_weight *= math.exp((self._last_tick - now) / _RATE_MEMORY_S)
        self._rate_weight += count
        self._last_tick = now

    # --- what to do ---

    def to_send(self, *, now: float) -> list[Request]:
        """The requests that are due, to be sent in this order; taken once."""
        requests, self._outbox = self._outbox, []
        if self.state not in {State.SUBSCRIBING, State.LIVE}:
            return requests
        self._give_up_waiting(now)
        # Leaving first: it frees places that the upstream counts.
        while self._leaving:
            requests.append(Unsubscribe(self._cut(self._leaving)))
            del self._leaving[: len(requests[-1].items)]  # type: ignore[union-attr]
        while self._queue:
            again = next(iter(self._queue.values()))
            items = self._cut([item for item, second in self._queue.items() if second is again])
            for item in items:
                del self._queue[item]
                self.unproven.add(item)
            self._asked.append(_Asked(set(items), now, again))
            requests.append(Subscribe(items))
        self._settle()
        return requests

    @staticmethod
    def _cut(items: list[str]) -> tuple[str, ...]:
        size = 0
        for index, item in enumerate(items[:MESSAGE_ITEMS]):
            size += len(item.encode()) + 1
            if size > MESSAGE_BYTES and index:
                return tuple(items[:index])
        return tuple(items[:MESSAGE_ITEMS])

    def _give_up_waiting(self, now: float) -> None:
        while self._asked and now - self._asked[0].sent >= ANSWER_LIMIT_S:
            asked = self._asked.popleft()
            for item in sorted(asked.open):
                self.unproven.discard(item)
                if asked.again:
                    self.unconfirmed[item] = asked.error or "no answer"
                else:
                    self._queue[item] = True

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
        if self._first_tick is None or self._last_tick is None or self._rate_weight < _QUIET_FACTOR:
            return None
        observed_s = min(_RATE_MEMORY_S, max(1.0, self._last_tick - self._first_tick))
        shortest, longest = _QUIET_S
        return min(longest, max(shortest, _QUIET_FACTOR * observed_s / self._rate_weight))

    def is_stale(self, *, now: float) -> bool:
        """Whether the line has been silent for longer than its own habits explain."""
        limit = self.quiet_limit_s()
        return limit is not None and self._last_tick is not None and now - self._last_tick > limit

    def tick_age_s(self, *, now: float) -> float | None:
        """Seconds since the last tick; None before the first."""
        return None if self._last_tick is None else now - self._last_tick

    def fed_s(self, *, now: float) -> float:
        """For how long this session has carried data, seconds since its first tick."""
        return 0.0 if self._first_tick is None else now - self._first_tick
