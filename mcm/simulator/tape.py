"""When each event of the tape is due, and which event that is.  No I/O and no clock: the time is passed in.

The text of event n of a topic is a pure function (`events`); what a topic keeps is how far it is (`Topic.next_n`) and
its **anchors**: from which n on, events fell due at which time, one every so many milliseconds.  A new anchor is needed
only when the pace changes (other rate, more topics, a pause), so any event ever sent can be written again, to the byte.
"""

import re
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from mcm.core.markets import MARKETS
from mcm.simulator.events import renderer
from mcm.simulator.origin import MINUTE_BARS, SECOND_BARS
from mcm.simulator.universe import universe

__all__ = ["Anchor", "Tape", "Topic"]

# When the machine cannot keep up, the tape goes on from now instead of chasing the clock for ever.
MAX_LAG_MS = 1_000.0
# The vendor sends second bars about two seconds after their window (massive-protocol section 6).
SECOND_BAR_LAG_MS = 2_000


# What a ticker is made of, in all spellings; it stands between quotation marks in the templates.
_TICKER = re.compile(r"[A-Za-z0-9:./_-]+")


def is_known(symbol: str) -> bool:
    """Symbols that begin with ZZ, or cannot be one, are acknowledged and stay silent for ever; any other one ticks."""
    return bool(_TICKER.fullmatch(symbol)) and not symbol.rpartition(":")[2].startswith("ZZ")


class Anchor(NamedTuple):
    """From event *first_n* on, event n is due at ``start_ms + (n - first_n) * step_ms``."""

    first_n: int
    start_ms: float
    step_ms: float


class Topic:
    """One channel of one symbol: its place on the tape, and the batches that want its events.

    Attributes:
        name: e.g. ``stocks.T.AAPL``.
        next_n: number of the next event; the first is 1.
        batches: lists to which each new event's text is appended, one per connection that holds the topic.
        corrections: n → the text of a bar that was sent again with other values, by order.
    """

    __slots__ = (
        "_first", "_render", "_start", "_step", "anchors", "batches", "channel", "corrections", "era", "is_known",
        "market", "name", "next_n", "symbol",
    )  # fmt: skip

    def __init__(self, seed: int, market: str, channel: str, symbol: str, *, is_known: bool = True) -> None:
        self.market, self.channel, self.symbol = market, channel, symbol
        self.name = f"{market}.{channel}.{symbol}"
        self.is_known = is_known
        self.next_n = 1
        self.anchors: list[Anchor] = []
        self.batches: list[list[str]] = []
        self.corrections: dict[int, str] = {}
        self.era = -1
        self._render = renderer(seed, market, channel, symbol)
        self._first, self._start, self._step = 0, 0.0, 0.0

    def anchor(self, start_ms: float, step_ms: float) -> None:
        """Let the next event be due at *start_ms*, the later ones each *step_ms* after the one before."""
        self._first, self._start, self._step = self.next_n, start_ms, step_ms
        self.anchors.append(Anchor(self.next_n, start_ms, step_ms))

    def advance(self) -> str:
        """Write the next event and move on."""
        n = self.next_n
        self.next_n = n + 1
        return self._render(n, int(self._start + (n - self._first) * self._step))

    @property
    def count(self) -> int:
        """How many events have ticked: 1 to count."""
        return self.next_n - 1

    def correct_last(self, correct: Callable[[str], str]) -> str:
        """Replace the last event's text, as bars are replaced, and return it; what was sent before stays `text`."""
        self.corrections[self.count] = correct(self.final_text(self.count))
        return self.corrections[self.count]

    def final_text(self, n: int) -> str:
        """Event *n* as it stands after all corrections."""
        return self.corrections.get(n) or self.text(n)

    def time_of(self, n: int) -> int:
        """The ``t`` of event *n* (a bar: its window's start), ms; *n* must have been reached by an anchor."""
        place = bisect_right(self.anchors, n, key=lambda anchor: anchor.first_n) - 1
        anchor = self.anchors[place]
        return int(anchor.start_ms + (n - anchor.first_n) * anchor.step_ms)

    def text(self, n: int) -> str:
        """Event *n* once more; raises IndexError for one that was never due."""
        if not 1 <= n <= self.count:
            raise IndexError(f"{self.name}: event {n} is not on the tape, which holds 1 to {self.count}")
        return self._render(n, self.time_of(n))

    def leave(self, batch: list[str]) -> None:
        # By identity: two empty batches are equal.
        self.batches = [other for other in self.batches if other is not batch]


