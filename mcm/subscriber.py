"""``mcm.Subscriber``: a program's own view of the merged stream, without holes.

It reads the router's SUB socket and repairs from the journal what that drops: when the program is slow, when the router
or the program itself starts again.  core.follow decides; here are the sockets, the thread and the ways to iterate.
"""

import asyncio
import contextlib
import math
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar

import msgspec

from mcm import bus, locks
from mcm.client import Control
from mcm.core import replaying, topics
from mcm.core.errors import NotRunning, UsageError
from mcm.core.events import Tick, tick_decoder
from mcm.core.follow import Cursor, Delivery, Follower, Lost, Reset, WantHeads, WantRange, ticks_in
from mcm.core.gaps import GAP_TOPIC, GapRecord
from mcm.core.markets import MARKETS
from mcm.core.notices import STATUS, LineNotice
from mcm.core.replaying import AskHeads, AskMore, AskRange, AskTime, Heads, Messages, Selection, Since, WrongEpoch
from mcm.core.wire import HEARTBEAT, Heartbeat, Message
from mcm.demand import Demand
from mcm.inbox import Inbox

__all__ = ["Counters", "Current", "Subscriber"]

ANSWER_S = 1.0
ABSENT_S = 5.0
LOOK_S = 0.2
CREDIT = 4_000
EXACT_PER_CHANNEL = 2_000  # beyond, the whole channel is subscribed and filtered here

Answer = TypeVar("Answer", Heads, Messages, Since)
_notices = msgspec.msgpack.Decoder(list[GapRecord | LineNotice]).decode
_decode_heartbeat = msgspec.msgpack.Decoder(list[Heartbeat]).decode


@dataclass
class Counters:
    """Ticks, from the Subscriber's own counting: Δsequence = delivered + conflated + lost, per topic and in all.

    Attributes:
        delivered: handed out; conflated: replaced by a newer one of their topic before anybody took them.
        lost: named by Lost.
        repaired: messages that only the journal brought; duplicates: messages that came twice and were dropped.
    """

    delivered: int = 0
    conflated: int = 0
    lost: int = 0
    repaired: int = 0
    duplicates: int = 0


@dataclass(frozen=True)
class Current:
    """Where the tick in hand comes from.

    Attributes:
        topic: ``stocks.T.AAPL``; sequence: its number within the topic.
        received_ns: wall clock when the worker read it; connection: the line it came by, or ``backfill``.
        offset: of its message.
    """

    topic: str
    sequence: int
    received_ns: int
    connection: str
    offset: int

    @property
    def is_backfilled(self) -> bool:
        """Whether it was fetched later, to close a gap, and is out of its time."""
        return self.connection == "backfill"


