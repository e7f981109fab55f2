"""What was sent, what was received, what was delivered: the three accounts that a fault must not part.

Sent: the simulator's tape and what it says it wrote to whom.  Received: the workers' link files, which the tests keep.
Delivered: what a Subscriber handed out.
"""

import json
import threading
from collections import defaultdict
from pathlib import Path

import msgspec

from mcm import Subscriber
from mcm.core.errors import NotRunning
from mcm.core.follow import Lost, Reset
from mcm.core.wire import decode_batch
from mcm.journal import Reader
from mcm.simulator.launch import Simulator
from tests.processes.stack import wait_until

__all__ = ["Collector", "keys_of", "received", "sent_to_lines"]

Key = tuple[object, ...]
_split = msgspec.msgpack.Decoder(list[dict[str, object]]).decode


def key_of(tick: dict[str, object]) -> Key:
    """What tells ticks of one topic apart on the simulator's tape: every trade and quote has its own ``q``."""
    return (tick.get("q"), tick.get("t", tick.get("s")))


def keys_of(texts: list[str]) -> list[Key]:
    """Of events as they stood on the wire."""
    return [key_of(json.loads(text)) for text in texts]


class Collector(threading.Thread):
    """A Subscriber in a thread; keeps the keys of every tick by topic, and every complaint."""

    def __init__(self, run_dir: Path, *topics: str, cursor: bytes | None = None) -> None:
        super().__init__(daemon=True)
        self.complaints: list[Lost | Reset] = []
        self.subscriber = Subscriber(topics, run_dir=run_dir, cursor=cursor, on_gap=self.complaints.append)
        self.delivered: dict[str, list[Key]] = defaultdict(list)
        self.cursor: bytes | None = None
        self.start()

    def run(self) -> None:
        try:
            for topic, encoded in self.subscriber.raw():
                self.delivered[topic.decode()] += [key_of(tick) for tick in _split(encoded)]
        except NotRunning:
            pass

    def count(self) -> int:
        return sum(map(len, self.delivered.values()))

    def end(self) -> None:
        """Stop behind the tick in hand, and know the cursor."""
        self.subscriber.stop()
        self.join(20)
        self.cursor = self.subscriber.cursor
        self.subscriber.close()


def received(run_dir: Path, *names: str) -> dict[str, list[Key]]:
    """What the link files of these connections hold, or of all: topic → keys, incarnation by incarnation."""
    found: dict[str, list[Key]] = defaultdict(list)
    for name in names or tuple(entry.name for entry in (run_dir / "link").iterdir()):
        for incarnation in sorted((run_dir / "link" / name).glob("*-*")):
            reader = Reader(incarnation)
            while records := reader.read(1 << 24):
                for _, _, payload in records:
                    for topic, _, ticks in decode_batch(payload).groups:
                        found[topic.decode()] += [key_of(tick) for tick in _split(ticks)]
            reader.close()
    return found


def sent_to_lines(simulator: Simulator, topic: str) -> list[list[Key]]:
    """What the simulator wrote of *topic*, range by range in the order of the tape, over all connections."""
    ranges = sorted(
        (first, last)
        for connection in simulator.remote.report().connections
        for first, last in connection.ranges.get(topic, ())
    )
    return [keys_of(simulator.remote.tape(topic, first, last)) for first, last in ranges]


def settle(simulator: Simulator, collector: Collector, *topics: str) -> None:
    """Stop the tape and wait until its last event of every topic has been delivered."""
    simulator.remote.pause()
    report = simulator.remote.report()
    last = {topic: keys_of(simulator.remote.tape(topic, report.topics[topic].count))[0] for topic in topics}
    wait_until(
        lambda: all(collector.delivered[topic][-1:] == [key] for topic, key in last.items()),
        because="the last event of every topic is delivered",
    )
