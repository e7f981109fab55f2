"""What single steps cost, in nanoseconds per event: ``python -m tests.bench.micro -o FILE`` (options are pyperf's).

pyperf and not pytest-benchmark: it measures in several processes, so that an unlucky memory layout is one of many.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pyperf

from mcm.core.acceptance import Acceptance
from mcm.core.events import tick_decoder
from mcm.core.massive import FrameDecoder
from mcm.core.record import encode_record
from mcm.core.sequence import Numbering
from mcm.core.wire import Batch, Group, Message, decode_batch, encode_batch, encode_ticks
from mcm.journal import Writer, recover
from tests.bench.micro_steps import STEPS
from tests.bench.tape import Shape, render

__all__ = ["main"]

EVENTS = 64  # per frame and batch: about what one wake-up brings at 50,000 ticks/s and more
HEADER_BYTES = 4


def _batch(payload: bytes) -> Batch:
    ticks = FrameDecoder("stocks").decode(payload).ticks
    groups = [Group(f"stocks.{tick.event_type}.{tick.symbol}".encode(), 1, encode_ticks([tick])) for tick in ticks]
    return Batch("line0", 1, 1, 1, 1, groups)


class _Steps:
    """Each method does a step for EVENTS events."""

    def __init__(self, folder: Path) -> None:
        (frame,) = render(Shape(events_per_frame=EVENTS, symbols=1_000, shares=1), EVENTS)
        self._payload = frame[HEADER_BYTES:]
        self._decode = FrameDecoder("stocks").decode
        self._ticks = self._decode(self._payload).ticks
        self._batch = _batch(self._payload)
        self._frame = encode_batch(self._batch)
        self._acceptance = Acceptance(Numbering(1))
        self._covered = Acceptance(Numbering(1))
        topics = [group.topic for group in self._batch.groups]
        self._covered.arbiter.cover(topics, ["line0", "line1"], 0, ["line0", "line1"])
        self._sequence = 0
        first_offset, record = Acceptance(Numbering(1)).accept(self._batch)
        self._record, self._number = encode_record(record), first_offset
        self._writer = Writer(recover(folder))
        self._messages = record.frames(first_offset)
        self._encoded = [message.encode(topic) for topic, message in self._messages]
        self._topics: dict[type, dict[str, bytes]] = {}
        for tick, topic in zip(self._ticks, topics, strict=True):
            self._topics.setdefault(type(tick), {})[tick.symbol] = topic

    def decode(self) -> None:
        self._decode(self._payload)

    def group(self) -> None:
        groups: dict[bytes, list[object]] = {}
        known = self._topics
        for tick in self._ticks:
            topic = known[tick.__class__][tick.symbol]
            try:
                groups[topic].append(tick)
            except KeyError:
                groups[topic] = [tick]

    def encode(self) -> None:
        for tick in self._ticks:
            encode_ticks([tick])

    def batch(self) -> None:
        encode_batch(self._batch)

    def route(self) -> None:
        self._accept(self._acceptance, "line0")

    def arbitrate(self) -> None:
        self._accept(self._covered, "line0")
        self._accept(self._covered, "line1")

    def _accept(self, acceptance: Acceptance, line: str) -> None:
        batch = decode_batch(self._frame)
        batch.connection = line
        batch.sequence = acceptance.taken.get(line, (1, 0))[1] + 1
        self._sequence += 1
        batch.monotonic_ns = self._sequence * 1_000_000
        acceptance.accept(batch)

    def journal(self) -> None:
        self._number += EVENTS
        self._writer.append(self._number, 1, self._record)
        if self._writer.size_bytes > 256 * 1024 * 1024:
            self._writer.trim(max_bytes=0)

    def publish(self) -> None:
        for topic, message in self._messages:
            message.encode(topic)

    def subscriber(self) -> None:
        decode = tick_decoder("stocks").decode
        for frame in self._encoded:
            decode(Message.decode(frame)[1].ticks)


def main() -> None:
    """Measure each step."""
    runner = pyperf.Runner()
    with tempfile.TemporaryDirectory(prefix="mcm-") as folder:
        steps = _Steps(Path(folder))
        for name in STEPS:
            step: Callable[[], None] = getattr(steps, name)
            runner.bench_func(name, step, inner_loops=EVENTS)


if __name__ == "__main__":
    main()