class TickLane:
    """Trades, quotes, values: a fixed total rate that goes round the topics.

    Between two changes of the pace (an *era*) event number g of the lane is due at ``start + g / rate``.
    """

    def __init__(self, ticks_per_s: float) -> None:
        self._topics: list[Topic] = []
        self._cursor = 0
        self._rate = ticks_per_s / 1_000  # events per ms
        self._era, self._start_ms, self._emitted = 0, 0.0, 0

    def add(self, topic: Topic, now_ms: float) -> None:
        self._topics.append(topic)
        self._begin(now_ms)

    def set_rate(self, ticks_per_s: float, now_ms: float) -> None:
        due_ms = self._next_due_ms()
        self._rate = ticks_per_s / 1_000
        self._begin(now_ms, due_ms)

    def restart(self, now_ms: float) -> None:
        """Go on from *now_ms*: what would have been due before it is not."""
        self._begin(now_ms, now_ms)

    def _next_due_ms(self) -> float:
        return self._start_ms + self._emitted / self._rate if self._rate else float("-inf")

    def _begin(self, now_ms: float, due_ms: float | None = None) -> None:
        """Begin an era.  It starts where the old one was, so that a stream of changes does not stop the tape."""
        due_ms = self._next_due_ms() if due_ms is None else due_ms
        period_ms = 1 / self._rate if self._rate else 0.0
        self._start_ms = min(max(due_ms, now_ms - period_ms), now_ms)
        self._era += 1
        self._emitted = 0

    def wait_ms(self, now_ms: float) -> float:
        """How long until the next event is due."""
        if not self._topics or not self._rate:
            return MAX_LAG_MS
        return max(0.0, self._start_ms + (self._emitted + 1) / self._rate - now_ms)

    def take(self, now_ms: float, limit: int) -> list[Topic]:
        """The topics whose next event is due, in order, at most *limit*; a topic may occur several times."""
        if not self._topics or not self._rate:
            return []
        due = int((now_ms - self._start_ms) * self._rate) - self._emitted
        if due > max(limit, self._rate * MAX_LAG_MS):
            self.restart(now_ms)
            return []
        taken: list[Topic] = []
        topics, era, cursor = self._topics, self._era, self._cursor
        for number in range(self._emitted, self._emitted + min(due, limit)):
            topic = topics[cursor]
            cursor = cursor + 1 if cursor + 1 < len(topics) else 0
            if topic.era != era:
                topic.era = era
                topic.anchor(self._start_ms + number / self._rate, len(topics) / self._rate)
            taken.append(topic)
        self._cursor = cursor
        self._emitted += len(taken)
        return taken