class Subscriber:
    """Ticks of *topics*, each once, per topic in the upstream's order, for as long as mcm runs.

    Iterate over it (``for tick in subscriber``, ``async for``), take whole messages (:meth:`messages`), or let it call
    you (:meth:`run`).  For one thread or one event loop; close it, or use it in ``with``.

    Args:
        topics: ``stocks.T.AAPL``, ``stocks.T.*``, ``stocks.*``, ``T.AAPL``, ``AAPL`` or ``*``, one text or several.
        run_dir: of the running mcm; None for ``$MCM_RUN_DIR`` or ``.mcm``.
        since: wall clock in nanoseconds since the Unix epoch: begin with what was received from then on.
        cursor: what :attr:`cursor` gave in an earlier life: go on exactly there.
        last: begin with the last value of every topic.
        backfilled: ``"skip"`` leaves out what was fetched later to close a gap; else see ``current.is_backfilled``.
        conflate_ms: > 0: at most one tick per topic in that time, the newest.
        demand: have these topics carried for as long as this lives, whether the configuration wants them or not.
        on_gap: is called with Lost and Reset, and with what mcm says of gaps upstream (core.gaps); without it Lost and
            Reset are raised, and iterating may go on behind them.
        on_status: is called when a connection changes its state (core.notices.LineNotice).

    Raises:
        NotRunning: no mcm runs on *run_dir*, or has not for 5 s.
        BadTopic: a topic cannot be.
        Lost: ticks that the journal has no more (retention, a full disk), with topic and sequences.
        Reset: the journal has begun a new epoch.
    """

    def __init__(
        self,
        topics: str | Iterable[str],
        *,
        run_dir: str | os.PathLike[str] | None = None,
        since: int | None = None,
        cursor: bytes | None = None,
        last: bool = False,
        backfilled: Literal["mark", "skip"] = "mark",
        conflate_ms: int = 0,
        demand: bool = False,
        on_gap: Callable[[Lost | Reset | GapRecord], object] | None = None,
        on_status: Callable[[LineNotice], object] | None = None,
    ) -> None:
        if cursor is not None and (since is not None or last):
            raise UsageError("a cursor says where to begin", "leave since and last out")
        wanted = [topics] if isinstance(topics, str) else list(topics)
        # What is not asked for as a topic goes to the callbacks.
        self._asides: dict[bytes, Callable[[Any], object]] = {}
        for aside, callback in ((GAP_TOPIC, on_gap), (STATUS, on_status)):
            if callback is not None and aside.decode() not in wanted:
                self._asides[aside] = callback
        self.run_dir = Path(run_dir or os.environ.get("MCM_RUN_DIR") or ".mcm").expanduser().absolute()
        self._prefixes, self._selection = _subscriptions([*wanted, *(aside.decode() for aside in self._asides)])
        self._has_joined = False
        self._absent_since: float | None = None
        self._check_presence()  # before anything is opened
        self._demand = Demand(self.run_dir, wanted) if demand else None
        self._since, self._last, self._on_gap = since, last, on_gap
        self._skips_backfilled = backfilled == "skip"
        self._conflate_s = conflate_ms / 1e3
        self._follower = Follower(Cursor.decode(cursor) if cursor is not None else None)
        self._context: bus.Context[bus.Socket[bytes]] = bus.Context()
        self._asker = _Asker(self._context, self.run_dir)
        self._inbox = Inbox(self.run_dir, [*self._prefixes, HEARTBEAT + b"\0"])  # its first one proves the others
        self._frames: deque[bytes] = deque()
        self._readers: dict[bytes, _Reader] = {}
        self._ready: deque[Delivery | Lost | Reset] = deque()
        self._range: Iterator[None] | None = None
        self._in_hand: tuple[bytes, int] | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._pending: Future[Iterator[Tick]] | None = None
        self._ticks: Iterator[Tick] = iter(())
        self._source: Message | None = None
        self._stopping = threading.Event()
        self.counters = Counters()
        self._inbox.start()

    # --- ways to read

    def __iter__(self) -> Iterator[Tick]:
        """Itself."""
        return self

    def __next__(self) -> Tick:
        """The next tick; waits for it."""
        while True:
            for tick in self._ticks:
                return tick
            try:
                self._ticks = self._next_ticks()
            except _Stopped:
                raise StopIteration from None

    def __aiter__(self) -> AsyncIterator[Tick]:
        """Itself."""
        return self

    async def __anext__(self) -> Tick:
        """The next tick; the event loop goes on while it waits."""
        while True:
            for tick in self._ticks:
                return tick
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "mcm:subscriber")
            if self._pending is None:
                self._pending = self._executor.submit(self._next_ticks)
            try:
                ticks = await asyncio.shield(asyncio.wrap_future(self._pending))
            except asyncio.CancelledError:
                raise  # it goes on, and whoever asks next gets what it brings
            except BaseException as error:
                self._pending = None
                if isinstance(error, _Stopped):
                    raise StopAsyncIteration from None
                raise
            self._pending, self._ticks = None, ticks

    def messages(self) -> Iterator[tuple[str, list[Tick]]]:
        """(topic, ticks) as they were published together: the fastest way to typed ticks."""
        for delivery in self._messages():
            message, skip = delivery.message, delivery.skip
            reader = self._readers.get(delivery.topic) or self._reader(delivery.topic)
            ticks = reader.decode(message.ticks)
            if skip:
                ticks = ticks[skip:]
            self._hold(delivery, message.sequence + skip)
            self.counters.delivered += len(ticks)
            yield reader.topic, ticks

    def raw(self) -> Iterator[tuple[bytes, bytes]]:
        """(topic, encoded list of ticks), undecoded: for passing on.  A first message may hold ticks taken before."""
        for delivery in self._messages():
            self._hold(delivery, delivery.message.sequence + delivery.skip)
            self.counters.delivered += ticks_in(delivery.message) - delivery.skip
            yield delivery.topic, bytes(delivery.message.ticks)

    def run(self, callback: Callable[[Tick], object]) -> None:
        """Call *callback* with every tick, until it raises or mcm is gone."""
        for tick in self:
            callback(tick)

    def _messages(self) -> Iterator[Delivery]:
        with contextlib.suppress(_Stopped):
            while True:
                yield self._next_message()

    def _reader(self, topic: bytes) -> "_Reader":
        """What reads messages of *topic*, kept: to find it again costs as much as to read a tick."""
        return self._readers.setdefault(topic, _Reader(topic.decode(), _decoder(topic)))

    def _next_ticks(self) -> Iterator[Tick]:
        if self._conflate_s:
            return self._newest_of(self._gather())
        return self._ticks_of(self._next_message())

    def _ticks_of(self, delivery: Delivery) -> Iterator[Tick]:
        message, skip = delivery.message, delivery.skip
        reader = self._readers.get(delivery.topic) or self._reader(delivery.topic)
        for index, tick in enumerate(reader.decode(message.ticks)[skip:], message.sequence + skip):
            self._hold(delivery, index)
            self.counters.delivered += 1
            yield tick

    def _gather(self) -> dict[bytes, Delivery]:
        """The newest message of every topic that ticks within one interval."""
        first = self._next_message()
        until = time.monotonic() + self._conflate_s
        newest = {first.topic: first}
        while (left_s := until - time.monotonic()) > 0:
            try:
                delivery = self._next_message(left_s)
            except TimeoutError:
                break
            if (replaced := newest.get(delivery.topic)) is not None:
                self.counters.conflated += ticks_in(replaced.message) - replaced.skip
            newest[delivery.topic] = delivery
        return newest

    def _newest_of(self, gathered: dict[bytes, Delivery]) -> Iterator[Tick]:
        for delivery in gathered.values():
            message = delivery.message
            last = message.sequence + ticks_in(message) - 1
            self.counters.conflated += last - message.sequence - delivery.skip
            yield from self._ticks_of(Delivery(delivery.topic, message, last - message.sequence))

    def _hold(self, delivery: Delivery, sequence: int) -> None:
        """From here until the next one is asked for, this tick is not taken."""
        self._in_hand = (delivery.topic, sequence)
        self._source = delivery.message

    @property
    def current(self) -> Current | None:
        """Where the tick in hand, or the first one of the message in hand, comes from; None before the first."""
        if self._source is None or self._in_hand is None:
            return None
        (topic, sequence), source = self._in_hand, self._source
        return Current(topic.decode(), sequence, source.received_ns, source.connection, source.offset)

    @property
    def cursor(self) -> bytes | None:
        """Where to go on in another life, before the tick in hand; store it together with what you made of the ticks.

        None before the first contact with mcm.  With ``conflate_ms``, what is conflated counts as taken.
        """
        place = self._follower.place(self._in_hand)
        return bytes(place) if place is not None else None

    @property
    def is_joined(self) -> bool:
        """Whether it knows where the stream stands: from here on, nothing is missed silently.  For any thread."""
        return self._follower.epoch is not None

    # --- the machinery

    def _next_message(self, within_s: float = math.inf) -> Delivery:
        """The next one; raises TimeoutError if there is none in time, and Lost or Reset where nobody else is told."""
        self._in_hand = None
        if not self._conflate_s:  # else more than the one in hand may have been delivered
            self._follower.taken()
        if (at_hand := self._at_hand()) is not None:
            return at_hand
        deadline = time.monotonic() + within_s
        while True:
            if not self._ready:
                # Not before: what is ready counts as delivered for the cursor.
                if self._stopping.is_set():
                    raise _Stopped
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                self._advance(min(left_s, LOOK_S))
                continue
            event = self._ready.popleft()
            if isinstance(event, Delivery):
                if event.topic in self._asides:
                    for notice in _decoder(event.topic)(event.message.ticks)[event.skip :]:
                        self._asides[event.topic](notice)
                elif not self._is_unwanted(event):
                    return event
                continue
            self.counters.lost = self._follower.lost
            if self._on_gap is None:
                raise event
            self._on_gap(event)

    def _at_hand(self) -> Delivery | None:
        """The short way for what is nearly always so: the next message is here, fits, and is nothing but ticks.

        None leaves everything to the long way.  Not more than one at a time: what is taken counts for the cursor.
        """
        if self._ready or not self._frames or not self._has_joined or self._follower.wanted is not None:
            return None
        if self._stopping.is_set():
            return None
        delivery = self._take(self._frames.popleft())
        if delivery is None or not (delivery.topic in self._asides or self._is_unwanted(delivery)):
            return delivery
        self._ready.append(delivery)
        return None

    def _is_unwanted(self, delivery: Delivery) -> bool:
        return self._skips_backfilled and delivery.message.connection == "backfill"

    def _advance(self, patience_s: float) -> None:
        """One step towards the next message: from the replay while something is wanted, else from the socket."""
        follower = self._follower
        self.counters.repaired, self.counters.duplicates = follower.repaired, follower.duplicates
        if self._has_joined and follower.wanted is not None:
            self._catch_up()
            return
        if not self._frames and not self._fetch(patience_s):
            return
        if (delivery := self._take(self._frames.popleft())) is not None:
            self._ready.append(delivery)

    def _take(self, frame: bytes) -> Delivery | None:
        """What a frame of the socket brings to be handed out, if anything."""
        topic, message = Message.decode(frame)
        if topic == HEARTBEAT:
            (beat,) = _decode_heartbeat(message.ticks)
            self._has_joined = True
            self._follower.heartbeat(beat.epoch, beat.offset, now=time.monotonic())
        elif self._selection is None or topic in self._selection:
            return self._follower.live(topic, message)
        return None

    def _fetch(self, patience_s: float) -> bool:
        """Wait a little for frames; whether there are some."""
        found = self._inbox.get(patience_s)
        if found is None:
            self._check_presence()
        elif isinstance(found, list):
            self._absent_since = None
            self._frames.extend(found)
        else:
            self._follower.doubt()
        return bool(self._frames)

    def _check_presence(self) -> None:
        """Raise NotRunning when no mcm has been there for a while."""
        if locks.holder(self.run_dir) is not None:
            self._absent_since = None
            return
        now = time.monotonic()
        self._absent_since = self._absent_since or now
        if now - self._absent_since > ABSENT_S or not (self.run_dir / "lock").exists():
            raise NotRunning(self.run_dir, "it has stopped" if self._has_joined else "nothing runs there")

    def _catch_up(self) -> None:
        """The next step of asking the replay process."""
        if self._range is not None:
            if next(self._range, self) is self:
                self._range = None
            return
        match self._follower.wanted:
            case WantHeads(since) if self._since is not None:
                self._begin_at(self._since)
            case WantHeads(since):
                self._ask_heads(since)
            case WantRange(first, last):
                self._range = self._ask_range(first, last)

    def _begin_at(self, since_ns: int) -> None:
        """The cursor of a time, once the replay process has said it."""
        answer = self._asker.ask(lambda id_: AskTime(id_, since_ns), Since)
        if answer is None:
            self._check_presence()
            return
        self._since = None
        self._follower = Follower(Cursor(answer.epoch, answer.offset - 1, {}))

    def _ask_heads(self, since: int) -> None:
        values, prefixes = self._last, tuple(self._prefixes)
        answer = self._asker.ask(lambda id_: AskHeads(id_, prefixes, since, values), Heads)
        if answer is None:
            self._check_presence()
            return
        self._last = False
        next_of = answer.next_of
        if (selection := self._selection) is not None:
            next_of = {topic: number for topic, number in next_of.items() if topic in selection}
        for frame in answer.frames:
            topic, message = Message.decode(frame)
            if selection is None or topic in selection:
                self._ready.append(Delivery(topic, message, ticks_in(message) - 1))
        self._ready.extend(self._follower.heads(answer.epoch, answer.head, next_of, answer.begins))

    def _ask_range(self, first: int, last: int) -> Iterator[None]:
        """Ask for the range and feed it message by message; ends early, to be asked again, where nobody answers."""
        follower, asker = self._follower, self._asker
        epoch, prefixes = follower.epoch or 0, tuple(self._prefixes)
        answer = asker.ask(lambda id_: AskRange(id_, epoch, first, last, prefixes, CREDIT), Messages)
        used = 0
        while answer is not None:
            if (lost := follower.behind(answer.first_available)) is not None:
                self._ready.append(lost)
                yield
            for frame in answer.frames:
                topic, message = Message.decode(frame)
                if self._selection is None or topic in self._selection:
                    self._ready.extend(follower.replayed(topic, message))
                    if self._ready:
                        yield
            if answer.is_end:
                self._ready.extend(follower.range_ended())
                return
            used += len(answer.frames)
            if used >= CREDIT // 2:
                asker.grant(used)
                used = 0
            answer = asker.more(Messages)
        self._check_presence()

    def is_safe(self, topic: str) -> tuple[bool, str]:
        """Whether positions can be trusted to *topic* now (live, confirmed, in no gap), and the reason in words."""
        with Control(self.run_dir) as control:
            answer = control.ask("is_safe", {"topic": topic}, answer=dict[str, Any])
        return bool(answer["is_safe"]), str(answer["reason"])

    # --- its end

    def stop(self) -> None:
        """End the iteration within 0.2 s, behind the tick in hand; may be called from any thread or signal handler."""
        self._stopping.set()

    def close(self) -> None:
        """Let go of sockets and threads; from the thread that iterates."""
        if self._demand is not None:
            self._demand.close()
        self._inbox.close()
        if self._executor is not None:
            self._executor.shutdown()
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


