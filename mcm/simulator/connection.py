"""One client's connection as the vendor sees it: what it holds, what it was sent, how it ends.

All writes go straight to the transport and never wait; who does not read is cut (`flush`).
"""

import asyncio
import socket
import struct
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from mcm.simulator.faults import with_float
from mcm.simulator.frames import array, chunks, close_frame, pong_frame, text_frame
from mcm.simulator.keys import EVERYTHING, Entitlement
from mcm.simulator.tape import Topic

__all__ = ["Acknowledging", "Connection", "Packing", "State"]

Packing = Literal["one", "many"]
# A client that does not answer a close frame is not waited for longer than this.
CLOSE_WAIT_S = 2.0
# Acknowledgements per frame when packed; 1,000 of them stay far below the clients' limit of 1,000,000 bytes.
ACKS_PER_FRAME = 500
# How many of the events sent last can be repeated.
REPEATABLE = 1_000


class State(Enum):
    OPEN = "open"
    SILENT = "silent"  # sends no events, but answers pings
    HALF_OPEN = "half-open"  # neither reads nor writes; the TCP connection stays
    CLOSING = "closing"  # a close frame is out, or the transport is being closed
    CLOSED = "closed"


@dataclass
class Acknowledging:
    """How subscriptions are acknowledged: ``normal``, ``swallow`` (never) or ``delay`` (after *delay_s*)."""

    mode: Literal["normal", "swallow", "delay"] = "normal"
    delay_s: float = 0.0
    packing: Packing = "many"