class BarLane:
    """Bars: one event per topic each *every_ms*, all at once, as the vendor's minute burst is.

    With ``every_ms < window_ms`` the windows run ahead of the clock, which is what a test in a hurry wants.
    """

    def __init__(self, window_ms: int, every_ms: int, lag_ms: int) -> None:
        self._window_ms, self._every_ms, self._lag_ms = window_ms, every_ms, lag_ms
        self._topics: list[Topic] = []
        self._pending: list[Topic] = []
        self._boundary_ms = 0
        self._window_start_ms = 0

    def add(self, topic: Topic, now_ms: float) -> None:
        if not self._topics:
            self._boundary_ms = int(now_ms) // self._every_ms * self._every_ms
        self._topics.append(topic)

    def take(self, now_ms: float, limit: int) -> list[Topic]:
        """The topics whose bar is due, at most *limit*; the rest of the burst comes with the next calls."""
        if not self._pending:
            boundary_ms = int(now_ms) // self._every_ms * self._every_ms
            if not self._topics or boundary_ms <= self._boundary_ms:
                return []
            self._boundary_ms = boundary_ms
            self._window_start_ms = self._next_window(boundary_ms)
            self._pending = self._topics[::-1]
        taken = [self._pending.pop() for _ in range(min(limit, len(self._pending)))]
        for topic in taken:
            if not topic.anchors or topic.time_of(topic.next_n) != self._window_start_ms:
                topic.anchor(self._window_start_ms, self._window_ms)
        return taken

    def _next_window(self, boundary_ms: int) -> int:
        current = boundary_ms // self._window_ms * self._window_ms - self._window_ms - self._lag_ms
        if self._every_ms < self._window_ms:
            return max(self._window_start_ms + self._window_ms, current)
        return current


class Tape:
    """All topics that were ever named, and the pace at which they tick.

    A topic once named keeps ticking whether or not anybody is connected, so a client that was away has a gap.
    """

    def __init__(self, seed: int, ticks_per_s: float, minute_bars_every_s: float = 60) -> None:
        self.seed, self.ticks_per_s = seed, ticks_per_s
        self.topics: dict[str, Topic] = {}
        self.by_channel: dict[tuple[str, str], list[Topic]] = {
            (market.name, channel): [] for market in MARKETS.values() for channel in market.channels
        }
        self.is_paused = False
        self._ticks = TickLane(ticks_per_s)
        self._seconds = BarLane(1_000, 1_000, SECOND_BAR_LAG_MS)
        self._minutes = BarLane(60_000, max(1, round(minute_bars_every_s * 1_000)), 0)

    def name(self, market: str, channel: str, symbol: str, now_ms: float) -> Topic:
        """The topic of that name; the first time somebody names it, it begins to tick."""
        name = f"{market}.{channel}.{symbol}"
        if topic := self.topics.get(name):
            return topic
        topic = Topic(self.seed, market, channel, symbol, is_known=is_known(symbol))
        self.topics[name] = topic
        if topic.is_known:
            self.by_channel[market, channel].append(topic)
            self._lane(channel).add(topic, now_ms)
        return topic

    def name_all(self, market: str, channel: str, now_ms: float) -> list[Topic]:
        """What ``*`` means: the market's universe, and whatever else anybody has named."""
        for symbol in universe(market, channel):
            self.name(market, channel, symbol, now_ms)
        return list(self.by_channel[market, channel])

    def _lane(self, channel: str) -> TickLane | BarLane:
        if channel in SECOND_BARS:
            return self._seconds
        return self._minutes if channel in MINUTE_BARS else self._ticks

    def take(self, now_ms: float, limit: int) -> list[Topic]:
        """The topics whose next event is due now: advance each once per occurrence, in this order."""
        if self.is_paused:
            return []
        taken = self._ticks.take(now_ms, limit)
        for lane in (self._seconds, self._minutes):
            taken += lane.take(now_ms, limit)
        return taken

    def wait_ms(self, now_ms: float) -> float:
        """How long until something may be due, as far as ticks are concerned; bars are looked at often enough."""
        return MAX_LAG_MS if self.is_paused else self._ticks.wait_ms(now_ms)

    def pause(self) -> None:
        self.is_paused = True

    def resume(self, now_ms: float) -> None:
        self.is_paused = False
        self._ticks.restart(now_ms)

    def set_rate(self, ticks_per_s: float, now_ms: float) -> None:
        self.ticks_per_s = ticks_per_s
        self._ticks.set_rate(ticks_per_s, now_ms)
