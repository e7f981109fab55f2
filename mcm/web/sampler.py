"""A sample of the tick stream: the newest ticks for the tape, their latencies, and when each topic ticked last.

It costs little by reading little: nothing while nobody looks; four times a second what has come, up to a budget, and
beyond that a part of it.  It is no Subscriber: what it misses, nobody misses.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import msgspec

from mcm import bus
from mcm.core.display import describe
from mcm.core.events import Tick, tick_decoder
from mcm.core.latency import Recent
from mcm.core.wire import Message

__all__ = ["Look", "Sampler", "TapeRow"]

SLICE_S = 0.25
PROBE_EVERY_S = 2.0
PROBE_LIMIT_S = 0.3
BUDGET = 750  # messages of a slice, at about 5 µs each
FRESH = 32  # of them are waited for, so that the time of their arrival is known
OF_LINE = 2  # of these are measured: lines bring many at once, and others are to have their turn
TAPE_ROWS = 10  # of a line and slice
TOPICS = 200_000


class Look(Enum):
    """How much is looked at."""

    NOTHING = 0
    LATENCY = 1
    ALL = 2


class TapeRow(msgspec.Struct, array_like=True, gc=False):
    """A tick for people.

    Attributes:
        at_ms: wall clock when its frame was read, milliseconds since the Unix epoch.
    """

    at_ms: float
    connection: str
    topic: str
    text: str


class _Read(NamedTuple):
    topic: bytes
    message: Message


class Sampler(threading.Thread):
    """Reads in a thread of its own; the event loop says how much, and takes what there is.

    Attributes:
        look: how much is to be read from here on.
        inside, vendor: connection → from a worker's reading to the arrival here; from the event's own time to that
            reading.
        is_partial: whether lately more came than was looked at.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__(name="dashboard:sampler", daemon=True)
        self._address = bus.endpoint(run_dir, bus.TICKS)
        self._context: bus.Context[bus.Socket[bytes]] = bus.Context()
        self._socket: bus.Socket[bytes] | None = None
        self._wake = threading.Event()
        self.look = Look.NOTHING
        self.inside: dict[str, Recent] = {}
        self.vendor: dict[str, Recent] = {}
        self.is_partial = False
        self._tape: dict[str, deque[_Read]] = {}
        self._seen: dict[bytes, int] = {}

    def want(self, look: Look) -> None:
        """Look at so much; from any thread."""
        if look is not self.look:
            self.look = look
            self._wake.set()

    def take_tape(self) -> list[TapeRow]:
        """The newest ticks since the last time, oldest first; at most ten of each line."""
        tape, self._tape = self._tape, {}
        rows: list[TapeRow] = []
        for name, found in list(tape.items()):  # a tick may still be on its way into it
            last = list(found)[-TAPE_ROWS:]
            for read in last:
                rows += _rows(name, read)
        rows.sort(key=lambda row: row.at_ms)
        return rows

    def last_ns(self, topics: Iterable[str]) -> list[int | None]:
        """When each of *topics* was last seen to tick, wall clock; None where it was not seen."""
        seen = self._seen
        return [seen.get(topic.encode()) for topic in topics]

    def run(self) -> None:
        """Look for as long as the process lives."""
        while True:
            self._wake.clear()
            began = time.monotonic()
            match self.look:
                case Look.NOTHING:
                    self._close()
                    self._seen = {}
                    self._wake.wait()
                    continue
                case Look.LATENCY:
                    self._probe(PROBE_LIMIT_S)
                    self._close()
                    self._wake.wait(PROBE_EVERY_S)
                case Look.ALL:
                    self._slice(began)
                    self._wake.wait(max(0.0, began + SLICE_S - time.monotonic()))

    def _slice(self, began: float) -> None:
        socket = self._opened()
        for _ in range(BUDGET):
            parts = bus.receive_nowait(socket)
            if parts is None:
                self.is_partial = False
                self._probe(began + 0.6 * SLICE_S - time.monotonic())
                return
            self._note(parts[0])
        self.is_partial = True
        self._close()  # what waits in it is stale; the next look begins with what comes then

    def _probe(self, within_s: float) -> None:
        """Wait for some messages, and note how long they took."""
        socket, deadline = self._opened(), time.monotonic() + within_s
        measured: Counter[str] = Counter()
        for _ in range(FRESH):
            if not socket.poll(max(0, int((deadline - time.monotonic()) * 1_000))):
                return
            parts = bus.receive_nowait(socket)
            now_ns = time.time_ns()
            if parts is not None and (read := self._note(parts[0])) is not None:
                name = read.message.connection
                measured[name] += 1
                if measured[name] <= OF_LINE and name != "backfill":  # which is late on purpose
                    self._measure(read, now_ns)

    def _note(self, frame: bytes) -> _Read | None:
        try:
            topic, message = Message.decode(frame)
        except msgspec.DecodeError:
            return None
        if topic.startswith(b"mcm."):
            return None
        read = _Read(topic, message)
        if len(self._seen) > TOPICS:
            self._seen = {}
        self._seen[topic] = message.received_ns
        if self.look is Look.ALL:
            try:
                self._tape[message.connection].append(read)
            except KeyError:
                self._tape[message.connection] = deque([read], maxlen=TAPE_ROWS)
        return read

    def _measure(self, read: _Read, now_ns: int) -> None:
        name, now = read.message.connection, time.monotonic()
        self.inside.setdefault(name, Recent()).add((now_ns - read.message.received_ns) / 1e9, now)
        stamp_ms = getattr(_ticks(read)[-1], "timestamp", None)
        if isinstance(stamp_ms, int | float) and stamp_ms > 0:
            self.vendor.setdefault(name, Recent()).add(read.message.received_ns / 1e9 - stamp_ms / 1e3, now)

    def _opened(self) -> "bus.Socket[bytes]":
        if self._socket is None:
            self._socket = bus.subscriber(self._context, self._address, [b""], high_water_mark=2 * BUDGET)
        return self._socket

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None


def _ticks(read: _Read) -> list[Tick]:
    ticks: list[Tick] = tick_decoder(read.topic.partition(b".")[0].decode()).decode(read.message.ticks)
    return ticks


def _rows(connection: str, read: _Read) -> Iterable[TapeRow]:
    topic, at_ms = read.topic.decode(), read.message.received_ns / 1e6
    return [TapeRow(at_ms, connection, topic, describe(tick)) for tick in _ticks(read)[-TAPE_ROWS:]]