class _Stopped(Exception):
    """Somebody has called stop."""


class _Asker:
    """The asking side of the replay socket: one request at a time; a socket that gets no answer is thrown away."""

    def __init__(self, context: "bus.Context[bus.Socket[bytes]]", run_dir: Path) -> None:
        self._context, self._run_dir = context, run_dir
        self._socket: bus.Socket[bytes] | None = None
        self._id = 0

    def ask(self, make: Callable[[int], replaying.Ask], kind: type[Answer]) -> Answer | None:
        """The answer; None when none comes in time or it is of another epoch."""
        self._id += 1
        self._send(make(self._id))
        return self.more(kind)

    def grant(self, messages: int) -> None:
        """More credit for the range in progress."""
        self._send(AskMore(self._id, messages))

    def _send(self, ask: replaying.Ask) -> None:
        if self._socket is None:
            self._socket = bus.replay_client(self._context, self._run_dir)
        bus.send_nowait(self._socket, replaying.encode(ask))

    def more(self, kind: type[Answer]) -> Answer | None:
        """The next part of the answer."""
        deadline = time.monotonic() + ANSWER_S
        while self._socket is not None and (left_s := deadline - time.monotonic()) > 0:
            if not self._socket.poll(int(left_s * 1_000) + 1):
                break
            parts = bus.receive_nowait(self._socket)
            if parts is None:
                continue
            answer = replaying.decode_answer(parts[-1])
            if answer.id != self._id:
                continue  # of a request that was given up
            if isinstance(answer, kind):
                return answer
            if isinstance(answer, WrongEpoch):
                return None
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None
        return None


