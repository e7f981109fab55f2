"""The load generator: speaks the vendor's hand-shake, then sends prebuilt frames, and knows nothing else.

It is told what to do in lines of JSON on its standard input, and answers each with one (class Load is the other side)::

    {"do": "subscribed"}                                        → how many items the connections have asked for
    {"do": "render", "ticks": 100000, "events_per_frame": 4, …} → prepares a tape (tape.py), takes seconds
    {"do": "flood", "times": 3}        → the tape so many times, as fast as TCP takes it; answers when all is written
    {"do": "pace", "ticks_per_s": 20000}   → the tape once, every frame at its time (open loop); answers at the end
"""

import asyncio
import json
import os
import sys
import time
from typing import Any

from tests.bench import tape
from tests.bench.handshake import Conversation
from tests.bench.schedule import Schedule

__all__ = ["main"]

CHUNK_BYTES = 128 * 1024
LONGEST_BLOCK_S = 0.001  # what the event loop may sleep at a time, so that pings are answered
_WILDCARDS = frozenset({"T.*", "Q.*"})


class _Line(asyncio.Protocol):
    """A client's connection."""

    def __init__(self, feed: "Feed") -> None:
        self._feed, self.conversation = feed, Conversation()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(CHUNK_BYTES)
        self.transport = transport
        self._feed.lines.add(self)

    def data_received(self, data: bytes) -> None:
        answer = self.conversation.receive(data)
        assert self.transport is not None
        if answer:
            self.transport.write(answer)
        if self.conversation.is_over:
            self.transport.close()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._feed.lines.discard(self)
        self._may_write.set()

    def shares(self, shape: tape.Shape) -> set[int]:
        """Of which shares it holds an item."""
        items = self.conversation.items
        if items & _WILDCARDS:
            return set(range(shape.shares))
        wanted = {item.partition(".")[2] for item in items}
        return {share for share in range(shape.shares) if wanted.intersection(tape.symbols_of(shape, share))}

    async def flood(self, chunks: list[bytes], times: int) -> None:
        assert self.transport is not None
        for _ in range(times):
            for chunk in chunks:
                await self._may_write.wait()
                if self.transport.is_closing():
                    return
                self.transport.write(chunk)


class Feed:
    """All connections, and the tape."""

    def __init__(self) -> None:
        self.lines: set[_Line] = set()
        self._shape = tape.Shape()
        self._frames: list[bytes] = []
        self._ticks = 0

    def subscribed(self) -> dict[str, Any]:
        return {"items": sum(len(line.conversation.items) for line in self.lines), "connections": len(self.lines)}

    def render(self, ticks: int, **shape: Any) -> dict[str, Any]:
        self._shape, self._ticks = tape.Shape(**shape), ticks
        self._frames = list(tape.render(self._shape, ticks))
        return {"frames": len(self._frames), "bytes": sum(map(len, self._frames))}

    async def flood(self, times: int) -> dict[str, Any]:
        parts = [(line, self._chunks(line.shares(self._shape))) for line in self.lines]
        begun_ns = time.monotonic_ns()
        async with asyncio.TaskGroup() as tasks:
            for line, chunks in parts:
                tasks.create_task(line.flood(chunks, times))
        return self._result(begun_ns, times)

    def _chunks(self, shares: set[int]) -> list[bytes]:
        """The frames of some shares, in pieces that are worth a system call."""
        chunks, part, size = [], [], 0
        for number, frame in enumerate(self._frames):
            if number % self._shape.shares in shares:
                part.append(frame)
                size += len(frame)
                if size >= CHUNK_BYTES:
                    chunks.append(b"".join(part))
                    part, size = [], 0
        return [*chunks, b"".join(part)]

    async def pace(self, ticks_per_s: float, begin_ns: int = 0) -> dict[str, Any]:
        """Every frame when it is due, or as soon as possible after that: what was late stays late on the schedule."""
        receivers = [
            [line.transport for line in self.lines if line.transport and share in line.shares(self._shape)]
            for share in range(self._shape.shares)
        ]
        begun_ns = max(begin_ns, time.monotonic_ns() + 10_000_000)
        due_ns = Schedule(begun_ns, ticks_per_s, self._shape.events_per_frame).due_ns
        shares, breathed_ns = self._shape.shares, 0
        for number, frame in enumerate(self._frames):
            due = due_ns(number)
            while (now := time.monotonic_ns()) < due:
                await asyncio.sleep(0)
                # An event loop wakes up at whole milliseconds; this is exact, and nobody else needs this process.
                time.sleep(min(LONGEST_BLOCK_S, max(0.0, (due - time.monotonic_ns()) / 1e9)))  # noqa: ASYNC251
                breathed_ns = now
            if now - breathed_ns > LONGEST_BLOCK_S * 1e9:
                await asyncio.sleep(0)
                breathed_ns = now
            for receiver in receivers[number % shares]:
                if not receiver.is_closing():
                    receiver.write(frame)
        return self._result(begun_ns, 1)

    def _result(self, begun_ns: int, times: int) -> dict[str, Any]:
        return {"sent": self._ticks * times, "begun_ns": begun_ns, "ended_ns": time.monotonic_ns()}

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        match order.pop("do"):
            case "subscribed":
                return self.subscribed()
            case "render":
                return self.render(**order)
            case "flood":
                return await self.flood(**order)
            case "pace":
                return await self.pace(**order)
            case other:
                raise ValueError(f"no order {other!r}")


async def _serve() -> None:
    feed, loop = Feed(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Line(feed), "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1], "pid": os.getpid()}), flush=True)  # noqa: T201
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        print(json.dumps(await feed.obey(json.loads(line))), flush=True)  # noqa: T201
    server.close()


def main() -> None:
    """Serve until the standard input ends."""
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