@dataclass(eq=False)
class Connection:
    """Attributes:
    number: counted up from 1 over the life of the simulator; what orders and reports call this connection by.
    path: the URL path it came by, e.g. ``/futures/cme``.
    items: what it holds, e.g. ``T.AAPL`` and ``Q.*``.
    batch: events for its next frames; topics append to it.
    riders: events made by orders that wait for a tape event to share a frame with.
    floats: how many of the next tape events get an integer written as ``12.0``.
    recent: the events sent last, for an order to repeat.
    ranges: topic name → closed ranges (first n, last n) of what it was sent.
    pongs: how many pings of the client were answered.
    ending: how it ended, in words; empty while it is open.
    """

    number: int
    market: str
    path: str
    transport: asyncio.Transport
    since_ms: int
    acknowledging: Acknowledging
    max_events_per_frame: int
    state: State = State.OPEN
    key: str = ""
    is_authenticated: bool = False
    plan: Entitlement = EVERYTHING
    items: set[str] = field(default_factory=set)
    batch: list[str] = field(default_factory=list)
    riders: list[str] = field(default_factory=list)
    floats: int = 0
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=REPEATABLE))
    ranges: defaultdict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    sent_events: int = 0
    pongs: int = 0
    closed_ms: int | None = None
    ending: str = ""
    _joined: dict[Topic, int] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether it takes a place under the cap; the dead still do (massive-protocol 3.4)."""
        return self.state in {State.OPEN, State.SILENT, State.HALF_OPEN}

    # --- topics

    def holds(self, topic: Topic) -> bool:
        return f"{topic.channel}.{topic.symbol}" in self.items or f"{topic.channel}.*" in self.items

    def join(self, topic: Topic) -> None:
        """Receive *topic* from its next event on; once, even when a wildcard and a single item both ask for it."""
        if self.state is State.OPEN and topic not in self._joined:
            self._joined[topic] = topic.next_n
            topic.batches.append(self.batch)

    def leave(self, topic: Topic) -> None:
        first_n = self._joined.pop(topic, None)
        if first_n is None:
            return
        topic.leave(self.batch)
        if topic.next_n > first_n:
            self.ranges[topic.name].append((first_n, topic.count))

    def leave_all(self) -> None:
        for topic in list(self._joined):
            self.leave(topic)

    def sent_ranges(self) -> dict[str, list[tuple[int, int]]]:
        """Topic name → ranges of n sent, the one still open included."""
        ranges = {name: list(pairs) for name, pairs in self.ranges.items()}
        for topic, first_n in self._joined.items():
            if topic.next_n > first_n:
                ranges.setdefault(topic.name, []).append((first_n, topic.count))
        return ranges

    # --- sending

    def send(self, *events: str) -> None:
        """Send *events* at once, in a frame of their own."""
        self.write(text_frame(array(events)))

    def acknowledge(self, events: list[str]) -> None:
        """Send statuses in the packing and with the delay that was ordered."""
        if not events or self.acknowledging.mode == "swallow":
            return
        size = 1 if self.acknowledging.packing == "one" else ACKS_PER_FRAME
        frames = b"".join(text_frame(array(chunk)) for chunk in chunks(events, size))
        if self.acknowledging.mode == "delay":
            asyncio.get_running_loop().call_later(self.acknowledging.delay_s, self.write, frames)
        else:
            self.write(frames)

    def pong(self, payload: bytes) -> None:
        self.pongs += self.state in {State.OPEN, State.SILENT}
        self.write(pong_frame(payload))

    def write(self, frames: bytes) -> None:
        if self.state in {State.OPEN, State.SILENT} and not self.transport.is_closing():
            self.transport.write(frames)

    def flush(self) -> int:
        """Send the batch; return how many bytes the client has yet to read."""
        self.sent_events += len(self.batch)
        self.recent.extend(self.batch)
        if self.floats or self.riders:
            self._spoil()
        if len(self.batch) <= self.max_events_per_frame:
            self.write(text_frame(array(self.batch)))
        else:
            self.write(b"".join(text_frame(array(chunk)) for chunk in chunks(self.batch, self.max_events_per_frame)))
        self.batch.clear()  # the same list: topics append to it
        return self.transport.get_write_buffer_size()

    def _spoil(self) -> None:
        spoilt = min(self.floats, len(self.batch))
        self.batch[:spoilt] = map(with_float, self.batch[:spoilt])
        self.floats -= spoilt
        # In the middle, so that an event which breaks its neighbours is seen to break both of them.
        middle = len(self.batch) // 2
        self.batch[middle:middle] = self.riders
        self.riders = []

    def repeat(self, last: int) -> None:
        """Send the last so many events again."""
        again = list(self.recent)[-last:]
        self.write(b"".join(text_frame(array(chunk)) for chunk in chunks(again, self.max_events_per_frame)))

    # --- ending

    def close(self, code: int, *last_words: str) -> None:
        """Close with a close frame; the client has two seconds to answer it."""
        if self.state is State.HALF_OPEN:  # a close frame would not get through
            self.abort()
            return
        frames = text_frame(array(last_words)) if last_words else b""
        self.write(frames + close_frame(code))
        self.end(f"closed with {code}")
        asyncio.get_running_loop().call_later(CLOSE_WAIT_S, self.transport.abort)

    def hang_up(self, *last_words: str) -> None:
        """Close TCP without a close frame, after what is still to be sent: how the vendor answers a bad key."""
        if last_words:
            self.send(*last_words)
        self.end("closed without a close frame")
        self.transport.close()

    def abort(self) -> None:
        """Close TCP without a close frame and without what is still to be sent."""
        self.end("aborted")
        self.transport.abort()

    def reset(self) -> None:
        """Let the client see a TCP reset."""
        self.end("reset")
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def silence(self) -> None:
        if self.state is State.OPEN:
            self.leave_all()
            self.state = State.SILENT

    def speak(self, topics: Iterable[Topic]) -> None:
        """End a silence: of *topics*, receive those held from their next events on."""
        if self.state is State.SILENT:
            self.state = State.OPEN
            for topic in topics:
                if self.holds(topic):
                    self.join(topic)

    def freeze(self) -> None:
        """Become half-open: neither read nor write, answer no ping, but keep the TCP connection."""
        if self.state in {State.OPEN, State.SILENT}:
            self.leave_all()
            self.state = State.HALF_OPEN
            self.transport.pause_reading()

    def end(self, how: str) -> None:
        """Send nothing from here on; the first *how* is the one that is reported."""
        self.leave_all()
        self.ending = self.ending or how
        if self.state is not State.CLOSED:
            self.state = State.CLOSING