class _Reader(NamedTuple):
    """What a topic is called, and what decodes the lists of its messages."""

    topic: str
    decode: Callable[[msgspec.Raw], list[Any]]


def _decoder(topic: bytes) -> Callable[[msgspec.Raw], list[Any]]:
    """What reads the ticks of a message, or the notices of one of mcm's own topics."""
    return _notices if topic.startswith(b"mcm.") else tick_decoder(topic.partition(b".")[0].decode()).decode


def _subscriptions(wanted: Iterable[str]) -> tuple[list[bytes], Selection | None]:
    """The prefixes to subscribe, and what of it is meant, where that is less.

    All exact subscriptions are sent again at every reconnect; beyond 2,000 of a channel, its prefix is cheaper.
    """
    exact = list(topics.prefixes(wanted))
    if not exact:
        raise UsageError("no topics were given", "name at least one, like stocks.T.AAPL")
    channels: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for prefix in exact:
        market, _, rest = prefix.partition(b".")
        is_topic = prefix.endswith(b"\0") and market.decode() in MARKETS
        channels[market + b"." + rest.partition(b".")[0] + b"." if is_topic else b""].append(prefix)
    if HEARTBEAT + b"\0" in exact:
        raise UsageError("mcm.heartbeat is not journaled", "read it with a plain SUB socket, as the README shows")
    found = channels.pop(b"", [])
    for channel, prefixes in channels.items():
        found += prefixes if len(prefixes) <= EXACT_PER_CHANNEL else [channel]
    return found, Selection(exact) if len(found) < len(exact) or b"" in exact else None
